"""Delivery inside one provider: the KEP message into each mailbox, evidence 40 or 41 in the same transaction.

spec: KEP-EV-05, KEP-EV-40, KEP-EV-41, KEP-QU-02 (a full mailbox receives), KEP-CL-07, R-06, R-18.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from types import MappingProxyType
from typing import Final

from directory.accounts import Account, AccountState
from evidence.mime import scan
from evidence.package import Boundaries, Envelope, MessagePlan, plan_dispatch, transfer_label
from evidence.ports import ByteSource
from evidence.records import EvidenceKind, Reason, SealedEvidence
from evidence.rem_xml import read as read_record
from evidence.sealing import Sealer
from kephs.domain.lifecycle import (
    DeliveryEvent,
    DeliveryState,
    MessageEvent,
    advance_delivery,
    advance_message,
)
from kephs.domain.mailboxes import FolderRole, NewItem
from kephs.domain.message_index import encode as encode_index
from kephs.domain.messages import Delivery, Role, Submission
from kephs.domain.refusals import TEXTS, RefusalCode
from kephs.ports import (
    Blob,
    BlobMissingError,
    BlobStore,
    Changes,
    Clock,
    Ids,
    Offload,
    Spool,
    Store,
    Tx,
)
from kephs.usecases.records import RecordMaker, stored

CHUNK: Final = 50  # deliveries decided in one transaction
PIECE: Final = 512 * 1024

_REFUSED_BY_STATE: Final[Mapping[AccountState | None, RefusalCode]] = MappingProxyType(
    {
        None: RefusalCode.RECIPIENT_UNKNOWN,
        AccountState.WAITING: RefusalCode.RECIPIENT_UNKNOWN,  # spec: KEP-AC-09
        AccountState.CLOSED: RefusalCode.RECIPIENT_UNKNOWN,
        AccountState.BLOCKED: RefusalCode.RECIPIENT_BLOCKED,
    }
)


@dataclass(frozen=True, slots=True)
class _Decision:
    """What becomes of one delivery."""

    delivery: Delivery
    event: DeliveryEvent
    reasons: tuple[Reason, ...]


class Deliver:
    """Carries an accepted message into the mailboxes of this provider. Safe to repeat at any point."""

    def __init__(
        self, *, store: Store, blobs: BlobStore, sealer: Sealer, records: RecordMaker, offload: Offload,
        clock: Clock, ids: Ids, changes: Changes,
    ) -> None:  # fmt: skip
        self._store, self._blobs, self._sealer, self._records = store, blobs, sealer, records
        self._offload, self._clock, self._ids, self._changes = offload, clock, ids, changes

    async def deliver(self, message: Submission) -> None:
        """Decide every pending delivery, then close the message's work due.

        Raises:
            TimestampUnavailableError, SignerUnavailableError, StoreUnavailableError: try again later.
        """
        dispatch = await self._dispatch(message)
        pending = await self._store.read(lambda tx: _pending(tx, message.message_id))
        for start in range(0, len(pending), CHUNK):
            await self._decide(message, dispatch, pending[start : start + CHUNK])
        await self._store.write(lambda tx: _close(tx, message))
        self._changes.publish({message.account_id})

    async def _decide(self, message: Submission, dispatch: Blob, deliveries: Sequence[Delivery]) -> None:
        accounts = await self._store.read(lambda tx: _accounts(tx, deliveries))
        decisions = [_decision(delivery, accounts.get(delivery.delivery_id)) for delivery in deliveries]
        steps = [advance_delivery(d.delivery.state, d.event) for d in decisions]
        records = [
            self._records.make(kind, message, number=d.delivery.number, reasons=d.reasons)
            for d, kind in zip(decisions, (step.evidence for step in steps), strict=True)
            if kind is not None
        ]
        sealed = await self._sealer.seal_many(records)
        blobs = await self._blobs.put_many([one.xml for one in sealed])

        def commit(tx: Tx) -> None:
            for decision, evidence, blob in zip(decisions, sealed, blobs, strict=True):
                _commit(tx, message, dispatch, decision, evidence, blob)

        await self._store.write(commit)
        self._changes.publish({d.account_id for d in deliveries if d.account_id})

    # --- the KEP message ----------------------------------------------------------------------

    async def _dispatch(self, message: Submission) -> Blob:
        """Return the stored KEP message; build it once, all recipients share it."""
        existing = await self._store.read(
            lambda tx: tx.blobs.get(message.dispatch) if message.dispatch else None
        )
        if existing is not None:
            return existing
        original, evidence = await self._parts(message)
        plan = self._plan(message, evidence, await self._offload.run(_label, original))
        spool = self._blobs.spool()
        try:
            await self._write(plan, original, spool)
            source = spool.source()
            root = await self._offload.run(scan, source)
            index = encode_index(source, root)
            blob = await self._blobs.keep(spool)
        finally:
            await spool.discard()
        await self._store.write(lambda tx: _name_dispatch(tx, message, blob, index))
        return blob

    async def _parts(self, message: Submission) -> tuple[ByteSource, SealedEvidence]:
        def look_up(tx: Tx) -> tuple[Blob | None, Blob | None]:
            accepted = next(
                e for e in tx.evidence.of_message(message.message_id)
                if e.kind is EvidenceKind.SUBMISSION_ACCEPTANCE
            )  # fmt: skip
            return tx.blobs.get(message.digest_sha256), tx.blobs.get(accepted.blob)

        original, evidence = await self._store.read(look_up)
        if original is None or evidence is None:
            raise BlobMissingError(message.message_id)
        source = self._blobs.open(evidence)
        xml = await self._offload.run(source.read, 0, source.size)
        return self._blobs.open(original), SealedEvidence(read_record(xml), xml)

    def _plan(self, message: Submission, evidence: SealedEvidence, label: str) -> MessagePlan:
        addresses = {
            role: tuple(str(r.address) for r in message.recipients if r.role is role) for role in Role
        }
        envelope = Envelope(
            service_address=self._records.issuer.address, to=addresses[Role.TO], cc=addresses[Role.CC]
        )
        boundaries = Boundaries.of(self._ids.token())
        return plan_dispatch(
            envelope,
            evidence,
            label=transfer_label(has_8bit=label == "8bit", is_binary=False),
            boundaries=boundaries,
        )

    async def _write(self, plan: MessagePlan, original: ByteSource, spool: Spool) -> None:
        digest = sha256(plan.entity_head)
        await spool.write(plan.prefix + plan.entity_head)
        for start in range(0, original.size, PIECE):
            piece = await self._offload.run(original.read, start, PIECE)
            await self._offload.run(digest.update, piece)
            await spool.write(piece)
        digest.update(plan.entity_tail)
        p7s = await self._sealer.sign_entity(digest.digest(), self._clock.now())
        await spool.write(plan.entity_tail + plan.suffix(p7s))


def _label(original: ByteSource) -> str:
    pieces = (original.read(start, PIECE) for start in range(0, original.size, PIECE))
    return "7bit" if all(piece.isascii() for piece in pieces) else "8bit"


def _pending(tx: Tx, message_id: str) -> list[Delivery]:
    return [d for d in tx.deliveries.of_message(message_id) if d.state is DeliveryState.PENDING]


def _accounts(tx: Tx, deliveries: Sequence[Delivery]) -> dict[str, Account]:
    found = {d.delivery_id: tx.accounts.by_address(d.address) for d in deliveries}
    return {delivery_id: account for delivery_id, account in found.items() if account is not None}


def _decision(delivery: Delivery, account: Account | None) -> _Decision:
    code = _REFUSED_BY_STATE.get(account.state if account else None)
    if code is None and account is not None:
        return _Decision(replace(delivery, account_id=account.account_id), DeliveryEvent.STORE, ())
    text = TEXTS[code or RefusalCode.RECIPIENT_UNKNOWN]
    assert text.reason is not None
    detail = f"{(code or RefusalCode.RECIPIENT_UNKNOWN).value}: {text.english}"
    return _Decision(delivery, DeliveryEvent.FAIL, (Reason(text.reason, detail),))


def _commit(
    tx: Tx, message: Submission, dispatch: Blob, decision: _Decision, evidence: SealedEvidence, blob: Blob
) -> None:
    delivery, record = decision.delivery, evidence.record
    state = advance_delivery(delivery.state, decision.event).state
    if not tx.deliveries.decide(
        delivery.delivery_id, state, record.evidence_id, record.event_time, delivery.account_id
    ):
        return  # another worker was first: its evidence stands
    tx.blobs.add(blob)
    tx.evidence.add(stored(evidence, message, blob, receipt_due=record.event_time))
    if decision.event is DeliveryEvent.STORE and delivery.account_id:
        inbox = tx.mailboxes.by_role(delivery.account_id, FolderRole.INBOX)
        item = NewItem(dispatch.sha256, dispatch.size, record.event_time, delivery_id=delivery.delivery_id)
        tx.mailboxes.append(inbox.folder_id, item)


def _name_dispatch(tx: Tx, message: Submission, blob: Blob, index: bytes) -> None:
    tx.blobs.add(blob)
    tx.blobs.set_index(blob.sha256, index)
    tx.messages.set_dispatch(message.message_id, blob.sha256)


def _close(tx: Tx, message: Submission) -> None:
    if _pending(tx, message.message_id):
        return
    tx.messages.set_state(message.message_id, advance_message(message.state, MessageEvent.ALL_DECIDED).state)
    tx.messages.due(message.message_id, None, 0)
