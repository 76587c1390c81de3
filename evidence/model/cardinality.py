"""How often a field stands in the evidence of an event: stricter than the schemas.

spec: rem-formats §1.2 "Per-recipient rules", §2.2; KEP-EV-02, KEP-EC-10. Writers of the EN serialisation
refuse a record with faults; readers are lenient and may report them.
"""

from typing import Final

from evidence.model.events import NAMES, TS_KINDS, EvidenceKind
from evidence.model.reasons import erds_row
from evidence.model.records import EvidenceRecord, Profile

_ACTED: Final = frozenset(
    {
        EvidenceKind.RETRIEVAL,
        EvidenceKind.DOWNLOAD,
        EvidenceKind.ACCEPTANCE_BY_RECIPIENT,
        EvidenceKind.REJECTION_BY_RECIPIENT,
    }
)
"""Events that the recipient makes; only they say how the recipient logged in."""


def faults(record: EvidenceRecord, profile: Profile) -> tuple[str, ...]:
    """Return what keeps this record from being a valid evidence of the profile; empty: nothing."""
    found = [*_common(record)]
    found += _ts(record) if profile is Profile.KEP else _erds(record)
    return tuple(found)


def _common(record: EvidenceRecord) -> list[str]:
    names, count = NAMES[record.kind], len(record.recipients)
    indexes = (
        *record.covers,
        *record.untrusted_path,
        *(() if record.refers_to is None else (record.refers_to,)),
    )
    problems = (
        (not count, "no recipients"),
        (not record.evidence_id, "no evidence id"),
        (not record.message.kep_message_id, "no message id"),
        (any(not 1 <= index <= count for index in indexes), "an index names no recipient"),
        (names.per_recipient and record.refers_to is None, "it must name its recipient"),
        (
            names.family in "AF" and (record.refers_to is not None or bool(record.covers)),
            "it concerns the message, not one recipient",
        ),
        (bool(record.covers) and names.family != "B", "only relay evidence covers several recipients"),
        (names.negative and not record.reasons, "a failure needs a reason"),
        (
            record.kind not in _ACTED and record.recipient_authentication is not None,
            "the recipient did not act",
        ),
    )  # fmt: skip
    return [text for holds, text in problems if holds]


def _ts(record: EvidenceRecord) -> list[str]:
    problems = (
        (record.kind not in TS_KINDS, "TS 102 640-2 has no such event"),
        (bool(record.covers), "TS 102 640-2 cannot name a part of the recipients"),
        (
            not NAMES[record.kind].negative and any(_failed(record)),
            "a success has no reason",
        ),
    )
    return [text for holds, text in problems if holds]


def _erds(record: EvidenceRecord) -> list[str]:
    family = NAMES[record.kind].family
    outside = record.kind is EvidenceKind.RECEIVED_FROM_NON_REM
    failed = _failed(record)
    problems = (
        (not record.issuer.policy_id, "the issuer's policy is missing"),
        (not record.issuer.name, "the issuer's name is missing"),
        (not outside and not record.sender.address, "the sender's address is missing"),
        # Later evidence copies it from the submission's; where that has none, it goes without.
        (family == "A" and record.sender_authentication is None, "how the sender logged in is missing"),
        (outside and record.sender_authentication is not None, "a sender outside did not log in"),
        (not all(party.address for party in record.recipients), "a recipient's address is missing"),
        ((family == "B") != (record.other_party is not None), "the other provider: in relay evidence alone"),
        ((family == "F") != bool(record.forwarded_to), "the other system: in F evidence alone"),
        (record.refers_to is not None and bool(record.covers), "one recipient and several"),
        (NAMES[record.kind].negative and not all(failed), "a failure with the reason of a success"),
        (not NAMES[record.kind].negative and any(failed), "a success with the reason of a failure"),
        (not NAMES[record.kind].negative and len(failed) > 1, "a success has one reason"),
    )
    return [text for holds, text in problems if holds]


def _failed(record: EvidenceRecord) -> list[bool]:
    return [erds_row(record.kind, reason).reason is not None for reason in record.reasons]
