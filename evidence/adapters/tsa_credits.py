"""Counts the time stamps that are paid for, in a small file that outlives the process."""

import asyncio
import fcntl
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import structlog

from evidence.adapters.tsa_identity import TsaEndpoint
from evidence.stamps.token_budget import (
    Counter,
    CreditFileError,
    CreditLine,
    CreditState,
    Spending,
    added,
    decode_counts,
    encode_counts,
)

_log = structlog.get_logger(__name__)


class CreditFile:
    """Counts the tokens that authorities gave, in a small file that outlives the process.

    Give `spent` to a `HttpTimestamper`. The file is read once and written after every few tokens, in a
    thread, and at `close`; a busy server writes it once a second, since each time the disk is waited for. A
    crash forgets ``every - 1`` tokens at most, or those of the last second. Several processes may count in
    one file: each adds what it spent, under a lock. Nothing that goes wrong here holds up a stamp; it is
    logged.

    Args:
        path: the file; it need not exist yet, its folder must.
        endpoints: the authorities, with the credits bought.
        every: after how many tokens the file is written.
        apart: seconds between two times at least.
    """

    def __init__(
        self, path: Path, endpoints: Sequence[str | TsaEndpoint], *, every: int = 20, apart: float = 1.0
    ) -> None:
        self._path = path
        self._every = every
        self._apart = apart
        self._due = every
        self._counter = Counter(_bought(endpoints), _read_counts(path))
        self._writing: asyncio.Future[dict[str, Spending]] | None = None
        self._planned: asyncio.TimerHandle | None = None
        self._earliest = 0.0  # in the loop's time
        for line in self._counter.report():
            _tell(line)

    def report(self) -> tuple[CreditLine, ...]:
        """Return what there is to tell about every authority."""
        return self._counter.report()

    def spent(self, endpoint: str, at: datetime) -> None:
        """Count a token; warn where 20 %, 5 % or nothing is left. Never raises, never waits."""
        line = self._counter.spend(endpoint, at)
        if line is not None:
            _tell(line)
        if self._writing is None and self._planned is None and self._counter.pending_tokens >= self._due:
            loop = asyncio.get_running_loop()
            if loop.time() >= self._earliest:
                self._start_writing()
            else:
                self._planned = loop.call_at(self._earliest, self._start_writing)

    async def close(self) -> None:
        """Write down what is not yet written."""
        if self._writing is not None:
            await asyncio.wait((self._writing,))
        if self._counter.pending:
            self._start_writing()
            if self._writing is not None:
                await asyncio.wait((self._writing,))

    def _start_writing(self) -> None:
        if self._planned is not None:
            self._planned.cancel()
            self._planned = None
        pending = self._counter.pending
        self._due = self._counter.pending_tokens + self._every  # if it fails: not again at the next token
        loop = asyncio.get_running_loop()
        self._earliest = loop.time() + self._apart
        self._writing = loop.run_in_executor(None, _add_to_file, self._path, pending)
        self._writing.add_done_callback(partial(self._written, pending))

    def _written(self, pending: Mapping[str, Spending], done: asyncio.Future[dict[str, Spending]]) -> None:
        self._writing = None
        if done.cancelled():
            return
        if (error := done.exception()) is not None:
            _log.warning("stamp.credits_not_kept", path=str(self._path), detail=str(error))
            return
        self._counter.settle(pending, done.result())
        self._due = self._every


def read_credits(path: Path, endpoints: Sequence[str | TsaEndpoint]) -> tuple[CreditLine, ...]:
    """Return what there is to tell about every authority, from the file alone, as `kephs doctor` does.

    A file that cannot be read counts as none; why is logged.
    """
    return Counter(_bought(endpoints), _read_counts(path)).report()


def _bought(endpoints: Sequence[str | TsaEndpoint]) -> dict[str, int | None]:
    given = (TsaEndpoint(one) if isinstance(one, str) else one for one in endpoints)
    return {endpoint.url: endpoint.credits for endpoint in given}


def _tell(line: CreditLine) -> None:
    if not line.state.worries:
        return
    tell = _log.warning if line.state is CreditState.LOW else _log.error
    tell("stamp.credits_low", url=line.endpoint, state=line.state.value, left=line.left, bought=line.bought)


def _read_counts(path: Path) -> dict[str, Spending]:
    try:
        return decode_counts(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, CreditFileError) as error:
        _log.warning("stamp.credits_unreadable", path=str(path), detail=str(error))
        return {}


def _add_to_file(path: Path, more: Mapping[str, Spending]) -> dict[str, Spending]:
    """Add counts to the file, whole or not at all, and return what it holds now. Runs in a thread.

    A file that is damaged is kept beside for a person to look at.

    Raises:
        OSError: it cannot be written.
    """
    with path.with_name(f"{path.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            kept = decode_counts(path.read_bytes())
        except FileNotFoundError:
            kept = {}
        except CreditFileError:
            kept = {}
            path.replace(path.with_name(f"{path.name}.damaged"))
        sums = added(kept, more)
        partial_file = path.with_name(f"{path.name}.new")
        with partial_file.open("wb") as file:
            file.write(encode_counts(sums))
            file.flush()
            os.fsync(file.fileno())
        partial_file.replace(path)
        return sums
