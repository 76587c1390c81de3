"""The first phase of the verifier: steps 1 to 3. Use it through `evidence.nes.verifier`.

The usual message, one signer without unsigned attributes, goes straight through `_Preparation.signer`; all
that P2 to P4 and stamps need is made only where a signature brings it.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from hashlib import new as new_hash
from typing import Final, NamedTuple

from evidence.asn1.der import DerError
from evidence.cms.signed_data import (
    COUNTER_SIGNATURE,
    SIGNATURE_POLICY,
    SignedData,
    SignerCheck,
    SignerInfo,
    read_signer_info,
    verify_signer,
)
from evidence.mail.smime import EntityKind
from evidence.nes.embedded import embedded_in, joined
from evidence.nes.extended import Extended
from evidence.nes.findings import failing, readable
from evidence.nes.model import NOTHING, Embedded, Moment, Prepared, Role, SignerIdentity, Use
from evidence.nes.policy import NesPolicy
from evidence.nes.profiles import Profile
from evidence.nes.qualified import is_seal, qualified_steps
from evidence.nes.signature_stamps import StampBudget, StampSetting
from evidence.report import Step, SubIndication, Verdict, held
from evidence.x509.algorithms import Role as KeyRole
from evidence.x509.algorithms import SignatureAlgorithm
from evidence.x509.certificates import CertificateFacts
from evidence.x509.chain import Chain, ChainFailure, LinkBudget, TrustStore, build_chain
from evidence.x509.offline import OfflineRevocation
from evidence.x509.revocation import RevocationAnswer

MAX_COUNTERS: Final = 8
"""Counter-signatures of one message, nested ones too."""
MAX_COUNTER_DEPTH: Final = 3
MAX_MESSAGE_LINKS: Final = 128
"""Certificate signatures tried for all paths of one message."""

Link = tuple[CertificateFacts, CertificateFacts]


class Question(NamedTuple):
    """What is asked about a signature: by which roots and rules, when, and from which moment."""

    trust: TrustStore
    policy: NesPolicy
    at: datetime
    moment: Moment
    proven: datetime | None


class Opened(NamedTuple):
    """A signature taken out of its message or file: what it is, and how to digest its content again."""

    signed: SignedData
    by_name: dict[str, bytes]
    kind: EntityKind | None
    digest: Callable[[str], bytes | None]
    sha256: bytes  # of the ContentInfo as it came
    variant: str = ""  # which octets were signed in place of the exact ones (`evidence.mail.variants`)


class _Numbers(NamedTuple):
    """Numbers of one signer's steps: made once, not for every message."""

    algorithms: str
    time: str
    path: str
    counters: str


@lru_cache(maxsize=64)
def _numbers(number: str) -> _Numbers:
    return _Numbers(*(f"{number}.{index}" for index in (5, 6, 7, 11)))


def prepare_opened(question: Question, steps: list[Step], opened: Opened | None) -> Prepared:
    """Run step 3 for every signer and say which certificates' revocation must be known.

    Args:
        question: what is asked.
        steps: 1 and 2, made already; one of them failed where ``opened`` is None.
        opened: the signature.
    """
    work = _Preparation(question, steps)
    if opened is not None:
        work.run(opened)
    return work.result(opened)


class _Preparation:
    """Gathers steps while the checks run in the order of the module table in `evidence.nes.verifier`."""

    __slots__ = (
        "_best", "_budget", "_certificates", "_counters_left", "_embedded", "_grace", "_links", "_offered",
        "_policy", "_profile", "_question", "_signed", "_signers", "_stamps", "_steps", "_uses",
    )  # fmt: skip

    def __init__(self, question: Question, steps: list[Step]) -> None:
        self._question, self._policy, self._steps = question, question.policy, steps
        self._links: dict[bytes, Link] = {}
        self._uses: dict[bytes, Use] = {}
        self._certificates: dict[bytes, bytes] = {}
        self._signers: list[SignerIdentity] = []
        self._embedded: list[Embedded] = []
        self._offered: list[CertificateFacts] | None = None
        self._best: datetime | None = None
        self._profile: Profile | None = None
        self._grace: datetime | None = None
        self._budget = LinkBudget(MAX_MESSAGE_LINKS)
        self._stamps: StampBudget | None = None  # the usual signature has no stamp
        self._counters_left = MAX_COUNTERS

    def run(self, opened: Opened) -> None:
        self._signed = opened.signed
        wanted = self._policy.required_signer
        for number, signer in enumerate(opened.signed.signers, 1):
            before = len(self._steps)
            facts = self.signer(signer, opened, f"3.{number}")
            if wanted is not None and (facts is None or facts.sha256 != wanted):
                self._steps[before:] = [_reported_only(step) for step in self._steps[before:]]
        if wanted is not None and all(one.certificate_sha256 != wanted for one in self._signers):
            missing = SubIndication.NO_SIGNING_CERTIFICATE_FOUND
            detail = "the signer that counts did not sign"
            self._steps.append(failing("3", "required signer", "required-signer-missing", detail, missing))

    def result(self, opened: Opened | None) -> Prepared:
        question = self._question
        failed = False in [step.ok for step in self._steps]
        embedded = joined(self._embedded) if self._embedded else NOTHING
        needs = () if failed else tuple(self._links.values())
        return Prepared(
            tuple(self._steps),
            needs,
            tuple(self._signers),
            tuple(self._certificates.values()),
            opened.kind if opened is not None else None,
            self._policy,
            () if failed else tuple(self._uses.values()),
            question.moment,
            embedded,
            self._told(embedded) if needs and (embedded.ocsp or embedded.crls) else (),
            self._best,
            tuple([one.signature for one in opened.signed.signers]) if opened is not None else (),
            self._profile,
            self._grace,
            opened.sha256 if opened is not None else None,
        )

    def _told(self, embedded: Embedded) -> tuple[tuple[bytes, tuple[RevocationAnswer, ...]], ...]:
        """Check what the signature itself brings on revocation."""
        question = self._question
        offline = OfflineRevocation(embedded.ocsp, embedded.crls, self._policy.freshness)
        found = []
        for digest, (facts, issuer) in self._links.items():
            at = self._uses[digest].at
            answer = offline.answer(facts, issuer, question.trust, at, not_after=question.at)
            if answer is not None:
                found.append((digest, (answer,)))
        return tuple(found)

    # ----------------------------------------------------------------------- one signer

    def signer(self, signer: SignerInfo, opened: Opened, number: str) -> CertificateFacts | None:
        """Check one parallel signer; return its certificate where it was found."""
        check = verify_signer(
            opened.signed, signer, digest_of=opened.by_name.__getitem__, rules=self._policy.cms, number=number
        )
        self._steps += check.steps if not opened.variant else _of_variant(check.steps, opened.variant)
        facts = check.certificate
        if facts is None:
            return None
        self._signers.append(_identity(facts, check.signing_time))
        more = None
        if signer.unsigned or self._signed.has_crls or _claims_policy(signer):
            more = self._extended(signer, opened, check, number)
        when, proven = self._time(more)
        if more is not None and len(self._signers) == 1:
            self._best, self._profile = more.best_time, more.profile
        elif len(self._signers) == 1:
            self._profile = Profile.P1
            self._best = self._question.proven
        numbers = _numbers(number)
        self._steps.append(self._algorithms(facts, check, when, numbers.algorithms, proven=proven))
        self._steps.append(self._signing_time(check.signing_time, when, numbers.time))
        use = Use(Role.SIGNER, when, proven, None, more is not None and more.profile is Profile.P4)
        chain = self._path(facts, more, use, numbers.path)
        self._steps += qualified_steps(facts, self._policy, number=number, first=8)
        if more is not None:
            self._counter_signatures(signer, more, numbers.counters, 1, self._question.proven)
            self._finish(more, chain, number)
        return facts

    def _extended(self, signer: SignerInfo, opened: Opened, check: SignerCheck, number: str) -> Extended:
        question = self._question
        embedded = embedded_in(opened.signed, signer)
        candidates = (*opened.signed.certificates, *embedded.certificates)
        self._stamps = self._stamps or StampBudget()
        setting = StampSetting(question.trust, question.policy, candidates, self._stamps)
        more = Extended(opened.signed, signer, check, setting, embedded)
        at = question.at
        if question.moment is Moment.LATER and question.proven is not None:
            at = min(at, question.proven)
        more.look(opened.digest, at, question.proven, number)
        return more

    def _finish(self, more: Extended, chain: Chain | None, number: str) -> None:
        """Add steps 12 to 16, and what the stamps' paths need."""
        question = self._question
        self._steps += more.steps(chain, question.at, number)
        self._embedded.append(more.all_embedded())
        for stamp in (*more.stamps, *more.archived):
            later = question.moment is Moment.LATER
            at, existed = (stamp.gen_time, question.proven) if later else (question.at, None)
            use = Use(Role.STAMPER, at, later, stamp.gen_time, existed=existed)
            self._need(stamp.chain, use)
        if more.profile in {Profile.P2, Profile.P3} and more.stamps:
            first = min(stamp.gen_time for stamp in more.stamps) + self._policy.grace_period
            self._grace = max(first, self._grace) if self._grace is not None else first

    def _time(self, more: Extended | None) -> tuple[datetime, bool]:
        """Return the time that counts for a signer, and whether it is proven."""
        question = self._question
        if question.moment is Moment.RECEPTION:
            return question.at, False
        best = more.best_time if more is not None else question.proven
        return (question.at, False) if best is None else (best, True)

    def _algorithms(
        self, facts: CertificateFacts, check: SignerCheck, at: datetime, number: str, *, proven: bool
    ) -> Step:
        refusal: str | None = "unknown key type or digest"
        algorithms, digest, family = self._policy.algorithms, check.digest_name, facts.key.family
        if family is not None and digest is not None:
            algorithm, size = SignatureAlgorithm(family, digest), facts.key.size
            refusal = algorithms.refusal(KeyRole.SIGNER, algorithm, digest, size, at)
            if refusal is not None and algorithms.ended(at) and not proven:
                before = replace(algorithms, enforce_end=False)
                late = before.refusal(KeyRole.SIGNER, algorithm, digest, size, at) is None
                if late and self._question.moment is Moment.LATER:
                    no_proof = SubIndication.CRYPTO_CONSTRAINTS_FAILURE_NO_POE
                    return failing(number, "algorithms", "algorithm-ended", refusal, no_proof)
        if refusal is not None:
            constraint = SubIndication.CRYPTO_CONSTRAINTS_FAILURE
            return failing(number, "algorithms", "algorithm-refused", refusal, constraint)
        if algorithms.lapsed(at):
            detail = "the algorithm table is past its date"
            return Step(number, "algorithms", ok=None, detail=detail, code="algorithm-table-old")
        return held(number, "algorithms", f"{facts.key.family} {facts.key.size}")

    def _signing_time(self, claimed: datetime | None, at: datetime, number: str) -> Step:
        if claimed is None:
            return held(number, "claimed signing time", "none")
        if claimed - at > self._policy.signing_time_tolerance:  # so written it cannot overflow
            detail = f"{claimed.isoformat()} is after reception"
            constraint = SubIndication.SIG_CONSTRAINTS_FAILURE
            return failing(number, "claimed signing time", "signing-time-ahead", detail, constraint)
        return _time_held(number, claimed)

    def _path(self, facts: CertificateFacts, more: Extended | None, use: Use, number: str) -> Chain | None:
        trust, name = self._question.trust, "path to a root"
        chain = trust.known_path(facts, use.at)
        found: Chain | ChainFailure
        if chain is not None:
            found = chain
        else:
            offered = self._candidates() if more is None else readable(more.setting.candidates)
            found = build_chain(facts, offered, trust, use.at, budget=self._budget)
        if isinstance(found, ChainFailure):
            sub, verdict = found.sub_indication, found.verdict
            if sub is SubIndication.EXPIRED and self._question.moment is Moment.LATER and not use.proven:
                sub, verdict = SubIndication.OUT_OF_BOUNDS_NO_POE, Verdict.INDETERMINATE
            self._steps.append(
                failing(number, name, _PATH_CODES.get(sub, "path"), found.detail, sub, verdict)
            )
            return None
        self._need(found, use)
        self._steps.append(_path_held(number, found.certificates[-1]))
        return found

    def _candidates(self) -> list[CertificateFacts]:
        if self._offered is None:
            self._offered = readable(self._signed.certificates)
        return self._offered

    def _need(self, chain: Chain, use: Use) -> None:
        """Ask for the revocation of a path's certificates, each once, at the latest time that counts."""
        above = Use(Role.AUTHORITY, use.at, use.proven)
        for link in chain.links:
            digest = link[0].sha256
            earlier = self._uses.get(digest)
            if earlier is None:
                self._links[digest], self._uses[digest] = link, use
            elif earlier is not use:
                self._uses[digest] = _both(earlier, use)
            use = above
        for facts in chain.certificates:
            self._certificates[facts.sha256] = facts.der

    # ----------------------------------------------------------------------- counter-signatures

    def _counter_signatures(
        self, parent: SignerInfo, more: Extended, number: str, depth: int, attested: datetime | None
    ) -> None:
        """Check each counter-signature over the parent's signature value, and those over it in turn.

        ``attested``: when they are proven to have been there; a stamp over the signature does not tell.
        """
        values = parent.unsigned_values(COUNTER_SIGNATURE)
        malformed, name = SubIndication.FORMAT_FAILURE, "counter-signatures"
        if len(values) > self._counters_left:
            self._steps.append(failing(number, name, "too-many", "too many", malformed, Verdict.FAILED))
            return
        if values and depth > MAX_COUNTER_DEPTH:
            detail = f"nested more than {MAX_COUNTER_DEPTH} deep"
            self._steps.append(failing(number, name, "counter-nested", detail, malformed, Verdict.FAILED))
            return
        self._counters_left -= len(values)
        for index, value in enumerate(values, 1):
            prefix = f"{number}.{index}"
            try:
                counter = read_signer_info(value)
            except DerError as error:
                self._steps.append(
                    failing(
                        prefix,
                        "counter-signature",
                        "counter-malformed",
                        str(error),
                        malformed,
                        Verdict.FAILED,
                    )
                )
                continue
            covering = [one.gen_time for one in more.archived if value.start in one.covered]
            known = min((*covering, attested) if attested is not None else covering, default=None)
            self._counter(parent, counter, more, prefix, known)
            self._counter_signatures(counter, more, f"{prefix}.11", depth + 1, known)

    def _counter(
        self,
        parent: SignerInfo,
        counter: SignerInfo,
        more: Extended,
        number: str,
        attested: datetime | None,
    ) -> None:
        check = verify_signer(
            self._signed,
            counter,
            digest_of=lambda name: new_hash(name, parent.signature).digest(),
            rules=self._policy.cms,
            number=number,
            counter=True,
        )
        self._steps += check.steps
        facts = check.certificate
        if facts is None:
            return
        question, when, proven = self._question, self._question.at, False
        if question.moment is Moment.LATER and attested is not None:
            when, proven = attested, True
        numbers = _numbers(number)
        self._steps.append(self._algorithms(facts, check, when, numbers.algorithms, proven=proven))
        if self._path(facts, more, Use(Role.COUNTER_SIGNER, when, proven), numbers.path) is not None:
            more.others.append(facts)


_PATH_CODES: Final = {
    SubIndication.EXPIRED: "expired",
    SubIndication.OUT_OF_BOUNDS_NO_POE: "expired-no-proof",
    SubIndication.NOT_YET_VALID: "not-yet-valid",
    SubIndication.NO_CERTIFICATE_CHAIN_FOUND: "no-path",
    SubIndication.CHAIN_CONSTRAINTS_FAILURE: "path-constraint",
    SubIndication.CRYPTO_CONSTRAINTS_FAILURE: "path-algorithm",
}


def _claims_policy(signer: SignerInfo) -> bool:
    return SIGNATURE_POLICY in [attribute.oid for attribute in signer.attributes]


def _both(one: Use, other: Use) -> Use:
    """Return the stricter of two uses of a certificate: at the later time, as a signer's where it is."""
    first = other if other.role is Role.SIGNER else one
    proven, ocsp_only = one.proven and other.proven, one.ocsp_only or other.ocsp_only
    return first._replace(at=max(one.at, other.at), proven=proven, ocsp_only=ocsp_only)


def _of_variant(steps: tuple[Step, ...], variant: str) -> list[Step]:
    """Say at the message digest which octets were signed."""
    return [
        step._replace(detail=f"{step.detail}, {variant}", code="content-variant")
        if step.name == "message digest" and step.ok
        else step
        for step in steps
    ]


def _reported_only(step: Step) -> Step:
    return step if step.ok is not False else step._replace(ok=None, sub_indication=None, verdict=None)


def _identity(facts: CertificateFacts, signing_time: datetime | None) -> SignerIdentity:
    return _holder(facts)._replace(signing_time=signing_time)


@lru_cache(maxsize=1024)  # a pure memo: senders write more than one message
def _holder(facts: CertificateFacts) -> SignerIdentity:
    return SignerIdentity(
        facts.tckn, facts.common_name, facts.serial, facts.issuer_text, facts.sha256, facts.not_after,
        None, facts.der, is_seal(facts),
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _time_held(number: str, claimed: datetime) -> Step:
    return held(number, "claimed signing time", claimed.isoformat())


@lru_cache(maxsize=256)
def _path_held(number: str, root: CertificateFacts) -> Step:
    return held(number, "path to a root", root.label)
