"""Signed register files, one at a time, and the history of all that were accepted.

The history is ``<sequence>.json`` with ``.p7s``; nothing in it is ever removed. (spec: rem-formats §9)
"""

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeAlias

from directory.provider_file import (
    MAX_FILE,
    ProviderFile,
    ProviderFileError,
    RegisterSignatureError,
    parse_provider_file,
)

Verify: TypeAlias = Callable[[bytes, bytes], None]
"""Checks (content, detached signature); raises `RegisterSignatureError`."""

SIGNATURE_SUFFIX: Final = ".p7s"
MAX_SIGNATURE: Final = 64 * 1024

_REMEMBERED: Final = 16  # old issues kept parsed
_TEMPORARY: Final = ".new"
_DIGITS: Final = 16  # of the highest sequence


class RegisterFault(StrEnum):
    """Why a register is not accepted. Stable: the CLI's error codes and log fields."""

    UNREADABLE = "register-unreadable"
    SIGNATURE = "register-signature"
    CONTENT = "register-content"
    FALLING = "register-sequence-falls"
    REWRITTEN = "register-sequence-reused"
    BACKDATED = "register-issued-earlier"
    FUTURE = "register-issued-in-future"
    EXPIRED = "register-expired"
    MISSING = "register-missing"


class RegisterError(Exception):
    """A register cannot be used; the text says why and names the file, ``fault`` is stable."""

    def __init__(self, fault: RegisterFault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Issue:
    """One issue of the register whose signature and form are right."""

    file: ProviderFile
    content: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class IssueReader:
    """Reads signed register files of KEP domains with one suffix."""

    verify: Verify
    suffix: str

    def read(self, path: Path) -> Issue:
        """Read a file and the signature beside it.

        Raises:
            RegisterError: one of them cannot be read, is too large, wrongly signed or wrongly formed.
        """
        signature_path = path.with_name(path.name + SIGNATURE_SUFFIX)
        content, signature = _content(path, MAX_FILE), _content(signature_path, MAX_SIGNATURE)
        try:
            self.verify(content, signature)
            return Issue(parse_provider_file(content, suffix=self.suffix), content, signature)
        except RegisterSignatureError as error:
            raise RegisterError(RegisterFault.SIGNATURE, f"{signature_path}: {error}") from None
        except ProviderFileError as error:
            raise RegisterError(RegisterFault.CONTENT, f"{path}: {error}") from None


class RegisterHistory:
    """Every issue accepted, in a folder that the first one makes."""

    def __init__(self, folder: Path, reader: IssueReader) -> None:
        self._folder, self._reader = folder, reader
        self._remembered: OrderedDict[int, ProviderFile] = OrderedDict()

    def sequences(self) -> list[int]:
        """Return the numbers of all issues ever accepted, ascending, good or not.

        Raises:
            RegisterError: the folder cannot be read.
        """
        try:
            names = os.listdir(self._folder)  # noqa: PTH208  # names are enough, thousands of them
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RegisterError(
                RegisterFault.UNREADABLE, f"{self._folder}: {error.strerror or error}"
            ) from None
        stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
        return sorted(
            int(stem) for stem in stems if stem.isascii() and stem.isdigit() and len(stem) <= _DIGITS
        )

    def _path(self, sequence: int) -> Path:
        return self._folder / f"{sequence}.json"

    def newest(self) -> Issue | None:
        """Return the newest issue of the history that verifies."""
        for sequence in reversed(self.sequences()):
            issue = self._old_issue(sequence)
            if issue is not None:
                return issue
        return None

    def _old_issue(self, sequence: int) -> Issue | None:
        try:
            issue = self._reader.read(self._path(sequence))
        except RegisterError:
            return None  # altered, cut short by a crash, or its signer is pinned no more
        return issue if issue.file.sequence == sequence else None

    def all(self) -> list[ProviderFile]:
        """Return every issue that verifies, ascending by sequence.

        Raises:
            RegisterError: the folder cannot be read.
        """
        return [file for number in self.sequences() if (file := self._old(number)) is not None]

    def _old(self, sequence: int) -> ProviderFile | None:
        file = self._remembered.get(sequence)
        if file is not None:
            self._remembered.move_to_end(sequence)
            return file
        issue = self._old_issue(sequence)
        if issue is None:
            return None
        self._remembered[sequence] = issue.file
        if len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)
        return issue.file

    def in_force(self, at: datetime) -> ProviderFile | None:
        """Return the last issue not issued after ``at``, or the first one; issue times never fall.

        Raises:
            RegisterError: the folder cannot be read.
        """
        sequences = self.sequences()
        low, high = 0, len(sequences)
        found: ProviderFile | None = None
        while low < high:
            middle = (low + high) // 2
            file = self._old(sequences[middle])
            if file is None:
                del sequences[middle]
                high -= 1
            elif file.issued_at <= at:
                found, low = file, middle + 1
            else:
                high = middle
        if found is None:
            return next((file for number in sequences if (file := self._old(number)) is not None), None)
        return found

    def keep(self, issue: Issue) -> None:
        """Put an issue into the history: first the signature, so that a JSON there always has its own.

        Raises:
            OSError: it cannot be written.
        """
        path = self._path(issue.file.sequence)
        old = self._old_issue(issue.file.sequence)
        if old is not None and old.content == issue.content:
            return
        self._folder.mkdir(mode=0o700, exist_ok=True)
        write_file(path.with_name(path.name + SIGNATURE_SUFFIX), issue.signature)
        write_file(path, issue.content)


def _content(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise RegisterError(RegisterFault.UNREADABLE, f"{path}: {error.strerror or error}") from None
    if len(content) > most:
        raise RegisterError(RegisterFault.UNREADABLE, f"{path}: larger than {most} bytes")
    return content


def write_file(path: Path, content: bytes) -> None:
    """Replace a file at once, durably."""
    temporary = path.with_name(path.name + _TEMPORARY)
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
