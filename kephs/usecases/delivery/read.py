"""The read gate: evidence 60 is durable before one byte of content is shown.

spec: KEP-LM-05, KEP-LM-06, KEP-EV-60, rules-in-detail "The read gate".
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from directory.accounts import Account
from directory.providers import ProviderRegister
from evidence.model.records import Authentication, EvidenceKind, EvidenceRecord, Party, SealedEvidence
from evidence.ports import Sealing, SignerUnavailableError, TimestampUnavailableError
from kephs.domain.lifecycle import DeliveryEvent, DeliveryState, advance_delivery
from kephs.domain.messages import Delivery, Person, Submission
from kephs.ports import Blob, BlobStore, Changes, Store, StoreUnavailableError, Tx
from kephs.usecases.people.sign_in import still_signed_in
from kephs.usecases.records import RecordMaker, stored
from kephs.usecases.submission.evidence_form import EvidenceForm, form_for_origin

_Pending = tuple[Delivery, Submission]
_CANNOT_SEAL: Final = (TimestampUnavailableError, SignerUnavailableError, StoreUnavailableError)


class Reader:
    """Makes evidence 60 for first readings."""

    def __init__(
        self, *, store: Store, blobs: BlobStore, sealer: Sealing, records: RecordMaker, changes: Changes,
        register: ProviderRegister,
    ) -> None:  # fmt: skip
        self._store, self._blobs, self._sealer = store, blobs, sealer
        self._records, self._changes, self._register = records, changes, register

    async def expose(self, person: Person, delivery_ids: Sequence[str]) -> frozenset[str]:
        """Return which deliveries may be shown now: their evidence 60 exists and is durable.

        Where sealing or the store fails, the delivery is left out; nothing is raised for that.
        Deliveries of other accounts are left out too.
        """
        try:
            account, pending, done = await self._store.read(lambda tx: _split(tx, person, delivery_ids))
            if not pending or account is None:
                return done
            records = [self._record(person, account, delivery, of) for delivery, of in pending]
            sealed = await self._seal(records, pending)
            blobs = await self._blobs.put_many([one.xml for one in sealed])
            await self._store.write(lambda tx: _commit(tx, pending, sealed, blobs))
        except _CANNOT_SEAL:
            return await self._already_read(person, delivery_ids)
        self._changes.publish({person.account_id, *(of.account_id for _, of in pending if of.account_id)})
        return done | {delivery.delivery_id for delivery, _ in pending}

    async def _seal(
        self, records: Sequence[EvidenceRecord], pending: Sequence[_Pending]
    ) -> list[SealedEvidence]:
        """Seal together what is sealed alike, and return it in the order of the records."""
        groups: dict[EvidenceForm, list[EvidenceRecord]] = {}
        for record, (_, of) in zip(records, pending, strict=True):
            groups.setdefault(form_for_origin(self._register, of.origin), []).append(record)
        made: dict[str, SealedEvidence] = {}
        for form, group in groups.items():
            sealed = await self._sealer.seal_many(group, profile=form.profile, stamping=form.stamping)
            made |= {one.record.evidence_id: one for one in sealed}
        return [made[record.evidence_id] for record in records]

    def _record(self, person: Person, account: Account, delivery: Delivery, of: Submission) -> EvidenceRecord:
        step = advance_delivery(delivery.state, DeliveryEvent.EXPOSE)
        assert step.evidence is EvidenceKind.RETRIEVAL
        acts_for_another = person.name != account.holder_name
        return self._records.make(
            step.evidence,
            of,
            number=delivery.number,
            reader=_named(person),
            delegate=Party(delivery.address, person.name) if acts_for_another else None,
        )

    async def _already_read(self, person: Person, delivery_ids: Sequence[str]) -> frozenset[str]:
        try:
            return (await self._store.read(lambda tx: _split(tx, person, delivery_ids)))[2]
        except StoreUnavailableError:
            return frozenset()


def _named(person: Person) -> Authentication:
    return replace(person.authentication, person=person.name)


def _split(
    tx: Tx, person: Person, delivery_ids: Sequence[str]
) -> tuple[Account | None, list[_Pending], frozenset[str]]:
    pending: list[_Pending] = []
    done: set[str] = set()
    if not still_signed_in(tx, person):
        return None, [], frozenset()
    for delivery_id in dict.fromkeys(delivery_ids):
        delivery = tx.deliveries.get(delivery_id)
        if delivery is None or delivery.account_id != person.account_id:
            continue
        if not delivery.gated:
            done.add(delivery_id)
            continue
        of = tx.messages.get(delivery.message_id)
        if of is not None and delivery.state is DeliveryState.DELIVERED:
            pending.append((delivery, of))
    return tx.accounts.get(person.account_id), pending, frozenset(done)


def _commit(
    tx: Tx, pending: Sequence[_Pending], sealed: Sequence[SealedEvidence], blobs: Sequence[Blob]
) -> None:
    for (delivery, of), evidence, blob in zip(pending, sealed, blobs, strict=True):
        if not tx.deliveries.read(delivery.delivery_id, evidence.record.evidence_id):
            continue  # another session was first: its evidence stands, ours is never stored
        tx.blobs.add(blob)
        tx.evidence.add(stored(evidence, of, blob, receipt_due=evidence.record.event_time), evidence.ers)
