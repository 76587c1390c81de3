"""The folders, instances and peers of one run of `kephs bench`; all of it is gone afterwards."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from kephs.bench import dovecot, postfix
from kephs.bench.figures import disk_kind
from kephs.bench.instance import Instance, make

PEOPLE: Final = 10


@dataclass(frozen=True, slots=True)
class Site:
    """One benchmark's place: how long it may measure, what time it is, where its folders are made."""

    seconds: float
    clock: Callable[[], datetime]
    folder: Path

    @property
    def disk(self) -> str:
        """Return the kind of disk that all servers write to."""
        return disk_kind(self.folder)

    @asynccontextmanager
    async def instance(self, values: dict[str, Any] | None = None) -> AsyncIterator[Instance]:
        """Make a fresh instance with `PEOPLE` accounts, and settings of its own by section."""
        with self.room("k", 0o700) as room:
            yield await make(room / "i", PEOPLE, self.clock, values)

    @asynccontextmanager
    async def postfix(self, ours: Instance) -> AsyncIterator[postfix.Postfix | str]:
        """Run Postfix with our TLS certificate, or say what is missing."""
        problem = postfix.missing()
        if problem is not None:
            yield problem
            return
        with self.room("p", 0o755) as room:
            async with postfix.running(room, *ours.tls_files, ours.home / "tls-ca.pem") as peer:
                yield peer

    @asynccontextmanager
    async def dovecot(self, ours: Instance) -> AsyncIterator[dovecot.Dovecot | str]:
        """Run Dovecot with our TLS certificate, or say what is missing."""
        problem = dovecot.missing(self.folder)
        if problem is not None:
            yield problem
            return
        with self.room("d", 0o755) as room:
            async with dovecot.running(room, *ours.tls_files, ours.home / "tls-ca.pem") as peer:
                yield peer

    @contextmanager
    def room(self, prefix: str, mode: int) -> Iterator[Path]:
        """Make a folder that is removed on leaving, whatever a server left in it."""
        room = Path(tempfile.mkdtemp(prefix=prefix, dir=self.folder))
        room.chmod(mode)
        try:
            yield room
        finally:
            shutil.rmtree(room, ignore_errors=True)


@contextmanager
def open_site(seconds: float, clock: Callable[[], datetime]) -> Iterator[Site]:
    """Make the folder of a run below the system's folder for temporary files, and remove it."""
    folder = Path(tempfile.mkdtemp(prefix="kephs-bench-"))
    folder.chmod(0o711)  # the peers' users pass through, nobody looks around
    try:
        yield Site(seconds, clock, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
