"""What a token's process and its parent say to each other: frames of a kind, a length and octets. Sans-IO.

=============  =================  ============================================================================
from           kind               octets
=============  =================  ============================================================================
parent         ``PLACE``          JSON: where the key lies, its certificate; once, before anything else
parent         ``OPEN``           none: log in, or in again
parent         ``DIGESTS``        SHA-256 digests, `BATCH_MAX` at most
parent         ``PIN``            the PIN that was asked for, UTF-8
parent         ``NO_PIN``         a `Trouble` and why there is none, UTF-8
child          ``PIN``            none: the PIN is wanted
child          ``ACCEPTED``       none: the token took it
child          ``REFUSED``        none: the token did not
child          ``SIGNATURES``     each with its length before it; the answer to ``OPEN`` has none
child          ``ERROR``          a `Trouble` and a text, UTF-8
=============  =================  ============================================================================

Each ``OPEN`` and ``DIGESTS`` has one answer, ``SIGNATURES`` or ``ERROR``, in the order they were sent in.
"""

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from evidence.adapters.pkcs11_token import PinRefusedError
from evidence.adapters.soft_signer import KeyMaterialError
from evidence.ports import SignerUnavailableError

BATCH_MAX: Final = 64
"""Digests of one frame: the token signs them without a pause, and answers them together."""
DIGEST_SIZE: Final = 32
FRAME_MAX: Final = 1 << 18  # octets: as many signatures of the largest RSA keys, twice
TEXT_MAX: Final = 500
_HEAD: Final = struct.Struct(">BI")
_SIZE: Final = struct.Struct(">H")


class Kind(IntEnum):
    """What a frame is."""

    PLACE = 1
    OPEN = 2
    DIGESTS = 3
    PIN = 4
    NO_PIN = 5
    ACCEPTED = 6
    REFUSED = 7
    SIGNATURES = 8
    ERROR = 9


class Trouble(IntEnum):
    """Which error the other side is to raise."""

    UNAVAILABLE = 1
    MATERIAL = 2
    PIN_REFUSED = 3


class TokenWireError(Exception):
    """The other side does not keep to the form; it is of no further use."""


class Frame(NamedTuple):
    """One frame."""

    kind: Kind
    octets: bytes


class FrameReader:
    """Bytes in, frames out; where the bytes are cut does not matter."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Take what arrived and return the frames it completes.

        Raises:
            TokenWireError: a frame is too long or of no kind.
        """
        rest = self._rest
        rest += data
        frames, start = [], 0
        while len(rest) - start >= _HEAD.size:
            kind, length = _HEAD.unpack_from(rest, start)
            if length > FRAME_MAX or not Kind.PLACE <= kind <= Kind.ERROR:
                raise TokenWireError(f"a frame of kind {kind} and {length} octets")
            end = start + _HEAD.size + length
            if len(rest) < end:
                break
            frames.append(Frame(Kind(kind), bytes(rest[start + _HEAD.size : end])))
            start = end
        del rest[:start]
        return frames


def pack(kind: Kind, octets: bytes = b"") -> bytes:
    """Return a frame."""
    return _HEAD.pack(kind, len(octets)) + octets


def read_digests(octets: bytes) -> list[bytes]:
    """Return the digests of a frame.

    Raises:
        TokenWireError: one is cut, or there are too many.
    """
    if len(octets) % DIGEST_SIZE or len(octets) > DIGEST_SIZE * BATCH_MAX:
        raise TokenWireError("no digests")
    return [octets[start : start + DIGEST_SIZE] for start in range(0, len(octets), DIGEST_SIZE)]


def pack_signatures(signatures: Sequence[bytes]) -> bytes:
    """Return the frame with signatures."""
    return pack(Kind.SIGNATURES, b"".join([_SIZE.pack(len(one)) + one for one in signatures]))


def read_signatures(octets: bytes, count: int) -> list[bytes]:
    """Return the signatures of a frame.

    Args:
        octets: of the frame.
        count: how many were asked for.

    Raises:
        TokenWireError: there are others than so many.
    """
    found, start = [], 0
    while start + _SIZE.size <= len(octets):
        (size,) = _SIZE.unpack_from(octets, start)
        start += _SIZE.size + size
        found.append(octets[start - size : start])
    if start != len(octets) or len(found) != count or not all(found):
        raise TokenWireError("other signatures than were asked for")
    return found


def pack_error(error: Exception, kind: Kind = Kind.ERROR) -> bytes:
    """Return the frame with an error: as it is where the other side knows its class, else as unavailable."""
    match error:
        case PinRefusedError():
            trouble = Trouble.PIN_REFUSED
        case KeyMaterialError():
            trouble = Trouble.MATERIAL
        case _:
            trouble = Trouble.UNAVAILABLE
    return pack(kind, bytes([trouble]) + str(error)[:TEXT_MAX].encode("utf-8", "replace"))


def read_error(octets: bytes) -> KeyMaterialError | SignerUnavailableError:
    """Return the error of a frame."""
    text = octets[1:].decode("utf-8", "replace")
    match octets[:1]:
        case b"\x03":
            return PinRefusedError(text)
        case b"\x02":
            return KeyMaterialError(text)
    return SignerUnavailableError(text)
