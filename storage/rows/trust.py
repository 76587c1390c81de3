"""The trust list and the process record in SQL."""

from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import bindparam, insert, literal_column, select, update

from evidence.ledger.chain import LedgerEntry
from kephs.domain.audit import AuditEntry, next_entry
from kephs.domain.audit_anchor import (
    AFTER_LAST,
    PREFIX,
    Anchored,
    Statement,
    anchor_name,
    anchored_number,
)
from kephs.domain.trust_list import AnchorKind, AnchorState, TrustAnchor
from storage.crypto import Vault
from storage.files.survey import UnreadableRow, survey
from storage.rows.evidences import SqlEvidences
from storage.rows.statements import Database, Row
from storage.rows.tables import audit, ledger, trust_anchors
from storage.rows.values import (
    from_micros,
    from_micros_or_none,
    seal_json,
    to_micros,
    to_micros_or_none,
    unseal_json,
)

_ALL: Final = select(trust_anchors).order_by(trust_anchors.c.fingerprint)
_GET: Final = select(trust_anchors).where(trust_anchors.c.fingerprint == bindparam("fingerprint"))
_PUT: Final = insert(trust_anchors)
_REPLACE: Final = (
    update(trust_anchors)
    .where(trust_anchors.c.fingerprint == bindparam("of_anchor"))
    .values(der=bindparam("new_der"), state=bindparam("new_state"), personal=bindparam("new_personal"))
)
_APPEND: Final = insert(audit)
_PAGE: Final = (
    select(audit).where(audit.c.number > bindparam("after")).order_by(audit.c.number).limit(bindparam("most"))
)
_anchor_columns: Final = (ledger.c.evidence_id, ledger.c.digest, ledger.c.at, ledger.c.seq)
_between: Final = (ledger.c.evidence_id > bindparam("after"), ledger.c.evidence_id < bindparam("before"))
# Names sort by bytes (SQLite as it is, PostgreSQL by the collation that migrations set), so as numbers do.
_ANCHORS: Final = (
    select(*_anchor_columns).where(*_between).order_by(ledger.c.evidence_id).limit(bindparam("most"))
)
_LAST_ANCHOR: Final = (
    select(*_anchor_columns).where(*_between).order_by(ledger.c.evidence_id.desc()).limit(literal_column("1"))
)
_HEAD: Final = select(audit).order_by(audit.c.number.desc()).limit(literal_column("1"))


class SqlAnchors:
    """`kephs.ports.Anchors` in SQL."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def all(self) -> list[TrustAnchor]:
        """Return every anchor, also retired ones, by fingerprint.

        Raises:
            KeyMismatchError: a row was made or changed by somebody without the instance's key.
            ValueError: its columns contradict what was sealed.
        """
        return [_anchor(self._db.vault, row) for row in self._db.rows(_ALL, {})]

    def get(self, fingerprint: bytes) -> TrustAnchor | None:
        """Return an anchor; raises as `all`."""
        row = self._db.row(_GET, {"fingerprint": fingerprint})
        return None if row is None else _anchor(self._db.vault, row)

    def put(self, anchor: TrustAnchor) -> None:
        """Store an anchor; what was stored under its fingerprint is replaced."""
        sealed = seal_json(self._db.vault, _plain(anchor), _place(anchor.fingerprint))
        changed = self._db.run(
            _REPLACE,
            {
                "of_anchor": anchor.fingerprint,
                "new_der": anchor.der,
                "new_state": anchor.state.value,
                "new_personal": sealed,
            },
        )
        if not changed:
            self._db.run(
                _PUT,
                {
                    "fingerprint": anchor.fingerprint,
                    "der": anchor.der,
                    "state": anchor.state.value,
                    "personal": sealed,
                },
            )

    def survey(self) -> Iterator[TrustAnchor | UnreadableRow]:
        """Yield every anchor, by fingerprint, readable or not (asked by fsck)."""
        for row in self._db.rows(_ALL, {}):
            for one in survey("trust_anchors", [row], lambda row: _anchor(self._db.vault, row)):
                # The key of an unreadable row is shown: as people know fingerprints.
                yield _hexadecimal(one, row[0]) if isinstance(one, UnreadableRow) else one


class SqlAudit:
    """`kephs.ports.Audit` in SQL: it inserts, and reads."""

    def __init__(self, database: Database, evidences: SqlEvidences) -> None:
        self._db = database
        self._evidences = evidences

    def add(self, *, at: datetime, actor: str, action: str, subject: str, detail: str = "") -> AuditEntry:
        """Append an entry.

        Raises:
            ValueError: `kephs.domain.audit.next_entry` refuses it.
        """
        self._db.serialise("audit")  # two writers that read the same head would break the chain
        entry = next_entry(self.head(), at=at, actor=actor, action=action, subject=subject, detail=detail)
        self._db.run(
            _APPEND,
            {
                "number": entry.number,
                "at": to_micros(at),
                "personal": seal_json(
                    self._db.vault, [actor, action, subject, detail], f"audit:{entry.number}"
                ),
                "previous": entry.previous,
                "digest": entry.digest,
            },
        )
        return entry

    def page(self, after: int, limit: int) -> list[AuditEntry]:
        """Return entries numbered above ``after``, ascending."""
        return [self._entry(row) for row in self._db.rows(_PAGE, {"after": after, "most": limit})]

    def head(self) -> AuditEntry | None:
        """Return the newest entry."""
        row = self._db.row(_HEAD, {})
        return None if row is None else self._entry(row)

    def anchor(self, at: datetime) -> LedgerEntry | None:
        """Enter the newest entry's digest into the ledger; None where it is there, or there is no entry."""
        self._db.serialise("audit")  # first the record, then the ledger: always in this order
        head, last = self.head(), self.last_anchor()
        if head is None or (last is not None and last.number >= head.number):
            return None
        entered = Statement(head.number, head.digest, at).sha256
        return self._evidences.enter(anchor_name(head.number), entered, at)

    def anchors(self, after: int, limit: int) -> list[Anchored]:
        """Return the anchors of entries numbered above ``after``, ascending."""
        name = anchor_name(after) if after > 0 else PREFIX
        params = {"after": name, "before": AFTER_LAST, "most": limit}
        return [_anchored(row) for row in self._db.rows(_ANCHORS, params)]

    def last_anchor(self) -> Anchored | None:
        """Return the anchor of the highest number."""
        row = self._db.row(_LAST_ANCHOR, {"after": PREFIX, "before": AFTER_LAST})
        return None if row is None else _anchored(row)

    def survey(self) -> Iterator[AuditEntry | UnreadableRow]:
        """Yield every entry, ascending, readable or not (asked by fsck)."""
        after = -1
        while rows := self._db.rows(_PAGE, {"after": after, "most": 1000}):
            yield from survey("audit", rows, self._entry)
            after = rows[-1][0]

    def _entry(self, row: Row) -> AuditEntry:
        number, at, personal, previous, digest = row
        actor, action, subject, detail = unseal_json(self._db.vault, personal, f"audit:{number}")
        return AuditEntry(number, from_micros(at), actor, action, subject, detail, previous, digest)


def _anchored(row: Row) -> Anchored:
    name, digest, at, seq = row
    number = anchored_number(name)
    if number is None:
        raise ValueError("the name of an anchor that is none")
    return Anchored(number, digest, from_micros(at), seq)


def _place(fingerprint: bytes) -> str:
    return f"trust_anchors:{fingerprint.hex()}"


def _plain(anchor: TrustAnchor) -> dict[str, Any]:
    """Return what is sealed: everything but the certificate, which the fingerprint stands for."""
    return {
        "kind": anchor.kind.value,
        "label": anchor.label,
        "state": anchor.state.value,
        "proposed": [anchor.proposed_by, to_micros(anchor.proposed_at)],
        "confirmed": [[name, to_micros(at)] for name, at in anchor.confirmed],
        "retired": [anchor.retired_by, to_micros_or_none(anchor.retired_at)],
        "reason": anchor.reason,
    }


def _anchor(vault: Vault, row: Row) -> TrustAnchor:
    fingerprint, der, state, personal = row
    plain = unseal_json(vault, personal, _place(fingerprint))
    if plain["state"] != state or sha256(der).digest() != fingerprint:
        raise ValueError("another state or certificate than what was sealed")
    proposed_by, proposed_at = plain["proposed"]
    retired_by, retired_at = plain["retired"]
    return TrustAnchor(
        fingerprint,
        der,
        AnchorKind(plain["kind"]),
        plain["label"],
        AnchorState(state),
        proposed_by,
        from_micros(proposed_at),
        tuple((name, from_micros(at)) for name, at in plain["confirmed"]),
        retired_by,
        from_micros_or_none(retired_at),
        plain["reason"],
    )


def _hexadecimal(row: UnreadableRow, fingerprint: object) -> UnreadableRow:
    key = fingerprint.hex() if isinstance(fingerprint, bytes) else str(fingerprint)
    return UnreadableRow(row.table, key, row.cause)
