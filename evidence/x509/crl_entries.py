"""The entries of a revocation list: one pass over the bytes, then one search per question.

Nothing is made per entry but its offset (four octets): 600,000 entries in 20 MiB cost 2.4 MiB more. The pass
is not optional: one entry with a critical extension that is not processed spoils the whole list, and a serial
number padded by its writer would be missed by the search. (spec: RFC5280#5.1.2.6, #5.3)
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from evidence.asn1.der import (
    BOOLEAN,
    ENUMERATED,
    GENERALIZED_TIME,
    INTEGER,
    OCTET_STRING,
    OID,
    SEQUENCE,
    UTC_TIME,
    Cursor,
    DerError,
    Node,
    children,
    integer,
    parse,
    read,
    to_bool,
    to_oid,
)
from evidence.x509.answers import CERTIFICATE_HOLD, REASONS, REMOVE_FROM_CRL, RevocationError, status_time

REASON_CODE: Final = "2.5.29.21"
INVALIDITY_DATE: Final = "2.5.29.24"
CERTIFICATE_ISSUER: Final = "2.5.29.29"
_PROCESSED: Final = frozenset({REASON_CODE, INVALIDITY_DATE})
_INVALIDITY: Final = bytes.fromhex("0603551d18 0411 180f")
"""Begin of a usual invalidityDate up to its digits: OID, not critical, OCTET STRING, GeneralizedTime."""
_MAX_SERIAL: Final = 64
_MAX_BLOCK: Final = 4096
_REMEMBERED: Final = 1024


@dataclass(frozen=True, slots=True)
class CrlEntry:
    """What a list says of one revoked certificate; ``reason`` None where it gives none."""

    revoked_at: datetime
    reason: str | None

    @property
    def final(self) -> bool:
        """Say whether this revocation cannot be taken back."""
        return self.reason != CERTIFICATE_HOLD


class CrlEntries:
    """The entries of one list.

    Args:
        listed: revokedCertificates; None where the list has none.

    Raises:
        DerError: an entry is not strict DER.
        RevocationError: an entry has a critical extension that is not processed, or names another issuer.
    """

    __slots__ = ("_data", "_end", "_start", "_starts")

    def __init__(self, listed: Node | None) -> None:
        self._data = listed.data if listed is not None else b""
        self._start, self._end = (listed.body, listed.end) if listed is not None else (0, 0)
        try:
            self._starts = _starts(self._data, self._start, self._end)
        except IndexError as error:
            raise DerError("entry is cut short") from error

    def __len__(self) -> int:
        """Return how many entries there are."""
        return len(self._starts)

    def find(self, serial: int) -> CrlEntry | None:
        """Return what is said of a serial number, None where the list is silent about it.

        A serial listed twice is what the worse entry says: final before on hold, then the earlier.

        Raises:
            DerError: the entry is malformed.
            RevocationError: the entry says removeFromCRL, which has no meaning in a complete list.
        """
        found = list(self._found(integer(serial)))
        return min(found, key=lambda entry: (not entry.final, entry.revoked_at)) if found else None

    def _found(self, needle: bytes) -> Iterator[CrlEntry]:
        """Search the octets of the serial; a hit counts where an entry begins with it."""
        position = self._data.find(needle, self._start, self._end)
        while position >= 0:
            index = bisect_right(self._starts, position) - 1
            entry = read(self._data, self._starts[index], self._end)
            if entry.body == position:
                yield _entry(entry)
                position = entry.end - 1
            position = self._data.find(needle, position + 1, self._end)


def _starts(data: bytes, position: int, end: int) -> "array[int]":
    """Check the shape of all entries and return where they begin.

    Written flat, without a call per entry: lists of some issuers have a hundred thousand.
    """
    starts = array("I")
    add = starts.append
    checked: set[bytes] = set()
    while position < end:
        add(position)
        body, stop = position + 2, position + 2 + data[position + 1]
        if data[position] != SEQUENCE or data[position + 1] >= 0x80:
            node = read(data, position, end)
            if node.tag != SEQUENCE:
                raise DerError("CRL entry is no sequence")
            body, stop = node.body, node.end
        size = data[body + 1]
        time = body + 2 + size
        if data[body] != INTEGER or not 1 <= size <= _MAX_SERIAL:
            raise DerError("CRL entry without serial number")
        if size > 1 and (
            (not data[body + 2] and data[body + 3] < 0x80)
            or (data[body + 2] == 0xFF and data[body + 3] >= 0x80)
        ):
            raise DerError("serial number is not minimal")
        rest = time + 2 + data[time + 1]
        if (data[time] != UTC_TIME and data[time] != GENERALIZED_TIME) or data[time + 1] >= 0x80:
            raise DerError("CRL entry without time")
        if rest != stop:
            block = data[rest:stop]
            if block not in checked:
                _check_block(block, checked)
        if stop > end or rest > stop:
            raise DerError("CRL entry runs past its container")
        position = stop
    return starts


def _check_block(block: bytes, checked: set[bytes]) -> None:
    """Check the extensions of one entry; remember those of many, which differ in the invalidity date only."""
    start = block.find(_INVALIDITY)
    if start >= 0:
        digits = start + len(_INVALIDITY)
        if block[digits : digits + 14].isdigit() and block[digits + 14 : digits + 15] == b"Z":
            dateless = b"\x00" + block[:digits] + block[digits + 15 :]  # no block begins with NUL
            if dateless in checked:
                return
            if len(checked) < _REMEMBERED:
                _reason(block)
                checked.add(dateless)
                return
    _reason(block)
    if len(checked) < _REMEMBERED:
        checked.add(block)


def _entry(node: Node) -> CrlEntry:
    cursor = Cursor(node, limit=3)
    cursor.take(INTEGER)
    revoked_at = status_time(cursor.take())
    listed = cursor.optional(SEQUENCE)
    cursor.finish()
    reason = _reason(listed.whole) if listed is not None else None
    if reason == REMOVE_FROM_CRL:
        raise RevocationError("removeFromCRL in a complete list")
    return CrlEntry(revoked_at, reason)


def _reason(block: bytes) -> str | None:
    """Check the extensions of an entry and return its reason, None for none (spec: RFC5280#5.3)."""
    reason: str | None = None
    seen: set[str] = set()
    for extension in children(parse(block, max_size=_MAX_BLOCK, tag=SEQUENCE), limit=16):
        cursor = Cursor(extension, limit=3)
        kind = to_oid(cursor.take(OID))
        flag = cursor.optional(BOOLEAN)
        value = cursor.take(OCTET_STRING).content
        cursor.finish()
        if kind in seen:
            raise DerError(f"CRL entry extension {kind} twice")
        seen.add(kind)
        if kind == CERTIFICATE_ISSUER:
            raise RevocationError("CRL is indirect: an entry names another issuer")
        if flag is not None and to_bool(flag) and kind not in _PROCESSED:
            raise RevocationError(f"unknown critical CRL entry extension {kind}")
        if kind == REASON_CODE:
            reason = REASONS.get(parse(value, max_size=16, tag=ENUMERATED).content, "unspecified")
    return reason
