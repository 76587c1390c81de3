"""What somebody outside finds out about a process record that was handed over (`kephs audit export`).

The record is lines of JSON, one entry each, in the form that `kephs.domain.audit` digests. `check_record`:

1. record: every line has the form, numbers run from 1
2. checkpoint: the ledger's key signed it
3. anchors: each statement is in the ledger, under that checkpoint
4. record and anchors: every anchored entry is there and is the one that was anchored
5. times: no entry claims a time from before an anchor it stands behind, or from after one it stands before
6. older checkpoint: anchors that it has not yet do not claim to be older than it is
7. rest: entries behind the last anchor are held by the chain alone

What contradicts itself is TOTAL-FAILED; what cannot be had is INDETERMINATE. That the checkpoint is of the
ledger that everybody else sees is a check of its own: `kephs ledger audit`.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from evidence.ledger.audit import audit_entry
from evidence.ledger.notes import Checkpoint, NoteError, NoteVerifier, UnsignedNoteError, open_note
from evidence.ledger.proof import LedgerProof
from evidence.report import Report, Step, SubIndication, Verdict, conclude
from kephs.domain.audit import GENESIS, TEXT_MAX, AuditEntry, audit_digest
from kephs.domain.audit_anchor import (
    TOLERANCE,
    Anchored,
    BreakKind,
    RecordBreak,
    RecordCheck,
    Statement,
    StatementError,
)

LINE_MAX: Final = 4 * 6 * TEXT_MAX + 200
"""Octets of the longest line: every character of every text escaped."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_FIELDS: Final = {"number": int, "at": int, "actor": str, "action": str, "subject": str, "detail": str}
_SHOWN: Final = 5  # problems named in one step


class RecordFormError(ValueError):
    """A line is no entry of a process record."""


@dataclass(frozen=True, slots=True)
class ShownAnchor:
    """An anchor as it is handed over: the statement's bytes and the ledger's proof of it."""

    statement: bytes
    proof: bytes


@dataclass(frozen=True, slots=True)
class Held:
    """An older checkpoint that the reader kept, and when they got it, where they know."""

    note: bytes
    got: datetime | None = None


def record_line(entry: AuditEntry) -> bytes:
    """Return an entry as one line, with its newline: the very JSON that its digest covers."""
    plain = {
        "number": entry.number, "at": (entry.at - _EPOCH) // _MICROSECOND, "actor": entry.actor,
        "action": entry.action, "subject": entry.subject, "detail": entry.detail,
    }  # fmt: skip
    return json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def read_record(lines: Iterable[bytes]) -> Iterator[AuditEntry]:
    """Yield the entries of a record; digests are computed, each over the one before.

    Raises:
        RecordFormError: a line is none; what came before it was yielded.
    """
    digest = GENESIS
    for number, line in enumerate(lines, 1):
        try:
            entry = _entry(line, digest)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise RecordFormError(f"line {number}: {error}") from None
        digest = entry.digest
        yield entry


def _entry(line: bytes, previous: bytes) -> AuditEntry:
    if len(line) > LINE_MAX:
        raise ValueError("longer than an entry can be")
    plain: Any = json.loads(line)
    if not isinstance(plain, dict) or set(plain) != set(_FIELDS):
        raise ValueError("not the fields of an entry")
    if any(type(plain[name]) is not kind for name, kind in _FIELDS.items()):
        raise ValueError("a field of another type")
    at = _EPOCH + timedelta(microseconds=plain.pop("at"))
    entry = AuditEntry(**plain, at=at, previous=previous, digest=audit_digest(previous, at=at, **plain))
    if record_line(entry) != line:
        raise ValueError("not the form that is digested")
    return entry


def check_record(
    lines: Iterable[bytes], anchors: Sequence[ShownAnchor], checkpoint: bytes, log: NoteVerifier,
    at: datetime, *, held: Held | None = None,
) -> Report:  # fmt: skip
    """Check a record against the ledger; the steps stand in the module's docstring.

    Args:
        lines: of the record, each with its newline.
        anchors: in any order.
        checkpoint: the note that the proofs are made under.
        log: the ledger's key, from elsewhere than the record.
        at: time of the check, UTC.
        held: an older checkpoint of the reader's.
    """
    signed, opened = _checkpoint("2", "checkpoint", checkpoint, log)
    known, proven = _anchors(anchors, checkpoint, log, at)
    follow = RecordCheck(known)
    breaks: list[RecordBreak] = []
    count, form = 0, Step("1", "record", ok=True)
    try:
        for entry in read_record(lines):
            breaks += follow.take(entry)[: _SHOWN + 1]
            breaks = breaks[: 20 * _SHOWN]  # one is enough to fail; memory stays small
            count = entry.number
        form = Step("1", "record", ok=True, detail=f"{count} entries")
    except RecordFormError as error:
        form = _failed("1", "record", str(error), SubIndication.FORMAT_FAILURE)
    breaks += follow.finish()
    if form.ok and any(one.kind is BreakKind.CHAIN for one in breaks):
        form = _told("1", "record", breaks, BreakKind.CHAIN)
    steps = (
        form,
        signed,
        proven,
        _told("4", "record and anchors", breaks, BreakKind.ANCHOR),
        _told("5", "times", breaks, BreakKind.TIME),
        _order(known, held, log),
        _rest(follow, known, count),
    )
    facts: dict[str, object] = {"entries": count, "anchors": len(known), "head": follow.digest.hex()}
    if opened is not None:
        facts |= {"origin": opened.origin, "ledger_size": opened.size}
    return conclude("process record", steps, at, facts=facts)


def _checkpoint(number: str, name: str, note: bytes, log: NoteVerifier) -> tuple[Step, Checkpoint | None]:
    try:
        found = open_note(note, (log,)).checkpoint
    except UnsignedNoteError as error:
        missing = SubIndication.NO_SIGNING_CERTIFICATE_FOUND
        return _failed(number, name, str(error), missing, Verdict.INDETERMINATE), None
    except (NoteError, ValueError) as error:
        return _failed(number, name, str(error), SubIndication.SIG_CRYPTO_FAILURE), None
    return Step(number, name, ok=True, detail=f"{found.size} entries of the ledger"), found


def _anchors(
    anchors: Sequence[ShownAnchor], checkpoint: bytes, log: NoteVerifier, at: datetime
) -> tuple[list[Anchored], Step]:
    """Return the anchors that the ledger proves; the step fails where it does not prove all."""
    known: dict[int, Anchored] = {}
    problems = []
    for shown in anchors:
        try:
            said = Statement.read(shown.statement)
        except StatementError as error:
            problems.append(str(error))
            continue
        report = audit_entry(shown.proof, shown.statement, log, at, held=checkpoint)
        if not report.passed or LedgerProof.read(shown.proof).note != checkpoint:
            step = report.failing_step
            problems.append(f"anchor {said.number}: {step.detail if step else 'under another checkpoint'}")
            continue
        entered = LedgerProof.read(shown.proof).number
        one = Anchored(said.number, said.sha256, said.at, entered)
        if known.setdefault(said.number, one) != one:
            problems.append(f"anchor {said.number}: two statements about one entry")
    if problems:
        return list(known.values()), _failed("3", "anchors", "; ".join(problems[:_SHOWN]))
    if not known:
        return [], Step("3", "anchors", ok=None, detail="none: the chain alone holds the record")
    return list(known.values()), Step("3", "anchors", ok=True, detail=f"{len(known)} in the ledger")


def _told(number: str, name: str, breaks: Sequence[RecordBreak], kind: BreakKind) -> Step:
    found = [f"entry {one.number}: {one.cause}" for one in breaks if one.kind is kind]
    if not found:
        return Step(number, name, ok=True)
    sub = SubIndication.TIMESTAMP_ORDER_FAILURE if kind is BreakKind.TIME else SubIndication.HASH_FAILURE
    return _failed(number, name, "; ".join(found[:_SHOWN]), sub)


def _order(known: Sequence[Anchored], held: Held | None, log: NoteVerifier) -> Step:
    """Compare the anchors' own times with what the reader knows of an older checkpoint."""
    name = "older checkpoint"
    if held is None:
        return Step("6", name, ok=None, detail="none given")
    step, old = _checkpoint("6", name, held.note, log)
    if old is None:
        return step
    if held.got is None:
        return Step("6", name, ok=None, detail="nobody says when it was got")
    for one in known:
        if one.ledger_number > old.size and one.at < held.got - TOLERANCE:
            detail = f"anchor {one.number} claims a time from before the checkpoint that it is not in"
            return _failed("6", name, detail, SubIndication.TIMESTAMP_ORDER_FAILURE)
        if one.ledger_number <= old.size and one.at > held.got + TOLERANCE:
            detail = f"anchor {one.number} claims a time from after the checkpoint that it is in"
            return _failed("6", name, detail, SubIndication.TIMESTAMP_ORDER_FAILURE)
    return Step("6", name, ok=True, detail=f"{old.size} entries of the ledger")


def _rest(follow: RecordCheck, known: Sequence[Anchored], count: int) -> Step:
    last = max((one.number for one in known), default=0)
    if count <= last:
        return Step("7", "rest", ok=True, detail="all is anchored")
    since = follow.first_open.at if follow.first_open is not None else None
    when = f" since {since:%Y-%m-%dT%H:%M:%SZ}" if since is not None else ""
    return Step("7", "rest", ok=None, detail=f"{count - last} entries behind the last anchor{when}")


def _failed(
    number: str, name: str, detail: str, sub: SubIndication = SubIndication.HASH_FAILURE,
    verdict: Verdict = Verdict.FAILED,
) -> Step:  # fmt: skip
    return Step(number, name, ok=False, detail=detail, sub_indication=sub, verdict=verdict)
