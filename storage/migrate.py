"""The schema's revisions: bring a database to the newest. `storage.revision` refuses to run on any other."""

import sqlite3
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from storage.errors import SchemaError

_SCRIPTS: Final = Path(__file__).parent / "migrations"


def sqlite_engine(path: Path) -> Engine:
    """Return an engine for one SQLite file, for migrations only."""
    engine = create_engine(URL.create("sqlite", database=str(path)), poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver would begin late and leave DDL outside
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def head() -> str:
    """Return the newest revision that this program knows."""
    revision = ScriptDirectory(str(_SCRIPTS)).get_current_head()
    if revision is None:
        raise SchemaError("the program carries no migrations")
    return revision


def current(engine: Engine) -> str | None:
    """Return a database's revision; None where it has none."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring a database to a revision, in one transaction where the dialect can."""
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def upgrade_sqlite(path: Path) -> None:
    """Create or upgrade a SQLite database."""
    engine = sqlite_engine(path)
    try:
        upgrade(engine)
    finally:
        engine.dispose()
