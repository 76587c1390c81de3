"""The demo's server processes: real `kephs serve` children."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from kephs.cli.demo.clients import DemoError, Endpoint
from kephs.cli.demo.people import Stage

START_SECONDS: Final = 60.0


def submission_of(stage: Stage) -> Endpoint:
    """Return where a provider takes submissions."""
    network = stage.settings.network
    return Endpoint(network.host, network.submission_port, stage.home / "tls-ca.pem")


def imap_of(stage: Stage) -> Endpoint:
    """Return where a provider serves IMAP."""
    network = stage.settings.network
    return Endpoint(network.host, network.imap_port, stage.home / "tls-ca.pem")


@asynccontextmanager
async def running(stage: Stage) -> AsyncIterator[None]:
    """Run `kephs serve` of an instance; go on when all its ports answer; stop it on leaving.

    Raises:
        DemoError: it did not come up; its log is named.
    """
    home, endpoints = stage.home, (submission_of(stage), imap_of(stage))
    log_path = home / "run" / "serve.log"
    with log_path.open("ab") as log:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-c", "from kephs.cli.main import main; main()", "serve", str(home),
            stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        await _until_up(child, log_path, endpoints)
        yield
    finally:
        if child.returncode is None:
            child.send_signal(signal.SIGTERM)
        await child.wait()


async def _until_up(
    child: asyncio.subprocess.Process, log_path: Path, endpoints: tuple[Endpoint, ...]
) -> None:
    try:
        async with asyncio.timeout(START_SECONDS):
            for endpoint in endpoints:
                while not await _answers(endpoint):
                    if child.returncode is not None:
                        raise DemoError(f"the server stopped: {_last_line(log_path)} (all of it: {log_path})")
                    await asyncio.sleep(0.05)
    except TimeoutError:
        raise DemoError(f"the server did not come up within {START_SECONDS:.0f} s: see {log_path}") from None


def _last_line(log_path: Path) -> str:
    lines = log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:500] if lines else "it said nothing"


async def _answers(endpoint: Endpoint) -> bool:
    try:
        _, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=endpoint.tls())
    except OSError:
        return False
    writer.close()
    return True
