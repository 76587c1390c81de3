"""One evidence as XAdES-B-LTA, for those whose tools know nothing of evidence records.

Nothing that was signed changes. What a verifier needs goes in: a time stamp over the signature (the stored
one, or a fresh one where the evidence record proves the time), both paths, what their issuers say now (or
said to the archive, where they are silent by now), and an archive time stamp over it all. The evidence record
stays the earlier proof and goes along as rounds of renewal left it.

spec: EN319132-1#5.5.2; layout in `evidence.xades.lta`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import new as new_hash
from hashlib import sha256

from evidence.ports import Timestamper
from evidence.stamps.renewal import RenewalError
from evidence.stamps.timestamps import verify_token
from evidence.verify.evidence import EvidenceCheck, check_evidence
from evidence.x509.certificates import CertificateFacts
from evidence.x509.chain import Chain, TrustStore
from evidence.x509.offline import OfflineRevocation
from evidence.x509.revocation import RevocationAnswer, RevocationSource, RevocationStatus
from evidence.x509.role import SealPolicy
from evidence.xades.check import XadesSignature, open_signature
from evidence.xades.lta import ArchiveDraft, Values, assemble, to_be_archived, with_stamp
from evidence.xades.lta_check import signer_certificates, stamp_certificates, stamp_path
from evidence.xml.reader import XML_SIZE_MAX
from kephs.domain.messages import StoredEvidence
from kephs.ports import Blob, BlobMissingError, BlobStore, Clock, Offload, Revocation, Store, Tx
from kephs.ports.objects import ObjectError
from kephs.usecases.archive.archived_proof import ArchivedProof, RenewedProofs
from kephs.usecases.archive.preserve_object import RenewalObjectError


class ExportFault(StrEnum):
    """Why there is no export. Stable codes."""

    NO_SUCH_EVIDENCE = "no-such-evidence"
    EVIDENCE_BROKEN = "evidence-broken"
    EVIDENCE_UNSTAMPED = "evidence-unstamped"
    OTHER_WRITER = "other-writer"
    REVOCATION_SILENT = "revocation-silent"
    TOO_LATE = "too-late"
    TOO_LARGE = "too-large"
    ARCHIVE_SILENT = "archive-silent"


class ExportUnavailableError(Exception):
    """The export cannot be made; ``fault`` is the stable code."""

    def __init__(self, fault: ExportFault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Export:
    """An export, and the evidence record of what was stored as it stands today, where there is one."""

    evidence_id: str
    xml: bytes
    ers: bytes | None
    signature_stamped_at: datetime  # by the stamp over the signature
    archived_at: datetime


class ExportEvidence:
    """Makes the export of one evidence; each costs one time stamp, or two where none is inside yet."""

    def __init__(
        self, *, store: Store, blobs: BlobStore, timestamper: Timestamper, revocation: Revocation,
        trust: TrustStore, policy: SealPolicy, offload: Offload, clock: Clock,
        renewed: RenewedProofs | None = None,
    ) -> None:  # fmt: skip
        self._store, self._blobs, self._timestamper = store, blobs, timestamper
        self._revocation, self._trust, self._policy = revocation, trust, policy
        self._offload, self._clock, self._renewed = offload, clock, renewed

    async def export(self, evidence_id: str) -> Export:
        """Return the export of an evidence.

        Args:
            evidence_id: its id, as in the XML.

        Raises:
            ExportUnavailableError: it cannot be made.
            TimestampUnavailableError: no authority answered; try again later.
            BlobMissingError: its bytes are gone.
        """
        row, blob, ers = await self._store.read(lambda tx: _look(tx, evidence_id))
        if row is None:
            raise ExportUnavailableError(ExportFault.NO_SUCH_EVIDENCE, f"there is no evidence {evidence_id}")
        if blob is None:
            raise BlobMissingError(evidence_id)
        if row.unstamped and ers is None:
            raise ExportUnavailableError(
                ExportFault.EVIDENCE_UNSTAMPED, f"evidence {evidence_id} waits for its time stamp"
            )
        source = self._blobs.open(blob)
        xml = await self._offload.run(source.read, 0, source.size)
        today = await self._today(evidence_id, xml, ers)
        signature, chain = await self._offload.run(self._opened, xml, today.ers)
        draft = await self._draft(signature, chain, today)
        made = assemble(draft, await self._timestamper.stamp(draft.imprint))
        return await self._offload.run(self._proven, evidence_id, made, today.ers)

    async def _today(self, evidence_id: str, xml: bytes, ers: bytes | None) -> ArchivedProof:
        """Return the record as rounds renewed it, and what the archive collected."""
        if self._renewed is None:
            return ArchivedProof(ers)
        entry = await self._store.read(lambda tx: tx.evidence.ledger_of(evidence_id))
        if entry is None:
            return ArchivedProof(ers)
        try:
            return await self._renewed.of(entry.number, xml, ers)
        except (ObjectError, RenewalError, RenewalObjectError) as error:
            raise ExportUnavailableError(
                ExportFault.ARCHIVE_SILENT, f"the archive does not give what renews the proof: {error}"
            ) from None

    def _opened(self, xml: bytes, ers: bytes | None) -> tuple[XadesSignature, Chain]:
        check = check_evidence(xml, self._trust, self._clock.now(), self._policy, ers=ers)
        if not check.passed or check.chain is None:
            raise ExportUnavailableError(
                ExportFault.EVIDENCE_BROKEN, f"the evidence does not verify: {_reason(check)}"
            )
        if not check.own:
            raise ExportUnavailableError(
                ExportFault.OTHER_WRITER, "another writer's evidence is passed on as it came, never added to"
            )
        return open_signature(xml), check.chain

    async def _draft(self, stored: XadesSignature, chain: Chain, today: ArchivedProof) -> ArchiveDraft:
        """Gather what goes under the archive stamp, revocation data after the stamp on the signature."""
        known = OfflineRevocation(today.files(".ocsp"), today.files(".crl"))
        token = stored.tokens[0] if stored.tokens else None
        if token is None:
            token = await self._timestamper.stamp(sha256(stored.stamped).digest())
        signature = with_stamp(stored, token)
        report = verify_token(
            token, imprint=lambda name: new_hash(name, stored.stamped).digest(), trust=self._trust,
            at=self._clock.now(),
        )  # fmt: skip
        path = stamp_path(report, self._trust)
        if path is None or report.token is None:
            raise ExportUnavailableError(
                ExportFault.EVIDENCE_BROKEN, "the time stamp's authority leads to no trusted root"
            )
        certificates = signer_certificates(chain, signature.certificates)
        in_token = report.token.signed.certificates
        beyond = stamp_certificates(path.chain, (*in_token, *signature.certificates, *certificates))
        stamped_at = self._clock.now() if report.gen_time is None else report.gen_time
        signers = await self._said_of(chain.links, known, stamped_at)
        beyond_links = tuple(link for link in path.chain.links if link not in chain.links)
        authoritys = await self._said_of(beyond_links, known, stamped_at)
        inside = {answer.der for answer in signers}
        return to_be_archived(
            signature,
            _values(certificates, signers),
            _values(beyond, [answer for answer in authoritys if answer.der not in inside]),
        )

    async def _said_of(
        self, links: Sequence[tuple[CertificateFacts, CertificateFacts]], known: OfflineRevocation,
        stamped_at: datetime,
    ) -> list[RevocationAnswer]:  # fmt: skip
        """Ask now about each certificate: issuers speak later than signature and stamp.

        Where nobody answers, what the archive collected goes in: `_proven` says whether that is enough.
        """
        now, found = self._clock.now(), []
        for certificate, issuer in links:
            answer = await self._revocation.status(certificate, issuer, now)
            if answer is None:
                answer = known.answer(certificate, issuer, self._trust, stamped_at)
            if answer is None or answer.status is RevocationStatus.UNKNOWN:
                raise ExportUnavailableError(
                    ExportFault.REVOCATION_SILENT,
                    f"nobody says whether {certificate.subject_text} was revoked; an export must bring that",
                )
            found.append(answer)
        return found

    def _proven(self, evidence_id: str, made: bytes, ers: bytes | None) -> Export:
        """Verify what was made as strangers will, without the record beside it."""
        if len(made) > XML_SIZE_MAX:
            raise ExportUnavailableError(
                ExportFault.TOO_LARGE, f"the export would have {len(made)} bytes, more than {XML_SIZE_MAX}"
            )
        check = check_evidence(made, self._trust, self._clock.now(), self._policy)
        archived_at = check.archived_at
        if not check.passed or check.stamped_at is None or archived_at is None:
            raise ExportUnavailableError(
                ExportFault.TOO_LATE,
                f"an export made now would not verify without what lies beside it: {_reason(check)}",
            )
        return Export(evidence_id, made, ers, check.stamped_at, archived_at)


def _look(tx: Tx, evidence_id: str) -> tuple[StoredEvidence | None, Blob | None, bytes | None]:
    row = tx.evidence.get(evidence_id)
    return (None, None, None) if row is None else (row, tx.blobs.get(row.blob), tx.evidence.ers(evidence_id))


def _values(certificates: tuple[bytes, ...], answers: Sequence[RevocationAnswer]) -> Values:
    by_source = {
        source: tuple(dict.fromkeys(answer.der for answer in answers if answer.source is source))
        for source in RevocationSource
    }
    return Values(certificates, by_source[RevocationSource.CRL], by_source[RevocationSource.OCSP])


def _reason(check: EvidenceCheck) -> str:
    step = check.report.failing_step
    return f"{step.name}: {step.detail}" if step else "no proof of time"
