"""Relay: hands KEP messages to peers, tries again, gives up at the deadline. One transfer at a time.

spec: KEP-MS-12, KEP-MS-13 (a repeated hand-over is harmless), rem-formats §5.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from directory.providers import Peer, Profile, ProviderRegister
from evidence.mail.mime import Part, scan
from evidence.ports import ByteSource
from kephs.domain.lifecycle import TransferEvent, TransferState, advance_transfer
from kephs.domain.messages import StoredEvidence, Submission, Transfer, TransferKind
from kephs.domain.relay import TROUBLES, Handed, Letter, NotHanded, RelayTrouble
from kephs.domain.relay_times import RelayTimes
from kephs.ports import Blob, BlobMissingError, BlobStore, Clock, Courier, Offload, Store, Tx
from kephs.usecases.delivery.dispatch import DispatchMaker, label_of
from kephs.usecases.delivery.face import FaceMaker
from kephs.usecases.records import RecordMaker, receipt_recipient
from kephs.usecases.relay.give_up import GiveUp

HOLD: Final = timedelta(seconds=30)
"""How long what waits for a fresh register of providers is left alone."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """What the store holds about one transfer."""

    current: Transfer | None
    message: Submission
    recipients: tuple[str, ...]
    evidence: StoredEvidence | None
    blob: Blob | None


@dataclass(frozen=True, slots=True)
class Relay:
    """Hands one transfer over. Safe to repeat at any point: the peer answers the same bytes alike."""

    store: Store
    blobs: BlobStore
    dispatches: DispatchMaker
    records: RecordMaker
    register: ProviderRegister
    courier: Courier
    give_up: GiveUp
    offload: Offload
    clock: Clock
    times: RelayTimes

    async def send(self, transfer: Transfer) -> None:
        """Try once, and store what came of it.

        Raises:
            TimestampUnavailableError, SignerUnavailableError, StoreUnavailableError: try again later.
            BlobMissingError: content is gone; fsck names it.
        """
        rows = await self.store.read(lambda tx: _rows(tx, transfer))
        if rows.current is None or rows.current.state is not TransferState.QUEUED:
            return  # held meanwhile, or the peer's evidence came before its 250 was heard
        if self.register.stale():  # list out of date: hold, no 31 (rem-formats §9)
            await self.store.write(lambda tx: _hold(tx, transfer, self.clock.now()))
            return
        if self.clock.now() >= transfer.deadline and not _untried(transfer):
            await self._give_up(transfer, NotHanded(_last_trouble(transfer, self.register)))
            return
        outcome = await self._hand_over(rows, transfer)
        if outcome is None:
            return
        if isinstance(outcome, Handed):
            await self._handed(transfer)
        elif TROUBLES[outcome.trouble].final:
            await self._give_up(replace(transfer, attempts=transfer.attempts + 1), outcome)
        else:
            await self._postpone(transfer, outcome)

    async def _hand_over(self, rows: _Rows, transfer: Transfer) -> Handed | NotHanded | None:
        """Return what came of it; None where somebody else moved the transfer meanwhile."""
        peer = self.register.peers.get(transfer.peer)
        if peer is None:
            return NotHanded(RelayTrouble.UNKNOWN_PEER)
        letter = await self._letter(rows, transfer, peer)
        return None if letter is None else await self.courier.hand_over(peer, letter)

    async def _letter(self, rows: _Rows, transfer: Transfer, peer: Peer) -> Letter | None:
        if rows.evidence is not None:  # a receipt: 7 bit by construction, from nobody
            if rows.blob is None:
                raise BlobMissingError(rows.evidence.evidence_id)
            whom = receipt_recipient(rows.evidence.kind, rows.message.sender.address, peer.service_address)
            return Letter("", (whom,), self.blobs.open(rows.blob))
        dispatch = await self._dispatch(rows, transfer, peer)
        if dispatch is None:
            return None
        content = self.blobs.open(dispatch)
        needs_8bit = await self.offload.run(label_of, content) != "7bit"
        needs_utf8 = needs_8bit and await self.offload.run(_has_raw_header, content)
        return Letter(
            self.records.issuer.address, rows.recipients, content,
            needs_8bit=needs_8bit, needs_utf8=needs_utf8,
        )  # fmt: skip

    async def _dispatch(self, rows: _Rows, transfer: Transfer, peer: Peer) -> Blob | None:
        """Return the message in the form that the peer reads; a try after the first sends the same bytes."""
        if rows.blob is not None:
            return rows.blob
        if peer.profile is Profile.REM_BASELINE:
            return await FaceMaker(self.dispatches).face(rows.message, transfer)
        return await self.dispatches.dispatch(rows.message)

    async def _handed(self, transfer: Transfer) -> None:
        now = self.clock.now()
        if transfer.kind is TransferKind.RECEIPT:
            state = advance_transfer(transfer.state, TransferEvent.HAND_OVER_RECEIPT)
            after = replace(transfer, state=state, next_at=None, cause="", handed_at=now)
        else:
            state = advance_transfer(transfer.state, TransferEvent.HAND_OVER)
            until = now + self.times.no_answer
            after = replace(transfer, state=state, next_at=until, deadline=until, cause="", handed_at=now)
        await self.store.write(lambda tx: _save(tx, after, transfer.state))

    async def _postpone(self, transfer: Transfer, outcome: NotHanded) -> None:
        now = self.clock.now()
        at = self.times.next_try(transfer.transfer_id, transfer.attempts, now, transfer.deadline)
        after = replace(transfer, next_at=at, attempts=transfer.attempts + 1, cause=outcome.trouble.value)
        await self.store.write(lambda tx: tx.transfers.save(after, transfer.state))

    async def _give_up(self, transfer: Transfer, outcome: NotHanded) -> None:
        if transfer.kind is TransferKind.DISPATCH:
            await self.give_up.on_handing_over(transfer, outcome.trouble, outcome.detail)
            return
        state = advance_transfer(transfer.state, TransferEvent.GIVE_UP)
        after = replace(transfer, state=state, next_at=None, cause=outcome.trouble.value)
        await self.store.write(lambda tx: tx.transfers.save(after, transfer.state))


@dataclass(frozen=True, slots=True)
class Wait:
    """Ends the wait for a peer's evidence when its deadline has come."""

    store: Store
    give_up: GiveUp
    register: ProviderRegister
    clock: Clock

    async def end(self, transfer: Transfer) -> None:
        """Make 31, or 41 with reason 9, for the recipients that are still open.

        Raises:
            TimestampUnavailableError, SignerUnavailableError, StoreUnavailableError: try again later.
        """
        if self.register.stale():  # whom to trust is unknown: that is no fault of the recipient's provider
            await self.store.write(lambda tx: _hold(tx, transfer, self.clock.now()))
        elif transfer.kind is TransferKind.RECEIPT:  # held beyond its deadline
            state = advance_transfer(transfer.state, TransferEvent.GIVE_UP)
            after = replace(transfer, state=state, next_at=None)
            await self.store.write(lambda tx: tx.transfers.save(after, transfer.state))
        elif transfer.state is TransferState.ANSWERED:
            await self.give_up.on_delivery_info(transfer)
        elif transfer.state is TransferState.HANDED:
            await self.give_up.on_handing_over(transfer, RelayTrouble.NO_ANSWER, "")
        else:
            await self.give_up.on_handing_over(transfer, RelayTrouble.HELD, "")


def _save(tx: Tx, after: Transfer, before: TransferState) -> bool:
    """Save a transfer with the content it has by now, so that what is let go is known.

    False where the peer's evidence overtook its own 250: then the transfer is further already.
    """
    current = tx.transfers.get(after.transfer_id)
    return current is not None and tx.transfers.save(replace(after, blob=current.blob), before)


def _untried(transfer: Transfer) -> bool:
    """Say whether the deadline passed while we stood still: that is no fault of the peer (KEP-EV-31)."""
    return transfer.state is TransferState.QUEUED and not transfer.attempts


def _last_trouble(transfer: Transfer, register: ProviderRegister) -> RelayTrouble:
    """Return why it was not handed over so far."""
    if transfer.cause:
        return RelayTrouble(transfer.cause)
    known = transfer.peer in register.peers
    return RelayTrouble.NO_CONNECTION if known else RelayTrouble.UNKNOWN_PEER


def _hold(tx: Tx, transfer: Transfer, now: datetime) -> None:
    """Wait for a fresh register; the time spent waiting for it does not count."""
    after = replace(
        transfer,
        next_at=now + HOLD,
        deadline=transfer.deadline + HOLD,
        cause=RelayTrouble.REGISTER_STALE.value,
    )
    tx.transfers.save(after, transfer.state)


def _rows(tx: Tx, transfer: Transfer) -> _Rows:
    message = tx.messages.get(transfer.message_id)
    assert message is not None  # the row refers to it
    deliveries = tx.deliveries.of_message(transfer.message_id)
    current = tx.transfers.get(transfer.transfer_id)
    return _Rows(
        current,
        message,
        tuple(d.address for d in deliveries if d.peer == transfer.peer),
        tx.evidence.get(transfer.evidence_id) if transfer.evidence_id else None,
        tx.blobs.get(current.blob) if current is not None and current.blob else None,
    )


def _has_raw_header(content: ByteSource) -> bool:
    """Say whether a header field, of the message or of one inside it, has octets above 127 (RFC 6532)."""
    waiting: list[Part] = [scan(content)]
    while waiting:
        part = waiting.pop()
        if not content.read(part.header.start, part.header.length).isascii():
            return True
        waiting += part.children
        if part.message is not None:
            waiting.append(part.message)
    return False
