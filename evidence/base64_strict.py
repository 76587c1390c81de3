"""Base64 with one spelling for each content: no foreign characters, right padding, no bits left over.

Two texts for the same octets would let a byte of a signed file change unseen. (spec: RFC4648#3.5)
"""

from binascii import Error, a2b_base64, b2a_base64


class LooseBase64Error(ValueError):
    """The text is no base64, or not the one spelling of its content."""


def decode(text: bytes) -> bytes:
    """Return what canonical base64 without line ends holds.

    Raises:
        LooseBase64Error: it is anything else.
    """
    try:
        content = a2b_base64(text, strict_mode=True)
    except Error as error:
        raise LooseBase64Error(str(error)) from error
    if text.endswith(b"="):
        left = len(content) % 3
        if b2a_base64(content[-left:], newline=False) != text[-4:]:
            raise LooseBase64Error("bits are left over")
    return content
