"""The provider register on disk: the current signed file, and every one accepted before it, for ever.

``providers.json`` and ``providers.json.p7s`` are the current issue, ``history/<sequence>.json`` and ``.p7s``
all accepted ones. A file is accepted when its signature is by a pinned signer, its form is right and its
sequence is above all accepted before; the same bytes again change nothing. (spec: rem-formats §5, §9, R-09)
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from threading import RLock
from typing import Final, TypeAlias

from directory.adapters.register_files import (
    SIGNATURE_SUFFIX,
    Issue,
    IssueReader,
    RegisterError,
    RegisterFault,
    RegisterHistory,
    Verify,
    write_file,
)
from directory.provider_changes import Change, changes_between
from directory.provider_file import ProviderEntry, ProviderFile
from directory.providers import Peer, ProviderRegister

__all__ = [
    "FILE_NAME", "HISTORY", "SIGNATURE_SUFFIX", "Imported", "LoadedRegister", "RegisterError",
    "RegisterFault", "RegisterFolder", "Verify",
]  # fmt: skip

FILE_NAME: Final = "providers.json"
HISTORY: Final = "history"

_LOOK_EVERY: Final = timedelta(seconds=1)
_TRY_AGAIN: Final = timedelta(minutes=1)  # where a file is bad: some causes, such as a slow clock, go away
_SKEW: Final = timedelta(minutes=5)  # clocks of the operator and of ours

_Mark: TypeAlias = tuple[tuple[int, int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class LoadedRegister:
    """What holds at a moment. Of an empty folder: no peers, sequence 0, no times, not stale.

    ``stale``: next_update has passed; peers stay known for judging what comes in, nothing is relayed.
    ``problem``: the newest file is not usable, and an older good one holds; for log and doctor.
    ``own_listed``: the register lists this provider itself, which makes it no peer.
    """

    register: ProviderRegister
    sequence: int = 0
    issued_at: datetime | None = None
    next_update: datetime | None = None
    stale: bool = False
    problem: str | None = None
    own_listed: bool = False

    def doubtful_at(self, at: datetime) -> bool:
        """Say whether peers may know more than this: it is stale, or issued in the future of our clock."""
        return self.stale or (self.issued_at is not None and self.issued_at > at)


@dataclass(frozen=True, slots=True)
class Imported:
    """What `RegisterFolder.import_file` did; ``stored`` is False where the same bytes were there already."""

    file: ProviderFile
    stored: bool
    changes: tuple[Change, ...]


class RegisterFolder:
    """The register of one instance; threads and processes may share it.

    Args:
        folder: made by the first import.
        own: this provider's domain.
        suffix: the ending all KEP domains share.
        verify: checks the signature over the exact bytes of a file.
        clock: gives the time, UTC.
    """

    def __init__(
        self, folder: Path, *, own: str, suffix: str, verify: Verify, clock: Callable[[], datetime]
    ) -> None:
        self._folder, self._own, self._suffix = folder, own, suffix
        self._clock = clock
        self._turn = RLock()
        self._reader = IssueReader(verify, suffix)
        self._past = RegisterHistory(folder / HISTORY, self._reader)
        self._issue: Issue | None = None
        self._problem: str | None = None
        self._mark: _Mark | None = None
        self._loaded: LoadedRegister | None = None
        self._looked: datetime | None = None  # at the files' marks
        self._read_at: datetime | None = None
        self._change: datetime | None = None

    # ------------------------------------------------------------------ what holds now

    def load(self) -> LoadedRegister:
        """Read the folder and return what holds now.

        Where the current pair is missing or bad, the newest accepted issue of the history holds, and
        ``problem`` says so.

        Raises:
            RegisterError: there is a file, but no good one.
        """
        with self._turn:
            self._looked = self._read_at = self._clock()
            self._mark = self._stat()
            self._issue, self._problem = self._newest(None)
            return self._derive()

    def current(self) -> LoadedRegister:
        """Return what holds now; looks at the files at most once per second and reads them when changed.

        A new file that is bad changes nothing but ``problem``.

        Raises:
            RegisterError: nothing was read before, there is a file, but no good one.
        """
        with self._turn:
            if self._loaded is None or self._looked is None or self._read_at is None:
                return self.load()
            now = self._clock()
            back = now < self._looked  # the clock was set
            if back or now - self._looked >= _LOOK_EVERY:
                self._looked = now
                mark = self._stat()
                again = self._problem is not None and now - self._read_at >= _TRY_AGAIN
                if back or again or mark != self._mark:
                    self._mark, self._read_at = mark, now
                    self._reread()
                    return self._derive()
            if self._change is not None and now >= self._change:
                return self._derive()
            return self._loaded

    def history(self) -> list[ProviderFile]:
        """Return every accepted issue that verifies, ascending by sequence.

        Raises:
            RegisterError: the history cannot be read.
        """
        with self._turn:
            return self._past.all()

    def entry(self, domain: str) -> ProviderEntry | None:
        """Return what the issue that holds now says of a domain, also of one that has left or not begun.

        Raises:
            RegisterError: as `current`.
        """
        self.current()
        return None if self._issue is None else self._issue.file.entry(domain)

    def peer_at(self, domain: str, at: datetime) -> Peer | None:
        """Return the peer as registered at a time, for messages of that time; None where it was none.

        The issue in force then decides; for times before our first issue that first one does, by its
        own dates. Issues whose signer is pinned no more are passed over, as if they had never been.

        Raises:
            RegisterError: as `current`.
        """
        with self._turn:
            self.current()
            now = None if self._issue is None else self._issue.file
            file = now if now is not None and now.issued_at <= at else self._past.in_force(at)
        entry = None if file is None or domain == self._own else file.entry(domain)
        return entry.peer_at(at) if entry is not None and entry.listed_at(at) else None

    # ------------------------------------------------------------------ taking a new one

    def import_file(self, path: Path) -> Imported:
        """Check a register file with its ``.p7s`` beside it, keep it for ever, and make it the current one.

        Raises:
            RegisterError: it is not accepted; nothing has changed.
            OSError: something cannot be written.
        """
        issue = self._reader.read(path)
        now = self._clock()
        if issue.file.stale_at(now):
            raise RegisterError(
                RegisterFault.EXPIRED,
                f"{path}: its next_update, {issue.file.next_update.isoformat()}, has passed",
            )
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(RegisterError):
            self._newest(None)  # an issue that was laid down by hand counts as accepted, and is kept
        with self._lock():
            before = self._past.newest()
            stored = self._judge(issue, before, now, path)
            self._past.keep(issue)
            for target, content in (
                (self._folder / (FILE_NAME + SIGNATURE_SUFFIX), issue.signature),
                (self._folder / FILE_NAME, issue.content),
            ):
                write_file(target, content)
        changes = changes_between(None if before is None else before.file, issue.file)
        return Imported(issue.file, stored, changes)

    def _judge(self, issue: Issue, before: Issue | None, now: datetime, path: Path) -> bool:
        """Say whether an issue is new after ``before``; False where it is the same bytes.

        The sequence must not fall below any ever accepted, also where that one verifies no more.

        Raises:
            RegisterError: it must not follow.
        """
        file, last = issue.file, None if before is None else before.file
        floor = max([*self._past.sequences(), 0 if last is None else last.sequence])
        if file.sequence < floor:
            raise RegisterError(
                RegisterFault.FALLING, f"{path}: sequence {file.sequence} is below {floor}, accepted before"
            )
        if before is not None and last is not None and file.sequence == last.sequence:
            if issue.content == before.content:
                return False
            raise RegisterError(
                RegisterFault.REWRITTEN,
                f"{path}: sequence {file.sequence} was accepted with other content",
            )
        if last is not None and file.issued_at < last.issued_at:
            raise RegisterError(RegisterFault.BACKDATED, f"{path}: issued before sequence {last.sequence}")
        if file.issued_at > now + _SKEW:
            raise RegisterError(RegisterFault.FUTURE, f"{path}: issued in the future, or our clock is slow")
        return True

    # ------------------------------------------------------------------ reading

    def _newest(self, held: Issue | None) -> tuple[Issue | None, str | None]:
        """Return the issue that holds, ``held`` or a newer one, and what is wrong with the current pair."""
        before = self._past.newest()
        if held is not None and (before is None or before.file.sequence < held.file.sequence):
            before = held  # it could not be kept in the history
        path = self._folder / FILE_NAME
        if not path.exists() and not path.with_name(FILE_NAME + SIGNATURE_SUFFIX).exists():
            if before is None:
                if self._past.sequences():
                    raise RegisterError(
                        RegisterFault.MISSING, f"{path} is missing, and no accepted issue verifies"
                    )
                return None, None
            return before, f"{path} is missing; issue {before.file.sequence} of the history holds"
        try:
            return self._accept(path, before)
        except RegisterError as error:
            if before is None:
                raise
            return before, f"{error}; issue {before.file.sequence} holds"

    def _reread(self) -> None:
        """Take over a changed pair, or note why not; what held goes on to hold then."""
        try:
            self._issue, self._problem = self._newest(self._issue)
        except RegisterError as error:
            self._problem = str(error)

    def _accept(self, path: Path, before: Issue | None) -> tuple[Issue, str | None]:
        issue = self._reader.read(path)
        if not self._judge(issue, before, self._clock(), path):
            return issue, None
        try:
            with self._lock():
                self._past.keep(issue)
        except OSError as error:  # a reader without the right to write: the server keeps it
            return issue, f"issue {issue.file.sequence} could not be kept: {error}"
        return issue, None

    def _derive(self) -> LoadedRegister:
        now = self._clock()
        if self._issue is None:
            self._loaded = LoadedRegister(ProviderRegister(self._own, self._suffix), problem=self._problem)
            self._change = None
            return self._loaded
        file = self._issue.file
        self._change = file.next_change(now)
        self._loaded = LoadedRegister(
            register=file.register_at(now, own=self._own, suffix=self._suffix),
            sequence=file.sequence,
            issued_at=file.issued_at,
            next_update=file.next_update,
            stale=file.stale_at(now),
            problem=self._problem,
            own_listed=file.entry(self._own) is not None,
        )
        return self._loaded

    def _stat(self) -> _Mark:
        return tuple(_mark(self._folder / name) for name in (FILE_NAME, FILE_NAME + SIGNATURE_SUFFIX))

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Let one process at a time write."""
        descriptor = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _mark(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
