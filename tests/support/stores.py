"""Each implementation of the store and of the blob store, fresh, and rows to put into them."""

import hashlib
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from directory.accounts import (
    ALL_RIGHTS,
    Account,
    AccountKind,
    AccountState,
    AppPassword,
    Operator,
    ServiceType,
)
from directory.addresses import KepAddress
from evidence.model.records import Authentication, EvidenceKind, Party
from kephs.domain.lifecycle import DeliveryState, MessageState, TransferState
from kephs.domain.mailboxes import FolderRole, NewItem
from kephs.domain.messages import (
    Delivery,
    Recipient,
    Role,
    StoredEvidence,
    Submission,
    Transfer,
    TransferKind,
)
from kephs.ports import Blob, Tx
from storage.files.blobs import FileBlobStore
from storage.memory.store import MemoryBlobStore, MemoryStore
from storage.migrate import upgrade_sqlite
from storage.unit_of_work import SqliteStore
from tests.support.postgres import ThrowAwayStore

COLUMN_KEY = bytes(range(32))
MASTER_KEY = bytes(range(32, 64))
PEER = "hs92.kep.tr"
T0 = datetime(2026, 3, 2, 9, 30, 15, 123456, tzinfo=UTC)

BLOB_STORES = ("memory", "files")


def after(seconds: float) -> datetime:
    """Return a time so many seconds after the tests' first moment."""
    return T0 + timedelta(seconds=seconds)


def new_database(directory: Path, template: Path | None = None) -> Path:
    """Return a migrated database; copied from a template where one is at hand."""
    path = directory / "kephs.db"
    if template is None:
        upgrade_sqlite(path)
    else:
        shutil.copyfile(template, path)
    return path


# How to make an empty store of each kind, in a directory, from a migrated database where one is at hand.
AnyStore = MemoryStore | SqliteStore | ThrowAwayStore
MAKERS: dict[str, Callable[[Path, Path | None], AnyStore]] = {
    "memory": lambda _directory, _template: MemoryStore(),
    "sqlite": lambda directory, template: SqliteStore(
        new_database(directory, template), column_key=COLUMN_KEY
    ),
    "postgres": lambda _directory, _template: ThrowAwayStore(COLUMN_KEY),
}
STORES = ("memory", "sqlite", pytest.param("postgres", marks=pytest.mark.tools))


@asynccontextmanager
async def open_store(kind: str, directory: Path, template: Path | None = None) -> AsyncIterator[AnyStore]:
    """Open an empty store of one kind."""
    store = MAKERS[kind](directory, template)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def open_blobs(kind: str, directory: Path) -> AsyncIterator[MemoryBlobStore | FileBlobStore]:
    """Open an empty blob store of one kind."""
    store: MemoryBlobStore | FileBlobStore
    if kind == "memory":
        store = MemoryBlobStore()
    else:
        store = FileBlobStore(directory / "blobs", master_key=MASTER_KEY)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


def blob(content: bytes = b"content", place: str = "m:1") -> Blob:
    """Return a row naming content (which lies nowhere)."""
    return Blob(
        hashlib.sha256(content).digest(), hashlib.sha512(content).digest(), len(content), place, bytes(40)
    )


def account(account_id: str = "a1", address: str = "ayse.yilmaz@hs91.kep.tr", **changes: object) -> Account:
    """Return an active account."""
    values: dict[str, object] = {
        "account_id": account_id,
        "address": KepAddress.parse(address),
        "kind": AccountKind.REAL_PERSON,
        "service": ServiceType.SEND_AND_RECEIVE,
        "state": AccountState.ACTIVE,
        "holder_name": "Ayşe Yılmaz",
        "quota_bytes": 100 << 20,
        "used_bytes": 0,
        "opened_at": T0,
        "state_since": T0,
    }
    return Account(**{**values, **changes})  # type: ignore[arg-type]


def operator(operator_id: str = "o1", account_id: str = "a1") -> Operator:
    """Return an operator with all rights."""
    return Operator(
        operator_id,
        account_id,
        "Çiğdem Şahin",
        b"mac" * 10,
        ALL_RIGHTS,
        is_holder=True,
        valid_from=T0,
        valid_until=None,
    )


def password(password_id: str = "p1", account_id: str = "a1", operator_id: str = "o1") -> AppPassword:
    """Return an app password."""
    return AppPassword(password_id, account_id, operator_id, "Ayşe'nin telefonu", "$argon2id$x", T0)


def message(message_id: str = "m1", account_id: str = "a1", **changes: object) -> Submission:
    """Return an accepted message to two recipients."""
    values: dict[str, object] = {
        "message_id": message_id,
        "account_id": account_id,
        "operator_id": "o1",
        "state": MessageState.ACCEPTED,
        "user_message_id": f"<{message_id}@client>",
        "digest_sha256": hashlib.sha256(message_id.encode()).digest(),
        "digest_sha512": hashlib.sha512(message_id.encode()).digest(),
        "size": 1234,
        "subject": "İhtar: süre doldu",
        "sender": Party("ayse.yilmaz@hs91.kep.tr", "Ayşe Yılmaz"),
        "recipients": (
            Recipient(KepAddress.parse("veli.demir@hs91.kep.tr"), "Veli Demir", Role.TO),
            Recipient(KepAddress.parse("info@acme.hs92.kep.tr"), None, Role.CC),
        ),
        "authentication": Authentication(T0, "urn:oasis:names:tc:SAML:2.0:ac:classes:Password", "Çiğdem"),
        "submitted_at": T0,
        "material": None,
    }
    return Submission(**{**values, **changes})  # type: ignore[arg-type]


def delivery(delivery_id: str = "d1", message_id: str = "m1", number: int = 1) -> Delivery:
    """Return a pending delivery."""
    return Delivery(delivery_id, message_id, number, "veli.demir@hs91.kep.tr", "a1", DeliveryState.PENDING)


def elsewhere(delivery_id: str = "d2", message_id: str = "m1", number: int = 2) -> Delivery:
    """Return a pending delivery to a recipient of hs92."""
    return Delivery(
        delivery_id, message_id, number, "info@acme.hs92.kep.tr", None, DeliveryState.PENDING, peer=PEER
    )


def transfer(transfer_id: str = "t1", message_id: str = "m1", **changes: object) -> Transfer:
    """Return a dispatch that is queued and due."""
    values: dict[str, object] = {
        "transfer_id": transfer_id,
        "kind": TransferKind.DISPATCH,
        "message_id": message_id,
        "peer": PEER,
        "state": TransferState.QUEUED,
        "created_at": T0,
        "deadline": after(86400),
        "next_at": T0,
    }
    return Transfer(**{**values, **changes})  # type: ignore[arg-type]


def receipt(transfer_id: str = "t2", evidence_id: str = "e1", **changes: object) -> Transfer:
    """Return a receipt that is queued and due; its content is its id."""
    content = hashlib.sha256(transfer_id.encode()).digest()
    values: dict[str, object] = {"kind": TransferKind.RECEIPT, "evidence_id": evidence_id, "blob": content}
    return transfer(transfer_id, **{**values, **changes})


def evidence(
    evidence_id: str = "e1",
    kind: EvidenceKind = EvidenceKind.SUBMISSION_ACCEPTANCE,
    message_id: str = "m1",
    number: int | None = None,
    **changes: object,
) -> StoredEvidence:
    """Return an evidence whose content is its id."""
    values: dict[str, object] = {
        "evidence_id": evidence_id,
        "kind": kind,
        "message_id": message_id,
        "number": number,
        "account_id": "a1",
        "blob": hashlib.sha256(evidence_id.encode()).digest(),
        "event_time": T0,
    }
    return StoredEvidence(**{**values, **changes})  # type: ignore[arg-type]


def item(content: bytes = b"content", **changes: object) -> NewItem:
    """Return an item to file."""
    values: dict[str, object] = {
        "sha256": hashlib.sha256(content).digest(),
        "size": len(content),
        "received_at": T0,
    }
    return NewItem(**{**values, **changes})  # type: ignore[arg-type]


def with_account(tx: Tx) -> Any:
    tx.accounts.add(account())
    tx.accounts.add_operator(operator())
    tx.mailboxes.create_standard("a1", 7)
    tx.blobs.add(blob(b"content"))


def with_message(tx: Tx) -> None:
    with_account(tx)
    tx.messages.add(message())
    tx.deliveries.add(delivery())
    for name in ("e1", "e2", "e3"):
        tx.blobs.add(blob(name.encode()))


def inbox(tx: Tx) -> int:
    return tx.mailboxes.by_role("a1", FolderRole.INBOX).folder_id


def release(tx: Tx) -> list[Blob]:
    return tx.blobs.release_unused(100)


def modseq_now(tx: Tx) -> int:
    folder = tx.mailboxes.folder("a1", "INBOX")
    assert folder is not None
    return folder.modseq
