"""Evidence as EN 319 522-3 XML, filled as the REM baseline (EN 319 532-4) wants it: the writer.

Canonical by construction, like `evidence.forms.rem_xml`, with one trap: ``xsi:type="elp:LegalNameType"``
uses a
prefix in an attribute's value only. Exclusive C14N does not see that and drops ``xmlns:elp`` from what is
hashed, while the document needs it. There are two ways out: an InclusiveNamespaces list, which not every
reader takes, or two strings. We keep two: `write` gives the string that is hashed, `document_form` puts
the declarations back for the document (signing §3). What the declaration says is thus not covered by the
signature's digest; the byte identity we demand of our own evidence covers it.

Local elements of this schema have no namespace, so no default namespace may ever be declared.
`evidence.forms.erds_read` reads the result back.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from evidence.forms.erds_read import read, read_root
from evidence.forms.erds_terms import (
    ASSURANCE,
    BASELINE_POLICY,
    ERDS_NAMESPACE,
    ERDS_VERSION,
    EVENT_PREFIX,
    EXTENSION_NAMESPACE,
    LEGAL_NAME,
    LEGAL_PERSON_NAMESPACE,
    LOA_LOW,
    PART_FORMAT,
    PART_TYPE,
    SAML_NAMESPACE,
    SAML_URI_NAMES,
    XSI_NAMESPACE,
    X500Name,
)
from evidence.model import cardinality
from evidence.model.events import NAMES, EvidenceKind
from evidence.model.reasons import ERDS_REASON_PREFIX, success_row, to_erds
from evidence.model.records import Authentication, EvidenceRecord, Issuer, MessageFacts, Party, Profile
from evidence.xml.writer import (
    ProfileError,
    digest_elements,
    escape_text,
    escape_uri,
    timestamp,
    xml_id,
)

__all__ = ["ROOT_START", "document_form", "hashed_form", "read", "read_root", "write"]

ROOT_START: Final = b"<tns:Evidence "
"""How every body of this writer starts."""

_ISSUERS_REMEMBERED: Final = 64
_TYPED_HASHED: Final = f'<saml:AttributeValue xmlns:xsi="{XSI_NAMESPACE}"'.encode()
_TYPED_WRITTEN: Final = (
    f'<saml:AttributeValue xmlns:elp="{LEGAL_PERSON_NAMESPACE}" xmlns:xsi="{XSI_NAMESPACE}"'.encode()
)
_HEAD: Final = f'<tns:Evidence xmlns:tns="{ERDS_NAMESPACE}" Id="'
_EVENTS: Final[Mapping[EvidenceKind, str]] = MappingProxyType(
    {
        kind: f"<tns:ERDSEventId>{EVENT_PREFIX}{names.erds_event}</tns:ERDSEventId>"
        for kind, names in NAMES.items()
    }
)


def write(record: EvidenceRecord) -> bytes:
    """Write the evidence body in the form that is hashed: canonical, UTF-8, no declaration, no signature.

    Fields, their order and how often they stand follow rem-formats §2.2.

    Raises:
        ProfileError: the record lacks what the event's evidence must say, or says what it must not.
    """
    problems = cardinality.faults(record, Profile.REM_BASELINE)
    if problems:
        raise ProfileError(f"{NAMES[record.kind].erds_event}: {'; '.join(problems)}")
    policy = escape_uri(record.issuer.policy_id)
    return (
        f'{_HEAD}{xml_id(record.evidence_id)}" version="{ERDS_VERSION}">'
        f"<tns:EvidenceIdentifier>{escape_text(record.evidence_id)}</tns:EvidenceIdentifier>"
        f"{_EVENTS[record.kind]}{_reasons(record)}"
        f"<EventTime>{timestamp(record.event_time)}</EventTime>"
        f"{_issuer(record.issuer)}{_sender(record, policy)}{_recipients(record, policy)}"
        f"<tns:SubmissionTime>{timestamp(record.submission_time)}</tns:SubmissionTime>"
        f"{_refers_to(record)}"
        f"<tns:MessageIdentifier>{escape_text(record.message.kep_message_id)}</tns:MessageIdentifier>"
        f"{_content(record.message)}{_other_party(record.other_party)}{_outside(record.forwarded_to)}"
        f"{_extensions(record)}</tns:Evidence>"
    ).encode()


def document_form(body: bytes) -> bytes:
    """Return a body of `write` as it stands in a document, with the declarations that C14N drops.

    Other bodies come back unchanged.
    """
    return body.replace(_TYPED_HASHED, _TYPED_WRITTEN) if body.startswith(ROOT_START) else body


def hashed_form(body: bytes) -> bytes:
    """Return the form that is hashed of a body cut out of one of our documents; see `document_form`."""
    return body.replace(_TYPED_WRITTEN, _TYPED_HASHED) if body.startswith(ROOT_START) else body


# --------------------------------------------------------------------------- fields


def _listed(stated: Iterable[tuple[str, tuple[str, ...]]]) -> str:
    listed = "".join(
        f"<tns:EventReason><Code>{escape_uri(uri)}</Code>"
        + "".join(f"<Details>{escape_text(text)}</Details>" for text in details)
        + "</tns:EventReason>"
        for uri, details in stated
    )
    return f"<tns:EventReasons>{listed}</tns:EventReasons>"


def _success(kind: EvidenceKind, *, delegated: bool) -> str:
    row = success_row(kind, delegated=delegated)
    return "" if row is None else _listed([(ERDS_REASON_PREFIX + row.name, (row.code, row.text))])


_SUCCESS: Final[Mapping[tuple[EvidenceKind, bool], str]] = MappingProxyType(
    {
        (kind, delegated): _success(kind, delegated=delegated)
        for kind in EvidenceKind
        for delegated in (False, True)
    }
)


def _reasons(record: EvidenceRecord) -> str:
    if record.reasons:
        return _listed(to_erds(record.kind, reason) for reason in record.reasons)
    return _SUCCESS[record.kind, record.delegate is not None]


def _attribute_head(friendly: str, name: str, value_type: str = "") -> str:
    return (
        f'<saml:Attribute xmlns:saml="{SAML_NAMESPACE}" FriendlyName="{friendly}" Name="{name}" '
        f'NameFormat="{SAML_URI_NAMES}"><saml:AttributeValue{value_type}>'
    )


_ATTRIBUTE_END: Final = "</saml:AttributeValue></saml:Attribute>"
_ATTRIBUTE_HEADS: Final[Mapping[X500Name, str]] = MappingProxyType(
    {which: _attribute_head(which.friendly, which.value) for which in X500Name}
)
_LEGAL_NAME_HEAD: Final = _attribute_head(
    "LegalName", LEGAL_NAME, f' xmlns:xsi="{XSI_NAMESPACE}" xsi:type="elp:LegalNameType"'
)
_PERSON_HEAD: Final = f"<tns:Identity>{_ATTRIBUTE_HEADS[X500Name.CN]}"
_PERSON_END: Final = f"{_ATTRIBUTE_END}</tns:Identity>"


def _x500(which: X500Name, value: str) -> str:
    return f"{_ATTRIBUTE_HEADS[which]}{escape_text(value)}{_ATTRIBUTE_END}" if value else ""


def _provider(name: str, address: str, postal: str = "") -> str:
    legal = f"{_LEGAL_NAME_HEAD}{escape_text(name)}{_ATTRIBUTE_END}"
    return f"<tns:Identity>{legal}{_x500(X500Name.MAIL, address)}{postal}</tns:Identity>"


@lru_cache(maxsize=_ISSUERS_REMEMBERED)
def _issuer(issuer: Issuer) -> str:
    postal = "".join(
        (
            _x500(X500Name.STREET, issuer.street),
            _x500(X500Name.L, issuer.locality),
            _x500(X500Name.POSTAL_CODE, issuer.postal_code),
            _x500(X500Name.C, issuer.country),
        )
    )
    return (
        f"<tns:EvidenceIssuerPolicyID><PolicyID>{BASELINE_POLICY}</PolicyID>"
        f"<PolicyID>{escape_uri(issuer.policy_id)}</PolicyID></tns:EvidenceIssuerPolicyID>"
        f"<tns:EvidenceIssuerDetails>{_provider(issuer.name, issuer.address, postal)}"
        "</tns:EvidenceIssuerDetails>"
    )


def _other_party(other: Issuer | Party | None) -> str:
    if other is None:
        return ""
    identity = _provider(other.name or other.address, other.address)
    return f"<tns:ExternalERDSDetails>{identity}</tns:ExternalERDSDetails>"


def _user(address: str, name: str | None, assurance: str = "") -> str:
    identity = f"{_PERSON_HEAD}{escape_text(name)}{_PERSON_END}" if name else ""
    identifier = (
        f'<Identifier IdentifierSchemeName="mailto">{escape_text(address)}</Identifier>' if address else ""
    )
    return f"{identity}{identifier}{assurance}"


def _assurance(details: Authentication, policy: str) -> str:
    level = details.assurance or ASSURANCE.get(details.method, LOA_LOW)
    return (
        f"<AssuranceLevelsDetails><GlobalAssuranceLevel><AssuranceLevel>{escape_uri(level)}"
        f"</AssuranceLevel><PolicyID>{policy}</PolicyID></GlobalAssuranceLevel>"
        f"<tns:AuthenticationDetails><AuthenticationTime>{timestamp(details.at)}</AuthenticationTime>"
        f"<AuthenticationMethod>{escape_uri(details.method)}</AuthenticationMethod>"
        "</tns:AuthenticationDetails></AssuranceLevelsDetails>"
    )


def _sender(record: EvidenceRecord, policy: str) -> str:
    """Write the sender and, where somebody else logged in for them, that person as their delegate."""
    sender, login = record.sender, record.sender_authentication
    if login is None:
        return f"<tns:SenderDetails>{_user(sender.address, sender.name)}</tns:SenderDetails>"
    person = ""
    if login.person and login.person != sender.name:
        person = f"<tns:SenderDelegateDetails>{_user('', login.person)}</tns:SenderDelegateDetails>"
    return (
        f"<tns:SenderDetails>{_user(sender.address, sender.name, _assurance(login, policy))}"
        f"</tns:SenderDetails>{person}"
    )


def _recipients(record: EvidenceRecord, policy: str) -> str:
    """Write the recipients; how one logged in stands with whoever did: the delegate or the recipient."""
    login, index = record.recipient_authentication, record.refers_to
    assurance = "" if login is None else _assurance(login, policy)
    delegate = record.delegate
    acting = None if delegate is not None else index
    listed = "".join(
        [
            f"<tns:RecipientDetails>"
            f"{_user(party.address, party.name, assurance if number == acting else '')}"
            "</tns:RecipientDetails>"
            for number, party in enumerate(record.recipients, 1)
        ]
    )
    if delegate is None and login is not None and login.person and index is not None:
        if login.person == record.recipients[index - 1].name:
            return listed
        delegate, assurance = Party("", login.person), ""
    if delegate is None:
        return listed
    return (
        f"{listed}<tns:RecipientsDelegateDetails>{_user(delegate.address, delegate.name, assurance)}"
        f"<DelegatingRecipients>{index or 1}</DelegatingRecipients></tns:RecipientsDelegateDetails>"
    )


def _refers_to(record: EvidenceRecord) -> str:
    """Write the recipient's number; relay evidence says it in an extension instead."""
    if record.refers_to is None or NAMES[record.kind].family == "B":
        return ""
    return f"<EvidenceRefersToRecipient>{record.refers_to}</EvidenceRefersToRecipient>"


def _content(facts: MessageFacts) -> str:
    user_id = (
        f"<AppLayerIdentifier>{escape_text(facts.user_message_id)}</AppLayerIdentifier>"
        if facts.user_message_id
        else ""
    )
    return (
        f"<tns:UserContentInfo>{user_id}<ComposingParts>1</ComposingParts><tns:PartsInfo><tns:PartInfo>"
        f"<Identifier>{PART_FORMAT}</Identifier><ContentType>{PART_TYPE}</ContentType>"
        f"{digest_elements(facts.digest_sha256)}</tns:PartInfo></tns:PartsInfo></tns:UserContentInfo>"
    )


def _outside(system: str | None) -> str:
    return f"<ForwardedToExternalSystem>{escape_text(system)}</ForwardedToExternalSystem>" if system else ""


_EXTENSION_HEAD: Final = '<tns:Extension isCritical="false"><ext:'
_EXTENSION_SPACE: Final = f' xmlns:ext="{EXTENSION_NAMESPACE}">'


def _extensions(record: EvidenceRecord) -> str:
    untrusted = _numbers("UntrustedPathToRecipient", record.untrusted_path) if record.untrusted_path else ""
    listed = _extension(
        "GeneralEvidenceInfo", f"<ext:Subject>{escape_text(record.message.subject)}</ext:Subject>{untrusted}"
    )
    if NAMES[record.kind].family == "B":
        concerned = record.covers if record.refers_to is None else (record.refers_to,)
        if concerned:  # left out: all recipients
            listed += _extension("RelayEvidenceInfo", _numbers("RelayEvidenceRefersTo", concerned))
    return f"<tns:Extensions>{listed}</tns:Extensions>"


def _extension(name: str, content: str) -> str:
    return f"{_EXTENSION_HEAD}{name}{_EXTENSION_SPACE}{content}</ext:{name}></tns:Extension>"


def _numbers(name: str, indexes: Iterable[int]) -> str:
    return "".join(f"<ext:{name}>{index}</ext:{name}>" for index in indexes)
