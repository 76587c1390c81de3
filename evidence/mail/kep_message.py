"""Take a KEP message apart: signed entity, signature, original and evidence, by section header.

Parts are found by what their header says, never by position or Subject (rem-formats §3.2, R-14).
Nothing here is believed yet: `evidence.verify.files` checks the signature over the range given here.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from evidence import base64_strict
from evidence.mail.headers import decode_text, parameter
from evidence.mail.mime import MimeLimitError, Part, Range, scan
from evidence.mail.package import EXTENSION, INTRODUCTION, ORIGINAL, XML_EVIDENCE
from evidence.ports import ByteSource
from evidence.xml.reader import XML_SIZE_MAX

P7S_SIZE_MAX: Final = 1 << 20
FILES_MAX: Final = 64
FILES_SIZE_MAX: Final = 16 << 20
"""Evidence and extensions together: what a message may make a reader hold."""
READ_SIZE: Final = 512 * 1024
_SIGNATURE_TYPES: Final = frozenset({"application/pkcs7-signature", "application/x-pkcs7-signature"})
_OPAQUE_TYPES: Final = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_SECTIONS: Final = ("x-rem-section-type", "rem-section-type")  # both profiles are readable


class KepMessageError(Exception):
    """The bytes are not a KEP message this library can read."""


@dataclass(frozen=True, slots=True)
class EvidenceFile:
    """An evidence or extension carried in a message, decoded."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class KepMessage:
    """The parts of a KEP message; ranges refer to the source it was parsed from."""

    root: Part
    signed_entity: Range
    p7s: bytes
    original: Range | None
    evidences: tuple[EvidenceFile, ...]
    extensions: tuple[EvidenceFile, ...]
    has_introduction: bool
    unsigned_text: bool  # a preamble or epilogue beside the signed entity

    @property
    def is_dispatch(self) -> bool:
        """Say whether the message carries an original."""
        return self.original is not None

    def outer(self, name: str) -> str | None:
        """Return an outer header decoded, None where missing or repeated (which of them is shown?)."""
        found = self.root.all(name.lower())
        return decode_text(found[0]).strip() if len(found) == 1 else None


def is_kep_message(root: Part) -> bool:
    """Say whether a message has the outer shape of one, without reading its content."""
    if root.content_type != "multipart/signed" or len(root.children) != 2:
        return False
    return any(_section(part) for part in root.children[0].children)


def is_sender_message(root: Part) -> bool:
    """Say whether a message is one that a holder signed and no provider wrapped (`evidence.mail.smime`).

    Messages that show any sign of a KEP message (a section, an X-REM or REM header) are none: they may be
    damaged ones.
    """
    if any(field.name.startswith(("x-rem-", "rem-")) for field in root.fields):
        return False
    if root.content_type in _OPAQUE_TYPES:
        return (parameter(root.params, "smime-type") or "signed-data").lower() == "signed-data"
    protocol = parameter(root.params, "protocol") or ""
    signed = root.content_type == "multipart/signed" and protocol.lower() in _SIGNATURE_TYPES
    return signed and bool(root.children) and not any(_section(part) for part in root.children[0].children)


def parse_kep_message(source: ByteSource, root: Part | None = None) -> KepMessage:
    """Take a KEP message apart.

    Args:
        source: the message, CRLF lines.
        root: its structure where already scanned.

    Raises:
        KepMessageError: not multipart/signed with a PKCS#7 signature around a multipart/mixed with
            sections, ambiguous sections, or a part beyond its cap.
    """
    try:
        root = scan(source) if root is None else root
    except MimeLimitError as error:
        raise KepMessageError(f"too much structure: {error}") from error
    protocol = parameter(root.params, "protocol") or ""
    if root.content_type != "multipart/signed" or protocol.lower() not in _SIGNATURE_TYPES:
        raise KepMessageError("not multipart/signed with a PKCS#7 signature")
    if len(root.children) != 2 or not root.closed:
        raise KepMessageError("multipart/signed needs two parts and a closing delimiter")
    entity, signature = root.children
    if signature.content_type not in _SIGNATURE_TYPES:
        raise KepMessageError("the second part is no PKCS#7 signature")
    if entity.content_type != "multipart/mixed" or not entity.closed:
        raise KepMessageError("the signed entity is no closed multipart/mixed")
    originals = [part for part in entity.children if _section(part) == ORIGINAL]
    introductions = [part for part in entity.children if _section(part) == INTRODUCTION]
    if len(originals) > 1 or len(introductions) > 1:
        raise KepMessageError("more than one original or introduction")
    if originals and (originals[0].type != "message" or originals[0].message is None):
        raise KepMessageError("the original is no message/rfc822 in an identity encoding")
    evidences = tuple(_files(source, entity, XML_EVIDENCE))
    if not evidences and not originals:
        raise KepMessageError("no evidence and no original inside")
    return KepMessage(
        root=root,
        signed_entity=entity.whole,
        p7s=_decoded(source, signature, P7S_SIZE_MAX),
        original=originals[0].body if originals else None,
        evidences=evidences,
        extensions=tuple(_files(source, entity, EXTENSION)),
        has_introduction=bool(introductions),
        unsigned_text=_has_text(source, root.preamble) or _has_text(source, root.epilogue),
    )


def digest_of_range(source: ByteSource, part: Range, algorithm: str = "sha256") -> bytes:
    """Return the digest of a range, read in pieces of 512 kB."""
    hasher = hashlib.new(algorithm)
    at = part.start
    while at < part.end:
        piece = source.read(at, min(READ_SIZE, part.end - at))
        if not piece:
            raise KepMessageError("the source ends inside a part")
        hasher.update(piece)
        at += len(piece)
    return hasher.digest()


def _section(part: Part) -> str | None:
    found = [raw for name in _SECTIONS for raw in part.all(name)]
    if len(set(found)) != 1:
        return None
    return found[0].decode("ascii", "replace").strip().lower()


def _files(source: ByteSource, entity: Part, section: str) -> Iterator[EvidenceFile]:
    parts = [part for part in entity.children if _section(part) == section]
    if len(parts) > FILES_MAX or sum(part.body.length for part in parts) > FILES_SIZE_MAX:
        raise KepMessageError("too many evidence or extension parts, or too large")
    for part in parts:
        yield EvidenceFile(part.filename or "", _decoded(source, part, XML_SIZE_MAX))


def _decoded(source: ByteSource, part: Part, limit: int) -> bytes:
    """Return a leaf's content, base64 taken off; other encodings as they are."""
    if part.children or part.message is not None:
        raise KepMessageError("a leaf part was expected")
    if part.body.length > limit * 3 // 2:
        raise KepMessageError("a part is too large")
    raw = source.read(part.body.start, part.body.length)
    if part.encoding == "base64":
        try:
            raw = base64_strict.decode(b"".join(raw.split()))
        except base64_strict.LooseBase64Error as error:
            raise KepMessageError("a part is not base64") from error
    elif part.encoding not in {"7bit", "8bit", "binary"}:
        raise KepMessageError(f"a part has encoding {part.encoding[:20]!r}")
    if len(raw) > limit:
        raise KepMessageError("a part is too large")
    return raw


def _has_text(source: ByteSource, part: Range | None) -> bool:
    if part is None or part.length <= 0:
        return False
    return part.length > READ_SIZE or bool(source.read(part.start, part.length).strip())
