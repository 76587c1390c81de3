"""What the original holds, part by part, with digests of what a person gets who saves them.

Contents are decoded piece by piece, never held whole. The digest of an attachment is that of the file.
"""

import codecs
from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from evidence.asn1.der import DerError
from evidence.mail.headers import parameter
from evidence.mail.mime import MimeLimitError, Part, Range, scan
from evidence.mail.smime import SmimeError, content_of, locate, read_signed
from evidence.mail.transfer import decoded_pieces
from evidence.ports import ByteSource
from kephs.dossier.facts import BodyText, ContentFacts, PartFact

PIECE: Final = 512 * 1024
BODY_MAX: Final = 12_000
LINES_MAX: Final = 400
"""Characters and lines of the message's text that are printed; all of it is in the original."""
_BODY_BYTES: Final = 4 * BODY_MAX
_CHARSETS: Final = frozenset(
    {
        "utf-8", "us-ascii", "ascii", "iso-8859-1", "iso-8859-3", "iso-8859-9", "iso-8859-15",
        "windows-1252", "windows-1254",
    }
)  # fmt: skip
_SIGNATURES: Final = frozenset({"application/pkcs7-signature", "application/x-pkcs7-signature"})


def read_content(source: ByteSource) -> ContentFacts:
    """Return what an original holds; also of a message that cannot be taken apart, then as one part.

    Args:
        source: the message as it was submitted.
    """
    try:
        root = scan(source)
    except MimeLimitError:
        return ContentFacts((_fact(source, Range(0, source.size), "1", 0, "message/rfc822"),), None)
    reading = _Reading()
    reading.entity(source, root, "", 0)
    return ContentFacts(tuple(reading.parts), reading.body)


class _Reading:
    """Gathers parts in order of appearance; depth is bounded by the scanner's limits."""

    def __init__(self) -> None:
        self.parts: list[PartFact] = []
        self.body: BodyText | None = None
        self._opened = False  # an opaque signature was looked into: once, its content is a message's

    def entity(self, source: ByteSource, part: Part, number: str, level: int) -> None:
        """Take in one entity and what lies in it."""
        if part.children:
            for index, child in enumerate(part.children, 1):
                self.entity(source, child, f"{number}.{index}" if number else str(index), level + 1)
            return
        inner = None if self._opened or number else _opaque(source, part)
        here = number or "1"
        self._leaf(source, part, here, level, signature=inner is not None)
        if inner is not None:
            self._opened = True
            self.entity(*inner, f"{here}.1", level + 1)
        elif part.message is not None:
            self.entity(source, part.message, f"{here}.1", level + 1)

    def _leaf(self, source: ByteSource, part: Part, number: str, level: int, *, signature: bool) -> None:
        encoding = "" if part.message is not None else part.encoding
        signature = signature or part.content_type in _SIGNATURES
        self.parts.append(
            _fact(
                source, part.body, number, level, part.content_type,
                filename=part.filename or "", encoding=encoding, signature=signature,
            )
        )  # fmt: skip
        if self.body is None and part.content_type == "text/plain" and part.disposition != "attachment":
            self.body = _body(source, part)


def _fact(
    source: ByteSource, where: Range, number: str, level: int, content_type: str, *,
    filename: str = "", encoding: str = "", signature: bool = False,
) -> PartFact:  # fmt: skip
    hasher, size = sha256(), 0
    for piece in decoded(source, where, encoding):
        hasher.update(piece)
        size += len(piece)
    return PartFact(number, level, content_type, filename, size, hasher.digest(), signature)


def _opaque(source: ByteSource, part: Part) -> tuple[ByteSource, Part] | None:
    """Return the message inside an opaque signature, None for anything else."""
    if part.subtype not in {"pkcs7-mime", "x-pkcs7-mime"}:
        return None
    try:
        entity = locate(source, part)
        found = content_of(source, entity, read_signed(entity))
        if found is None:
            return None
        inner, where = found
        return inner, scan(inner) if where == Range(0, inner.size) else part
    except (SmimeError, DerError, MimeLimitError):
        return None


def _body(source: ByteSource, part: Part) -> BodyText | None:
    charset = (parameter(part.params, "charset") or "us-ascii").lower()
    if charset not in _CHARSETS:
        return None
    data, more = b"", False
    for piece in decoded(source, part.body, part.encoding):
        data += piece
        if len(data) > _BODY_BYTES:
            data, more = data[:_BODY_BYTES], True
            break
    name = "utf-8" if charset in {"us-ascii", "ascii"} else charset
    text = codecs.getincrementaldecoder(name)("replace").decode(data, not more)
    text = text.replace("\r\n", "\n").replace("\t", "    ").strip("\n")
    lines = text[:BODY_MAX].split("\n", LINES_MAX)
    cut = more or len(text) > BODY_MAX or len(lines) > LINES_MAX
    return BodyText("\n".join(lines[:LINES_MAX]), cut)


# --------------------------------------------------------------------------- transfer encodings


def decoded(source: ByteSource, where: Range, encoding: str) -> Iterator[bytes]:
    """Yield a part's content without its transfer encoding (spec: RFC2045#6); an unknown one stays."""
    return decoded_pieces(_raw(source, where), encoding)


def _raw(source: ByteSource, where: Range) -> Iterator[bytes]:
    for at in range(where.start, where.end, PIECE):
        yield source.read(at, min(PIECE, where.end - at))
