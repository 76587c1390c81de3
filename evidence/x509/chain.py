"""Certification paths to configured roots: signatures, names, validity, constraints.

Revocation is not looked at here (`evidence.x509.revocation`); neither is what the leaf may be used for.
(spec: RFC5280#6.1, signing.md 2.1, 2.2 and 2.5)
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Final

from evidence.asn1.der import DerError, parse
from evidence.report import SubIndication, Verdict
from evidence.x509.algorithms import (
    DEFAULT_ALGORITHMS,
    AlgorithmPolicy,
    Role,
    SignatureAlgorithm,
    UnknownAlgorithmError,
    signature_algorithm,
    verify_signature,
)
from evidence.x509.certificates import KEY_CERT_SIGN, CertificateFacts, certificate_facts

MAX_PATH: Final = 8
MAX_LINKS: Final = 64
"""Signatures tried for one path at most: same-name impostors must not buy time."""
_CACHE_SIZE: Final = 4096


@dataclass(frozen=True, slots=True)
class Chain:
    """A path from the leaf (first) to a configured root (last)."""

    certificates: tuple[CertificateFacts, ...]
    links: tuple[tuple[CertificateFacts, CertificateFacts], ...] = field(
        init=False, repr=False, compare=False
    )
    """(certificate, issuer) for every certificate below the root."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "links", tuple(pairwise(self.certificates)))

    @property
    def leaf(self) -> CertificateFacts:
        """Return the end-entity certificate."""
        return self.certificates[0]

    @property
    def root(self) -> CertificateFacts:
        """Return the configured root."""
        return self.certificates[-1]


@dataclass(frozen=True, slots=True)
class ChainFailure:
    """Why there is no valid path; of several dead ends, the one that came nearest to a root."""

    sub_indication: SubIndication
    detail: str
    verdict: Verdict = Verdict.INDETERMINATE


class LinkBudget:
    """How many signatures may still be tried; one budget can serve all paths of a message."""

    __slots__ = ("left",)

    def __init__(self, left: int = MAX_LINKS) -> None:
        self.left = left


class TrustStore:
    """Configured roots and intermediates, and the memory of links already checked.

    A root counts by its exact certificate (its SHA-256). Intermediates are helpers, never trusted by
    themselves. The memory maps (certificate, issuer) to the outcome of one signature check, which never
    changes; it is bounded, and safe under threads because single dict operations are.

    Args:
        roots: trust anchors, DER.
        intermediates: CA certificates to complete chains that arrive without them, DER.
        algorithms: what counts in certificates.

    Raises:
        CertificateError: one of them cannot be read.
    """

    __slots__ = ("_by_subject", "_links", "_paths", "_roots", "algorithms")

    def __init__(
        self,
        roots: Iterable[bytes],
        *,
        intermediates: Iterable[bytes] = (),
        algorithms: AlgorithmPolicy = DEFAULT_ALGORITHMS,
    ) -> None:
        self._links: dict[tuple[bytes, bytes], bool] = {}
        self.algorithms = algorithms
        self._roots: frozenset[bytes]
        self._by_subject: dict[bytes, list[CertificateFacts]]
        self._paths: dict[bytes, Chain]
        self.renew(roots, intermediates)

    def renew(self, roots: Iterable[bytes], intermediates: Iterable[bytes] = ()) -> None:
        """Trust these roots from now on, and no others; checks under way end with what they began with.

        Raises:
            CertificateError: one of them cannot be read; then nothing has changed.
        """
        anchors = [certificate_facts(der) for der in roots]
        by_subject: dict[bytes, list[CertificateFacts]] = {}
        for facts in (*anchors, *map(certificate_facts, intermediates)):
            known = by_subject.setdefault(facts.subject, [])
            if facts not in known:
                known.append(facts)
        self._roots = frozenset(anchor.sha256 for anchor in anchors)
        self._by_subject = by_subject
        self._paths = {}  # last: a path found under the old roots must not come back

    @property
    def empty(self) -> bool:
        """Say whether no root is configured (then nothing can pass)."""
        return not self._roots

    @property
    def roots(self) -> tuple[CertificateFacts, ...]:
        """Return the configured roots."""
        return tuple(f for known in self._by_subject.values() for f in known if f.sha256 in self._roots)

    @property
    def intermediates(self) -> tuple[CertificateFacts, ...]:
        """Return the configured helpers, which are trusted by themselves in nothing."""
        return tuple(f for known in self._by_subject.values() for f in known if f.sha256 not in self._roots)

    def is_root(self, facts: CertificateFacts) -> bool:
        """Say whether this exact certificate is a configured root."""
        return facts.sha256 in self._roots

    def named(self, subject: bytes) -> tuple[CertificateFacts, ...]:
        """Return the configured certificates with this subject, roots first."""
        return tuple(self._by_subject.get(subject, ()))

    def link_holds(self, child: CertificateFacts, issuer: CertificateFacts) -> bool:
        """Say whether ``issuer``'s key signed ``child``; remembered."""
        key = (child.sha256, issuer.sha256)
        known = self._links.get(key)
        if known is None:
            algorithm = certificate_algorithm(child)
            known = (
                algorithm is not None
                and algorithm.hash_name is not None
                and verify_signature(
                    issuer.public_key, algorithm, algorithm.hash_name, child.signature, child.tbs
                )
            )
            if len(self._links) >= _CACHE_SIZE:
                self._links.clear()
            self._links[key] = known
        return known

    def known_path(self, leaf: CertificateFacts, at: datetime) -> Chain | None:
        """Return a path found before, if every certificate of it is valid at ``at`` too.

        A path depends on the candidates only for being found; with dated algorithm rows it is not reused.
        """
        path = self._paths.get(leaf.sha256)
        if path is None or path.certificates[-1].sha256 not in self._roots:
            return None
        for facts in path.certificates:
            if not facts.not_before <= at <= facts.not_after:
                return None
        return path

    def remember_path(self, path: Chain) -> None:
        """Remember a path that `build_chain` found."""
        if self.algorithms.enforce_end:
            return
        if len(self._paths) >= _CACHE_SIZE:
            self._paths.clear()
        self._paths[path.leaf.sha256] = path


def certificate_algorithm(facts: CertificateFacts) -> SignatureAlgorithm | None:
    """Return the algorithm of the certificate's own signature, None where unknown.

    ECDSA identifiers with parameters (TURKTRUST H7) are read: parameters of named algorithms do not
    change what the signature value means.
    """
    try:
        return signature_algorithm(parse(facts.signature_identifier, max_size=1024))
    except (DerError, UnknownAlgorithmError):
        return None


def build_chain(
    leaf: CertificateFacts,
    candidates: Iterable[CertificateFacts],
    trust: TrustStore,
    at: datetime,
    *,
    budget: LinkBudget | None = None,
) -> Chain | ChainFailure:
    """Return a path from ``leaf`` to a configured root that is valid at ``at``, or why there is none.

    Candidates (from the signature) and configured intermediates are tried; depth first, at most 8
    certificates and 64 signature checks.

    Args:
        leaf: the end-entity certificate.
        candidates: certificates that came along, in any order; untrusted.
        trust: roots and intermediates.
        at: the time the path must be valid at, aware.
        budget: shared with other paths of the same message; None: this path's own.
    """
    known = trust.known_path(leaf, at)
    if known is not None:
        return known
    problem = _leaf_problem(leaf, at)
    if problem is not None:
        return problem
    offered: dict[bytes, list[CertificateFacts]] = {}
    for facts in candidates:
        offered.setdefault(facts.subject, []).append(facts)
    search = _Search(offered, trust, at, budget or LinkBudget())
    path = search.extend((leaf,))
    if path is None:
        return search.failure()
    found = Chain(path)
    trust.remember_path(found)
    return found


def _leaf_problem(leaf: CertificateFacts, at: datetime) -> ChainFailure | None:
    if at < leaf.not_before:
        detail = f"not valid before {leaf.not_before.isoformat()}"
        return ChainFailure(SubIndication.NOT_YET_VALID, detail, Verdict.FAILED)
    if at > leaf.not_after:
        detail = f"expired {leaf.not_after.isoformat()}"
        return ChainFailure(SubIndication.EXPIRED, detail, Verdict.FAILED)
    if leaf.extensions.unknown_critical:
        unknown = ", ".join(leaf.extensions.unknown_critical)
        return ChainFailure(SubIndication.CHAIN_CONSTRAINTS_FAILURE, f"unknown critical extension {unknown}")
    return None


class _Search:
    """One depth-first search; keeps the dead end that came nearest to a root."""

    def __init__(
        self,
        offered: dict[bytes, list[CertificateFacts]],
        trust: TrustStore,
        at: datetime,
        budget: LinkBudget,
    ) -> None:
        self._offered, self._trust, self._at = offered, trust, at
        self._budget = budget
        self._best: tuple[int, ChainFailure] | None = None

    def failure(self) -> ChainFailure:
        if self._best is not None:
            return self._best[1]
        return ChainFailure(
            SubIndication.NO_CERTIFICATE_CHAIN_FOUND, "no issuer found up to a configured root"
        )

    def extend(self, path: tuple[CertificateFacts, ...]) -> tuple[CertificateFacts, ...] | None:
        """Return the path completed to a root; recursion is bounded by `MAX_PATH`."""
        last = path[-1]
        if self._trust.is_root(last) and len(path) > 1:
            return path
        if len(path) >= MAX_PATH:
            return None
        for issuer in (*self._trust.named(last.issuer), *self._offered.get(last.issuer, ())):
            if issuer in path:
                continue
            problem = self._problem(path, issuer)
            if problem is not None:
                self._note(len(path), problem)
                continue
            completed = self.extend((*path, issuer))
            if completed is not None:
                return completed
        return None

    def _note(self, depth: int, problem: ChainFailure) -> None:
        if self._best is None or depth > self._best[0]:
            self._best = (depth, problem)

    def _problem(self, path: tuple[CertificateFacts, ...], issuer: CertificateFacts) -> ChainFailure | None:
        child = path[-1]
        detail = self._constraint(path, issuer)
        if detail is not None:
            return ChainFailure(SubIndication.CHAIN_CONSTRAINTS_FAILURE, f"{issuer.label}: {detail}")
        if not issuer.valid_at(self._at):
            text = f"{issuer.label} is not valid at {self._at.isoformat()}"
            return ChainFailure(SubIndication.NO_CERTIFICATE_CHAIN_FOUND, text)
        return self._signature_problem(child, issuer)

    def _signature_problem(self, child: CertificateFacts, issuer: CertificateFacts) -> ChainFailure | None:
        """Check the algorithm table first, then, within the budget, the signature itself."""
        algorithm = certificate_algorithm(child)
        refusal: str | None = "unknown signature algorithm"
        if algorithm is not None and algorithm.hash_name is not None:
            refusal = self._trust.algorithms.refusal(
                Role.AUTHORITY, algorithm, algorithm.hash_name, issuer.key.size, self._at
            )
        if refusal is not None:
            return ChainFailure(SubIndication.CRYPTO_CONSTRAINTS_FAILURE, f"{child.label}: {refusal}")
        if self._budget.left <= 0:
            return ChainFailure(SubIndication.NO_CERTIFICATE_CHAIN_FOUND, "too many candidates")
        self._budget.left -= 1
        if not self._trust.link_holds(child, issuer):
            text = f"{issuer.label} did not sign {child.label}"
            return ChainFailure(SubIndication.NO_CERTIFICATE_CHAIN_FOUND, text)
        return None

    def _constraint(self, path: tuple[CertificateFacts, ...], issuer: CertificateFacts) -> str | None:
        """Return what forbids ``issuer`` to stand above ``path`` (spec: RFC5280#6.1.4)."""
        facts = issuer.extensions
        if not facts.is_ca:
            return "is not a CA"
        if facts.key_usage is not None and KEY_CERT_SIGN not in facts.key_usage:
            return "may not sign certificates"
        below = sum(not certificate.self_issued for certificate in path[1:])
        if facts.path_length is not None and below > facts.path_length:
            return f"path is longer than {facts.path_length}"
        if facts.name_constraints:
            return "name constraints are not supported"
        if facts.unknown_critical:
            return f"unknown critical extension {', '.join(facts.unknown_critical)}"
        return None
