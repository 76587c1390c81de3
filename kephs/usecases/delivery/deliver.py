"""Delivery to our own recipients: the KEP message into the mailbox, evidence 40 or 41, one transaction.

spec: KEP-EV-05, KEP-EV-40, KEP-EV-41, KEP-QU-02 (a full mailbox receives), KEP-CL-07, R-06, R-18.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from types import MappingProxyType
from typing import Final

from directory.accounts import Account, AccountState
from directory.providers import ProviderRegister
from evidence.model.records import EvidenceKind, EvidenceRecord, Reason, SealedEvidence
from evidence.ports import Sealing
from kephs.domain.lifecycle import DeliveryEvent, DeliveryState, advance_delivery
from kephs.domain.mailboxes import FolderRole, NewItem
from kephs.domain.messages import Delivery, StoredEvidence, Submission
from kephs.domain.refusals import TEXTS, RefusalCode
from kephs.ports import Blob, BlobStore, Changes, Store, Tx
from kephs.usecases.delivery.dispatch import Built, DispatchMaker, Found, find_dispatch, name_dispatch
from kephs.usecases.delivery.receipts import ReceiptMaker, file_due
from kephs.usecases.people.closing import close_when_decided
from kephs.usecases.records import RecordMaker, stored
from kephs.usecases.sized import HERE_MAX
from kephs.usecases.submission.evidence_form import form_for_origin

CHUNK: Final = 50  # deliveries decided in one transaction

REFUSED_BY_STATE: Final[Mapping[AccountState | None, RefusalCode]] = MappingProxyType(
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


@dataclass(frozen=True, slots=True)
class _Ahead:
    """What is to be done for a message: deliveries to decide, whose they are, receipts that are due."""

    message: Submission
    deliveries: tuple[Delivery, ...]
    accounts: Mapping[str, Account]
    receipts: tuple[StoredEvidence, ...]
    dispatch: Found

    @property
    def own(self) -> bool:
        """Say whether the sender is ours: their receipts are filed here, others queued one by one."""
        return self.message.account_id is not None


@dataclass(frozen=True, slots=True)
class _Decided:
    """What is to be committed for a message; the lists of evidence and receipts run side by side."""

    ahead: _Ahead
    built: Built
    decisions: Sequence[_Decision]
    sealed: Sequence[SealedEvidence]


@dataclass(frozen=True, slots=True)
class Deliver:
    """Carries accepted messages into the mailboxes of this provider. Safe to repeat at any point.

    The receipts of a message submitted here are filed in the same transaction: evidence 10's and those of
    what is decided. A receipt that a crash or a silent authority left out is filed by `FileReceipts`.

    Several messages go their way together, step by step: each step asks signer, disk and database once.
    """

    store: Store
    blobs: BlobStore
    sealer: Sealing
    records: RecordMaker
    dispatches: DispatchMaker
    receipts: ReceiptMaker
    register: ProviderRegister
    changes: Changes

    async def deliver(self, message: Submission) -> None:
        """Decide every pending delivery of a message, then close its work due; see `deliver_all`."""
        await self.deliver_all((message,))

    async def deliver_all(self, messages: Sequence[Submission]) -> None:
        """Decide every pending delivery of several messages, then close their work due.

        Small ones go together; a large one goes alone, so that nobody waits for its octets.

        Raises:
            TimestampUnavailableError, SignerUnavailableError, StoreUnavailableError: try again later.
            BlobMissingError: content of one of them is gone.
        """
        small = [message for message in messages if message.size <= HERE_MAX]
        large = [(message,) for message in messages if message.size > HERE_MAX]
        for some in (small, *large):
            await self._deliver(some)
        if senders := {message.account_id for message in messages if message.account_id}:
            self.changes.publish(senders)

    async def _deliver(self, messages: Sequence[Submission]) -> None:
        known: dict[str, Built] = {}
        left = messages
        while left:
            ahead = await self.store.read(partial(_look_ahead, left))
            if nothing := [one.message for one in ahead if not one.deliveries]:  # decided, or all a peer's
                await self.store.write(partial(_finish_all, nothing))
            ahead = [one for one in ahead if one.deliveries]
            if not ahead:
                return
            now, later = _bounded(ahead)
            await self._build(known, now)
            await self._decide(known, now)
            left = [one.message for one in now if len(one.deliveries) == CHUNK] + [
                one.message for one in later
            ]

    async def _build(self, known: dict[str, Built], ahead: Sequence[_Ahead]) -> None:
        wanted = [one for one in ahead if one.message.message_id not in known]
        built = await self.dispatches.build([(one.message, one.dispatch) for one in wanted])
        for one, made in zip(wanted, built, strict=True):
            known[one.message.message_id] = made

    async def _decide(self, known: Mapping[str, Built], ahead: Sequence[_Ahead]) -> None:
        """Seal and store what becomes of some deliveries; with the last ones the work here ends."""
        decisions = [[_decision(d, one.accounts.get(d.delivery_id)) for d in one.deliveries] for one in ahead]
        sealed = await self._seal(ahead, decisions)
        decided = [
            _Decided(one, known[one.message.message_id], chosen, made)
            for one, chosen, made in zip(ahead, decisions, sealed, strict=True)
        ]
        about = [
            (evidence, one.ahead.message)
            for one in decided if one.ahead.own
            for evidence in (*await self._earlier(one.ahead), *one.sealed)
        ]  # fmt: skip
        receipts = await self.receipts.receipts(about) if about else []
        xml = [evidence.xml for one in decided for evidence in one.sealed]
        blobs = await self.blobs.put_many([*xml, *(receipt.content for receipt in receipts)])
        filed = [
            (evidence.record.evidence_id, receipt, blob)
            for (evidence, _), receipt, blob in zip(about, receipts, blobs[len(xml) :], strict=True)
        ]

        def commit(tx: Tx) -> None:
            contents = iter(blobs)
            for one in decided:
                _commit(tx, one, contents)
            for evidence_id, receipt, blob in filed:
                file_due(tx, evidence_id, blob, receipt.index)
            _finish_all([one.message for one in ahead], tx)

        await self.store.write(commit)
        self.changes.publish({d.account_id for one in ahead for d in one.deliveries if d.account_id})

    async def _seal(
        self, ahead: Sequence[_Ahead], decisions: Sequence[Sequence[_Decision]]
    ) -> list[list[SealedEvidence]]:
        """Return each message's evidence; what is sealed in one form is sealed together."""
        forms = [form_for_origin(self.register, one.message.origin) for one in ahead]
        records = [
            [self._record(one.message, decision) for decision in chosen]
            for one, chosen in zip(ahead, decisions, strict=True)
        ]
        made: dict[int, list[SealedEvidence]] = {}
        for form in dict.fromkeys(forms):
            places = [place for place, own in enumerate(forms) if own == form]
            joined = [record for place in places for record in records[place]]
            sealed = iter(await self.sealer.seal_many(joined, profile=form.profile, stamping=form.stamping))
            for place in places:
                made[place] = list(islice(sealed, len(records[place])))
        return [made[place] for place in range(len(ahead))]

    def _record(self, message: Submission, decision: _Decision) -> EvidenceRecord:
        delivery = decision.delivery
        kind = advance_delivery(delivery.state, decision.event).evidence
        assert kind is not None  # every decision here is owed one
        return self.records.make(kind, message, number=delivery.number, reasons=decision.reasons)

    async def _earlier(self, ahead: _Ahead) -> list[SealedEvidence]:
        return [await self.dispatches.kept.open(evidence) for evidence in ahead.receipts]


def _bounded(ahead: Sequence[_Ahead]) -> tuple[Sequence[_Ahead], Sequence[_Ahead]]:
    """Return the messages whose deliveries one transaction decides, and those that wait for the next."""
    count = 0
    for place, one in enumerate(ahead):
        count += len(one.deliveries)
        if place and count > CHUNK:
            return ahead[:place], ahead[place:]
    return ahead, ()


def _pending(tx: Tx, message_id: str) -> list[Delivery]:
    deliveries = tx.deliveries.of_message(message_id)
    return [d for d in deliveries if d.peer is None and d.state is DeliveryState.PENDING]


def _look_ahead(messages: Sequence[Submission], tx: Tx) -> list[_Ahead]:
    return [_next(tx, message) for message in messages]


def _next(tx: Tx, message: Submission) -> _Ahead:
    deliveries = _pending(tx, message.message_id)[:CHUNK]
    made = tx.evidence.of_message(message.message_id)
    accounts, receipts = _accounts(tx, deliveries), tuple(_receipts_due(message, made))
    return _Ahead(message, tuple(deliveries), accounts, receipts, find_dispatch(tx, message, made))


def _receipts_due(message: Submission, made: Iterable[StoredEvidence]) -> Iterator[StoredEvidence]:
    """Yield evidence 10 while its receipt is due: its sender sees it together with what came of it."""
    if message.account_id is None:
        return
    for evidence in made:
        accepted = evidence.kind is EvidenceKind.SUBMISSION_ACCEPTANCE
        if accepted and evidence.receipt_due is not None:
            yield evidence


def _accounts(tx: Tx, deliveries: Sequence[Delivery]) -> dict[str, Account]:
    found = {d.delivery_id: tx.accounts.by_address(d.address) for d in deliveries}
    return {delivery_id: account for delivery_id, account in found.items() if account is not None}


def _decision(delivery: Delivery, account: Account | None) -> _Decision:
    code = REFUSED_BY_STATE.get(account.state if account else None)
    if code is None and account is not None:
        return _Decision(replace(delivery, account_id=account.account_id), DeliveryEvent.STORE, ())
    text = TEXTS[code or RefusalCode.RECIPIENT_UNKNOWN]
    assert text.reason is not None
    detail = f"{(code or RefusalCode.RECIPIENT_UNKNOWN).value}: {text.english}"
    return _Decision(delivery, DeliveryEvent.FAIL, (Reason(text.reason, detail),))


def _commit(tx: Tx, decided: _Decided, contents: Iterator[Blob]) -> None:
    """Store what became of a message's deliveries; ``contents`` gives the blob of each evidence."""
    message = decided.ahead.message
    dispatch = name_dispatch(tx, message, decided.built)
    for decision, evidence, blob in zip(decided.decisions, decided.sealed, contents, strict=False):
        _store(tx, message, dispatch, decision, evidence, blob)


def _store(
    tx: Tx, message: Submission, dispatch: Blob, decision: _Decision, evidence: SealedEvidence, blob: Blob
) -> None:
    delivery, record = decision.delivery, evidence.record
    state = advance_delivery(delivery.state, decision.event).state
    if not tx.deliveries.decide(
        delivery.delivery_id, state, record.evidence_id, record.event_time, delivery.account_id
    ):
        return  # another worker was first: its evidence stands
    tx.blobs.add(blob)
    tx.evidence.add(stored(evidence, message, blob, receipt_due=record.event_time), evidence.ers)
    if decision.event is DeliveryEvent.STORE and delivery.account_id:
        item = NewItem(dispatch.sha256, dispatch.size, record.event_time, delivery_id=delivery.delivery_id)
        tx.mailboxes.file(delivery.account_id, FolderRole.INBOX, item)


def _finish_all(messages: Sequence[Submission], tx: Tx) -> None:
    for message in messages:
        _finish(tx, message)


def _finish(tx: Tx, message: Submission) -> None:
    """End the work here: the message is complete, or waits for peers alone (their transfers are due)."""
    if not close_when_decided(tx, message.message_id) and not _pending(tx, message.message_id):
        tx.messages.due(message.message_id, None, 0)
