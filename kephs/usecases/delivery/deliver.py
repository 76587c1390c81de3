"""Delivery to our own recipients: the KEP message into the mailbox, evidence 40 or 41, one transaction.

spec: KEP-EV-05, KEP-EV-40, KEP-EV-41, KEP-QU-02 (a full mailbox receives), KEP-CL-07, R-06, R-18.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
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
from kephs.ports import Blob, Changes, Ending, Filing, Store, Tx
from kephs.usecases.delivery.dispatch import (
    Built,
    DispatchMaker,
    Found,
    Small,
    find_dispatches,
    name_dispatches,
)
from kephs.usecases.delivery.receipts import ReceiptMaker, receipt_filing
from kephs.usecases.people.closing import close_decided
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
class _End:
    """The end of one delivery as it is to be stored, with its evidence; ``inbox``: whose gets the message."""

    ending: Ending
    evidence: StoredEvidence
    ers: bytes | None
    blob: Blob
    inbox: str | None


@dataclass(frozen=True, slots=True)
class _Decided:
    """What is to be committed for a message."""

    ahead: _Ahead
    built: Built
    ends: Sequence[_End]


@dataclass(frozen=True, slots=True)
class _Kept:
    """A receipt that lies in the blob store."""

    blob: Blob
    index: bytes


@dataclass(frozen=True, slots=True)
class Deliver:
    """Carries accepted messages into the mailboxes of this provider. Safe to repeat at any point.

    The receipts of a message submitted here are filed in the same transaction: evidence 10's and those of
    what is decided. A receipt that a crash or a silent authority left out is filed by `FileReceipts`.

    Several messages go their way together, step by step: each step asks signer, disk and database once.
    """

    store: Store
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
        known: dict[str, Built | Small] = {}
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

    async def _build(self, known: dict[str, Built | Small], ahead: Sequence[_Ahead]) -> None:
        wanted = [one for one in ahead if one.message.message_id not in known]
        built = await self.dispatches.build([(one.message, one.dispatch) for one in wanted])
        for one, made in zip(wanted, built, strict=True):
            known[one.message.message_id] = made

    async def _decide(self, known: dict[str, Built | Small], ahead: Sequence[_Ahead]) -> None:
        """Seal and store what becomes of some deliveries; with the last ones the work here ends."""
        decisions = [[_decision(d, one.accounts.get(d.delivery_id)) for d in one.deliveries] for one in ahead]
        sealed = await self._seal(ahead, decisions)
        about = [
            (evidence, one.message)
            for one, made in zip(ahead, sealed, strict=True) if one.own
            for evidence in (*await self._earlier(one), *made)
        ]  # fmt: skip
        receipts = await self.receipts.receipts(about) if about else []
        xml = [evidence.xml for made in sealed for evidence in made]
        ids = [one.message.message_id for one in ahead]
        dispatches, beside = await self.dispatches.durable(
            [known[message_id] for message_id in ids], [*xml, *(receipt.content for receipt in receipts)]
        )
        known.update(zip(ids, dispatches, strict=True))
        blobs = iter(beside)
        decided = [
            _Decided(one, dispatch, _ends(one, zip(chosen, made, islice(blobs, len(made)), strict=True)))
            for one, dispatch, chosen, made in zip(ahead, dispatches, decisions, sealed, strict=True)
        ]
        kept = {
            evidence.record.evidence_id: _Kept(blob, receipt.index)
            for (evidence, _), receipt, blob in zip(about, receipts, blobs, strict=True)
        }
        await self.store.write(partial(_commit, decided, kept))
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


def _pending(deliveries: Iterable[Delivery]) -> list[Delivery]:
    return [d for d in deliveries if d.peer is None and d.state is DeliveryState.PENDING]


def _look_ahead(messages: Sequence[Submission], tx: Tx) -> list[_Ahead]:
    """Return what is ahead for several messages; each table is asked once for all."""
    ids = [message.message_id for message in messages]
    stored_of, made = tx.deliveries.of_messages(ids), tx.evidence.of_messages(ids)
    pending = [_pending(stored_of[message_id])[:CHUNK] for message_id in ids]
    accounts = tx.accounts.by_addresses([d.address for deliveries in pending for d in deliveries])
    dispatches = find_dispatches(tx, messages, made)
    return [
        _Ahead(
            message,
            tuple(deliveries),
            {d.delivery_id: accounts[d.address] for d in deliveries if d.address in accounts},
            tuple(_receipts_due(message, made[message.message_id])),
            dispatch,
        )
        for message, deliveries, dispatch in zip(messages, pending, dispatches, strict=True)
    ]


def _receipts_due(message: Submission, made: Iterable[StoredEvidence]) -> Iterator[StoredEvidence]:
    """Yield evidence 10 while its receipt is due: its sender sees it together with what came of it."""
    if message.account_id is None:
        return
    for evidence in made:
        accepted = evidence.kind is EvidenceKind.SUBMISSION_ACCEPTANCE
        if accepted and evidence.receipt_due is not None:
            yield evidence


def _decision(delivery: Delivery, account: Account | None) -> _Decision:
    code = REFUSED_BY_STATE.get(account.state if account else None)
    if code is None and account is not None:
        return _Decision(replace(delivery, account_id=account.account_id), DeliveryEvent.STORE, ())
    text = TEXTS[code or RefusalCode.RECIPIENT_UNKNOWN]
    assert text.reason is not None
    detail = f"{(code or RefusalCode.RECIPIENT_UNKNOWN).value}: {text.english}"
    return _Decision(delivery, DeliveryEvent.FAIL, (Reason(text.reason, detail),))


def _ends(ahead: _Ahead, made: Iterable[tuple[_Decision, SealedEvidence, Blob]]) -> list[_End]:
    ends = []
    for decision, sealed, blob in made:
        delivery, record = decision.delivery, sealed.record
        state = advance_delivery(delivery.state, decision.event).state
        name, account_id = record.evidence_id, delivery.account_id
        ending = Ending(delivery.delivery_id, state, name, record.event_time, account_id)
        due = None if ahead.own else record.event_time  # our senders' receipts are filed with it
        evidence = stored(sealed, ahead.message, blob, receipt_due=due)
        inbox = account_id if decision.event is DeliveryEvent.STORE else None
        ends.append(_End(ending, evidence, sealed.ers, blob, inbox))
    return ends


def _commit(decided: Sequence[_Decided], receipts: Mapping[str, _Kept], tx: Tx) -> None:
    """Store what became of the deliveries of several messages, one table after the other.

    Where another worker decided a delivery first, its evidence stands: ours is left out with all about it. So
    is the receipt of an evidence 10 that was filed meanwhile.
    """
    moved = tx.deliveries.decide_all([end.ending for one in decided for end in one.ends])
    decided = [
        replace(one, ends=[end for end in one.ends if end.ending.delivery_id in moved]) for one in decided
    ]
    due = tx.evidence.end_receipts([e.evidence_id for one in decided for e in one.ahead.receipts])
    told = [
        (e.account_id, e.event_time, receipts[e.evidence_id])
        for one in decided for e in _told(one, due) if e.account_id
    ]  # fmt: skip
    ends = [end for one in decided for end in one.ends]
    contents: list[tuple[Blob, bytes | None]] = [(end.blob, None) for end in ends]
    contents += [(one.built.blob, one.built.index) for one in decided if one.built.index is not None]
    contents += [(receipt.blob, receipt.index) for _, _, receipt in told]
    tx.blobs.add_all(contents)
    dispatches = name_dispatches(tx, [(one.ahead.message, one.built) for one in decided])
    tx.evidence.add_all([(end.evidence, end.ers) for end in ends])
    filings = [
        filing
        for one, dispatch in zip(decided, dispatches, strict=True) for filing in _received(one, dispatch)
    ]  # fmt: skip
    filings += [receipt_filing(account_id, receipt.blob, at) for account_id, at, receipt in told]
    tx.mailboxes.file_all(filings)
    _finish_all([one.ahead.message for one in decided], tx)


def _told(of: _Decided, due: AbstractSet[str]) -> Iterator[StoredEvidence]:
    """Yield the evidence whose receipts are filed now, in the order of the events."""
    yield from (evidence for evidence in of.ahead.receipts if evidence.evidence_id in due)
    yield from (end.evidence for end in of.ends)


def _received(of: _Decided, dispatch: Blob) -> Iterator[Filing]:
    for end in of.ends:
        if end.inbox:
            at, whose = end.ending.at, end.ending.delivery_id
            item = NewItem(dispatch.sha256, dispatch.size, at, delivery_id=whose)
            yield Filing(end.inbox, FolderRole.INBOX, item)


def _finish_all(messages: Sequence[Submission], tx: Tx) -> None:
    """End the work here: messages are complete, or wait for peers alone (their transfers are due)."""
    deliveries = tx.deliveries.of_messages([message.message_id for message in messages])
    closed = close_decided(tx, deliveries)
    for message_id, all_of in deliveries.items():
        if message_id not in closed and not _pending(all_of):
            tx.messages.due(message_id, None, 0)
