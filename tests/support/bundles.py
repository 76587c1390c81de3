"""Bundles of the shared TEST PKI in batch mode, with ledger proofs and a holder's signature."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from hashlib import sha256
from io import BytesIO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidence.bundle.making import (
    SENDER_PREFIX,
    BundleContents,
    BundlePlan,
    RevocationFile,
    plan_bundle,
    revocation_name,
)
from evidence.ledger.chain import LedgerEntry, append
from evidence.ledger.merkle import leaf_data, leaf_hash, node_hash, root
from evidence.ledger.notes import Checkpoint, NoteSigner, sign_checkpoint
from evidence.ledger.proof import LedgerProof, make_proof
from evidence.mail.mime import scan
from evidence.mail.smime import locate
from evidence.model.records import EvidenceKind, SealedEvidence
from evidence.ports import BytesSource, Timestamper
from evidence.seal.sealing import Sealer
from evidence.stamps.ers import HashTree, encode_record
from evidence.x509.certificates import certificate_facts
from evidence.x509.revocation import RevocationSource, ocsp_request
from kephs.testpki.issued import Issued
from tests.support.evidence_samples import AT
from tests.support.pki import ayse, shared_pki
from tests.support.sealed import (
    HS92,
    LATER,
    ORIGINAL,
    STAMPED,
    LocalTimestamper,
    about,
    accepted,
    delivered,
    dispatch,
    ocsp_files,
    sealer,
    signer_of,
)
from tests.support.signers import signed_message

LOG: str = "hs91.kep.tr/kephs-ledger"
LOG_KEY = NoteSigner(LOG, Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


@dataclass(frozen=True)
class LocalBatcher:
    """Evidence records over a batch that also holds strangers' leaves."""

    timestamper: Timestamper = field(default_factory=LocalTimestamper)
    others: int = 5

    async def records(self, leaves: Sequence[bytes]) -> list[bytes]:
        company = [sha256(b"%d" % number).digest() for number in range(self.others)]
        tree = HashTree([*leaves, *company])
        token = await self.timestamper.stamp(tree.root)
        return [encode_record(tree.path(index), token) for index in range(len(leaves))]


@dataclass(frozen=True)
class HeldTree:
    """All leaves of a small tree (`evidence.ledger.merkle.NodeSource`)."""

    leaves: tuple[bytes, ...]

    def hashes(self, level: int, start: int, count: int) -> list[bytes]:
        if level == 0:
            return list(self.leaves[start : start + count])
        below = self.hashes(level - 1, 2 * start, 2 * count)
        return [node_hash(a, b) for a, b in zip(below[::2], below[1::2], strict=True)]


def batch_sealer(domain: str = "hs91.kep.tr", batcher: LocalBatcher | None = None) -> Sealer:
    return Sealer(signer_of(shared_pki().transactions[domain]), LocalTimestamper(), batcher or LocalBatcher())


@cache
def signed_original() -> bytes:
    """Return a message that its holder signed, as submitted."""
    return signed_message(ayse())


def batch_sealed(
    original: bytes, kinds: Iterable[EvidenceKind], *, batcher: LocalBatcher | None = None
) -> list[SealedEvidence]:
    records = [about(original, kind) for kind in kinds]
    return asyncio.run(batch_sealer(batcher=batcher).seal_many(records))


def salt_of(item: SealedEvidence) -> bytes:
    return sha256(b"salt" + item.xml).digest()


def ledger_of(evidences: Iterable[SealedEvidence]) -> list[LedgerEntry]:
    entries: list[LedgerEntry] = []
    for item in evidences:
        entries.append(
            append(
                entries[-1] if entries else None, evidence_id=item.record.evidence_id,
                evidence_sha256=sha256(item.xml).digest(), at=STAMPED, salt=salt_of(item),
            )
        )  # fmt: skip
    return entries


def proofs_of(
    evidences: Sequence[SealedEvidence], *, others: int = 6, signer: NoteSigner = LOG_KEY
) -> tuple[bytes, dict[str, LedgerProof]]:
    """Return a checkpoint and the proofs of a ledger that begins with these, others after them."""
    leaves = [leaf_hash(leaf_data(salt_of(item), sha256(item.xml).digest())) for item in evidences]
    leaves += [leaf_hash(sha256(b"%d" % number).digest()) for number in range(others)]
    tree = HeldTree(tuple(leaves))
    note = sign_checkpoint(Checkpoint(signer.name, len(leaves), root(len(leaves), tree)), signer)
    made = {
        item.record.evidence_id: make_proof(number, salt_of(item), note, tree)
        for number, item in enumerate(evidences, 1)
    }
    return note, made


def revocation_files(
    issued: Iterable[Issued], *, at: datetime = LATER, prefix: str = ""
) -> list[RevocationFile]:
    """Return OCSP responses for each certificate and its issuer, named as the product names them."""
    pki, files = shared_pki(), {}
    root_facts = certificate_facts(pki.root)
    for item in issued:
        leaf, above = certificate_facts(item.certificate), certificate_facts(item.chain[0])
        pss = above.subject == certificate_facts(pki.authorities["pss"].certificate).subject
        for one, issuer, ca in ((leaf, above, "pss" if pss else "p384"), (above, root_facts, "root")):
            answer = pki.ocsp_response(ocsp_request(one, issuer), at, ca=ca)
            name = prefix + revocation_name(one.sha256, RevocationSource.OCSP)
            files[name] = RevocationFile(name, answer)
    return list(files.values())


def sender_signature(original: bytes) -> bytes:
    """Return the holder's SignedData as it stands in the original."""
    return locate(BytesSource(original), scan(BytesSource(original))).der


def sender_record(signature: bytes, *, at: datetime = STAMPED, others: int = 5) -> bytes:
    """Return the provider's evidence record over a holder's signature, made at reception."""
    batcher = LocalBatcher(LocalTimestamper(at), others)
    return asyncio.run(batcher.records([sha256(signature).digest()]))[0]


def contents(**changes: object) -> BundleContents:
    """Return a bundle's parts with stamps inside the evidence, no proofs."""
    evidences = (accepted(), delivered())
    made = BundleContents(
        original=BytesSource(ORIGINAL), evidences=evidences, dispatch=BytesSource(dispatch()),
        revocation=ocsp_files([shared_pki().transactions["hs91.kep.tr"]]),
        roots=(shared_pki().root,), ledger=ledger_of(evidences),
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def everything(**changes: object) -> BundleContents:
    """Return a bundle's parts in batch mode: every kind of file that there is."""
    return replace(_everything(), **changes)  # type: ignore[arg-type]


@cache
def _everything() -> BundleContents:
    return about_holder(ayse(), signed_original())


def about_holder(
    holder: Issued,
    original: bytes,
    *,
    stamped: datetime = STAMPED,
    holder_at: datetime = LATER,
    **changes: object,
) -> BundleContents:
    """Return a bundle's parts in batch mode, about a message of one holder.

    Args:
        holder: whose signature it is.
        original: the message.
        stamped: when the provider stamped the signature.
        holder_at: when the issuers said what they say about the holder's certificates.
        changes: of the parts.
    """
    kinds = (EvidenceKind.SUBMISSION_ACCEPTANCE, EvidenceKind.DELIVERY)
    theirs = asyncio.run(
        sealer("hs92.kep.tr").seal_many([about(original, EvidenceKind.RETRIEVAL, issuer=HS92)])
    )
    evidences = (*batch_sealed(original, kinds), *theirs)
    note, proofs = proofs_of(evidences)
    signature = sender_signature(original)
    transactions = shared_pki().transactions
    ours = [transactions["hs91.kep.tr"], transactions["hs92.kep.tr"], shared_pki().tsa]
    files = {file.name: file for file in revocation_files(ours)}
    files |= {file.name: file for file in revocation_files([holder], at=holder_at, prefix=SENDER_PREFIX)}
    made = BundleContents(
        original=BytesSource(original),
        evidences=evidences,
        dispatch=BytesSource(dispatch(evidences[0], original)),
        revocation=list(files.values()),
        sender_signature=signature,
        sender_report=b'{"verdict": "TOTAL-PASSED"}\n',
        sender_record=sender_record(signature, at=stamped),
        sender_certificates=holder.chain,
        roots=(shared_pki().root,),
        ledger=ledger_of(evidences),
        checkpoint=note,
        proofs={evidence_id: proof.encode() for evidence_id, proof in proofs.items()},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def written(plan: BundlePlan, *, by: Sealer | None = None) -> bytes:
    """Return the archive, its manifest signed."""
    signature = asyncio.run((by or sealer(at=LATER - timedelta(minutes=1))).sign_entity(plan.digest, AT))
    out = BytesIO()
    plan.write(signature, out)
    return out.getvalue()


def bundle(made: BundleContents | None = None, *, by: Sealer | None = None) -> bytes:
    return written(plan_bundle(made or contents(), created_at=LATER), by=by)
