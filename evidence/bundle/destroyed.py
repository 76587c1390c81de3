"""``ileti/imha.json``: what a bundle says where the original is destroyed: its digests, when, and by what.

It stands in the place of the original and is bound by the manifest's signature, so it cannot be put there by
somebody who took the original out. Evidence carries the original's SHA-256; whoever still has the message can
be compared with it. ``record`` names the entry of the provider's process record that tells of it.

A party to the message is not named: the record does, and it is handed over to whoever may ask.
"""

import json
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from evidence.xml.reader import format_time, parse_time

NAME: Final = "ileti/imha.json"
FORMAT: Final = "kephs-destroyed-1"
MAX_FILE: Final = 64 * 1024
_PARTS_MOST: Final = 100
_CODE: Final = re.compile(r"[a-z][a-z-]{0,31}\Z")


class DestroyedFormError(ValueError):
    """The bytes are no such statement."""


@dataclass(frozen=True, slots=True)
class DestroyedPart:
    """One content that is gone.

    ``part``: ``original`` or ``kep-message``; ``cause``: ``owner``, ``closing`` or ``unused``.
    """

    part: str
    sha256: bytes
    at: datetime
    cause: str
    record_number: int
    record_sha256: bytes


@dataclass(frozen=True, slots=True)
class DestroyedContent:
    """What became of a message's content. The digests are those of the original.

    Of what a peer relayed to us only the SHA-256 is known, which its evidence has: ``sha512`` is empty then.
    """

    message_id: str
    sha256: bytes
    sha512: bytes
    parts: tuple[DestroyedPart, ...]

    def encode(self) -> bytes:
        """Return the file: JSON in one fixed layout."""
        plain = {
            "format": FORMAT,
            "message_id": self.message_id,
            "original_sha256": self.sha256.hex(),
            "original_sha256_base64": b64encode(self.sha256).decode(),
            "original_sha512": self.sha512.hex(),
            "destroyed": [
                {
                    "part": one.part,
                    "sha256": one.sha256.hex(),
                    "at": format_time(one.at),
                    "cause": one.cause,
                    "record": one.record_number,
                    "record_sha256": one.record_sha256.hex(),
                }
                for one in self.parts
            ],
        }
        return json.dumps(plain, ensure_ascii=False, indent=1).encode() + b"\n"

    @classmethod
    def read(cls, data: bytes) -> "DestroyedContent":
        """Read a file.

        Raises:
            DestroyedFormError: it is none; any other spelling than `encode`'s is none either.
        """
        if len(data) > MAX_FILE:
            raise DestroyedFormError("too long")
        try:
            read = _read(json.loads(data))
            same = read.encode() == data
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise DestroyedFormError(f"not a statement about destroyed content: {error}") from None
        if not same:
            raise DestroyedFormError("not the form of such a statement")
        return read


def statement_about(data: bytes, message_id: object) -> DestroyedContent | None:
    """Return a statement where it is one and about this message."""
    try:
        found = DestroyedContent.read(data)
    except DestroyedFormError:
        return None
    return found if found.message_id == message_id else None


def _read(plain: Any) -> DestroyedContent:
    if plain["format"] != FORMAT or not isinstance(plain["message_id"], str):
        raise ValueError("another format")
    listed = plain["destroyed"]
    if not isinstance(listed, list) or not 1 <= len(listed) <= _PARTS_MOST:
        raise ValueError("nothing destroyed, or too much")
    digest = _digest(plain["original_sha256"], 32)
    if b64decode(plain["original_sha256_base64"], validate=True) != digest:
        raise ValueError("two digests of one original")
    other = plain["original_sha512"]
    sha512 = b"" if other == "" else _digest(other, 64)
    return DestroyedContent(plain["message_id"], digest, sha512, tuple(map(_part, listed)))


def _part(plain: Any) -> DestroyedPart:
    number = plain["record"]
    if type(number) is not int or not 1 <= number < 1 << 63:
        raise ValueError("no number of an entry")
    return DestroyedPart(
        _code(plain["part"]), _digest(plain["sha256"], 32), parse_time(plain["at"]), _code(plain["cause"]),
        number, _digest(plain["record_sha256"], 32),
    )  # fmt: skip


def _code(text: Any) -> str:
    if not isinstance(text, str) or _CODE.match(text) is None:
        raise ValueError("not a code")
    return text


def _digest(text: Any, size: int) -> bytes:
    digest = bytes.fromhex(text)
    if len(digest) != size:
        raise ValueError("a digest of another length")
    return digest
