"""The short way to read a TS 102 640-2 body of our own writer: guess the record, then write it again.

No XML parser runs. One pattern finds the fields where our writer puts them, and `evidence.forms.rem_xml`
writes a body from them. Only where that is the body at hand, byte for byte, the guess is believed: then the
body is what the writer makes of exactly this record, hence well-formed, canonical, without a signature and
with one Id. Whatever does not fit is None here, and the XML reader says what it is.
"""

import re
from base64 import b64decode
from binascii import Error as Base64Error
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from evidence.forms import rem_xml
from evidence.model.events import KIND_BY_TS, EvidenceKind
from evidence.model.reasons import from_ts
from evidence.model.records import Authentication, EvidenceRecord, Issuer, MessageFacts, Party, Reason
from evidence.xml.writer import ProfileError

_PLACE: Final = "[^<]*+"  # possessive, as every repetition here: a hostile body costs one pass, not many


def _party_pattern(field: str) -> str:
    return (
        f"(?:<NamesPostalAddresses><NamePostalAddress><EntityName><Name>{field}</Name></EntityName>"
        "</NamePostalAddress></NamesPostalAddresses>)?+"
        f'(?:<AttributedElectronicAddress scheme="mailto">{field}</AttributedElectronicAddress>)?+'
    )


def _issuer_pattern(field: str) -> str:
    return (
        f"(?:<EvidenceIssuerPolicyID><PolicyID>{field}</PolicyID></EvidenceIssuerPolicyID>)?+"
        "<EvidenceIssuerDetails><NamesPostalAddresses><NamePostalAddress>"
        f"(?:<EntityName><Name>{field}</Name></EntityName>)?+"
        f"(?:<PostalAddress><StreetAddress>{field}</StreetAddress><Locality>{field}</Locality>"
        f"<PostalCode>{field}</PostalCode><CountryName>{field}</CountryName></PostalAddress>)?+"
        "</NamePostalAddress></NamesPostalAddresses>"
        f'<AttributedElectronicAddress scheme="mailto">{field}</AttributedElectronicAddress>'
        "</EvidenceIssuerDetails>"
    )


def _reason_pattern(field: str) -> str:
    return f"<EventReason><Code>{field}</Code>(?:<Details>{field}</Details>)?+</EventReason>"


def _authentication_pattern(element: str) -> str:
    return (
        f"(?:<{element}><AuthenticationTime>{_TEXT}</AuthenticationTime>"
        f"<AuthenticationMethod>{_TEXT}</AuthenticationMethod>"
        f"(?:<AdditionalDetails>{_TEXT}</AdditionalDetails>)?+</{element}>)?+"
    )


_TEXT: Final = f"({_PLACE})"
_SHA256: Final = "([A-Za-z0-9+/]{43}=)"  # base64 of 32 octets
_BODY: Final = re.compile(
    r'<([A-Za-z]++) xmlns="[^"]*+" Id="[^"]*+" version="[^"]*+"><EventCode>[^<#]*+#([^<]*+)</EventCode>'
    f"(?:<EventReasons>((?:{_reason_pattern(_PLACE)})++)</EventReasons>)?+"
    f"<EvidenceIdentifier>{_TEXT}</EvidenceIdentifier>"
    f"({_issuer_pattern(_PLACE)})"
    f"{_authentication_pattern('SenderAuthenticationDetails')}"
    f"{_authentication_pattern('RecipientAuthenticationDetails')}"
    f"<EventTime>{_TEXT}</EventTime><SubmissionTime>{_TEXT}</SubmissionTime>"
    f"<SenderDetails>{_party_pattern(_TEXT)}</SenderDetails>"
    f"<RecipientsDetails>((?:<EntityDetails>{_party_pattern(_PLACE)}</EntityDetails>)++)</RecipientsDetails>"
    f"(?:<RecipientsDelegatesDetails><DelegateDetails>{_party_pattern(_TEXT)}</DelegateDetails>"
    "<DelegatingRecipients>[0-9]++</DelegatingRecipients></RecipientsDelegatesDetails>)?+"
    "(?:<EvidenceRefersToRecipient>([0-9]{1,6}+)</EvidenceRefersToRecipient>)?+"
    f'<SenderMessageDetails isNotification="false"><MessageSubject>{_TEXT}</MessageSubject>'
    f"(?:<UAMessageIdentifier>{_TEXT}</UAMessageIdentifier>)?+"
    f"<MessageIdentifierByREMMD>{_TEXT}</MessageIdentifierByREMMD>"
    f"<ds:DigestMethod [^>]*+></ds:DigestMethod><ds:DigestValue [^>]*+>{_SHA256}</ds:DigestValue>"
    "</SenderMessageDetails>"
    f"(?:<ForwardedToExternalSystem>{_TEXT}</ForwardedToExternalSystem>)?+</[A-Za-z]++>",
).fullmatch
_ENTITY: Final = re.compile(f"<EntityDetails>{_party_pattern(_TEXT)}</EntityDetails>").findall
_REASON: Final = re.compile(_reason_pattern(_TEXT)).findall
_ISSUER: Final = re.compile(_issuer_pattern(_TEXT)).fullmatch
_TIME_SIZE: Final = 24  # 2026-11-21T09:00:00.000Z
_ISSUERS_REMEMBERED: Final = 64
_BODY_MAX: Final = 256 * 1024  # longer ones, thousands of recipients, go the general way


def record_of(body: bytes) -> EvidenceRecord | None:
    """Return the record that our writer made a body of, None where it made it of none.

    Args:
        body: untrusted bytes, unsigned.
    """
    if len(body) > _BODY_MAX:
        return None
    try:
        record = _guess(body.decode("utf-8"))
        return record if record is not None and rem_xml.write(record) == body else None
    except (Base64Error, ProfileError, ValueError):
        return None


def _guess(text: str) -> EvidenceRecord | None:
    found = _BODY(text)
    if found is None:
        return None
    (
        root, code, reasons, evidence_id, issuer,
        sent_at, sent_how, sent_who, read_at, read_how, read_who,
        event_time, submission_time, name, address, entities, delegate_name, delegate, refers_to,
        subject, user_id, kep_id, digest, forwarded,
    ) = found.groups()  # fmt: skip
    kind = KIND_BY_TS.get((root, code))
    recipients = tuple([_party(*entity) for entity in _ENTITY(entities)])
    index = None if refers_to is None else int(refers_to)
    if kind is None or not recipients or (index is not None and not 1 <= index <= len(recipients)):
        return None
    return EvidenceRecord(
        kind=kind,
        evidence_id=_plain(evidence_id),
        event_time=_time(event_time),
        submission_time=_time(submission_time),
        issuer=_issuer(issuer),
        sender=_party(name, address),
        recipients=recipients,
        message=MessageFacts(
            _plain(subject), _plain(user_id) if user_id else None, _plain(kep_id), b64decode(digest)
        ),
        reasons=_reasons(kind, reasons) if reasons else (),
        refers_to=index,
        sender_authentication=None if sent_at is None else _authentication(sent_at, sent_how, sent_who),
        recipient_authentication=None if read_at is None else _authentication(read_at, read_how, read_who),
        delegate=None if delegate is None else _party(delegate_name, delegate),
        forwarded_to=_plain(forwarded) if forwarded else None,
    )


def _plain(text: str) -> str:
    """Undo the escapes of canonical XML; another entity stays as it is and then differs from the body."""
    if "&" not in text:
        return text
    text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&#xD;", "\r")
    return text.replace("&amp;", "&")


def _time(text: str) -> datetime:
    if len(text) != _TIME_SIZE or text[-1] != "Z":
        raise ValueError("no time of our writer")
    return datetime.fromisoformat(text[:-1]).replace(tzinfo=UTC)


def _party(name: str | None, address: str | None) -> Party:
    return Party(_address(address or ""), _plain(name) if name else None)


def _address(written: str) -> str:
    """Return an address as the XML reader understands it."""
    address = _plain(written)
    if "%" in address:
        address = unquote(address)
    if address[:7].lower() == "mailto:":  # the reader drops it, so it would not come back
        raise ValueError("an address with its scheme")
    return address


def _authentication(at: str, method: str, person: str | None) -> Authentication:
    return Authentication(_time(at), _plain(method), _plain(person) if person else None)


def _reasons(kind: EvidenceKind, listed: str) -> tuple[Reason, ...]:
    return tuple([from_ts(kind, _plain(code), _plain(details)) for code, details in _REASON(listed)])


@lru_cache(maxsize=_ISSUERS_REMEMBERED)  # a pure memo: a provider names itself alike for years
def _issuer(text: str) -> Issuer:
    found = _ISSUER(text)
    if found is None:
        raise ValueError("no issuer of our writer")
    policy, name, street, locality, postal_code, country, address = found.groups(default="")
    return Issuer(
        _plain(name), _address(address), _plain(policy), _plain(street), _plain(locality),
        _plain(postal_code), _plain(country),
    )  # fmt: skip
