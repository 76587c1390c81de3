"""A provider's CMS signature over a KEP message or a bundle's manifest: check it and what it leaves open."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from evidence.cms.frame import frame_problem
from evidence.cms.signed_data import ID_DATA, SIGNATURE_TIME_STAMP, SignedData, SignerInfo, verify_signer
from evidence.report import Step, SubIndication, Verdict
from evidence.stamps.stamp_check import StampCheck, chain_step, check_stamps, failed, token_problem
from evidence.x509.algorithms import Role
from evidence.x509.certificates import CertificateFacts
from evidence.x509.chain import Chain, TrustStore
from evidence.x509.role import SealPolicy

_NOT_LOOKED_AT: Final = "not looked at"


@dataclass(frozen=True, slots=True)
class Seal:
    """A provider's CMS signature: its steps, and the facts where it got that far."""

    steps: tuple[Step, ...]
    certificate: CertificateFacts | None
    chain: Chain | None
    stamps: StampCheck
    signed: SignedData

    @property
    def intact(self) -> bool:
        """Say whether the signature itself holds (chain and stamp apart)."""
        return self.stamps.step.detail != _NOT_LOOKED_AT

    @property
    def stamped_at(self) -> datetime | None:
        """Return the proven time of the signature, None without one."""
        return self.stamps.best.gen_time if self.stamps.best else None

    @property
    def tsa(self) -> CertificateFacts | None:
        """Return the certificate of the authority whose stamp proves the time."""
        return self.stamps.best.certificate if self.stamps.best else None


def check_seal(
    signed: SignedData,
    digest_of: Callable[[str], bytes],
    trust: TrustStore,
    at: datetime,
    policy: SealPolicy,
    *,
    prefix: str = "",
) -> Seal:
    """Check a detached CMS signature by a provider: signature, stamp, chain and algorithms.

    Whose certificate it is stays the caller's question (`evidence.x509.role`).

    Args:
        signed: the parsed structure.
        digest_of: gives the digest of the signed octets for a hashlib name.
        trust: configured roots.
        at: the verification time, UTC.
        policy: which algorithms count.
        prefix: put before the step numbers 2 to 5.
    """
    nothing = StampCheck(Step(f"{prefix}3", "time stamp", ok=None, detail=_NOT_LOOKED_AT), (), None)
    if len(signed.signers) != 1 or signed.content_type != ID_DATA or signed.content_span is not None:
        step = failed(f"{prefix}2", "signature", "one signer over detached data is needed")
        return Seal((step,), None, None, nothing, signed)
    signer = signed.signers[0]
    check = verify_signer(signed, signer, digest_of=digest_of, number=f"{prefix}2")
    if not check.ok or check.certificate is None:
        return Seal(check.steps, check.certificate, None, nothing, signed)
    stamps = _stamps(signer, trust, at, f"{prefix}3")
    stamped_at = stamps.best.gen_time if stamps.best else None
    chain, step = chain_step(
        check.certificate, signed.certificates, trust, at, stamped_at, number=f"{prefix}4"
    )
    algorithms = _algorithm_step(signer, check.certificate, policy, stamped_at or at, f"{prefix}5")
    return Seal((*check.steps, stamps.step, step, algorithms), check.certificate, chain, stamps, signed)


def uncovered_problem(seal: Seal) -> str | None:
    """Return what stands in the bytes of a seal of ours that no signature covers, but should not."""
    if seal.chain is None:
        return "no path"
    path = [facts.der for facts in seal.chain.certificates]
    problem = frame_problem(seal.signed, path, unsigned=(SIGNATURE_TIME_STAMP,))
    if problem is None and seal.stamps.best is not None:
        problem = token_problem(seal.stamps.best)
    return problem


def _stamps(signer: SignerInfo, trust: TrustStore, at: datetime, number: str) -> StampCheck:
    if any(attribute.oid != SIGNATURE_TIME_STAMP for attribute in signer.unsigned):
        return StampCheck(failed(number, "time stamp", "an unsigned attribute is unknown"), (), None)
    tokens = tuple(node.whole for node in signer.unsigned_values(SIGNATURE_TIME_STAMP))
    return check_stamps(tokens, signer.signature, trust, at, number=number)


def _algorithm_step(
    signer: SignerInfo, certificate: CertificateFacts, policy: SealPolicy, at: datetime, number: str
) -> Step:
    refusal: str | None = "unknown algorithm"
    if signer.algorithm is not None and signer.digest_name is not None:
        refusal = policy.algorithms.refusal(
            Role.SIGNER, signer.algorithm, signer.digest_name, certificate.key.size, at
        )
    if refusal is None:
        return Step(number, "algorithms", ok=True)
    sub = SubIndication.CRYPTO_CONSTRAINTS_FAILURE
    return failed(number, "algorithms", refusal, sub, Verdict.INDETERMINATE)
