"""Every store keeps the process record as a chain, and the databases refuse to change it."""

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from kephs.domain.audit import GENESIS, first_break
from storage.unit_of_work import SqliteStore
from tests.support.postgres import ThrowAwayStore
from tests.support.stores import COLUMN_KEY, T0, after, new_database, open_store


def fill(tx: Any, count: int = 3) -> list[Any]:
    return [
        tx.audit.add(
            at=after(n), actor="Çiğdem Şahin", action="trust.imported", subject=f"kök {n}", detail="İ" * n
        )
        for n in range(count)
    ]


async def test_entries_are_numbered_from_one_and_chained(store: Any) -> None:
    made = await store.write(fill)
    kept = await store.read(lambda tx: list(tx.audit.page(0, 10)))
    assert kept == made
    assert [entry.number for entry in kept] == [1, 2, 3]
    assert [entry.previous for entry in kept] == [GENESIS, kept[0].digest, kept[1].digest]
    assert first_break(kept) is None
    assert (kept[0].actor, kept[2].detail, kept[1].at) == ("Çiğdem Şahin", "İİ", after(1))


async def test_pages_begin_behind_a_number(store: Any) -> None:
    await store.write(fill)

    def pages(tx: Any) -> list[list[int]]:
        return [[e.number for e in tx.audit.page(*args)] for args in ((0, 2), (2, 2), (3, 2))]

    assert await store.read(pages) == [[1, 2], [3], []]


async def test_the_head_is_the_newest_entry(store: Any) -> None:
    assert await store.read(lambda tx: tx.audit.head()) is None
    made = await store.write(fill)
    assert await store.read(lambda tx: tx.audit.head()) == made[-1]


async def test_work_that_fails_leaves_no_entry(store: Any) -> None:
    await store.write(fill)

    def fails(tx: Any) -> None:
        fill(tx)
        raise LookupError

    with pytest.raises(LookupError):
        await store.write(fails)
    (entry,) = await store.write(lambda tx: fill(tx, 1))
    assert entry.number == 4
    assert first_break(await store.read(lambda tx: list(tx.audit.page(0, 10)))) is None


@pytest.mark.parametrize(
    "fields",
    [{"actor": " "}, {"action": "no dotted name"}, {"detail": "x" * 4001}, {"subject": "\ud800"}],
    ids=["nobody", "action", "long", "surrogate"],
)
async def test_an_entry_that_could_not_be_read_back_is_refused(store: Any, fields: dict[str, str]) -> None:
    plain = {"at": T0, "actor": "a", "action": "b.c", "subject": "s"}
    with pytest.raises(ValueError, match=r"."):
        await store.write(lambda tx: tx.audit.add(**(plain | fields)))
    assert await store.read(lambda tx: tx.audit.head()) is None


ATTACKS = (
    "UPDATE audit SET at = at + 1 WHERE number = 2",
    "DELETE FROM audit WHERE number = 3",
    "DELETE FROM audit",
)
REPLACE = "INSERT OR REPLACE INTO audit SELECT 2, at, personal, previous, digest FROM audit WHERE number = 1"


@pytest.mark.parametrize("attack", [*ATTACKS, REPLACE], ids=["update", "delete-one", "delete-all", "replace"])
async def test_sqlite_refuses_to_change_the_record(tmp_path: Path, template: Path, attack: str) -> None:
    path = new_database(tmp_path, template)
    store = SqliteStore(path, column_key=COLUMN_KEY)
    await store.start()
    made = await store.write(fill)
    connection = sqlite3.connect(path)
    try:
        with pytest.raises(sqlite3.IntegrityError, match="never changed"):
            connection.execute(attack)
        connection.rollback()
    finally:
        connection.close()
    assert await store.read(lambda tx: list(tx.audit.page(0, 10))) == made
    await store.close()


@pytest.mark.tools
@pytest.mark.parametrize(
    "attack", [*ATTACKS, "TRUNCATE audit"], ids=["update", "delete-one", "delete-all", "truncate"]
)
async def test_postgresql_refuses_to_change_the_record(attack: str, tmp_path: Path) -> None:
    async with open_store("postgres", tmp_path) as store:
        assert isinstance(store, ThrowAwayStore)
        made = await store.write(fill)
        with psycopg.connect(store.url) as link, pytest.raises(psycopg.IntegrityError, match="never changed"):
            link.execute(attack)
        assert await store.read(lambda tx: list(tx.audit.page(0, 10))) == made


async def test_an_altered_entry_breaks_the_chain_where_it_stands(store: Any) -> None:
    made = await store.write(lambda tx: fill(tx, 5))
    for altered in (
        replace(made[2], actor="Veli Demir"),
        replace(made[2], at=after(9)),
        replace(made[2], detail=""),
        replace(made[2], previous=bytes(32)),
    ):
        broken = first_break([*made[:2], altered, *made[3:]])
        assert broken is not None
        assert broken.number == 3
    gap = first_break([*made[:2], *made[3:]])
    assert gap is not None
    assert "missing" in gap.cause
