"""A sound store of hs91 that took messages from hs92 and handed others to hs92 and hs93."""

from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Any

from directory.addresses import KepAddress
from evidence.forms.rem_xml import write as write_record
from evidence.model.records import EvidenceKind, Party, Reason, ReasonCode
from kephs.domain.lifecycle import DeliveryState, MessageState, TransferState
from kephs.domain.messages import Delivery, Recipient, Role, StoredEvidence, Submission, Transfer
from kephs.ports import Ending, Tx
from tests.support.evidence_samples import HS91
from tests.support.fsck_world import NOBODY, VELI, World, inbox, record_of, to_veli, written
from tests.support.proofs import proof_over
from tests.support.stores import PEER, T0, after, elsewhere, evidence, item, receipt, transfer

THIRD = "hs93.kep.tr"
ISSUERS = {None: HS91} | {
    domain: replace(HS91, name=f"TEST {domain}", address=f"kep-hizmet@{domain}") for domain in (PEER, THIRD)
}
SILENT = (Reason(ReasonCode.S_REMMD_RECEIVED_NO_DELIVERY_INFO, "no-delivery-info"),)
K, S, T = EvidenceKind, DeliveryState, TransferState

FATMA, CAN, ECE = (f"{name}@{PEER}" for name in ("fatma", "can", "ece"))
DENIZ = f"deniz@{THIRD}"


def to(*addresses: str) -> tuple[Recipient, ...]:
    """Return recipients."""
    return tuple(Recipient(KepAddress.parse(address), None, Role.TO) for address in addresses)


def relayed(message_id: str, *addresses: str, **changes: Any) -> Submission:
    """Return a message that hs92 relayed to us."""
    values: dict[str, Any] = {
        "account_id": None,
        "operator_id": None,
        "origin": PEER,
        "sender": Party(FATMA, "Fatma Kaya"),
        "recipients": to(*addresses),
        "submitted_at": told_at(0),
    }
    return written(message_id, **{**values, **changes})


def sent_to(message_id: str, *addresses: str, **changes: Any) -> Submission:
    """Return a message of Ayşe's."""
    return written(message_id, recipients=to(*addresses), **changes)


def told_at(seconds: float) -> datetime:
    """Return a time as a peer's XML tells it."""
    at = after(seconds)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def with_peer(delivery_id: str, message_id: str, number: int, address: str, **changes: Any) -> Delivery:
    """Return a delivery to a recipient of a peer's."""
    peer = address.rpartition("@")[2]
    return replace(elsewhere(delivery_id, message_id, number), address=address, peer=peer, **changes)


# id: (kind, message, recipient, seconds, origin)
EVIDENCE: dict[str, tuple[EvidenceKind, str, int | None, float, str | None]] = {
    # r1: relayed to us; Veli has it unread, nobody is refused, Can is hs92's own
    "r1-10": (K.SUBMISSION_ACCEPTANCE, "r1", None, 0, PEER),  # r3's has no row: as of messages from before
    "r1-20": (K.RELAY_ACCEPTANCE, "r1", 1, 1, None),
    "r1-21": (K.RELAY_REJECTION, "r1", 2, 1, None),
    "r1-40": (K.DELIVERY, "r1", 1, 2, None),
    # r2: nobody could have it
    "r2-21": (K.RELAY_REJECTION, "r2", None, 1, None),
    # r3: for Veli alone, not delivered yet
    "r3-20": (K.RELAY_ACCEPTANCE, "r3", None, 1, None),
    # s1: to hs92 and hs93, completed: read, refused, failed, not reached
    "s1-10": (K.SUBMISSION_ACCEPTANCE, "s1", None, 0, None),
    "s1-20-1": (K.RELAY_ACCEPTANCE, "s1", 1, 1, PEER),
    "s1-21-2": (K.RELAY_REJECTION, "s1", 2, 1, PEER),
    "s1-20-3": (K.RELAY_ACCEPTANCE, "s1", 3, 1, PEER),
    "s1-40-1": (K.DELIVERY, "s1", 1, 2, PEER),
    "s1-41-3": (K.NON_DELIVERY, "s1", 3, 2, PEER),
    "s1-60-1": (K.RETRIEVAL, "s1", 1, 3, PEER),
    "s1-31-4": (K.RELAY_FAILURE, "s1", 4, 9, None),
    "s1-40-3": (K.DELIVERY, "s1", 3, 8, PEER),  # late and contradictory: kept beside
    # s2: under way: hs92 has taken it, hs93 not; Veli has not got it yet
    "s2-10": (K.SUBMISSION_ACCEPTANCE, "s2", None, 0, None),
    "s2-20": (K.RELAY_ACCEPTANCE, "s2", 1, 1, PEER),
    # s3: hs92 took it and kept silent; hs93 is the only one of s4 and was never reached
    "s3-10": (K.SUBMISSION_ACCEPTANCE, "s3", None, 0, None),
    "s3-20": (K.RELAY_ACCEPTANCE, "s3", None, 1, PEER),
    "s3-41": (K.NON_DELIVERY, "s3", 1, 9, None),
    "s4-10": (K.SUBMISSION_ACCEPTANCE, "s4", None, 0, None),
    "s4-31": (K.RELAY_FAILURE, "s4", None, 9, None),
}

TRANSFERS: tuple[Transfer, ...] = (
    receipt("t-r1-20", "r1-20", message_id="r1", state=T.DONE, next_at=None),
    receipt("t-r1-21", "r1-21", message_id="r1"),
    receipt("t-r2-21", "r2-21", message_id="r2", state=T.FAILED, next_at=None),
    receipt("t-r3-20", "r3-20", message_id="r3", state=T.HELD),
    transfer("t-s1-2", "s1", state=T.DONE, next_at=None),
    transfer("t-s1-3", "s1", peer=THIRD, state=T.FAILED, next_at=None),
    transfer("t-s2-2", "s2", state=T.ANSWERED, next_at=after(86400)),
    transfer("t-s2-3", "s2", peer=THIRD),
    transfer("t-s3-2", "s3", state=T.DONE, next_at=None),
    transfer("t-s4-3", "s4", peer=THIRD, state=T.FAILED, next_at=None),
)
DELIVERIES: tuple[Delivery, ...] = (
    to_veli("d-r1-1", "r1"),
    to_veli("d-r3-1", "r3"),
    with_peer("d-s1-1", "s1", 1, FATMA, state=S.READ, evidence_id="s1-40-1", decided_at=told_at(2)),
    with_peer("d-s1-2", "s1", 2, CAN, state=S.REJECTED, evidence_id="s1-21-2", decided_at=told_at(1)),
    with_peer("d-s1-3", "s1", 3, ECE, state=S.FAILED, evidence_id="s1-41-3", decided_at=told_at(2)),
    with_peer("d-s1-4", "s1", 4, DENIZ, state=S.UNREACHED, evidence_id="s1-31-4", decided_at=after(9.5)),
    with_peer("d-s2-1", "s2", 1, FATMA, state=S.RELAYED),
    with_peer("d-s2-2", "s2", 2, DENIZ),
    replace(to_veli("d-s2-3", "s2"), number=3),
    with_peer("d-s3-1", "s3", 1, FATMA, state=S.FAILED, evidence_id="s3-41", decided_at=after(9)),
    with_peer("d-s4-1", "s4", 1, DENIZ, state=S.UNREACHED, evidence_id="s4-31", decided_at=after(9)),
)
CONTENTS = ("dispatch r1", "dispatch r3", "dispatch s2", "s2", "t-r1-21", "t-r2-21", "t-r3-20")


def digest(text: str) -> bytes:
    """Return the digest of a content."""
    return sha256(text.encode()).digest()


class RelayWorld(World):
    """Messages r1 to r3 that hs92 relayed to us, and s1 to s4 of Ayşe's to peers."""

    async def build(self) -> "RelayWorld":
        """Fill the store."""
        await super().build()
        completed = MessageState.COMPLETED
        self.messages |= {
            "r1": relayed("r1", VELI, NOBODY, CAN, state=completed, dispatch=digest("dispatch r1")),
            "r2": relayed("r2", NOBODY, state=MessageState.REFUSED),
            "r3": relayed("r3", VELI, dispatch=digest("dispatch r3"), next_at=T0),
            "s1": sent_to("s1", FATMA, CAN, ECE, DENIZ, state=completed, dispatch=digest("dispatch s1")),
            "s2": sent_to("s2", FATMA, DENIZ, VELI, dispatch=digest("dispatch s2"), next_at=T0),
            "s3": sent_to("s3", FATMA, state=completed, dispatch=digest("dispatch s3")),
            "s4": sent_to("s4", DENIZ, state=completed),  # given up before its KEP message was built
        }
        for name in CONTENTS:
            self.rows[name] = await self.blobs.put(name.encode())
        made = [await self.told(name) for name in EVIDENCE]
        await self.store.write(lambda tx: self._more(tx, made))
        return self

    def _more(self, tx: Tx, made: list[StoredEvidence]) -> None:
        for row in self.rows.values():
            tx.blobs.add(row)
        for key in ("r1", "r2", "r3", "s1", "s2", "s3", "s4"):
            tx.messages.add(self.messages[key])
        for delivery in DELIVERIES:
            tx.deliveries.add(delivery)
        for row_ in made:
            tx.evidence.add(row_, self.proofs[row_.evidence_id])
        for one in TRANSFERS:
            tx.transfers.add(one)
        tx.deliveries.decide_all((Ending("d-r1-1", S.DELIVERED, "r1-40", after(2)),))
        tx.deliveries.read_elsewhere("d-s1-1", "s1-60-1")
        unread = item(b"dispatch r1", delivery_id="d-r1-1", received_at=after(2))
        tx.mailboxes.append(inbox(tx), unread)

    async def told(self, name: str, says: dict[str, Any] | None = None) -> StoredEvidence:
        """Return the row of an evidence whose content is stored; ``says`` changes fields of its record."""
        kind, message_id, number, seconds, origin = EVIDENCE[name]
        return await self.made(name, kind, message_id, number, after(seconds), origin, says)

    async def made(
        self,
        evidence_id: str,
        kind: EvidenceKind,
        message_id: str,
        number: int | None = None,
        at: datetime = T0,
        origin: str | None = None,
        says: dict[str, Any] | None = None,
    ) -> StoredEvidence:
        """Return the row of an evidence by whom ``origin`` says; ``says`` changes fields of its record."""
        of = self.messages[message_id]
        if origin is not None:  # as read from the peer's XML
            at = at.replace(microsecond=at.microsecond // 1000 * 1000)
        sent = origin is not None or any(t.evidence_id == evidence_id for t in TRANSFERS)
        due = T0 if of.origin is not None and not sent else None
        row = evidence(
            evidence_id, kind, message_id, number,
            event_time=at, account_id=of.account_id, origin=origin, receipt_due=due,
        )  # fmt: skip
        facts: dict[str, Any] = {"issuer": ISSUERS[origin]}
        if kind is K.NON_DELIVERY and origin is None and of.origin is None:
            facts["reasons"] = SILENT
        content = write_record(replace(record_of(row, of), **(facts | (says or {}))))
        self.rows[evidence_id] = kept = await self.blobs.put(content)
        self.proofs[evidence_id] = proof_over(content)
        return replace(row, blob=kept.sha256)

    async def add(self, *about: Any, **options: Any) -> None:
        """Add an evidence that the story does not have."""
        row = await self.made(*about, **options)
        ers = self.proofs[row.evidence_id]
        await self.store.write(
            lambda tx: (tx.blobs.add(self.rows[row.evidence_id]), tx.evidence.add(row, ers))
        )
