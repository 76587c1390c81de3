"""Work on a database without a store: on disk when it returns, nothing of it where it fails."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.at_once import sqlite_at_once
from storage.crypto import KeyMismatchError
from storage.errors import SchemaError
from storage.postgres.at_once import postgres_at_once
from tests.support.postgres import running
from tests.support.stores import COLUMN_KEY, T0, account, new_database

AtOnce = Callable[..., Any]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.tools)])
def at_once(request: pytest.FixtureRequest, tmp_path: Path, template: Path) -> Iterator[AtOnce]:
    if request.param == "sqlite":
        path = new_database(tmp_path, template)
        yield lambda work, *, key=COLUMN_KEY, **more: sqlite_at_once(path, work, column_key=key, **more)
        return
    url = running().lend()
    yield lambda work, *, key=COLUMN_KEY, **more: postgres_at_once(url, work, column_key=key, **more)
    running().take_back(url)


def add(tx: Any) -> None:
    tx.accounts.add(account())
    tx.audit.add(at=T0, actor="kephs init", action="trust.imported", subject="x")


def test_what_was_written_is_there_for_the_next(at_once: AtOnce) -> None:
    at_once(add, write=True)
    assert at_once(lambda tx: tx.accounts.get("a1")) == account()
    assert at_once(lambda tx: tx.audit.head()).number == 1


def test_work_that_fails_leaves_nothing(at_once: AtOnce) -> None:
    def fails(tx: Any) -> None:
        add(tx)
        raise LookupError

    with pytest.raises(LookupError):
        at_once(fails, write=True)
    assert at_once(lambda tx: (tx.accounts.get("a1"), tx.audit.head())) == (None, None)


def test_what_is_only_to_read_leaves_nothing_either(at_once: AtOnce) -> None:
    with pytest.raises(Exception, match=r"read-only|readonly"):
        at_once(add)
    assert at_once(lambda tx: tx.accounts.get("a1")) is None


def test_another_key_opens_nothing(at_once: AtOnce) -> None:
    at_once(add, write=True)
    with pytest.raises(KeyMismatchError):
        at_once(lambda tx: tx.audit.head(), key=bytes(32))


def test_without_a_database_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(SchemaError):
        sqlite_at_once(tmp_path / "kephs.db", add, column_key=COLUMN_KEY, write=True)
    assert list(tmp_path.iterdir()) == []
