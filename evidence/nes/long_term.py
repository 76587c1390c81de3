"""Steps 3.n.15: what a long-term signature (P3, P4) must carry is there, complete, and fits together.

====== ==================================================================================================
15.1   certificateRefs: every certificate of the path but the signer's; nothing foreign
15.2   revocationRefs: for every certificate of the path but the root; nothing foreign
15.3   certValues: every certificate referred to; nothing that is not referred to
15.4   revocationValues: an answer for every certificate of the path but the root (P4: OCSP for the signer)
15.5   the time-stamping authority's chain and revocation data, in the token or in the values
====== ==================================================================================================

Where reference and value disagree, the one that does not fit the path is named: a list that answers for a
certificate of the path but has no reference is missing its reference; a certificate without any answer is
missing its value. A signature that claims less than P3 may lack any of this; what it brings must fit.
(spec: signing.md 2.3; syntax: RFC 5126 6.2 and 6.3)
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from evidence.asn1.der import DerError, Node
from evidence.cms.signed_data import SignerInfo
from evidence.nes.embedded import (
    CERTIFICATE_REFS,
    CERTIFICATE_VALUES,
    REVOCATION_REFS,
    REVOCATION_VALUES,
    CertificateRef,
    RevocationValue,
    certificate_refs,
    certificate_values,
    only_value,
    revocation_refs,
    revocation_values,
)
from evidence.nes.findings import failing, readable
from evidence.nes.model import Embedded
from evidence.nes.policy import NesPolicy
from evidence.nes.profiles import Profile
from evidence.report import Step, SubIndication, held
from evidence.x509.certificates import CertificateFacts
from evidence.x509.chain import Chain, TrustStore
from evidence.x509.crl import crl_header
from evidence.x509.offline import OfflineRevocation
from evidence.x509.revocation import (
    RevocationAnswer,
    RevocationError,
    RevocationSource,
    parse_ocsp,
    produced_problem,
    speaks_about,
)

_T = TypeVar("_T")

ATTRIBUTES: Final = (CERTIFICATE_REFS, REVOCATION_REFS, CERTIFICATE_VALUES, REVOCATION_VALUES)
_NAMES: Final = ("certificate references", "revocation references", "certificate values", "revocation values")
_CODES: Final = ("certificate-refs", "revocation-refs", "certificate-values", "revocation-values")


@dataclass(frozen=True, slots=True)
class LongTerm:
    """What the checks need to know of one signer.

    ``others``: further certificates that references and values may be about (authorities of stamps and of
    counter-signers). ``stamps``: path and embedded material of each signature time stamp. ``settled``: the
    time the answers must tell of; ``signed``: the claimed signing time, for P4.
    """

    signer: SignerInfo
    profile: Profile
    chain: Chain
    others: tuple[CertificateFacts, ...]
    stamps: tuple[tuple[Chain, Embedded], ...]
    settled: datetime
    signed: datetime | None
    policy: NesPolicy
    trust: TrustStore


def long_term_steps(facts: LongTerm, number: str) -> list[Step]:
    """Return the steps ``number.1`` to ``number.5``; those of absent attributes only where P3 or P4 asks."""
    return _Check(facts, number).run()


class _Check:
    """The four attributes of one signer, read once."""

    def __init__(self, facts: LongTerm, number: str) -> None:
        self._facts, self._number = facts, number
        self._demanded = facts.profile.long_term
        self._malformed: dict[int, str] = {}
        self._known_answers: dict[bytes, list[RevocationAnswer]] = {}
        self._cert_refs = self._read(0, certificate_refs)
        self._rev_refs = self._read(1, revocation_refs)
        values = self._read(2, certificate_values)
        self._cert_values = None if values is None else readable(values)
        if values is not None and len(self._cert_values or ()) != len(values):
            self._malformed[2] = "a certificate value cannot be read"
        lists = self._read(3, revocation_values)
        self._lists, self._responses = lists if lists is not None else ((), ())
        self._has_rev_values = lists is not None
        self._offline = OfflineRevocation(self._responses, self._lists, facts.policy.freshness)
        if self._offline.unreadable:
            self._malformed.setdefault(3, self._offline.unreadable[0])

    def _read(self, index: int, reader: Callable[[Node], _T]) -> _T | None:
        try:
            node = only_value(self._facts.signer, ATTRIBUTES[index])
            return None if node is None else reader(node)
        except DerError as error:
            self._malformed[index] = str(error)
            return None

    def run(self) -> list[Step]:
        answers = {
            facts.sha256: self._answers(link) for link in self._facts.chain.links for facts in link[:1]
        }
        values = _values(self._responses, self._lists)
        problems = (
            self._cert_refs_problem(),
            self._rev_refs_problem(answers, values),
            self._cert_values_problem(),
            self._rev_values_problem(answers, values),
        )
        steps = []
        for index, problem in enumerate(problems):
            step = self._step(index, problem)
            if step is not None:
                steps.append(step)
        if self._demanded:
            steps.append(self._stamp_step())
        return steps

    def _step(self, index: int, problem: str | None) -> Step | None:
        number, name, code = f"{self._number}.{index + 1}", _NAMES[index], _CODES[index]
        missing = SubIndication.SIG_CONSTRAINTS_FAILURE
        if index in self._malformed:
            return failing(number, name, f"{code}-malformed", self._malformed[index], missing)
        if not self._facts.signer.unsigned_values(ATTRIBUTES[index]):
            if not self._demanded:
                return None
            return failing(
                number, name, f"{code}-missing", "the profile wants them, they are not there", missing
            )
        if problem is not None:
            return failing(number, name, f"{code}-wrong", problem, missing)
        return held(number, name)

    # ----------------------------------------------------------------------- certificates

    def _known(self) -> list[CertificateFacts]:
        return [*self._facts.chain.certificates, *self._facts.others, *(self._cert_values or ())]

    def _cert_refs_problem(self) -> str | None:
        if self._cert_refs is None:
            return None
        known = self._known()
        for ref in self._cert_refs:
            if not any(ref.names(facts) for facts in known):
                return "a reference names no certificate that is known"
        if not self._demanded:
            return None
        for facts in self._facts.chain.certificates[1:]:
            if not any(ref.names(facts) for ref in self._cert_refs):
                return f"no reference to {facts.label}"
        return None

    def _cert_values_problem(self) -> str | None:
        if self._cert_values is None or self._cert_refs is None:
            return None
        refs: tuple[CertificateRef, ...] = self._cert_refs
        elsewhere = [chain.certificates for chain, _ in self._facts.stamps]
        spared = {facts.sha256 for path in elsewhere for facts in path}
        spared |= {facts.sha256 for facts in self._facts.others} | {self._facts.chain.leaf.sha256}
        told = (one.responder for link in self._facts.chain.links for one in self._answers(link))
        spared |= {facts.sha256 for facts in readable(der for der in told if der is not None)}
        values = {facts.sha256 for facts in self._cert_values}
        for facts in self._known():
            if facts.sha256 in values or facts.sha256 in spared:
                continue
            if any(ref.names(facts) for ref in refs):
                return f"no value of {facts.label}, which a reference names"
        for facts in self._cert_values:
            if facts.sha256 not in spared and not any(ref.names(facts) for ref in refs):
                return f"no reference to the value {facts.label}"
        return None

    # ----------------------------------------------------------------------- revocation

    def _answers(self, link: tuple[CertificateFacts, CertificateFacts]) -> list[RevocationAnswer]:
        known = self._known_answers.get(link[0].sha256)
        if known is None:
            facts = self._facts
            found = self._offline.answers(*link, facts.trust, facts.settled)
            rules = facts.policy.freshness
            known = [one for one in found if speaks_about(one, link[0], facts.settled, rules)]
            self._known_answers[link[0].sha256] = known
        return known

    def _rev_refs_problem(
        self, answers: dict[bytes, list[RevocationAnswer]], values: Sequence[RevocationValue]
    ) -> str | None:
        refs = self._rev_refs
        if refs is None or not self._has_rev_values:
            return None
        named = {value.der for value in values if any(ref.names(value) for ref in refs)}
        complete = all(answers.values())
        for facts, _ in self._facts.chain.links:
            told = answers[facts.sha256]
            if told and not any(one.der in named for one in told):
                return f"no reference to the answer on {facts.label}"
        for ref in refs:
            if complete and not any(ref.names(value) for value in values):
                return "a reference names no value"
        return None

    def _rev_values_problem(
        self, answers: dict[bytes, list[RevocationAnswer]], values: Sequence[RevocationValue]
    ) -> str | None:
        if not self._has_rev_values:
            return None
        if self._demanded:
            for facts, _ in self._facts.chain.links:
                if not answers[facts.sha256]:
                    return f"no answer on {facts.label}"
            problem = self._p4_problem(answers[self._facts.chain.leaf.sha256])
            if problem is not None:
                return problem
        spared = {
            one.der for chain, _ in self._facts.stamps for link in chain.links for one in self._answers(link)
        }
        for value in values:
            if self._rev_refs is None or value.der in spared:
                continue
            if not any(ref.names(value) for ref in self._rev_refs):
                return "a value that no reference names"
        return None

    def _p4_problem(self, told: Iterable[RevocationAnswer]) -> str | None:
        """Return why P4's own condition does not hold: OCSP for the signer, made since it signed."""
        facts = self._facts
        if facts.profile is not Profile.P4:
            return None
        since = facts.signed or facts.settled
        by_ocsp = [one for one in told if one.source is RevocationSource.OCSP]
        if not by_ocsp:
            return "P4 wants an OCSP answer on the signer"
        if all(produced_problem(one, since, facts.policy.freshness) is not None for one in by_ocsp):
            return "the OCSP answer on the signer is older than the signature"
        return None

    # ----------------------------------------------------------------------- time stamps

    def _stamp_step(self) -> Step:
        number, name = f"{self._number}.5", "time-stamping authority's material"
        for chain, embedded in self._facts.stamps:
            problem = self._stamp_problem(chain, embedded)
            if problem is not None:
                code = "stamp-material-missing"
                return failing(number, name, code, problem, SubIndication.SIG_CONSTRAINTS_FAILURE)
        return held(number, name)

    def _stamp_problem(self, chain: Chain, embedded: Embedded) -> str | None:
        facts = self._facts
        held_here = {one.sha256 for one in (*readable(embedded.certificates), *(self._cert_values or ()))}
        for certificate in chain.certificates:
            if certificate.sha256 not in held_here:
                return f"{certificate.label} is not embedded"
        offline = OfflineRevocation(
            (*embedded.ocsp, *self._responses), (*embedded.crls, *self._lists), facts.policy.freshness
        )
        for certificate, issuer in chain.links:
            told = offline.answers(certificate, issuer, facts.trust, facts.settled)
            if not any(speaks_about(one, certificate, facts.settled, facts.policy.freshness) for one in told):
                return f"no answer on {certificate.label} is embedded"
        return None


def _values(responses: Iterable[bytes], lists: Iterable[bytes]) -> list[RevocationValue]:
    found = []
    for der in responses:
        try:
            found.append(RevocationValue(der, parse_ocsp(der).produced_at))
        except (RevocationError, DerError):
            continue
    for der in lists:
        try:
            name, made = crl_header(der)
        except RevocationError:
            continue
        found.append(RevocationValue(der, made, name))
    return found
