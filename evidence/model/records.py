"""The one internal record behind every evidence; serialisers turn it into XML.

The tables of events and reasons are in `evidence.model.events` and `evidence.model.reasons`; their names
are offered here as well (spec: KEP-EV-01..08, KEP-EC-01..15, rem-formats §1.2, §2.2).
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from evidence.model.events import KEP_KINDS, NAMES, REM_BASELINE_KINDS, TS_KINDS, EvidenceKind, KindNames
from evidence.model.reasons import REASON_NAMES, Reason, ReasonCode

__all__ = [
    "KEP_KINDS",
    "NAMES",
    "REASON_NAMES",
    "REM_BASELINE_KINDS",
    "TS_KINDS",
    "Authentication",
    "EvidenceKind",
    "EvidenceRecord",
    "Issuer",
    "KindNames",
    "MessageFacts",
    "Party",
    "Profile",
    "Reason",
    "ReasonCode",
    "SealedEvidence",
    "file_stem",
]


class Profile(StrEnum):
    """The serialisations of an evidence; the values are those of the provider file."""

    KEP = "kep-ts102640"
    """TS 102 640-2 v2 XML, what KEP law names."""
    REM_BASELINE = "rem-baseline"
    """EN 319 522-3 XML as EN 319 532-4 fills it."""


@dataclass(frozen=True, slots=True)
class Party:
    """A sender or recipient: plain ``a@b`` address and, where known, the name."""

    address: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Issuer:
    """The provider that issues evidence (KEP-EC-05, KEP-EC-06)."""

    name: str
    address: str  # service address, kep-hizmet@hs91.kep.tr
    policy_id: str  # OID URN or URL of the practice statement (KEPUE)
    street: str
    locality: str
    postal_code: str
    country: str = "TR"


@dataclass(frozen=True, slots=True)
class Authentication:
    """How and when somebody proved who they are (KEP-EC-07); ``person`` names who logged in.

    ``assurance`` is the level's URI for the EN serialisation, "" for what the method gives by itself; TS
    has no place for it.
    """

    at: datetime
    method: str  # URI, urn:oasis:names:tc:SAML:2.0:ac:classes:...
    person: str | None = None
    assurance: str = ""


@dataclass(frozen=True, slots=True)
class MessageFacts:
    """What the evidence says of the message (KEP-EC-12)."""

    subject: str
    user_message_id: str | None  # with <>
    kep_message_id: str  # without <>
    digest_sha256: bytes  # of the prepared original, its final CRLF included


@dataclass(frozen=True, slots=True)
class EvidenceRecord:
    """One event, provable. Times are UTC; ``refers_to`` is 1-based (KEP-EC-11).

    ``other_party``, ``covers`` and ``untrusted_path`` stand in the EN serialisation only.
    """

    kind: EvidenceKind
    evidence_id: str  # unique, Message-ID style without <>
    event_time: datetime
    submission_time: datetime
    issuer: Issuer
    sender: Party
    recipients: tuple[Party, ...]
    message: MessageFacts
    reasons: tuple[Reason, ...] = ()
    refers_to: int | None = None
    sender_authentication: Authentication | None = None
    recipient_authentication: Authentication | None = None
    delegate: Party | None = None  # the operator who read for a legal person (KEP-EC-10)
    other_party: Issuer | Party | None = None  # relay evidence: the provider at the other end
    forwarded_to: str | None = None  # to or from ordinary e-mail: the system at the other end
    covers: tuple[int, ...] = ()  # relay evidence about several recipients, not all: who, 1-based
    untrusted_path: tuple[int, ...] = ()  # recipients whose provider could not be verified, 1-based


STAMP_START: Final = b"<xades:EncapsulatedTimeStamp>"
"""No text of ours can hold it: "<" is escaped."""


@dataclass(frozen=True, slots=True)
class SealedEvidence:
    """A record with its exact signed bytes; never regenerated."""

    record: EvidenceRecord
    xml: bytes
    ers: bytes | None = None  # evidence record (RFC 4998, DER) over the exact bytes of ``xml``

    @property
    def stamped(self) -> bool:
        """Say whether its time can be proved; what the grace of D16 let out cannot be yet."""
        return self.ers is not None or STAMP_START in self.xml


def file_stem(kind: EvidenceKind, refers_to: int | None) -> str:
    """Return the file name without ending: ``10-SubmissionAcceptance``, ``40-Delivery-1``."""
    stem = f"{kind.value}-{NAMES[kind].event}"
    return f"{stem}-{refers_to}" if refers_to is not None else stem
