"""``--offline-material DIR`` and ``--revocation FILE``: verification data that somebody kept."""

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from evidence.verify.at_hand import HEAD, MAX_ITEM, AtHand, gathered, promising
from kephs.cli.output import usage_error

FILES_MAX: Final = 4_000
"""Files looked at, by their first octets; an unpacked bundle has some dozens."""
READ_MAX: Final = 256 << 20
"""Octets of all files read."""
DEPTH_MAX: Final = 3


def material_in(folder: Path) -> AtHand:
    """Read what a folder holds, and folders in it, whatever the files are called.

    Only what begins as DER or PEM is read; the rest is passed over. Links that lead out of the folder, pipes
    and devices are not followed or opened.

    Raises:
        click.UsageError: it cannot be read, or holds too much.
    """
    try:
        if not folder.is_dir():
            raise usage_error(f"--offline-material {folder} is no folder")
        return gathered(_read(folder))
    except OSError as error:
        raise usage_error(f"--offline-material {error.filename or folder}: {error.strerror}") from None


def material_of(paths: Sequence[Path]) -> AtHand:
    """Read single files.

    Raises:
        click.UsageError: one cannot be read or is too large.
    """
    contents = []
    for path in paths:
        try:
            with path.open("rb") as file:
                content = file.read(MAX_ITEM + 1)
        except OSError as error:
            raise usage_error(f"--revocation {path}: {error.strerror}") from None
        if len(content) > MAX_ITEM:
            raise usage_error(f"--revocation {path}: too large")
        contents.append((path.name, content))
    return gathered(contents)


def _read(folder: Path) -> Iterator[tuple[str, bytes]]:
    left = READ_MAX
    for path in _files(folder):
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(HEAD)
            if size > MAX_ITEM or not promising(head):
                continue
            left -= size
            if left < 0:
                raise usage_error(f"--offline-material {folder}: more than {READ_MAX >> 20} MiB")
            yield str(path.relative_to(folder)), head + file.read(MAX_ITEM)


def _files(folder: Path) -> Iterator[Path]:
    """Yield the regular files below a folder in a fixed order."""
    inside, seen = folder.resolve(), 0
    waiting = [(folder, 0)]
    while waiting:
        here, depth = waiting.pop()
        for path in sorted(here.iterdir()):
            seen += 1
            if seen > FILES_MAX:
                raise usage_error(f"--offline-material {folder}: more than {FILES_MAX} files")
            try:
                if path.is_symlink() and not path.resolve().is_relative_to(inside):
                    continue
                mode = path.stat().st_mode
            except (OSError, RuntimeError):
                continue  # a link to nothing, or to itself
            if stat.S_ISDIR(mode) and depth < DEPTH_MAX and not path.is_symlink():
                waiting.append((path, depth + 1))
            elif stat.S_ISREG(mode):
                yield path
