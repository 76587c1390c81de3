"""Sealed evidence, KEP messages and bundles of the shared TEST PKI, made as the product makes them."""

import asyncio
import re
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from hashlib import sha256
from io import BytesIO

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from evidence.adapters.soft_signer import SoftSigner
from evidence.bundle.making import BundleContents, RevocationFile, plan_bundle
from evidence.forms import rem_xml
from evidence.ledger.chain import LedgerEntry, append
from evidence.mail.package import Boundaries, Envelope, plan_dispatch, plan_receipt, transfer_label
from evidence.model.records import EvidenceKind, EvidenceRecord, Issuer, Party, SealedEvidence
from evidence.ports import BytesSource
from evidence.seal.sealing import Sealer
from evidence.stamps.timestamps import TokenIssuer, build_request, parse_response, read_request
from evidence.x509.certificates import certificate_facts
from evidence.x509.chain import TrustStore
from evidence.x509.revocation import ocsp_request
from evidence.xades.signing import WRITER_MARK, XadesSigner
from kephs.testpki.issued import Issued
from tests.support.evidence_samples import AT, HS91, record
from tests.support.pki import shared_pki

STAMPED = AT + timedelta(minutes=7)
LATER = AT + timedelta(minutes=30)
"""A good time to verify at: after the stamp, within the shared PKI's answers."""
ORIGINAL = (
    b"From: ayse@hs91.kep.tr\r\nTo: kurum@hs91.kep.tr\r\nCc: mehmet@hs91.kep.tr\r\n"
    b"Subject: Deneme\r\nMIME-Version: 1.0\r\n\r\nMerhaba\r\n"
)
HS92 = replace(HS91, name="TEST Ikinci", address="kep-hizmet@hs92.kep.tr")
DIGEST = sha256(ORIGINAL).digest()


@dataclass
class LocalTimestamper:
    """Tokens of the TEST TSA without the network."""

    at: datetime = STAMPED
    tsa: Issued | None = None

    async def stamp(self, digest: bytes) -> bytes:
        request = build_request(digest, 2**65 + 1)
        if self.tsa is None:
            return parse_response(shared_pki().timestamp_reply(request, self.at))
        issuer = TokenIssuer(self.tsa.certificate, self.tsa.chain, "1.2.3")
        draft = issuer.to_be_signed(read_request(request), self.at, 2**65)
        (signature,) = signer_of(self.tsa).sign_now([draft.digest])
        return issuer.assemble(draft, signature)


def signer_of(issued: Issued) -> SoftSigner:
    return SoftSigner(issued.key, issued.certificate, issued.chain)


def sealer(domain: str = "hs91.kep.tr", *, issued: Issued | None = None, at: datetime = STAMPED) -> Sealer:
    return Sealer(signer_of(issued or shared_pki().transactions[domain]), LocalTimestamper(at))


def trust() -> TrustStore:
    return TrustStore((shared_pki().root,))


def seal(item: EvidenceRecord, **options: object) -> SealedEvidence:
    domain = item.issuer.address.rpartition("@")[2]
    options.setdefault("domain", domain)
    return asyncio.run(sealer(**options).seal(item))  # type: ignore[arg-type]


def about(original: bytes, kind: EvidenceKind, **changes: object) -> EvidenceRecord:
    """Return a record about this original."""
    made = record(kind, **changes)
    return replace(made, message=replace(made.message, digest_sha256=sha256(original).digest()))


@cache
def accepted() -> SealedEvidence:
    return seal(about(ORIGINAL, EvidenceKind.SUBMISSION_ACCEPTANCE))


@cache
def delivered() -> SealedEvidence:
    return seal(about(ORIGINAL, EvidenceKind.DELIVERY))


def dispatch(
    evidence: SealedEvidence | None = None, original: bytes = ORIGINAL, *, by: Sealer | None = None
) -> bytes:
    """Return a whole dispatch to both recipients."""
    evidence = evidence or accepted()
    to, *cc = (party.address for party in evidence.record.recipients)
    envelope = Envelope(evidence.record.issuer.address, (to,), tuple(cc))
    label = transfer_label(has_8bit=not original.isascii(), is_binary=False)
    plan = plan_dispatch(envelope, evidence, label=label, boundaries=Boundaries.of("0123456789abcdef"))
    digest = sha256(plan.entity_head + original + plan.entity_tail).digest()
    p7s = asyncio.run((by or sealer()).sign_entity(digest, AT))
    return b"".join((plan.prefix, plan.entity_head, original, plan.entity_tail, plan.suffix(p7s)))


def receipt(
    evidence: SealedEvidence | None = None, *, by: Sealer | None = None, service: str = HS91.address
) -> bytes:
    """Return a whole receipt to the sender."""
    evidence = evidence or delivered()
    envelope = Envelope(service, (evidence.record.sender.address,))
    plan = plan_receipt(envelope, evidence, boundaries=Boundaries.of("fedcba9876543210"))
    return plan.finish(asyncio.run((by or sealer()).sign_entity(plan.digest(), AT)))


def ocsp_files(issued: Iterable[Issued], at: datetime = LATER) -> list[RevocationFile]:
    """Return OCSP responses for leaf and issuer of each certificate."""
    pki, files = shared_pki(), {}
    for item in issued:
        leaf, issuer = certificate_facts(item.certificate), certificate_facts(item.chain[0])
        root = certificate_facts(pki.root)
        name = (
            "pss"
            if issuer.subject == certificate_facts(pki.authorities["pss"].certificate).subject
            else "p384"
        )
        for certificate, above, ca in ((leaf, issuer, name), (issuer, root, "root")):
            answer = pki.ocsp_response(ocsp_request(certificate, above), at, ca=ca)
            files[f"{certificate.serial:x}.ocsp"] = answer
    return [RevocationFile(name, content) for name, content in files.items()]


def ledger_of(evidences: Iterable[SealedEvidence]) -> list[LedgerEntry]:
    entries: list[LedgerEntry] = []
    for item in evidences:
        entries.append(
            append(
                entries[-1] if entries else None,
                evidence_id=item.record.evidence_id,
                evidence_sha256=sha256(item.xml).digest(),
                at=STAMPED,
                salt=bytes([len(entries)]) * 32,
            )
        )
    return entries


def contents(**changes: object) -> BundleContents:
    evidences = (accepted(), delivered())
    made = BundleContents(
        original=BytesSource(ORIGINAL),
        evidences=evidences,
        dispatch=BytesSource(dispatch()),
        revocation=ocsp_files([shared_pki().transactions["hs91.kep.tr"]]),
        roots=(shared_pki().root,),
        ledger=ledger_of(evidences),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def bundle(made: BundleContents | None = None, *, by: Sealer | None = None) -> bytes:
    plan = plan_bundle(made or contents(), created_at=LATER)
    signature = asyncio.run((by or sealer(at=LATER - timedelta(minutes=1))).sign_entity(plan.digest, AT))
    out = BytesIO()
    plan.write(signature, out)
    return out.getvalue()


def issuer_of(domain: str) -> Issuer:
    return replace(HS91, address=f"kep-hizmet@{domain}")


def party(address: str) -> Party:
    return Party(address)


def foreign_xml(item: EvidenceRecord, issued: Issued | None = None, *, mark: str = "another writer") -> bytes:
    """Return the evidence as another writer would sign it: no mark of ours, white space, with stamp."""
    issued = issued or shared_pki().transactions["hs91.kep.tr"]
    key = signer_of(issued)
    writer = XadesSigner(issued.certificate, issued.chain)
    draft = writer.to_be_signed(rem_xml.write(item), AT)
    (unused,) = key.sign_now([draft.digest])
    text = writer.assemble(writer.with_signature(draft, unused), b"-").decode().replace(WRITER_MARK, mark)
    properties = re.findall(r"<xades:SignedProperties .*</xades:SignedProperties>", text)[0]
    space = ' xmlns:xades="http://uri.etsi.org/01903/v1.3.2#"'
    hashed = properties.replace("<xades:SignedProperties", f"<xades:SignedProperties{space}", 1)
    stated = re.findall(r"<ds:DigestValue>([^<]*)</ds:DigestValue>", text)[1]
    text = text.replace(stated, b64encode(sha256(hashed.encode()).digest()).decode())
    space = ' xmlns:ds="http://www.w3.org/2000/09/xmldsig#"'
    info = re.findall(r"<ds:SignedInfo>.*</ds:SignedInfo>", text)[0]
    tbs = info.replace("<ds:SignedInfo>", f"<ds:SignedInfo{space}>", 1)
    (der,) = key.sign_now([sha256(tbs.encode()).digest()])
    value = b"".join(number.to_bytes(32) for number in decode_dss_signature(der))
    element = f"<ds:SignatureValue>\n {b64encode(value).decode()}\n</ds:SignatureValue>"
    text = re.sub(r"<ds:SignatureValue>[^<]*</ds:SignatureValue>", element, text)
    stamped = element.replace("<ds:SignatureValue>", f"<ds:SignatureValue{space}>")
    token = asyncio.run(LocalTimestamper().stamp(sha256(stamped.encode()).digest()))
    return text.replace(
        b64encode(b"-").decode() + "</xades:Enc", b64encode(token).decode() + "</xades:Enc"
    ).encode()
