"""Outer headers of a KEP message: no signature covers them, so they are compared with the evidence.

A difference fails; where the header is missing the answer is INDETERMINATE (rules in detail, "What one
flipped byte does"). Further fields, such as Received, are nobody's statement and are left alone.
"""

import re
from collections.abc import Collection
from typing import Final

from evidence.mail.headers import AddressSyntaxError, addresses
from evidence.mail.kep_message import KepMessage
from evidence.mail.mime_write import HeaderTextError
from evidence.mail.rem_headers import FORMS, Envelope, TransferLabel, dispatch_header, form_of, receipt_header
from evidence.model.records import EvidenceRecord
from evidence.report import Step, SubIndication, Verdict
from evidence.stamps.stamp_check import failed
from evidence.x509.role import domain_of

_FIELD: Final = re.compile(rb"([!-9;-~]+):((?:[^\r]|\r(?!\n)|\r\n(?=[ \t]))*)\r\n")
_BLANKS: Final = re.compile(rb"[ \t\r\n]+")
_Expected = tuple[bytes, ...] | frozenset[str]
"""The values of a field in their order, or the addresses of some fields together."""
_LABELS: Final[dict[str, TransferLabel]] = {"7bit": "7bit", "8bit": "8bit", "binary": "binary"}


def outer_steps(
    message: KepMessage, record: EvidenceRecord, domains: Collection[str], *, ours: bool
) -> list[Step]:
    """Compare what a mail program shows with what the evidence recorded.

    Args:
        message: the message; its signature is somebody else's business.
        record: the evidence inside.
        domains: the provider domains that the signer may speak for; From must be in one.
        ours: our own software made the message: every field it writes is known, folding apart.
    """
    differing, missing = [], []
    for name, expected in (_written(message, record) if ours else _recorded(message, record)).items():
        shown = _addresses(message, name) if isinstance(expected, frozenset) else _values(message, name)
        if not shown or (isinstance(expected, tuple) and len(shown) != len(expected)):
            missing.append(name)
        elif shown != expected:
            differing.append(name)
    if not {domain_of(address) for address in _listed(message, "from")} <= set(domains):
        differing.append("from")
    step = Step("11", "outer headers", ok=True)
    if differing:
        detail = f"differ from the evidence: {', '.join(differing)}"
        step = failed("11", "outer headers", detail, SubIndication.SIG_CONSTRAINTS_FAILURE)
    elif missing:
        detail = f"missing, repeated or unreadable: {', '.join(missing)}"
        sub = SubIndication.SIGNED_DATA_NOT_FOUND
        step = failed("11", "outer headers", detail, sub, Verdict.INDETERMINATE)
    text = Step("12", "unsigned text", ok=True)
    if message.unsigned_text:
        detail = "there is text beside the signed part"
        sub = SubIndication.SIG_CONSTRAINTS_FAILURE
        text = failed("12", "unsigned text", detail, sub, Verdict.INDETERMINATE)
    return [step, text]


def _recorded(message: KepMessage, record: EvidenceRecord) -> dict[str, _Expected]:
    """Return what any provider's evidence determines: who wrote to whom."""
    if not message.is_dispatch:
        return {}
    return {
        "from": frozenset({record.issuer.address.lower()}),
        "reply-to": frozenset({record.sender.address.lower()}),
        "to, cc": frozenset(party.address.lower() for party in record.recipients),
    }


def _written(message: KepMessage, record: EvidenceRecord) -> dict[str, _Expected]:
    """Return every field as our software writes it; only To against Cc is taken from the message."""
    expected = _recorded(message, record)
    boundary, profile = message.root.boundary or "", form_of(message.evidences[0].content)
    to, cc = (_listed(message, name) for name in ("to", "cc"))
    try:
        if message.is_dispatch:
            envelope = Envelope(record.issuer.address, to, cc)
            label = FORMS[profile].label or _LABELS.get(message.root.encoding, "7bit")
            header = dispatch_header(envelope, record, boundary, label, profile)
        else:
            sender = _listed(message, "from")
            envelope = Envelope(sender[0] if sender else "", to, cc)
            header = receipt_header(envelope, record, boundary, profile)
    except HeaderTextError:
        return expected | {"from": (b"-",)}
    fields: dict[str, tuple[bytes, ...]] = {}
    for name, value in _FIELD.findall(header):  # reasons and policies stand in a field each
        key = name.decode("ascii").lower()
        fields[key] = (*fields.get(key, ()), _squeezed(value))
    return expected | fields


def _values(message: KepMessage, name: str) -> tuple[bytes, ...]:
    return tuple(_squeezed(value) for value in message.root.all(name))


def _squeezed(value: bytes) -> bytes:
    return _BLANKS.sub(b" ", value).strip(b" ")


def _addresses(message: KepMessage, name: str) -> frozenset[str]:
    return frozenset(address.lower() for part in name.split(", ") for address in _listed(message, part))


def _listed(message: KepMessage, name: str) -> tuple[str, ...]:
    found = message.root.all(name)
    if len(found) != 1:
        return ()
    try:
        return tuple(box.address for box in addresses(found[0]))
    except AddressSyntaxError:
        return ()
