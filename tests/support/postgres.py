"""A throw-away PostgreSQL server: Debian's programs, data in a temporary folder, nothing synced."""

import asyncio
import atexit
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from storage.migrate import upgrade_postgres
from storage.postgres.link import Link, connect
from storage.postgres.store import PostgresStore
from storage.rows.tables import metadata

USER = "kephs"
TEMPLATE = "kephs_template"
_NEVER = threading.Event()
Fault = Callable[[Link, Callable[[], Any]], Any]
_CONF = """
listen_addresses = ''
unix_socket_directories = '{folder}'
fsync = off
full_page_writes = off
synchronous_commit = on
max_connections = 200
shared_buffers = 64MB
deadlock_timeout = 200ms
log_min_messages = fatal
"""
_EMPTY = "; ".join(
    (
        "SET session_replication_role = replica",  # in any order
        *(f"DELETE FROM {name}" for name in metadata.tables),
        "SELECT setval(oid::regclass, 1, false) FROM pg_class WHERE relkind = 'S'",
    )
)


def programs() -> Path:
    """Return the folder of the newest installed server."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    if not found:
        pytest.fail("no PostgreSQL server: apt-get install postgresql", pytrace=False)
    return found[-1].parent


class PostgresServer:
    """A running server; databases are made of a migrated template."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kephs-pg-"))  # short: socket paths end at 107 bytes
        self._data = self.folder / "data"
        self._bin = programs()
        self._as_user = ["setpriv"]
        if os.geteuid() == 0:  # initdb refuses root
            owner = _other_user()
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
            self._as_user += [f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
        self.folder.chmod(0o755)
        self._run(
            "initdb", "-D", self._data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync",
            "--no-instructions",
        )  # fmt: skip
        hba = self._data / "pg_hba.conf"
        hba.write_text("local all locked scram-sha-256\nlocal all all trust\n")
        conf = self.folder / "kephs.conf"
        conf.write_text(_CONF.format(folder=self.folder))
        conf.chmod(0o644)
        self._migrated = False
        self._idle: list[str] = []
        self.start()

    def _run(self, program: str, *arguments: object) -> None:
        done = subprocess.run(
            [*self._as_user, str(self._bin / program), *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=100, check=False,
            cwd="/",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout.decode(errors="replace")

    def start(self) -> None:
        """Start the server; returns when it takes connections. It ends with us, however we end."""
        options = ["-D", str(self._data), "-c", f"config_file={self.folder}/kephs.conf"]
        self._process = subprocess.Popen(
            [*self._as_user, "--pdeathsig=INT", str(self._bin / "postgres"), *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            try:
                self.sql("SELECT 1")
            except psycopg.OperationalError:
                assert self._process.poll() is None, "PostgreSQL ended at once"
                assert time.monotonic() < deadline, "PostgreSQL does not take connections"
                _NEVER.wait(0.02)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop it: SIGQUIT is like a crash, SIGINT cuts every connection and shuts down in order."""
        self._process.send_signal(how)
        self._process.wait(60)

    def close(self) -> None:
        """Stop it and forget everything."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str, **more: str) -> str:
        """Return the URL of a database."""
        given = "".join(f"&{key}={value}" for key, value in more.items())
        return f"postgresql://{USER}@/{database}?host={self.folder}{given}"

    @contextmanager
    def admin(self) -> Iterator[Link]:
        """Connect to the server itself."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as link:
            yield link

    def sql(self, text: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run one statement as the server's owner."""
        with self.admin() as link:
            cursor = link.execute(text, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def empty(self, **options: str) -> str:
        """Make an empty database and return its URL."""
        name = f"t{secrets.token_hex(6)}"
        text = " ".join(f"{key} {value}" for key, value in options.items())
        self.sql(f"CREATE DATABASE {name} {text}")
        return self.url(name)

    def fresh(self) -> str:
        """Make a migrated database and return its URL."""
        if not self._migrated:
            self.sql(f"CREATE DATABASE {TEMPLATE}")
            upgrade_postgres(self.url(TEMPLATE))
            self._migrated = True
        return self.empty(TEMPLATE=TEMPLATE)

    def drop(self, url: str) -> None:
        """Drop a database, whoever is connected."""
        name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
        with self.admin() as link:
            link.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(str(name))))

    def lend(self) -> str:
        """Return the URL of a migrated, empty database that nobody else uses: ten times faster than `fresh`."""
        return self._idle.pop() if self._idle else self.fresh()

    def take_back(self, url: str) -> None:
        """Empty a database that was lent."""
        with psycopg.connect(url) as link:
            link.execute(_EMPTY)
        self._idle.append(url)

    def backends(self, url: str) -> list[int]:
        """Return the server processes of a database's connections."""
        name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
        query = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"
        return [row[0] for row in self.sql(query, name)]

    def cut(self, url: str) -> None:
        """End every connection of a database."""
        name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", name)


def _other_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    pytest.fail("root may not run PostgreSQL, and there is no user postgres or nobody", pytrace=False)


class ThrowAwayStore(PostgresStore):
    """A store on an empty database of its own, which others get, empty again, once it is closed."""

    def __init__(self, column_key: bytes) -> None:
        self.url = running().lend()
        super().__init__(self.url, column_key=column_key)

    async def close(self) -> None:
        """Close, and give the database back."""
        await super().close()
        url, self.url = self.url, ""
        if url:
            await asyncio.get_running_loop().run_in_executor(None, running().take_back, url)

    def tamper(self, statement: str, values: Sequence[object]) -> int:
        """Run SQL beside the store, foreign keys unchecked; `?` stands for values. Return rows changed."""
        with psycopg.connect(self.url) as link:
            link.execute("SET session_replication_role = replica")
            return link.execute(statement.replace("?", "%s"), values).rowcount


class FaultyConnector:
    """Makes connections that do what ``plan`` says before a statement that begins with a given word.

    ``plan[word]`` is a list of functions of the connection and of how the statement would run; the first
    takes the next statement, and so on. Each may raise, run it, or both.
    """

    def __init__(self) -> None:
        self.plan: dict[str, list[Fault]] = {}
        self.made = 0
        self.refusing = False

    def __call__(self, url: str) -> Link:
        if self.refusing:
            raise psycopg.OperationalError("connection refused")
        link = connect(url)
        self.made += 1
        plain = link.execute

        def execute(statement: Any, *arguments: Any, **options: Any) -> Any:
            word = str(statement).replace("; ", " ").split(maxsplit=1)[0]
            faults = self.plan.get(word)
            if faults:
                return faults.pop(0)(link, lambda: plain(statement, *arguments, **options))
            return plain(statement, *arguments, **options)

        setattr(link, "execute", execute)  # noqa: B010
        return link


def fails_with(error: Exception) -> Fault:
    """Return a fault: the statement does not run, ``error`` comes."""

    def fault(_link: Link, _run: Callable[[], Any]) -> Any:
        raise error

    return fault


def lost_before(link: Link, _run: Callable[[], Any]) -> Any:
    """Be a fault: the connection dies before the statement arrives."""
    link.close()
    raise psycopg.OperationalError("server closed the connection unexpectedly")


def lost_after(link: Link, run: Callable[[], Any]) -> Any:
    """Be a fault: the statement runs, its answer never comes."""
    run()
    return lost_before(link, run)


_servers: list[PostgresServer] = []


def running() -> PostgresServer:
    """Return this process's server, started at first need and stopped at the end."""
    if not _servers:
        _servers.append(PostgresServer())
        atexit.register(_servers[0].close)
    return _servers[0]
