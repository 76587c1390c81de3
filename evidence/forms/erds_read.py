"""Read EN 319 522-3 / REM baseline evidence into the internal record, leniently (rem-formats §7).

What is looked for by name, wherever the standard's editions and other writers put it: unknown elements are
passed over, a missing assurance level is no fault. Signatures are not looked at.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from evidence.forms.erds_terms import (
    ASSURANCE,
    BASELINE_POLICY,
    ERDS_NAMESPACE,
    EXTENSION_NAMESPACE,
    LEGAL_NAME,
    LOA_LOW,
    PART_TYPE,
    SAML_NAMESPACE,
    X500Name,
)
from evidence.forms.rem_xml import RECIPIENTS_MAX, UnknownEventError, read_digest
from evidence.model.events import KIND_BY_ERDS, NAMES, EvidenceKind
from evidence.model.reasons import Reason, from_erds
from evidence.model.records import Authentication, EvidenceRecord, Issuer, MessageFacts, Party
from evidence.xml.reader import EvidenceFormatError, XmlElement, children, parse_time, parse_xml, text_of

REASONS_MAX: Final = 100


def _tns(name: str) -> str:
    return f"{{{ERDS_NAMESPACE}}}{name}"


def _ext(name: str) -> str:
    return f"{{{EXTENSION_NAMESPACE}}}{name}"


_PREFIX: Final = _tns("")
_ATTRIBUTE: Final = f"{{{SAML_NAMESPACE}}}Attribute"
_ATTRIBUTE_VALUE: Final = f"{{{SAML_NAMESPACE}}}AttributeValue"
_Fields = Mapping[str, XmlElement]


def read(xml: bytes) -> EvidenceRecord:
    """Read an evidence, signed or not.

    Raises:
        EvidenceFormatError: not XML within the caps, another root, an unknown event, or a field without
            which an evidence says nothing (identifier, event time, sender, recipients, digest).
    """
    return read_root(parse_xml(xml))


def read_root(root: XmlElement) -> EvidenceRecord:
    """Read an evidence that is parsed already; see `read`."""
    if root.tag != _tns("Evidence"):
        raise EvidenceFormatError(f"unknown root element {str(root.tag)[:120]}")
    fields: dict[str, XmlElement] = {}
    for child in root:  # qualified or not, by name: the schema mixes both
        fields.setdefault(str(child.tag).removeprefix(_PREFIX), child)
    kind = _kind(fields)
    users = children(root, _tns("RecipientDetails"))
    if not 1 <= len(users) <= RECIPIENTS_MAX:
        raise EvidenceFormatError("no recipients, or too many")
    recipients = tuple(_party(user) for user in users)
    refers_to, covers = _concerned(kind, fields, len(recipients))
    delegate, login = _reader(fields.get("RecipientsDelegateDetails"), users, refers_to)
    event_time = parse_time(_needed(fields, "EventTime"))
    submitted = fields.get("SubmissionTime")
    general = _extension(fields, "GeneralEvidenceInfo")
    return EvidenceRecord(
        kind=kind,
        evidence_id=_needed(fields, "EvidenceIdentifier"),
        event_time=event_time,
        submission_time=event_time if submitted is None else parse_time(text_of(submitted) or ""),
        issuer=_issuer(fields),
        sender=_party(_part(fields, "SenderDetails")),
        recipients=recipients,
        message=_message(fields, general),
        reasons=_reasons(kind, fields.get("EventReasons"), delegated=delegate is not None),
        refers_to=refers_to,
        sender_authentication=_sender_login(fields),
        recipient_authentication=login,
        delegate=delegate,
        other_party=_other_party(fields.get("ExternalERDSDetails")),
        forwarded_to=text_of(fields.get("ForwardedToExternalSystem")) or None,
        covers=covers,
        untrusted_path=_indexes(general, "UntrustedPathToRecipient", len(recipients)),
    )


# --------------------------------------------------------------------------- elements


def _first(parent: XmlElement | None, name: str) -> XmlElement | None:
    return None if parent is None else next(parent.iterchildren(name), None)


def _local(parent: XmlElement | None, name: str) -> XmlElement | None:
    """Return a local element: without namespace by the schema, with it by writers that got it wrong."""
    found = _first(parent, name)
    return _first(parent, _tns(name)) if found is None else found


def _part(fields: _Fields, name: str) -> XmlElement:
    part = fields.get(name)
    if part is None:
        raise EvidenceFormatError(f"no {name}")
    return part


def _needed(fields: _Fields, name: str) -> str:
    text = text_of(fields.get(name))
    if not text:
        raise EvidenceFormatError(f"no {name}")
    return text


def _number(text: str, recipients: int) -> int:
    digits = text.strip()
    if not digits.isascii() or not digits.isdigit() or len(digits) > 6 or not 1 <= int(digits) <= recipients:
        raise EvidenceFormatError("an index names no recipient")
    return int(digits)


# --------------------------------------------------------------------------- event


def _kind(fields: _Fields) -> EvidenceKind:
    event = _needed(fields, "ERDSEventId").strip().rstrip("/").rpartition("/")[2]
    kind = KIND_BY_ERDS.get(event)
    if kind is None:
        raise UnknownEventError(f"unknown event {event[:60]}")
    return kind


def _reasons(kind: EvidenceKind, listed: XmlElement | None, *, delegated: bool) -> tuple[Reason, ...]:
    read_all = (
        from_erds(
            kind,
            (text_of(_local(reason, "Code")) or "").strip(),
            _texts(reason),
            delegated=delegated,
        )
        for reason in children(listed, _tns("EventReason"))[:REASONS_MAX]
    )
    return tuple(reason for reason in read_all if reason is not None)


def _texts(reason: XmlElement) -> list[str]:
    return [text_of(details) or "" for details in reason.iterchildren("Details", _tns("Details"))]


def _concerned(kind: EvidenceKind, fields: _Fields, count: int) -> tuple[int | None, tuple[int, ...]]:
    """Return the one recipient it is about, or several; neither: all of them."""
    text = text_of(fields.get("EvidenceRefersToRecipient"))
    if text is not None:
        return _number(text, count), ()
    if NAMES[kind].family != "B":
        return None, ()
    listed = _indexes(_extension(fields, "RelayEvidenceInfo"), "RelayEvidenceRefersTo", count)
    if len(listed) == 1:
        return listed[0], ()
    return None, () if len(set(listed)) == count else listed


def _extension(fields: _Fields, name: str) -> XmlElement | None:
    for extension in children(fields.get("Extensions"), _tns("Extension")):
        found = _first(extension, _ext(name))
        if found is not None:
            return found
    return None


def _indexes(parent: XmlElement | None, name: str, count: int) -> tuple[int, ...]:
    listed = children(parent, _ext(name))
    if len(listed) > RECIPIENTS_MAX:
        raise EvidenceFormatError("too many indexes")
    return tuple(_number(text_of(element) or "", count) for element in listed)


# --------------------------------------------------------------------------- who


def _attributes(owner: XmlElement | None) -> dict[str, str]:
    """Return the identity attributes by name; the first value of each."""
    found: dict[str, str] = {}
    for attribute in children(_first(owner, _tns("Identity")), _ATTRIBUTE):
        value = text_of(_first(attribute, _ATTRIBUTE_VALUE))
        if value is not None:
            found.setdefault(attribute.get("Name", ""), value)
    return found


def _issuer(fields: _Fields) -> Issuer:
    known = _attributes(_part(fields, "EvidenceIssuerDetails"))
    policies = fields.get("EvidenceIssuerPolicyID")
    listed: Iterable[XmlElement] = () if policies is None else policies
    named = [text_of(policy) or "" for policy in listed]
    return Issuer(
        name=known.get(LEGAL_NAME, ""),
        address=known.get(X500Name.MAIL, ""),
        policy_id=next((policy for policy in named if policy and policy != BASELINE_POLICY), ""),
        street=known.get(X500Name.STREET, ""),
        locality=known.get(X500Name.L, ""),
        postal_code=known.get(X500Name.POSTAL_CODE, ""),
        country=known.get(X500Name.C, ""),
    )


def _other_party(details: XmlElement | None) -> Party | None:
    if details is None:
        return None
    known = _attributes(details)
    return Party(known.get(X500Name.MAIL, ""), known.get(LEGAL_NAME) or None)


def _party(user: XmlElement) -> Party:
    address = (text_of(_local(user, "Identifier")) or "").strip(" \t\r\n")
    if address[:7].lower() == "mailto:":
        address = address[7:]
    known = _attributes(user)
    return Party(address, known.get(X500Name.CN) or known.get(LEGAL_NAME) or None)


def _login(user: XmlElement | None, person: str | None) -> Authentication | None:
    """Return how a user logged in; None also where an assertion or another scheme stands in its place."""
    levels = _local(user, "AssuranceLevelsDetails")
    details = _first(levels, _tns("AuthenticationDetails"))
    at = text_of(_local(details, "AuthenticationTime"))
    if at is None:
        return None
    method = text_of(_local(details, "AuthenticationMethod")) or ""
    level = text_of(_local(_local(levels, "GlobalAssuranceLevel"), "AssuranceLevel")) or ""
    usual = level == ASSURANCE.get(method, LOA_LOW)
    return Authentication(parse_time(at), method, person, "" if usual else level)


def _sender_login(fields: _Fields) -> Authentication | None:
    delegate = fields.get("SenderDelegateDetails")
    person = None if delegate is None else _party(delegate).name
    return _login(fields.get("SenderDetails"), person) or _login(delegate, person)


def _reader(
    delegate: XmlElement | None,
    users: list[XmlElement],
    refers_to: int | None,
) -> tuple[Party | None, Authentication | None]:
    """Return the delegate, and how whoever acted for the recipient logged in."""
    own = None if refers_to is None else users[refers_to - 1]
    if delegate is None:
        return None, _login(own, None)
    party = _party(delegate)
    login = _login(delegate, party.name) or _login(own, party.name)
    return (party if party.address else None), login


# --------------------------------------------------------------------------- message


def _message(fields: _Fields, general: XmlElement | None) -> MessageFacts:
    content = _part(fields, "UserContentInfo")
    parts = children(_first(content, _tns("PartsInfo")), _tns("PartInfo"))
    mail = [part for part in parts if (text_of(_local(part, "ContentType")) or "").strip() == PART_TYPE]
    if len(mail or parts) != 1:
        raise EvidenceFormatError("the evidence does not name one message")
    return MessageFacts(
        subject=text_of(_first(general, _ext("Subject"))) or "",
        user_message_id=text_of(_local(content, "AppLayerIdentifier")) or None,
        kep_message_id=_needed(fields, "MessageIdentifier"),
        digest_sha256=read_digest((mail or parts)[0]),
    )
