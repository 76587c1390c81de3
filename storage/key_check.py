"""Whether keys are the ones an instance was made with, without keeping anything of the keys.

Beside the database lies ``keys.check``, one line for each key: its name and a check value, the
HMAC-SHA-256 of a constant under a key derived from it. A wrong key would otherwise do harm in silence:
new content under another master key, holders who are strangers under another identity key.
"""

import hmac
import os
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from storage.crypto import KEY_SIZE, KeyMismatchError, unwrap_key
from storage.files.journal import sync_directory

FILE_NAME: Final = "keys.check"

_LINE: Final = re.compile(r"([a-z]{1,20}) ([0-9a-f]{64})\Z")
_LARGEST: Final = 4096


class KeyCheckError(Exception):
    """The file with the check values is missing or damaged."""


def check_value(key: bytes) -> str:
    """Return the check value of a key, 64 hexadecimal digits; nothing of the key can be told from it."""
    derived = HKDF(SHA256(), KEY_SIZE, salt=None, info=b"kephs key check").derive(key)
    return hmac.digest(derived, b"kephs key check value 1", sha256).hex()


def write_key_check(path: Path, keys: Mapping[str, bytes]) -> None:
    """Write the check values of keys, by name; durable when this returns.

    Raises:
        OSError: nothing was written.
    """
    partial = path.with_name(path.name + ".part")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123  # a descriptor, no path
        file.writelines(f"{name} {check_value(key)}\n" for name, key in keys.items())
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_directory(path.parent)


def wrong_keys(path: Path, keys: Mapping[str, bytes]) -> list[str]:
    """Return the names of the keys that are not the ones whose check values were written.

    Raises:
        KeyCheckError: the file is missing or damaged, or a key's value is not in it.
    """
    try:
        with path.open("rb") as file:
            lines = file.read(_LARGEST).decode("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyCheckError(f"{path} cannot be read: {error}") from None
    found = [_LINE.match(line) for line in lines]
    if not all(found):
        raise KeyCheckError(f"{path} is damaged")
    noted = {match[1]: match[2] for match in found if match}
    if not noted.keys() >= keys.keys():
        raise KeyCheckError(f"{path} is damaged: a key's check value is missing")
    return [name for name, key in keys.items() if not hmac.compare_digest(noted[name], check_value(key))]


def in_use(database: Path) -> bool:
    """Say whether a database at the current schema holds accounts or content: its keys matter already.

    Raises:
        sqlite3.DatabaseError: it cannot be read.
    """
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT EXISTS (SELECT 1 FROM accounts) OR EXISTS (SELECT 1 FROM blobs)"
        return bool(connection.execute(query).fetchone()[0])


def opens_content(database: Path, blob_key: bytes) -> bool:
    """Say whether a key opens the data key of the database's content; true where there is no content.

    Raises:
        sqlite3.DatabaseError: it cannot be read.
    """
    with closing(sqlite3.connect(database)) as connection:
        row = connection.execute("SELECT data_key FROM blobs LIMIT 1").fetchone()
    try:
        return row is None or bool(unwrap_key(blob_key, row[0]))
    except KeyMismatchError:
        return False
