"""The keys of an instance: read from their files, compared with those it was made with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from config.settings import Settings, SettingsError
from kephs.instances.databases import check_schema, in_use
from storage.key_check import FILE_NAME as KEY_CHECK_FILE
from storage.key_check import KeyCheckError, write_key_check, wrong_keys

_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Keys:
    """The secrets of one instance: ``master`` for content and columns, ``identity`` for identity numbers."""

    master: bytes
    identity: bytes

    @property
    def blobs(self) -> bytes:
        """Return the key that wraps the data keys of content."""
        return derived_key(self.master, b"kephs blobs")

    @property
    def columns(self) -> bytes:
        """Return the key of sealed columns."""
        return derived_key(self.master, b"kephs columns")

    @property
    def objects(self) -> bytes:
        """Return the key that wraps the data keys of the archive's objects."""
        return derived_key(self.master, b"kephs archive objects")

    def by_name(self) -> dict[str, bytes]:
        """Return them under the names they have in ``keys.check`` and in messages."""
        return {"master": self.master, "identity": self.identity}


def key_check_file(settings: Settings) -> Path:
    """Return where the check values of the instance's keys lie: beside the database."""
    return settings.storage.database.parent / KEY_CHECK_FILE


def open_keys(settings: Settings) -> Keys:
    """Return the instance's keys, if they are the ones it was made with.

    An instance without check values and without accounts or content gets them now; with these it is too late.

    Raises:
        SettingsError: a key is missing or is not this instance's, or the check values are missing.
        SchemaError: the database has to be looked at, and cannot be.
    """
    keys, path = read_keys(settings), key_check_file(settings)
    if not path.exists():
        check_schema(settings)
        if not in_use(settings):
            write_key_check(path, keys.by_name())
    problem = key_problem(settings, keys)
    if problem is not None:
        raise SettingsError(problem)
    return keys


def key_problem(settings: Settings, keys: Keys) -> str | None:
    """Return why these are not the instance's keys, None where they are; nothing is changed."""
    path, storage = key_check_file(settings), settings.storage
    try:
        wrong = wrong_keys(path, keys.by_name())
    except KeyCheckError as error:
        return (
            f"{error}; restore it from its backup, or, if the keys are certainly right, write it anew: "
            "`kephs migrate DIR --note-keys`"
        )
    files = {"master": storage.master_key, "identity": storage.identity_key}
    texts = [
        f"{files[name]}: this is not the {name} key of this instance; restore it from its backup"
        for name in wrong
    ]
    return "; ".join(texts) or None


def read_keys(settings: Settings) -> Keys:
    """Return what the key files hold, whichever instance it belongs to.

    Raises:
        SettingsError: a file is missing or holds no key.
    """
    return Keys(read_key(settings.storage.master_key), read_key(settings.storage.identity_key))


def read_key(path: Path) -> bytes:
    """Return the 32-byte key of a file.

    Raises:
        SettingsError: it is missing or wrong.
    """
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: {error}; restore the key from its backup") from None
    if len(key) != _KEY_BYTES:
        raise SettingsError(f"{path}: a key of 32 bytes in hexadecimal is expected")
    return key


def derived_key(master: bytes, purpose: bytes) -> bytes:
    """Return a key of its own for each purpose, so that none is used for two."""
    return HKDF(hashes.SHA256(), _KEY_BYTES, salt=None, info=purpose).derive(master)
