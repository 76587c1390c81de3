"""KEP messages as MIME: the dispatch with the original, and receipts, in the form of their evidence.

Evidence in TS 102 640-2 XML travels in ``kep-ts102640`` messages, EN 319 522-3 XML in ``rem-baseline``
ones; their headers are in `evidence.mail.rem_headers`.

The original is never held: `plan_dispatch` gives the bytes before and after it, the caller streams

    plan.prefix + plan.entity_head + original + plan.entity_tail + plan.suffix(p7s)

where ``p7s`` signs the SHA-256 of ``entity_head + original + entity_tail`` (spec: rem-formats §3, §4).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import permutations
from typing import Final

from evidence.mail import introduction
from evidence.mail.entity import Entity, Streamed, octets, tree
from evidence.mail.mime_write import CRLF, base64_body, checked
from evidence.mail.rem_headers import (
    FORMS,
    Envelope,
    MessageForm,
    TransferLabel,
    dispatch_header,
    event_name,
    form_of,
    receipt_header,
)
from evidence.model.records import EvidenceKind, Profile, SealedEvidence

__all__ = [
    "EXTENSION",
    "INTRODUCTION",
    "ORIGINAL",
    "XML_EVIDENCE",
    "Attachment",
    "Boundaries",
    "BoundaryError",
    "Envelope",
    "MessagePlan",
    "TransferLabel",
    "evidence_file_name",
    "plan_dispatch",
    "plan_receipt",
    "record_file_name",
    "signature_end",
    "transfer_label",
]

INTRODUCTION: Final = "rem_message/introduction"
ORIGINAL: Final = "rem_message/original"
EXTENSION: Final = "rem_message/extension"
XML_EVIDENCE: Final = "rem_message/xml_evidence"
SIGNATURE_HEAD: Final = (
    b'Content-Type: application/pkcs7-signature; name="smime.p7s"\r\n'
    b"Content-Transfer-Encoding: base64\r\n"
    b'Content-Disposition: attachment; filename="smime.p7s"\r\n\r\n'
)


_BOUNDARY: Final = re.compile(r"[A-Za-z0-9=_.-]{1,70}")  # spec: RFC2046#5.1.1
_TEXT_END: Final = b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
_PLAIN_HEAD: Final = b"Content-Type: text/plain; charset=UTF-8\r\n" + _TEXT_END
_HTML_HEAD: Final = b"Content-Type: text/html; charset=UTF-8\r\n" + _TEXT_END


class BoundaryError(Exception):
    """Boundaries that could be taken for each other, or that occur in what they divide."""


@dataclass(frozen=True, slots=True)
class Boundaries:
    """Three random delimiters. Make them of at least 128 random bits: the original is not searched."""

    signed: str
    mixed: str
    alternative: str

    @classmethod
    def of(cls, seed: str) -> "Boundaries":
        """Derive three from one random string of letters and digits.

        ``=_`` never occurs in base64 or quoted-printable; the first letters differ, so none is a
        prefix of another.
        """
        return cls(f"s=_{seed}", f"m=_{seed}", f"a=_{seed}")

    def check(self, *parts: bytes) -> None:
        """Refuse what would make the message ambiguous.

        Raises:
            BoundaryError: empty, too long, one a prefix of another, or found in a part.
        """
        names = (self.signed, self.mixed, self.alternative)
        if not all(map(_BOUNDARY.fullmatch, names)):
            raise BoundaryError("a boundary is empty, too long or holds odd characters")
        for first, second in permutations(names, 2):
            if second.startswith(first):
                raise BoundaryError("a boundary is a prefix of another")
        for name in names:
            mark = b"--" + name.encode("ascii")
            for part in parts:
                if mark in part:
                    raise BoundaryError("a boundary occurs in a part")


@dataclass(frozen=True, slots=True)
class Attachment:
    """A further signed part: ``REMExtensions.xml`` or the evidence record beside an evidence."""

    file_name: str
    content: bytes
    content_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class MessagePlan:
    """A KEP message without its signature, and without the original where it has one.

    ``header`` is the outer one, ``signed`` the entity that the signature covers; the four texts are what is
    streamed, in this order, with the original and the signature between them.
    """

    header: bytes
    signed: Entity
    boundary: str
    prefix: bytes
    entity_head: bytes
    entity_tail: bytes

    @classmethod
    def of(cls, header: bytes, signed: Entity, boundary: str) -> "MessagePlan":
        """Write everything but original and signature."""
        head, tail = octets(signed)
        return cls(header, signed, boundary, header + f"--{boundary}\r\n".encode(), head, tail)

    def digest(self) -> bytes:
        """Return the SHA-256 of the signed entity of a message without an original."""
        return sha256(self.entity_head + self.entity_tail).digest()

    def suffix(self, p7s: bytes) -> bytes:
        """Return everything after the signed entity: the signature part and the final delimiter."""
        return signature_end(self.boundary, p7s)

    def finish(self, p7s: bytes) -> bytes:
        """Return a whole message without an original (a receipt)."""
        return b"".join((self.prefix, self.entity_head, self.entity_tail, self.suffix(p7s)))

    def tree(self, p7s: bytes, original: Streamed | None = None) -> str:
        """Return where the parts of the finished message lie (`evidence.mail.tree`), without reading it."""
        signature = Entity(SIGNATURE_HEAD, base64_body(p7s))
        return tree(Entity(self.header, b"", self.boundary, (self.signed, signature)), original)

    def size(self, original: int, p7s: int) -> int:
        """Return the octets of the finished message for an original and signature of these sizes."""
        return (
            len(self.prefix)
            + len(self.entity_head)
            + original
            + len(self.entity_tail)
            + len(self.suffix(bytes(p7s)))
        )


def signature_end(boundary: str, p7s: bytes) -> bytes:
    """Return what follows the signed entity of every message of ours."""
    delimiter = f"\r\n--{boundary}".encode()
    return b"".join((delimiter, CRLF, SIGNATURE_HEAD, base64_body(p7s), delimiter, b"--\r\n"))


def transfer_label(*, has_8bit: bool, is_binary: bool) -> TransferLabel:
    """Name the content as it is; it is never converted (rem-formats §9).

    ``binary`` for NUL, bare CR or LF and lines over 998 octets, ``8bit`` for octets above 127.
    """
    if is_binary:
        return "binary"
    return "8bit" if has_8bit else "7bit"


def plan_dispatch(
    envelope: Envelope,
    evidence: SealedEvidence,
    *,
    label: TransferLabel,
    boundaries: Boundaries,
    extensions: Sequence[Attachment] = (),
) -> MessagePlan:
    """Lay out the dispatch: introduction, evidence 10, extensions, and the original byte for byte.

    Parts stand in the order of the evidence's profile (rem-formats §3.2).

    Args:
        envelope: whose message it is; To and Cc are the original's.
        evidence: the acceptance evidence; sender, subject and digest come from its record.
        label: transfer label of the original, see `transfer_label`; ``rem-baseline`` has its own.
        boundaries: fresh random delimiters.
        extensions: further parts, beside the evidence.

    Raises:
        BoundaryError: unusable boundaries.
        evidence.mail.mime_write.HeaderTextError: an address or id that cannot stand in a header.
    """
    profile = form_of(evidence.xml)
    form = FORMS[profile]
    label = form.label or label
    opening = _opening(introduction.for_dispatch(evidence.record), boundaries, form)
    files = _files(evidence, extensions, profile)
    original = Entity(
        (
            'Content-Type: message/rfc822; name="AttachedMimeMessage"\r\n'
            f"Content-Transfer-Encoding: {label}\r\n"
            'Content-Disposition: attachment; filename="AttachedMimeMessage.eml"\r\n'
            f"{form.section}: {ORIGINAL}\r\n\r\n"
        ).encode(),
        None,
    )
    parts = (opening, original, *files) if form.original_first else (opening, *files, original)
    header = dispatch_header(envelope, evidence.record, boundaries.signed, label, profile)
    return MessagePlan.of(header, _mixed(parts, boundaries.mixed, label), boundaries.signed)


def plan_receipt(
    envelope: Envelope,
    evidence: SealedEvidence,
    *,
    boundaries: Boundaries,
    extensions: Sequence[Attachment] = (),
) -> MessagePlan:
    """Lay out a receipt: introduction and one evidence, no original. ``finish(p7s)`` completes it.

    Raises:
        BoundaryError: unusable boundaries.
        evidence.mail.mime_write.HeaderTextError: an address or id that cannot stand in a header.
    """
    profile = form_of(evidence.xml)
    opening = _opening(introduction.for_receipt(evidence.record), boundaries, FORMS[profile])
    signed = _mixed((opening, *_files(evidence, extensions, profile)), boundaries.mixed, "7bit")
    header = receipt_header(envelope, evidence.record, boundaries.signed, profile)
    return MessagePlan.of(header, signed, boundaries.signed)


def _mixed(parts: tuple[Entity, ...], boundary: str, label: TransferLabel) -> Entity:
    head = (
        f'Content-Type: multipart/mixed; boundary="{boundary}"\r\nContent-Transfer-Encoding: {label}\r\n\r\n'
    )
    return Entity(head.encode(), b"", boundary, parts)


def _opening(text: introduction.Introduction, boundaries: Boundaries, form: MessageForm) -> Entity:
    """Return the first part, the introduction in two formats."""
    plain, html = text.plain.quoted_printable(), text.html.quoted_printable()
    boundaries.check(plain, html)
    inner = boundaries.alternative
    head = (
        f'Content-Type: multipart/alternative; boundary="{inner}"\r\n{form.section}: {INTRODUCTION}\r\n\r\n'
    )
    return Entity(head.encode(), b"", inner, (Entity(_PLAIN_HEAD, plain), Entity(_HTML_HEAD, html)))


def evidence_file_name(kind: EvidenceKind, profile: Profile = Profile.KEP) -> str:
    """Return the attachment name of an evidence: ``<Event>.xml``."""
    return f"{event_name(kind, profile)}.xml"


def record_file_name(kind: EvidenceKind, profile: Profile = Profile.KEP) -> str:
    """Return the attachment name of the evidence record beside an evidence: ``<Event>.ers``."""
    return f"{event_name(kind, profile)}.ers"


def _files(
    evidence: SealedEvidence, extensions: Sequence[Attachment], profile: Profile
) -> tuple[Entity, ...]:
    """Return the evidence, the proof of time that travels beside it in a batch, and other parts.

    In the order of the profile: evidence first in ``kep-ts102640``, last in ``rem-baseline``.
    """
    form, kind = FORMS[profile], evidence.record.kind
    beside = () if evidence.ers is None else (Attachment(record_file_name(kind, profile), evidence.ers),)
    name = evidence_file_name(kind, profile)
    parts = [_part(part, EXTENSION, form) for part in (*beside, *extensions)]
    own = _part(Attachment(name, evidence.xml, "application/xml; charset=UTF-8"), XML_EVIDENCE, form)
    return (*parts, own) if form.original_first else (own, *parts)


def _part(part: Attachment, section: str, form: MessageForm) -> Entity:
    return Entity(
        _part_head(part.content_type, part.file_name, form.section, section), base64_body(part.content)
    )


@lru_cache(maxsize=256)
def _part_head(content_type: str, file_name: str, section_field: str, section: str) -> bytes:
    name = checked(file_name).replace('"', "")
    return (
        f'Content-Type: {content_type}; name="{name}"\r\n'
        "Content-Transfer-Encoding: base64\r\n"
        f'Content-Disposition: attachment; filename="{name}"\r\n'
        f"{section_field}: {section}\r\n\r\n"
    ).encode()
