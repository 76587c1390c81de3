"""Sign and time-stamp evidence and KEP messages with the provider's transaction certificate.

Every evidence leaves here as XAdES-B-T; there is no unstamped way out: when the key or the
time-stamping authority is silent the error goes up and the caller waits (KEP-SG-10). So it does when the
certificate does not count at the claimed time: it may expire while the server runs, and what it would
sign then verifies nowhere.
"""

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256

from evidence import rem_xml
from evidence.certificates import certificate_facts
from evidence.cms import CmsSigner
from evidence.ports import Signer, SignerUnavailableError, Timestamper
from evidence.records import EvidenceRecord, SealedEvidence
from evidence.seal_check import lifetime_problem
from evidence.xades import XadesSigner


class Sealer:
    """Makes sealed evidence and message signatures; templates are prepared once per key."""

    def __init__(self, signer: Signer, timestamper: Timestamper) -> None:
        """Prepare both templates.

        Args:
            signer: the key behind the transaction certificate.
            timestamper: client of the time-stamping authorities.

        Raises:
            evidence.xades.XadesKeyError: the key makes no XML signatures.
            evidence.certificates.CertificateError: the certificate cannot be read.
        """
        self._certificate = certificate_facts(signer.certificate)
        self._signer = signer
        self._timestamper = timestamper
        self._xades = XadesSigner(signer.certificate, signer.chain)
        self._cms = CmsSigner(signer.certificate, signer.chain)

    async def seal(self, record: EvidenceRecord, *, at: datetime | None = None) -> SealedEvidence:
        """Return the record with its signed, stamped XML.

        Args:
            record: what happened.
            at: claimed signing time, UTC; the event time where left out.

        Raises:
            SignerUnavailableError, TimestampUnavailableError: nothing was sealed; try again later.
        """
        (sealed,) = await self.seal_many((record,), at=at)
        return sealed

    async def seal_many(
        self, records: Sequence[EvidenceRecord], *, at: datetime | None = None
    ) -> list[SealedEvidence]:
        """Seal several records with one call of the key; all of them or none.

        This is the seam for batch time stamps: a batch changes how tokens are fetched, nothing else.

        Raises:
            SignerUnavailableError, TimestampUnavailableError: nothing was sealed; try again later.
        """
        times = [record.event_time if at is None else at for record in records]
        self._check_lifetime(times)
        drafts = [
            self._xades.to_be_signed(rem_xml.write(record), time)
            for record, time in zip(records, times, strict=True)
        ]
        signatures = await self._signer.sign_many([draft.digest for draft in drafts])
        sealed = []
        for record, draft, signature in zip(records, drafts, signatures, strict=True):
            signed = self._xades.with_signature(draft, signature)
            token = await self._timestamper.stamp(signed.imprint)
            sealed.append(SealedEvidence(record, self._xades.assemble(signed, token)))
        return sealed

    async def sign_entity(self, digest: bytes, at: datetime) -> bytes:
        """Return the detached CMS signature (p7s, DER) of a KEP message, with signature time stamp.

        Args:
            digest: SHA-256 of the signed entity, `evidence.package.MessagePlan`.
            at: claimed signing time, UTC.

        Raises:
            SignerUnavailableError, TimestampUnavailableError: nothing was signed; try again later.
        """
        self._check_lifetime((at,))
        draft = self._cms.to_be_signed(digest, at)
        (signature,) = await self._signer.sign_many([draft.digest])
        # The stamp covers the octets of SignerInfo.signature (spec: RFC3161#A).
        token = await self._timestamper.stamp(sha256(signature).digest())
        return self._cms.assemble(draft, signature, timestamp_token=token)

    def _check_lifetime(self, times: Sequence[datetime]) -> None:
        for time in times:
            problem = lifetime_problem(self._certificate, time)
            if problem is not None:
                raise SignerUnavailableError(f"the transaction certificate does not count: {problem}")
