"""Where certificates for the trust list come from: files of certificates, and signed lists.

A signed list is JSON with a detached signature beside it, made and checked as the register of providers is
(`kephs.register_seal`), by a signer whose certificate is pinned in the settings::

    {"version": 1, "issued_at": "2026-11-01T00:00:00Z", "certificates": ["BASE64 DER", ...]}

It saves typing, not the two persons: what it brings is proposed like everything else.
"""

import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from kephs.usecases.governance.trust_list import MOST_AT_ONCE

VERSION: Final = 1
MAX_FILE: Final = 8 << 20
_FIELDS: Final = frozenset({"version", "issued_at", "certificates"})


class TrustFileError(ValueError):
    """The list breaks its own format; the text says where."""


@dataclass(frozen=True, slots=True)
class SignedList:
    """What a list says; ``certificates`` are DER that nobody looked into yet."""

    issued_at: datetime
    certificates: tuple[bytes, ...]


def parse_trust_file(content: bytes) -> SignedList:
    """Return what a list says.

    Raises:
        TrustFileError: it is too large, no JSON of this form, or has a field twice or unknown.
    """
    if len(content) > MAX_FILE:
        raise TrustFileError(f"larger than {MAX_FILE} octets")
    try:
        found = json.loads(content.decode(), object_pairs_hook=_object)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise TrustFileError(f"not JSON: {type(error).__name__}") from None
    if not isinstance(found, dict) or found.keys() != _FIELDS or found["version"] != VERSION:
        raise TrustFileError(
            f"not a list of version {VERSION}: version, issued_at and certificates are wanted"
        )
    listed = found["certificates"]
    if not isinstance(listed, list) or not 0 < len(listed) <= MOST_AT_ONCE:
        raise TrustFileError(f"certificates: 1 to {MOST_AT_ONCE} are wanted")
    return SignedList(_time(found["issued_at"]), tuple(_der(n, one) for n, one in enumerate(listed)))


def make_trust_file(certificates: Iterable[bytes], issued_at: datetime) -> bytes:
    """Return a list, ready to be signed.

    Args:
        certificates: DER.
        issued_at: UTC; a fraction of a second is dropped.
    """
    whole = {
        "version": VERSION,
        "issued_at": f"{issued_at:%Y-%m-%dT%H:%M:%SZ}",
        "certificates": [b64encode(der).decode("ascii") for der in certificates],
    }
    return json.dumps(whole, indent=1).encode() + b"\n"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise TrustFileError("a field is there twice")
    return made


def _time(text: object) -> datetime:
    try:
        if isinstance(text, str):
            return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        pass
    raise TrustFileError("issued_at: a time such as 2026-11-01T00:00:00Z is wanted")


def _der(number: int, text: object) -> bytes:
    try:
        if isinstance(text, str):
            return b64decode(text.encode("ascii"), validate=True)
    except (Base64Error, UnicodeEncodeError, ValueError):
        pass
    raise TrustFileError(f"certificates[{number}]: base64 is wanted")
