"""Evidence as TS 102 640-2 v2 XML: a writer that is canonical by construction, a lenient reader.

The writer emits exactly what exclusive C14N would make of its own output (`evidence.xml.writer`). The
reader accepts what other writers are known to send: unknown elements, misspelt reasons, other versions
(rem-formats §7, "lenient reading").
"""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote

from evidence.model.events import KIND_BY_TS, NAMES, TS_KINDS, EvidenceKind
from evidence.model.reasons import TS_REASON_PREFIX, from_ts, to_ts
from evidence.model.records import (
    Authentication,
    EvidenceRecord,
    Issuer,
    MessageFacts,
    Party,
    Reason,
)
from evidence.xml.reader import (
    EvidenceFormatError,
    XmlElement,
    children,
    parse_time,
    parse_xml,
    text_of,
)
from evidence.xml.writer import (
    DSIG_NAMESPACE,
    SHA256_URI,
    ProfileError,
    clean_text,
    digest_elements,
    escape_address,
    escape_text,
    escape_uri,
    timestamp,
    xml_id,
)

__all__ = [
    "DSIG_NAMESPACE", "EVENT_PREFIX", "REASON_PREFIX", "RECIPIENTS_MAX", "REM_NAMESPACE", "SHA256_URI",
    "VERSION", "UnknownEventError", "b64encode", "clean_text", "escape_text", "read", "read_digest",
    "read_root", "write", "xml_id",
]  # fmt: skip

REM_NAMESPACE: Final = "http://uri.etsi.org/02640/v2#"
VERSION: Final = "2.1.1"
EVENT_PREFIX: Final = "http:uri.etsi.org/02640/Event#"  # spec: KEP-EV-01, literally without "//"
REASON_PREFIX: Final = TS_REASON_PREFIX
RECIPIENTS_MAX: Final = 10_000

_XML_BLANKS: Final = " \t\r\n"
_ISSUERS_REMEMBERED: Final = 64
_ADDRESS_HEAD: Final = '<AttributedElectronicAddress scheme="mailto">'
_ADDRESS_END: Final = "</AttributedElectronicAddress>"
_NAME_HEAD: Final = "<NamesPostalAddresses><NamePostalAddress><EntityName><Name>"
_NAME_END: Final = "</Name></EntityName></NamePostalAddress></NamesPostalAddresses>"
_HEADS: Final[Mapping[EvidenceKind, str]] = MappingProxyType(
    {kind: f'<{NAMES[kind].root} xmlns="{REM_NAMESPACE}" Id="' for kind in TS_KINDS}
)
_CODES: Final[Mapping[EvidenceKind, str]] = MappingProxyType(
    {
        kind: f'" version="{VERSION}"><EventCode>{EVENT_PREFIX}{NAMES[kind].event_code}</EventCode>'
        for kind in TS_KINDS
    }
)
# A delivery of a notification proves nothing about the content: it is another event.
_OF_NOTIFICATIONS: Final[Mapping[EvidenceKind, EvidenceKind]] = MappingProxyType(
    {
        EvidenceKind.DELIVERY: EvidenceKind.CONSIGNMENT_NOTIFICATION,
        EvidenceKind.NON_DELIVERY: EvidenceKind.CONSIGNMENT_NOTIFICATION_FAILURE,
    }
)


class UnknownEventError(EvidenceFormatError):
    """A well-formed evidence about an event we do not know, of a later edition perhaps."""


def write(record: EvidenceRecord) -> bytes:
    """Write the evidence body: canonical, UTF-8, no declaration, no signature.

    Fields and their order follow the schema's REMEvidenceType (KEP-EC-01..14).

    Raises:
        ProfileError: an event without a TS root, or relay evidence about a part of the recipients, which
            TS cannot say.
    """
    head = _HEADS.get(record.kind)
    if head is None:
        raise ProfileError(f"TS 102 640-2 has no {NAMES[record.kind].event}")
    if record.covers:
        raise ProfileError("TS 102 640-2 cannot name a part of the recipients")
    recipients = "".join([f"<EntityDetails>{_party(party)}</EntityDetails>" for party in record.recipients])
    sender, reader = record.sender_authentication, record.recipient_authentication
    return (
        f"{head}{xml_id(record.evidence_id)}{_CODES[record.kind]}"
        f"{_reasons(record) if record.reasons else ''}"
        f"<EvidenceIdentifier>{escape_text(record.evidence_id)}</EvidenceIdentifier>"
        f"{_issuer(record.issuer)}"
        f"{'' if sender is None else _authentication('SenderAuthenticationDetails', sender)}"
        f"{'' if reader is None else _authentication('RecipientAuthenticationDetails', reader)}"
        f"<EventTime>{timestamp(record.event_time)}</EventTime>"
        f"<SubmissionTime>{timestamp(record.submission_time)}</SubmissionTime>"
        f"<SenderDetails>{_party(record.sender)}</SenderDetails>"
        f"<RecipientsDetails>{recipients}</RecipientsDetails>"
        f"{'' if record.delegate is None else _delegate(record.delegate, record.refers_to or 1)}"
        f"{_index(record.refers_to)}{_message(record.message)}{_outside(record.forwarded_to)}"
        f"</{NAMES[record.kind].root}>"
    ).encode()


def _reasons(record: EvidenceRecord) -> str:
    stated = [to_ts(record.kind, reason) for reason in record.reasons]
    listed = "".join(
        f"<EventReason><Code>{escape_uri(code)}</Code>"
        + (f"<Details>{escape_text(details)}</Details>" if details else "")
        + "</EventReason>"
        for code, details in filter(None, stated)
    )
    return f"<EventReasons>{listed}</EventReasons>" if listed else ""


def _party(party: Party) -> str:
    name = f"{_NAME_HEAD}{escape_text(party.name)}{_NAME_END}" if party.name else ""
    if not party.address:
        return name
    return f"{name}{_ADDRESS_HEAD}{escape_address(party.address)}{_ADDRESS_END}"


@lru_cache(maxsize=_ISSUERS_REMEMBERED)
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
        f"<EvidenceIssuerPolicyID><PolicyID>{escape_uri(issuer.policy_id)}</PolicyID>"
        "</EvidenceIssuerPolicyID>"
        if issuer.policy_id
        else ""
    )
    name = f"<EntityName><Name>{escape_text(issuer.name)}</Name></EntityName>" if issuer.name else ""
    return (
        f"{policy}<EvidenceIssuerDetails><NamesPostalAddresses><NamePostalAddress>{name}"
        f"{postal}</NamePostalAddress></NamesPostalAddresses>{_party(Party(issuer.address))}"
        "</EvidenceIssuerDetails>"
    )


def _authentication(element: str, details: Authentication) -> str:
    person = f"<AdditionalDetails>{escape_text(details.person)}</AdditionalDetails>" if details.person else ""
    return (
        f"<{element}><AuthenticationTime>{timestamp(details.at)}</AuthenticationTime>"
        f"<AuthenticationMethod>{escape_uri(details.method)}</AuthenticationMethod>{person}</{element}>"
    )


def _delegate(delegate: Party, index: int) -> str:
    return (
        f"<RecipientsDelegatesDetails><DelegateDetails>{_party(delegate)}</DelegateDetails>"
        f"<DelegatingRecipients>{index}</DelegatingRecipients></RecipientsDelegatesDetails>"
    )


def _index(refers_to: int | None) -> str:
    return "" if refers_to is None else f"<EvidenceRefersToRecipient>{refers_to}</EvidenceRefersToRecipient>"


def _outside(system: str | None) -> str:
    return f"<ForwardedToExternalSystem>{escape_text(system)}</ForwardedToExternalSystem>" if system else ""


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
        f"{digest_elements(facts.digest_sha256)}</SenderMessageDetails>"
    )


# --------------------------------------------------------------------------- reading


def _q(name: str) -> str:
    return f"{{{REM_NAMESPACE}}}{name}"


_PREFIX: Final = _q("")
_NAME_PATH: Final = tuple(map(_q, ("NamesPostalAddresses", "NamePostalAddress", "EntityName", "Name")))
_POSTAL_PATH: Final = tuple(map(_q, ("NamesPostalAddresses", "NamePostalAddress", "PostalAddress")))
_ADDRESS: Final = _q("AttributedElectronicAddress")
_ENTITY: Final = _q("EntityDetails")
_DIGEST_METHOD: Final = f"{{{DSIG_NAMESPACE}}}DigestMethod"
_DIGEST_VALUE: Final = f"{{{DSIG_NAMESPACE}}}DigestValue"
_TRUE: Final = frozenset({"true", "1"})


def read(xml: bytes) -> EvidenceRecord:
    """Read an evidence, signed or not, into the internal record; signatures are not looked at.

    Raises:
        EvidenceFormatError: not XML within the caps, an unknown root or event, or a field without
            which an evidence says nothing (identifier, event time, sender, recipients, digest).
    """
    return read_root(parse_xml(xml))


def read_root(root: XmlElement) -> EvidenceRecord:
    """Read an evidence that is parsed already; see `read`."""
    name = str(root.tag)
    if not name.startswith(_PREFIX):
        raise EvidenceFormatError(f"unknown root element {name[:120]}")
    fields: dict[str, XmlElement] = {}
    for child in root:
        fields.setdefault(str(child.tag).removeprefix(_PREFIX), child)
    event_time = parse_time(_needed(fields, "EventTime"))
    submitted = fields.get("SubmissionTime")
    recipients = tuple(
        _read_party(entity)
        for entity in children(fields.get("RecipientsDetails"), _ENTITY)[: RECIPIENTS_MAX + 1]
    )
    if not recipients or len(recipients) > RECIPIENTS_MAX:
        raise EvidenceFormatError("no recipients, or too many")
    details = _part(fields, "SenderMessageDetails")
    kind = _read_kind(name.removeprefix(_PREFIX), fields.get("EventCode"), details)
    delegate = _down(fields.get("RecipientsDelegatesDetails"), _q("DelegateDetails"))
    return EvidenceRecord(
        kind=kind,
        evidence_id=_needed(fields, "EvidenceIdentifier"),
        event_time=event_time,
        submission_time=event_time if submitted is None else parse_time(text_of(submitted) or ""),
        issuer=_read_issuer(fields),
        sender=_read_party(_part(fields, "SenderDetails")),
        recipients=recipients,
        message=_read_message(details),
        reasons=_read_reasons(kind, fields.get("EventReasons")),
        refers_to=_read_index(fields.get("EvidenceRefersToRecipient"), len(recipients)),
        sender_authentication=_read_authentication(fields.get("SenderAuthenticationDetails")),
        recipient_authentication=_read_authentication(fields.get("RecipientAuthenticationDetails")),
        delegate=None if delegate is None else _read_party(delegate),
        forwarded_to=text_of(fields.get("ForwardedToExternalSystem")) or None,
    )


def _read_kind(root: str, event_code: XmlElement | None, details: XmlElement) -> EvidenceKind:
    code = (text_of(event_code) or "").strip().rpartition("#")[2]
    kind = KIND_BY_TS.get((root, code))
    if kind is None:
        raise UnknownEventError(f"unknown event {root[:60]}/{code[:60]}")
    if details.get("isNotification", "").strip() in _TRUE:
        return _OF_NOTIFICATIONS.get(kind, kind)
    return kind


def _part(fields: Mapping[str, XmlElement], name: str) -> XmlElement:
    part = fields.get(name)
    if part is None:
        raise EvidenceFormatError(f"no {name}")
    return part


def _needed(fields: Mapping[str, XmlElement], name: str) -> str:
    text = text_of(fields.get(name))
    if not text:
        raise EvidenceFormatError(f"no {name}")
    return text


def _first(parent: XmlElement, name: str) -> XmlElement | None:
    """Return the first child of this name; ``find`` would parse the name as a path, iterators cost more."""
    child = parent[0] if len(parent) else None
    while child is not None and child.tag != name:
        child = child.getnext()
    return child


def _down(element: XmlElement | None, *names: str) -> XmlElement | None:
    """Follow the first child of each name; a path expression would cost several times as much."""
    for name in names:
        if element is None:
            return None
        element = _first(element, name)
    return element


def _read_party(entity: XmlElement) -> Party:
    address = (text_of(_first(entity, _ADDRESS)) or "").strip(_XML_BLANKS)
    if "%" in address:
        address = unquote(address)
    return Party(
        address=address[7:] if address[:7].lower() == "mailto:" else address,
        name=text_of(_down(entity, *_NAME_PATH)) or None,
    )


def _read_issuer(fields: Mapping[str, XmlElement]) -> Issuer:
    details = _part(fields, "EvidenceIssuerDetails")
    party = _read_party(details)
    postal = _down(details, *_POSTAL_PATH)
    found = {} if postal is None else {str(child.tag).removeprefix(_PREFIX): child for child in postal}
    return Issuer(
        name=party.name or "",
        address=party.address,
        policy_id=text_of(_down(fields.get("EvidenceIssuerPolicyID"), _q("PolicyID"))) or "",
        street=text_of(found.get("StreetAddress")) or "",
        locality=text_of(found.get("Locality")) or "",
        postal_code=text_of(found.get("PostalCode")) or "",
        country=text_of(found.get("CountryName")) or "",
    )


def _read_reasons(kind: EvidenceKind, listed: XmlElement | None) -> tuple[Reason, ...]:
    return tuple(
        from_ts(
            kind,
            (text_of(_first(reason, _q("Code"))) or "").strip(),
            text_of(_first(reason, _q("Details"))) or "",
        )
        for reason in children(listed, _q("EventReason"))
    )


def _read_authentication(details: XmlElement | None) -> Authentication | None:
    if details is None:
        return None
    at = text_of(_first(details, _q("AuthenticationTime")))
    if at is None:
        return None  # a SAML assertion stands in its place; the bytes keep it
    return Authentication(
        at=parse_time(at),
        method=text_of(_first(details, _q("AuthenticationMethod"))) or "",
        person=text_of(_first(details, _q("AdditionalDetails"))) or None,
    )


def _read_index(element: XmlElement | None, recipients: int) -> int | None:
    text = text_of(element)
    if text is None:
        return None
    digits = text.strip()
    if not digits.isascii() or not digits.isdigit() or len(digits) > 6 or not 1 <= int(digits) <= recipients:
        raise EvidenceFormatError("EvidenceRefersToRecipient names no recipient")
    return int(digits)


def _read_message(details: XmlElement) -> MessageFacts:
    message_id = text_of(_first(details, _q("MessageIdentifierByREMMD")))
    if not message_id:
        raise EvidenceFormatError("no MessageIdentifierByREMMD")
    return MessageFacts(
        subject=text_of(_first(details, _q("MessageSubject"))) or "",
        user_message_id=text_of(_first(details, _q("UAMessageIdentifier"))) or None,
        kep_message_id=message_id,
        digest_sha256=read_digest(details),
    )


def read_digest(parent: XmlElement) -> bytes:
    """Return the SHA-256 digest that ds:DigestMethod and ds:DigestValue below an element state.

    Raises:
        EvidenceFormatError: none, or no SHA-256.
    """
    method = _first(parent, _DIGEST_METHOD)
    if method is None or method.get("Algorithm") != SHA256_URI:
        raise EvidenceFormatError("the message digest is not SHA-256")
    try:
        digest = b64decode(text_of(_first(parent, _DIGEST_VALUE)) or "")
    except (Base64Error, ValueError) as error:
        raise EvidenceFormatError("the message digest is not base64") from error
    if len(digest) != 32:
        raise EvidenceFormatError("the message digest has a wrong length")
    return digest
