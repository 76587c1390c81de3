"""Mailbox names on the wire: modified UTF-7.

spec: RFC3501#5.1.3
"""

import binascii
import re
import unicodedata
from typing import Final

_SHIFTED: Final = re.compile(r"[^ -~]+|&")
_RUN: Final = re.compile(r"&([A-Za-z0-9+,]*)-")
_ATOM: Final = re.compile(rb"[A-Za-z0-9$&'+,\-./:;<=>?@^_`|}~!#]+\Z")
NAME_MAX: Final = 1000  # characters of a decoded name


class MailboxNameError(ValueError):
    """The bytes are no mailbox name."""


def encode(name: str) -> bytes:
    """Return a name in modified UTF-7 (``Arşiv`` becomes ``Ar&AV8-iv``)."""

    def shift(match: re.Match[str]) -> str:
        run = match[0]
        if run == "&":
            return "&-"
        coded = binascii.b2a_base64(run.encode("utf-16-be", "surrogatepass"), newline=False)
        return "&" + coded.decode("ascii").rstrip("=").replace("/", ",") + "-"

    return _SHIFTED.sub(shift, name).encode("ascii")


def decode(data: bytes, *, utf8: bool = False) -> str:
    """Return the name behind wire bytes; raw UTF-8, which some clients send, is read too.

    Names are NFC; any case of INBOX is ``INBOX``, also as the first level (RFC 3501 5.1).

    Args:
        data: the name.
        utf8: whether the client asked for UTF-8: then ``&`` is a letter like any other (RFC 6855).

    Raises:
        MailboxNameError: broken modified UTF-7 or UTF-8, a control character, or too long.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise MailboxNameError("not UTF-7 nor UTF-8") from error
    if "&" in text and not utf8:
        if _RUN.sub("", text).find("&") >= 0:
            raise MailboxNameError("a shift never ends")
        text = _RUN.sub(_unshift, text)
    if len(text) > NAME_MAX or any(char < " " or char == "\x7f" for char in text):
        raise MailboxNameError("control character or too long")
    text = unicodedata.normalize("NFC", text)
    if text[:5].upper() == "INBOX" and text[:5].isascii() and text[5:6] in ("", "/"):
        return "INBOX" + text[5:]
    return text


def wire(name: str, *, utf8: bool) -> bytes:
    """Return a name as the client reads it, an atom or a quoted string (RFC 3501 5.1.3, RFC 6855 3)."""
    coded = name.encode() if utf8 else encode(name)
    if _ATOM.match(coded) and coded.upper() != b"NIL":
        return coded
    return b'"' + coded.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def _unshift(match: re.Match[str]) -> str:
    run = match[1]
    if not run:
        return "&"
    try:
        coded = run.replace(",", "/")
        return binascii.a2b_base64(coded + "=" * (-len(coded) % 4), strict_mode=True).decode("utf-16-be")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise MailboxNameError("broken shift") from error
