"""The process record: who did what when, in a numbered hash chain (KEP-RT-01, KEP-RT-04).

Entries are only ever added. An entry's digest is SHA-256 over the digest before it (32 octets) and the
canonical JSON of its plain fields: UTF-8, keys in order, no spaces, ``at`` in microseconds since 1970 UTC::

    {"action":"trust.imported","actor":"...","at":1772443815123456,"detail":"...","number":1,"subject":"..."}

Kept are names and ids, never content, identity numbers or secrets.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final

GENESIS: Final = sha256(b"kephs process record, genesis 1").digest()
"""The digest "before" entry 1."""

TEXT_MAX: Final = 4_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_ACTION: Final = re.compile(r"[a-z][a-z0-9_-]*(?:\.[a-z][a-z0-9_-]*)+\Z")


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that was done. ``action`` is a dotted name such as ``trust.imported``."""

    number: int  # from 1, without gaps
    at: datetime
    actor: str
    action: str
    subject: str
    detail: str
    previous: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class AuditBreak:
    """The first place where the record does not hold together."""

    number: int
    cause: str


def audit_digest(
    previous: bytes, *, number: int, at: datetime, actor: str, action: str, subject: str, detail: str
) -> bytes:
    """Return the digest of an entry.

    Raises:
        ValueError: a digest, number or text that no entry may have; a time without zone.
    """
    if len(previous) != len(GENESIS):
        raise ValueError("a digest of the process record has 32 octets")
    if not 1 <= number < 1 << 63:
        raise ValueError("numbers of the process record start at 1")
    if at.tzinfo is None:
        raise ValueError("times of the process record are UTC")
    plain = {
        "number": number, "at": (at - _EPOCH) // _MICROSECOND,
        "actor": actor, "action": action, "subject": subject, "detail": detail,
    }  # fmt: skip
    text = json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return sha256(previous + text.encode()).digest()


def next_entry(
    last: AuditEntry | None, *, at: datetime, actor: str, action: str, subject: str, detail: str
) -> AuditEntry:
    """Return the entry that follows ``last`` (None: the first).

    Raises:
        ValueError: nobody acted, the action is no dotted name, a text is too long or not Unicode.
    """
    if not actor.strip():
        raise ValueError("an entry of the process record names who acted")
    if _ACTION.match(action) is None:
        raise ValueError(f"{action!r} is no name of an action")
    if max(map(len, (actor, action, subject, detail))) > TEXT_MAX:
        raise ValueError(f"a text of the process record has at most {TEXT_MAX} characters")
    number, previous = (1, GENESIS) if last is None else (last.number + 1, last.digest)
    digest = audit_digest(
        previous, number=number, at=at, actor=actor, action=action, subject=subject, detail=detail
    )
    return AuditEntry(number, at, actor, action, subject, detail, previous, digest)


def link_problem(entry: AuditEntry, number: int, previous: bytes) -> str | None:
    """Return why an entry does not follow the one before; None where it does.

    Args:
        entry: the entry, as it is stored.
        number: what its number must be.
        previous: the digest of the entry before, `GENESIS` before the first.
    """
    if entry.number != number:
        return f"entry {number} is missing: {entry.number} follows"
    if entry.previous != previous:
        return "it does not name the entry before it"
    try:
        expected = audit_digest(
            previous, number=entry.number, at=entry.at, actor=entry.actor, action=entry.action,
            subject=entry.subject, detail=entry.detail,
        )  # fmt: skip
    except (ValueError, TypeError):
        expected = b""
    return None if entry.digest == expected else "it was altered: its digest does not fit"


def first_break(
    entries: Iterable[AuditEntry], *, number: int = 0, digest: bytes = GENESIS
) -> AuditBreak | None:
    """Return the first break of a run of entries, None where it holds.

    Args:
        entries: ascending.
        number: of the entry before the run; 0: none.
        digest: of the entry before the run.
    """
    for entry in entries:
        cause = link_problem(entry, number + 1, digest)
        if cause is not None:
            return AuditBreak(number + 1, cause)
        number, digest = entry.number, entry.digest
    return None
