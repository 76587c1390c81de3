"""Migrations give exactly the schema that the tables describe."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from storage.errors import SchemaError
from storage.migrate import current, head, sqlite_engine, upgrade, upgrade_sqlite
from storage.revision import HEAD, check_current
from storage.tables import metadata


def schema(path: Path) -> dict[str, list[str]]:
    """Return what each name stands for; constraints in any order."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return {name: _parts(" ".join(sql.split())) for name, sql in rows if name != "alembic_version"}


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
