"""Real servers that are made to die: an instance, its people, its TEST PKI, and the process in between.

The TEST PKI runs as a process of its own and outlives every kill, so that a restart is that of the server
alone. Servers are forks of a warm process (`tests/faults/warm.py`) or, where asked, the installed command.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from config import settings as config_settings
from directory.accounts import AccountKind, ServiceType
from kephs.bootstrap.core import Core, open_core
from kephs.cli.instance import Ports, make_instance
from kephs.cli.people.account import new_app_password
from kephs.instances.schema import make_database
from kephs.testpki.authority import TestPki
from kephs.testpki.issued import Issued
from kephs.testpki.profiles import make_tckn
from kephs.usecases.people.accounts import Opening

DOMAIN = "hs91.kep.tr"
PATIENCE = 60.0  # seconds that anything may take before the test gives up
ROLES = ("smtp", "imap", "worker")
ALL_ROLES = ("smtp", "inbound", "imap", "worker")
_WARM = Path(__file__).parents[1] / "faults" / "warm.py"
_KEPHS = Path(sys.executable).parent / "kephs"
_LOOK_AGAIN = 0.01


@dataclass(frozen=True)
class Holder:
    """Somebody with an account, an app password and a qualified TEST certificate."""

    address: str
    password: str
    issued: Issued


class Warm:
    """The warm process. Its answers come at once, except to `wait`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_WARM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._answer() == "ready"

    def run(self, argv: Iterable[str], log: Path, **env: str) -> int:
        """Start a command and return its pid."""
        return int(self._ask({"argv": list(argv), "env": env, "log": str(log)}))

    def wait(self, pid: int) -> int:
        """Return the exit code of a command; waits for its end."""
        return int(self._ask({"wait": pid}))

    def programs(self) -> dict[int, list[str]]:
        """Return what servers have started and still runs: the arguments by pid."""
        return {int(pid): arguments for pid, arguments in json.loads(self._ask({"programs": True})).items()}

    def close(self) -> None:
        """End it and all its children."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process.stdout.close()

    def _ask(self, request: dict[str, Any]) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the warm process is gone"
        return line.strip()


class Server:
    """One life of `kephs serve`: from its start to its death."""

    def __init__(self, pid: int, reap: Callable[[int], int]) -> None:
        self.pid = pid
        self.died = asyncio.Event()
        self.exit_code: int | None = None
        self._reap = reap
        self._descriptor = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._descriptor, self._on_death)

    def _on_death(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        self.exit_code = self._reap(self.pid)
        self.died.set()

    def strike(self) -> None:
        """Kill it at this very moment."""
        if not self.died.is_set():
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    async def kill(self) -> None:
        """Kill it and wait until it is gone."""
        self.strike()
        await self.dead()

    async def dead(self, seconds: float = PATIENCE) -> int | None:
        """Wait for its death; return how it ended."""
        async with asyncio.timeout(seconds):
            await self.died.wait()
        return self.exit_code

    async def lives_for(self, seconds: float) -> bool:
        """Let it live for a while; False where it dies before."""
        with contextlib.suppress(TimeoutError):
            await self.dead(seconds)
        return not self.died.is_set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()


class Provider:
    """An instance on disk, whatever server runs on it.

    Args:
        folder: a new folder for it and its logs.
        names: of the people who get accounts.
        domain: the provider's.
        beside: another provider whose TEST PKI and warm process this one uses.
        values: settings of its own, by section.
        roles: what its servers do, unless a start says otherwise.
    """

    def __init__(
        self,
        folder: Path,
        names: Iterable[str],
        *,
        domain: str = DOMAIN,
        beside: "Provider | None" = None,
        values: dict[str, Any] | None = None,
        roles: tuple[str, ...] = ROLES,
    ) -> None:
        folder.mkdir(parents=True)
        self.domain, self.roles = domain, roles
        self.home = folder / domain.partition(".")[0]
        self.log = folder / "serve.log"
        made = make_instance(
            self.home, domain, now=now(), test_pki=True, values=values,
            ports=Ports(*(quiet_port() for _ in range(4))), pki_of=beside.pki_folder if beside else None,
        )  # fmt: skip
        make_database(made, now())
        self.pki_folder: Path = beside.pki_folder if beside else _pki_apart(folder / "pki", self.home)
        self.pki = TestPki.load(config_settings.load(self.pki_folder).test_pki.directory)
        self.settings = config_settings.load(self.home)
        first = int(domain[2:4]) * 1000
        numbers = {name: make_tckn(first + n) for n, name in enumerate(names)}
        self.people = asyncio.run(self._open_all(self.pki, numbers))
        self._owns_warm = beside is None
        self.warm: Warm = beside.warm if beside else Warm()
        if beside:
            return
        try:
            self._pki = self.warm.run(["test-pki", str(self.pki_folder)], folder / "test-pki.log")
            _answers_by(made.test_pki.port)
        except BaseException:
            self.warm.close()
            raise

    async def _open_all(self, pki: TestPki, numbers: dict[str, str]) -> dict[str, Holder]:
        async with open_core(self.settings) as core:
            return {
                name: await _open(core, pki, f"{name}@{self.domain}", tckn) for name, tckn in numbers.items()
            }

    @property
    def addresses(self) -> frozenset[str]:
        """The addresses that have an account."""
        return frozenset(holder.address for holder in self.people.values())

    def close(self) -> None:
        """End every process of it (and of those beside it)."""
        if self._owns_warm:
            self.warm.close()

    def configure(self, section: str, **values: object) -> None:
        """Change settings; servers that start later have them."""
        given = tomllib.loads((self.home / config_settings.FILE_NAME).read_text("utf-8"))
        given.setdefault(section, {}).update(values)
        config_settings.save(self.home, given)
        self.settings = config_settings.load(self.home)

    def adopt_pki(self) -> None:
        """Let its servers run the TEST PKI themselves from now on, as those of users do."""
        os.kill(self._pki, signal.SIGKILL)
        self.warm.wait(self._pki)
        self.configure("test_pki", port=config_settings.load(self.pki_folder).test_pki.port)

    # --- the server ---------------------------------------------------------------------------

    async def start(
        self, failpoint: str = "", *, roles: Iterable[str] = (), cold: bool = False, wait: bool = True
    ) -> Server:
        """Start a server, by default wait until its ports answer (or it is dead)."""
        roles = tuple(roles) or self.roles
        argv = ["serve", str(self.home), "--roles", ",".join(roles)]
        env = {config_settings.FAILPOINT_VARIABLE: failpoint}
        server = self._start_cold(argv, env) if cold else self._start_warm(argv, env)
        if wait:
            network = self.settings.network
            ports = {
                "smtp": network.submission_port,
                "inbound": network.inbound_port,
                "imap": network.imap_port,
            }
            for role in roles:
                if role in ports:
                    await _until_answers(ports[role], server)
        return server

    def _start_warm(self, argv: list[str], env: dict[str, str]) -> Server:
        return Server(self.warm.run(argv, self.log, **env), self.warm.wait)

    def _start_cold(self, argv: list[str], env: dict[str, str]) -> Server:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [_KEPHS, *argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | env
            )
        return Server(process.pid, lambda _pid: process.wait(PATIENCE))

    async def fsck(self, *, deep: bool = False) -> str:
        """Run `kephs fsck`; return what it complained about, empty where all is well."""
        log = self.home.parent / "fsck.log"
        log.unlink(missing_ok=True)
        checking = Server(
            self.warm.run(["fsck", str(self.home), *(["--deep"] if deep else [])], log), self.warm.wait
        )
        code = await checking.dead()
        return "" if code == 0 else f"fsck ended with {code}: {log.read_text('utf-8')[-4000:]}"

    # --- what is on disk ----------------------------------------------------------------------

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Look into the database, beside a server or without one."""
        place = f"file:{self.settings.storage.database}?mode=ro"
        with contextlib.closing(sqlite3.connect(place, uri=True, timeout=10)) as connection:
            return connection.execute(query, parameters).fetchall()

    def work_due(self) -> int:
        """Return how many messages and receipts wait for a worker, and how many transfers for a peer."""
        ((count,),) = self.rows(
            "SELECT (SELECT count(*) FROM messages WHERE next_at IS NOT NULL)"
            " + (SELECT count(*) FROM evidence WHERE receipt_due IS NOT NULL)"
            " + (SELECT count(*) FROM transfers WHERE state NOT IN ('done', 'failed'))"
        )
        return int(count)

    def let_leases_run_out(self) -> int:
        """Let the minutes pass after which the work of a dead worker is due again; only without a server."""
        place, at = self.settings.storage.database, int(time.time() * 1_000_000)
        with contextlib.closing(sqlite3.connect(place, timeout=10)) as connection, connection:
            messages = connection.execute("UPDATE messages SET next_at = ?1 WHERE next_at > ?1", (at,))
            receipts = connection.execute(
                "UPDATE evidence SET receipt_due = ?1 WHERE receipt_due > ?1", (at,)
            )
            return messages.rowcount + receipts.rowcount

    def temporary_files(self) -> list[Path]:
        """Return the spool files that lie about."""
        return list((self.settings.storage.blobs / "temp").iterdir())

    def tls(self) -> ssl.SSLContext:
        """Return a client's TLS context."""
        return ssl.create_default_context(cafile=str(self.home / "tls-ca.pem"))


def now() -> datetime:
    return datetime.now(UTC)


def quiet_port() -> int:
    """Return a free port that no outgoing connection gets while its server is dead."""
    choice = random.Random()  # parallel runs must differ
    while True:
        port = choice.randint(15_000, 32_000)  # below what the kernel hands out
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


async def until(look: Any, what: str, seconds: float = PATIENCE, again: float = _LOOK_AGAIN) -> Any:
    """Look again and again until there is something; fail at the deadline."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"in vain: {what}"
        await asyncio.sleep(again)
    return found


async def _until_answers(port: int, server: Server) -> None:
    deadline = time.monotonic() + PATIENCE
    while not server.died.is_set():
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            assert time.monotonic() < deadline, f"nobody answers at port {port}"
            await asyncio.sleep(_LOOK_AGAIN)
        else:
            writer.close()
            return


def _answers_by(port: int) -> None:
    async def wait() -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(OSError):
                    (await asyncio.open_connection("127.0.0.1", port))[1].close()
                    return
                await asyncio.sleep(_LOOK_AGAIN)

    asyncio.run(wait())


async def _open(core: Core, pki: TestPki, address: str, tckn: str) -> Holder:
    password, called = new_app_password(), address.partition("@")[0].title()
    await core.accounts.open(
        Opening(
            address, AccountKind.REAL_PERSON, ServiceType.SEND_AND_RECEIVE, called, called, tckn,
            quota_bytes=1 << 40,
        )
    )  # fmt: skip
    await core.accounts.add_password(address, password, label="test")
    return Holder(address, password, pki.issue_user(called, tckn))


def _pki_apart(folder: Path, home: Path) -> Path:
    """Give the TEST PKI settings of its own; the instance's settings say that somebody else runs it."""
    folder.mkdir()
    path = home / config_settings.FILE_NAME
    values = tomllib.loads(path.read_text("utf-8"))
    apart = values | {"test_pki": values["test_pki"] | {"directory": str(home / "test-pki")}}
    config_settings.save(folder, apart)
    config_settings.save(home, values | {"test_pki": {"enabled": True, "port": 0}})
    return folder
