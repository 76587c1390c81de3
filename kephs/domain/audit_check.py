"""What somebody outside finds out about a process record that was handed over (`kephs audit export`).

The record is lines of JSON, one entry each, in the form that `kephs.domain.audit` digests. `check_record`:

1. record: every line has the form, numbers run from 1
2. checkpoint: the ledger's key signed it
3. anchors: each statement is in the ledger, under that checkpoint
4. record and anchors: every anchored entry is there and is the one that was anchored
5. times: no entry claims a time from before an anchor it stands behind, or from after one it stands before
6. older checkpoint: anchors that it has not yet do not claim to be older than it is
7. end: the record ends with the entry of its own export (`RECORD_EXPORTED`), and that entry is anchored; an
   entry that the reader noted earlier is still there; it does not end before the reader asked for it

Step 7 is what finds a tail that was cut off: entries behind the last anchor are held by the chain alone, and
a record that ends anywhere else than with its export may have gone on. One cut back to an older export ends
with that one: whoever says when they asked (`Expected`) finds it.

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

RECORD_EXPORTED: Final = "record.exported"
"""The action that ends what is handed over: it is noted and anchored before the first line is written."""
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
    """An anchor as it is handed over: the statement's bytes and the ledger's proof of it.

    An empty statement: the provider has the anchor, and no entry that it would be about.
    """

    statement: bytes
    proof: bytes


@dataclass(frozen=True, slots=True)
class Held:
    """An older checkpoint that the reader kept, and when they got it, where they know."""

    note: bytes
    got: datetime | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """What the reader knows of the record's end from elsewhere."""

    head: tuple[int, bytes] | None = None
    """An entry noted earlier: its number and its digest."""
    asked: datetime | None = None
    """When they asked for the record."""


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
    at: datetime, *, held: Held | None = None, expected: Expected | None = None,
) -> Report:  # fmt: skip
    """Check a record against the ledger; the steps stand in the module's docstring.

    Args:
        lines: of the record, each with its newline.
        anchors: in any order.
        checkpoint: the note that the proofs are made under.
        log: the ledger's key, from elsewhere than the record.
        at: time of the check, UTC.
        held: an older checkpoint of the reader's.
        expected: what the reader knows of the end.
    """
    signed, opened = _checkpoint("2", "checkpoint", checkpoint, log)
    known, proven = _anchors(anchors, checkpoint, log, at)
    follow = RecordCheck(known)
    breaks: list[RecordBreak] = []
    end, form = _End(expected or Expected()), Step("1", "record", ok=True)
    try:
        for entry in read_record(lines):
            breaks += follow.take(entry)[: _SHOWN + 1]
            breaks = breaks[: 20 * _SHOWN]  # one is enough to fail; memory stays small
            end.take(entry)
        form = Step("1", "record", ok=True, detail=f"{end.count} entries")
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
        end.step(known),
    )
    head = f"{end.count}:{follow.digest.hex()}" if end.count else ""
    facts: dict[str, object] = {"entries": end.count, "anchors": len(known), "head": head}
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
        if not shown.statement:
            problems.append("the ledger has an anchor whose entry is gone")
            continue
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


class _End:
    """Follows a record to its end."""

    def __init__(self, expected: Expected) -> None:
        self._expected = expected
        self._last: AuditEntry | None = None
        self._met: bytes | None = None  # the digest under the number that the reader noted

    @property
    def count(self) -> int:
        """Return the number of the last entry."""
        return 0 if self._last is None else self._last.number

    def take(self, entry: AuditEntry) -> None:
        """Follow one entry."""
        self._last = entry
        if self._expected.head is not None and self._expected.head[0] == entry.number:
            self._met = entry.digest

    def step(self, known: Sequence[Anchored]) -> Step:
        """Return step 7.

        Args:
            known: the anchors that the ledger proves.
        """
        name, head, asked = "end", self._expected.head, self._expected.asked
        if head is not None and self._met is None:
            return _failed("7", name, f"entry {head[0]} was noted, and the record ends with {self.count}")
        if head is not None and self._met != head[1]:
            return _failed("7", name, f"entry {head[0]} is not the one that was noted")
        newest = max(known, key=lambda one: one.number, default=None)
        anchored = 0 if newest is None else newest.number
        if newest is None or self.count != anchored or self._last is None or (
            self._last.action != RECORD_EXPORTED
        ):  # fmt: skip
            detail = (
                f"it ends with entry {self.count}, not with the anchored entry of its export: more may have "
                f"followed; {max(0, self.count - anchored)} entries stand behind the last anchor"
            )
            missing = SubIndication.SIGNED_DATA_NOT_FOUND
            return _failed("7", name, detail, missing, Verdict.INDETERMINATE)
        until = f"{newest.at:%Y-%m-%dT%H:%M:%SZ}"
        if asked is not None and newest.at < asked - TOLERANCE:
            cause = f"it ends {until}, before it was asked for"
            return _failed("7", name, cause, SubIndication.TIMESTAMP_ORDER_FAILURE)
        return Step("7", name, ok=True, detail=f"exported {until}, all is anchored")


def _failed(
    number: str, name: str, detail: str, sub: SubIndication = SubIndication.HASH_FAILURE,
    verdict: Verdict = Verdict.FAILED,
) -> Step:  # fmt: skip
    return Step(number, name, ok=False, detail=detail, sub_indication=sub, verdict=verdict)
