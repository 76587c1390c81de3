"""What kephs keeps of one submission, of its deliveries and of the evidence about them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from directory.addresses import KepAddress
from evidence.model.records import Authentication, EvidenceKind, Party, Profile
from kephs.domain.lifecycle import DeliveryState, MessageState, TransferState


class Role(StrEnum):
    """Kime or Bilgi."""

    TO = "to"
    CC = "cc"


@dataclass(frozen=True, slots=True)
class Recipient:
    """One recipient in header order; ``number`` in evidence is the 1-based position."""

    address: KepAddress
    name: str | None
    role: Role


@dataclass(frozen=True, slots=True)
class Person:
    """Who is signed in: an operator of an account, and how they proved it (KEP-EC-07)."""

    account_id: str
    operator_id: str
    name: str
    authentication: Authentication
    password_id: str | None = None  # the app password this session stands on


@dataclass(frozen=True, slots=True)
class Submission:
    """One message; ``message_id`` is its provider's (no <>), ``user_message_id`` the client's (with <>).

    Submitted here (``origin`` None) or relayed to us by the peer ``origin``. Of a relayed one we keep the
    KEP message as received (``dispatch``); digests, sender, subject and recipients are those of its
    evidence 10, and it has no account here.
    """

    message_id: str
    account_id: str | None
    operator_id: str | None
    state: MessageState
    user_message_id: str | None
    digest_sha256: bytes
    digest_sha512: bytes
    size: int
    subject: str
    sender: Party
    recipients: tuple[Recipient, ...]
    authentication: Authentication
    submitted_at: datetime
    material: bytes | None  # SHA-256 of the stored verification material of the sender's signature
    dispatch: bytes | None = None  # SHA-256 of the KEP message, once built
    next_at: datetime | None = None  # work due (D12); None when nothing is
    attempts: int = 0
    origin: str | None = None  # domain of the peer that relayed it to us

    @property
    def parties(self) -> tuple[Party, ...]:
        """Return the recipients as evidence names them, in header order."""
        return tuple(Party(str(r.address), r.name) for r in self.recipients)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message for one recipient. ``number`` is 1-based. ``peer`` serves the recipient; None: we do."""

    delivery_id: str
    message_id: str
    number: int
    address: str
    account_id: str | None  # None where nobody has the address
    state: DeliveryState
    decided_at: datetime | None = None
    evidence_id: str | None = None
    read_evidence_id: str | None = None
    peer: str | None = None

    @property
    def gated(self) -> bool:
        """Say whether the content is still behind the read gate."""
        return self.read_evidence_id is None


@dataclass(frozen=True, slots=True)
class StoredEvidence:
    """One evidence in the store. ``account_id`` is the sender's, whose Deliller folder shows it.

    It is None where the sender is a peer's: then the receipt goes there. ``origin`` is the peer that made
    the evidence, which came as a receipt or (evidence 10) with a message; None: we did.
    """

    evidence_id: str
    kind: EvidenceKind
    message_id: str
    number: int | None  # recipient, 1-based
    account_id: str | None
    blob: bytes  # SHA-256 of the exact signed XML
    event_time: datetime
    receipt_due: datetime | None = None  # when the receipt is to be filed or queued; None once it is
    attempts: int = 0
    origin: str | None = None
    unstamped: bool = False  # released while no authority answered (D16): its evidence record follows
    profile: Profile = Profile.KEP


class TransferKind(StrEnum):
    """What is on its way."""

    DISPATCH = "dispatch"
    RECEIPT = "receipt"


@dataclass(frozen=True, slots=True)
class Transfer:
    """One KEP message on its way to one peer; one dispatch per message and peer, one receipt per evidence.

    ``deadline`` ends the phase the transfer is in: handing over, waiting for 20 or 21, waiting for 40 or 41.
    """

    transfer_id: str
    kind: TransferKind
    message_id: str
    peer: str  # domain
    state: TransferState
    created_at: datetime
    deadline: datetime
    evidence_id: str | None = None  # of a receipt
    blob: bytes | None = None  # SHA-256 of a receipt, or of a dispatch in the peer's own profile
    next_at: datetime | None = None  # work due (D12)
    attempts: int = 0
    cause: str = ""  # stable code of the last trouble
    handed_at: datetime | None = None
