"""Folders of the object store on disk: opened step by step without following links; side files.

Beside an object ``x`` lies ``.x.json``: its digests and how long it is kept. Whoever has lost our programs
can check an object with ``sha512sum``.
"""

import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from kephs.ports.objects import (
    ObjectDamagedError,
    ObjectError,
    ObjectRef,
    ObjectUnavailableError,
    check_name,
)

FORMAT: Final = "kephs-object-1"
UNKNOWN: Final = datetime(1970, 1, 1, tzinfo=UTC)
VERSION_DIGITS: Final = 32
_SIDE_MAX: Final = 4096
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_HEX: Final = re.compile(r"[0-9a-f]+\Z")


@dataclass(frozen=True, slots=True)
class Digests:
    """Both digests of the octets of an object, and how many there are."""

    size: int
    sha256: bytes
    sha512: bytes

    def ref(self, name: str, version: str, retain_until: datetime) -> ObjectRef:
        """Return the reference of a version with these digests."""
        return ObjectRef(name, version, self.size, self.sha256, self.sha512, retain_until)

    def check(self, ref: ObjectRef) -> None:
        """Compare with what a reference says.

        Raises:
            ObjectDamagedError: something differs.
        """
        if self != Digests(ref.size, ref.sha256, ref.sha512):
            raise ObjectDamagedError(f"{ref.name}: size or digests differ")


def version_of(sha256: bytes) -> str:
    """Return the version's name in a store that keeps one version under a name."""
    return sha256.hex()[:VERSION_DIGITS]


@contextmanager
def opened(descriptor: int) -> Iterator[int]:
    """Close a descriptor on leaving."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_folder(root: int, parts: list[str], *, make: bool = False) -> int:
    """Return a descriptor of the folder below another; made durably where it is asked for.

    Raises:
        OSError: it is not there, no folder, or a symbolic link.
    """
    current = os.dup(root)
    try:
        for part in parts:
            if make:
                _make(current, part)
            below = os.open(part, _FOLDER, dir_fd=current)
            os.close(current)
            current = below
    except BaseException:
        os.close(current)
        raise
    return current


def open_file(folder: int, leaf: str) -> int:
    """Return a descriptor of a regular file for reading.

    Raises:
        OSError: it is not there, or a symbolic link.
        ObjectDamagedError: no regular file.
    """
    descriptor = os.open(leaf, _READ, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ObjectDamagedError(f"{leaf}: no regular file")
    return descriptor


def split_name(name: str) -> tuple[list[str], str]:
    """Return the folders and the leaf of an object's name.

    Raises:
        ObjectError: it is none.
    """
    *folders, leaf = check_name(name).split("/")
    return folders, leaf


def side_name(leaf: str) -> str:
    """Return the side file's name; no object begins with a dot."""
    return f".{leaf}.json"


def side_text(ref: ObjectRef) -> bytes:
    """Return what the side file holds."""
    fields = {
        "format": FORMAT,
        "name": ref.name,
        "size": ref.size,
        "sha256": ref.sha256.hex(),
        "sha512": ref.sha512.hex(),
        "retain_until": ref.retain_until.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return (json.dumps(fields, indent=1) + "\n").encode()


def read_side(folder: int, name: str, leaf: str) -> ObjectRef | None:
    """Return what the side file says; None where there is none or it cannot be understood."""
    try:
        with opened(open_file(folder, side_name(leaf))) as descriptor:
            text = os.read(descriptor, _SIDE_MAX)
    except (FileNotFoundError, ObjectDamagedError):
        return None
    except OSError as error:
        raise failure(error) from error
    return _parse_side(text, name)


def list_names(root: int, prefix: str) -> Iterator[str]:
    """Yield the names below a folder that begin so, in order; folders that cannot match are left out.

    Raises:
        ObjectUnavailableError: a folder cannot be read.
    """
    waiting = [""]
    while waiting:
        path = waiting.pop()
        if path and not path.endswith("/"):
            yield path
            continue
        try:
            with opened(open_folder(root, path.split("/")[:-1])) as folder, os.scandir(folder) as entries:
                found = [
                    path + entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "")
                    for entry in entries
                    if not entry.name.startswith(".")
                ]
        except OSError as error:
            raise failure(error) from error
        fits = [one for one in found if one.startswith(prefix) or (one[-1] == "/" and prefix.startswith(one))]
        waiting += sorted(fits, reverse=True)


def failure(error: OSError, *, reading: bool = False) -> ObjectError:
    """Say what an error of the file system means to the caller."""
    if reading and error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EIO}:
        return ObjectDamagedError(f"the object cannot be read: {error.strerror}")
    if error.errno in {errno.EEXIST, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENAMETOOLONG}:
        return ObjectError(f"something else stands where the object belongs: {error.strerror}")
    return ObjectUnavailableError(f"the disk does not do it: {error.strerror}")


def _make(folder: int, part: str) -> None:
    try:
        os.mkdir(part, 0o700, dir_fd=folder)
    except FileExistsError:
        return
    os.fsync(folder)


def _parse_side(text: bytes, name: str) -> ObjectRef | None:
    try:
        fields = json.loads(text)
        if fields["format"] != FORMAT or fields["name"] != name or not isinstance(fields["size"], int):
            return None
        digests = Digests(fields["size"], _hex(fields["sha256"], 32), _hex(fields["sha512"], 64))
        until = datetime.strptime(fields["retain_until"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return digests.ref(name, version_of(digests.sha256), until)


def _hex(text: str, size: int) -> bytes:
    if len(text) != 2 * size or _HEX.match(text) is None:
        raise ValueError("no digest")
    return bytes.fromhex(text)
