"""The schema on PostgreSQL, and what is said of databases that cannot be used."""

import asyncio
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from click.testing import CliRunner, Result

from config.settings import load
from kephs.cli.main import main
from storage.errors import SchemaError
from storage.migrate import current, head, postgres_engine, upgrade_postgres
from storage.postgres.errors import DatabaseRefusedError, DatabaseUrlError
from storage.postgres.link import conninfo, shown
from storage.postgres.schema import (
    check_current_postgres,
    check_new,
    in_use_postgres,
    opens_content_postgres,
    unsafe_settings,
)
from storage.postgres.store import PostgresStore
from storage.rows.tables import metadata
from tests.support.postgres import running
from tests.support.stores import COLUMN_KEY, with_account

pytestmark = pytest.mark.tools


@pytest.fixture
def url() -> Iterator[str]:
    made = running().empty()
    yield made
    running().drop(made)


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as link:
        rows = link.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return {row[0] for row in rows}


def test_the_migrations_give_the_tables_as_described(url: str) -> None:
    upgrade_postgres(url)
    engine = postgres_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    assert current(engine) == head()
    engine.dispose()
    check_current_postgres(url)
    upgrade_postgres(url)
    assert tables(url) == {*metadata.tables, "alembic_version"}


def test_text_is_ordered_by_bytes_whatever_the_databases_locale_is(url: str) -> None:
    upgrade_postgres(url)
    query = """
        SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attcollation <> 0
        AND c.relname <> 'alembic_version' AND a.attcollation <> '"C"'::regcollation
    """
    with psycopg.connect(url) as link:
        assert link.execute(query).fetchall() == []


def test_a_migration_that_fails_leaves_nothing(url: str) -> None:
    with psycopg.connect(url) as link:
        link.execute("CREATE TABLE removed_items (in_the_way int)")
    with pytest.raises(Exception, match="removed_items"):
        upgrade_postgres(url)
    assert tables(url) == {"removed_items"}
    with pytest.raises(SchemaError, match="kephs migrate"):
        check_current_postgres(url)


async def test_nothing_is_migrated_while_somebody_works_on_the_database(url: str) -> None:
    upgrade_postgres(url)
    store = PostgresStore(url, column_key=COLUMN_KEY)
    await store.start()
    with pytest.raises(DatabaseRefusedError) as refused:
        await asyncio.to_thread(upgrade_postgres, url)
    assert refused.value.code == "database-served"
    await store.close()
    await asyncio.to_thread(upgrade_postgres, url)


async def test_a_store_refuses_a_database_of_another_revision(url: str) -> None:
    with pytest.raises(SchemaError, match="revision none"):
        await PostgresStore(url, column_key=COLUMN_KEY).start()
    upgrade_postgres(url)
    with psycopg.connect(url) as link:
        link.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaError, match="revision 9999"):
        await PostgresStore(url, column_key=COLUMN_KEY).start()
    with pytest.raises(SchemaError, match="not known"):
        upgrade_postgres(url)


async def test_a_database_with_accounts_or_content_is_in_use(url: str) -> None:
    upgrade_postgres(url)
    assert not in_use_postgres(url)
    assert opens_content_postgres(url, bytes(32))
    store = PostgresStore(url, column_key=COLUMN_KEY)
    await store.start()
    await store.write(with_account)
    await store.close()
    assert in_use_postgres(url)
    assert not opens_content_postgres(url, bytes(32))


def test_settings_of_the_server_that_lose_commits_are_named(url: str) -> None:
    assert unsafe_settings(url) == ["fsync = off", "full_page_writes = off"]


# Databases that cannot be used.


def code_of(url: str) -> str:
    with pytest.raises(DatabaseRefusedError) as refused:
        check_new(url)
    assert refused.value.cure
    assert "geheim" not in str(refused.value)
    return refused.value.code


def test_an_empty_database_is_fit(url: str) -> None:
    check_new(url)


def test_no_server_no_database_no_user_and_a_wrong_password_are_told_apart(url: str) -> None:
    server = running()
    assert code_of("postgresql://kephs:geheim@127.0.0.1:1/kephs") == "database-unreachable"
    assert code_of("postgresql://kephs@/kephs?host=/nonexistent") == "database-unreachable"
    assert code_of("postgresql://kephs:geheim@127.0.0.1:port:x/kephs") == "database-unreachable"
    assert code_of(server.url("no_such_database")) == "database-missing"
    assert code_of(server.url("postgres").replace("kephs@", "nobody_here@")) == "database-role"
    server.sql("DROP ROLE IF EXISTS locked")
    server.sql("CREATE ROLE locked LOGIN PASSWORD 'right'")
    locked = server.url("postgres").replace("kephs@", "locked:geheim@")
    assert code_of(locked) == "database-password"
    assert code_of(locked.replace(":geheim", "")) == "database-password"
    check_new(url)


def test_a_database_that_holds_something_is_left_alone(url: str) -> None:
    with psycopg.connect(url) as link:
        link.execute("CREATE TABLE theirs (id int)")
    assert code_of(url) == "database-not-empty"
    with psycopg.connect(url) as link:
        link.execute("DROP TABLE theirs")
    upgrade_postgres(url)
    assert code_of(url) == "database-in-use"


def test_a_database_that_cannot_hold_turkish_is_refused() -> None:
    made = running().empty(TEMPLATE="template0", ENCODING="'LATIN1'")
    assert code_of(made) == "database-encoding"
    running().drop(made)


def test_a_user_who_may_not_make_tables_is_told_so() -> None:
    server = running()
    server.sql("DROP ROLE IF EXISTS guest")
    server.sql("CREATE ROLE guest LOGIN")
    made = server.empty()
    assert code_of(made.replace("kephs@", "guest@")) == "database-denied"
    server.drop(made)


@pytest.mark.parametrize("text", ["host = 'geheim", "postgresql://[geheim/kephs", "geheim"])
def test_a_text_that_is_no_url_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(DatabaseUrlError) as refused:
        conninfo(text)
    assert "geheim" not in str(refused.value)
    assert "geheim" not in shown(text)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://kephs:geheim@db.example:5433/mail", "kephs@db.example:5433/mail"),
        ("postgresql://kephs@/mail?host=/run/pg&password=geheim", "kephs@/run/pg/mail"),
        ("host=db user=kephs password=geheim dbname=mail", "kephs@db/mail"),
        ("postgresql:///mail", "local socket/mail"),
    ],
)
def test_what_is_shown_of_a_url_never_holds_the_password(url: str, expected: str) -> None:
    assert shown(url) == expected


# The commands.


def kephs(*arguments: object) -> Result:
    result = CliRunner().invoke(main, list(map(str, arguments)), prog_name="kephs")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_init_makes_a_cluster_instance_and_migrate_works_on_it(url: str, tmp_path: Path) -> None:
    home = tmp_path / "hs91"
    secret = url.replace("kephs@", "kephs:geheim@")
    made = kephs(
        "init", home, "--domain", "hs91.kep.tr", "--profile", "cluster", "--database-url", secret, "--json"
    )
    assert made.exit_code == 0, made.output
    assert "geheim" not in made.output
    assert json.loads(made.stdout)["profile"] == "cluster"
    assert (home / "kephs.toml").stat().st_mode & 0o777 == 0o600
    assert tomllib.loads((home / "kephs.toml").read_text())["storage"]["database_url"] == secret
    assert load(home).storage.database_url == secret
    assert not (home / "data" / "kephs.db").exists()
    again = kephs("migrate", home, "--json")
    assert json.loads(again.stdout) == {
        "before": head(), "after": head(), "head": head(), "changed": False,
        "roots": {"active": 0, "proposed": 0},
    }  # fmt: skip
    assert kephs("migrate", home, "--note-keys").exit_code == 0
    running().cut(url)


@pytest.mark.parametrize("arguments", [["--profile", "cluster"], ["--database-url", "postgresql:///x"]])
def test_the_cluster_profile_and_its_url_go_together(tmp_path: Path, arguments: list[str]) -> None:
    result = kephs("init", tmp_path / "hs91", "--domain", "hs91.kep.tr", *arguments)
    assert result.exit_code != 0
    assert "go together" in result.output
    assert not (tmp_path / "hs91").exists()


def test_init_that_cannot_use_the_database_makes_nothing(tmp_path: Path) -> None:
    home = tmp_path / "hs91"
    url = "postgresql://kephs:geheim@127.0.0.1:1/kephs"
    result = kephs("init", home, "--domain", "hs91.kep.tr", "--profile", "cluster", "--database-url", url)
    assert result.exit_code == 1
    assert "kephs@127.0.0.1:1/kephs: the database server cannot be reached" in result.output
    assert "geheim" not in result.output
    assert not home.exists()


def test_migrate_says_what_is_wrong_with_the_server(url: str, tmp_path: Path) -> None:
    home = tmp_path / "hs91"
    kephs("init", home, "--domain", "hs91.kep.tr", "--profile", "cluster", "--database-url", url)
    path = home / "kephs.toml"
    path.write_text(path.read_text().replace(str(running().folder), "/nonexistent"))
    result = kephs("migrate", home, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["code"] == "database-unreachable"
