"""Holds and destroyed content changed beneath the ports are found; accounts closed before are emptied too."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kephs.domain.erasure import ContentPart, Destroyed, PendingErasure
from kephs.domain.legal_hold import HoldKind, new_hold
from kephs.ports import Tx
from storage.fsck.scope import Scope
from storage.fsck.trust import check_trust
from storage.memory.store import MemoryBlobStore
from storage.migrate import sqlite_engine, upgrade
from storage.unit_of_work import SqliteStore
from tests.contract.test_store_holds_contract import filled
from tests.support.stores import COLUMN_KEY, T0, after, new_database


def sql(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


async def found(path: Path) -> set[str]:
    store = SqliteStore(path, column_key=COLUMN_KEY)
    await store.start()

    def run(tx: Any) -> set[str]:
        scope = Scope(tx, MemoryBlobStore(), lambda _what, _count: None, deep=False)
        return {f"{one.code.value} {one.subject}" for one in check_trust(scope)}

    try:
        return await store.read(run)
    finally:
        await store.close()


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    made = new_database(tmp_path)
    store = SqliteStore(made, column_key=COLUMN_KEY)
    await store.start()

    def work(tx: Tx) -> None:
        filled(tx)
        tx.holds.add(new_hold(HoldKind.MESSAGE, "m1", "Ayşe Savcı", after(1), "2026/12 esas"))
        tx.audit.add(
            at=after(1), actor="Ayşe Savcı", action="hold.set", subject="m1", detail="hold 1: 2026/12 esas"
        )
        entry = tx.audit.add(at=T0, actor="kephs", action="content.destroyed", subject="m1", detail="x")
        tx.erasures.add_destroyed(Destroyed("m1", ContentPart.ORIGINAL, b"\0" * 32, T0, entry.number))

    await store.write(work)
    await store.close()
    return made


async def test_a_sound_store_has_no_findings(path: Path) -> None:
    assert await found(path) == set()


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("UPDATE legal_holds SET state = 'lifted', lifted_at = set_at", {"row.unreadable legal_holds:1"}),
        ("UPDATE legal_holds SET message_id = NULL, account_id = 'a1'", {"row.unreadable legal_holds:1"}),
        ("DELETE FROM legal_holds", {"hold.missing 1"}),
        ("DELETE FROM blobs WHERE sha256 = (SELECT dispatch FROM messages)", {"hold.content_gone 1"}),
        ("DELETE FROM destroyed_contents", {"erasure.unrecorded 2"}),
        ("UPDATE destroyed_contents SET number = 1", {"erasure.unrecorded 1", "erasure.unrecorded 2"}),
        ("UPDATE destroyed_contents SET part = 'soul'", {"row.unreadable destroyed_contents:2"}),
    ],
    ids=["lifted", "moved", "deleted", "blob", "forgotten", "renumbered", "part"],
)  # fmt: skip
async def test_what_was_changed_by_sql_is_found(path: Path, statement: str, expected: set[str]) -> None:
    sql(path, "PRAGMA foreign_keys=OFF", statement)
    assert await found(path) == expected


async def test_accounts_closed_before_there_was_a_list_are_emptied(tmp_path: Path) -> None:
    path = tmp_path / "kephs.db"
    engine = sqlite_engine(path)
    try:
        upgrade(engine, "0005")
        for number, state in enumerate(("active", "closed"), 1):
            sql(
                path,
                "INSERT INTO accounts (account_id, address, provider, kind, service, state, personal, quota_bytes,"
                " used_bytes, opened_at, state_since, seals_allowed) VALUES"
                f" ('a{number}', 'a{number}@hs91.kep.tr', 'hs91.kep.tr', 'real_person', 'send_and_receive',"
                f" '{state}', x'00', 1, 0, 1, {number}, 0)",
            )  # fmt: skip
        upgrade(engine)
    finally:
        engine.dispose()
    store = SqliteStore(path, column_key=COLUMN_KEY)
    await store.start()
    pending = await store.read(lambda tx: tx.erasures.pending())
    await store.close()
    assert pending == PendingErasure("a2", pending.closed_at, "")
    assert pending.closed_at < T0 - timedelta(days=365)
