"""Keys and ciphers of storage: sealed columns, wrapped data keys, encrypted chunks.

Everything is AES-256. Keys are arguments; no key is kept outside the objects here.
"""

import os
from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from threading import Lock
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

KEY_SIZE: Final = 32
CHUNK: Final = 64 * 1024
TAG: Final = 16
UID: Final = 16

_VERSION: Final = b"\x01"
_SALT: Final = 16
_COUNTER: Final = 8
_HEAD: Final = 1 + _SALT + _COUNTER
_SUBKEYS_KEPT: Final = 256


class KeyMismatchError(Exception):
    """Something sealed does not open: another key, another place, or a changed byte."""


def check_key(key: bytes) -> bytes:
    """Return the key.

    Raises:
        ValueError: it is not 32 octets.
    """
    if len(key) != KEY_SIZE:
        raise ValueError(f"a key has {KEY_SIZE} octets, not {len(key)}")
    return key


class Vault:
    """Seals personal columns with the instance key.

    A sealed value is ``01 | salt [16] | counter [8] | AES-256-GCM ciphertext and tag``. The salt is drawn
    once per process; HKDF-SHA-256 makes the process's own key of it, under which the counter is the
    nonce: it never repeats, however many values an instance writes (random nonces would have to stop
    at 2^32). ``place`` (table and row) is associated data, so values cannot change rows.
    """

    def __init__(self, key: bytes, *, random: Callable[[int], bytes] = os.urandom) -> None:
        self._key = check_key(key)
        self._salt = random(_SALT)
        self._counter = count()  # next() on it is atomic
        self._subkeys: OrderedDict[bytes, AESGCM] = OrderedDict()
        self._lock = Lock()
        self._own = self._subkey(self._salt)

    def seal(self, data: bytes, place: str) -> bytes:
        """Encrypt a column's value for one row."""
        counter = next(self._counter).to_bytes(_COUNTER)
        return b"".join(
            (_VERSION, self._salt, counter, self._own.encrypt(b"\0\0\0\0" + counter, data, place.encode()))
        )

    def unseal(self, sealed: bytes, place: str) -> bytes:
        """Decrypt a column's value.

        Raises:
            KeyMismatchError: it does not open.
        """
        if len(sealed) < _HEAD + TAG or sealed[:1] != _VERSION:
            raise KeyMismatchError(place)
        salt, counter = sealed[1 : 1 + _SALT], sealed[1 + _SALT : _HEAD]
        cipher = self._own if salt == self._salt else self._subkey(salt)
        try:
            return cipher.decrypt(b"\0\0\0\0" + counter, sealed[_HEAD:], place.encode())
        except InvalidTag:
            raise KeyMismatchError(place) from None

    def _subkey(self, salt: bytes) -> AESGCM:
        with self._lock:
            found = self._subkeys.get(salt)
            if found is None:
                derived = HKDF(SHA256(), KEY_SIZE, salt, b"kephs column key 1").derive(self._key)
                found = self._subkeys[salt] = AESGCM(derived)
                if len(self._subkeys) > _SUBKEYS_KEPT:
                    self._subkeys.popitem(last=False)
            return found


def wrap_key(master_key: bytes, data_key: bytes) -> bytes:
    """Wrap a data key by the master key (AES key wrap, 40 octets).

    spec: RFC3394#2.2.1
    """
    return aes_key_wrap(master_key, data_key)


def unwrap_key(master_key: bytes, wrapped: bytes) -> bytes:
    """Return the data key.

    Raises:
        KeyMismatchError: wrapped by another key, or changed.
    """
    try:
        return aes_key_unwrap(master_key, wrapped)
    except (InvalidUnwrap, ValueError):
        raise KeyMismatchError("data key") from None


class ChunkCipher:
    """Encrypts one blob's content in chunks of 64 KiB, each with its own tag.

    The nonce is the chunk's number (the data key is the blob's alone). Associated data are the blob's
    uid, the number and whether it is the last chunk: chunks cannot change order or blob, and a shorter
    content does not end in a last chunk. The digest is not known while content streams in, so the
    random uid stands for the blob's id in it; the digest is bound through the row that names the uid.
    Every content has at least one chunk, an empty one where the content is empty.
    """

    def __init__(self, data_key: bytes, uid: bytes) -> None:
        self._cipher = AESGCM(data_key)
        self._uid = uid

    def encrypt(self, number: int, plain: bytes | memoryview, *, last: bool) -> bytes:
        """Return ciphertext and tag of a chunk."""
        return self._cipher.encrypt(number.to_bytes(12), plain, self._about(number, last=last))

    def encrypt_all(self, content: bytes) -> list[bytes]:
        """Return every chunk of content that is at hand as a whole."""
        view, size = memoryview(content), len(content)
        return [
            self.encrypt(start // CHUNK, view[start : start + CHUNK], last=start + CHUNK >= size)
            for start in range(0, size or 1, CHUNK)
        ]

    def decrypt(self, number: int, sealed: bytes | memoryview, *, last: bool) -> bytes:
        """Return a chunk.

        Raises:
            KeyMismatchError: the tag does not fit.
        """
        try:
            return self._cipher.decrypt(number.to_bytes(12), sealed, self._about(number, last=last))
        except InvalidTag:
            raise KeyMismatchError(f"chunk {number}") from None

    def _about(self, number: int, *, last: bool) -> bytes:
        return self._uid + number.to_bytes(8) + (b"\x01" if last else b"\x00")


def chunk_count(size: int) -> int:
    """Return how many chunks content of this size has: at least one."""
    return max(1, -(-size // CHUNK))


def sealed_size(size: int) -> int:
    """Return the size of all chunks of content of this size, tags included."""
    return size + TAG * chunk_count(size)
