"""What a stranger can find about one evidence beside the audit of the whole ledger."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from evidence.forms.serialise import read as read_record
from evidence.ledger.audit import Witnesses, audit, audit_entry
from evidence.ledger.notes import NoteError, NoteVerifier, open_note
from evidence.ledger.proof import LedgerProof, ProofError
from evidence.ledger.tiles import ReadTile
from evidence.model.records import EvidenceRecord
from evidence.report import Report, Step, SubIndication, Verdict, conclude
from evidence.xml.reader import EvidenceFormatError

ENTERED_WITHIN: Final = timedelta(hours=1)
"""Evidence is entered when it is made; one hour is for clocks and cosignatures that came late."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What somebody holds: proof and evidence, the older and the newer checkpoint."""

    proof: bytes
    evidence: bytes
    old: bytes
    new: bytes
    got: datetime | None = None  # when they got the older checkpoint, which was the newest then


def entry_reports(
    shown: Shown, read: ReadTile, log: NoteVerifier, witnesses: Witnesses, at: datetime
) -> list[Report]:
    """Check one evidence: its proof, that the proof's checkpoint is of the same ledger, and its place.

    Args:
        shown: what somebody holds.
        read: gets a published tile.
        log: the log's key.
        witnesses: known witnesses.
        at: time of the check, UTC.
    """
    entry = audit_entry(shown.proof, shown.evidence, log, at, held=shown.new, witnesses=witnesses)
    reports = [entry]
    if entry.passed:
        inside = LedgerProof.read(shown.proof).note
        if inside != shown.new:
            reports.append(audit(inside, shown.new, read, log, at, in_order=False, walk=False))
    return [*reports, _order(shown, (log, *witnesses.keys), at)]


def _order(shown: Shown, keys: tuple[NoteVerifier, ...], at: datetime) -> Report:
    """Compare the evidence's time with its place: one step, "order".

    An entry that the older checkpoint does not have was entered after it; an evidence of this provider that
    claims a time from well before the moment at which that checkpoint was the newest was back-dated.
    """
    try:
        old = open_note(shown.old, keys)
        index = LedgerProof.read(shown.proof).index
        record = read_record(shown.evidence)
    except (NoteError, ProofError, EvidenceFormatError) as error:
        return _concluded(at, ok=None, detail=f"not looked at: {error}")
    if index < old.checkpoint.size:
        return _concluded(at, ok=True, detail="entered before the older checkpoint")
    moments = [*old.cosigned.values(), *([shown.got] if shown.got else [])]
    if not moments:
        return _concluded(at, ok=None, detail="entered after the older checkpoint; nobody says when that was")
    newest = max(moments)
    detail = f"of {record.event_time:%Y-%m-%dT%H:%M:%SZ}, entered after {newest:%Y-%m-%dT%H:%M:%SZ}"
    if record.event_time >= newest - ENTERED_WITHIN:
        return _concluded(at, ok=True, detail=detail)
    if not _made_by(record, old.checkpoint.origin):
        return _concluded(at, ok=None, detail=f"another provider's, {detail}")
    return _concluded(at, ok=False, detail=f"back-dated: {detail}")


def _made_by(record: EvidenceRecord, origin: str) -> bool:
    """Say whether an evidence is the log's provider's own: a peer's is entered when it arrives."""
    return record.issuer.address.rpartition("@")[2].lower() == origin.partition("/")[0].lower()


def _concluded(at: datetime, *, ok: bool | None, detail: str) -> Report:
    step = Step(
        "1", "order", ok=ok, detail=detail,
        sub_indication=SubIndication.TIMESTAMP_ORDER_FAILURE, verdict=Verdict.FAILED,
    )  # fmt: skip
    return conclude("order of entry", [step], at)
