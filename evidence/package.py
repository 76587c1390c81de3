"""KEP messages as MIME, profile ``kep-ts102640``: the dispatch with the original, and receipts.

The original is never held: `plan_dispatch` gives the bytes before and after it, the caller streams

    plan.prefix + plan.entity_head + original + plan.entity_tail + plan.suffix(p7s)

where ``p7s`` signs the SHA-256 of ``entity_head + original + entity_tail`` (spec: rem-formats §3, §4).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Final, Literal

from evidence import introduction
from evidence.mime_write import (
    CRLF,
    address_header,
    base64_body,
    checked,
    date_header,
    fold,
    quoted_printable,
    text_header,
)
from evidence.records import NAMES, EvidenceKind, EvidenceRecord, Party, SealedEvidence
from evidence.rem_xml import EVENT_PREFIX, SHA256_URI, clean_text

TransferLabel = Literal["7bit", "8bit", "binary"]

SECTION_HEADER: Final = "X-REM-Section-Type"
INTRODUCTION: Final = "rem_message/introduction"
ORIGINAL: Final = "rem_message/original"
EXTENSION: Final = "rem_message/extension"
XML_EVIDENCE: Final = "rem_message/xml_evidence"
SIGNATURE_HEAD: Final = (
    b'Content-Type: application/pkcs7-signature; name="smime.p7s"\r\n'
    b"Content-Transfer-Encoding: base64\r\n"
    b'Content-Disposition: attachment; filename="smime.p7s"\r\n\r\n'
)


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
        allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789=_.-")
        if any(not 1 <= len(name) <= 70 or not set(name) <= allowed for name in names):
            raise BoundaryError("a boundary is empty, too long or holds odd characters")
        ordered = sorted(names)
        if any(b.startswith(a) for a, b in pairwise(ordered)):
            raise BoundaryError("a boundary is a prefix of another")
        if any(b"--" + name.encode() in part for name in names for part in parts):
            raise BoundaryError("a boundary occurs in a part")


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who stands on the outer header: plain addresses ``a@b``.

    Everything else there is derived from the evidence inside, so that a verifier can compare it: names
    are the record's, a dispatch has the KEP message id as Message-ID, a receipt the evidence id, Date is
    the event time.
    """

    service_address: str  # of the provider that makes this message
    to: tuple[str, ...]
    cc: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attachment:
    """A further signed part: ``REMExtensions.xml`` or the evidence record beside an evidence."""

    file_name: str
    content: bytes
    content_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class MessagePlan:
    """A KEP message without its signature, and without the original where it has one."""

    prefix: bytes
    entity_head: bytes
    entity_tail: bytes
    boundary: str

    def digest(self) -> bytes:
        """Return the SHA-256 of the signed entity of a message without an original."""
        return sha256(self.entity_head + self.entity_tail).digest()

    def suffix(self, p7s: bytes) -> bytes:
        """Return everything after the signed entity: the signature part and the final delimiter."""
        delimiter = f"\r\n--{self.boundary}".encode()
        return b"".join(
            (
                delimiter,
                CRLF,
                SIGNATURE_HEAD,
                base64_body(p7s),
                delimiter,
                b"--\r\n",
            )
        )

    def finish(self, p7s: bytes) -> bytes:
        """Return a whole message without an original (a receipt)."""
        return b"".join((self.prefix, self.entity_head, self.entity_tail, self.suffix(p7s)))

    def size(self, original: int, p7s: int) -> int:
        """Return the octets of the finished message for an original and signature of these sizes."""
        return (
            len(self.prefix)
            + len(self.entity_head)
            + original
            + len(self.entity_tail)
            + len(self.suffix(bytes(p7s)))
        )


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
    """Lay out the dispatch: introduction, evidence 10, extensions, the original byte for byte.

    Args:
        envelope: whose message it is; To and Cc are the original's.
        evidence: the acceptance evidence; sender, subject and digest come from its record.
        label: transfer label of the original, see `transfer_label`.
        boundaries: fresh random delimiters.
        extensions: further parts, before the original.

    Raises:
        BoundaryError: unusable boundaries.
        evidence.mime_write.HeaderTextError: an address or id that cannot stand in a header.
    """
    record = evidence.record
    head = b"".join(
        (
            _mixed_head(boundaries, label),
            _introduction(introduction.for_dispatch(record), boundaries),
            _evidence_part(evidence, boundaries.mixed),
            *(_extension_part(part, boundaries.mixed) for part in (*_record_of(evidence), *extensions)),
            f"\r\n--{boundaries.mixed}\r\n".encode(),
            b'Content-Type: message/rfc822; name="AttachedMimeMessage"\r\n',
            f"Content-Transfer-Encoding: {label}\r\n".encode(),
            b'Content-Disposition: attachment; filename="AttachedMimeMessage.eml"\r\n',
            f"{SECTION_HEADER}: {ORIGINAL}\r\n\r\n".encode(),
        )
    )
    prefix = dispatch_header(envelope, record, boundaries.signed, label)
    return MessagePlan(prefix, head, f"\r\n--{boundaries.mixed}--\r\n".encode(), boundaries.signed)


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
        evidence.mime_write.HeaderTextError: an address or id that cannot stand in a header.
    """
    record = evidence.record
    head = b"".join(
        (
            _mixed_head(boundaries, "7bit"),
            _introduction(introduction.for_receipt(record), boundaries),
            _evidence_part(evidence, boundaries.mixed),
            *(_extension_part(part, boundaries.mixed) for part in (*_record_of(evidence), *extensions)),
        )
    )
    prefix = receipt_header(envelope, record, boundaries.signed)
    return MessagePlan(prefix, head, f"\r\n--{boundaries.mixed}--\r\n".encode(), boundaries.signed)


def dispatch_header(envelope: Envelope, record: EvidenceRecord, boundary: str, label: TransferLabel) -> bytes:
    """Return the outer header of a dispatch up to and with the first delimiter line.

    Raises:
        evidence.mime_write.HeaderTextError: an address or id that cannot stand in a header.
    """
    on_behalf = f"On behalf of: {record.sender.address}"
    return b"".join(
        (
            address_header("From", (Party(envelope.service_address, on_behalf),)),
            address_header("Reply-To", (record.sender,)),
            _addressees(envelope, record),
            text_header("Subject", f"REM Dispatch: {clean_text(record.message.subject)}"),
            _rem_headers(record, "Dispatch", record.message.kep_message_id),
            _signed_head(boundary, label),
        )
    )


def receipt_header(envelope: Envelope, record: EvidenceRecord, boundary: str) -> bytes:
    """Return the outer header of a receipt up to and with the first delimiter line.

    Raises:
        evidence.mime_write.HeaderTextError: an address or id that cannot stand in a header.
    """
    event = NAMES[record.kind].event
    return b"".join(
        (
            fold("From", (f"<{checked(envelope.service_address)}>",)),
            _addressees(envelope, record),
            text_header("Subject", f"REM {event}: {clean_text(record.message.subject)}"),
            b"Auto-Submitted: auto-generated\r\n",  # spec: RFC3834#5; rem-formats R-17, no loops
            _rem_headers(record, "Message", record.evidence_id),
            _signed_head(boundary, "7bit"),
        )
    )


def _addressees(envelope: Envelope, record: EvidenceRecord) -> bytes:
    names = {party.address.lower(): party.name for party in (record.sender, *record.recipients)}
    to, cc = (
        tuple(Party(address, names.get(address.lower())) for address in listed)
        for listed in (envelope.to, envelope.cc)
    )
    return address_header("To", to) + (address_header("Cc", cc) if cc else b"")


def _rem_headers(record: EvidenceRecord, kind: str, message_id: str) -> bytes:
    names, message = NAMES[record.kind], record.message
    lines = [
        date_header(record.event_time),
        f"Message-ID: <{checked(message_id)}>\r\n".encode(),
        f"X-REM-Msg-Type: {kind}\r\n".encode(),
        f"X-REM-Evidence-Identifier: {checked(record.evidence_id)}\r\n".encode(),
        f"X-REM-Evidence-Type: {names.root}\r\n".encode(),
        f"X-REM-Event: {EVENT_PREFIX}{names.event_code}\r\n".encode(),
        f"X-REM-Message-Identifier: {checked(message.kep_message_id)}\r\n".encode(),
        f"X-REM-DigestMethod: {SHA256_URI}\r\n".encode(),
        b"X-REM-DigestValue: " + base64_body(message.digest_sha256),
        b"MIME-Version: 1.0\r\n",
    ]
    return b"".join(lines)


def _signed_head(boundary: str, label: TransferLabel) -> bytes:
    return (
        'Content-Type: multipart/signed; protocol="application/pkcs7-signature";\r\n'
        f' micalg=sha-256; boundary="{boundary}"\r\n'
        f"Content-Transfer-Encoding: {label}\r\n\r\n"
        f"--{boundary}\r\n"
    ).encode()


def _mixed_head(boundaries: Boundaries, label: TransferLabel) -> bytes:
    return (
        f'Content-Type: multipart/mixed; boundary="{boundaries.mixed}"\r\n'
        f"Content-Transfer-Encoding: {label}\r\n\r\n"
        f"--{boundaries.mixed}\r\n"
    ).encode()


def _introduction(text: introduction.Introduction, boundaries: Boundaries) -> bytes:
    plain, html = quoted_printable(text.plain), quoted_printable(text.html)
    boundaries.check(plain, html)
    inner = boundaries.alternative
    head = "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
    return b"".join(
        (
            f'Content-Type: multipart/alternative; boundary="{inner}"\r\n'
            f"{SECTION_HEADER}: {INTRODUCTION}\r\n\r\n"
            f"--{inner}\r\nContent-Type: text/plain; charset=UTF-8\r\n{head}".encode(),
            plain,
            f"\r\n--{inner}\r\nContent-Type: text/html; charset=UTF-8\r\n{head}".encode(),
            html,
            f"\r\n--{inner}--\r\n".encode(),
        )
    )


def evidence_file_name(kind: EvidenceKind) -> str:
    """Return the attachment name of an evidence: ``<Event>.xml``."""
    return f"{NAMES[kind].event}.xml"


def record_file_name(kind: EvidenceKind) -> str:
    """Return the attachment name of the evidence record beside an evidence: ``<Event>.ers``."""
    return f"{NAMES[kind].event}.ers"


def _record_of(evidence: SealedEvidence) -> tuple[Attachment, ...]:
    """Return the proof of time that travels beside an evidence of a batch."""
    if evidence.ers is None:
        return ()
    return (Attachment(record_file_name(evidence.record.kind), evidence.ers),)


def _evidence_part(evidence: SealedEvidence, boundary: str) -> bytes:
    name = evidence_file_name(evidence.record.kind)
    return (
        f'\r\n--{boundary}\r\nContent-Type: application/xml; charset=UTF-8; name="{name}"\r\n'
        "Content-Transfer-Encoding: base64\r\n"
        f'Content-Disposition: attachment; filename="{name}"\r\n'
        f"{SECTION_HEADER}: {XML_EVIDENCE}\r\n\r\n"
    ).encode() + base64_body(evidence.xml)


def _extension_part(part: Attachment, boundary: str) -> bytes:
    name = checked(part.file_name).replace('"', "")
    return (
        f'\r\n--{boundary}\r\nContent-Type: {part.content_type}; name="{name}"\r\n'
        "Content-Transfer-Encoding: base64\r\n"
        f'Content-Disposition: attachment; filename="{name}"\r\n'
        f"{SECTION_HEADER}: {EXTENSION}\r\n\r\n"
    ).encode() + base64_body(part.content)
