"""pyHanko's opinion on a specimen of the zoo: the same roots, the same answers, the same time."""

import io
import logging
from contextlib import contextmanager
from datetime import timedelta
from hashlib import new as new_hash
from typing import Any

from asn1crypto import cms, crl, ocsp, x509
from pyhanko.sign.ades.report import AdESPassed
from pyhanko.sign.validation import async_validate_cms_signature, async_validate_detached_cms
from pyhanko.sign.validation.ades import ades_with_time_validation
from pyhanko.sign.validation.policy_decl import (
    LocalKnowledge,
    RevinfoOnlineFetchingRule,
    RevocationInfoGatheringSpec,
    SignatureValidationSpec,
)
from pyhanko.sign.validation.settings import KeyUsageConstraints
from pyhanko.sign.validation.status import StandardCMSSignatureStatus
from pyhanko_certvalidator import ValidationContext
from pyhanko_certvalidator.context import CertValidationPolicySpec
from pyhanko_certvalidator.ltv.types import ValidationTimingInfo
from pyhanko_certvalidator.policy_decl import REQUIRE_REVINFO, CertRevTrustPolicy
from pyhanko_certvalidator.registry import SimpleTrustManager
from pyhanko_certvalidator.revinfo.archival import CRLContainer, OCSPContainer

from tests.support.nes_zoo import Plan, Specimen
from tests.support.nes_zoo_cases import Case

USAGE = KeyUsageConstraints(key_usage={"non_repudiation"})
ACCEPTS, REFUSES = "accepts", "refuses"


def why_not(plan: Plan, case: Case | None = None) -> str | None:
    """Return why pyHanko cannot be asked about this, None where it can."""
    if case is not None and case.row.step == "1":
        return "it reads signatures, not mail"
    if len(plan.signers) != 1:
        return "it takes exactly one SignerInfo"
    if plan.signers[0].counters:
        return "it does not look at counter-signatures"
    if plan.later and not plan.signers[0].stamp_times:
        return "it proves times by the stamps inside alone"
    return None


async def opinion(specimen: Specimen) -> tuple[str, str]:
    """Return whether pyHanko accepts the signature, and what it says."""
    with _quiet():
        try:
            if specimen.plan.later:
                return await _later(specimen)
            status = await _status(specimen)
        except Exception as error:  # whatever it raises, it does not accept
            return REFUSES, f"{type(error).__name__}: {error}"[:200]
    stamp = status.timestamp_validity
    if stamp is not None and not (stamp.valid and stamp.intact and stamp.trusted):
        return REFUSES, f"time stamp: {stamp.summary()}"
    if status.valid and status.intact and status.trusted:
        return ACCEPTS, ""
    return REFUSES, str(status.summary())


async def _status(specimen: Specimen) -> StandardCMSSignatureStatus:
    signed = cms.ContentInfo.load(specimen.shop.cms, strict=True)["content"]
    signer, stamper = _context(specimen, ("root",)), _context(specimen, ("tsa-root",))
    if specimen.plan.form == "opaque":
        found: StandardCMSSignatureStatus = await async_validate_cms_signature(
            signed, status_cls=StandardCMSSignatureStatus, validation_context=signer, key_usage_settings=USAGE
        )
        return found
    return await async_validate_detached_cms(
        io.BytesIO(specimen.shop.content),
        signed,
        signer_validation_context=signer,
        ts_validation_context=stamper,
        key_usage_settings=USAGE,
    )


async def _later(specimen: Specimen) -> tuple[str, str]:
    """Validate with time, as EN 319 102-1 5.5 has it: stamps inside prove the past."""
    plan, at = specimen.plan, specimen.at
    answers, lists = _material(specimen, ("s1", "ca", "tsa", "tsa-ca"), ("ca", "root", "tsa-ca", "tsa-root"))
    configured = [x509.Certificate.load(facts.der) for facts in specimen.trust.roots]
    spec = SignatureValidationSpec(
        cert_validation_policy=CertValidationPolicySpec(
            trust_manager=SimpleTrustManager.build(trust_roots=configured),
            revinfo_policy=CertRevTrustPolicy(REQUIRE_REVINFO),
            time_tolerance=timedelta(0),
        ),
        revinfo_gathering_policy=RevocationInfoGatheringSpec(RevinfoOnlineFetchingRule.LOCAL_ONLY),
        local_knowledge=LocalKnowledge(
            known_ocsps=[OCSPContainer(one) for one in answers],
            known_crls=[CRLContainer(one) for one in lists],
        ),
        key_usage_settings=USAGE,
    )
    content = new_hash(plan.signers[0].digest, specimen.shop.content).digest()
    result = await ades_with_time_validation(
        cms.ContentInfo.load(specimen.shop.cms, strict=True)["content"],
        spec,
        timing_info=ValidationTimingInfo(at, at, point_in_time_validation=True),
        raw_digest=content,
    )
    if result.ades_subindic == AdESPassed.OK:
        return ACCEPTS, ""
    return REFUSES, f"{result.ades_subindic} {result.failure_msg or ''}"


def _material(
    specimen: Specimen, asked: tuple[str, ...], issuers: tuple[str, ...]
) -> tuple[list[ocsp.OCSPResponse], list[crl.CertificateList]]:
    shop, plan, at = specimen.shop, specimen.plan, specimen.at
    answers, lists = [], []
    if plan.network in {"ocsp", "both"}:
        answers = [ocsp.OCSPResponse.load(shop.answer(name, at).response()) for name in asked]
    if plan.network in {"crl", "both"}:
        lists = [crl.CertificateList.load(shop.revocations(name, at).der()) for name in issuers]
    return answers, lists


def _context(specimen: Specimen, roots: tuple[str, ...]) -> ValidationContext:
    shop, at = specimen.shop, specimen.at
    configured = {facts.der for facts in specimen.trust.roots}
    anchors = [shop.entities[name].der for name in roots]
    below = ("s1", "ca") if "root" in roots else ("tsa", "tsa-ca")
    above = ("ca", "root") if "root" in roots else ("tsa-ca", "tsa-root")
    answers, lists = _material(specimen, below, above)
    return ValidationContext(
        trust_roots=[x509.Certificate.load(der) for der in anchors if der in configured],
        other_certs=[],
        moment=at,
        best_signature_time=at,
        ocsps=answers,
        crls=lists,
        allow_fetching=False,
        revocation_mode="require",
        time_tolerance=timedelta(0),
    )


@contextmanager
def _quiet() -> Any:
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
