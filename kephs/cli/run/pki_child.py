"""The TEST PKI beside a server: a child process that is started first, watched, and started again."""

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from config.settings import SettingsError

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
log = structlog.get_logger()


@asynccontextmanager
async def pki_beside(directory: Path, settle: Callable[[int], None]) -> AsyncIterator[None]:
    """Run the TEST PKI of an instance inside the block; it stops when we die.

    A child that dies is started again after a pause, which doubles up to 30 seconds while that fails:
    meanwhile nothing is sealed, and clients are told to try again.

    Args:
        directory: the instance's.
        settle: told the number of each child's process; puts it on its processors.

    Raises:
        SettingsError: it does not start.
    """
    child = await _start(directory, settle)
    async with asyncio.TaskGroup() as group:
        keeper = group.create_task(_keep(child, directory, settle), name="TEST PKI")
        try:
            yield
        finally:
            keeper.cancel()


async def _keep(child: Process, directory: Path, settle: Callable[[int], None]) -> None:
    while True:
        try:
            status = await child.wait()
        finally:
            await _stop(child)
        log.error("test_pki.died", status=status)
        child = await _start_again(directory, settle)
        log.info("test_pki.restarted")


async def _start_again(directory: Path, settle: Callable[[int], None]) -> Process:
    pause = _FIRST_PAUSE
    while True:
        await asyncio.sleep(pause)
        try:
            return await _start(directory, settle)
        except (SettingsError, OSError) as error:
            log.error("test_pki.not_restarted", reason=str(error))  # noqa: TRY400  # no trace: the text says it all
        pause = min(2 * pause, _LONGEST_PAUSE)


async def _start(directory: Path, settle: Callable[[int], None]) -> Process:
    """Start a child and wait until it answers."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", "from kephs.cli.main import main; main()",
        "test-pki", str(directory), "--with-parent",
        stdin=PIPE, stdout=PIPE, start_new_session=True,
    )  # fmt: skip
    settle(child.pid)
    assert child.stdout is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            ready = await child.stdout.readline()
    except TimeoutError:
        ready = b""
    except asyncio.CancelledError:
        await _stop(child)
        raise
    if ready != b"ready\n":
        await _stop(child)
        raise SettingsError("the TEST PKI did not start; it says why above")
    return child


async def _stop(child: Process) -> None:
    """Close the child's lifeline and wait for its end; where it hangs, end it."""
    assert child.stdin is not None
    child.stdin.close()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await child.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()
