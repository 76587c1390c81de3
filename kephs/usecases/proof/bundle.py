"""Everything a court needs about one message, gathered from the store and from the issuers.

The same contents give the same bytes: what is made for a bundle (signature, stamp, revocation data fetched,
ledger proofs) is kept with the message (`kephs.usecases.proof.appendix`) until its evidence changes.

spec: KEP-EV-07, KEP-SG-09; layout in `evidence.bundle.making`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from hashlib import new as new_hash
from hashlib import sha256
from typing import BinaryIO, Final, Protocol

from evidence.bundle.destroyed import DestroyedContent, DestroyedPart
from evidence.bundle.making import BundleContents, BundlePlan, RevocationFile, plan_bundle, revocation_name
from evidence.forms.serialise import read as read_record
from evidence.ledger.chain import LedgerEntry
from evidence.mail.kep_message import KepMessage, parse_kep_message
from evidence.model.records import SealedEvidence
from evidence.ports import ByteSource, Sealing
from evidence.report import SubIndication, Verdict
from evidence.stamps.ers_check import check_record
from evidence.stamps.renewal import RenewalError
from evidence.verify.evidence import EvidenceCheck, check_evidence
from evidence.verify.message import match_records
from evidence.x509.certificates import CertificateFacts
from evidence.x509.chain import Chain, TrustStore, build_chain
from evidence.x509.offline import OfflineRevocation
from evidence.x509.revocation import RevocationStatus
from evidence.x509.role import SealPolicy
from kephs.domain.messages import StoredEvidence, Submission
from kephs.ports import Blob, BlobMissingError, BlobStore, Clock, Offload, Revocation, Store, Tx
from kephs.ports.objects import ObjectError
from kephs.usecases.archive.archived_proof import RenewedProofs
from kephs.usecases.archive.preserve_object import RenewalObjectError
from kephs.usecases.mailbox.source_range import SourceRange
from kephs.usecases.proof.appendix import Appendix, AppendixError
from kephs.usecases.proof.prove import NotInLedgerError, Proven
from kephs.usecases.proof.publish_ledger import LedgerContradictionError
from kephs.usecases.proof.sender_files import readable, sender_files, sender_signature
from kephs.usecases.proof.thinned import thinned
from kephs.usecases.proof.timeline import MessageAmbiguousError, MessageUnknownError, find_message
from kephs.usecases.submission.material import Material, decode_material, report_file

_FORM: Final = b"kephs-bundle-inputs-1\x00"


class LedgerProofs(Protocol):
    """Whoever proves that evidence stands in the ledger (`kephs.usecases.proof.prove.Prove`)."""

    async def prove(self, evidence_ids: Sequence[str]) -> Proven:
        """Return a checkpoint and the proofs under it."""
        ...


class BundleFault(StrEnum):
    """Why there is no bundle. Stable codes."""

    NO_SUCH_MESSAGE = "no-such-message"
    AMBIGUOUS = "ambiguous-message-id"
    CONTENT_GONE = "content-gone"
    EVIDENCE_BROKEN = "evidence-broken"
    EVIDENCE_UNSTAMPED = "evidence-unstamped"
    LEDGER_BROKEN = "ledger-broken"
    REVOCATION_SILENT = "revocation-silent"
    ARCHIVE_SILENT = "archive-silent"


class BundleUnavailableError(Exception):
    """The bundle cannot be made; ``fault`` is the stable code."""

    def __init__(self, fault: BundleFault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class ReadyBundle:
    """A bundle with its manifest's signature; `write` streams it out."""

    message_id: str
    evidences: int
    plan: BundlePlan
    signature: bytes

    def write(self, out: BinaryIO) -> None:
        """Write the archive."""
        self.plan.write(self.signature, out)


@dataclass(frozen=True, slots=True)
class _Rows:
    """What the store holds of one message."""

    message: Submission
    evidences: tuple[tuple[StoredEvidence, Blob | None, bytes | None], ...]  # with its evidence record
    original: Blob | None
    dispatch: Blob | None
    material: Blob | None
    ledger: tuple[LedgerEntry, ...]
    appendix: tuple[bytes, bytes] | None
    destroyed: tuple[DestroyedPart, ...] = ()

    @property
    def renewed_by_us(self) -> frozenset[str]:
        """Return the evidence whose proof of time we owe: all but what a peer's message brought with it."""
        rows = (one for one, _, _ in self.evidences)
        return frozenset(e.evidence_id for e in rows if e.origin is None or e.origin != self.message.origin)

    def inputs(self, roots: Iterable[bytes]) -> bytes:
        """Return the digest of all that is stored and goes in, beside what the appendix itself holds."""
        hasher = sha256(_FORM)
        parts = [self.message.message_id.encode(), self.message.digest_sha256]
        parts += [blob.sha256 if blob is not None else b"" for blob in (self.dispatch, self.material)]
        for evidence, blob, ers in self.evidences:
            parts += [evidence.evidence_id.encode(), blob.sha256 if blob is not None else b"", ers or b""]
        parts += [entry.hash for entry in self.ledger] + [b"roots", *roots]
        for part in parts:
            hasher.update(len(part).to_bytes(8, "big"))
            hasher.update(part)
        return hasher.digest()


class MakeBundle:
    """Makes the stand-alone bundle of one message."""

    def __init__(
        self, *, store: Store, blobs: BlobStore, sealer: Sealing, revocation: Revocation, trust: TrustStore,
        policy: SealPolicy, offload: Offload, clock: Clock, ledger: LedgerProofs | None = None,
        renewed: RenewedProofs | None = None,
    ) -> None:  # fmt: skip
        self._store, self._blobs, self._sealer = store, blobs, sealer
        self._revocation, self._trust, self._policy = revocation, trust, policy
        self._offload, self._clock, self._ledger, self._renewed = offload, clock, ledger, renewed

    async def make(self, message: str) -> ReadyBundle:
        """Gather, check and sign the bundle of a message; unchanged contents give the bundle made before.

        Args:
            message: our id of it, or the Message-ID its sender's client gave it (with or without <>).

        Raises:
            BundleUnavailableError: it cannot be made; nothing was.
            TimestampUnavailableError, SignerUnavailableError: the manifest cannot be signed now.
        """
        rows = await self._store.read(lambda tx: _rows(tx, message))
        if len(rows.ledger) != len(rows.evidences):
            raise BundleUnavailableError(
                BundleFault.LEDGER_BROKEN, "the ledger lacks evidence of the message"
            )
        contents, archived, rounds = await self._stored(rows)
        inputs = rows.inputs(root.der for root in self._trust.roots)
        kept = _kept(rows.appendix, inputs)
        if kept is not None and (kept.checkpoint is not None or self._ledger is None):
            ready = await self._ready(rows, contents, kept)
            if ready.plan.digest == kept.manifest_sha256:
                return ready
        plan, made = await self._seal(contents, archived, rounds, rows.renewed_by_us)
        message_id = rows.message.message_id
        kept = await self._keep(message_id, inputs, made, replacing=rows.appendix)
        if kept is made:
            return ReadyBundle(message_id, len(contents.evidences), plan, made.signature)
        return await self._ready(rows, contents, kept)

    # --- the seal -----------------------------------------------------------------------------

    async def _ready(self, rows: _Rows, contents: BundleContents, appendix: Appendix) -> ReadyBundle:
        plan = await self._plan(contents, appendix)
        return ReadyBundle(rows.message.message_id, len(contents.evidences), plan, appendix.signature)

    async def _plan(self, contents: BundleContents, appendix: Appendix) -> BundlePlan:
        whole = replace(
            contents,
            revocation=[*contents.revocation, *appendix.revocation],
            checkpoint=appendix.checkpoint,
            proofs=appendix.proofs,
        )
        return await self._offload.run(lambda: plan_bundle(whole, created_at=appendix.created_at))

    async def _seal(
        self,
        contents: BundleContents,
        archived: Sequence[RevocationFile],
        rounds: int,
        owed: frozenset[str],
    ) -> tuple[BundlePlan, Appendix]:
        """Seal it; what the archive collected is kept with it: it can be made again anywhere."""
        known = replace(contents, revocation=[*contents.revocation, *archived])
        revocation = [*archived, *await self._current(known, owed)]
        appendix = Appendix(self._clock.now(), tuple(revocation), rounds=rounds)
        if self._ledger is not None:
            proven = await self._proven(self._ledger, contents.ledger)
            proofs = {evidence_id: proof.encode() for evidence_id, proof in proven.proofs.items()}
            appendix = replace(appendix, checkpoint=proven.note, proofs=proofs)
        plan = await self._plan(contents, appendix)
        signature = await self._sealer.sign_entity(plan.digest, appendix.created_at)
        return plan, replace(appendix, manifest_sha256=plan.digest, signature=signature)

    async def _keep(
        self, message_id: str, inputs: bytes, made: Appendix, *, replacing: tuple[bytes, bytes] | None
    ) -> Appendix:
        """Store what was made, or return what somebody else made of the same contents meanwhile."""

        def commit(tx: Tx) -> Appendix:
            stands = tx.evidence.appendix(message_id)
            other = _kept(stands, inputs) if stands != replacing else None
            if other is not None:
                return other
            tx.evidence.set_appendix(message_id, inputs, made.encode())
            return made

        return await self._store.write(commit)

    async def _proven(self, ledger: LedgerProofs, entries: Sequence[LedgerEntry]) -> Proven:
        try:
            return await ledger.prove([entry.evidence_id for entry in entries])
        except (NotInLedgerError, LedgerContradictionError) as error:
            raise BundleUnavailableError(
                BundleFault.LEDGER_BROKEN, f"the ledger does not prove this evidence: {error}"
            ) from None

    # --- contents -----------------------------------------------------------------------------

    async def _stored(self, rows: _Rows) -> tuple[BundleContents, list[RevocationFile], int]:
        """Return what the store itself has, what the archive collected, and how many rounds are joined."""
        sealed = [await self._evidence(*one) for one in rows.evidences]
        sealed, archived, rounds = await self._archived(sealed, rows.ledger)
        original, dispatch, carried = await self._contents(rows)
        known = {item.record.evidence_id for item in sealed}
        sealed += [item for item in carried if item.record.evidence_id not in known]
        material = await self._material(rows)
        signature, exact = (
            (None, True) if original is None else await self._offload.run(sender_signature, original)
        )
        contents = BundleContents(
            original=original,
            evidences=sealed,
            dispatch=dispatch,
            revocation=[] if material is None else await self._offload.run(
                sender_files, material, rows.message.submitted_at, self._trust
            ),
            sender_signature=signature,
            sender_report=None if material is None else report_file(material),
            sender_record=None if material is None or signature is None else material.record,
            sender_exact=exact,
            sender_certificates=() if material is None else self._missing(material, signature),
            roots=[root.der for root in self._trust.roots],
            ledger=rows.ledger,
            destroyed=_destroyed(rows) if original is None else None,
        )  # fmt: skip
        return contents, archived, rounds

    async def _evidence(
        self, evidence: StoredEvidence, blob: Blob | None, ers: bytes | None
    ) -> SealedEvidence:
        if blob is None:
            raise BlobMissingError(evidence.evidence_id)
        if evidence.unstamped:
            raise BundleUnavailableError(
                BundleFault.EVIDENCE_UNSTAMPED, f"evidence {evidence.evidence_id} waits for its time stamp"
            )
        xml = await self._read(blob)
        return SealedEvidence(read_record(xml), xml, ers)

    async def _archived(
        self, sealed: list[SealedEvidence], ledger: Sequence[LedgerEntry]
    ) -> tuple[list[SealedEvidence], list[RevocationFile], int]:
        """Join records with the rounds that renewed them, and bring what was collected before each."""
        if self._renewed is None:
            return sealed, [], 0
        numbers = {entry.evidence_id: entry.number for entry in ledger}
        joined: list[SealedEvidence] = []
        files: dict[str, RevocationFile] = {}
        rounds = 0
        try:
            for item in sealed:
                proof = await self._renewed.of(numbers[item.record.evidence_id], item.xml, item.ers)
                joined.append(replace(item, ers=proof.ers))
                files |= {name: RevocationFile(name, der) for name, der in proof.revocation.items()}
                rounds = max(rounds, proof.rounds)
        except (ObjectError, RenewalError, RenewalObjectError) as error:
            raise BundleUnavailableError(
                BundleFault.ARCHIVE_SILENT, f"the archive does not give what renews the proofs: {error}"
            ) from None
        return joined, thinned([files[name] for name in sorted(files)]), rounds

    async def _contents(
        self, rows: _Rows
    ) -> tuple[ByteSource | None, ByteSource | None, Sequence[SealedEvidence]]:
        """Return the original, the KEP message, and evidence that only the latter carries.

        Of what a peer relayed to us the KEP message alone is kept: the original stands in it, and
        evidence 10, which messages taken in by earlier versions have nowhere else.
        """
        dispatch = self._blobs.open(rows.dispatch) if rows.dispatch is not None else None
        if rows.original is not None:
            return self._blobs.open(rows.original), dispatch, ()
        if dispatch is not None:
            parsed = await self._offload.run(parse_kep_message, dispatch)
            if parsed.original is not None:
                original = SourceRange(dispatch, parsed.original.start, parsed.original.length)
                return original, dispatch, _carried(parsed)
        if rows.destroyed:  # on record: the bundle says so itself
            return None, None, ()
        raise BundleUnavailableError(
            BundleFault.CONTENT_GONE,
            f"the content of this message is not kept (it is {rows.message.state.value})",
        )

    async def _material(self, rows: _Rows) -> Material | None:
        """Return what the verdict on the sender's signature rested on at reception (KEP-SG-09)."""
        return None if rows.material is None else decode_material(await self._read(rows.material))

    # --- revocation data ----------------------------------------------------------------------

    def _missing(self, material: Material, signature: bytes | None) -> list[bytes]:
        """Return certificates of the sender's path that neither its signature nor the reader brings."""
        roots = {root.der for root in self._trust.roots}
        return sorted(
            der for der in material.certificates if der not in roots and der not in (signature or b"")
        )

    async def _current(self, contents: BundleContents, owed: frozenset[str]) -> list[RevocationFile]:
        """Ask now about every certificate behind the seals and stamps: issuers speak later than both."""
        now = self._clock.now()
        links = await self._offload.run(self._links, contents, now, owed)
        known = _collected(contents.revocation)
        at = min((item.record.event_time for item in contents.evidences), default=now)
        files: dict[bytes, RevocationFile] = {}
        for certificate, issuer in links:
            answer = await self._revocation.status(certificate, issuer, now)
            if answer is None or answer.status is RevocationStatus.UNKNOWN:
                if known.answer(certificate, issuer, self._trust, at) is not None:
                    continue  # its issuer is silent by now: what it said when there was need is inside
                raise BundleUnavailableError(
                    BundleFault.REVOCATION_SILENT,
                    f"nobody says whether {certificate.subject_text} was revoked; a bundle must bring that",
                )
            name = revocation_name(certificate.sha256, answer.source)
            files.setdefault(answer.der, RevocationFile(name, answer.der))
        return list(files.values())

    def _links(
        self, contents: BundleContents, now: datetime, owed: frozenset[str]
    ) -> list[tuple[CertificateFacts, CertificateFacts]]:
        found: dict[bytes, tuple[CertificateFacts, CertificateFacts]] = {}
        for item in contents.evidences:
            check = check_evidence(item.xml, self._trust, now, self._policy, ers=item.ers)
            if item.record.evidence_id not in owed and _has_ended(check):
                continue  # the peer's evidence 10, which its own provider renews, too: readers are told
            if not check.passed or check.chain is None:
                step = check.report.failing_step
                raise BundleUnavailableError(
                    BundleFault.EVIDENCE_BROKEN,
                    f"evidence {item.record.evidence_id} does not verify: {step.detail if step else ''}",
                )
            chains = [check.chain, *self._stamp_chains(check, check.chain, check.stamped_at or now)]
            found |= {link[0].sha256: link for chain in chains for link in chain.links}
        return list((found | self._record_links(contents, now)).values())

    def _record_links(
        self, contents: BundleContents, now: datetime
    ) -> dict[bytes, tuple[CertificateFacts, CertificateFacts]]:
        """Return the paths of the authorities that stamped the sender's signature at reception."""
        if contents.sender_record is None or contents.sender_signature is None:
            return {}
        signature = contents.sender_signature
        check = check_record(
            contents.sender_record, lambda name: new_hash(name, signature).digest(), self._trust, now
        )
        if check.report.verdict is Verdict.INDETERMINATE:
            return {}  # its authority has ended since: the renewed record of evidence 10 covers the original
        if not check.passed:
            step = check.report.failing_step
            raise BundleUnavailableError(
                BundleFault.EVIDENCE_BROKEN,
                f"the time stamp over the sender's signature does not verify: {step.detail if step else ''}",
            )
        chains = [token.chain for token in check.tokens if token.chain is not None]
        return {link[0].sha256: link for chain in chains for link in chain.links}

    def _stamp_chains(self, check: EvidenceCheck, near: Chain, at: datetime) -> Iterator[Chain]:
        if check.tsa is None:
            return
        tokens = check.ers.tokens if check.ers is not None else ()
        yield from (one.chain for one in tokens[1:] if one.chain is not None)  # of rounds of renewal
        embedded = [der for one in tokens if one.token is not None for der in one.token.signed.certificates]
        chain = build_chain(check.tsa, [*near.certificates, *readable(embedded)], self._trust, at)
        if isinstance(chain, Chain):
            yield chain

    async def _read(self, blob: Blob) -> bytes:
        source = self._blobs.open(blob)
        return await self._offload.run(source.read, 0, source.size)


def _has_ended(check: EvidenceCheck) -> bool:
    """Say whether nothing is in the way but that what proved an evidence's time has ended."""
    report = check.report
    ended = report.sub_indication is SubIndication.OUT_OF_BOUNDS_NO_POE
    return ended and report.verdict is Verdict.INDETERMINATE


def _collected(files: Sequence[RevocationFile]) -> OfflineRevocation:
    """Return what the archive collected, ready to be asked."""
    by = {ending: [f.content for f in files if f.name.endswith(ending)] for ending in (".ocsp", ".crl")}
    return OfflineRevocation(by[".ocsp"], by[".crl"])


def _carried(message: KepMessage) -> list[SealedEvidence]:
    """Return the evidence inside a KEP message, each with its evidence record."""
    records, _ = match_records(message.evidences, message.extensions)
    return [
        SealedEvidence(read_record(file.content), file.content, ers)
        for file, ers in zip(message.evidences, records, strict=True)
    ]


def _kept(stored: tuple[bytes, bytes] | None, inputs: bytes) -> Appendix | None:
    """Return what was made of these very contents, None where there is nothing of use."""
    if stored is None or stored[0] != inputs:
        return None
    try:
        return Appendix.decode(stored[1])
    except AppendixError:
        return None


def _rows(tx: Tx, wanted: str) -> _Rows:
    message = _message(tx, wanted)
    evidences = tx.evidence.of_message(message.message_id)

    def blob(sha256: bytes | None) -> Blob | None:
        return tx.blobs.get(sha256) if sha256 is not None else None

    return _Rows(
        message,
        tuple((one, tx.blobs.get(one.blob), tx.evidence.ers(one.evidence_id)) for one in evidences),
        blob(message.digest_sha256),
        blob(message.dispatch),
        blob(message.material),
        _ledger(tx, (one.evidence_id for one in evidences)),
        tx.evidence.appendix(message.message_id),
        tuple(_destroyed_parts(tx, message.message_id)),
    )


def _destroyed_parts(tx: Tx, message_id: str) -> Iterator[DestroyedPart]:
    """Yield what the process record says of each content of a message that is gone."""
    for one in tx.erasures.destroyed(message_id):
        entries = tx.audit.page(one.number - 1, 1)
        if entries and entries[0].number == one.number:
            cause = "unused" if one.cause is None else one.cause.value
            yield DestroyedPart(one.part.value, one.sha256, one.at, cause, one.number, entries[0].digest)


def _destroyed(rows: _Rows) -> DestroyedContent:
    message = rows.message
    return DestroyedContent(message.message_id, message.digest_sha256, message.digest_sha512, rows.destroyed)


def _message(tx: Tx, wanted: str) -> Submission:
    try:
        return find_message(tx, wanted)
    except MessageUnknownError:
        raise BundleUnavailableError(BundleFault.NO_SUCH_MESSAGE, f"there is no message {wanted}") from None
    except MessageAmbiguousError as error:
        raise BundleUnavailableError(
            BundleFault.AMBIGUOUS, f"several messages have this Message-ID; name one of {error}"
        ) from None


def _ledger(tx: Tx, evidence_ids: Iterable[str]) -> tuple[LedgerEntry, ...]:
    entries = (tx.evidence.ledger_of(evidence_id) for evidence_id in evidence_ids)
    return tuple(sorted((one for one in entries if one is not None), key=lambda one: one.number))
