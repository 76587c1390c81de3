"""Objects of the archive are encrypted before any store sees them; the master key alone opens them again.

A sealed object is ``KEPHSA1`` 00, the wrapped data key (40 octets, RFC 3394), the plain size (8 octets, big
endian), then chunks of 64 KiB, each with its tag. SHA-256 of head and name is associated data of every chunk:
an object opens under its own name only.

The data key is made from master key, name and content (HKDF-SHA-256), as in a synthetic IV: the same object
sealed again, after a kill, gives the same octets, and no key ever meets two contents. That two objects hold
the same can be seen of those with the same name only.
"""

import hashlib
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from storage.crypto import (
    CHUNK,
    KEY_SIZE,
    TAG,
    ChunkCipher,
    KeyMismatchError,
    check_key,
    sealed_size,
    unwrap_key,
    wrap_key,
)

MARK: Final = b"KEPHSA1\0"
OBJECT_MAX: Final = 2**31  # octets, plain; larger ones are more objects
_WRAPPED: Final = 40
_SIZE: Final = 8
HEAD: Final = len(MARK) + _WRAPPED + _SIZE


def seal_object(master_key: bytes, name: str, plain: bytes) -> bytes:
    """Encrypt an object; the same arguments give the same octets.

    Args:
        master_key: 32 octets.
        name: of the object; it opens under this name alone.
        plain: at most `OBJECT_MAX` octets.

    Raises:
        ValueError: key or content has another size.
    """
    if len(plain) > OBJECT_MAX:
        raise ValueError(f"an object has at most {OBJECT_MAX} octets")
    data_key = _data_key(check_key(master_key), name, plain)
    head = MARK + wrap_key(master_key, data_key) + len(plain).to_bytes(_SIZE)
    cipher = ChunkCipher(data_key, _about(head, name))
    view = memoryview(plain)
    chunks = (
        cipher.encrypt(number, view[start : start + CHUNK], last=start + CHUNK >= len(plain))
        for number, start in enumerate(range(0, len(plain) or 1, CHUNK))
    )
    return b"".join((head, *chunks))


def open_object(master_key: bytes, name: str, sealed: bytes) -> bytes:
    """Decrypt an object.

    Raises:
        KeyMismatchError: another master key, another name, cut, or a changed octet.
        ValueError: the key has another size.
    """
    check_key(master_key)
    head = sealed[:HEAD]
    size = int.from_bytes(head[-_SIZE:])
    if len(head) != HEAD or not head.startswith(MARK) or len(sealed) != HEAD + sealed_size(size):
        raise KeyMismatchError(name)
    data_key = unwrap_key(master_key, head[len(MARK) : len(MARK) + _WRAPPED])
    cipher = ChunkCipher(data_key, _about(head, name))
    view, step = memoryview(sealed), CHUNK + TAG
    return b"".join(
        cipher.decrypt(number, view[start : start + step], last=start + step >= len(sealed))
        for number, start in enumerate(range(HEAD, len(sealed), step))
    )


def _data_key(master_key: bytes, name: str, plain: bytes) -> bytes:
    about = b"kephs archive object key 1\0" + name.encode()
    return HKDF(SHA256(), KEY_SIZE, hashlib.sha512(plain).digest(), about).derive(master_key)


def _about(head: bytes, name: str) -> bytes:
    return hashlib.sha256(head + name.encode()).digest()
