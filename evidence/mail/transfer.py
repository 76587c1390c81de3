"""Transfer encodings taken off piece by piece, as mail programs do: what does not belong is passed over.

For showing and handing on content only. Signatures are read with `evidence.base64_strict`.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Final

_HELD_MAX: Final = 64 * 1024  # bytes of a line without end that are held for quoted-printable
_NOT_BASE64: Final = re.compile(rb"[^A-Za-z0-9+/]+")
_SPLIT_ESCAPE: Final = re.compile(rb"=[0-9A-Fa-f]?\r?\Z")


def decoded_pieces(raw: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """Return content without its transfer encoding (spec: RFC2045#6); with one that is not known, as it is.

    Args:
        raw: the encoded octets, cut anywhere; a few of them are held at a time.
        encoding: as the header names it, lower-case.
    """
    if encoding == "base64":
        return _base64(raw)
    return _quoted_printable(raw) if encoding == "quoted-printable" else raw


def _base64(raw: Iterator[bytes]) -> Iterator[bytes]:
    held = b""
    for data in raw:
        text, padding, _ = data.partition(b"=")
        held += _NOT_BASE64.sub(b"", text)
        if padding:
            break
        whole = len(held) & ~3
        yield base64.b64decode(held[:whole])
        held = held[whole:]
    held = held[: len(held) - (len(held) % 4 == 1)]  # six bits alone are no byte
    yield base64.b64decode(held + b"=" * (-len(held) % 4))


def _quoted_printable(raw: Iterator[bytes]) -> Iterator[bytes]:
    held = b""
    for data in raw:
        held += data
        end = held.rfind(b"\n") + 1
        if not end and len(held) > _HELD_MAX:
            split = _SPLIT_ESCAPE.search(held, len(held) - 3)
            end = split.start() if split else len(held)
        yield binascii.a2b_qp(held[:end])
        held = held[end:]
    yield binascii.a2b_qp(held)
