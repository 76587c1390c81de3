"""Everything a court needs about one message, gathered from the store and from the issuers now.

spec: KEP-EV-07, KEP-SG-09; layout in `evidence.bundle`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import BinaryIO, Final

from evidence.bundle import BundleContents, BundlePlan, RevocationFile, plan_bundle
from evidence.certificates import CertificateFacts
from evidence.chain import Chain, TrustStore, build_chain
from evidence.der import DerError
from evidence.kep_message import parse_kep_message
from evidence.ledger import LedgerEntry
from evidence.mime import scan
from evidence.ports import ByteSource
from evidence.records import SealedEvidence
from evidence.rem_xml import read as read_record
from evidence.revocation import RevocationAnswer, RevocationSource, RevocationStatus
from evidence.role import SealPolicy
from evidence.sealing import Sealer
from evidence.smime import SmimeError, locate
from evidence.verify_evidence import check_evidence
from kephs.domain.messages import StoredEvidence, Submission
from kephs.ports import Blob, BlobMissingError, BlobStore, Clock, Offload, Revocation, Store, Tx
from kephs.usecases.material import decode_material
from kephs.usecases.source_range import SourceRange

_LEDGER_PAGE: Final = 5_000
_SUFFIX: Final = {RevocationSource.OCSP: "ocsp", RevocationSource.CRL: "crl"}


class BundleFault(StrEnum):
    """Why there is no bundle. Stable codes."""

    NO_SUCH_MESSAGE = "no-such-message"
    AMBIGUOUS = "ambiguous-message-id"
    CONTENT_GONE = "content-gone"
    EVIDENCE_BROKEN = "evidence-broken"
    REVOCATION_SILENT = "revocation-silent"


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
    evidences: tuple[tuple[StoredEvidence, Blob | None], ...]
    original: Blob | None
    dispatch: Blob | None
    material: Blob | None
    ledger: tuple[LedgerEntry, ...]


class MakeBundle:
    """Makes the stand-alone bundle of one message."""

    def __init__(
        self, *, store: Store, blobs: BlobStore, sealer: Sealer, revocation: Revocation, trust: TrustStore,
        policy: SealPolicy, offload: Offload, clock: Clock,
    ) -> None:  # fmt: skip
        self._store, self._blobs, self._sealer = store, blobs, sealer
        self._revocation, self._trust, self._policy = revocation, trust, policy
        self._offload, self._clock = offload, clock

    async def make(self, message: str) -> ReadyBundle:
        """Gather, check and sign the bundle of a message.

        Args:
            message: our id of it, or the Message-ID its sender's client gave it (with or without <>).

        Raises:
            BundleUnavailableError: it cannot be made; nothing was.
            TimestampUnavailableError, SignerUnavailableError: the manifest cannot be signed now.
        """
        rows = await self._store.read(lambda tx: _rows(tx, message))
        sealed = [await self._evidence(evidence, blob) for evidence, blob in rows.evidences]
        original, dispatch = await self._contents(rows)
        revocation = [*await self._sender_material(rows), *await self._current(sealed)]
        contents = BundleContents(
            original=original,
            evidences=sealed,
            dispatch=dispatch,
            revocation=revocation,
            sender_signature=await self._offload.run(_sender_signature, original),
            roots=[root.der for root in self._trust.roots],
            ledger=rows.ledger,
        )
        now = self._clock.now()
        plan = await self._offload.run(lambda: plan_bundle(contents, created_at=now))
        signature = await self._sealer.sign_entity(plan.digest, now)
        return ReadyBundle(rows.message.message_id, len(sealed), plan, signature)

    async def _evidence(self, evidence: StoredEvidence, blob: Blob | None) -> SealedEvidence:
        if blob is None:
            raise BlobMissingError(evidence.evidence_id)
        xml = await self._read(blob)
        return SealedEvidence(read_record(xml), xml)

    async def _contents(self, rows: _Rows) -> tuple[ByteSource, ByteSource | None]:
        """Return the original and the KEP message; the original also stands inside the latter."""
        dispatch = self._blobs.open(rows.dispatch) if rows.dispatch is not None else None
        if rows.original is not None:
            return self._blobs.open(rows.original), dispatch
        if dispatch is not None:
            parsed = await self._offload.run(parse_kep_message, dispatch)
            if parsed.original is not None:
                return SourceRange(dispatch, parsed.original.start, parsed.original.length), dispatch
        raise BundleUnavailableError(
            BundleFault.CONTENT_GONE,
            f"the content of this message is not kept (it is {rows.message.state.value})",
        )

    async def _sender_material(self, rows: _Rows) -> list[RevocationFile]:
        """Return what the verdict on the sender's signature rested on at reception (KEP-SG-09)."""
        if rows.material is None:
            return []
        kept = decode_material(await self._read(rows.material))
        listed = (("ocsp", kept.ocsp), ("crl", kept.crls))
        return [
            RevocationFile(f"gonderici-{number}.{suffix}", der)
            for suffix, ders in listed
            for number, der in enumerate(ders, 1)
        ]

    async def _current(self, sealed: Sequence[SealedEvidence]) -> list[RevocationFile]:
        """Ask now about every certificate behind the seals and stamps: issuers speak later than both."""
        now = self._clock.now()
        links = await self._offload.run(self._links, sealed, now)
        files = {}
        for certificate, issuer in links:
            answer = await self._revocation.status(certificate, issuer, now)
            if answer is None or answer.status is RevocationStatus.UNKNOWN:
                raise BundleUnavailableError(
                    BundleFault.REVOCATION_SILENT,
                    f"nobody says whether {certificate.subject_text} was revoked; a bundle must bring that",
                )
            files[answer.der] = RevocationFile(_file_name(certificate, answer), answer.der)
        return list(files.values())

    def _links(
        self, sealed: Sequence[SealedEvidence], now: datetime
    ) -> list[tuple[CertificateFacts, CertificateFacts]]:
        found: dict[bytes, tuple[CertificateFacts, CertificateFacts]] = {}
        for item in sealed:
            check = check_evidence(item.xml, self._trust, now, self._policy)
            if not check.passed or check.chain is None:
                step = check.report.failing_step
                raise BundleUnavailableError(
                    BundleFault.EVIDENCE_BROKEN,
                    f"evidence {item.record.evidence_id} does not verify: {step.detail if step else ''}",
                )
            chains = [check.chain, *self._stamp_chains(check.tsa, check.chain, check.stamped_at or now)]
            found |= {link[0].sha256: link for chain in chains for link in chain.links}
        return list(found.values())

    def _stamp_chains(self, tsa: CertificateFacts | None, near: Chain, at: datetime) -> Iterable[Chain]:
        if tsa is None:
            return ()
        chain = build_chain(tsa, near.certificates, self._trust, at)
        return (chain,) if isinstance(chain, Chain) else ()

    async def _read(self, blob: Blob) -> bytes:
        source = self._blobs.open(blob)
        return await self._offload.run(source.read, 0, source.size)


def _file_name(certificate: CertificateFacts, answer: RevocationAnswer) -> str:
    return f"{certificate.sha256.hex()[:16]}.{_SUFFIX[answer.source]}"


def _sender_signature(original: ByteSource) -> bytes | None:
    """Return the holder's signature as it stands in the original, for those who want it apart."""
    try:
        return locate(original, scan(original)).der
    except (SmimeError, DerError):
        return None


def _rows(tx: Tx, wanted: str) -> _Rows:
    message = _message(tx, wanted)
    evidences = tx.evidence.of_message(message.message_id)

    def blob(sha256: bytes | None) -> Blob | None:
        return tx.blobs.get(sha256) if sha256 is not None else None

    return _Rows(
        message,
        tuple((one, tx.blobs.get(one.blob)) for one in evidences),
        blob(message.digest_sha256),
        blob(message.dispatch),
        blob(message.material),
        _ledger(tx, (one.evidence_id for one in evidences)),
    )


def _message(tx: Tx, wanted: str) -> Submission:
    exact = tx.messages.get(wanted.strip("<>"))
    if exact is not None:
        return exact
    named = f"<{wanted.strip('<>')}>"
    found = [one for one in tx.messages.all() if one.user_message_id == named]
    kept = [one for one in found if one.material is not None] or found  # refused ones may share an id
    if not kept:
        raise BundleUnavailableError(BundleFault.NO_SUCH_MESSAGE, f"there is no message {wanted}")
    if len(kept) > 1:
        ids = ", ".join(one.message_id for one in kept[:10])
        raise BundleUnavailableError(
            BundleFault.AMBIGUOUS, f"several messages have this Message-ID; name one of {ids}"
        )
    return kept[0]


def _ledger(tx: Tx, evidence_ids: Iterable[str]) -> tuple[LedgerEntry, ...]:
    entries = (tx.evidence.ledger_of(evidence_id) for evidence_id in evidence_ids)
    return tuple(sorted((one for one in entries if one is not None), key=lambda one: one.number))
