"""KEP messages as MIME: the dispatch with the original, and receipts, in the form of their evidence.

Evidence in TS 102 640-2 XML travels in ``kep-ts102640`` messages, EN 319 522-3 XML in ``rem-baseline``
ones; their headers are in `evidence.mail.rem_headers`.

The original is never held: `plan_dispatch` gives the bytes before and after it, the caller streams

    plan.prefix + plan.entity_head + original + plan.entity_tail + plan.suffix(p7s)

where ``p7s`` signs the SHA-256 of ``entity_head + original + entity_tail`` (spec: rem-formats §3, §4).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Final, NamedTuple

from evidence.mail import introduction
from evidence.mail.entity import STREAMED, Entity, Extent, Gap, Layout, Streamed
from evidence.mail.mime_write import CRLF, base64_body, base64_size, checked, quoted_printable
from evidence.mail.rem_headers import (
    FORMS,
    Envelope,
    MessageForm,
    TransferLabel,
    dispatch_header,
    event_name,
    form_of,
    receipt_header,
    signed_head,
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


_SEED: Final = re.compile(r"[A-Za-z0-9]{1,67}")  # three characters are added; spec: RFC2046#5.1.1
_TEXT_END: Final = b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
_PLAIN_HEAD: Final = b"Content-Type: text/plain; charset=UTF-8\r\n" + _TEXT_END
_HTML_HEAD: Final = b"Content-Type: text/html; charset=UTF-8\r\n" + _TEXT_END
_BINARY: Final = "application/octet-stream"
_LAYOUTS_KEPT: Final = 256
_PLAIN, _HTML, _EVIDENCE, _RECORD, _SIGNATURE = map(Gap, (b"plain", b"html", b"evidence", b"record", b"p7s"))


class BoundaryError(Exception):
    """Boundaries that cannot be used, or that occur in what they divide."""


@dataclass(frozen=True, slots=True)
class Boundaries:
    """Three delimiters around one random string of letters and digits.

    Make it of at least 128 random bits: the original is not searched. ``=_`` never occurs in base64 or
    quoted-printable; the first letters differ, so none is a prefix of another.
    """

    seed: str

    @classmethod
    def of(cls, seed: str) -> "Boundaries":
        """Derive them from a random string.

        Raises:
            BoundaryError: empty, too long, or something else than letters and digits.
        """
        if _SEED.fullmatch(seed) is None:
            raise BoundaryError("the seed of boundaries is empty, too long or holds odd characters")
        return cls(seed)

    @property
    def signed(self) -> str:
        """Return what divides the signed entity from its signature."""
        return f"s=_{self.seed}"

    @property
    def mixed(self) -> str:
        """Return what divides introduction, evidence and original."""
        return f"m=_{self.seed}"

    @property
    def alternative(self) -> str:
        """Return what divides the two texts of the introduction."""
        return f"a=_{self.seed}"

    def check(self, *parts: bytes) -> None:
        """Refuse parts that would make the message ambiguous.

        Raises:
            BoundaryError: what all three have in common is found in a part.
        """
        mark = b"=_" + self.seed.encode("ascii")
        for part in parts:
            if mark in part:
                raise BoundaryError("a boundary occurs in a part")


@dataclass(frozen=True, slots=True)
class Attachment:
    """A further signed part: ``REMExtensions.xml`` or the evidence record beside an evidence."""

    file_name: str
    content: bytes
    content_type: str = _BINARY


@dataclass(frozen=True, slots=True)
class MessagePlan:
    """A KEP message without its signature, and without the original where it has one.

    ``header`` is the outer one; ``entity_head`` and ``entity_tail`` are what the signature covers, with the
    original between them. ``extents`` are those of what fills the gaps of the layout.
    """

    header: bytes
    entity_head: bytes
    entity_tail: bytes
    boundaries: Boundaries
    layout: Layout
    extents: Mapping[bytes, Extent]

    @property
    def prefix(self) -> bytes:
        """Return everything before the signed entity."""
        return self.header + f"--{self.boundaries.signed}\r\n".encode()

    def digest(self) -> bytes:
        """Return the SHA-256 of the signed entity of a message without an original."""
        return sha256(self.entity_head + self.entity_tail).digest()

    def suffix(self, p7s: bytes) -> bytes:
        """Return everything after the signed entity: the signature part and the final delimiter."""
        return signature_end(self.boundaries.signed, p7s)

    def finish(self, p7s: bytes) -> bytes:
        """Return a whole message without an original (a receipt)."""
        return b"".join((self.prefix, self.entity_head, self.entity_tail, self.suffix(p7s)))

    def tree(self, p7s: bytes, original: Streamed | None = None) -> str:
        """Return where the parts of the finished message lie (`evidence.mail.tree`), without reading it."""
        signature = Extent(*base64_size(len(p7s)))
        extents = {**self.extents, _SIGNATURE.name: signature}
        return self.layout.places(self.header, self.boundaries.seed, extents, original)

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
    record, profile = evidence.record, form_of(evidence.xml)
    label = FORMS[profile].label or label
    header = dispatch_header(envelope, record, boundaries.signed, label, profile)
    content = _Content(profile, introduction.for_dispatch(record), evidence, extensions)
    return _plan(header, content, label, boundaries)


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
    record, profile = evidence.record, form_of(evidence.xml)
    header = receipt_header(envelope, record, boundaries.signed, profile)
    content = _Content(profile, introduction.for_receipt(record), evidence, extensions)
    return _plan(header, content, None, boundaries)


def evidence_file_name(kind: EvidenceKind, profile: Profile = Profile.KEP) -> str:
    """Return the attachment name of an evidence: ``<Event>.xml``."""
    return f"{event_name(kind, profile)}.xml"


def record_file_name(kind: EvidenceKind, profile: Profile = Profile.KEP) -> str:
    """Return the attachment name of the evidence record beside an evidence: ``<Event>.ers``."""
    return f"{event_name(kind, profile)}.ers"


class _Shape(NamedTuple):
    """What messages of one layout have in common, but for the length of their seed."""

    profile: Profile
    kind: EvidenceKind
    original: TransferLabel | None  # its label; None: a message without one
    texts: tuple[str, str, str, str]  # of the introduction: before and after the facts, plain and HTML
    has_record: bool
    extensions: tuple[tuple[str, str], ...]  # content types and file names


class _Content(NamedTuple):
    """What a message shows and carries, beside the original; it knows what fills which gap."""

    profile: Profile
    text: introduction.Introduction
    evidence: SealedEvidence
    extensions: Sequence[Attachment]

    def shape(self, original: TransferLabel | None) -> _Shape:
        plain, html = self.text
        texts = (plain.before, plain.after, html.before, html.after)
        extensions = tuple([(one.content_type, one.file_name) for one in self.extensions])
        evidence = self.evidence
        has_record = evidence.ers is not None
        return _Shape(self.profile, evidence.record.kind, original, texts, has_record, extensions)

    def facts(self) -> dict[bytes, bytes]:
        plain, html = self.text
        return {_PLAIN.name: quoted_printable(plain.facts), _HTML.name: quoted_printable(html.facts)}

    def files(self) -> dict[bytes, bytes]:
        files = {_EVIDENCE.name: self.evidence.xml}
        if self.evidence.ers is not None:
            files[_RECORD.name] = self.evidence.ers
        for number, extension in enumerate(self.extensions):
            files[_extension(number).name] = extension.content
        return files


def _plan(
    header: bytes, content: _Content, original: TransferLabel | None, boundaries: Boundaries
) -> MessagePlan:
    """Fill the gaps of a layout."""
    layout = _layout(content.shape(original), len(boundaries.seed))
    facts, files = content.facts(), content.files()
    boundaries.check(*facts.values())
    encoded = {name: base64_body(file) for name, file in files.items()}
    head, tail = layout.signed(boundaries.seed, facts | encoded)
    extents = {name: Extent.of(text) for name, text in facts.items()}
    extents |= {name: Extent(*base64_size(len(file))) for name, file in files.items()}
    return MessagePlan(header, head, tail, boundaries, layout, extents)


@lru_cache(maxsize=_LAYOUTS_KEPT)
def _layout(shape: _Shape, seed_size: int) -> Layout:
    """Work out a layout: introduction, evidence, further parts, original, in the order of the profile."""
    form, boundaries = FORMS[shape.profile], Boundaries("?" * seed_size)  # no seed of a message is like it
    label = shape.original or "7bit"
    files = _files(shape, form)
    if shape.original is None:
        parts = files
    else:
        original = Entity(_original_head(label, form), (STREAMED,))
        parts = (original, *files) if form.original_first else (*files, original)
    mixed = Entity(
        f'Content-Type: multipart/mixed; boundary="{boundaries.mixed}"\r\n'
        f"Content-Transfer-Encoding: {label}\r\n\r\n".encode(),
        boundary=boundaries.mixed,
        parts=(_opening(shape, form, boundaries.alternative), *parts),
    )
    signature = Entity(SIGNATURE_HEAD, (_SIGNATURE,))
    outer = signed_head(boundaries.signed, label).encode()
    return Layout.of(Entity(outer, (), boundaries.signed, (mixed, signature)), boundaries.seed)


def _opening(shape: _Shape, form: MessageForm, boundary: str) -> Entity:
    """Return the first part, the introduction in two formats."""
    before, after, html_before, html_after = map(quoted_printable, shape.texts)
    return Entity(
        f'Content-Type: multipart/alternative; boundary="{boundary}"\r\n'
        f"{form.section}: {INTRODUCTION}\r\n\r\n".encode(),
        boundary=boundary,
        parts=(
            Entity(_PLAIN_HEAD, (before, _PLAIN, after)),
            Entity(_HTML_HEAD, (html_before, _HTML, html_after)),
        ),
    )


def _original_head(label: TransferLabel, form: MessageForm) -> bytes:
    return (
        'Content-Type: message/rfc822; name="AttachedMimeMessage"\r\n'
        f"Content-Transfer-Encoding: {label}\r\n"
        'Content-Disposition: attachment; filename="AttachedMimeMessage.eml"\r\n'
        f"{form.section}: {ORIGINAL}\r\n\r\n"
    ).encode()


def _files(shape: _Shape, form: MessageForm) -> tuple[Entity, ...]:
    """Return the evidence, the proof of time that travels beside it in a batch, and other parts.

    In the order of the profile: evidence first in ``kep-ts102640``, last in ``rem-baseline``.
    """
    names = evidence_file_name(shape.kind, shape.profile), record_file_name(shape.kind, shape.profile)
    own = _part("application/xml; charset=UTF-8", names[0], form, XML_EVIDENCE, _EVIDENCE)
    parts = [
        _part(content_type, name, form, EXTENSION, _extension(number))
        for number, (content_type, name) in enumerate(shape.extensions)
    ]
    if shape.has_record:
        parts.insert(0, _part(_BINARY, names[1], form, EXTENSION, _RECORD))
    return (*parts, own) if form.original_first else (own, *parts)


def _extension(number: int) -> Gap:
    return Gap(b"extension %d" % number)


def _part(content_type: str, file_name: str, form: MessageForm, section: str, content: Gap) -> Entity:
    name = checked(file_name).replace('"', "")
    head = (
        f'Content-Type: {content_type}; name="{name}"\r\n'
        "Content-Transfer-Encoding: base64\r\n"
        f'Content-Disposition: attachment; filename="{name}"\r\n'
        f"{form.section}: {section}\r\n\r\n"
    )
    return Entity(head.encode(), (content,))
