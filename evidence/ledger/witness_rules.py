"""What a witness checks before it cosigns another log's checkpoint, and how it is asked (C2SP tlog-witness).

A witness remembers of each log the newest checkpoint it cosigned and cosigns only what continues it. So
two people who both trust the witness cannot be shown two different histories. `judge` is the whole rule;
whoever calls it must hold the log's record locked from before `judge` until the new checkpoint is durable,
and only then answer: otherwise two requests at once can roll the record back.
"""

import re
from base64 import b64encode
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from evidence.ledger.merkle import MAX_PROOF, empty_root, verify_consistency
from evidence.ledger.notes import (
    MAX_NOTE,
    Checkpoint,
    Note,
    NoteError,
    NoteSignature,
    NoteSignatureError,
    NoteVerifier,
    open_note,
    read_hash,
    read_size,
)

MAX_REQUEST: Final = MAX_NOTE + 64 + 45 * MAX_PROOF
"""Octets of the longest request body that is read."""
SIZE_TYPE: Final = "text/x.tlog.size"
"""Content type of the answer that tells the size a witness knows."""
TEXT_TYPE: Final = "text/plain; charset=utf-8"
_OLD: Final = re.compile(r"old (\S+)")


class WitnessStatus(IntEnum):
    """The answers, as HTTP statuses."""

    COSIGNED = 200
    MALFORMED = 400
    NOT_THE_LOG = 403
    UNKNOWN_LOG = 404
    CONFLICT = 409
    INCONSISTENT = 422


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """The request: please cosign this, it continues what you knew at ``old_size``."""

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes

    @property
    def origin(self) -> str:
        """Return which log it claims to be of, not verified: to look up its key.

        Raises:
            NoteError: not a checkpoint.
        """
        return Checkpoint.parse(Note.parse(self.note).text).origin

    def encode(self) -> bytes:
        """Return the request's body.

        Raises:
            ValueError: more than 63 hashes of proof.
        """
        if len(self.proof) > MAX_PROOF:
            raise ValueError("a consistency proof has at most 63 hashes")
        lines = (b"old %d" % self.old_size, *(b64encode(one) for one in self.proof), b"")
        return b"".join(line + b"\n" for line in lines) + self.note

    @classmethod
    def parse(cls, body: bytes) -> "AddCheckpoint":
        """Read a request's body; the note in it is read by whoever opens it.

        Raises:
            NoteError: not a request, or one that is longer than `MAX_REQUEST`.
        """
        if len(body) > MAX_REQUEST:
            raise NoteError("too long for a request")
        head, gap, note = body.partition(b"\n\n")
        lines = head.split(b"\n")
        if not gap or len(lines) > 1 + MAX_PROOF or not head.isascii():
            raise NoteError("a request has an old size, at most 63 hashes, an empty line and a note")
        old = _OLD.fullmatch(lines[0].decode())
        if old is None:
            raise NoteError("a request begins with the old size")
        return cls(read_size(old[1]), tuple(read_hash(line.decode()) for line in lines[1:]), note)


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether a witness may cosign, and what it answers if not."""

    status: WitnessStatus
    reason: str  # for the log file and, where it is no size, for the answer
    checkpoint: Checkpoint | None = None  # what to remember and cosign; None: nothing
    known_size: int | None = None  # the size to tell

    @property
    def accepted(self) -> bool:
        """Say whether the checkpoint may be cosigned, once it is durably remembered."""
        return self.status is WitnessStatus.COSIGNED

    @property
    def content_type(self) -> str:
        """Return the content type of the answer."""
        return TEXT_TYPE if self.known_size is None else SIZE_TYPE

    def answer(self, *cosignatures: NoteSignature) -> bytes:
        """Return the answer's body: the cosignatures, or the known size, or the reason."""
        if self.accepted:
            return b"".join(one.line for one in cosignatures)
        return (self.reason if self.known_size is None else str(self.known_size)).encode() + b"\n"


def judge(known: Checkpoint | None, request: AddCheckpoint, log: NoteVerifier | None) -> Judgement:
    """Decide about a request.

    1. the log is known (404)
    2. the note is a checkpoint (400) that the log signed (403)
    3. the old size is not above the new one (400)
    4. the old size is that of the newest checkpoint cosigned so far, 0 for none (409 and that size)
    5. at the same size the root is the same (409): two roots at one size are two histories
    6. the consistency proof holds (422)

    Args:
        known: the newest checkpoint of this log that was cosigned.
        request: what was asked.
        log: the key of the log that the request names; None: no log of ours.

    Raises:
        ValueError: the known checkpoint is of another log.
    """
    if log is None:
        return Judgement(WitnessStatus.UNKNOWN_LOG, "this witness does not know that log")
    try:
        new = open_note(request.note, (log,)).checkpoint
    except NoteSignatureError:
        return Judgement(WitnessStatus.NOT_THE_LOG, "the log's key did not sign this")
    except NoteError:
        return Judgement(WitnessStatus.MALFORMED, "not a checkpoint")
    if known is not None and known.origin != new.origin:
        raise ValueError("the known checkpoint is of another log")
    return _judge(known, new, request)


def _judge(known: Checkpoint | None, new: Checkpoint, request: AddCheckpoint) -> Judgement:
    """Decide about a checkpoint that the log did sign: from step 3."""
    known_size, known_root = (0, empty_root()) if known is None else (known.size, known.root)
    if request.old_size > new.size:
        return Judgement(WitnessStatus.MALFORMED, "the old size is above the new one")
    if request.old_size != known_size:
        return Judgement(WitnessStatus.CONFLICT, "another size is known", known_size=known_size)
    if new.size == known_size and new.root != known_root:
        return Judgement(WitnessStatus.CONFLICT, "another root is known at this size")
    if not verify_consistency(known_size, known_root, new.size, new.root, request.proof):
        return Judgement(WitnessStatus.INCONSISTENT, "it does not continue what is known")
    return Judgement(WitnessStatus.COSIGNED, "it continues what is known", new)


def read_known_size(body: bytes) -> int:
    """Read the size that a witness told (`SIZE_TYPE`).

    Raises:
        NoteError: not a size.
    """
    if len(body) > 20 or not body.endswith(b"\n") or not body.isascii():
        raise NoteError("not the size of a tree")
    return read_size(body[:-1].decode())
