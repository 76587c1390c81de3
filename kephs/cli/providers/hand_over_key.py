"""Destroying the transaction key of a provider that ended, with two persons on record (KEP-TM-04)."""

import os
from hashlib import sha256
from pathlib import Path

from config.settings import Settings
from kephs.cli.beside import open_beside
from kephs.cli.output import ExitError
from kephs.cli.providers.hand_over_work import person
from kephs.cli.run.serve import alone
from kephs.domain.trust_list import folded_name
from kephs.usecases.ending.hand_over_notes import note_key
from storage.files.journal import sync_directory


async def destroy(settings: Settings, directory: Path, by: str, witness: str) -> str:
    """Record, destroy, record again; return what was done, for people.

    Raises:
        ExitError: one person only, or the key's file is not there.
        SettingsError: a server runs.
        KeyStillNeededError: nothing was handed over, or evidence was made since.
    """
    persons = person(by), person(witness)
    if folded_name(persons[0]) == folded_name(persons[1]):
        raise ExitError("one-person", "two persons of different names are needed", "name another --witness")
    device = bool(settings.seal.pkcs11_module)
    if not device and not settings.seal.key.is_file():
        raise ExitError("no-key", f"{settings.seal.key} is not there", "see kephs audit list DIR")
    detail = f"certificate sha256={_certificate(settings)}; " + (
        "in a device, destroyed by its own tools" if device else "a file, overwritten and removed"
    )
    domain = settings.provider.domain
    with alone(directory):
        async with open_beside(settings) as beside:
            store, clock = beside.store, beside.clock
            await store.write(lambda tx: note_key(tx, clock.now(), persons, domain, detail, gone=False))
            if not device:
                await beside.offload.run(_wipe, settings.seal.key)
            await store.write(lambda tx: note_key(tx, clock.now(), persons, domain, detail, gone=True))
    return f"{domain}: {detail}"


def _certificate(settings: Settings) -> str:
    try:
        return sha256(settings.seal.certificate.read_bytes()).hexdigest() + " (of the file)"
    except OSError:
        return "unknown"


def _wipe(path: Path) -> None:
    """Overwrite a file in place, durably, and remove it. Flash may keep old cells: encrypt the disk."""
    size = path.stat().st_size
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(handle, "wb", buffering=0) as file:
        file.write(os.urandom(size))
        os.fsync(file.fileno())
    path.unlink()
    sync_directory(path.parent)
