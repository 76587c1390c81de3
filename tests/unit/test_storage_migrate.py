"""Migrations give exactly the schema that the tables describe."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from evidence.ledger.chain import GENESIS, entry_hash
from evidence.model.records import EvidenceKind
from kephs.domain.lifecycle import DeliveryState, MessageState
from kephs.ports import Tx
from storage.crypto import Vault
from storage.errors import SchemaError
from storage.migrate import current, head, sqlite_engine, upgrade, upgrade_sqlite
from storage.revision import HEAD, check_current
from storage.rows.mailboxes import Filed
from storage.rows.messages import _place, _to_json
from storage.rows.tables import metadata
from storage.rows.values import seal_json, to_micros
from storage.unit_of_work import SqliteStore
from tests.support.stores import COLUMN_KEY, T0, account, after, blob, delivery, evidence, message


def schema(path: Path) -> dict[str, list[str]]:
    """Return what each name stands for; constraints in any order."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    # A table that was renamed stands there with its name in quotes.
    return {
        name: _parts(" ".join(sql.replace(f'"{name}"', name).split()))
        for name, sql in rows
        if name != "alembic_version"
    }


def _parts(sql: str) -> list[str]:
    body = sql.removesuffix(" WITHOUT ROWID")
    return [str(body == sql), *sorted(part.strip(" ,)") for part in body.split("CONSTRAINT"))]


def test_the_migrations_give_the_tables_as_described(tmp_path: Path) -> None:
    migrated, created = tmp_path / "migrated.db", tmp_path / "created.db"
    upgrade_sqlite(migrated)
    engine = sqlite_engine(created)
    with engine.begin() as connection:
        metadata.create_all(connection)
    engine.dispose()
    assert schema(migrated) == schema(created)
    engine = sqlite_engine(migrated)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_upgrading_twice_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "kephs.db"
    upgrade_sqlite(path)
    before = schema(path)
    upgrade_sqlite(path)
    assert schema(path) == before
    check_current(path)


def test_the_revision_is_known_before_and_after(tmp_path: Path) -> None:
    engine = sqlite_engine(tmp_path / "kephs.db")
    assert current(engine) is None
    upgrade(engine)
    assert current(engine) == head() == HEAD
    engine.dispose()


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "kephs.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE removed_items (in_the_way)")
    connection.commit()
    connection.close()
    with pytest.raises(Exception, match="removed_items already exists"):
        upgrade_sqlite(path)
    assert set(schema(path)) == {"removed_items"}
    with pytest.raises(SchemaError, match="kephs migrate"):
        check_current(path)


def test_the_tables_can_be_written_for_postgresql() -> None:
    dialect: Any = postgresql.dialect()  # type: ignore[no-untyped-call]
    for table in metadata.sorted_tables:
        assert str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            assert str(CreateIndex(index).compile(dialect=dialect))


# From the first revision, with rows in it.

MESSAGE = message(dispatch=b"d" * 32, material=b"m" * 32, next_at=after(4), attempts=3)
FIRST: dict[str, list[dict[str, object]]] = {
    "blobs": [
        {"sha256": b.sha256, "sha512": b.sha512, "size": b.size, "place": b.place, "data_key": b.key}
        for b in (blob(b"content"), blob(b"e1"))
    ],
    "ledger": [
        {
            "seq": 1,
            "evidence_id": "e1",
            "digest": blob(b"e1").sha256,
            "at": to_micros(T0),
            "previous": GENESIS,
            "hash": entry_hash(1, GENESIS, "e1", blob(b"e1").sha256, T0),
        }
    ],
    "folders": [
        {
            "folder_id": number,
            "account_id": "a1",
            "name": name,
            "role": role,
            "uid_validity": 7,
            "uid_next": 4,
            "modseq": 5,
            "messages": 1,
            "unseen": 1,
        }
        for number, name, role in ((3, "INBOX", "inbox"), (8, "Giden", "sent"))
    ],
    "deliveries": [
        {
            "delivery_id": "d1",
            "message_id": "m1",
            "number": 1,
            "address": delivery().address,
            "account_id": "a1",
            "state": "delivered",
            "decided_at": to_micros(T0),
            "evidence_id": "e1",
            "read_evidence_id": None,
        }
    ],
    "evidence": [
        {
            "evidence_id": "e1",
            "message_id": "m1",
            "kind": 40,
            "number": 1,
            "account_id": "a1",
            "blob": blob(b"e1").sha256,
            "event_time": to_micros(T0),
            "receipt_due": to_micros(after(5)),
            "attempts": 2,
        }
    ],
    "items": [
        {
            "folder_id": 3,
            "uid": 3,
            "sha256": blob(b"content").sha256,
            "size": 7,
            "received_at": to_micros(T0),
            "flags": "",
            "modseq": 5,
            "delivery_id": "d1",
            "counts": True,
        }
    ],
    "removed_items": [
        {"folder_id": 3, "uid": 1, "modseq": 4, "delivery_id": "d1"},
        {"folder_id": 3, "uid": 2, "modseq": 4, "delivery_id": None},
    ],
}


def fill_first(path: Path) -> None:
    """Make a database of revision 0001 with a row of every kind that 0002 touches."""
    engine = sqlite_engine(path)
    upgrade(engine, "0001")
    tables = sa.MetaData()
    tables.reflect(engine)  # the frozen migration's own tables, not this program's
    vault = Vault(COLUMN_KEY)
    accounts = {
        "account_id": "a1",
        "address": "ayse.yilmaz@hs91.kep.tr",
        "provider": "hs91.kep.tr",
        "kind": account().kind.value,
        "service": account().service.value,
        "state": "active",
        "personal": vault.seal(account().holder_name.encode(), "accounts:a1"),
        "quota_bytes": account().quota_bytes,
        "used_bytes": 7,
        "opened_at": to_micros(T0),
        "state_since": to_micros(T0),
    }
    messages = {
        "message_id": "m1",
        "account_id": "a1",
        "operator_id": "o1",
        "state": "accepted",
        "user_message_id": MESSAGE.user_message_id,
        "digest_sha256": MESSAGE.digest_sha256,
        "digest_sha512": MESSAGE.digest_sha512,
        "size": MESSAGE.size,
        "personal": seal_json(vault, _to_json(MESSAGE), _place("m1")),
        "submitted_at": to_micros(T0),
        "material": b"m" * 32,
        "dispatch": b"d" * 32,
        "next_at": to_micros(after(4)),
        "attempts": 3,
    }
    with engine.begin() as connection:
        for name, rows in {"accounts": [accounts], "messages": [messages], **FIRST}.items():
            connection.execute(sa.insert(tables.tables[name]), rows)
    engine.dispose()


async def test_a_filled_database_of_the_first_revision_keeps_every_row(tmp_path: Path) -> None:
    path = tmp_path / "kephs.db"
    fill_first(path)
    with pytest.raises(SchemaError, match="0001"):
        check_current(path)
    upgrade_sqlite(path)

    def look(tx: Any) -> dict[str, Any]:
        return {
            "message": tx.messages.get("m1"),
            "delivery": tx.deliveries.get("d1"),
            "evidence": list(tx.evidence.all()),
            "ledger": [entry.evidence_id for entry in tx.evidence.ledger(0, 9)],
            "inbox": tx.mailboxes.folder("a1", "INBOX"),
            "items": [(s.uid, s.delivery_id, s.gated) for s in tx.mailboxes.summaries(3)],
            "expunged": tx.mailboxes.expunged_since(3, 0),
            "filed": tx.mailboxes.filed("d1"),
        }

    def use(tx: Tx) -> tuple[int, int]:
        folder = tx.mailboxes.create("a1", "Yeni", 1)
        (claimed,) = tx.messages.claim(after(9), 5, after(60), "p")
        assert claimed.message_id == "m1"
        return folder.folder_id, folder.uid_validity

    store = SqliteStore(path, column_key=COLUMN_KEY)
    await store.start()
    found = await store.read(look)
    assert found.pop("message") == MESSAGE
    assert MESSAGE.state is MessageState.ACCEPTED
    assert (found["delivery"].state, found["delivery"].peer) == (DeliveryState.DELIVERED, None)
    row = evidence("e1", EvidenceKind.DELIVERY, number=1, receipt_due=after(5), attempts=2)
    assert found["evidence"] == [row]
    assert found["ledger"] == ["e1"]
    assert (found["inbox"].subscribed, found["inbox"].uid_next, found["inbox"].modseq) == (True, 4, 5)
    assert found["items"] == [(3, "d1", True)]
    assert found["expunged"] == [1, 2]
    assert found["filed"] == Filed(inbox=1, elsewhere=0, removed=1, inbox_times=1)
    assert await store.write(use) == (9, 8)  # above every id and UIDVALIDITY there was
    await store.close()


def test_an_upgraded_database_has_the_same_schema_as_a_new_one(tmp_path: Path) -> None:
    fill_first(tmp_path / "old.db")
    upgrade_sqlite(tmp_path / "old.db")
    upgrade_sqlite(tmp_path / "new.db")
    assert schema(tmp_path / "old.db") == schema(tmp_path / "new.db")


def test_a_database_with_dangling_rows_is_not_upgraded(tmp_path: Path) -> None:
    path = tmp_path / "kephs.db"
    fill_first(path)
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM accounts")
    connection.commit()
    connection.close()
    with pytest.raises(Exception, match=r"rows of folders, messages") as caught:
        upgrade_sqlite(path)
    assert type(caught.value).__name__ == "DanglingReferencesError"
    with pytest.raises(SchemaError, match="0001"):
        check_current(path)
