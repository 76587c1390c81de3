"""The signer beside a server: a child process that holds the key, watched, and started again when it dies.

Parent and child are joined by a pair of Unix sockets; the child's end is its standard input. It is the
child's lifeline too: the child ends when the parent's end is closed, however that happens.
"""

import asyncio
import contextlib
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from config.settings import SettingsError
from evidence.ports import SignerUnavailableError
from kephs.signer.client import RemoteSealer
from kephs.signer.link import FrameLink

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
_PROGRAM: Final = "from kephs.cli.signer import command; command(prog_name='kephs signer')"
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Child:
    process: Process
    link: FrameLink


@asynccontextmanager
async def signer_beside(directory: Path, *, first_pause: float = FIRST_PAUSE) -> AsyncIterator[RemoteSealer]:
    """Run the signer of an instance inside the block and give out its client.

    A child that dies, or says nothing for too long, is replaced after a pause, which doubles up to 30 seconds
    while that fails: meanwhile nothing is sealed, and clients are told to try again.

    Args:
        directory: the instance's.
        first_pause: seconds before the first try.

    Raises:
        SettingsError: it does not start; it said why on standard error.
    """
    sealer = RemoteSealer()
    child = await _start(directory, sealer)
    try:
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(_keep(child, directory, sealer, first_pause), name="signer")
            try:
                yield sealer
            finally:
                keeper.cancel()
    finally:
        sealer.close()


async def _keep(child: _Child, directory: Path, sealer: RemoteSealer, first_pause: float) -> None:
    while True:
        try:
            await child.link.lost.wait()
        finally:
            await _stop(child.process, child.link)
        log.error("signer.died", status=child.process.returncode, reason=child.link.reason)
        child = await _start_again(directory, sealer, first_pause)
        log.info("signer.restarted", pid=child.process.pid)


async def _start_again(directory: Path, sealer: RemoteSealer, pause: float) -> _Child:
    while True:
        await asyncio.sleep(pause)
        try:
            return await _start(directory, sealer)
        except (SettingsError, OSError) as error:
            log.error("signer.not_restarted", reason=str(error))  # noqa: TRY400  # no trace: the text says it all
        pause = min(2 * pause, LONGEST_PAUSE)


async def _start(directory: Path, sealer: RemoteSealer) -> _Child:
    """Start a child and wait until it is ready."""
    ours, theirs = socket.socketpair()
    with contextlib.closing(theirs), contextlib.ExitStack() as stack:
        stack.callback(ours.close)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-c", _PROGRAM, str(directory), "--with-parent",
            stdin=theirs.fileno(), start_new_session=True,
        )  # fmt: skip
        stack.pop_all()
    try:
        async with asyncio.timeout(START_SECONDS):
            return _Child(process, await sealer.attach(ours))
    except (TimeoutError, SignerUnavailableError) as error:
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
