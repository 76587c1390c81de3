"""XAdES-B-LTA exports of evidence, made as the product makes them, and what tests ask of them."""

import asyncio
from base64 import b64decode
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from lxml import etree

from evidence.model.records import EvidenceKind, Party, Profile, SealedEvidence
from evidence.ports import BytesSource, Stamping
from evidence.report import SubIndication, Verdict
from evidence.verify.evidence import EvidenceCheck, check_evidence
from evidence.x509.revocation import RevocationAnswer
from evidence.x509.role import SealPolicy
from kephs.testpki.issued import Issued
from kephs.usecases.proof.export_evidence import Export, ExportEvidence, ExportFault, ExportUnavailableError
from tests.support.batches import batched
from tests.support.evidence_samples import record
from tests.support.sealed import LATER, LocalTimestamper, trust
from tests.support.world import Inline, LocalOcsp

DS = "{http://www.w3.org/2000/09/xmldsig#}"
XADES = "{http://uri.etsi.org/01903/v1.3.2#}"
XADES141 = "{http://uri.etsi.org/01903/v1.4.1#}"
YEAR = timedelta(days=365)


@dataclass
class Moving:
    """A clock that tests move."""

    at: datetime = LATER

    def now(self) -> datetime:
        return self.at


@dataclass
class Stamps:
    """Time stamps at the clock's time, by these authorities in turn; the last one goes on."""

    clock: Moving
    authorities: tuple[Issued | None, ...] = (None,)
    asked: int = 0

    async def stamp(self, digest: bytes) -> bytes:
        tsa = self.authorities[min(self.asked, len(self.authorities) - 1)]
        self.asked += 1
        return await LocalTimestamper(self.clock.now(), tsa).stamp(digest)


class Shelf:
    """A store with one evidence on it."""

    def __init__(self, evidence: SealedEvidence, **changes: object) -> None:
        self.xml = evidence.xml
        row = SimpleNamespace(unstamped=False, blob=b"x")
        vars(row).update(changes)
        evidence_id = evidence.record.evidence_id
        self.tx: Any = SimpleNamespace(
            evidence=SimpleNamespace(
                get=lambda wanted: row if wanted == evidence_id else None,
                ers=lambda _wanted: evidence.ers,
            ),
            blobs=SimpleNamespace(get=lambda sha256: sha256),
        )

    async def read(self, work):
        return work(self.tx)

    def open(self, _blob) -> BytesSource:
        return BytesSource(self.xml)


def maker(evidence: SealedEvidence, clock: Moving | None = None, **options: Any) -> ExportEvidence:
    clock = clock or Moving()
    shelf = options.get("shelf") or Shelf(evidence)
    return ExportEvidence(
        store=shelf, blobs=shelf, timestamper=options.get("stamps") or Stamps(clock),
        revocation=options.get("revocation") or LocalOcsp(clock, trust()), trust=options.get("trust") or trust(),
        policy=SealPolicy(), offload=Inline(), clock=clock,
    )  # fmt: skip


def export(evidence: SealedEvidence, clock: Moving | None = None, **options: Any) -> Export:
    return asyncio.run(maker(evidence, clock, **options).export(evidence.record.evidence_id))


def fault(evidence: SealedEvidence, clock: Moving | None = None, **options: Any) -> ExportFault:
    with pytest.raises(ExportUnavailableError) as caught:
        export(evidence, clock, **options)
    return caught.value.fault


@cache
def small(profile: Profile = Profile.KEP, stamping: Stamping = Stamping.BATCH) -> SealedEvidence:
    item = record(EvidenceKind.SUBMISSION_ACCEPTANCE, recipients=(Party("k@hs91.kep.tr"),))
    return batched(item, profile=profile, stamping=stamping)[0]


@cache
def exported(profile: Profile = Profile.KEP, stamping: Stamping = Stamping.BATCH) -> Export:
    return export(small(profile, stamping))


def check(xml: bytes, at: datetime = LATER, ers: bytes | None = None, **options: Any) -> EvidenceCheck:
    return check_evidence(xml, options.get("trust") or trust(), at, ers=ers)


def steps(found: EvidenceCheck) -> dict[str, tuple[bool | None, str]]:
    return {step.number: (step.ok, step.detail) for step in found.report.steps}


def deciding(found: EvidenceCheck) -> tuple[Verdict, SubIndication | None, str | None]:
    step = found.report.failing_step
    return found.report.verdict, found.report.sub_indication, step.name if step else None


both = pytest.mark.parametrize("stamping", Stamping, ids=lambda one: one.value)
forms = pytest.mark.parametrize("profile", Profile, ids=lambda one: one.value)


def octets(xml: bytes) -> bytes:
    """Do EN 319 132-1 5.5.2.3 over the parsed document with lxml alone."""

    def c14n(element) -> bytes:
        return etree.tostring(element, method="c14n", exclusive=True)

    signature = etree.fromstring(xml).find(f"{DS}Signature")
    properties = signature.find(f".//{XADES}SignedProperties")
    without = etree.fromstring(xml)
    without.remove(without.find(f"{DS}Signature"))
    found = []
    for reference in signature.find(f"{DS}SignedInfo").findall(f"{DS}Reference"):  # step 3
        found.append({"": c14n(without), "#sp-1": c14n(properties)}[reference.get("URI")])
    found += [
        c14n(signature.find(DS + name)) for name in ("SignedInfo", "SignatureValue", "KeyInfo")
    ]  # step 4
    for element in signature.find(f".//{XADES}UnsignedSignatureProperties"):  # step 5
        if element.tag == f"{XADES141}ArchiveTimeStamp":
            break
        found.append(c14n(element))
    others = [
        one for one in signature.findall(f"{DS}Object") if one.find(f"{XADES}QualifyingProperties") is None
    ]
    return b"".join([*found, *map(c14n, others)])  # step 6


def archive_token(xml: bytes) -> bytes:
    archive = etree.fromstring(xml).find(f".//{XADES141}ArchiveTimeStamp")
    return b64decode(archive.find(f"{XADES}EncapsulatedTimeStamp").text)


@dataclass
class Kept:
    """Answers as of an earlier day."""

    then: LocalOcsp

    async def status(self, certificate, issuer, _at) -> RevocationAnswer | None:
        return await self.then.status(certificate, issuer, self.then.clock.now())
