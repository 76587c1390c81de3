"""A small sound store with real evidence XML, and ways to tamper with it beneath the ports."""

import sqlite3
from dataclasses import fields, replace
from datetime import datetime
from enum import Enum
from hashlib import sha256
from typing import Any

from directory.addresses import KepAddress
from evidence.forms.rem_xml import write as write_record
from evidence.model.records import EvidenceKind, EvidenceRecord, MessageFacts
from kephs.domain.lifecycle import DeliveryState, MessageState
from kephs.domain.mailboxes import FolderRole
from kephs.domain.messages import Delivery, Recipient, Role, StoredEvidence, Submission
from kephs.ports import Blob, Ending, Tx
from storage.fsck import check as fsck
from storage.fsck.check import Finding
from storage.memory.store import MemoryBlobStore, MemoryStore
from storage.rows.values import to_micros
from storage.unit_of_work import SqliteStore
from tests.support.evidence_samples import HS91
from tests.support.postgres import ThrowAwayStore
from tests.support.proofs import proof_over
from tests.support.stores import (
    T0,
    account,
    after,
    delivery,
    evidence,
    item,
    message,
    operator,
    password,
)

VELI, NOBODY = "veli.demir@hs91.kep.tr", "kimse@hs91.kep.tr"
_KEYS = {
    "accounts": ("account_id",),
    "operators": ("operator_id",),
    "messages": ("message_id",),
    "deliveries": ("delivery_id",),
    "evidence": ("evidence_id",),
    "transfers": ("transfer_id",),
    "ledger": ("seq",),
    "folders": ("folder_id",),
    "items": ("folder_id", "uid"),
}
_TO_ALL = (
    Recipient(KepAddress.parse(VELI), "Veli Demir", Role.TO),
    Recipient(KepAddress.parse(NOBODY), None, Role.CC),
)


def written(message_id: str = "m1", **changes: Any) -> Submission:
    """Return a message of Ayşe (a1) to Veli (a2) and to nobody."""
    values = {"recipients": _TO_ALL, "digest_sha256": sha256(message_id.encode()).digest()}
    return message(message_id, **{**values, **changes})


def to_veli(delivery_id: str, message_id: str) -> Delivery:
    """Return a pending delivery to Veli's account."""
    return replace(delivery(delivery_id, message_id, 1), address=VELI, account_id="a2")


def record_of(row: StoredEvidence, of: Submission) -> EvidenceRecord:
    """Return what a sound evidence says."""
    return EvidenceRecord(
        kind=row.kind,
        evidence_id=row.evidence_id,
        event_time=row.event_time,
        submission_time=of.submitted_at,
        issuer=HS91,
        sender=of.sender,
        recipients=of.parties,
        message=MessageFacts(of.subject, of.user_message_id, of.message_id, of.digest_sha256),
        refers_to=row.number,
        sender_authentication=of.authentication,
    )


class World:
    """A sound store: one message read, one delivery failed, one message refused, one pending."""

    def __init__(self, store: MemoryStore | SqliteStore | ThrowAwayStore) -> None:
        self.store = store
        self.blobs = MemoryBlobStore()
        self.rows: dict[str, Blob] = {}
        self.proofs: dict[str, bytes] = {}  # evidence records, by evidence id
        self.messages = {
            "m1": written("m1"),
            "m2": written("m2", state=MessageState.REFUSED),
            "m3": written("m3", next_at=T0),
        }

    async def build(self) -> "World":
        """Fill the store."""
        for name in ("m1", "m3", "dispatch"):
            self.rows[name] = await self.blobs.put(name.encode())
        of = {
            "e10": (EvidenceKind.SUBMISSION_ACCEPTANCE, "m1", None, T0),
            "e40": (EvidenceKind.DELIVERY, "m1", 1, after(1)),
            "e41": (EvidenceKind.NON_DELIVERY, "m1", 2, after(1)),
            "e60": (EvidenceKind.RETRIEVAL, "m1", 1, after(2)),
            "e11": (EvidenceKind.SUBMISSION_REJECTION, "m2", None, T0),
            "e10b": (EvidenceKind.SUBMISSION_ACCEPTANCE, "m3", None, T0),
        }
        made = [await self.sealed(name, *about) for name, about in of.items()]
        await self.store.write(lambda tx: self._fill(tx, made))
        return self

    def _fill(self, tx: Tx, made: list[StoredEvidence]) -> None:
        for number, address in ((1, "ayse.yilmaz@hs91.kep.tr"), (2, VELI)):
            tx.accounts.add(account(f"a{number}", address))
            tx.accounts.add_operator(operator(f"o{number}", f"a{number}"))
            tx.accounts.add_password(password("p1", f"a{number}", f"o{number}"))
            tx.mailboxes.create_standard(f"a{number}", 1)
        for row in self.rows.values():
            tx.blobs.add(row)
        for one in self.messages.values():
            tx.messages.add(one)
        tx.mailboxes.append(sent(tx), item(b"m1"))
        tx.messages.name_dispatches({"m1": self.rows["dispatch"].sha256})
        tx.deliveries.add(to_veli("d1", "m1"))
        tx.deliveries.add(replace(delivery("d2", "m1", 2), address=NOBODY, account_id=None))
        tx.deliveries.add(to_veli("d3", "m3"))
        tx.deliveries.add(replace(delivery("d4", "m3", 2), address=NOBODY, account_id=None))
        for row_ in made:
            tx.evidence.add(row_, self.proofs[row_.evidence_id])
        tx.deliveries.decide_all((Ending("d1", DeliveryState.DELIVERED, "e40", after(1)),))
        tx.deliveries.decide_all((Ending("d2", DeliveryState.FAILED, "e41", after(1)),))
        tx.mailboxes.append(inbox(tx), item(b"dispatch", delivery_id="d1", received_at=after(1)))
        tx.messages.set_states(("m1",), MessageState.COMPLETED)
        tx.deliveries.read("d1", "e60")

    async def sealed(
        self,
        evidence_id: str,
        kind: EvidenceKind,
        message_id: str,
        number: int | None = None,
        at: datetime = T0,
        xml: bytes | None = None,
    ) -> StoredEvidence:
        """Return the row of an evidence whose content is stored (its row too, at `plant` or `build`)."""
        of = self.messages[message_id]
        row = evidence(evidence_id, kind, message_id, number, event_time=at, account_id=of.account_id)
        content = write_record(record_of(row, of)) if xml is None else xml
        self.rows[evidence_id] = kept = await self.blobs.put(content)
        self.proofs[evidence_id] = proof_over(content)
        return replace(row, blob=kept.sha256)

    async def plant(self, *about: Any, **options: Any) -> None:
        """Add an evidence that the story does not have."""
        row = await self.sealed(*about, **options)

        def add(tx: Tx) -> None:
            tx.blobs.add(self.rows[row.evidence_id])
            tx.evidence.add(row, self.proofs[row.evidence_id])

        await self.store.write(add)

    async def check(self, **options: Any) -> list[Finding]:
        """Return all findings."""
        return await self.store.read(lambda tx: list(fsck.check(tx, self.blobs, **options)))

    async def found(self) -> set[tuple[str, str]]:
        """Return codes and subjects of all findings."""
        return {(f.code.value, f.subject) for f in await self.check()}

    # What no port does.

    def drop(self, table: str, *key: Any) -> None:
        """Take a row out."""
        if isinstance(self.store, MemoryStore):
            getattr(self.store._tables, table).drop(key if len(key) > 1 else key[0])
        else:
            self.sql(f"DELETE FROM {table} WHERE {_where(table)}", *key)

    def change(self, table: str, *key: Any, **columns: Any) -> None:
        """Change columns of a row; values are the domain's."""
        if isinstance(self.store, MemoryStore):
            rows = getattr(self.store._tables, table)
            place = key if len(key) > 1 else key[0]
            row = rows[place]
            if table == "items":
                rows.put(place, replace(row, item=replace(row.item, **columns)))
            else:
                names = {f.name for f in fields(row)}
                rows.put(place, replace(row, **{k: v for k, v in columns.items() if k in names}))
            return
        values = ", ".join(f"{name} = ?" for name in columns)
        raw = [_raw(value) for value in columns.values()]
        self.sql(f"UPDATE {table} SET {values} WHERE {_where(table)}", *raw, *key)

    def sql(self, statement: str, *values: Any) -> None:
        """Run SQL beside the store, foreign keys unchecked; exactly one row changes."""
        if isinstance(self.store, ThrowAwayStore):
            assert self.store.tamper(statement, values) == 1, statement
            return
        assert isinstance(self.store, SqliteStore)
        connection = sqlite3.connect(self.store._path)
        try:
            with connection:
                assert connection.execute(statement, values).rowcount == 1, statement
        finally:
            connection.close()


def _where(table: str) -> str:
    return " AND ".join(f"{name} = ?" for name in _KEYS[table])


def _raw(value: Any) -> Any:
    if isinstance(value, datetime):
        return to_micros(value)
    return value.value if isinstance(value, Enum) else value


def inbox(tx: Tx) -> int:
    """Return Veli's INBOX."""
    return tx.mailboxes.by_role("a2", FolderRole.INBOX).folder_id


def archive(tx: Tx) -> int:
    """Return Veli's Arşiv."""
    return tx.mailboxes.by_role("a2", FolderRole.ARCHIVE).folder_id


def sent(tx: Tx) -> int:
    """Return Ayşe's Giden."""
    return tx.mailboxes.by_role("a1", FolderRole.SENT).folder_id
