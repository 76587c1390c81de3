"""Where the sender's signature lies in a message: detached or opaque, always the outermost body.

A signature further inside, beside other parts, or under text that nobody signed is not the sender's
signature of this message. (spec: RFC8551#3.5, signing.md 2.6)
"""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import new as new_hash
from typing import Final

from evidence import base64_strict
from evidence.cms.signed_data import MAX_SIGNED_DATA, SignedData, parse_signed_data
from evidence.mail.headers import parameter
from evidence.mail.mime import Part, Range
from evidence.ports import ByteSource, BytesSource
from evidence.report import SubIndication, Verdict

PIECE: Final = 512 * 1024
_MIB: Final = 1024 * 1024
_SIGNATURE_TYPES: Final = frozenset({"application/pkcs7-signature", "application/x-pkcs7-signature"})
_OPAQUE_TYPES: Final = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_BLANKS: Final = b" \t\r\n"

KNOWN_PREAMBLES: Final = (
    b"This is an S/MIME signed message",
    b"This is a cryptographically signed message in MIME format.",
    b"This is a multi-part message in MIME format.",
    b"This is a multipart message in MIME format.",
)
"""Fixed lines that openssl, Thunderbird and others write where no mail program shows them."""


class EntityKind(StrEnum):
    """How the signature carries the content."""

    DETACHED = "detached"
    OPAQUE = "opaque"


class SmimeError(Exception):
    """There is no sender's signature where it must be; carries the sub-indication and verdict."""

    def __init__(
        self, sub_indication: SubIndication, detail: str, verdict: Verdict = Verdict.INDETERMINATE
    ) -> None:
        super().__init__(detail)
        self.sub_indication, self.verdict = sub_indication, verdict


@dataclass(frozen=True, slots=True)
class SmimeLimits:
    """Caps, in octets of DER, and what is tolerated around a detached signature."""

    detached: int = MAX_SIGNED_DATA
    opaque: int = 48 * _MIB
    preambles: tuple[bytes, ...] = KNOWN_PREAMBLES


DEFAULT_SMIME_LIMITS: Final = SmimeLimits()


@dataclass(frozen=True, slots=True)
class SignedEntity:
    """The signed content and its signature.

    ``content`` is the exact byte range that a detached signature covers; an opaque one holds its content
    inside ``der``, see `content_of`.
    """

    kind: EntityKind
    content: Range | None
    der: bytes


def locate(source: ByteSource, root: Part, *, limits: SmimeLimits = DEFAULT_SMIME_LIMITS) -> SignedEntity:
    """Find the sender's signature of a scanned message.

    Args:
        source: the message as received.
        root: what `evidence.mail.mime.scan` made of it.
        limits: caps.

    Raises:
        SmimeError: SIGNED_DATA_NOT_FOUND where the outermost body is no signature; SIG_CONSTRAINTS_FAILURE
            where something unsigned stands beside it; FORMAT_FAILURE where it cannot be read.
    """
    if {"duplicate-content-type", "duplicate-content-transfer-encoding"} & set(root.defects):
        raise _broken("the message names its content type twice")
    if root.content_type == "multipart/signed":
        return _detached(source, root, limits)
    if root.content_type in _OPAQUE_TYPES:
        kind = (parameter(root.params, "smime-type") or "signed-data").lower()
        if kind != "signed-data":
            raise _missing(f"smime-type {kind} is not a signature")
        return SignedEntity(EntityKind.OPAQUE, None, _decoded(source, root, limits.opaque))
    raise _missing(f"the outermost body is {root.content_type}, not a signature")


def _detached(source: ByteSource, root: Part, limits: SmimeLimits) -> SignedEntity:
    protocol = (parameter(root.params, "protocol") or "").lower()
    if protocol not in _SIGNATURE_TYPES:
        raise _missing(f"protocol {protocol or 'missing'} is not S/MIME")
    if not root.closed or len(root.children) != 2:
        raise _broken("multipart/signed must be closed and have exactly two parts")
    signature = root.children[1]
    if signature.content_type not in _SIGNATURE_TYPES:
        raise _broken(f"the second part is {signature.content_type}")
    for name, span in (("preamble", root.preamble), ("epilogue", root.epilogue)):
        if span is None or not span.length:
            continue
        text = source.read(span.start, min(span.length, 512)).strip(_BLANKS)
        if span.length > 512 or (text and not (name == "preamble" and text in limits.preambles)):
            raise SmimeError(SubIndication.SIG_CONSTRAINTS_FAILURE, f"unsigned text in the {name}")
    der = _decoded(source, signature, limits.detached)
    return SignedEntity(EntityKind.DETACHED, root.children[0].whole, der)


def _decoded(source: ByteSource, part: Part, cap: int) -> bytes:
    if part.encoding != "base64":
        raise _broken(f"the signature's transfer encoding is {part.encoding}, not base64")
    if part.body.length > cap * 3 // 2 + 1024:  # base64 with line ends
        raise _broken(f"the signature is larger than {cap} octets")
    return decode_base64(source, part.body, cap)


def decode_base64(source: ByteSource, span: Range, cap: int) -> bytes:
    """Return decoded base64 (RFC 2045 line breaks allowed, nothing else), reading in pieces.

    Raises:
        SmimeError: FORMAT_FAILURE for foreign characters, wrong padding, or more than ``cap`` octets.
    """
    out = io.BytesIO()  # its getvalue() hands the buffer over without copying
    carry = b""
    position = span.start
    while position < span.end:
        piece = source.read(position, min(PIECE, span.end - position))
        if not piece:
            raise _broken("the message ends inside the signature")
        position += len(piece)
        text = carry + piece.translate(None, _BLANKS)
        whole = len(text) - len(text) % 4
        last = position >= span.end
        if last and whole != len(text):
            raise _broken("base64 is cut short")
        text, carry = text[:whole], text[whole:]
        if carry.startswith(b"=") or (not last and b"=" in text):
            _only_blanks(source, Range(position, span.end), carry)
            position = span.end
        try:
            out.write(base64_strict.decode(text))
        except base64_strict.LooseBase64Error as error:
            raise _broken(f"base64: {error}") from error
        if out.tell() > cap:
            raise _broken(f"the signature is larger than {cap} octets")
    return out.getvalue()


def _only_blanks(source: ByteSource, span: Range, carry: bytes) -> None:
    """Refuse anything but blanks after the padding (a piece may end between padding and line end)."""
    if carry or span.length > PIECE or source.read(span.start, span.length).strip(_BLANKS):
        raise _broken("base64 goes on after its padding")


def _missing(detail: str) -> SmimeError:
    return SmimeError(SubIndication.SIGNED_DATA_NOT_FOUND, detail)


def _broken(detail: str) -> SmimeError:
    return SmimeError(SubIndication.FORMAT_FAILURE, detail, Verdict.FAILED)


def read_signed(entity: SignedEntity) -> SignedData:
    """Parse the entity's SignedData.

    Raises:
        DerError: not strict DER, or not SignedData.
    """
    return parse_signed_data(entity.der, max_size=max(len(entity.der), 1))


def content_of(
    source: ByteSource, entity: SignedEntity, signed: SignedData
) -> tuple[ByteSource, Range] | None:
    """Return where the signed MIME content lies: in the message, or inside the opaque signature (a copy).

    None where an opaque signature has no content. Callers scan it to find sizes and inner headers.
    """
    if entity.content is not None:
        return source, entity.content
    content = signed.content
    return None if content is None else (BytesSource(content), Range(0, len(content)))


def digests(
    source: ByteSource, entity: SignedEntity, signed: SignedData, names: Iterable[str]
) -> dict[str, bytes] | None:
    """Return the digests of the exact signed octets by hashlib name, reading the message once in pieces.

    None where there is no content: opaque without it, or detached with a second content inside.
    """
    hashes = {name: new_hash(name) for name in names}
    if entity.content is not None:
        if signed.content_span is not None:
            return None
        position, end = entity.content
        while position < end:
            piece = source.read(position, min(PIECE, end - position))
            if not piece:
                return None
            position += len(piece)
            for digest in hashes.values():
                digest.update(piece)
    else:
        view = signed.content_view
        if view is None:
            return None
        for digest in hashes.values():
            digest.update(view)
    return {name: digest.digest() for name, digest in hashes.items()}
