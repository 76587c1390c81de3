"""Signing files one after the other: what goes where, and what became of each.

A file that fails stops no other. An output is complete or not there at all, and nothing that exists is
overwritten unasked.
"""

import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from evidence.mail.smime_sign import UnsignableError, sign_content, sign_message
from evidence.ports import Signer, SignerUnavailableError, Timestamper, TimestampUnavailableError
from kephs.cli.sign.letter import letter_problem

_BOUNDARY_OCTETS: Final = 24  # random, so neither the message nor an inner boundary can begin with it
_HELD_MAX: Final = 256 * 1024 * 1024
"""A message, and a content that is embedded, are held in memory; no provider takes larger ones."""
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
P7S: Final = ".p7s"


@dataclass(frozen=True, slots=True)
class Job:
    """One file to sign, and where its result goes."""

    source: Path
    target: Path


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one file; ``code`` and ``error`` are empty where all went well."""

    file: str
    out: str
    ok: bool
    code: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class How:
    """How files are signed.

    Attributes:
        p7s: any file, into a bare CAdES signature, instead of a message into a signed message.
        attached: with ``p7s``: the content goes into the signature.
        force: existing outputs are replaced.
        stamper: adds a time stamp to each signature.
    """

    p7s: bool = False
    attached: bool = False
    force: bool = False
    stamper: Timestamper | None = None


class _FileError(Exception):
    """This file is not signed; code and text say why."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def into_folder(sources: Sequence[Path], folder: Path, how: How) -> list[Job]:
    """Return a job for each file: the same name in the folder, ``.p7s`` behind it for bare signatures."""
    ending = P7S if how.p7s else ""
    return [Job(source, folder / f"{source.name}{ending}") for source in sources]


async def sign_files(
    jobs: Sequence[Job],
    signer: Signer,
    how: How,
    clock: Callable[[], datetime],
    tell: Callable[[Result], None],
) -> list[Result]:
    """Sign one file after the other.

    Args:
        jobs: what to sign.
        signer: the holder's key.
        how: the form of the signatures.
        clock: the claimed signing times.
        tell: called after each file.
    """
    results: list[Result] = []
    sources = frozenset(job.source.resolve() for job in jobs)
    taken: set[Path] = set()
    for job in jobs:
        try:
            _take_name(job, sources, taken)
            await _sign(job, signer, how, clock())
            result = Result(str(job.source), str(job.target), ok=True)
        except _FileError as error:
            result = Result(str(job.source), str(job.target), ok=False, code=error.code, error=str(error))
        tell(result)
        results.append(result)
    return results


def _take_name(job: Job, sources: frozenset[Path], taken: set[Path]) -> None:
    target = job.target.resolve()
    if target in sources:
        raise _FileError("output-is-input", "the result would replace a file that is to be signed")
    if target in taken:
        raise _FileError("name-taken", "another of these files has the same name")
    taken.add(target)


async def _sign(job: Job, signer: Signer, how: How, at: datetime) -> None:
    if not how.force and os.path.lexists(job.target):
        raise _exists(job.target)
    try:
        data = await (
            _bare(job.source, signer, how, at) if how.p7s else _message(job.source, signer, how, at)
        )
        write_new(job.target, data, force=how.force)
    except UnsignableError as error:
        raise _FileError("unsignable", str(error)) from None
    except SignerUnavailableError as error:
        raise _FileError("signer-unavailable", str(error)) from None
    except TimestampUnavailableError as error:
        raise _FileError("no-time-stamp", f"no time stamp: {error}") from None
    except FileExistsError:
        raise _exists(job.target) from None
    except OSError as error:
        raise _FileError("file-error", f"{error.filename or job.source}: {error.strerror or error}") from None


def _exists(target: Path) -> _FileError:
    return _FileError("output-exists", f"{target} exists already")


async def _message(source: Path, signer: Signer, how: How, at: datetime) -> bytes:
    boundary = f"kephs-{secrets.token_hex(_BOUNDARY_OCTETS)}"
    letter = _content(source)
    if problem := letter_problem(letter):  # before the key is used: it is no letter yet
        raise _FileError("letter-incomplete", problem)
    return await sign_message(letter, signer, at, boundary=boundary, stamper=how.stamper)


async def _bare(source: Path, signer: Signer, how: How, at: datetime) -> bytes:
    content: bytes | None = None
    if how.attached:
        content = _content(source)
        digest = hashlib.sha256(content).digest()
    else:
        with source.open("rb") as file:  # of any size: only its digest is needed
            digest = hashlib.file_digest(file, "sha256").digest()
    return await sign_content(digest, signer, at, content=content, stamper=how.stamper)


def _content(source: Path) -> bytes:
    with source.open("rb") as file:
        content = file.read(_HELD_MAX + 1)
    if len(content) > _HELD_MAX:
        raise _FileError("too-big", f"larger than {_HELD_MAX // 2**20} MiB")
    return content


def write_new(path: Path, data: bytes, *, force: bool = False) -> None:
    """Write a file that appears complete or not at all.

    Raises:
        FileExistsError: it is there already; with ``force`` it is replaced.
        OSError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if force:
            part.replace(path)
        else:
            _appear(part, path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _appear(part: Path, path: Path) -> None:
    """Give the file its name only if nobody has it, in one step."""
    try:
        path.hardlink_to(part)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        path.touch(exist_ok=False)  # a file system without links (memory sticks): take the name, then fill it
        part.replace(path)
