"""A peer's dispatch: evidence 20 or 21 for each recipient of ours, durable before the peer hears 250.

The envelope only carries; who gets the message is what its evidence 10 says, so a hop that splits or repeats
it changes nothing (KEP-MS-13). Unknown and blocked recipients get 21, the others 20; 40 or 41 follow.

The peer's evidence 10 is entered with the message that we take, as its receipts are: so it is in the ledger,
archived and renewed like our own (KEP-RT-01). Of a message that we turn away nothing of the peer's is kept.

spec: KEP-EV-20, KEP-EV-21, KEP-EV-02 (index), KEP-CL-07, KEP-RT-01, R-03, R-15, R-18.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from directory.accounts import Account
from directory.addresses import AddressError, KepAddress
from directory.providers import ProviderRegister, Served
from evidence.forms.serialise import profile_of_root
from evidence.mail.mime import decoded_size
from evidence.model.records import (
    Authentication,
    EvidenceKind,
    EvidenceRecord,
    Party,
    Profile,
    Reason,
    SealedEvidence,
)
from evidence.ports import ByteSource, Sealing
from evidence.xml.reader import parse_xml
from kephs.domain.lifecycle import DeliveryState, MessageEvent, MessageState, advance_message
from kephs.domain.message_index import encode as encode_index
from kephs.domain.messages import Delivery, Recipient, Role, StoredEvidence, Submission
from kephs.domain.policy import Limits
from kephs.domain.refusals import TEXTS, Refusal, RefusalCode
from kephs.ports import (
    Blob,
    BlobStore,
    Changes,
    DuplicateEvidenceError,
    Ids,
    Offload,
    Scanner,
    Store,
    Tx,
)
from kephs.usecases.delivery.deliver import REFUSED_BY_STATE
from kephs.usecases.mailbox.source_range import SourceRange
from kephs.usecases.records import RecordMaker, received, stored
from kephs.usecases.relay.inspect_sealed import Sealed
from kephs.usecases.submission.evidence_form import form_for_origin
from kephs.usecases.submission.results import Arriving, Taken

_UNSPECIFIED: Final = "urn:oasis:names:tc:SAML:2.0:ac:classes:unspecified"


@dataclass(frozen=True, slots=True)
class _Ours:
    """One recipient of ours: position in the evidence (1-based), and why they cannot have it."""

    number: int
    address: KepAddress
    account: Account | None
    refusal: Refusal | None


@dataclass(frozen=True, slots=True)
class _Said:
    """What one evidence says, of a recipient, of several that it lists, or (neither) of all."""

    number: int | None
    covers: tuple[int, ...]
    refusal: Refusal | None


@dataclass(frozen=True, slots=True)
class TakeDispatch:
    """Takes a message that a peer relays to us. Safe to repeat: the first answer is given again."""

    store: Store
    blobs: BlobStore
    sealer: Sealing
    records: RecordMaker
    scanner: Scanner | None
    register: ProviderRegister
    limits: Limits
    offload: Offload
    changes: Changes
    ids: Ids

    async def take(self, found: Sealed, arriving: Arriving) -> Taken | Refusal:
        """Make 20 and 21 durable with the message, or 21 alone where nobody can have it.

        Raises:
            TimestampUnavailableError, SignerUnavailableError, ScannerUnavailableError, StoreUnavailableError:
                nothing was taken; the peer tries again.
        """
        addresses = _addresses(found.record, self.register)
        if not any(a is not None and self.register.served(a) is Served.HERE for a in addresses):
            return Refusal(RefusalCode.NOT_SERVED_HERE)
        known, earlier = await self.store.read(lambda tx: self._look(tx, found, addresses))
        if earlier is not None:
            return earlier
        refusal = found.fault or await self._refusal(found, arriving, addresses)
        ours = [
            self._judged(number, address, known, refusal)
            for number, address in _here(addresses, self.register)
        ]
        message = self._message(found, addresses, arriving)
        if all(one.refusal is not None for one in ours):
            return await self._turn_away(found, message, ours)
        return await self._take_over(found, arriving, message, ours)

    # --- facts and decision -------------------------------------------------------------------

    def _look(
        self, tx: Tx, found: Sealed, addresses: Sequence[KepAddress | None]
    ) -> tuple[Mapping[str, Account], Taken | None]:
        here = [str(address) for _, address in _here(addresses, self.register)]
        return tx.accounts.by_addresses(here), self._repeated(tx, found)

    def _repeated(self, tx: Tx, found: Sealed) -> Taken | None:
        """Return the first answer to the same message with the same original (R-15)."""
        message_id = found.record.message.kep_message_id
        message = tx.messages.get(message_id)
        if message is None or found.fault is not None:
            return None
        if message.digest_sha256 != found.check.original_sha256:
            return None
        first = min(_relay_evidence(tx, message_id), key=lambda one: one.number or 0, default=None)
        return Taken(first.evidence_id, message_id) if first is not None else None

    async def _refusal(
        self, found: Sealed, arriving: Arriving, addresses: Sequence[KepAddress | None]
    ) -> Refusal | None:
        """Return why nobody can have it."""
        known = await self.store.read(lambda tx: tx.messages.get(found.record.message.kep_message_id))
        strangers = self._folded(arriving.envelope_to) - {str(address) for address in addresses}
        for holds, code in (
            (known is not None, RefusalCode.DUPLICATE_ID),  # another original under the same id
            (None in addresses, RefusalCode.RECIPIENT_NOT_KEP),
            (len(addresses) > self.limits.max_recipients, RefusalCode.TOO_MANY_RECIPIENTS),
            (bool(strangers) or len(set(addresses)) < len(addresses), RefusalCode.RECIPIENTS_DIFFER),
        ):
            if holds:
                return Refusal(code)
        original = _original(found, arriving)
        size = await self.offload.run(_content_size, found, arriving)
        if size > self.limits.max_elsewhere:
            return Refusal(RefusalCode.TOO_BIG_FOR_PROVIDER, str(size))
        if self.scanner is not None:
            verdict = await self.scanner.scan(original)
            if not verdict.clean:
                return Refusal(RefusalCode.MALWARE, verdict.name)
        return None

    def _folded(self, addresses: Sequence[str]) -> set[str]:
        folded = set()
        for address in addresses:
            try:
                folded.add(str(self.register.parse(address)))
            except AddressError:
                folded.add(address)
        return folded

    def _judged(
        self, number: int, address: KepAddress, known: Mapping[str, Account], refusal: Refusal | None
    ) -> _Ours:
        account = known.get(str(address))
        code = REFUSED_BY_STATE.get(account.state if account else None)
        if refusal is None and code is not None:
            refusal = Refusal(code)
        return _Ours(number, address, account, refusal)

    # --- outcomes -----------------------------------------------------------------------------

    async def _turn_away(self, found: Sealed, message: Submission, ours: Sequence[_Ours]) -> Taken:
        state = advance_message(MessageState.RECEIVED, MessageEvent.TURN_AWAY).state
        message = replace(message, state=state, dispatch=None, next_at=None)
        sealed, contents = await self._seal(message, ours, found)

        def commit(tx: Tx) -> Taken:
            repeated = self._repeated(tx, found)
            if repeated is not None:  # the same message came twice at the same moment
                return repeated
            if tx.messages.get(message.message_id) is None:
                tx.messages.add(message)
            return _add_evidence(tx, message, sealed, contents)

        try:
            taken = await self.store.write(commit)
        except DuplicateEvidenceError:  # this id was refused before, whatever came under it
            said = {(one.record.kind, one.record.refers_to) for one in sealed}
            earlier = await self.store.read(lambda tx: _relay_evidence(tx, message.message_id))
            first = next(one for one in earlier if (one.kind, one.number) in said)
            return Taken(first.evidence_id, message.message_id)
        self.changes.publish(())  # nobody's folder changed, but the receipt is due
        return taken

    async def _take_over(
        self, found: Sealed, arriving: Arriving, message: Submission, ours: Sequence[_Ours]
    ) -> Taken | Refusal:
        state = advance_message(MessageState.RECEIVED, MessageEvent.TAKE_OVER).state
        index = encode_index(arriving.spool.source(), found.root)
        blob = await self.blobs.keep(arriving.spool)
        message = replace(message, state=state, dispatch=blob.sha256)
        sealed, (theirs, *contents) = await self._seal(message, ours, found, beside=[found.xml])
        profile = profile_of_root(parse_xml(found.xml))
        ten = received(found.record, message, theirs, peer=found.peer.domain, profile=profile)

        def commit(tx: Tx) -> Taken | None:
            repeated = self._repeated(tx, found)
            if repeated is not None:  # the same message came twice at the same moment
                return repeated
            if tx.messages.get(message.message_id) is not None:
                return None
            tx.blobs.add(blob, index)
            tx.messages.add(message)
            for one in ours:
                if one.refusal is None:
                    tx.deliveries.add(self._delivery(message, one))
            _enter(tx, ten, theirs, found.ers)
            return _add_evidence(tx, message, sealed, contents)

        outcome = await self.store.write(commit)
        if outcome is None:  # another original came under this id at the same moment, and was first
            return await self.take(found, arriving)
        self.changes.publish({one.account.account_id for one in ours if one.account is not None})
        return outcome

    async def _seal(
        self, message: Submission, ours: Sequence[_Ours], found: Sealed, beside: Sequence[bytes] = ()
    ) -> tuple[list[SealedEvidence], list[Blob]]:
        """Seal what each evidence says; it names all recipients as evidence 10 does, whatever they are.

        Returns:
            What is sealed, and the blobs: those of ``beside`` first, then those of each evidence.
        """
        named, peer = found.record.recipients, Party(found.peer.service_address, found.peer.name)
        form = form_for_origin(self.register, message.origin)
        made = [
            replace(
                self.records.make(
                    _kind(said.refusal),
                    message,
                    number=said.number,
                    reasons=_reasons(said.refusal),
                    recipients=named,
                    other_party=peer,
                ),
                covers=said.covers,
            )
            for said in _about(len(named), ours, form.profile)
        ]
        sealed = await self.sealer.seal_many(made, profile=form.profile, stamping=form.stamping)
        return sealed, await self.blobs.put_many([*beside, *(one.xml for one in sealed)])

    # --- rows ---------------------------------------------------------------------------------

    def _message(
        self, found: Sealed, addresses: Sequence[KepAddress | None], arriving: Arriving
    ) -> Submission:
        record = found.record
        recipients = tuple(
            Recipient(address, party.name, Role.TO)
            for address, party in zip(addresses, record.recipients, strict=True)
            if address is not None
        )
        return Submission(
            message_id=record.message.kep_message_id,
            account_id=None,
            operator_id=None,
            state=MessageState.RECEIVED,
            user_message_id=record.message.user_message_id,
            digest_sha256=record.message.digest_sha256,
            digest_sha512=b"",
            size=arriving.spool.source().size,
            subject=record.message.subject,
            sender=record.sender,
            recipients=recipients,
            authentication=record.sender_authentication
            or Authentication(record.submission_time, _UNSPECIFIED),
            submitted_at=record.submission_time,
            material=None,
            next_at=arriving.received_at,
            origin=found.peer.domain,
        )

    def _delivery(self, message: Submission, one: _Ours) -> Delivery:
        account_id = one.account.account_id if one.account is not None else None
        return Delivery(
            self.ids.new(),
            message.message_id,
            one.number,
            str(one.address),
            account_id,
            DeliveryState.PENDING,
        )


def _addresses(record: EvidenceRecord, register: ProviderRegister) -> list[KepAddress | None]:
    parsed: list[KepAddress | None] = []
    for party in record.recipients:
        try:
            parsed.append(register.parse(party.address))
        except AddressError:
            parsed.append(None)
    return parsed


def _here(addresses: Sequence[KepAddress | None], register: ProviderRegister) -> list[tuple[int, KepAddress]]:
    return [
        (number, address)
        for number, address in enumerate(addresses, 1)
        if address is not None and register.served(address) is Served.HERE
    ]


def _original(found: Sealed, arriving: Arriving) -> ByteSource:
    assert found.check.message is not None
    original = found.check.message.original
    assert original is not None
    return SourceRange(arriving.spool.source(), original.start, original.length)


def _content_size(found: Sealed, arriving: Arriving) -> int:
    """Return the decoded size of the original, as its sender's provider counted it (D15)."""
    part = next(part for part in found.root.children[0].children if part.message is not None)
    assert part.message is not None
    original = part.message
    counted = original.children[0] if original.children else original
    return decoded_size(arriving.spool.source(), counted)


def _about(named: int, ours: Sequence[_Ours], profile: Profile) -> list[_Said]:
    """Return what each evidence says (KEP-EV-02).

    One without an index where all recipients fare alike. Else one for each recipient in TS XML; EN XML can
    list several: one for those who get it, one for those refused for the most frequent reason.
    """
    fates: dict[Refusal | None, list[int]] = {}
    for one in ours:
        fates.setdefault(one.refusal, []).append(one.number)
    if len(ours) == named and len(fates) == 1:
        return [_Said(None, (), ours[0].refusal)]
    together: set[Refusal | None] = set()
    if (
        profile is Profile.REM_BASELINE
    ):  # evidence of ours is unique by kind and index: one list for each kind
        refusals = sorted((fate for fate in fates if fate is not None), key=lambda fate: -len(fates[fate]))
        together = {fate for fate in (None, *refusals[:1]) if len(fates.get(fate, ())) > 1}
    lists = [_Said(None, tuple(fates[fate]), fate) for fate in fates if fate in together]
    return lists + [_Said(one.number, (), one.refusal) for one in ours if one.refusal not in together]


def _kind(refusal: Refusal | None) -> EvidenceKind:
    return EvidenceKind.RELAY_ACCEPTANCE if refusal is None else EvidenceKind.RELAY_REJECTION


def _reasons(refusal: Refusal | None) -> tuple[Reason, ...]:
    if refusal is None:
        return ()
    text = TEXTS[refusal.code]
    assert text.reason is not None, refusal.code
    return (Reason(text.reason, f"{refusal.code.value}: {text.english}"),)


def _relay_evidence(tx: Tx, message_id: str) -> list[StoredEvidence]:
    return [
        one
        for one in tx.evidence.of_message(message_id)
        if one.origin is None and one.kind in (EvidenceKind.RELAY_ACCEPTANCE, EvidenceKind.RELAY_REJECTION)
    ]


def _enter(tx: Tx, evidence: StoredEvidence, blob: Blob, ers: bytes | None) -> None:
    """Enter the peer's evidence 10.

    A peer that gives one id twice has entered the first alone; the second stays inside its KEP message. What
    stands is never overwritten, and the recipient has no part in that fault: they get their message.
    """
    if tx.evidence.get(evidence.evidence_id) is not None:
        return
    tx.blobs.add(blob)
    with suppress(DuplicateEvidenceError):  # taken at this very moment; the blob is collected as garbage
        tx.evidence.add(evidence, ers)


def _add_evidence(
    tx: Tx, message: Submission, sealed: Sequence[SealedEvidence], contents: Sequence[Blob]
) -> Taken:
    for one, blob in zip(sealed, contents, strict=True):
        tx.blobs.add(blob)
        tx.evidence.add(stored(one, message, blob, receipt_due=one.record.event_time), one.ers)
    return Taken(sealed[0].record.evidence_id, message.message_id)
