"""Witnessing over HTTP (C2SP tlog-witness): asking others to cosign our checkpoints, and cosigning theirs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Final

import aiohttp

from evidence.ledger.notes import Checkpoint, Note, NoteError, NoteSigner, NoteVerifier, cosign
from evidence.ledger.witness_rules import SIZE_TYPE, TEXT_TYPE, AddCheckpoint, Judgement, WitnessStatus, judge
from kephs.ports import Clock, Store, StoredCheckpoint, Tx
from kephs.usecases.proof.cosignatures import WitnessAnswer, WitnessUnavailableError

PATH: Final = "/add-checkpoint"
_ANSWER_MAX: Final = 64 * 1024


class HttpWitness:
    """`kephs.usecases.proof.cosignatures.Witness` that is asked over HTTP.

    Args:
        session: of the process.
        url: the submission prefix.
        verifier: the witness's key.
        seconds: the longest wait for an answer.
    """

    def __init__(
        self, session: aiohttp.ClientSession, url: str, verifier: NoteVerifier, *, seconds: float = 10.0
    ) -> None:
        self._session, self._url = session, url.rstrip("/") + PATH
        self._verifier = verifier
        self._timeout = aiohttp.ClientTimeout(total=seconds)

    @property
    def verifier(self) -> NoteVerifier:
        """Return its key."""
        return self._verifier

    async def add_checkpoint(self, request: bytes) -> WitnessAnswer:
        """Ask for a cosignature; redirections are not followed.

        Raises:
            WitnessUnavailableError: no answer, or one that is too long.
        """
        headers = {"Content-Type": TEXT_TYPE}
        try:
            async with self._session.post(
                self._url, data=request, headers=headers, timeout=self._timeout, allow_redirects=False
            ) as response:
                body = b""
                async for piece in response.content.iter_chunked(8192):
                    body += piece
                    if len(body) > _ANSWER_MAX:
                        raise WitnessUnavailableError("its answer is too long")
                told = response.headers.get("Content-Type", "").partition(";")[0].strip() == SIZE_TYPE
                return WitnessAnswer(response.status, body, told)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:  # ValueError: no URL
            raise WitnessUnavailableError(f"no answer: {type(error).__name__}") from error


@dataclass(frozen=True, slots=True)
class Cosigned:
    """What our witness answers: an HTTP status, a content type, a body."""

    status: int
    content_type: str
    body: bytes


class OwnWitness:
    """Cosigns what continues what it knows of each log it was told of; the record is durable first.

    Args:
        store: keeps the newest cosigned checkpoint of each log.
        logs: the logs' keys; each bears its origin as its name.
        signer: the witness's key, which signs nothing else.
        clock: the time.
        refused: told (origin, reason, note) what a known log signed that does not continue what it signed.
    """

    def __init__(
        self, store: Store, logs: Mapping[str, NoteVerifier], signer: NoteSigner, clock: Clock, *,
        refused: Callable[[str, str, str], object],
    ) -> None:  # fmt: skip
        self._store, self._logs, self._signer = store, dict(logs), signer
        self._clock, self._refused = clock, refused

    @property
    def verifier(self) -> NoteVerifier:
        """Return the witness's public key."""
        return self._signer.verifier

    async def add_checkpoint(self, body: bytes) -> Cosigned:
        """Answer a request.

        Raises:
            StoreUnavailableError: nothing was cosigned.
        """
        try:
            request = AddCheckpoint.parse(body)
            log = self._logs.get(request.origin)
        except NoteError as error:
            return Cosigned(WitnessStatus.MALFORMED, TEXT_TYPE, f"{error}\n".encode())
        now = self._clock.now()
        found = judge(None, request, None)
        if log is not None:
            found = await self._store.read(lambda tx: _judged(tx, request, log))
            if found.accepted:  # anybody may send anything: only what passes costs a write
                found = await self._store.write(lambda tx: _remembered(tx, request, log, now))
        if not found.accepted:
            self._tell(request, found)
            return Cosigned(found.status, found.content_type, found.answer())
        return Cosigned(HTTPStatus.OK, TEXT_TYPE, found.answer(cosign(request.note, self._signer, now)))

    def _tell(self, request: AddCheckpoint, found: Judgement) -> None:
        """Raise the alarm where the log itself signed two histories; a wrong old size is nobody's fault."""
        split = found.status is WitnessStatus.CONFLICT and found.known_size is None
        if split or found.status is WitnessStatus.INCONSISTENT:
            self._refused(request.origin, found.reason, request.note.decode())


def _judged(tx: Tx, request: AddCheckpoint, log: NoteVerifier) -> Judgement:
    stored = tx.tree.witnessed(log.name)
    known = None if stored is None else Checkpoint.parse(Note.parse(stored.note.encode()).text)
    return judge(known, request, log)


def _remembered(tx: Tx, request: AddCheckpoint, log: NoteVerifier, at: datetime) -> Judgement:
    """Judge and note in one transaction, so that no other request comes between."""
    found = _judged(tx, request, log)
    new, stored = found.checkpoint, tx.tree.witnessed(log.name)
    if new is not None and (stored is None or stored.size < new.size):
        tx.tree.set_witnessed(log.name, StoredCheckpoint(new.size, new.root, request.note.decode(), at))
    return found
