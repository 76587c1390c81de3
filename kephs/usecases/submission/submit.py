"""Submission: facts, decision, evidence, one transaction, answer. In that order, always.

The sender's signature gets a time stamp of ours in the same turn as evidence 10
(`kephs.usecases.submission.reception`);
a certificate that signs for the account the first time is bound in the transaction that accepts its message.

spec: KEP-EV-03, KEP-EV-04, KEP-NE-08, R-15, architecture "Life of a message" 1-7.
"""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256, sha512
from typing import Final

from directory.accounts import Account, Right
from directory.providers import ProviderRegister
from evidence.mail.tree import tree_text
from evidence.model.records import Authentication, Issuer, Party, Reason, SealedEvidence
from evidence.nes.qualified import NesPolicy
from evidence.nes.verifier import Prepared, SenderReport, conclude, prepare
from evidence.ports import ByteSource, Sealing, SignerUnavailableError, TimestampUnavailableError
from evidence.x509.chain import TrustStore
from kephs.domain.lifecycle import (
    DeliveryState,
    MessageEvent,
    MessageState,
    MessageStep,
    TransferState,
    advance_message,
)
from kephs.domain.mailboxes import FolderRole, NewItem
from kephs.domain.message_index import header_of
from kephs.domain.message_index import join as join_index
from kephs.domain.messages import Delivery, Recipient, Submission, Transfer, TransferKind
from kephs.domain.policy import Facts, Limits, SenderFacts, SignatureFacts, decide, decide_late
from kephs.domain.refusals import TEXTS, Refusal, RefusalCode
from kephs.domain.relay_times import RelayTimes
from kephs.ports import (
    Blob,
    BlobStore,
    Changes,
    Clock,
    IdentityKeeper,
    Ids,
    Offload,
    Revocation,
    Scanner,
    ScannerUnavailableError,
    Spool,
    Store,
    StoreUnavailableError,
    Tx,
)
from kephs.usecases.delivery.fresh import FreshEvidence
from kephs.usecases.records import RecordMaker, stored
from kephs.usecases.sized import HERE_MAX, run_sized
from kephs.usecases.submission.evidence_form import form_of_acceptance
from kephs.usecases.submission.form import Form, read_form
from kephs.usecases.submission.material import encode_material
from kephs.usecases.submission.reception import SealedReception, Together, seal_reception
from kephs.usecases.submission.results import Accepted, Incoming, Refused
from kephs.usecases.submission.rows import Earlier, Known, bind, earlier_of, look
from kephs.usecases.submission.signers import BindingRule, SignerDecision, judge_signers

RECEIPT_GRACE: Final = timedelta(seconds=30)
_SEALED_OFF: Final = Refused(Refusal(RefusalCode.SEALING_UNAVAILABLE))


@dataclass(frozen=True, slots=True)
class SubmitSettings:
    """What a provider decides about submission."""

    issuer: Issuer
    register: ProviderRegister
    limits: Limits
    nes_policy: NesPolicy
    times: RelayTimes = field(default_factory=RelayTimes)
    binding: BindingRule = BindingRule.FIRST_USE


@dataclass(frozen=True, slots=True)
class _Content:
    """A message's octets: durable as ``blob``, or ``small`` and to become so with the evidence about them."""

    sha256: bytes
    size: int
    blob: Blob | None
    small: bytes = b""

    def sha512(self) -> bytes:
        """Return the other digest, which whoever makes small content durable computes anyway."""
        return sha512(self.small).digest() if self.blob is None else self.blob.sha512


@dataclass(frozen=True, slots=True)
class _Draft:
    """What is known once form and account have been looked at."""

    incoming: Incoming
    known: Known
    content: _Content
    source: ByteSource
    form: Form

    @property
    def account(self) -> Account:
        return self.known.account


@dataclass(frozen=True, slots=True)
class _Signed:
    """A sender's signature that was looked at; ``digest`` of its SignedData, None where none was read."""

    report: SenderReport
    digest: bytes | None
    signers: SignerDecision


class Submit:
    """Takes one message of a signed-in person. Evidence 10 or 11 is durable before it answers."""

    def __init__(
        self, *, store: Store, blobs: BlobStore, sealer: Sealing, revocation: Revocation,
        scanner: Scanner | None,
        identity: IdentityKeeper, offload: Offload, clock: Clock, ids: Ids, changes: Changes,
        trust: TrustStore, settings: SubmitSettings, fresh: FreshEvidence, together: Together,
    ) -> None:  # fmt: skip
        self._store, self._blobs, self._sealer, self._changes = store, blobs, sealer, changes
        self._revocation, self._scanner, self._identity = revocation, scanner, identity
        self._offload, self._ids, self._fresh = offload, ids, fresh
        self._trust, self._settings, self._together = trust, settings, together
        self._policies = {  # by whether the account may use seals
            seals: replace(settings.nes_policy, allow_seals=settings.nes_policy.allow_seals and seals)
            for seals in (False, True)
        }
        self._records = RecordMaker(settings.issuer, settings.register.own, clock, ids)

    async def submit(self, incoming: Incoming) -> Accepted | Refused:
        """Accept or refuse a message; a temporary refusal leaves no trace and no evidence."""
        try:
            return await self._submit(incoming)
        except StoreUnavailableError as error:
            return Refused(Refusal(RefusalCode.STORE_UNAVAILABLE, str(error)))
        except ScannerUnavailableError as error:
            return Refused(Refusal(RefusalCode.SCANNER_UNAVAILABLE, str(error)))
        except (TimestampUnavailableError, SignerUnavailableError) as error:
            return Refused(replace(_SEALED_OFF.refusal, detail=str(error)))

    async def _submit(self, incoming: Incoming) -> Accepted | Refused:
        source = incoming.spool.source()
        settings = self._settings
        form = await run_sized(
            self._offload, source.size,
            read_form, incoming, source, settings.register, settings.nes_policy.limits,
        )  # fmt: skip
        content = await self._content(incoming.spool, source)
        known = await self._store.read(lambda tx: look(tx, incoming.person, form))
        if known is None:  # the account or the app password went between login and message
            return Refused(Refusal(RefusalCode.NO_RIGHT_TO_SEND))
        draft = _Draft(incoming, known, content, source, form)
        if known.earlier is not None:
            return await self._answer_again(draft, known.earlier)
        return await self._decide(draft)

    async def _content(self, spool: Spool, source: ByteSource) -> _Content:
        """Make large content durable; small content waits for its evidence, and shares one sync with it."""
        if source.size <= HERE_MAX:
            data = source.read(0, source.size)
            return _Content(sha256(data).digest(), len(data), None, data)
        blob = await self._blobs.keep(spool)
        return _Content(blob.sha256, blob.size, blob)

    async def _answer_again(self, draft: _Draft, earlier: Earlier) -> Accepted | Refused:
        """Same Message-ID: same bytes get the first answer, other bytes are refused (R-15)."""
        if earlier.digest == draft.content.sha256:
            return Accepted(earlier.evidence_id, earlier.message_id)
        return await self._refuse(draft, Refusal(RefusalCode.DUPLICATE_ID))

    # --- facts and decision -------------------------------------------------------------------

    async def _decide(self, draft: _Draft) -> Accepted | Refused:
        facts = self._form_facts(draft)
        refusal = decide(facts)
        signed = None
        if refusal is None:
            signed = await self._verify(draft)
            facts = Facts(facts.sender, facts.form, facts.limits, _signature_facts(signed))
            refusal = _with_finding(decide_late(facts), signed.report)
        if refusal is None and self._scanner is not None:
            verdict = await self._scanner.scan(draft.source)
            refusal = decide_late(replace(facts, malware="" if verdict.clean else verdict.name or "malware"))
        if refusal is None:
            assert signed is not None
            return await self._accept(draft, signed)
        if refusal.text.temporary:
            return Refused(refusal)
        return await self._refuse(draft, refusal)

    def _form_facts(self, draft: _Draft) -> Facts:
        account, person = draft.account, draft.incoming.person
        may_send = any(
            operator.operator_id == person.operator_id
            and operator.may(Right.SEND, draft.incoming.received_at)
            for operator in draft.known.operators
        )
        sender = SenderFacts(
            str(account.address), account.state, account.service, may_send,
            account.used_bytes, account.quota_bytes,
        )  # fmt: skip
        return Facts(sender, draft.form.facts, self._settings.limits)

    async def _verify(self, draft: _Draft) -> _Signed:
        at = draft.incoming.received_at
        prepared = await run_sized(self._offload, draft.source.size, self._prepare, draft)
        answers = {
            certificate.sha256: await self._revocation.status(certificate, issuer, at)
            for certificate, issuer in prepared.needs
        }
        report = conclude(prepared, answers, at)
        signers = judge_signers(
            report.signers, draft.known.operators, draft.known.certificates, draft.account,
            mac=self._identity.mac, at=at, rule=self._settings.binding,
        )  # fmt: skip
        return _Signed(report, prepared.signature_sha256, signers)

    def _prepare(self, draft: _Draft) -> Prepared:
        """Do all that needs no network, in one go: large content is worked on in another thread."""
        assert draft.form.root is not None  # policy refused it otherwise
        policy = self._policies[draft.account.seals_allowed]
        at = draft.incoming.received_at
        return prepare(draft.source, draft.form.root, trust=self._trust, policy=policy, at=at)

    # --- outcomes -----------------------------------------------------------------------------

    async def _accept(self, draft: _Draft, signed: _Signed) -> Accepted | Refused:
        assert draft.form.root is not None
        step = advance_message(MessageState.RECEIVED, MessageEvent.ACCEPT)
        submission = self._submission(draft, step)
        reception = await self._seal_reception(submission, step, signed)
        sealed, kept = reception.evidence, encode_material(signed.report, reception.record)
        blob, evidence_blob, material = await self._durable(draft.content, sealed.xml, kept)
        local = any(r.address.provider == self._settings.register.own for r in submission.recipients)
        submission = replace(
            submission, digest_sha512=blob.sha512, material=material.sha256,
            next_at=submission.next_at if local else None,
        )  # fmt: skip
        tree = tree_text(draft.form.root)
        index = join_index(header_of(draft.source, draft.form.root), tree)

        # delivery files the receipt with its own; the due time is for when it does not come to that
        due = sealed.record.event_time + (RECEIPT_GRACE if local else timedelta())
        evidence = stored(sealed, submission, evidence_blob, receipt_due=due)

        def commit(tx: Tx) -> Accepted | Earlier:
            earlier = earlier_of(tx, draft.account.account_id, submission.user_message_id)
            if earlier is not None:
                return earlier
            tx.blobs.add_all(((blob, index), (evidence_blob, None), (material, None)))
            tx.messages.add(submission)
            self._add_deliveries(tx, submission)
            self._add_transfers(tx, submission)
            tx.evidence.add(evidence, sealed.ers)
            self._file_sent(tx, draft, submission)
            for certificate in signed.signers.to_bind:
                bind(tx, certificate, submission)
            return Accepted(sealed.record.evidence_id, submission.message_id)

        if not evidence.unstamped:
            self._fresh.remember(sealed)
        self._fresh.remember_tree(blob.sha256, tree)
        self._fresh.remember_letter(blob.sha256, draft.source)
        outcome = await self._store.write(commit)
        if not isinstance(outcome, Accepted):  # the same message came twice at the same moment
            return await self._answer_again(draft, outcome)
        self._changes.publish([draft.account.account_id])
        return outcome

    async def _durable(self, content: _Content, *made: bytes) -> list[Blob]:
        """Make a message, where it is not, and what was made about it durable."""
        if content.blob is None:
            return await self._blobs.put_many([content.small, *made])
        return [content.blob, *await self._blobs.put_many(made)]

    async def _refuse(self, draft: _Draft, refusal: Refusal) -> Refused:
        step = advance_message(MessageState.RECEIVED, MessageEvent.REFUSE)
        submission = replace(
            self._submission(draft, step), digest_sha512=draft.content.sha512(), next_at=None
        )
        sealed = await self._seal_refusal(draft, submission, step, _reason(refusal))
        evidence_blob = (await self._blobs.put_many([sealed.xml]))[0]

        def commit(tx: Tx) -> None:
            tx.blobs.add(evidence_blob)  # no row names the refused content: nobody can read it any more
            tx.messages.add(submission)
            due = sealed.record.event_time
            tx.evidence.add(stored(sealed, submission, evidence_blob, receipt_due=due), sealed.ers)

        await self._store.write(commit)
        self._changes.publish([draft.account.account_id])
        return Refused(refusal, sealed.record.evidence_id)

    def _submission(self, draft: _Draft, step: MessageStep) -> Submission:
        form, incoming, names = draft.form, draft.incoming, draft.known.names
        shown = incoming.person.authentication
        return Submission(
            message_id=self._records.fresh_id(),
            account_id=draft.account.account_id,
            operator_id=incoming.person.operator_id,
            state=step.state,
            user_message_id=form.user_message_id,
            digest_sha256=draft.content.sha256,
            digest_sha512=b"",  # known once the content is durable, or will never be
            size=draft.content.size,
            subject=form.subject,
            sender=Party(str(draft.account.address), draft.account.holder_name),
            recipients=tuple(
                [Recipient(r.address, names.get(str(r.address)), r.role) for r in form.recipients]
            ),
            authentication=Authentication(shown.at, shown.method, incoming.person.name, shown.assurance),
            submitted_at=incoming.received_at,
            material=None,
            next_at=incoming.received_at,
        )

    async def _seal_reception(
        self, submission: Submission, step: MessageStep, signed: _Signed
    ) -> SealedReception:
        assert step.evidence is not None
        assert signed.digest is not None  # nothing else passes
        record = self._records.make(step.evidence, submission, recipients=submission.parties)
        domains = {r.address.provider for r in submission.recipients}
        form = form_of_acceptance(self._settings.register, domains)
        return await seal_reception(self._sealer, self._together, record, form, signed.digest)

    async def _seal_refusal(
        self, draft: _Draft, submission: Submission, step: MessageStep, reason: Reason
    ) -> SealedEvidence:
        assert step.evidence is not None
        recipients = _as_written(draft)
        record = self._records.make(step.evidence, submission, reasons=(reason,), recipients=recipients)
        (sealed,) = await self._sealer.seal_many((record,))
        return sealed

    def _add_deliveries(self, tx: Tx, submission: Submission) -> None:
        own = self._settings.register.own
        here = [str(r.address) for r in submission.recipients if r.address.provider == own]
        accounts = tx.accounts.by_addresses(here)
        for number, recipient in enumerate(submission.recipients, 1):
            address, peer = str(recipient.address), recipient.address.provider
            account = accounts.get(address)
            tx.deliveries.add(
                Delivery(
                    self._ids.new(),
                    submission.message_id,
                    number,
                    address,
                    account.account_id if account else None,
                    DeliveryState.PENDING,
                    peer=None if peer == own else peer,
                )
            )

    def _add_transfers(self, tx: Tx, submission: Submission) -> None:
        """Queue the message for each peer that serves a recipient."""
        now = submission.submitted_at
        peers = dict.fromkeys(r.address.provider for r in submission.recipients)
        for peer in peers.keys() - {self._settings.register.own}:
            transfer = Transfer(
                transfer_id=self._ids.new(),
                kind=TransferKind.DISPATCH,
                message_id=submission.message_id,
                peer=peer,
                state=TransferState.QUEUED,
                created_at=now,
                deadline=now + self._settings.times.give_up,
                next_at=now,
            )
            tx.transfers.add(transfer)

    def _file_sent(self, tx: Tx, draft: _Draft, submission: Submission) -> None:
        seen = frozenset({"\\Seen"})
        item = NewItem(draft.content.sha256, submission.size, submission.submitted_at, seen)
        tx.mailboxes.file(draft.account.account_id, FolderRole.SENT, item)


def _signature_facts(signed: _Signed) -> SignatureFacts:
    report, signers = signed.report, signed.signers
    sub = report.sub_indication
    detail = signers.detail if sub is None else sub
    return SignatureFacts(report.verdict, sub, detail, signers.authorised, signers.refusal)


def _with_finding(refusal: Refusal | None, report: SenderReport) -> Refusal | None:
    """Return the refusal with the verifier's own finding, where one failed."""
    if refusal is None:
        return None
    step = report.report.failing_step
    return refusal if step is None else replace(refusal, finding=step.code)


def _reason(refusal: Refusal) -> Reason:
    text = TEXTS[refusal.code]
    assert text.reason is not None, refusal.code
    named = f" ({', '.join(refusal.recipients[:20])})" if refusal.recipients else ""
    return Reason(text.reason, f"{refusal.code.value}: {text.english}{named}")


def _as_written(draft: _Draft) -> tuple[Party, ...]:
    """Return recipients for evidence where none is a KEP address: the schema wants at least one."""
    written = [r.written for r in draft.form.facts.recipients] or list(draft.incoming.attempted)
    return tuple(Party(address) for address in written[:500]) or (Party("undisclosed"),)
