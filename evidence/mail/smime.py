"""Where the sender's signature lies in a message: detached or opaque, always the outermost body.

A signature further inside, beside other parts, or under text that nobody signed is not the sender's
signature of this message. (spec: RFC8551#3.5, signing.md 2.6)
"""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from hashlib import new as new_hash
from typing import Final

from evidence import base64_strict
from evidence.asn1.der import DerError, to_octets
from evidence.asn1.framing import definite, is_indefinite
from evidence.cms.signed_data import (
    MAX_SIGNED_DATA,
    MESSAGE_DIGEST,
    SignedData,
    SignerInfo,
    parse_signed_data,
)
from evidence.mail.headers import parameter
from evidence.mail.mime import Part, Range
from evidence.mail.variants import (
    EXACT_ONLY,
    PIECE,
    PRODUCER_VARIANTS,
    ShortSourceError,
    Variant,
    as_signed,
    variant_digests,
)
from evidence.ports import ByteSource, BytesSource
from evidence.report import SubIndication, Verdict

__all__ = [
    "DEFAULT_SMIME_LIMITS", "KNOWN_PREAMBLES", "PIECE", "EntityKind", "SignedEntity", "SmimeError",
    "SmimeLimits", "Variant", "as_signed", "chosen_digests", "content_of", "decode_base64",
    "digest_variants", "digests", "locate", "read_signed",
]  # fmt: skip

_MIB: Final = 1024 * 1024
_SIGNATURE_TYPES: Final = frozenset({"application/pkcs7-signature", "application/x-pkcs7-signature"})
_OPAQUE_TYPES: Final = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_BLANKS: Final = b" \t\r\n"
_PREAMBLE_MAX: Final = 512
_AMBIGUOUS: Final = {
    "duplicate-content-type": "the message names its content type twice",
    "duplicate-content-transfer-encoding": "the message names its transfer encoding twice",
    "content-type": "the content type cannot be read in exactly one way",
    "not-a-field": "a line of the header is no field",
    "encoded-multipart": "a multipart has a transfer encoding",
}
"""Defects that one mail program reads so and another otherwise."""

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
    """Caps, in octets of DER, and what is tolerated around a detached signature.

    ``variants``: which octets may have been signed in place of the exact ones (`evidence.mail.variants`).
    """

    detached: int = MAX_SIGNED_DATA
    opaque: int = 48 * _MIB
    preambles: tuple[bytes, ...] = KNOWN_PREAMBLES
    variants: tuple[Variant, ...] = PRODUCER_VARIANTS


DEFAULT_SMIME_LIMITS: Final = SmimeLimits()


@dataclass(frozen=True, slots=True)
class SignedEntity:
    """The signed content and its signature.

    ``content`` is the exact byte range that a detached signature covers; an opaque one holds its content
    inside ``der``, see `content_of`. ``part`` is the detached content as scanned and ``variants`` what is
    tolerated for it, see `digest_variants`.
    """

    kind: EntityKind
    content: Range | None
    der: bytes
    part: Part | None = None
    variants: tuple[Variant, ...] = EXACT_ONLY


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
    _unambiguous(root)
    if root.content_type == "multipart/signed":
        return _detached(source, root, limits)
    if root.content_type in _OPAQUE_TYPES:
        kind = (parameter(root.params, "smime-type") or "signed-data").lower()
        if kind != "signed-data":
            raise _missing(f"smime-type {kind} is not a signature")
        return SignedEntity(EntityKind.OPAQUE, None, _decoded(source, root, limits.opaque))
    raise _missing(f"the outermost body is {root.content_type}, not a signature")


def _unambiguous(root: Part) -> None:
    """Refuse a header by which another program may find other parts than those checked here."""
    if root.defects:
        for defect, detail in _AMBIGUOUS.items():
            if defect in root.defects:
                raise _broken(detail)
    keys = [key for key, _ in root.params]
    if len(set(keys)) == len(keys) and "*" not in "".join(keys):
        return  # each stands once and in one piece
    for name in ("boundary", "protocol", "smime-type"):
        found = [key for key in keys if key == name or key.startswith(name + "*")]
        if len(set(found)) != len(found) or (name in found and len(found) > 1):
            raise _broken(f"the content type has {name} twice")


def _detached(source: ByteSource, root: Part, limits: SmimeLimits) -> SignedEntity:
    protocol = parameter(root.params, "protocol")
    if protocol is not None and protocol.strip().lower() not in _SIGNATURE_TYPES:
        raise _missing(f"protocol {protocol[:80]} is not S/MIME")
    if not root.closed or len(root.children) != 2:
        raise _broken("multipart/signed must be closed and have exactly two parts")
    content, signature = root.children
    if not _is_signature(signature):
        if protocol is None:
            raise _missing("neither the protocol nor the second part is S/MIME")
        raise _broken(f"the second part is {signature.content_type}")
    _unambiguous(signature)
    for name, span in (("preamble", root.preamble), ("epilogue", root.epilogue)):
        if span is None or not span.length:
            continue
        text = source.read(span.start, min(span.length, _PREAMBLE_MAX)).strip(_BLANKS)
        if span.length > _PREAMBLE_MAX or (text and not (name == "preamble" and text in limits.preambles)):
            raise SmimeError(SubIndication.SIG_CONSTRAINTS_FAILURE, f"unsigned text in the {name}")
    der = _decoded(source, signature, limits.detached)
    return SignedEntity(EntityKind.DETACHED, content.whole, der, content, limits.variants)


def _is_signature(part: Part) -> bool:
    """Say whether the second part is one, by its type or, where a gateway lost that, by its file name.

    Its type need not be the one that ``protocol`` names (eyservis.md 6.1, producer 2).
    """
    if part.content_type == "application/octet-stream":
        return (part.filename or "").lower() == "smime.p7s"
    return part.content_type in _SIGNATURE_TYPES


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
    if span.length <= PIECE:  # nearly every signature
        text = source.read(span.start, span.length)
        if len(text) == span.length:
            return _strict(text.translate(None, _BLANKS), cap, cap)
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
        out.write(_strict(text, cap - out.tell(), cap))
    return out.getvalue()


def _strict(text: bytes, room: int, cap: int) -> bytes:
    """Decode base64 without blanks into ``room`` octets, what the ``cap`` has left."""
    if len(text) % 4:
        raise _broken("base64 is cut short")
    try:
        content = base64_strict.decode(text)
    except base64_strict.LooseBase64Error as error:
        raise _broken(f"base64: {error}") from error
    if len(content) > room:
        raise _broken(f"the signature is larger than {cap} octets")
    return content


def _only_blanks(source: ByteSource, span: Range, carry: bytes) -> None:
    """Refuse anything but blanks after the padding (a piece may end between padding and line end)."""
    if carry or span.length > PIECE or source.read(span.start, span.length).strip(_BLANKS):
        raise _broken("base64 goes on after its padding")


def _missing(detail: str) -> SmimeError:
    return SmimeError(SubIndication.SIGNED_DATA_NOT_FOUND, detail)


def _broken(detail: str) -> SmimeError:
    return SmimeError(SubIndication.FORMAT_FAILURE, detail, Verdict.FAILED)


def read_signed(entity: SignedEntity) -> SignedData:
    """Parse the entity's SignedData; a frame of indefinite length is made definite first.

    Whether such a frame is allowed is the verifier's question (`evidence.nes`), never this one's: who
    compares what is shown with what was signed must see the content of every signature that may pass.

    Raises:
        DerError: not DER inside the frame, or not SignedData.
    """
    cap = max(len(entity.der), 1)
    der = definite(entity.der, max_size=cap) if is_indefinite(entity.der) else entity.der
    return parse_signed_data(der, max_size=cap)


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


def digest_variants(
    source: ByteSource, entity: SignedEntity, signed: SignedData, names: Iterable[str]
) -> Iterator[tuple[Variant, dict[str, bytes]]]:
    """Yield what may have been signed, each variant with its digests by hashlib name, the exact octets first.

    Ask for the next only where a signer's messageDigest is none of these. All signers cover one content:
    the variant that serves the first serves all. Nothing is yielded where `digests` returns None.
    """
    if entity.content is None or signed.content_span is not None:
        exact = digests(source, entity, signed, names)
        if exact is not None:
            yield Variant.EXACT, exact
        return
    try:
        yield from variant_digests(source, entity.content, entity.part, names, entity.variants)
    except ShortSourceError:
        return


def chosen_digests(
    source: ByteSource, entity: SignedEntity, signed: SignedData, names: Iterable[str]
) -> tuple[Variant, dict[str, bytes]] | None:
    """Return the variant that serves the signers, with its digests by hashlib name.

    All signers cover one content: the first variant that is the messageDigest of any of them is taken for
    all, whatever ``names`` asks for; the exact octets where none is. None where `digests` returns None.
    """
    claimed = [found for one in signed.signers if (found := _claimed_digest(one)) is not None]
    asked = tuple(names)
    needed = sorted({*asked, *(name for name, _ in claimed)})
    exact: tuple[Variant, dict[str, bytes]] | None = None
    for variant, by_name in digest_variants(source, entity, signed, needed):
        offered = variant, {name: by_name[name] for name in asked}
        if any(by_name[name] == value for name, value in claimed):
            return offered
        exact = exact or offered
    return exact


def _claimed_digest(signer: SignerInfo) -> tuple[str, bytes] | None:
    """Return name and value of a signer's messageDigest; None where it cannot be read: step 3 says why."""
    if signer.digest_name is None:
        return None
    try:
        return signer.digest_name, to_octets(signer.signed_attribute(MESSAGE_DIGEST))
    except DerError:
        return None
