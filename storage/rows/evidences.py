"""Evidence and its ledger in SQL."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from secrets import token_bytes
from typing import Final

from sqlalchemy import bindparam, delete, func, insert, literal_column, null, select, update

from evidence.ledger.chain import GENESIS, LedgerEntry, entry_hash
from evidence.model.records import EvidenceKind, Profile
from evidence.stamps.ers import split_record
from kephs.domain.audit_anchor import is_anchor_name
from kephs.domain.messages import StoredEvidence
from kephs.ports import Blob, DuplicateEvidenceError, Entered
from storage.files.survey import UnreadableRow, survey
from storage.rows.blobs import SqlBlobs, blob_columns
from storage.rows.statements import Database, ListStatement, Params, Row
from storage.rows.tables import blobs, bundle_appendices, evidence, ledger, messages, time_stamps
from storage.rows.values import from_micros, from_micros_or_none, to_micros, to_micros_or_none

_COLUMNS: Final = [column for column in evidence.c if column.name not in ("proof", "stamp")]
_ADD: Final = insert(evidence)
_GET: Final = select(*_COLUMNS).where(evidence.c.evidence_id == bindparam("evidence_id"))
_OF_MESSAGE: Final = (
    select(*_COLUMNS)
    .where(evidence.c.message_id == bindparam("message_id"))
    .order_by(evidence.c.event_time, evidence.c.kind, evidence.c.number, evidence.c.evidence_id)
)
_CLAIMABLE: Final = (
    select(*_COLUMNS)
    .where(evidence.c.receipt_due <= bindparam("now"))
    .order_by(evidence.c.receipt_due, evidence.c.evidence_id)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_LEASE: Final = (
    update(evidence)
    .where(evidence.c.evidence_id == bindparam("of_evidence"))
    .values(receipt_due=bindparam("lease_until"), leased_by=bindparam("by"))
)
_DUE: Final = (
    update(evidence)
    .where(evidence.c.evidence_id == bindparam("of_evidence"))
    .values(receipt_due=bindparam("at"), attempts=bindparam("tried"), leased_by=null())
)
_END_RECEIPTS: Final = ListStatement(
    lambda values: (
        update(evidence)
        .where(evidence.c.evidence_id.in_(values), evidence.c.receipt_due.is_not(None))
        .values(receipt_due=null(), attempts=literal_column("0"), leased_by=null())
        .returning(evidence.c.evidence_id)
    )
)
_TAKE_OVER: Final = (
    update(evidence)
    .where(evidence.c.receipt_due.is_not(None), evidence.c.leased_by == bindparam("by"))
    .values(receipt_due=bindparam("now"), leased_by=null())
)
_NEXT_DUE: Final = select(func.min(evidence.c.receipt_due)).where(evidence.c.receipt_due.is_not(None))
_PAGE: Final = (
    select(*_COLUMNS)
    .where(evidence.c.evidence_id > bindparam("after"))
    .order_by(evidence.c.evidence_id)
    .limit(literal_column("500"))
)
_OF_MESSAGES: Final = ListStatement(
    lambda values: (
        select(*_COLUMNS)
        .where(evidence.c.message_id.in_(values))
        .order_by(evidence.c.event_time, evidence.c.kind, evidence.c.number, evidence.c.evidence_id)
    )
)
_STRAYS: Final = (
    select(*_COLUMNS)
    .select_from(evidence.outerjoin(messages, messages.c.message_id == evidence.c.message_id))
    .where(messages.c.message_id.is_(None), evidence.c.evidence_id > bindparam("after"))
    .order_by(evidence.c.evidence_id)
    .limit(literal_column("500"))
)
_TAIL: Final = select(ledger.c.seq, ledger.c.hash).order_by(ledger.c.seq.desc()).limit(literal_column("1"))
_APPEND: Final = insert(ledger)
_ENTRY: Final = select(ledger).where(ledger.c.evidence_id == bindparam("evidence_id"))
_ADD_STAMP: Final = insert(time_stamps)
_ERS: Final = (
    select(evidence.c.proof, time_stamps.c.token)
    .select_from(evidence.join(time_stamps, time_stamps.c.sha256 == evidence.c.stamp))
    .where(evidence.c.evidence_id == bindparam("evidence_id"))
)
_SET_ERS: Final = (
    update(evidence)
    .where(evidence.c.evidence_id == bindparam("of_evidence"), evidence.c.unstamped.is_(True))
    .values(proof=bindparam("head"), stamp=bindparam("token"), unstamped=bindparam("waiting"))
)
_APPENDIX: Final = select(bundle_appendices.c.inputs, bundle_appendices.c.content).where(
    bundle_appendices.c.message_id == bindparam("message_id")
)
_DROP_APPENDIX: Final = delete(bundle_appendices).where(
    bundle_appendices.c.message_id == bindparam("message_id")
)
_ADD_APPENDIX: Final = insert(bundle_appendices)
_LEDGER: Final = (
    select(ledger).where(ledger.c.seq > bindparam("after")).order_by(ledger.c.seq).limit(bindparam("most"))
)
_of_entry: Final = blobs.alias()
_material: Final = blobs.alias()
_ENTERED: Final = (
    select(
        *ledger.c, *_COLUMNS, evidence.c.proof, time_stamps.c.token,
        *blob_columns(_of_entry), *blob_columns(_material),
    )
    .select_from(
        ledger.outerjoin(evidence, evidence.c.evidence_id == ledger.c.evidence_id)
        .outerjoin(time_stamps, time_stamps.c.sha256 == evidence.c.stamp)
        .outerjoin(_of_entry, _of_entry.c.sha256 == ledger.c.digest)
        .outerjoin(messages, messages.c.message_id == evidence.c.message_id)
        .outerjoin(_material, _material.c.sha256 == messages.c.material)
    )
    .where(ledger.c.seq > bindparam("after"))
    .order_by(ledger.c.seq)
    .limit(bindparam("most"))
)  # fmt: skip
_LINK: Final = len(ledger.c)
_ROW: Final = _LINK + len(_COLUMNS)
_BLOB: Final = len(blob_columns(_of_entry))


class SqlEvidences:
    """`kephs.ports.Evidences` in SQL."""

    def __init__(self, database: Database, blobs: SqlBlobs) -> None:
        self._db = database
        self._blobs = blobs

    def add(self, evidence: StoredEvidence, ers: bytes | None = None) -> LedgerEntry:
        """Store an evidence with its record and its ledger entry; received ones are entered too.

        Raises:
            DuplicateEvidenceError: this event already has its evidence of ours, or the id is taken.
            ConflictError: its message or its bytes do not exist.
        """
        (entry,) = self._add(((evidence, ers),))
        return entry

    def add_all(self, made: Sequence[tuple[StoredEvidence, bytes | None]]) -> None:
        """Store several evidences with their records and ledger entries, in this order.

        Raises:
            DuplicateEvidenceError: one of the events already has its evidence of ours, or an id is taken.
            ConflictError: a message or the bytes of one of them do not exist.
        """
        if made:
            self._add(made)

    def get(self, evidence_id: str) -> StoredEvidence | None:
        """Return an evidence."""
        row = self._db.row(_GET, {"evidence_id": evidence_id})
        return None if row is None else _evidence(row)

    def ers(self, evidence_id: str) -> bytes | None:
        """Return the evidence record that travels beside an evidence, exactly as it was added."""
        row = self._db.row(_ERS, {"evidence_id": evidence_id})
        return None if row is None else row[0] + row[1]

    def set_ers(self, evidence_id: str, ers: bytes) -> bool:
        """Store the record of what was released without one; False where it has its stamp already."""
        ((head, stamp),) = self._stamp((ers,))
        params = {"of_evidence": evidence_id, "head": head, "token": stamp, "waiting": False}
        return self._db.run(_SET_ERS, params) == 1

    def appendix(self, message_id: str) -> tuple[bytes, bytes] | None:
        """Return what a message's bundle was sealed with: digest of its inputs, content."""
        row = self._db.row(_APPENDIX, {"message_id": message_id})
        if row is None:
            return None
        return row[0], self._db.vault.unseal(row[1], _appendix_place(message_id))

    def set_appendix(self, message_id: str, inputs: bytes, content: bytes) -> None:
        """Keep what a message's bundle is sealed with; an earlier one is replaced."""
        self._db.run(_DROP_APPENDIX, {"message_id": message_id})
        sealed = self._db.vault.seal(content, _appendix_place(message_id))
        self._db.run(_ADD_APPENDIX, {"message_id": message_id, "inputs": inputs, "content": sealed})

    def of_message(self, message_id: str) -> list[StoredEvidence]:
        """Return a message's evidence in the order of the events."""
        return [_evidence(row) for row in self._db.rows(_OF_MESSAGE, {"message_id": message_id})]

    def of_messages(self, message_ids: Sequence[str]) -> Mapping[str, list[StoredEvidence]]:
        """Return the evidence of several messages, each message's in the order of the events."""
        found: dict[str, list[StoredEvidence]] = {message_id: [] for message_id in message_ids}
        for row in self._db.rows_of(_OF_MESSAGES, list(found), {}):
            found[row[1]].append(_evidence(row))
        return found

    def claim_receipts(
        self, now: datetime, limit: int, lease_until: datetime, by: str
    ) -> list[StoredEvidence]:
        """Return evidence whose receipt is due, earliest first, each leased."""
        until = to_micros(lease_until)
        claimed = []
        for row in self._db.rows(_CLAIMABLE, {"now": to_micros(now), "most": limit}):
            self._db.run(_LEASE, {"of_evidence": row[0], "lease_until": until, "by": by})
            claimed.append(replace(_evidence(row), receipt_due=lease_until))
        return claimed

    def end_receipts(self, evidence_ids: Sequence[str]) -> AbstractSet[str]:
        """Note that receipts are due no more, and end their leases; return the ids of those that were due."""
        return {row[0] for row in self._db.rows_of(_END_RECEIPTS, evidence_ids, {})}

    def receipt_due(self, evidence_id: str, at: datetime | None, attempts: int) -> None:
        """Set when the receipt is due and end the lease; `KeyError` where the evidence does not exist."""
        params = {"of_evidence": evidence_id, "at": to_micros_or_none(at), "tried": attempts}
        if not self._db.run(_DUE, params):
            raise KeyError(evidence_id)

    def take_over(self, by: str, now: datetime) -> None:
        """Make due now what ``by`` had leased."""
        self._db.run(_TAKE_OVER, {"by": by, "now": to_micros(now)})

    def next_due(self) -> datetime | None:
        """Return when the next receipt is due."""
        row = self._db.row(_NEXT_DUE, {})
        return None if row is None else from_micros_or_none(row[0])

    def ledger(self, after: int, limit: int) -> list[LedgerEntry]:
        """Return entries numbered above ``after``, ascending."""
        return [_link(row) for row in self._db.rows(_LEDGER, {"after": after, "most": limit})]

    def ledger_of(self, evidence_id: str) -> LedgerEntry | None:
        """Return the entry of one evidence."""
        row = self._db.row(_ENTRY, {"evidence_id": evidence_id})
        return None if row is None else _link(row)

    def entered(self, after: int, limit: int) -> list[Entered]:
        """Return entries numbered above ``after``, ascending, each with its rows."""
        return [_entered(row) for row in self._db.rows(_ENTERED, {"after": after, "most": limit})]

    def all(self) -> Iterable[StoredEvidence]:
        """Yield every evidence, by id, while the transaction lasts."""
        after = ""
        while rows := self._db.rows(_PAGE, {"after": after}):
            for row in rows:
                yield _evidence(row)
            after = rows[-1][0]

    def survey(self, message_ids: Sequence[str]) -> Iterator[StoredEvidence | UnreadableRow]:
        """Yield the evidence of some messages, readable or not (asked by fsck)."""
        yield from survey("evidence", self._db.rows_of(_OF_MESSAGES, message_ids, {}), _evidence)

    def strays(self) -> Iterator[StoredEvidence | UnreadableRow]:
        """Yield the evidence whose message is gone, by id (asked by fsck)."""
        after = ""
        while rows := self._db.rows(_STRAYS, {"after": after}):
            yield from survey("evidence", rows, _evidence)
            after = rows[-1][0]

    def survey_ledger(self) -> Iterator[LedgerEntry | UnreadableRow]:
        """Yield every entry, ascending, readable or not (asked by fsck)."""
        after = -1
        while rows := self._db.rows(_LEDGER, {"after": after, "most": 1000}):
            yield from survey("ledger", rows, _link)
            after = rows[-1][0]

    def enter(self, evidence_id: str, digest: bytes, at: datetime) -> LedgerEntry:
        """Append to the ledger: an evidence, or an anchor of the process record."""
        (entry,) = self._enter(((evidence_id, digest, at),))
        return entry

    def _add(self, made: Sequence[tuple[StoredEvidence, bytes | None]]) -> list[LedgerEntry]:
        for one, _ in made:
            if is_anchor_name(one.evidence_id):
                raise DuplicateEvidenceError(one.evidence_id)
        stamps = self._stamp([ers for _, ers in made])
        rows = [_row(one, *stamp) for (one, _), stamp in zip(made, stamps, strict=True)]
        if self._db.run_each_quiet(_ADD, rows) != len(made):
            raise DuplicateEvidenceError(self._taken([one for one, _ in made]))
        self._blobs.loose.difference_update([one.blob for one, _ in made])
        return self._enter([(one.evidence_id, one.blob, one.event_time) for one, _ in made])

    def _taken(self, made: Sequence[StoredEvidence]) -> str:
        """Return the id of the first that was not stored: it has no row, or one that was there before."""
        seen: set[str] = set()
        for one in made:
            name = one.evidence_id
            if name in seen or self.get(name) is None or self.ledger_of(name) is not None:
                return name
            seen.add(name)
        raise AssertionError("every row was stored")

    def _stamp(self, records: Sequence[bytes | None]) -> list[tuple[bytes | None, bytes | None]]:
        """Note the tokens of records, each once; return each record's head and its token's digest."""
        stamps: list[tuple[bytes | None, bytes | None]] = []
        tokens: dict[bytes, bytes] = {}  # by digest: a batch has one
        for ers in records:
            if ers is None:
                stamps.append((None, None))
                continue
            head, token = split_record(ers)
            digest = sha256(token).digest()
            tokens[digest] = token
            stamps.append((head, digest))
        self._db.run_each_quiet(
            _ADD_STAMP, [{"sha256": digest, "token": token} for digest, token in tokens.items()]
        )
        return stamps

    def _enter(self, heard: Sequence[tuple[str, bytes, datetime]]) -> list[LedgerEntry]:
        """Append ids, digests and times to the ledger, in this order."""
        self._db.serialise("ledger")  # two writers that read the same tail would break the chain
        tail = self._db.row(_TAIL, {})
        seq, previous = (0, GENESIS) if tail is None else tail
        entries = []
        for evidence_id, digest, at in heard:
            seq += 1
            link = entry_hash(seq, previous, evidence_id, digest, at)
            entries.append(LedgerEntry(seq, previous, evidence_id, digest, at, link, token_bytes(32)))
            previous = link
        self._db.run_each(_APPEND, [_link_row(entry) for entry in entries])
        return entries


def _row(one: StoredEvidence, head: bytes | None, stamp: bytes | None) -> Params:
    return {
        "evidence_id": one.evidence_id,
        "message_id": one.message_id,
        "kind": int(one.kind),
        "number": one.number or 0,
        "account_id": one.account_id,
        "blob": one.blob,
        "event_time": to_micros(one.event_time),
        "receipt_due": to_micros_or_none(one.receipt_due),
        "attempts": one.attempts,
        "origin": one.origin,
        "leased_by": None,
        "proof": head,
        "stamp": stamp,
        "unstamped": one.unstamped,
        "profile": one.profile.value,
    }


def _link_row(entry: LedgerEntry) -> Params:
    return {
        "seq": entry.number,
        "evidence_id": entry.evidence_id,
        "digest": entry.evidence_sha256,
        "at": to_micros(entry.at),
        "previous": entry.previous,
        "hash": entry.hash,
        "salt": entry.salt,
    }


def _evidence(row: Row) -> StoredEvidence:
    evidence_id, message_id, kind, number, account_id, blob, event_time, due, attempts, origin = row[:10]
    return StoredEvidence(
        evidence_id,
        EvidenceKind(kind),
        message_id,
        number or None,
        account_id,
        blob,
        from_micros(event_time),
        from_micros_or_none(due),
        attempts,
        origin,
        bool(row[11]),
        Profile(row[12]),
    )


def _appendix_place(message_id: str) -> str:
    return f"bundle_appendices:{message_id}"


def _link(row: Row) -> LedgerEntry:
    seq, evidence_id, digest, at, previous, link, salt = row
    return LedgerEntry(seq, previous, evidence_id, digest, from_micros(at), link, salt)


def _entered(row: Row) -> Entered:
    head, token = row[_ROW : _ROW + 2]
    blob, material = row[_ROW + 2 : -_BLOB], row[-_BLOB:]
    return Entered(
        _link(row[:_LINK]),
        None if row[_LINK] is None else _evidence(row[_LINK:_ROW]),
        None if blob[0] is None else Blob(*blob),
        None if token is None else head + token,
        None if material[0] is None else Blob(*material),
    )
