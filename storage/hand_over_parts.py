"""A folder of parts on disk: each file is there whole and durable, or not at all."""

import os
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kephs.ports.hand_over import PartMissingError, PartsError
from storage.crypto import KeyMismatchError
from storage.files.journal import sync_directory
from storage.objects.crypto import open_object, seal_object

_PIECE: Final = 1 << 20
_LEFT_OVER: Final = re.compile(r"\.[0-9a-f]{16}\.new\Z")
_BATCH: Final = 500
READ_ONLY: Final = 0o400


class FolderParts:
    """`kephs.ports.hand_over.Parts` in a folder. Symbolic links are never followed.

    Args:
        folder: made when the first file is written.
        run: runs a function in a thread.
        writable: False refuses `put` and `drop`.
        mode: of new files.
    """

    def __init__(
        self, folder: Path, run: Callable[..., Awaitable[object]], *, writable: bool = True, mode: int = 0o600
    ) -> None:
        self._folder, self._run, self._writable, self._mode = folder, run, writable, mode

    async def put(self, name: str, content: bytes) -> None:
        """Write a file whole and durable, or not at all."""
        await self._run(self._put, name, content)

    async def get(self, name: str, most: int) -> bytes:
        """Return a file's content."""
        found = await self._run(self.get_now, name, most)
        assert isinstance(found, bytes)
        return found

    async def names(self) -> AsyncIterator[str]:
        """Yield the names of all files."""
        walk = self.names_now()
        while page := await self._run(_page, walk):
            assert isinstance(page, list)
            for name in page:
                yield name

    async def drop(self, name: str) -> None:
        """Remove a file."""
        self._check_writable()
        await self._run(lambda: self._path(name).unlink(missing_ok=True))

    def get_now(self, name: str, most: int) -> bytes:
        """Return a file's content; see `kephs.ports.hand_over.Parts.get`."""
        try:
            handle = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            raise PartMissingError(f"{name} is missing") from None
        except OSError as error:
            raise PartsError(f"{name}: {error.strerror}") from None
        with os.fdopen(handle, "rb") as file:
            try:
                content = file.read(most + 1)
            except OSError as error:
                raise PartsError(f"{name}: {error.strerror}") from None
        if len(content) > most:
            raise PartsError(f"{name} is longer than {most} octets")
        return content

    def names_now(self) -> Iterator[str]:
        """Yield names, folder by folder; files that a kill left half written are left out."""
        waiting = [self._folder]
        while waiting:
            try:
                entries = sorted(os.scandir(waiting.pop()), key=lambda entry: entry.name)
            except FileNotFoundError:
                return
            except OSError as error:
                raise PartsError(f"{error.filename}: {error.strerror}") from None
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                elif _LEFT_OVER.match(entry.name) is None:
                    yield Path(entry.path).relative_to(self._folder).as_posix()

    def _put(self, name: str, content: bytes) -> None:
        self._check_writable()
        path = self._path(name)
        beside = path.with_name(f".{secrets.token_hex(8)}.new")
        try:
            self._make_folder(path.parent)
            handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, self._mode)
            with os.fdopen(handle, "wb") as file:
                for start in range(0, len(content), _PIECE):
                    file.write(content[start : start + _PIECE])
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
            sync_directory(path.parent)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise PartsError(f"{name}: {error.strerror}") from None

    def _make_folder(self, folder: Path) -> None:
        """Make a folder and those above it, each entered durably into the one above."""
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for one in reversed(missing):
            one.mkdir(mode=0o700, exist_ok=True)
            sync_directory(one.parent)

    def _check_writable(self) -> None:
        if not self._writable:
            raise PartsError(f"{self._folder} is read only")

    def _path(self, name: str) -> Path:
        parts = name.split("/")
        if any(part in {"", ".", ".."} or "\0" in part for part in parts):
            raise PartsError(f"no name of a file: {name[:80]!r}")
        return self._folder.joinpath(*parts)


class KeyCipher:
    """`kephs.ports.hand_over.PartCipher` by a key of 32 octets.

    Args:
        key: the hand-over's.

    Raises:
        ValueError: it has another size.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise ValueError("the key of a hand-over has 32 octets")
        self._key = HKDF(SHA256(), 32, None, b"kephs hand-over files 1").derive(key)
        about = HKDF(SHA256(), 32, None, b"kephs hand-over key check 1").derive(key)
        self._check = sha256(about).digest()

    @property
    def check(self) -> bytes:
        """Return what tells this key from others."""
        return self._check

    def seal(self, name: str, plain: bytes) -> bytes:
        """Return the sealed file."""
        return seal_object(self._key, name, plain)

    def open(self, name: str, sealed: bytes) -> bytes:
        """Return the content."""
        try:
            return open_object(self._key, name, sealed)
        except KeyMismatchError:
            raise PartsError(f"{name} does not open: another key, or it was changed") from None


def _page(walk: Iterator[str]) -> list[str]:
    return list(islice(walk, _BATCH))
