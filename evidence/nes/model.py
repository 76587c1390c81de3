"""What the verifier of senders' signatures takes and gives; `evidence.nes.verifier` exports these names."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from evidence.mail.smime import EntityKind
from evidence.nes.policy import NesPolicy
from evidence.nes.profiles import Profile
from evidence.report import Report, Step, SubIndication, Verdict
from evidence.x509.certificates import CertificateFacts
from evidence.x509.revocation import RevocationAnswer


class Moment(StrEnum):
    """From when a signature is looked at."""

    RECEPTION = "reception"  # valid now: what a submission asks
    LATER = "later"  # any later check: only proven times count


class Role(StrEnum):
    """Whose certificate it is that may be revoked: what a revocation means differs."""

    SIGNER = "signer"
    COUNTER_SIGNER = "counter-signer"
    STAMPER = "stamper"
    AUTHORITY = "authority"


class Use(NamedTuple):
    """What a certificate of a path is for, and the time its revocation is judged at.

    ``proven``: that time is proven; else it is the time of the check. ``stamped``: genTime of the token,
    for a time-stamping authority's own certificate. ``ocsp_only``: P4's signer, of whom a list does not tell.
    ``existed``: when the token itself provably existed, by a later stamp over the whole signature.
    """

    role: Role
    at: datetime
    proven: bool
    stamped: datetime | None = None
    ocsp_only: bool = False
    existed: datetime | None = None


class SignerIdentity(NamedTuple):
    """Who signed, as the certificate names them. ``tckn`` None: the certificate names no person's number."""

    tckn: str | None
    common_name: str | None
    serial: int
    issuer: str
    certificate_sha256: bytes
    not_after: datetime
    signing_time: datetime | None  # claimed, proves nothing
    certificate: bytes = b""
    seal: bool = False  # a qualified seal's: names no person


@dataclass(frozen=True, slots=True)
class Material:
    """What the verdict rests on, DER: to be kept with the message for later checks."""

    certificates: tuple[bytes, ...] = ()
    ocsp: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Embedded:
    """What the signature brought along beside the signers' certificates: DER, untrusted.

    From certificate and revocation values, from ``SignedData.crls`` and from the time stamps. ``ocsp`` are
    whole OCSPResponses, also where the signature held their inner part only.
    """

    certificates: tuple[bytes, ...] = ()
    ocsp: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()


NOTHING = Embedded()


class Prepared(NamedTuple):  # a tuple: one for every message, and frozen dataclasses are slow to make
    """The first phase's result. ``needs`` is empty where a step has failed already.

    ``uses`` says of each of ``needs`` what it is for. ``told`` are checked answers that the signature itself
    brought, by certificate SHA-256. ``best_time``: the earliest proven time. ``grace_from``: when the list
    that P2 and P3 want can be made at the earliest. ``signature_sha256``: of the ContentInfo as it came; None
    where step 1 or 2 failed.
    """

    steps: tuple[Step, ...]
    needs: tuple[tuple[CertificateFacts, CertificateFacts], ...]
    signers: tuple[SignerIdentity, ...]
    certificates: tuple[bytes, ...]
    kind: EntityKind | None
    policy: NesPolicy
    uses: tuple[Use, ...] = ()
    moment: Moment = Moment.RECEPTION
    embedded: Embedded = NOTHING
    told: tuple[tuple[bytes, tuple[RevocationAnswer, ...]], ...] = ()
    best_time: datetime | None = None
    signature_values: tuple[bytes, ...] = ()
    profile: Profile | None = None
    grace_from: datetime | None = None
    signature_sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class SenderReport:
    """The verdict on a sender's signature, who signed, and the material it rests on."""

    report: Report
    signers: tuple[SignerIdentity, ...]
    material: Material
    best_time: datetime | None = None
    profile: Profile | None = None

    @property
    def verdict(self) -> Verdict:
        """Return the verdict."""
        return self.report.verdict

    @property
    def sub_indication(self) -> SubIndication | None:
        """Return why it did not pass."""
        return self.report.sub_indication

    @property
    def steps(self) -> tuple[Step, ...]:
        """Return all steps in order."""
        return self.report.steps

    @property
    def signer(self) -> SignerIdentity | None:
        """Return the first signer whose certificate was found."""
        return self.signers[0] if self.signers else None

    @property
    def signing_time(self) -> datetime | None:
        """Return the time the first signer claims."""
        return self.signers[0].signing_time if self.signers else None
