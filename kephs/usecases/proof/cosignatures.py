"""Asking witnesses to cosign our newest checkpoint (C2SP tlog-witness), and keeping what they answer.

A witness that knows more of our log than we do, or another tree at the same size, says that our own store
was set back or rewritten: that raises the alarm and nothing else happens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol

from evidence.ledger.merkle import MissingNodeError, consistency_proof
from evidence.ledger.notes import Note, NoteError, NoteVerifier, add_cosignatures
from evidence.ledger.witness_rules import AddCheckpoint, WitnessStatus, read_known_size
from kephs.ports import Clock, Store, StoredCheckpoint, Tx
from kephs.usecases.proof.publish_ledger import stored_tiles

_AHEAD: Final = timedelta(minutes=5)  # how far a witness's clock may be ahead of ours
_FIRST_WAIT: Final = timedelta(seconds=5)
_LONGEST_WAIT: Final = timedelta(minutes=15)


class WitnessUnavailableError(Exception):
    """A witness gave no answer that could be used; the text says why."""


@dataclass(frozen=True, slots=True)
class WitnessAnswer:
    """What a witness answered."""

    status: int  # as HTTP
    body: bytes
    size_told: bool = False  # the body is the size it knows


class Witness(Protocol):
    """Somebody who cosigns checkpoints."""

    @property
    def verifier(self) -> NoteVerifier:
        """Return its key."""
        ...

    async def add_checkpoint(self, request: bytes) -> WitnessAnswer:
        """Ask for a cosignature.

        Raises:
            WitnessUnavailableError: no answer.
        """
        ...


@dataclass(slots=True)
class _State:
    """What is known of a witness: how much of our log it knows, and when to ask again."""

    known: int = 0
    failures: int = 0
    not_before: datetime | None = None
    trouble: str = field(default="", compare=False)


class GatherCosignatures:
    """Brings every witness's cosignature under the newest checkpoint.

    Args:
        store: the rows.
        witnesses: each with a key name of its own.
        clock: the time.
        alarm: told that a witness knows another history of our log.
        warn: told that a witness did not cosign, once for each new reason.
    """

    def __init__(
        self, store: Store, witnesses: Sequence[Witness], clock: Clock, *,
        alarm: Callable[[str], object], warn: Callable[[str], object],
    ) -> None:  # fmt: skip
        self._store, self._witnesses, self._clock = store, tuple(witnesses), clock
        self._alarm, self._warn = alarm, warn
        self._states = {one.verifier.vkey: _State() for one in self._witnesses}

    def due(self, tx: Tx) -> datetime | None:
        """Return when a witness is to be asked next; None where all have cosigned the newest checkpoint."""
        newest = tx.tree.checkpoint()
        if newest is None:
            return None
        lacking = [self._states[one.verifier.vkey].not_before for one in self._lacking(newest)]
        return min((at or newest.at for at in lacking), default=None)

    async def gather(self) -> int:
        """Ask each witness that lacks and is due, one after the other; return how many cosigned.

        Raises:
            StoreUnavailableError: what was gathered so far is stored.
        """
        newest = await self._store.read(lambda tx: tx.tree.checkpoint())
        if newest is None:
            return 0
        now = self._clock.now()
        done = 0
        for witness in self._lacking(newest):
            state = self._states[witness.verifier.vkey]
            if state.not_before is None or state.not_before <= now:
                done += await self._ask(witness, state, newest)
        return done

    def _lacking(self, newest: StoredCheckpoint) -> list[Witness]:
        try:
            signatures = Note.parse(newest.note.encode()).signatures
        except (NoteError, ValueError):
            return []  # a row that was tampered with is fsck's to tell
        there = {(one.name, one.key_id) for one in signatures}
        return [w for w in self._witnesses if (w.verifier.name, w.verifier.key_id) not in there]

    async def _ask(self, witness: Witness, state: _State, newest: StoredCheckpoint) -> bool:
        try:
            answer = await self._request(witness, state.known, newest)
            if answer.status == WitnessStatus.CONFLICT and answer.size_told:
                state.known = self._told_size(witness, answer, newest)
                answer = await self._request(witness, state.known, newest)
            await self._take(witness, answer, newest)
        except (WitnessUnavailableError, NoteError, MissingNodeError) as error:
            self._failed(witness, state, str(error))
            return False
        state.known, state.failures, state.not_before, state.trouble = newest.size, 0, None, ""
        return True

    async def _request(self, witness: Witness, known: int, newest: StoredCheckpoint) -> WitnessAnswer:
        def proof(tx: Tx) -> list[bytes]:
            return consistency_proof(known, newest.size, stored_tiles(tx, newest.size))

        hashes = await self._store.read(proof)
        request = AddCheckpoint(known, tuple(hashes), newest.note.encode())
        return await witness.add_checkpoint(request.encode())

    def _told_size(self, witness: Witness, answer: WitnessAnswer, newest: StoredCheckpoint) -> int:
        known = read_known_size(answer.body)
        if known > newest.size:
            name = witness.verifier.name
            self._alarm(f"{name} cosigned {known} entries of our log, we know of {newest.size}")
            raise WitnessUnavailableError(f"it knows {known} entries, we have {newest.size}")
        return known

    async def _take(self, witness: Witness, answer: WitnessAnswer, newest: StoredCheckpoint) -> None:
        """Verify what a witness answered and keep its cosignature.

        Raises:
            WitnessUnavailableError: it refused.
            NoteError: it is no cosignature of that witness.
        """
        if answer.status != WitnessStatus.COSIGNED:
            contradicted = answer.status == WitnessStatus.CONFLICT and not answer.size_told
            if contradicted or answer.status == WitnessStatus.INCONSISTENT:
                self._alarm(f"{witness.verifier.name} knows another history of our log than we do")
            raise WitnessUnavailableError(f"it answered {answer.status}")
        latest = self._clock.now() + _AHEAD
        add = partial(add_cosignatures, answer=answer.body, witnesses=[witness.verifier], latest=latest)
        add(newest.note.encode())  # verified before anything is written

        def keep(tx: Tx) -> None:
            row = tx.tree.checkpoint(newest.size)  # others may have added theirs meanwhile
            if row is not None and row.root == newest.root:
                tx.tree.set_note(row.size, add(row.note.encode()).decode())

        await self._store.write(keep)

    def _failed(self, witness: Witness, state: _State, why: str) -> None:
        wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(state.failures, 10))
        state.failures += 1
        state.not_before = self._clock.now() + wait
        if why != state.trouble:
            self._warn(f"{witness.verifier.name}: {why}")
        state.trouble = why
