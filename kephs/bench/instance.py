"""A real instance with TEST certificates for a benchmark: made in a folder of its own, run as a child."""

import asyncio
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from config import settings as config_settings
from config.settings import Settings
from directory.accounts import AccountKind, ServiceType
from kephs.bench.figures import BenchError
from kephs.bench.letters import Holder
from kephs.bench.wire import SERVER_NAME, Login, Place
from kephs.bootstrap.core import Core, open_core
from kephs.cli.instance import make_instance
from kephs.cli.people.account import new_app_password
from kephs.instances.schema import make_database
from kephs.testpki.authority import TestPki
from kephs.testpki.profiles import make_tckn
from kephs.usecases.people.accounts import Opening

DOMAIN: Final = "hs91.kep.tr"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0
_QUIET_LOOK: Final = 0.2  # seconds
_QUIET_LOOKS: Final = 50
_QUIET_SHARE: Final = 0.1  # of one processor
_QUOTA: Final = 1 << 40  # a benchmark fills a mailbox quickly
_CODE: Final = "from kephs.cli.main import main; main()"


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance that is ready to run, and its people."""

    home: Path
    settings: Settings
    people: tuple[Holder, ...]

    @property
    def submission(self) -> Place:
        """Return where it takes submissions."""
        return Place(self.settings.network.submission_port, self.home / "tls-ca.pem")

    @property
    def inbound(self) -> Place:
        """Return where it takes other providers' messages."""
        return Place(self.settings.network.inbound_port, self.home / "tls-ca.pem")

    @property
    def imap(self) -> Place:
        """Return where it serves IMAP."""
        return Place(self.settings.network.imap_port, self.home / "tls-ca.pem")

    @property
    def tls_files(self) -> tuple[Path, Path]:
        """Return certificate with chain, and key: the peers are given the same."""
        return self.settings.network.tls_certificate, self.settings.network.tls_key


async def make(
    home: Path, people: int, clock: Callable[[], datetime], values: dict[str, Any] | None = None
) -> Instance:
    """Make an instance with so many accounts, each with a qualified TEST certificate.

    Args:
        home: a folder that does not exist.
        people: how many.
        clock: the time.
        values: settings of its own, by section.
    """
    settings = await asyncio.to_thread(_make, home, clock, values)
    pki = TestPki.load(settings.test_pki.directory)
    async with open_core(settings) as core:
        holders = [await _open(core, pki, number) for number in range(people)]
    return Instance(home, settings, tuple(holders))


def login_of(holder: Holder) -> Login:
    """Return how a holder signs in to SMTP and IMAP."""
    return Login(holder.address, holder.password)


def _make(home: Path, clock: Callable[[], datetime], values: dict[str, Any] | None) -> Settings:
    make_instance(home, DOMAIN, now=clock(), test_pki=True, values=values)
    settings = config_settings.load(home)
    make_database(settings, clock())
    return settings


async def _open(core: Core, pki: TestPki, number: int) -> Holder:
    address, name, tckn = f"olcum{number}@{DOMAIN}", f"TEST Ölçüm {number}", make_tckn(1000 + number)
    await core.accounts.open(Opening(
        address, AccountKind.REAL_PERSON, ServiceType.SEND_AND_RECEIVE, name, name, tckn, _QUOTA
    ))  # fmt: skip
    password = new_app_password()
    await core.accounts.add_password(address, password, label="bench")
    return Holder(address, password, pki.issue_user(name, tckn), name, tckn)


class Server:
    """A running `kephs serve` child."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status = Path(f"/proc/{pid}/status")
        self._reset = Path(f"/proc/{pid}/clear_refs")

    def rss_mb(self) -> float:
        """Return its resident size now, MB."""
        return self._field("VmRSS:")

    def peak_rss_mb(self) -> float:
        """Return its largest resident size, MB, since the start or `forget_peak`."""
        return self._field("VmHWM:")

    def forget_peak(self) -> None:
        """Begin the peak anew (spec: proc(5), clear_refs 5)."""
        self._reset.write_text("5", encoding="ascii")

    def cpu_seconds(self) -> float:
        """Return the processor time its threads have used (spec: proc(5), stat 14 and 15)."""
        text = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8", errors="replace")
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def quiet(self) -> None:
        """Wait until it does next to nothing, a while at most: what is left over must not hit the other."""
        before = self.cpu_seconds()
        for _ in range(_QUIET_LOOKS):
            await asyncio.sleep(_QUIET_LOOK)
            now = self.cpu_seconds()
            if now - before <= _QUIET_SHARE * _QUIET_LOOK:
                return
            before = now

    def _field(self, name: str) -> float:
        for line in self._status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024 / 1e6
        raise BenchError("the server's memory cannot be read")


@asynccontextmanager
async def serving(instance: Instance, roles: Sequence[str]) -> AsyncIterator[Server]:
    """Run `kephs serve` with these roles; go on when its ports answer; stop it on leaving.

    Raises:
        BenchError: it did not come up; the last lines of its log are in the text.
    """
    log_path = instance.home / "run" / "serve.log"
    with log_path.open("ab") as log:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-c", _CODE, "serve", str(instance.home), "--roles", ",".join(roles),
            stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,  # Ctrl-C is for us: the child is stopped in order below
        )  # fmt: skip
    try:
        wanted = {"smtp": instance.submission, "inbound": instance.inbound, "imap": instance.imap}
        for role in roles:
            if role in wanted:
                gone = lambda: child.returncode is not None  # noqa: E731  # asked while we wait
                await until_up(wanted[role], gone, log_path, secure=role != "inbound")
        yield Server(child.pid)
    finally:
        await stop(child)


async def stop(child: asyncio.subprocess.Process) -> None:
    """Ask a child to stop, make it stop after a while, and wait for it, also while being cancelled."""
    if child.returncode is None:
        child.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await child.wait()
    except (TimeoutError, asyncio.CancelledError):
        if child.returncode is None:
            child.kill()
        await child.wait()
        raise


async def until_up(place: Place, gone: Callable[[], bool], log: Path, *, secure: bool = True) -> None:
    """Wait until a port takes connections: TLS ones, or in clear those where TLS begins later.

    Raises:
        BenchError: the process is gone, or it took too long.
    """
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await _answers(place, secure=secure):
                if gone():
                    raise BenchError(f"a server did not start: {_tail(log)}")
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise BenchError(f"a server did not come up: {_tail(log)}") from None


async def _answers(place: Place, *, secure: bool) -> bool:
    try:
        _, writer = await asyncio.open_connection(
            place.host, place.port,
            ssl=place.tls() if secure else None, server_hostname=SERVER_NAME if secure else None,
        )  # fmt: skip
    except (OSError, ssl.SSLError):
        return False
    writer.close()
    return True


def _tail(log: Path) -> str:
    try:
        return " | ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:])
    except OSError:
        return f"see {log}"
