"""A KEP message on its way out: unaltered but for transparency dots, and nothing that could be misread."""

import re
from typing import Final

from kephs.domain.relay import Letter

ADDRESS_MAX: Final = 254  # spec: RFC5321#4.5.3.1.3 (256 with the angle brackets)
END: Final = b".\r\n"
_ADDRESS: Final = re.compile(r"[^\x00-\x20\"<>\\\x7f-\U0010ffff@]+@[^\x00-\x20\"<>\\\x7f-\U0010ffff@]+")


class LetterError(ValueError):
    """A letter that must not be sent as it is: our own fault, never a peer's."""


def check_envelope(letter: Letter) -> None:
    """Check what goes into command lines: nothing may end one early or add a parameter.

    Raises:
        LetterError: no recipient, or something that is no plain ASCII address.
    """
    if not letter.recipients:
        raise LetterError("no recipient")
    for address in (*letter.recipients, *((letter.sender,) if letter.sender else ())):
        if len(address) > ADDRESS_MAX or _ADDRESS.fullmatch(address) is None:
            raise LetterError("an envelope address that cannot be sent")


class ContentEncoder:
    """Content in any pieces in, octets for the wire out; sans-IO, memory of one piece.

    Refuses what a peer could read otherwise than we meant it: a CR or LF that stands alone could end the
    data early there, an octet above 127 needs BODY=8BITMIME.
    """

    __slots__ = ("_behind", "_cr_waits", "_eight_bit")

    def __init__(self, *, eight_bit: bool) -> None:
        self._eight_bit = eight_bit
        self._behind = b"\r\n"  # the last two octets: a dot is stuffed at the beginning too
        self._cr_waits = False

    def feed(self, piece: bytes) -> bytes:
        """Return the next piece with its dots stuffed.

        Raises:
            LetterError: a bare CR or LF, or an octet above 127 that was not announced.
        """
        # spec: RFC5321#4.5.2 (transparency), RFC5321#2.3.8 (no bare CR or LF)
        if not piece:
            return b""
        self._check_line_ends(piece)
        if not self._eight_bit and not piece.isascii():
            raise LetterError("content has octets above 127 and the letter says it has none")
        joined = self._behind + piece
        self._behind = joined[-2:]
        return joined.replace(b"\r\n.", b"\r\n..")[2:]

    def end(self) -> bytes:
        """Return what ends the data.

        Raises:
            LetterError: the content does not end with CRLF.
        """
        if self._behind != b"\r\n":
            raise LetterError("content does not end with CRLF")
        return END

    def _check_line_ends(self, piece: bytes) -> None:
        if self._cr_waits:
            piece = b"\r" + piece
        self._cr_waits = piece.endswith(b"\r")
        whole = piece.count(b"\r\n")
        if piece.count(b"\n") != whole or piece.count(b"\r") - self._cr_waits != whole:
            raise LetterError("content has a CR or LF that stands alone")
