"""Outer headers of KEP messages in both forms: ``kep-ts102640`` (X-REM-*) and ``rem-baseline`` (REM-*).

Everything but the addresses follows from the evidence inside, so a verifier can compare it
(`evidence.mail.outer_headers`). Which form a message has is that of its evidence.

spec: rem-formats §3.1 to §3.3; `REM-MD08` carries the sender's address, our reading [unconfirmed].
"""

from binascii import b2a_base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from evidence.forms import rem_xml
from evidence.forms.erds_terms import BASELINE_POLICY, EVENT_PREFIX
from evidence.forms.serialise import profile_of
from evidence.mail.mime_write import address_header, checked, date_header, fold, mailbox, text_header
from evidence.model.reasons import ERDS_REASON_PREFIX, success_row, to_erds
from evidence.model.records import NAMES, EvidenceKind, EvidenceRecord, MessageFacts, Profile
from evidence.xades.signing import DECLARATION
from evidence.xml.writer import SHA256_URI, clean_text

TransferLabel = Literal["7bit", "8bit", "binary"]

METADATA_VERSION: Final = "EN31953203V010201"
MESSAGE_TYPE_PREFIX: Final = "http://uri.etsi.org/19522/v1#/ERDMessageType/"
CONSIGNMENT_BASIC: Final = "http://uri.etsi.org/19522/v1#/consignment/basic"
_VALUE_MAX: Final = 900  # with its name it fits a line of 998 octets


@dataclass(frozen=True, slots=True)
class MessageForm:
    """How the messages of one profile look.

    Attributes:
        section: header that says what a part is for.
        label: transfer label of every original; None: what the content needs.
        original_first: the original stands before extensions and evidence.
    """

    section: str
    label: TransferLabel | None
    original_first: bool


FORMS: Final[Mapping[Profile, MessageForm]] = MappingProxyType(
    {
        Profile.KEP: MessageForm("X-REM-Section-Type", None, original_first=False),
        # Only a label: lines stay as they are, CRLF and at most 998 octets long (rem-formats §9).
        Profile.REM_BASELINE: MessageForm("REM-Section-Type", "binary", original_first=True),
    }
)


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


def form_of(xml: bytes) -> Profile:
    """Return the profile of a message that carries this evidence of ours: the evidence's own."""
    return profile_of(xml.removeprefix(DECLARATION))


def event_name(kind: EvidenceKind, profile: Profile) -> str:
    """Return what a profile calls an event, in file names and Subject."""
    return NAMES[kind].event if profile is Profile.KEP else NAMES[kind].erds_event


def dispatch_header(
    envelope: Envelope,
    record: EvidenceRecord,
    boundary: str,
    label: TransferLabel,
    profile: Profile = Profile.KEP,
) -> bytes:
    """Return the outer header of a dispatch, with its blank line.

    Raises:
        evidence.mail.mime_write.HeaderTextError: an address or id that cannot stand in a header.
    """
    kep = profile is Profile.KEP
    sender = record.sender
    return "".join(
        (
            address_header("From", (mailbox(envelope.service_address, f"On behalf of: {sender.address}"),)),
            address_header("Reply-To", (mailbox(sender.address, sender.name),)),
            _addressees(envelope, record),
            text_header("Subject", f"REM Dispatch: {clean_text(record.message.subject)}"),
            _identified(record, record.message.kep_message_id),
            _kep_fields(record, "Dispatch")
            if kep
            else _baseline_fields(record, "dispatch", CONSIGNMENT_BASIC),
            signed_head(boundary, label),
        )
    ).encode()


def receipt_header(
    envelope: Envelope, record: EvidenceRecord, boundary: str, profile: Profile = Profile.KEP
) -> bytes:
    """Return the outer header of a receipt, with its blank line.

    Raises:
        evidence.mail.mime_write.HeaderTextError: an address or id that cannot stand in a header.
    """
    event = event_name(record.kind, profile)
    return "".join(
        (
            fold("From", (f"<{checked(envelope.service_address)}>",)),
            _addressees(envelope, record),
            text_header("Subject", f"REM {event}: {clean_text(record.message.subject)}"),
            "Auto-Submitted: auto-generated\r\n",  # spec: RFC3834#5; rem-formats R-17, no loops
            _identified(record, record.evidence_id),
            _kep_fields(record, "Message") if profile is Profile.KEP else _baseline_fields(record, "receipt"),
            signed_head(boundary, "7bit"),
        )
    ).encode()


def _addressees(envelope: Envelope, record: EvidenceRecord) -> str:
    names = {party.address.lower(): party.name for party in (record.sender, *record.recipients)}
    to = address_header("To", [mailbox(address, names.get(address.lower())) for address in envelope.to])
    if not envelope.cc:
        return to
    return to + address_header(
        "Cc", [mailbox(address, names.get(address.lower())) for address in envelope.cc]
    )


def _identified(record: EvidenceRecord, message_id: str) -> str:
    return f"{date_header(record.event_time)}Message-ID: <{checked(message_id)}>\r\n"


def _kep_fields(record: EvidenceRecord, kind: str) -> str:
    names, message = NAMES[record.kind], record.message
    return (
        f"X-REM-Msg-Type: {kind}\r\n"
        f"X-REM-Evidence-Identifier: {checked(record.evidence_id)}\r\n"
        f"X-REM-Evidence-Type: {names.root}\r\n"
        f"X-REM-Event: {rem_xml.EVENT_PREFIX}{names.event_code}\r\n"
        f"X-REM-Message-Identifier: {checked(message.kep_message_id)}\r\n"
        f"X-REM-DigestMethod: {SHA256_URI}\r\n"
        f"X-REM-DigestValue: {_digest(message)}\r\n"
        "MIME-Version: 1.0\r\n"
    )


def _baseline_fields(record: EvidenceRecord, kind: str, consignment: str = "") -> str:
    message = record.message
    return "".join(
        (
            f"REM-MetadataVersion: {METADATA_VERSION}\r\n",
            f"REM-MessageType: {MESSAGE_TYPE_PREFIX}{kind}\r\n",
            f"REM-Evidence-ID: {checked(record.evidence_id)}\r\n",
            f"REM-EventIdentifier: {EVENT_PREFIX}{NAMES[record.kind].erds_event}\r\n",
            *(_value("REM-ReasonIdentifier", uri) for uri in _reasons(record)),
            *(
                _value("REM-ApplicablePolicy", policy)
                for policy in (BASELINE_POLICY, record.issuer.policy_id)
                if policy
            ),
            f"REM-ModeOfConsignment: {consignment}\r\n" if consignment else "",
            f"REM-MD08: {checked(record.sender.address)}\r\n",
            _value("REM-UAMessageIdentifier", message.user_message_id) if message.user_message_id else "",
            f"REM-DigestAlgorithm: {SHA256_URI}\r\n",
            f"REM-DigestValue: {_digest(message)}\r\n",
            "MIME-Version: 1.0\r\n",
        )
    )


def _digest(message: MessageFacts) -> str:
    return b2a_base64(message.digest_sha256, newline=False).decode("ascii")


def _reasons(record: EvidenceRecord) -> Iterable[str]:
    """Return the reasons' URIs as the evidence has them; a success has the one of its event."""
    if record.reasons:
        return [to_erds(record.kind, reason)[0] for reason in record.reasons]
    success = success_row(record.kind, delegated=record.delegate is not None)
    return () if success is None else (ERDS_REASON_PREFIX + success.name,)


def _value(name: str, value: str) -> str:
    """Return a header of one value, on one line where it has no blanks; else encoded as text is."""
    value = clean_text(value)
    plain = all("!" <= character <= "~" for character in value) and "=?" not in value
    if plain and len(value) <= _VALUE_MAX:
        return f"{name}: {value}\r\n"
    return text_header(name, value)


def signed_head(boundary: str, label: TransferLabel) -> str:
    """Return the end of an outer header: what declares the body, and the blank line."""
    return (
        'Content-Type: multipart/signed; protocol="application/pkcs7-signature";\r\n'
        f' micalg=sha-256; boundary="{boundary}"\r\n'
        f"Content-Transfer-Encoding: {label}\r\n\r\n"
    )
