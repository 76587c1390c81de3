"""Objects of the archive as files, each written once.

Below the store's folder: ``objects/`` with a file for each name and its side file
(`storage.objects.folders`),
``temp/`` with what is being written, ``lock``. A file is synced before its name is linked, a link never
replaces one, and there is no code that deletes an object. The file system itself would let its owner: only
object lock on another machine refuses that (docs/archive.md).
"""

import fcntl
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final

from kephs.ports.objects import (
    ObjectDamagedError,
    ObjectError,
    ObjectRef,
    ObjectUnavailableError,
    ProbeReport,
    check_name,
    whole_second,
)
from storage.files.journal import write_all
from storage.objects.folders import (
    UNKNOWN,
    Digests,
    failure,
    list_names,
    open_file,
    open_folder,
    opened,
    read_side,
    side_name,
    side_text,
    split_name,
    version_of,
)
from storage.objects.probe import probe_port
from storage.objects.threads import ObjectThreads, digests_of

THREADS: Final = 2
_PIECE: Final = 1 << 20
_PAGE: Final = 100
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ROOT: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class FileObjectStore:
    """`kephs.ports.objects.ObjectStore` in a folder; several processes may use it at a time.

    Args:
        folder: made by the first `put` or `probe`; the folder above it must be there.
        clock: dates the objects of a probe.
        threads: for blocking work.
        random: names temporary files.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Callable[[], datetime],
        threads: int = THREADS,
        random: Callable[[int], str] = secrets.token_hex,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._random = random
        self._threads = ObjectThreads(threads)
        self._ready = False

    async def put(self, name: str, data: bytes, retain_until: datetime) -> ObjectRef:
        """Write an object once (`ObjectStore.put`)."""
        check_name(name)
        until = whole_second(retain_until)
        digests = self._threads.digests(data)
        return await self._threads.run(self._put, name, data, until, digests)

    async def get(self, ref: ObjectRef) -> bytes:
        """Return that version (`ObjectStore.get`)."""
        return await self._threads.run(self._get, ref)

    async def check(self, ref: ObjectRef) -> None:
        """Read that version in pieces (`ObjectStore.check`)."""
        await self._threads.run(self._check, ref)

    async def list(self, prefix: str) -> AsyncIterator[ObjectRef]:
        """Yield every object whose name begins so (`ObjectStore.list`)."""
        names = list_names_in(self._folder, prefix)
        while page := await self._threads.run(lambda: [self._look(name) for name in islice(names, _PAGE)]):
            for ref in page:
                yield ref

    async def extend(self, ref: ObjectRef, retain_until: datetime) -> ObjectRef:
        """Keep that version longer (`ObjectStore.extend`)."""
        return await self._threads.run(self._extend, ref, whole_second(retain_until))

    async def probe(self, *, deep: bool = False) -> ProbeReport:
        """Prove what this store refuses (`ObjectStore.probe`); the disk itself is not asked."""
        return await probe_port(self, f"files in {self._folder}", self._clock(), deep=deep)

    async def close(self) -> None:
        """Finish what runs; safe to call twice."""
        await self._threads.close()

    # Everything below runs in the threads.

    def _put(self, name: str, data: bytes, until: datetime, digests: Callable[[], Digests]) -> ObjectRef:
        folders, leaf = split_name(name)
        try:
            with opened(self._make_root()) as root, _below(root, folders, make=True) as folder:
                if not _exists(folder, leaf):
                    with self._written(root, data) as temp:
                        made = digests()
                        ref = made.ref(name, version_of(made.sha256), until)
                        if self._publish(root, temp, folder, leaf, ref):
                            return ref
                return self._again(root, folder, leaf, digests(), name, until)
        except OSError as error:
            raise failure(error) from error

    def _publish(self, root: int, temp: str, folder: int, leaf: str, ref: ObjectRef) -> bool:
        """Give the octets their name, the side file first: no object is without. False: the name is taken."""
        with self._written(root, side_text(ref)) as side:
            with self._locked(root):
                if _exists(folder, leaf):
                    return False
                os.rename(f"temp/{side}", side_name(leaf), src_dir_fd=root, dst_dir_fd=folder)
                os.link(f"temp/{temp}", leaf, src_dir_fd=root, dst_dir_fd=folder, follow_symlinks=False)
            os.fsync(folder)
        return True

    def _again(
        self, root: int, folder: int, leaf: str, made: Digests, name: str, until: datetime
    ) -> ObjectRef:
        """Return the reference of what is there, where it is the same and whole."""
        with self._locked(root):
            side = read_side(folder, name, leaf)
            kept = self._content_digests(folder, leaf)
            if kept != made:
                if side is not None and kept != Digests(side.size, side.sha256, side.sha512):
                    raise ObjectDamagedError(f"{name}: what is there is not what was written")
                raise ObjectError(f"{name}: other octets stand under this name")
            ref = made.ref(name, version_of(made.sha256), until)
            if side is not None and side.retain_until >= until:
                ref = side
            else:
                self._write_side(root, folder, leaf, ref)
            os.fsync(folder)  # who wrote it may have died before
            return ref

    def _get(self, ref: ObjectRef) -> bytes:
        with self._content(ref) as descriptor:
            data = b"".join(_pieces(descriptor, ref.size))
        self._threads.digests(data)().check(ref)
        return data

    def _check(self, ref: ObjectRef) -> None:
        with self._content(ref) as descriptor:
            digests_of(_pieces(descriptor, ref.size)).check(ref)

    def _look(self, name: str) -> ObjectRef:
        folders, leaf = split_name(name)
        try:
            with opened(self._open_root()) as root, _below(root, folders) as folder:
                side = read_side(folder, name, leaf)
                if side is not None:
                    return side
                made = self._content_digests(folder, leaf)
        except OSError as error:
            raise failure(error) from error
        return made.ref(name, version_of(made.sha256), UNKNOWN)

    def _extend(self, ref: ObjectRef, until: datetime) -> ObjectRef:
        folders, leaf = split_name(ref.name)
        with self._content(ref):
            pass  # it is there, and its size is right
        try:
            with opened(self._open_root()) as root, _below(root, folders) as folder, self._locked(root):
                side = read_side(folder, ref.name, leaf)
                kept = ref.retain_until if side is None else side.retain_until
                if until < kept:
                    raise ObjectError(f"{ref.name}: is kept longer already, nobody can shorten that")
                longer = replace(ref, retain_until=until)
                if side is None or until > kept:
                    self._write_side(root, folder, leaf, longer)
                    os.fsync(folder)
                return longer
        except OSError as error:
            raise failure(error) from error

    @contextmanager
    def _content(self, ref: ObjectRef) -> Iterator[int]:
        """Open an object's file for reading."""
        folders, leaf = split_name(ref.name)
        if ref.version != version_of(ref.sha256):
            raise ObjectDamagedError(f"{ref.name}: there is no such version")
        with opened(self._open_root()) as root:
            try:
                with _below(root, folders) as folder, opened(open_file(folder, leaf)) as descriptor:
                    if os.fstat(descriptor).st_size != ref.size:
                        raise ObjectDamagedError(f"{ref.name}: has another size")
                    yield descriptor
            except OSError as error:
                raise failure(error, reading=True) from error

    def _content_digests(self, folder: int, leaf: str) -> Digests:
        with opened(open_file(folder, leaf)) as descriptor:
            return digests_of(_pieces(descriptor, os.fstat(descriptor).st_size))

    @contextmanager
    def _written(self, root: int, data: bytes) -> Iterator[str]:
        """Write and sync a temporary file; its name is gone on leaving, unless it was moved away before."""
        temp = self._random(16)
        try:
            with opened(os.open(f"temp/{temp}", _NEW, 0o400, dir_fd=root)) as descriptor:
                fcntl.flock(descriptor, fcntl.LOCK_EX)  # `_sweep` sees that we live
                write_all(descriptor, data)
                os.fsync(descriptor)
                yield temp
        finally:
            with suppress(FileNotFoundError):
                os.unlink(f"temp/{temp}", dir_fd=root)

    def _write_side(self, root: int, folder: int, leaf: str, ref: ObjectRef) -> None:
        with self._written(root, side_text(ref)) as temp:
            os.rename(f"temp/{temp}", side_name(leaf), src_dir_fd=root, dst_dir_fd=folder)

    @contextmanager
    def _locked(self, root: int) -> Iterator[None]:
        """Be the only one who changes names; waits for other processes."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with opened(os.open("lock", flags, 0o600, dir_fd=root)) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield

    def _open_root(self) -> int:
        try:
            return os.open(self._folder, _ROOT)
        except OSError as error:
            raise ObjectUnavailableError(f"{self._folder}: {error.strerror}") from error

    def _make_root(self) -> int:
        """Open the folder; the first time make what it needs and sweep what dead writers left."""
        if self._ready:
            return self._open_root()
        if not self._folder.is_dir():
            self._folder.mkdir(mode=0o700, exist_ok=True)
            with opened(os.open(self._folder.parent, _ROOT)) as above:
                os.fsync(above)
        root = self._open_root()
        try:
            for name in ("objects", "temp"):
                os.close(open_folder(root, [name], make=True))
            _sweep(root)
        except BaseException:
            os.close(root)
            raise
        self._ready = True
        return root


def list_names_in(folder: Path, prefix: str) -> Iterator[str]:
    """Yield the names of a store's objects that begin so; nothing where nothing was ever written.

    Raises:
        ObjectUnavailableError: the folder cannot be read.
    """
    try:
        with opened(os.open(folder, _ROOT)) as root, opened(open_folder(root, ["objects"])) as objects:
            yield from list_names(objects, prefix)
    except FileNotFoundError:
        if not folder.parent.is_dir():
            raise ObjectUnavailableError(f"{folder}: is not there") from None
    except OSError as error:
        raise failure(error) from error


@contextmanager
def _below(root: int, folders: list[str], *, make: bool = False) -> Iterator[int]:
    """Open a folder of objects; without their topmost one the disk is not the archive's (not mounted?)."""
    try:
        objects = open_folder(root, ["objects"])
    except OSError as error:
        raise ObjectUnavailableError(f"the folder objects: {error.strerror}") from error
    with opened(objects), opened(open_folder(objects, folders, make=make)) as folder:
        yield folder


def _exists(folder: int, leaf: str) -> bool:
    try:
        os.stat(leaf, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _pieces(descriptor: int, size: int) -> Iterator[bytes]:
    """Yield a file's octets; one more than expected are enough to see that it grew."""
    left = size + 1
    while left and (piece := os.read(descriptor, min(left, _PIECE))):
        left -= len(piece)
        yield piece


def _sweep(root: int) -> None:
    """Remove temporary files whose writer has died: nobody holds their lock."""
    with opened(open_folder(root, ["temp"])) as temp:
        with os.scandir(temp) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            try:
                with opened(open_file(temp, name)) as descriptor:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(name, dir_fd=temp)
            except (BlockingIOError, FileNotFoundError):
                continue  # somebody writes it, or swept it first
