"""Signed parts as mail programs write them: our own texts in every transfer encoding and structure."""

from base64 import encodebytes
from collections.abc import Mapping
from quopri import encodestring
from types import MappingProxyType

TEXT = "Sayın yetkili,\r\nsözleşme yenilenmeyecektir. İĞÜŞÖÇ ığüşöç\r\nSaygılarımla\r\n"
ASCII = b"Sayin yetkili,\r\nsozlesme yenilenmeyecektir.\r\n"
FILE = b"%PDF-1.4 deneme\r\n" + bytes(range(1, 256)).replace(b"\r", b"").replace(b"\n", b"") * 3


def crlf(text: bytes) -> bytes:
    """Return text with CRLF line ends."""
    return text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def base64_text(data: bytes) -> bytes:
    """Return base64 in lines of 76 characters, each with CRLF."""
    return crlf(encodebytes(data))


def quoted(data: bytes) -> bytes:
    """Return quoted-printable with CRLF."""
    return crlf(encodestring(data.replace(b"\r\n", b"\n")))


def leaf(kind: str, encoding: str | None, body: bytes, *more: str) -> bytes:
    """Return one part."""
    head = [f"Content-Type: {kind}"]
    if encoding is not None:
        head.append(f"Content-Transfer-Encoding: {encoding}")
    return "\r\n".join((*head, *more, "", "")).encode() + body


def multipart(subtype: str, boundary: str, *parts: bytes, after: bytes = b"\r\n", more: str = "") -> bytes:
    """Return a multipart as one part; ``after`` is what follows its closing delimiter."""
    mark = b"--" + boundary.encode()
    head = f'Content-Type: multipart/{subtype}; boundary="{boundary}"{more}\r\n\r\n'.encode()
    return head + b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--" + after


def attached(disposition: str, encoding: str = "base64", *, name: str = "") -> bytes:
    """Return a PDF with a file name written as given."""
    body = base64_text(FILE) if encoding == "base64" else FILE
    return leaf(f"application/pdf{name}", encoding, body, f"Content-Disposition: attachment; {disposition}")


PLAIN = leaf("text/plain; charset=utf-8", "8bit", TEXT.encode())
HTML = leaf(
    "text/html; charset=utf-8", "quoted-printable", quoted(f"<html><body>{TEXT}</body></html>".encode())
)
NAME_2231 = "filename*=UTF-8''%C4%B0mzal%C4%B1%20s%C3%B6zle%C5%9Fme%20%C4%9F.pdf"
NAME_PIECES = (
    "\r\n filename*0*=UTF-8''%C4%B0mzal%C4%B1%20;\r\n filename*1*=s%C3%B6zle%C5%9Fme;\r\n filename*2=.pdf"
)
NAME_WORD = 'filename="=?UTF-8?B?xLBtemFsxLEucGRm?="'
FORWARDED = (
    b"Content-Type: message/rfc822\r\nContent-Disposition: attachment\r\n\r\n"
    b"From: baska@hs92.kep.tr\r\nTo: ayse@hs91.kep.tr\r\nSubject: =?utf-8?q?Eski_ileti?=\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\nEski.\r\n"
)
LONG_FOLDED = "Content-Description:" + "".join(
    f"\r\n {number:04d} uzun ama katlanmis aciklama" for number in range(120)
)

ENTITIES: Mapping[str, bytes] = MappingProxyType(
    {
        "7bit": leaf("text/plain; charset=us-ascii", "7bit", ASCII),
        "no-encoding-named": leaf("text/plain", None, ASCII),
        "no-header": b"\r\n" + ASCII,
        "8bit-utf8": PLAIN,
        "8bit-latin5": leaf("text/plain; charset=iso-8859-9", "8bit", TEXT.encode("iso-8859-9")),
        "quoted-printable": leaf("text/plain; charset=utf-8", "quoted-printable", quoted(TEXT.encode())),
        "base64": leaf("text/plain; charset=utf-8", "base64", base64_text(TEXT.encode())),
        "binary": multipart("mixed", "b-inner", PLAIN, attached('filename="a.pdf"', "binary")),
        "trailing-blanks": leaf("text/plain", "7bit", b"Satir sonu bosluk   \r\nsekme\t\r\n \t \r\n"),
        "flowed": leaf("text/plain; charset=UTF-8; format=flowed; delsp=yes", "7bit", b"uzun \r\nsatir\r\n-- \r\nimza\r\n"),
        "no-final-crlf": leaf("text/plain", "7bit", b"son satir acik"),
        "three-final-crlf": leaf("text/plain", "7bit", b"son satirdan sonra bosluk\r\n\r\n\r\n"),
        "empty-body": leaf("text/plain", "7bit", b""),
        "empty-body-no-blank-line": b"Content-Type: text/plain\r\n",
        "one-crlf-body": leaf("text/plain", "7bit", b"\r\n"),
        "dots": leaf("text/plain", "7bit", b".\r\n..\r\n.nokta ile baslar\r\n...\r\nson.\r\n."),
        "dashes": leaf("text/plain", "7bit", b"--\r\n--b\r\n----\r\n-- \r\n"),
        "from-line": leaf("text/plain", "7bit", b"From bir satir\r\n>From bir satir\r\n"),
        "folded-header": leaf("text/plain", "7bit", ASCII, LONG_FOLDED),
        "alternative": multipart("alternative", "alt-1", PLAIN, HTML),
        "mixed-2231": multipart("mixed", "mix-1", PLAIN, attached(NAME_2231)),
        "mixed-2231-pieces": multipart("mixed", "mix-2", PLAIN, attached(NAME_PIECES)),
        "mixed-encoded-word": multipart("mixed", "mix-3", PLAIN, attached(NAME_WORD, name='; name="=?UTF-8?Q?=C4=B0.pdf?="')),
        "raw-utf8-name": multipart("mixed", "mix-4", PLAIN, attached('filename="İmzalı ığş.pdf"')),
        "forwarded": multipart("mixed", "mix-5", PLAIN, FORWARDED),
        "nested": multipart(
            "mixed", "n-1", multipart("related", "n-2", multipart("alternative", "n-3", PLAIN, HTML)), attached(NAME_2231)
        ),
        "prefix-boundaries": multipart("mixed", "sinir-1", multipart("alternative", "sinir-11", PLAIN, HTML), PLAIN),
        "inner-epilogue": multipart("mixed", "mix-6", PLAIN, after=b"\r\n\r\n\r\n"),
        "no-inner-epilogue": multipart("mixed", "mix-7", PLAIN, after=b""),
        "winmail": multipart(
            "mixed", "mix-8", PLAIN,
            leaf('application/ms-tnef; name="winmail.dat"', "base64", base64_text(b"x\x9f>\x22" + FILE),
                 'Content-Disposition: attachment; filename="winmail.dat"'),
        ),
    }
)  # fmt: skip
"""By name: what is signed, octet for octet."""
