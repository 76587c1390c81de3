"""The archive's rows in SQL, and putting rows back that its objects hold."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Select, bindparam, case, func, insert, literal_column, or_, select, update

from evidence.bundle.archive_object import ObjectKind
from evidence.ledger.chain import LedgerEntry
from evidence.stamps.ers import split_record
from kephs.domain.audit import GENESIS, AuditEntry, link_problem
from kephs.domain.messages import StoredEvidence
from kephs.ports.archive import ArchivedObject, ArchiveTotals, ObjectState
from kephs.ports.objects import ObjectRef
from storage.files.survey import UnreadableRow, survey
from storage.rows.archive_tables import archive_authorities as authorities
from storage.rows.archive_tables import archive_objects as objects
from storage.rows.blobs import SqlBlobs
from storage.rows.statements import Database, Row
from storage.rows.tables import audit, evidence, ledger, messages, time_stamps
from storage.rows.trust import SqlAudit
from storage.rows.values import (
    from_micros,
    from_micros_or_none,
    seal_json,
    to_micros,
    to_micros_or_none,
)

_WATERMARK: Final = select(func.max(objects.c.last_no)).where(objects.c.kind == bindparam("kind"))
_ADD: Final = insert(objects)
_GET: Final = select(objects).where(objects.c.name == bindparam("name"))
_PAGE: Final = (
    select(objects)
    .where(objects.c.name > bindparam("after"))
    .order_by(objects.c.name)
    .limit(bindparam("most"))
)
_PAGE_OF_KIND: Final = (
    select(objects)
    .where(objects.c.kind == bindparam("kind"), objects.c.name > bindparam("after"))
    .order_by(objects.c.name)
    .limit(bindparam("most"))
)
_HOLDING: Final = (
    select(objects)
    .where(objects.c.kind == bindparam("kind"), objects.c.last_no >= bindparam("number"))
    .order_by(objects.c.last_no)
    .limit(literal_column("1"))
)
_UNCHECKED: Final = (
    select(objects)
    .where(or_(objects.c.check_due.is_(None), objects.c.check_due <= bindparam("due")))
    .order_by(func.coalesce(objects.c.check_due, literal_column("0")), objects.c.name)
    .limit(bindparam("most"))
)
_STALE: Final = (
    select(objects)
    .where(
        or_(
            objects.c.checked_at.is_(None),
            objects.c.checked_at < bindparam("before"),
            objects.c.state == literal_column("'damaged'"),
        )
    )
    .order_by(objects.c.name)
    .limit(bindparam("most"))
)
_QUARANTINED: Final = (
    select(objects)
    .where(objects.c.state == literal_column("'damaged'"))
    .order_by(objects.c.name)
    .limit(bindparam("most"))
)
_ELSEWHERE: Final = (
    select(objects)
    .where(objects.c.place != bindparam("place"), objects.c.name > bindparam("after"))
    .order_by(objects.c.name)
    .limit(bindparam("most"))
)
_CHECKED: Final = (
    update(objects)
    .where(objects.c.name == bindparam("of_object"))
    .values(
        checked_at=bindparam("at"),
        check_due=bindparam("due"),
        state=case((objects.c.state == literal_column("'damaged'"), "sealed"), else_=objects.c.state),
    )
)
_DAMAGED: Final = (
    update(objects)
    .where(objects.c.name == bindparam("of_object"))
    .values(state=bindparam("new_state"), checked_at=bindparam("at"), check_due=bindparam("due"))
)
_MOVED: Final = (
    update(objects)
    .where(objects.c.name == bindparam("of_object"), objects.c.version == bindparam("old_version"))
    .values(
        place=bindparam("new_place"), version=bindparam("new_version"), retain_until=bindparam("until"),
        state=bindparam("new_state"), checked_at=bindparam("at"),
    )
)  # fmt: skip
_EXTENDED: Final = (
    update(objects)
    .where(objects.c.name == bindparam("of_object"), objects.c.retain_until < bindparam("until"))
    .values(retain_until=bindparam("new_until"))
)
_RENEWED: Final = (
    update(objects)
    .where(
        objects.c.kind == literal_column("'delil'"),
        objects.c.renewed_round < bindparam("below"),
        objects.c.last_no <= bindparam("upto"),
    )
    .values(renewed_round=bindparam("number"))
)
_OVERLAPPING: Final[Select[Any]] = (
    select(literal_column("1"))
    .select_from(objects)
    .where(
        objects.c.kind == bindparam("kind"),
        objects.c.last_no >= bindparam("first"),
        objects.c.first_no <= bindparam("last"),
    )
    .limit(literal_column("1"))
)
_SEEN_AGAIN: Final = (
    update(authorities)
    .where(authorities.c.sha256 == bindparam("of_authority"))
    .values(
        first_no=case(
            (authorities.c.first_no < bindparam("low"), authorities.c.first_no), else_=bindparam("low")
        ),
        last_no=case(
            (authorities.c.last_no > bindparam("high"), authorities.c.last_no), else_=bindparam("high")
        ),
    )
)
_ADD_AUTHORITY: Final = insert(authorities)
_NEWEST: Final = select(func.max(ledger.c.seq))
_damaged = objects.c.state == literal_column("'damaged'")
_TOTALS: Final = select(
    func.count(),
    func.coalesce(func.sum(objects.c.size), literal_column("0")),
    func.coalesce(func.sum(case((_damaged, 1), else_=0)), literal_column("0")),
    func.coalesce(
        func.sum(case((objects.c.state == literal_column("'moved'"), 1), else_=0)), literal_column("0")
    ),
    func.coalesce(func.sum(case((objects.c.checked_at.is_(None), 1), else_=0)), literal_column("0")),
    func.coalesce(
        func.sum(
            case((objects.c.check_due.is_(None) | (objects.c.check_due <= bindparam("now")), 1), else_=0)
        ),
        literal_column("0"),
    ),
    func.coalesce(
        func.sum(case((objects.c.retain_until < bindparam("until"), 1), else_=0)), literal_column("0")
    ),
    func.min(objects.c.retain_until),
    func.min(objects.c.checked_at),
)
_MESSAGE: Final[Select[Any]] = select(literal_column("1")).where(
    messages.c.message_id == bindparam("message_id")
)
_ADD_EVIDENCE: Final = insert(evidence)
_ADD_STAMP: Final = insert(time_stamps)
_ADD_ENTRY: Final = insert(ledger)
_ENTRY: Final = select(ledger).where(ledger.c.seq == bindparam("seq"))
_ADD_AUDIT: Final = insert(audit)


class SqlArchive:
    """`kephs.ports.archive.Archive` in SQL."""

    def __init__(self, database: Database, blobs: SqlBlobs, audit_rows: SqlAudit) -> None:
        self._db, self._blobs, self._audit = database, blobs, audit_rows

    def watermark(self, kind: ObjectKind = ObjectKind.EVIDENCE) -> int:
        """Return the number of the last entry that lies in an object; 0 where none does."""
        row = self._db.row(_WATERMARK, {"kind": kind.value})
        return 0 if row is None or row[0] is None else int(row[0])

    def newest_entry(self) -> int:
        """Return the number of the newest entry of the ledger; 0 where there is none."""
        row = self._db.row(_NEWEST, {})
        return 0 if row is None or row[0] is None else int(row[0])

    def add(self, row: ArchivedObject, authorities: Sequence[tuple[bytes, ...]] = ()) -> bool:
        """Note an object that is durable; see `kephs.ports.archive.Archive.add`."""
        self._db.serialise("archive")  # two writers that saw the same watermark would hold entries twice
        watermark = self.watermark(row.kind)
        if row.first <= watermark:
            return False
        if row.first != watermark + 1:
            raise ValueError(f"{row.name} leaves a gap behind {watermark}")
        return self._enter(row, authorities)

    def adopt(self, row: ArchivedObject, authorities: Sequence[tuple[bytes, ...]] = ()) -> bool:
        """Note an object found in a store; False where its entries are archived, or its name is known."""
        self._db.serialise("archive")
        if row.kind is not ObjectKind.RENEWAL:
            overlap = {"kind": row.kind.value, "first": row.first, "last": row.last}
            if self._db.row(_OVERLAPPING, overlap) is not None:
                return False
        return self._enter(row, authorities)

    def get(self, name: str) -> ArchivedObject | None:
        """Return the row of an object."""
        row = self._db.row(_GET, {"name": name})
        return None if row is None else archive_object(row)

    def all(
        self, after: str = "", limit: int = 500, *, kind: ObjectKind | None = None
    ) -> list[ArchivedObject]:
        """Return objects by name, above ``after``."""
        if kind is None:
            return [archive_object(row) for row in self._db.rows(_PAGE, {"after": after, "most": limit})]
        params = {"kind": kind.value, "after": after, "most": limit}
        return [archive_object(row) for row in self._db.rows(_PAGE_OF_KIND, params)]

    def holding(self, kind: ObjectKind, number: int) -> ArchivedObject | None:
        """Return the object that holds an entry."""
        row = self._db.row(_HOLDING, {"kind": kind.value, "number": number})
        found = None if row is None else archive_object(row)
        return found if found is not None and found.first <= number else None

    def unchecked(self, due: datetime, limit: int) -> list[ArchivedObject]:
        """Return objects whose fixity check is due by then, longest due first."""
        return [
            archive_object(row) for row in self._db.rows(_UNCHECKED, {"due": to_micros(due), "most": limit})
        ]

    def stale(self, before: datetime, limit: int) -> list[ArchivedObject]:
        """Return objects that were last compared before a time, or never, or are damaged; by name."""
        rows = self._db.rows(_STALE, {"before": to_micros(before), "most": limit})
        return [archive_object(row) for row in rows]

    def damaged(self, limit: int) -> list[ArchivedObject]:
        """Return quarantined objects, by name."""
        return [archive_object(row) for row in self._db.rows(_QUARANTINED, {"most": limit})]

    def elsewhere(self, place: str, limit: int, after: str = "") -> list[ArchivedObject]:
        """Return objects that do not lie in this kind of store, by name."""
        params = {"place": place, "after": after, "most": limit}
        return [archive_object(row) for row in self._db.rows(_ELSEWHERE, params)]

    def mark_checked(self, name: str, at: datetime, due: datetime) -> None:
        """Note that an object's digests hold; `KeyError` where there is no such object."""
        if not self._db.run(_CHECKED, {"of_object": name, "at": to_micros(at), "due": to_micros(due)}):
            raise KeyError(name)

    def mark_damaged(self, name: str, at: datetime) -> None:
        """Quarantine an object: it is looked at again by every check."""
        params = {"of_object": name, "new_state": ObjectState.DAMAGED.value}
        if not self._db.run(_DAMAGED, params | {"at": to_micros(at), "due": to_micros(at)}):
            raise KeyError(name)

    def moved(self, name: str, before: ObjectRef, after: ObjectRef, place: str, at: datetime) -> bool:
        """Note that an object lies elsewhere now; False where its row named another version."""
        params = {
            "of_object": name, "old_version": before.version, "new_place": place,
            "new_version": after.version, "until": to_micros(after.retain_until),
            "new_state": ObjectState.MOVED.value, "at": to_micros(at),
        }  # fmt: skip
        return self._db.run(_MOVED, params) == 1

    def extended(self, name: str, retain_until: datetime) -> None:
        """Note a later end of retention."""
        until = to_micros(retain_until)
        self._db.run(_EXTENDED, {"of_object": name, "until": until, "new_until": until})

    def set_renewed(self, number: int, last: int) -> None:
        """Note that a round of renewal covers every entry up to ``last``."""
        self._db.run(_RENEWED, {"number": number, "below": number, "upto": last})

    def totals(self, now: datetime, until: datetime) -> ArchiveTotals:
        """Count; see `kephs.ports.archive.Archive.totals`."""
        row = self._db.row(_TOTALS, {"now": to_micros(now), "until": to_micros(until)})
        assert row is not None
        count, octets, damaged, moved, never, overdue, expiring = map(int, row[:7])
        return ArchiveTotals(
            count, octets, damaged, moved, never, overdue, expiring,
            from_micros_or_none(row[7]), from_micros_or_none(row[8]),
        )  # fmt: skip

    def restore(self, evidence: StoredEvidence, ers: bytes | None) -> bool:
        """Put an evidence's row back as it was; see `kephs.ports.archive.Archive.restore`."""
        if self._db.row(_MESSAGE, {"message_id": evidence.message_id}) is None:
            raise KeyError(evidence.message_id)
        head: bytes | None = None
        stamp: bytes | None = None
        if ers is not None:
            head, token = split_record(ers)
            stamp = sha256(token).digest()
            self._db.run_quiet(_ADD_STAMP, {"sha256": stamp, "token": token})
        params = {
            "evidence_id": evidence.evidence_id, "message_id": evidence.message_id,
            "kind": int(evidence.kind), "number": evidence.number or 0, "account_id": evidence.account_id,
            "blob": evidence.blob, "event_time": to_micros(evidence.event_time),
            "receipt_due": to_micros_or_none(evidence.receipt_due), "attempts": evidence.attempts,
            "origin": evidence.origin, "leased_by": None, "proof": head, "stamp": stamp,
            "unstamped": evidence.unstamped, "profile": evidence.profile.value,
        }  # fmt: skip
        added = self._db.run_quiet(_ADD_EVIDENCE, params)
        self._blobs.loose.discard(evidence.blob)
        return added

    def restore_entry(self, entry: LedgerEntry) -> bool:
        """Put a ledger entry back; see `kephs.ports.archive.Archive.restore_entry`."""
        params = {
            "seq": entry.number, "evidence_id": entry.evidence_id, "digest": entry.evidence_sha256,
            "at": to_micros(entry.at), "previous": entry.previous, "hash": entry.hash, "salt": entry.salt,
        }  # fmt: skip
        if self._db.run_quiet(_ADD_ENTRY, params):
            return True
        stands = self._db.row(_ENTRY, {"seq": entry.number})
        if stands is None or tuple(stands) != tuple(params.values()):
            raise ValueError(f"ledger entry {entry.number} is another one here")
        return False

    def restore_audit(self, entry: AuditEntry) -> bool:
        """Put an entry of the process record back; see `kephs.ports.archive.Archive.restore_audit`."""
        head = self._audit.head()
        number, digest = (0, GENESIS) if head is None else (head.number, head.digest)
        if entry.number <= number:
            stands = self._audit.page(entry.number - 1, 1)
            if not stands or stands[0] != entry:
                raise ValueError(f"process record {entry.number} is another one here")
            return False
        problem = link_problem(entry, number + 1, digest)
        if problem is not None:
            raise ValueError(f"process record {entry.number}: {problem}")
        personal = [entry.actor, entry.action, entry.subject, entry.detail]
        sealed = seal_json(self._db.vault, personal, f"audit:{entry.number}")
        params = {"number": entry.number, "at": to_micros(entry.at), "personal": sealed}
        self._db.run(_ADD_AUDIT, params | {"previous": entry.previous, "digest": entry.digest})
        return True

    def _enter(self, row: ArchivedObject, paths: Sequence[tuple[bytes, ...]]) -> bool:
        if not self._db.run_quiet(_ADD, archive_params(row)):
            return False
        for path in paths:
            digest = sha256(path[0]).digest()
            known = {"of_authority": digest, "low": row.first, "high": row.last}
            if not self._db.run(_SEEN_AGAIN, known):
                fresh = {"sha256": digest, "path": b"".join(path), "first_no": row.first, "last_no": row.last}
                self._db.run(_ADD_AUTHORITY, fresh)
        return True

    def survey(self) -> Iterator[ArchivedObject | UnreadableRow]:
        """Yield every object by name, readable or not (asked by fsck)."""
        after = ""
        while rows := self._db.rows(_PAGE, {"after": after, "most": 500}):
            yield from survey("archive_objects", rows, archive_object)
            after = rows[-1][0]


def archive_params(row: ArchivedObject) -> dict[str, object]:
    """Return the columns of a row."""
    return {
        "name": row.name, "kind": row.kind.value, "first_no": row.first, "last_no": row.last,
        "place": row.place, "version": row.version, "size": row.size, "sha256": row.sha256,
        "sha512": row.sha512, "retain_until": to_micros(row.retain_until),
        "sealed_at": to_micros(row.sealed_at), "state": row.state.value,
        "checked_at": to_micros_or_none(row.checked_at), "check_due": to_micros_or_none(row.check_due),
        "renewed_round": row.renewed_round,
    }  # fmt: skip


def archive_object(row: Row) -> ArchivedObject:
    """Return the row that columns hold."""
    name, kind, first, last, place, version, size, digest256, digest512, until, sealed, state, *rest = row
    checked, due, renewed = rest
    return ArchivedObject(
        name, ObjectKind(kind), first, last, place, version, size, digest256, digest512,
        from_micros(until), from_micros(sealed), ObjectState(state),
        from_micros_or_none(checked), from_micros_or_none(due), renewed,
    )  # fmt: skip
