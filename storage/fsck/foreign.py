"""fsck on what providers handed over: every file under ``foreign/`` is the one that their manifest names.

The row of a provider that was taken over has the digest of the manifest that was verified then, seal and all.
The manifest binds the lists, the lists bind every file. Whether evidence and ledger inside still verify is
asked by ``kephs take-over verify``, which needs the old provider's roots.
"""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256, sha512
from pathlib import Path
from typing import Final

from evidence.bundle.hand_over import (
    LIST_FOLDER,
    LIST_MAX,
    MANIFEST,
    MANIFEST_MAX,
    SEAL,
    SEAL_MAX,
    HandOverError,
    Listed,
    Manifest,
    judge_manifest,
    read_list,
    read_manifest,
)
from evidence.report import Verdict
from evidence.x509.chain import TrustStore
from kephs.ports.hand_over import ForeignArchive, PartMissingError, PartsError
from kephs.usecases.ending.take_over import KEY_FILE
from storage.fsck.findings import Finding, FindingCode
from storage.fsck.scope import PAGE, Progress
from storage.hand_over_parts import FolderParts, KeyCipher

_KEY_FILE_MAX: Final = 4_096
_PIECE: Final = 1 << 20

OpenKey = Callable[[str, bytes], bytes]
"""Returns a hand-over's key; given the domain and the sealed key. Raises `PartsError`."""


def check_foreign(
    archives: Sequence[ForeignArchive], folder: Path, open_key: OpenKey, *, deep: bool, progress: Progress
) -> Iterator[Finding]:
    """Yield what is lost or changed of what providers handed over.

    Args:
        archives: the rows.
        folder: has a folder for each domain.
        open_key: opens the key file of one.
        deep: read every file and compare both digests; otherwise files are there and have their size.
        progress: called now and then.
    """
    count = 0
    for archive in archives:
        for finding in _Provider(archive, folder / archive.domain, open_key, deep=deep).run():
            if finding is None:
                count += 1
                if count % PAGE == 0:
                    progress("foreign", count)
            else:
                yield finding
    if archives:
        progress("foreign", count)
    known = {archive.domain for archive in archives}
    for name in sorted(path.name for path in folder.iterdir()) if folder.is_dir() else ():
        if name not in known:
            yield Finding(FindingCode.FOREIGN_UNFINISHED, name, harmless=True)


class _Provider:
    """One provider's folder."""

    def __init__(self, archive: ForeignArchive, folder: Path, open_key: OpenKey, *, deep: bool) -> None:
        self._archive, self._folder, self._open_key, self._deep = archive, folder, open_key, deep
        self._parts = FolderParts(folder, _not_called, writable=False)

    def run(self) -> Iterator[Finding | None]:
        """Yield findings, and None for each file that was looked at."""
        if not self._folder.is_dir():
            yield Finding(FindingCode.FOREIGN_MISSING, self._archive.domain, "the whole folder")
            return
        content, finding = self._read(MANIFEST, MANIFEST_MAX)
        if finding is not None:
            yield finding
            return
        if sha256(content).digest() != self._archive.manifest_sha256:
            yield self._altered(MANIFEST, "not the manifest that was taken over")
            return
        manifest = read_manifest(content)
        yield from self._sealed(content)
        yield from self._key(manifest)
        listed: list[Listed] = []
        for one in manifest.lists:
            found, finding = self._list(one, listed[-1].name if listed else "")
            if finding is not None:
                yield finding
                return  # what it names is not known; nothing can be called strange either
            listed += found
        yield from self._files(listed)

    def _sealed(self, content: bytes) -> Iterator[Finding]:
        """Look whether the seal is still about the manifest; its roots are asked by `take-over verify`."""
        seal, finding = self._read(SEAL, SEAL_MAX)
        if finding is not None:
            yield finding
            return
        judged = judge_manifest(content, seal, TrustStore(()), self._archive.taken_at)
        if judged.verdict is Verdict.FAILED:
            step = judged.failing_step
            yield self._altered(SEAL, step.detail if step is not None else "")

    def _key(self, manifest: Manifest) -> Iterator[Finding]:
        sealed, finding = self._read(KEY_FILE, _KEY_FILE_MAX)
        if finding is not None:
            yield finding
            return
        try:
            fits = KeyCipher(self._open_key(self._archive.domain, sealed)).check == manifest.key_check
        except (PartsError, ValueError):
            fits = False
        if not fits:
            yield self._altered(KEY_FILE, "it does not open what was taken over")

    def _list(self, one: Listed, after: str) -> tuple[tuple[Listed, ...], Finding | None]:
        content, finding = self._read(one.name, min(one.size, LIST_MAX))
        if finding is not None:
            return (), finding
        try:
            if one.holds(content):
                return read_list(content, after=after), None
        except HandOverError as error:
            return (), self._altered(one.name, str(error))
        return (), self._altered(one.name, "other digests than the manifest has")

    def _files(self, listed: Sequence[Listed]) -> Iterator[Finding | None]:
        for one in listed:
            yield self._file(one)
            yield None
        known = {one.name for one in listed} | {MANIFEST, SEAL, KEY_FILE}
        for name in self._parts.names_now():
            if name not in known and not name.startswith(LIST_FOLDER):
                yield Finding(FindingCode.FOREIGN_UNLISTED, f"{self._archive.domain}/{name[:120]}")

    def _file(self, one: Listed) -> Finding | None:
        try:
            handle = os.open(
                self._folder / one.name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            )
        except (FileNotFoundError, NotADirectoryError):
            return Finding(FindingCode.FOREIGN_MISSING, f"{self._archive.domain}/{one.name}")
        except OSError as error:
            return self._altered(one.name, error.strerror or "unreadable")
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode) or found.st_size != one.size:
                return self._altered(one.name, f"{found.st_size} octets, not {one.size}")
            if self._deep and _digests(handle, one.size) != (one.sha256, one.sha512):
                return self._altered(one.name, "other digests than its list has")
        except OSError as error:
            return self._altered(one.name, error.strerror or "unreadable")
        finally:
            os.close(handle)
        return None

    def _read(self, name: str, most: int) -> tuple[bytes, Finding | None]:
        try:
            return self._parts.get_now(name, most), None
        except PartMissingError:
            return b"", Finding(FindingCode.FOREIGN_MISSING, f"{self._archive.domain}/{name}")
        except PartsError as error:
            return b"", self._altered(name, str(error))

    def _altered(self, name: str, detail: str) -> Finding:
        return Finding(FindingCode.FOREIGN_ALTERED, f"{self._archive.domain}/{name}", detail)


def _digests(handle: int, size: int) -> tuple[bytes, bytes]:
    short, long, left = sha256(), sha512(), size + 1
    while left > 0 and (piece := os.read(handle, min(_PIECE, left))):
        short.update(piece)
        long.update(piece)
        left -= len(piece)
    return short.digest(), long.digest()


async def _not_called(work: Callable[..., object], *arguments: object) -> object:
    """Run in this thread: fsck reads where it stands."""
    return work(*arguments)
