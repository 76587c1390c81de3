"""Rounds of renewal in SQL, and what they need to know of archived evidence."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, func, insert, select

from evidence.asn1.der import read
from evidence.bundle.archive_object import ObjectKind
from kephs.ports.archive import CHECK_EVERY, ArchivedObject
from kephs.ports.objects import ObjectRef
from kephs.ports.preservation import CoveredEvidence, RenewalReason, RenewalRow, StampAuthority
from storage.rows.archive import SqlArchive, archive_object
from storage.rows.archive_tables import archive_authorities, archive_objects, renewals
from storage.rows.statements import Database, Row
from storage.rows.tables import evidence, ledger
from storage.rows.values import from_micros, to_micros

_ROUNDS: Final = (
    select(
        renewals.c.round, renewals.c.at, renewals.c.reason, renewals.c.hash_name, renewals.c.token_sha256,
        renewals.c.leaves, renewals.c.last_no, *archive_objects.c,
    )
    .select_from(renewals.join(archive_objects, archive_objects.c.name == renewals.c.head))
    .order_by(renewals.c.round)
)  # fmt: skip
_ADD: Final = insert(renewals)
_COUNT: Final = select(func.max(renewals.c.round))
_FIRST_AT: Final = select(ledger.c.at).where(ledger.c.seq == bindparam("number"))
_COVERED: Final = (
    select(ledger.c.seq, ledger.c.digest, evidence.c.stamp, evidence.c.origin)
    .select_from(ledger.outerjoin(evidence, evidence.c.evidence_id == ledger.c.evidence_id))
    .where(ledger.c.seq > bindparam("after"), ledger.c.seq <= bindparam("upto"))
    .order_by(ledger.c.seq)
    .limit(bindparam("most"))
)
_OBJECTS: Final = (
    select(archive_objects)
    .where(archive_objects.c.kind == bindparam("kind"), archive_objects.c.last_no > bindparam("after"))
    .order_by(archive_objects.c.last_no)
)
_AUTHORITIES: Final = (
    select(archive_authorities.c.path)
    .where(archive_authorities.c.last_no > bindparam("after"))
    .order_by(archive_authorities.c.sha256)
)


class SqlPreservation:
    """`kephs.ports.preservation.Preservation` in SQL."""

    def __init__(self, database: Database, archive: SqlArchive) -> None:
        self._db, self._archive = database, archive

    def rounds(self) -> list[RenewalRow]:
        """Return all rounds, ascending."""
        return [_round(row) for row in self._db.rows(_ROUNDS, {})]

    def add_round(self, row: RenewalRow, objects: Sequence[ObjectRef], place: str = "files") -> bool:
        """Note a round that is durable, and the objects it wrote; False where one of its number is known.

        Args:
            row: the round.
            objects: what it wrote, its head among them.
            place: the kind of store that has them.

        Raises:
            ValueError: it does not follow the newest round, or its head is not among the objects.
        """
        self._db.serialise("archive")
        newest = self._db.row(_COUNT, {})
        known = 0 if newest is None or newest[0] is None else int(newest[0])
        if row.number <= known:
            return False
        if row.number != known + 1 or row.head not in objects:
            raise ValueError(f"round {row.number} does not follow round {known}, or lacks its head")
        for ref in objects:
            self._archive.adopt(round_object(row, ref, place))
        self._db.run(
            _ADD,
            {
                "round": row.number, "at": to_micros(row.at), "reason": row.reason.value,
                "hash_name": row.hash_name, "token_sha256": row.token_sha256, "leaves": row.leaves,
                "last_no": row.last, "head": row.head.name,
            },
        )  # fmt: skip
        self._archive.set_renewed(row.number, row.last)
        return True

    def watermark(self) -> int:
        """Return the number of the last archived ledger entry; 0 where there is none."""
        return self._archive.watermark()

    def first_at(self, after: int) -> datetime | None:
        """Return the time of the oldest archived entry numbered above ``after``."""
        row = self._db.row(_FIRST_AT, {"number": after + 1}) if after < self.watermark() else None
        return None if row is None else from_micros(row[0])

    def covered(self, after: int, limit: int) -> list[CoveredEvidence]:
        """Return archived evidence numbered above ``after``, ascending, without gaps."""
        params = {"after": after, "upto": self.watermark(), "most": limit}
        return [self._one(row) for row in self._db.rows(_COVERED, params)]

    def evidence_objects(self, after: int) -> list[ObjectRef]:
        """Return the objects that hold entries above ``after``, ascending."""
        rows = self._db.rows(_OBJECTS, {"kind": ObjectKind.EVIDENCE.value, "after": after})
        return [archive_object(row).ref for row in rows]

    def authorities(self, after: int) -> list[StampAuthority]:
        """Return every authority that stamped archived evidence numbered above ``after``, each once."""
        return [StampAuthority(split_ders(path)) for (path,) in self._db.rows(_AUTHORITIES, {"after": after})]

    def _one(self, row: Row) -> CoveredEvidence:
        number, digest, stamp, origin = row
        return CoveredEvidence(number, digest, stamp, read_again=stamp is not None and origin is not None)


def round_object(row: RenewalRow, ref: ObjectRef, place: str) -> ArchivedObject:
    """Return the row of an object that a round wrote."""
    return ArchivedObject(
        ref.name, ObjectKind.RENEWAL, row.number, row.number, place, ref.version, ref.size, ref.sha256,
        ref.sha512, ref.retain_until, row.at, check_due=row.at + CHECK_EVERY,
    )  # fmt: skip


def split_ders(path: bytes) -> tuple[bytes, ...]:
    """Return the DER values that stand one after the other."""
    found, at = [], 0
    while at < len(path):
        node = read(path, at, len(path))
        found.append(path[at : node.end])
        at = node.end
    return tuple(found)


def _round(row: Row) -> RenewalRow:
    number, at, reason, hash_name, token, leaves, last, *columns = row
    head = archive_object(tuple(columns)).ref
    return RenewalRow(number, from_micros(at), RenewalReason(reason), hash_name, token, leaves, last, head)
