"""Evidence as TS 102 640-2 v2 XML: a writer that is canonical by construction, a lenient reader.

The writer emits exactly what exclusive C14N would make of its own output, so that digests are
taken over the string itself (signing §3). The reader accepts what other writers are known to
send: unknown elements, misspelt reasons, other versions (rem-formats §7, "lenient reading").
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote

from evidence.records import (
    NAMES,
    REASON_NAMES,
    Authentication,
    EvidenceKind,
    EvidenceRecord,
    Issuer,
    MessageFacts,
    Party,
    Reason,
    ReasonCode,
)
from evidence.xml_reader import (
    EvidenceFormatError,
    XmlElement,
    children,
    format_time,
    parse_time,
    parse_xml,
    text_of,
)

REM_NAMESPACE: Final = "http://uri.etsi.org/02640/v2#"
DSIG_NAMESPACE: Final = "http://www.w3.org/2000/09/xmldsig#"
SHA256_URI: Final = "http://www.w3.org/2001/04/xmlenc#sha256"
VERSION: Final = "2.1.1"
EVENT_PREFIX: Final = "http:uri.etsi.org/02640/Event#"  # spec: KEP-EV-01, literally without "//"
REASON_PREFIX: Final = "http:uri.etsi.org/REM/EventReason#"
RECIPIENTS_MAX: Final = 10_000

_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TEXT_PLAIN: Final = re.compile("[\t\n\u0020-%'-;=?-\ud7ff\ue000-\ufffd]*")  # neither forbidden nor escaped
_XML_BLANKS: Final = " \t\r\n"
_NOT_NCNAME: Final = re.compile(r"[^A-Za-z0-9._-]")
# What an e-mail address may hold and a URI may not; percent-encoded so that anyURI stays valid.
_NOT_URI: Final = re.compile(r"[\x00-\x20\"<>\\^`{|}%\[\]\x7f]")

_KINDS: Final[Mapping[tuple[str, str], EvidenceKind]] = MappingProxyType(
    {(names.root, names.event_code): kind for kind, names in NAMES.items()}
    | {("DeliveryNonDeliveryToRecipient", "NonDelivery"): EvidenceKind.NON_DELIVERY}
)
_REASONS: Final[Mapping[str, ReasonCode]] = MappingProxyType(
    {name: code for code, name in REASON_NAMES.items()}
    | {
        "AttachmentFormatNotAccepted": ReasonCode.ATTACHMENT_FORMAT_NOT_ACCEPTED,
        "R_REMMD_NotIdenified": ReasonCode.R_REMMD_NOT_IDENTIFIED,  # sic, seen at peers
        "DuplicateMsgID": ReasonCode.POLICY_VIOLATION,
    }
)


def clean_text(text: str) -> str:
    """Return the text as evidence can carry it: characters that XML forbids become U+FFFD."""
    return _FORBIDDEN.sub("\ufffd", text)


def escape_text(text: str) -> str:
    """Escape character data as canonical XML does; characters XML forbids become U+FFFD."""
    if _TEXT_PLAIN.fullmatch(text):
        return text
    clean = clean_text(text)
    return clean.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#xD;")


def xml_id(evidence_id: str) -> str:
    """Return the root's ``Id``, an NCName: ``ev-`` and the local part of the evidence id."""
    return "ev-" + _NOT_NCNAME.sub("_", evidence_id.partition("@")[0])


def write(record: EvidenceRecord) -> bytes:
    """Write the evidence body: canonical, UTF-8, no declaration, no signature.

    Fields and their order follow the schema's REMEvidenceType (KEP-EC-01..14).
    """
    names = NAMES[record.kind]
    parts = [
        f'<{names.root} xmlns="{REM_NAMESPACE}" Id="{xml_id(record.evidence_id)}" version="{VERSION}">',
        f"<EventCode>{EVENT_PREFIX}{names.event_code}</EventCode>",
        _reasons(record.reasons),
        f"<EvidenceIdentifier>{escape_text(record.evidence_id)}</EvidenceIdentifier>",
        _issuer(record.issuer),
        _authentication("SenderAuthenticationDetails", record.sender_authentication),
        _authentication("RecipientAuthenticationDetails", record.recipient_authentication),
        f"<EventTime>{format_time(record.event_time)}</EventTime>",
        f"<SubmissionTime>{format_time(record.submission_time)}</SubmissionTime>",
        f"<SenderDetails>{_party(record.sender)}</SenderDetails>",
        "<RecipientsDetails>",
        *(f"<EntityDetails>{_party(party)}</EntityDetails>" for party in record.recipients),
        "</RecipientsDetails>",
        _delegate(record),
        ""
        if record.refers_to is None
        else f"<EvidenceRefersToRecipient>{record.refers_to}</EvidenceRefersToRecipient>",
        _message(record.message),
        f"</{names.root}>",
    ]
    return "".join(parts).encode()


def _reasons(reasons: tuple[Reason, ...]) -> str:
    if not reasons:
        return ""
    listed = "".join(
        f"<EventReason><Code>{REASON_PREFIX}{REASON_NAMES[reason.code]}</Code>"
        + (f"<Details>{escape_text(reason.details)}</Details>" if reason.details else "")
        + "</EventReason>"
        for reason in reasons
    )
    return f"<EventReasons>{listed}</EventReasons>"


def _name(name: str | None) -> str:
    return f"<EntityName><Name>{escape_text(name)}</Name></EntityName>" if name else ""


def _address(address: str) -> str:
    if not address:
        return ""
    escaped = address
    if _NOT_URI.search(address):
        escaped = _NOT_URI.sub(lambda found: f"%{ord(found.group()):02X}", address)
    return (
        f'<AttributedElectronicAddress scheme="mailto">{escape_text(escaped)}</AttributedElectronicAddress>'
    )


def _party(party: Party) -> str:
    if not party.name:
        return _address(party.address)
    return (
        f"<NamesPostalAddresses><NamePostalAddress>{_name(party.name)}</NamePostalAddress>"
        f"</NamesPostalAddresses>{_address(party.address)}"
    )


def _issuer(issuer: Issuer) -> str:
    postal = ""
    if issuer.street and issuer.locality and issuer.postal_code and issuer.country:
        postal = (
            f"<PostalAddress><StreetAddress>{escape_text(issuer.street)}</StreetAddress>"
            f"<Locality>{escape_text(issuer.locality)}</Locality>"
            f"<PostalCode>{escape_text(issuer.postal_code)}</PostalCode>"
            f"<CountryName>{escape_text(issuer.country)}</CountryName></PostalAddress>"
        )
    policy = (
        f"<EvidenceIssuerPolicyID><PolicyID>{escape_text(issuer.policy_id)}</PolicyID>"
        "</EvidenceIssuerPolicyID>"
        if issuer.policy_id
        else ""
    )
    return (
        f"{policy}<EvidenceIssuerDetails><NamesPostalAddresses><NamePostalAddress>{_name(issuer.name)}"
        f"{postal}</NamePostalAddress></NamesPostalAddresses>{_address(issuer.address)}"
        "</EvidenceIssuerDetails>"
    )


def _authentication(element: str, details: Authentication | None) -> str:
    if details is None:
        return ""
    person = f"<AdditionalDetails>{escape_text(details.person)}</AdditionalDetails>" if details.person else ""
    return (
        f"<{element}><AuthenticationTime>{format_time(details.at)}</AuthenticationTime>"
        f"<AuthenticationMethod>{escape_text(details.method)}</AuthenticationMethod>{person}</{element}>"
    )


def _delegate(record: EvidenceRecord) -> str:
    if record.delegate is None:
        return ""
    return (
        f"<RecipientsDelegatesDetails><DelegateDetails>{_party(record.delegate)}</DelegateDetails>"
        f"<DelegatingRecipients>{record.refers_to or 1}</DelegatingRecipients></RecipientsDelegatesDetails>"
    )


def _message(facts: MessageFacts) -> str:
    user_id = (
        f"<UAMessageIdentifier>{escape_text(facts.user_message_id)}</UAMessageIdentifier>"
        if facts.user_message_id
        else ""
    )
    return (
        f'<SenderMessageDetails isNotification="false"><MessageSubject>{escape_text(facts.subject)}'
        f"</MessageSubject>{user_id}"
        f"<MessageIdentifierByREMMD>{escape_text(facts.kep_message_id)}</MessageIdentifierByREMMD>"
        f'<ds:DigestMethod xmlns:ds="{DSIG_NAMESPACE}" Algorithm="{SHA256_URI}"></ds:DigestMethod>'
        f'<ds:DigestValue xmlns:ds="{DSIG_NAMESPACE}">{b64encode(facts.digest_sha256).decode()}'
        "</ds:DigestValue></SenderMessageDetails>"
    )


def _q(name: str) -> str:
    return f"{{{REM_NAMESPACE}}}{name}"


def read(xml: bytes) -> EvidenceRecord:
    """Read an evidence, signed or not, into the internal record; signatures are not looked at.

    Raises:
        EvidenceFormatError: not XML within the caps, an unknown root or event, or a field without
            which an evidence says nothing (identifier, event time, sender, recipients, digest).
    """
    root = parse_xml(xml)
    event_time = _time(root, "EventTime")
    if event_time is None:
        raise EvidenceFormatError("no EventTime")
    recipients = tuple(
        _read_party(entity)
        for entity in children(root.find(_q("RecipientsDetails")), _q("EntityDetails"))[: RECIPIENTS_MAX + 1]
    )
    if not recipients or len(recipients) > RECIPIENTS_MAX:
        raise EvidenceFormatError("no recipients, or too many")
    sender = root.find(_q("SenderDetails"))
    if sender is None:
        raise EvidenceFormatError("no SenderDetails")
    delegate = root.find(f"{_q('RecipientsDelegatesDetails')}/{_q('DelegateDetails')}")
    return EvidenceRecord(
        kind=_read_kind(root),
        evidence_id=_needed(root, "EvidenceIdentifier"),
        event_time=event_time,
        submission_time=_time(root, "SubmissionTime") or event_time,
        issuer=_read_issuer(root),
        sender=_read_party(sender),
        recipients=recipients,
        message=_read_message(root),
        reasons=_read_reasons(root),
        refers_to=_read_index(root, len(recipients)),
        sender_authentication=_read_authentication(root, "SenderAuthenticationDetails"),
        recipient_authentication=_read_authentication(root, "RecipientAuthenticationDetails"),
        delegate=None if delegate is None else _read_party(delegate),
    )


def _read_kind(root: XmlElement) -> EvidenceKind:
    namespace, _, name = str(root.tag).rpartition("}")
    if namespace != "{" + REM_NAMESPACE:
        raise EvidenceFormatError(f"unknown root element {str(root.tag)[:120]}")
    code = (text_of(root.find(_q("EventCode"))) or "").strip().rpartition("#")[2]
    kind = _KINDS.get((name, code))
    if kind is None:
        raise EvidenceFormatError(f"unknown event {name[:60]}/{code[:60]}")
    return kind


def _needed(parent: XmlElement, name: str) -> str:
    text = text_of(parent.find(_q(name)))
    if not text:
        raise EvidenceFormatError(f"no {name}")
    return text


def _time(parent: XmlElement, name: str) -> datetime | None:
    text = text_of(parent.find(_q(name)))
    return None if text is None else parse_time(text)


def _read_party(entity: XmlElement) -> Party:
    address = unquote((text_of(entity.find(_q("AttributedElectronicAddress"))) or "").strip(_XML_BLANKS))
    return Party(
        address=address[7:] if address[:7].lower() == "mailto:" else address,
        name=text_of(
            entity.find(
                "/".join(map(_q, ("NamesPostalAddresses", "NamePostalAddress", "EntityName", "Name")))
            )
        )
        or None,
    )


def _read_issuer(root: XmlElement) -> Issuer:
    details = root.find(_q("EvidenceIssuerDetails"))
    if details is None:
        raise EvidenceFormatError("no EvidenceIssuerDetails")
    party = _read_party(details)
    postal = details.find("/".join(map(_q, ("NamesPostalAddresses", "NamePostalAddress", "PostalAddress"))))

    def field(name: str) -> str:
        return "" if postal is None else text_of(postal.find(_q(name))) or ""

    return Issuer(
        name=party.name or "",
        address=party.address,
        policy_id=text_of(root.find(f"{_q('EvidenceIssuerPolicyID')}/{_q('PolicyID')}")) or "",
        street=field("StreetAddress"),
        locality=field("Locality"),
        postal_code=field("PostalCode"),
        country=field("CountryName"),
    )


def _read_reasons(root: XmlElement) -> tuple[Reason, ...]:
    found = []
    for reason in children(root.find(_q("EventReasons")), _q("EventReason")):
        name = (text_of(reason.find(_q("Code"))) or "").strip().rpartition("#")[2]
        details = text_of(reason.find(_q("Details"))) or ""
        code = _REASONS.get(name)
        found.append(
            Reason(ReasonCode.OTHER, f"{name}: {details}" if details else name)
            if code is None
            else Reason(code, details)
        )
    return tuple(found)


def _read_authentication(root: XmlElement, name: str) -> Authentication | None:
    details = root.find(_q(name))
    if details is None:
        return None
    at = _time(details, "AuthenticationTime")
    if at is None:
        return None  # a SAML assertion stands in its place; the bytes keep it
    return Authentication(
        at=at,
        method=text_of(details.find(_q("AuthenticationMethod"))) or "",
        person=text_of(details.find(_q("AdditionalDetails"))) or None,
    )


def _read_index(root: XmlElement, recipients: int) -> int | None:
    text = text_of(root.find(_q("EvidenceRefersToRecipient")))
    if text is None:
        return None
    digits = text.strip()
    if not digits.isascii() or not digits.isdigit() or len(digits) > 6 or not 1 <= int(digits) <= recipients:
        raise EvidenceFormatError("EvidenceRefersToRecipient names no recipient")
    return int(digits)


def _read_message(root: XmlElement) -> MessageFacts:
    details = root.find(_q("SenderMessageDetails"))
    if details is None:
        raise EvidenceFormatError("no SenderMessageDetails")
    method = details.find(f"{{{DSIG_NAMESPACE}}}DigestMethod")
    if method is None or method.get("Algorithm") != SHA256_URI:
        raise EvidenceFormatError("the message digest is not SHA-256")
    try:
        digest = b64decode(text_of(details.find(f"{{{DSIG_NAMESPACE}}}DigestValue")) or "")
    except (Base64Error, ValueError) as error:
        raise EvidenceFormatError("the message digest is not base64") from error
    if len(digest) != 32:
        raise EvidenceFormatError("the message digest has a wrong length")
    return MessageFacts(
        subject=text_of(details.find(_q("MessageSubject"))) or "",
        user_message_id=text_of(details.find(_q("UAMessageIdentifier"))) or None,
        kep_message_id=_needed(details, "MessageIdentifierByREMMD"),
        digest_sha256=digest,
    )
