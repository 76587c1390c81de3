"""The sender's qualified signature (NES) on a message, verified in two phases around the network.

`prepare` does all that needs no network and names the certificates whose revocation must be known;
`conclude` takes the answers and decides. Both are pure, so a caller runs them in a thread and asks OCSP in
between. The earliest failing step decides, all are recorded:

====== ======================================================================================
step   check (n counts the parallel signers: all must pass; m the certificates of the paths)
====== ======================================================================================
1      the signature is the outermost body, nothing unsigned stands beside it
2      strict SignedData over id-data, with content exactly once and at least one signer
3.n.1  signed attributes: each once, in order, contentType
3.n.2  messageDigest over the exact bytes received
3.n.3  the certificate, by signer identifier and signing-certificate-v2 (SHA-256 or better)
3.n.4  signature value
3.n.5  algorithms and key size
3.n.6  claimed signing time is not ahead of reception
3.n.7  path to a configured root, valid at reception
3.n.8  qualified certificate statements (ETSI and law 5070)
3.n.9  key usage nonRepudiation, not an authority
3.n.10 policies: user notice present, no transaction certificate, no Mali Mühür
3.n.11 counter-signatures, where present: digest, certificate, value, path
4.m    not revoked
5.m    revocation status is known and fresh, else TRY_LATER
====== ======================================================================================

(spec: EN319102-1#5.3, signing.md 1, 2.2 to 2.6)
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import new as new_hash

from evidence.asn1.der import DerError, Node
from evidence.cms.signed_data import (
    COUNTER_SIGNATURE,
    ID_DATA,
    SignedData,
    SignerCheck,
    SignerInfo,
    read_signer_info,
    verify_signer,
)
from evidence.mail.mime import Part
from evidence.mail.smime import EntityKind, SignedEntity, SmimeError, digests, locate, read_signed
from evidence.nes.qualified import DEFAULT_NES_POLICY, NesPolicy, qualified_steps
from evidence.ports import ByteSource
from evidence.report import Report, Step, SubIndication, Verdict
from evidence.report import conclude as conclude_report
from evidence.x509.algorithms import Role, SignatureAlgorithm
from evidence.x509.certificates import CertificateError, CertificateFacts, certificate_facts
from evidence.x509.chain import Chain, ChainFailure, TrustStore, build_chain
from evidence.x509.revocation import RevocationAnswer, RevocationSource, RevocationStatus, is_fresh

__all__ = [
    "DEFAULT_NES_POLICY",
    "Material",
    "NesPolicy",
    "Prepared",
    "SenderReport",
    "SignerIdentity",
    "conclude",
    "prepare",
]

_SUBJECT = "sender signature"
_MAX_COUNTERS = 8


@dataclass(frozen=True, slots=True)
class SignerIdentity:
    """Who signed, as the certificate names them. ``tckn`` None: the certificate names no person's number."""

    tckn: str | None
    common_name: str | None
    serial: int
    issuer: str
    certificate_sha256: bytes
    not_after: datetime
    signing_time: datetime | None  # claimed, proves nothing


@dataclass(frozen=True, slots=True)
class Material:
    """What the verdict rests on, DER: to be kept with the message for later checks."""

    certificates: tuple[bytes, ...] = ()
    ocsp: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """The first phase's result. ``needs`` is empty where a step has failed already."""

    steps: tuple[Step, ...]
    needs: tuple[tuple[CertificateFacts, CertificateFacts], ...]
    signers: tuple[SignerIdentity, ...]
    certificates: tuple[bytes, ...]
    kind: EntityKind | None
    policy: NesPolicy


@dataclass(frozen=True, slots=True)
class SenderReport:
    """The verdict on a sender's signature, who signed, and the material it rests on."""

    report: Report
    signers: tuple[SignerIdentity, ...]
    material: Material

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


# --------------------------------------------------------------------------- first phase


def prepare(
    source: ByteSource,
    root: Part,
    *,
    trust: TrustStore,
    policy: NesPolicy = DEFAULT_NES_POLICY,
    at: datetime,
) -> Prepared:
    """Check everything but revocation. Never raises for what a message contains.

    Args:
        source: the message exactly as received.
        root: its structure, from `evidence.mail.mime.scan`.
        trust: roots and intermediates; they are tried where the signature brings none.
        policy: what the provider accepts.
        at: time of reception, aware.
    """
    return _Preparation(source, root, trust, policy, at).run()


class _Preparation:
    """Gathers steps while the checks run in the order of the module's table."""

    def __init__(
        self, source: ByteSource, root: Part, trust: TrustStore, policy: NesPolicy, at: datetime
    ) -> None:
        self._source, self._root = source, root
        self._trust, self._policy, self._at = trust, policy, at
        self._steps: list[Step] = []
        self._chains: list[Chain] = []
        self._signers: list[SignerIdentity] = []
        self._kind: EntityKind | None = None

    def run(self) -> Prepared:
        found = self._open()
        if found is not None:
            signed, by_name = found
            for number, signer in enumerate(signed.signers, 1):
                self._signer(signed, signer, by_name, f"3.{number}")
        failed = any(step.ok is False for step in self._steps)
        links = {link[0].sha256: link for chain in self._chains for link in chain.links}
        certificates = {facts.sha256: facts.der for chain in self._chains for facts in chain.certificates}
        return Prepared(
            tuple(self._steps),
            () if failed else tuple(links.values()),
            tuple(self._signers),
            tuple(certificates.values()),
            self._kind,
            self._policy,
        )

    def _pass(self, number: str, name: str, detail: str = "") -> None:
        self._steps.append(Step(number, name, ok=True, detail=detail))

    def _fail(
        self,
        number: str,
        name: str,
        detail: str,
        sub_indication: SubIndication,
        verdict: Verdict = Verdict.INDETERMINATE,
    ) -> None:
        self._steps.append(Step(number, name, False, detail, sub_indication, verdict))  # noqa: FBT003

    def _open(self) -> tuple[SignedData, dict[str, bytes]] | None:
        """Run steps 1 and 2 and digest the content once for all signers."""
        name = "outermost body is the signature"
        try:
            entity = locate(self._source, self._root, limits=self._policy.limits)
        except SmimeError as error:
            self._fail("1", name, str(error), error.sub_indication, error.verdict)
            return None
        self._kind = entity.kind
        self._pass("1", name, entity.kind)
        name = "signed data"
        try:
            signed, by_name = _read(self._source, entity)
        except DerError as error:
            self._fail("2", name, str(error), SubIndication.FORMAT_FAILURE, Verdict.FAILED)
            return None
        self._pass("2", name, f"{len(signed.signers)} signer(s)")
        return signed, by_name

    def _signer(
        self, signed: SignedData, signer: SignerInfo, by_name: Mapping[str, bytes], number: str
    ) -> None:
        check = verify_signer(
            signed, signer, digest_of=by_name.__getitem__, rules=self._policy.cms, number=number
        )
        self._steps.extend(check.steps)
        facts = check.certificate
        if facts is None:
            return
        self._signers.append(_identity(facts, check))
        self._algorithms(facts, check, f"{number}.5")
        self._signing_time(check.signing_time, f"{number}.6")
        self._path(signed, facts, f"{number}.7")
        self._steps.extend(qualified_steps(facts, self._policy, number=number, first=8))
        self._counter_signatures(signed, signer, f"{number}.11")

    def _algorithms(self, facts: CertificateFacts, check: SignerCheck, number: str) -> None:
        refusal: str | None = "unknown key type or digest"
        if facts.key.family is not None and check.digest_name is not None:
            algorithm = SignatureAlgorithm(facts.key.family, check.digest_name)
            refusal = self._policy.algorithms.refusal(
                Role.SIGNER, algorithm, check.digest_name, facts.key.size, self._at
            )
        if refusal is not None:
            self._fail(number, "algorithms", refusal, SubIndication.CRYPTO_CONSTRAINTS_FAILURE)
            return
        lapsed = self._policy.algorithms.lapsed(self._at)
        detail = "the algorithm table is past its date" if lapsed else f"{facts.key.family} {facts.key.size}"
        self._steps.append(Step(number, "algorithms", None if lapsed else True, detail))

    def _signing_time(self, claimed: datetime | None, number: str) -> None:
        name = "claimed signing time"
        if claimed is not None and claimed > self._at + self._policy.signing_time_tolerance:
            detail = f"{claimed.isoformat()} is after reception"
            self._fail(number, name, detail, SubIndication.SIG_CONSTRAINTS_FAILURE)
        else:
            self._pass(number, name, claimed.isoformat() if claimed is not None else "none")

    def _path(self, signed: SignedData, facts: CertificateFacts, number: str) -> bool:
        chain = build_chain(facts, _readable(signed.certificates), self._trust, self._at)
        if isinstance(chain, ChainFailure):
            self._fail(number, "path to a root", chain.detail, chain.sub_indication, chain.verdict)
            return False
        self._chains.append(chain)
        self._pass(number, "path to a root", chain.root.label)
        return True

    def _counter_signatures(self, signed: SignedData, signer: SignerInfo, number: str) -> None:
        """Check each counter-signature over the parent's signature value; chains within are not followed."""
        values = signer.unsigned_values(COUNTER_SIGNATURE)
        if len(values) > _MAX_COUNTERS:
            self._fail(number, "counter-signatures", "too many", SubIndication.FORMAT_FAILURE, Verdict.FAILED)
            return
        for index, value in enumerate(values, 1):
            prefix = f"{number}.{index}"
            try:
                counter = _read_counter(value)
            except DerError as error:
                self._fail(
                    prefix, "counter-signature", str(error), SubIndication.FORMAT_FAILURE, Verdict.FAILED
                )
                continue
            check = verify_signer(
                signed,
                counter,
                digest_of=lambda name: new_hash(name, signer.signature).digest(),
                rules=self._policy.cms,
                number=prefix,
                counter=True,
            )
            self._steps.extend(check.steps)
            if check.certificate is not None:
                self._algorithms(check.certificate, check, f"{prefix}.5")
                self._path(signed, check.certificate, f"{prefix}.7")


def _read(source: ByteSource, entity: SignedEntity) -> tuple[SignedData, dict[str, bytes]]:
    """Return the SignedData and the content's digests, for step 2."""
    signed = read_signed(entity)
    if not signed.signers:
        raise DerError("no signer")
    if signed.content_type != ID_DATA:
        raise DerError(f"content type {signed.content_type} is not id-data")
    names = sorted({signer.digest_name for signer in signed.signers if signer.digest_name is not None})
    by_name = digests(source, entity, signed, names)
    if by_name is None:
        raise DerError("the content must stand exactly once, in the message or in the signature")
    return signed, by_name


def _read_counter(value: Node) -> SignerInfo:
    counter = read_signer_info(value)
    if counter.unsigned_values(COUNTER_SIGNATURE):
        raise DerError("a counter-signature on a counter-signature")
    return counter


def _identity(facts: CertificateFacts, check: SignerCheck) -> SignerIdentity:
    return SignerIdentity(
        facts.tckn,
        facts.common_name,
        facts.serial,
        facts.issuer_text,
        facts.sha256,
        facts.not_after,
        check.signing_time,
    )


def _readable(certificates: Iterable[bytes]) -> list[CertificateFacts]:
    found = []
    for der in certificates:
        try:
            found.append(certificate_facts(der))
        except CertificateError:
            continue  # not the signer's (that one was read); it cannot help a path
    return found


# --------------------------------------------------------------------------- second phase


def conclude(
    prepared: Prepared, answers: Mapping[bytes, RevocationAnswer | None], at: datetime
) -> SenderReport:
    """Decide.

    Args:
        prepared: what `prepare` returned.
        answers: by certificate SHA-256, what the issuer's OCSP or CRL says; None or missing: nothing fresh.
        at: time of reception, aware.
    """
    revoked: list[Step] = []
    known: list[Step] = []
    for index, (facts, _) in enumerate(prepared.needs, 1):
        answer = answers.get(facts.sha256)
        signer = any(one.certificate_sha256 == facts.sha256 for one in prepared.signers)
        revoked.append(_revocation_step(f"4.{index}", facts, answer, signer=signer))
        known.append(_freshness_step(f"5.{index}", facts, answer, prepared.policy, at))
    used = [answer for facts, _ in prepared.needs if (answer := answers.get(facts.sha256)) is not None]
    report = conclude_report(_SUBJECT, (*prepared.steps, *revoked, *known), at, facts=_facts(prepared))
    return SenderReport(
        report,
        prepared.signers,
        Material(
            prepared.certificates,
            _unique(answer.der for answer in used if answer.source is RevocationSource.OCSP),
            _unique(answer.der for answer in used if answer.source is RevocationSource.CRL),
        ),
    )


def _revocation_step(
    number: str, facts: CertificateFacts, answer: RevocationAnswer | None, *, signer: bool
) -> Step:
    """Fail for a certificate known to be revoked: certain for the signer's, no proof of time above."""
    if answer is None or answer.status is not RevocationStatus.REVOKED:
        return Step(number, "not revoked", ok=True, detail=facts.label)
    since = answer.revoked_at.isoformat() if answer.revoked_at is not None else "unknown"
    return Step(
        number,
        "not revoked",
        ok=False,
        detail=f"{facts.label} revoked {since} {answer.reason or ''}".rstrip(),
        sub_indication=SubIndication.REVOKED if signer else SubIndication.REVOKED_NO_POE,
        verdict=Verdict.FAILED if signer else Verdict.INDETERMINATE,
    )


def _freshness_step(
    number: str, facts: CertificateFacts, answer: RevocationAnswer | None, policy: NesPolicy, at: datetime
) -> Step:
    name = "revocation status known"
    problem = None
    if answer is None:
        problem = "neither OCSP nor CRL answered"
    elif answer.status is RevocationStatus.UNKNOWN:
        problem = "the responder does not know it"
    elif not is_fresh(answer, at, policy.freshness):
        problem = "the answer is not fresh"
    if problem is None and answer is not None:
        return Step(number, name, ok=True, detail=f"{answer.source} {answer.this_update.isoformat()}")
    return Step(
        number,
        name,
        ok=False,
        detail=f"{facts.label}: {problem}",
        sub_indication=SubIndication.TRY_LATER,
        verdict=Verdict.INDETERMINATE,
    )


def _facts(prepared: Prepared) -> dict[str, object]:
    return {
        "kind": prepared.kind.value if prepared.kind is not None else None,
        "signers": [
            {
                "common_name": signer.common_name,
                "serial": f"{signer.serial:x}",
                "issuer": signer.issuer,
                "not_after": signer.not_after.isoformat(),
                "certificate_sha256": signer.certificate_sha256.hex(),
                "signing_time": signer.signing_time.isoformat() if signer.signing_time is not None else None,
            }
            for signer in prepared.signers
        ],
    }


def _unique(ders: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(ders))
