"""The signer beside a server: a child process that holds the key, watched, and started again when it dies.

Parent and child are joined by a pair of Unix sockets; the child's end is its standard input. It is the
child's lifeline too: the child ends when the parent's end is closed, however that happens. The first octets
on it are the trusted certificates (`kephs.trust.wire`); when those change, another child takes the first
one's place.
"""

import asyncio
import contextlib
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from config.settings import SettingsError
from evidence.ports import SignerUnavailableError
from evidence.x509.chain import TrustStore
from kephs.own_processor import stay
from kephs.signer.client import RemoteSealer
from kephs.signer.link import FrameLink
from kephs.trust.wire import pack_trust

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
_PROGRAM: Final = "from kephs.cli.run.signer import command; command(prog_name='kephs signer')"
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Child:
    process: Process
    link: FrameLink


@dataclass(frozen=True, slots=True)
class _Site:
    """What every start needs."""

    directory: Path
    trusted: Callable[[], TrustStore]
    sealer: RemoteSealer
    renewed: asyncio.Event
    settle: Callable[[int], None]


@asynccontextmanager
async def signer_beside(
    directory: Path,
    trusted: Callable[[], TrustStore],
    *,
    renewed: asyncio.Event | None = None,
    first_pause: float = FIRST_PAUSE,
    settle: Callable[[int], None] = stay,
) -> AsyncIterator[RemoteSealer]:
    """Run the signer of an instance inside the block and give out its client.

    A child that dies, or says nothing for too long, is replaced after a pause, which doubles up to 30 seconds
    while that fails: meanwhile nothing is sealed, and clients are told to try again.

    Args:
        directory: the instance's.
        trusted: returns whom it is to believe; asked before each start.
        renewed: set when that changed; the signer is replaced then: what it was asked it answers, and who
            comes afterwards waits. Who comes just as it leaves is told to try again, as when it dies.
        first_pause: seconds before the first try.
        settle: told the number of each child's process; puts it on its processors.

    Raises:
        SettingsError: it does not start; it said why on standard error.
    """
    sealer = RemoteSealer()
    site = _Site(directory, trusted, sealer, renewed or asyncio.Event(), settle)
    child = await _start(site)
    try:
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(_keep(child, site, first_pause), name="signer")
            try:
                yield sealer
            finally:
                keeper.cancel()
    finally:
        sealer.close()


async def _keep(child: _Child, site: _Site, first_pause: float) -> None:
    while True:
        try:
            asked = await _ended(child, site.renewed)
        finally:
            await _stop(child.process, child.link)
        if not asked:
            log.error("signer.died", status=child.process.returncode, reason=child.link.reason)
        child = await _start_again(site, 0.0 if asked else first_pause, first_pause)
        log.info("signer.restarted", pid=child.process.pid)


async def _ended(child: _Child, renewed: asyncio.Event) -> bool:
    """Wait for the child's end; say whether we asked for it, because it is to believe others."""
    async with asyncio.TaskGroup() as group:
        ends = [group.create_task(event.wait()) for event in (child.link.lost, renewed)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in ends:
            task.cancel()
    if child.link.lost.is_set():
        return False
    with contextlib.suppress(ProcessLookupError):
        child.process.terminate()  # it answers what it was asked, then leaves
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_SECONDS):
            await child.link.lost.wait()
    return True


async def _start_again(site: _Site, pause: float, first_pause: float) -> _Child:
    while True:
        await asyncio.sleep(pause)
        site.renewed.clear()
        try:
            return await _start(site)
        except (SettingsError, OSError) as error:
            log.error("signer.not_restarted", reason=str(error))  # noqa: TRY400  # no trace: the text says it all
        pause = min(max(2 * pause, first_pause), LONGEST_PAUSE)


async def _start(site: _Site) -> _Child:
    """Start a child and wait until it is ready."""
    loop, packed = asyncio.get_running_loop(), pack_trust(site.trusted())
    ours, theirs = socket.socketpair()
    ours.setblocking(False)  # noqa: FBT003  # socket has no keyword
    with contextlib.closing(theirs), contextlib.ExitStack() as stack:
        stack.callback(ours.close)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-c", _PROGRAM, str(site.directory), "--with-parent",
            stdin=theirs.fileno(), start_new_session=True,
        )  # fmt: skip
        stack.pop_all()
    site.settle(process.pid)
    try:
        async with asyncio.timeout(START_SECONDS):
            await loop.sock_sendall(ours, packed)
            return _Child(process, await site.sealer.attach(ours))
    except (TimeoutError, SignerUnavailableError, ConnectionError) as error:
        await _stop(process, None)
        raise SettingsError(f"the signer did not start; it says why above ({error})") from None
    except BaseException:
        await _stop(process, None)
        raise


async def _stop(process: Process, link: FrameLink | None) -> None:
    """Close the child's lifeline and wait for its end; where it hangs, end it."""
    if link is not None:
        link.close()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        pass
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
