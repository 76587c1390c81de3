"""The ledger's keys: Ed25519, used for checkpoints and cosignatures alone, and the keys of others we know.

They make no legal signatures and certify nobody; losing one means to begin a new log under a new name.
The key is PKCS #8 PEM without a password, for its owner alone. The key that cosigns for others is derived
from it, so that the same key never signs two things (C2SP tlog-cosignature wants keys apart).
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from config.settings import LogKey, Settings, SettingsError
from evidence.ledger.notes import KeyKind, NoteError, NoteSigner, NoteVerifier
from storage.files.journal import sync_directory

_WITNESS: Final = b"kephs witness"


@dataclass(frozen=True, slots=True)
class KnownWitness:
    """A witness of ours: its submission prefix and its key."""

    url: str
    verifier: NoteVerifier


def origin_of(settings: Settings) -> str:
    """Return the name of the instance's log."""
    return settings.ledger.origin or f"{settings.provider.domain}/kephs-ledger"


def open_ledger_key(settings: Settings) -> NoteSigner:
    """Return the key that signs checkpoints, under the log's name.

    Raises:
        SettingsError: the file is missing or holds no Ed25519 key, or the name cannot be a key's.
    """
    try:
        return NoteSigner(origin_of(settings), _read(settings.ledger.key))
    except NoteError as error:
        raise SettingsError(f"ledger.origin: {error}") from None


def open_witness_key(settings: Settings) -> NoteSigner:
    """Return the key that cosigns for others, derived from the ledger's.

    Raises:
        SettingsError: as `open_ledger_key`.
    """
    seed = _read(settings.ledger.key).private_bytes_raw()
    derived = HKDF(hashes.SHA256(), 32, salt=None, info=_WITNESS).derive(seed)
    name = f"{settings.provider.domain}/kephs-witness"
    return NoteSigner(name, Ed25519PrivateKey.from_private_bytes(derived), KeyKind.COSIGNATURE)


def known_witnesses(settings: Settings) -> list[KnownWitness]:
    """Return who is asked to cosign.

    Raises:
        SettingsError: a key is none, is no witness's, or has no address.
    """
    found = []
    for one in settings.ledger.witnesses:
        verifier = _verifier("ledger.witnesses", one, KeyKind.COSIGNATURE)
        if not one.url.startswith(("https://", "http://")):
            raise SettingsError(f"ledger.witnesses: {verifier.name} needs a url, http:// or https://")
        found.append(KnownWitness(one.url, verifier))
    _check_distinct("ledger.witnesses", (one.verifier for one in found))
    return found


def witnessed_logs(settings: Settings) -> dict[str, NoteVerifier]:
    """Return the keys of the logs we cosign, by origin.

    Raises:
        SettingsError: a key is none, or is no log's.
    """
    keys = [_verifier("ledger.witnessed", one, KeyKind.NOTE) for one in settings.ledger.witnessed]
    _check_distinct("ledger.witnessed", keys)
    return {key.name: key for key in keys}


def write_ledger_key(
    path: Path, *, generate: Callable[[], Ed25519PrivateKey] = Ed25519PrivateKey.generate
) -> None:
    """Make a key for an instance that has none; it is on disk when this returns.

    Raises:
        FileExistsError: there is a file: it is never replaced.
        OSError: it cannot be written.
    """
    pem = generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(path.parent)


def _read(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except FileNotFoundError:
        raise SettingsError(
            f"{path} is missing: restore the ledger's key from its backup; an instance that never had one "
            "gets it by kephs ledger key DIR --make"
        ) from None
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"{path}: {error}; restore the ledger's key from its backup") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(f"{path}: the ledger's key is an Ed25519 key")
    return key


def _verifier(place: str, one: LogKey, kind: KeyKind) -> NoteVerifier:
    try:
        verifier = NoteVerifier.parse(one.vkey)
    except NoteError as error:
        raise SettingsError(f"{place}: {error}; see kephs ledger key DIR of the other side") from None
    if verifier.kind is not kind:
        wanted = "a witness's" if kind is KeyKind.COSIGNATURE else "a log's"
        raise SettingsError(f"{place}: {verifier.name} is not {wanted} key")
    return verifier


def _check_distinct(place: str, keys: Iterable[NoteVerifier]) -> None:
    names: set[str] = set()
    for key in keys:
        if key.name in names:
            raise SettingsError(f"{place}: {key.name} is there twice")
        names.add(key.name)
