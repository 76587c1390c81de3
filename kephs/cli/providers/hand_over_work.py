"""What hand-over and take-over share at the command's edge: keys, folders, trust, what goes in the open."""

import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import click

from config.settings import Settings, SettingsError
from evidence.adapters.trust_folder import TrustFolderError, read_trust
from evidence.bundle.hand_over import HandedBy, HandOverError
from evidence.x509.certificates import TEST_TRANSACTION_POLICY
from evidence.x509.chain import TrustStore
from evidence.x509.role import SealPolicy
from kephs.bootstrap.archive import ArchiveParts, ArchiveWork
from kephs.cli.beside import Beside
from kephs.cli.output import ExitError, progress_to_terminal, usage_error
from kephs.cli.workbench import open_workbench
from kephs.domain.trust_list import TrustListError, checked_name
from kephs.instances.keys import read_key
from kephs.ledger.server import published
from kephs.ports.archive import ArchivedObject
from kephs.ports.hand_over import PartsError
from kephs.usecases.ending.hand_over import Handing, HandOver
from kephs.usecases.ending.hand_over_guide import GUIDE, guide
from kephs.usecases.proof.bundle import MakeBundle
from kephs.usecases.proof.publish_ledger import PublishLedger
from storage.files.journal import sync_directory
from storage.hand_over_parts import FolderParts, KeyCipher

REGISTER_FILE_MAX: Final = 8 << 20
_REGISTER_FILES: Final = ("providers.json", "providers.json.p7s")


@dataclass(frozen=True, slots=True)
class HandingWork:
    """A hand-over ready to be made."""

    beside: Beside
    archive: ArchiveWork
    publish: PublishLedger
    work: HandOver
    handing: Handing
    bundles: MakeBundle


@asynccontextmanager
async def open_hand_over(settings: Settings, out: Path, key: Path, by: str) -> AsyncIterator[HandingWork]:
    """Open an instance to hand it over.

    Raises:
        SettingsError, SchemaError, ExitError: as `open_beside`, or the archive's store fails its probe.
    """
    async with open_workbench(settings) as bench:
        one, publish = bench.beside, bench.publishing
        archive, sealer = await bench.sealing(), await bench.sealer()
        work = HandOver(
            store=one.store, blobs=one.blobs, read_object=_reader(archive.parts), published=published,
            parts=FolderParts(out, one.offload.run), cipher=hand_over_key(key, make=True), sealer=sealer,
            offload=one.offload, clock=one.clock, progress=progress(),
        )  # fmt: skip
        provider, log = settings.provider, publish.verifier
        handed = HandedBy(provider.domain, provider.legal_name, provider.service_address, person(by))
        public = open_files(settings, bench.trust, log.vkey)
        handing = Handing(handed, log.name, log.vkey, public)
        yield HandingWork(one, archive, publish, work, handing, await bench.bundles())


def _reader(parts: ArchiveParts) -> Callable[[ArchivedObject], Awaitable[bytes]]:
    async def read(row: ArchivedObject) -> bytes:
        sealed = await parts.reader.place(row.place).get(row.ref)
        return parts.cipher.open(row.name, sealed)

    return read


def open_files(settings: Settings, trust: TrustStore, vkey: str) -> dict[str, bytes]:
    """Return what a hand-over shows to anybody: certificates, register, the ledger's key, a guide.

    Raises:
        SettingsError: a certificate file cannot be read.
    """
    files = {"defter.vkey": f"{vkey}\n".encode(), GUIDE: guide(settings.provider.domain, vkey)}
    for kind, certificates in (("kok", trust.roots), ("ara", trust.intermediates)):
        for one in certificates:
            files[f"guven/{kind}-{sha256(one.der).hexdigest()[:32]}.cer"] = one.der
    for name, path in (("islem.pem", settings.seal.certificate), ("islem-zincir.pem", settings.seal.chain)):
        try:
            files[f"guven/{name}"] = path.read_bytes()
        except FileNotFoundError:  # a card brings its own, a root may issue directly
            continue
        except OSError as error:
            raise SettingsError(f"{path}: {error.strerror}") from None
    for name in _REGISTER_FILES:
        path = settings.peers.directory / name
        if path.is_file() and path.stat().st_size <= REGISTER_FILE_MAX:
            files[f"rehber/{name}"] = path.read_bytes()
    return files


def hand_over_key(path: Path, *, make: bool = False) -> KeyCipher:
    """Return the cipher under the key of a file: 32 octets in hexadecimal.

    Args:
        path: the file.
        make: it is made where it is missing, for its owner alone.

    Raises:
        ExitError: it cannot be read or made.
    """
    try:
        if make and not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(32) + "\n")
                file.flush()
                os.fsync(file.fileno())
            sync_directory(path.parent)
        return KeyCipher(read_key(path))
    except (SettingsError, OSError, ValueError) as error:
        raise ExitError(
            "key-file", f"the hand-over's key cannot be used: {error}",
            "give the file that kephs hand-over made; it travels apart from the data",
        ) from None  # fmt: skip


def read_roots(folder: Path | None) -> TrustStore:
    """Return the trusted roots of a folder; none where no folder is given."""
    if folder is None:
        return TrustStore(())
    try:
        return read_trust(folder)
    except (TrustFolderError, OSError) as error:
        raise usage_error(f"--trust {error}") from None


def seal_policy(policies: tuple[str, ...]) -> SealPolicy:
    """Return which certificates seal, as `kephs verify` sees it."""
    return SealPolicy(transaction_policies=frozenset((TEST_TRANSACTION_POLICY, *policies)))


def person(name: str) -> str:
    """Return a person's name as it is kept.

    Raises:
        ExitError: it is none.
    """
    try:
        return checked_name(name)
    except TrustListError as error:
        raise ExitError("name-missing", str(error), "give --by with the person's name") from None


def told(error: Exception) -> ExitError | None:
    """Return the command's end for what hand-over and take-over raise; None for anything else."""
    from kephs.cli.archive.work import told as archive_told
    from kephs.usecases.ending.hand_over import StoreMovedError
    from kephs.usecases.ending.hand_over_rows import ContentGoneError

    if isinstance(error, StoreMovedError):
        return ExitError("store-moved", str(error), "stop the server, then run the command again: it goes on")
    if isinstance(error, ContentGoneError):
        return ExitError(
            "content-missing", f"the store names what is not there: {error}", "run kephs fsck DIR"
        )
    if isinstance(error, HandOverError | PartsError):
        return ExitError("hand-over-refused", str(error), "see docs/hand-over.md")
    return archive_told(error)


def progress() -> Callable[[str, int], None]:
    """Return what tells how far it is, on a terminal."""

    def tell(what: str, count: int) -> None:
        if count % 100 == 0:
            click.echo(f"\r{what}: {count} dosya / files", err=True, nl=False)

    def nothing(_what: str, _count: int) -> None:
        """Say nothing."""

    return tell if progress_to_terminal() else nothing
