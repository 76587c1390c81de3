"""Answers on revocation from data at hand: embedded in a signature, in a bundle, or kept in a folder.

The data is untrusted: it counts by the issuer's signature alone, whoever brought it. Each response and list
is taken apart once; a question looks only at what has its serial number or its issuer. Signers are judged at
the time the answer itself gives; that nobody made it up later with a responder's old key is for the caller's
proofs of time to tell. (spec: signing.md 1, 2.5)
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple

from evidence.x509.answers import (
    DEFAULT_FRESHNESS,
    FreshnessRules,
    RevocationAnswer,
    RevocationError,
    RevocationSource,
    RevocationStatus,
    is_fresh,
    produced_problem,
    revoked_by,
    speaks_about,
)
from evidence.x509.certificates import CertificateFacts
from evidence.x509.chain import TrustStore
from evidence.x509.crl import CheckedCrl, check_crl, crl_header
from evidence.x509.revocation import OcspResponse, parse_ocsp

MAX_RESPONSES: Final = 256
MAX_LISTS: Final = 64
_TRIED: Final = 16
"""Responses, and lists, whose signatures are checked for one question at most: those nearest to its time."""


class _List(NamedTuple):
    """A list at hand; its date is not believed before it is checked."""

    place: int
    made: datetime
    der: bytes


class OfflineRevocation:
    """OCSP responses and lists at hand, indexed; asks nobody.

    What cannot be read is left aside and named in ``unreadable``: somebody else's broken file must not hide a
    good one. Checked lists are remembered.

    Args:
        ocsp: responses, DER, untrusted; the first 256 count.
        crls: lists, DER, untrusted; the first 64 count.
        rules: clock tolerance, and how long an answer without nextUpdate is the current one.
    """

    __slots__ = ("_checked", "_lists", "_responses", "_rules", "unreadable")

    def __init__(
        self, ocsp: Sequence[bytes], crls: Sequence[bytes], rules: FreshnessRules = DEFAULT_FRESHNESS
    ) -> None:
        self._rules = rules
        self._responses: dict[int, list[OcspResponse]] = {}
        self._lists: dict[bytes, list[_List]] = {}
        self._checked: dict[tuple[int, bytes], CheckedCrl | None] = {}
        unreadable = []
        for index, der in enumerate(dict.fromkeys(ocsp[:MAX_RESPONSES])):
            try:
                response = parse_ocsp(der)
            except RevocationError as error:
                unreadable.append(f"response {index + 1}: {error}")
                continue
            for serial in dict.fromkeys(response.serials):
                self._responses.setdefault(serial, []).append(response)
        for index, der in enumerate(dict.fromkeys(crls[:MAX_LISTS])):
            try:
                name, made = crl_header(der)
            except RevocationError as error:
                unreadable.append(f"list {index + 1}: {error}")
            else:
                self._lists.setdefault(name, []).append(_List(index, made, der))
        left = max(0, len(ocsp) - MAX_RESPONSES) + max(0, len(crls) - MAX_LISTS)
        if left:
            unreadable.append(f"{left} more than are looked at")
        self.unreadable: tuple[str, ...] = tuple(unreadable)

    def answer(
        self,
        certificate: CertificateFacts,
        issuer: CertificateFacts,
        trust: TrustStore,
        at: datetime,
        *,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> RevocationAnswer | None:
        """Return the best answer that tells what a certificate was worth at ``at``; None where none does.

        An answer counts that was current at ``at``, or that came later (`speaks_about`). Ask it by
        `revoked_by(answer, at)`: a revocation dated later than ``at`` leaves ``at`` untouched. Of several, a
        final revocation before ``at`` goes first, then OCSP before lists, current before later, newer before
        older; a newer "on hold" goes before an older "good". "unknown" comes back only where it was said at
        ``at`` and nothing better is there.

        Args:
            certificate: whose status is asked.
            issuer: its issuer, proven by the path.
            trust: gives the algorithm table and remembers signatures.
            at: the time of interest, aware UTC.
            not_before: when the answer must have been made at the earliest (P4: the signature's time).
            not_after: when at the latest: the present, where the caller knows it. Both with the rules' skew.
        """
        found = [
            one
            for one in self.answers(certificate, issuer, trust, at)
            if (not_before is None or produced_problem(one, not_before, self._rules) is None)
            and (not_after is None or one.at <= not_after + self._rules.skew)
        ]
        speaking = [one for one in found if speaks_about(one, certificate, at, self._rules)]
        if not speaking:
            unknown = (one for one in found if one.status is RevocationStatus.UNKNOWN)
            return next((one for one in unknown if is_fresh(one, at, self._rules)), None)
        best = max(speaking, key=lambda one: self._rank(one, at))
        holds = [one for one in speaking if one.on_hold and revoked_by(one, at)]
        newest = max(holds, key=lambda one: one.this_update, default=best)
        return newest if newest.this_update > best.this_update and not _final(best, at) else best

    def answers(
        self, certificate: CertificateFacts, issuer: CertificateFacts, trust: TrustStore, near: datetime
    ) -> list[RevocationAnswer]:
        """Return what is authentic on a certificate, of whatever time; of many, the 16 nearest to ``near``.

        Algorithms and a response's signer must have counted when it was made.
        """
        return [
            *self._by_ocsp(certificate, issuer, trust, near),
            *self._by_lists(certificate, issuer, trust, near),
        ]

    def _by_ocsp(
        self, certificate: CertificateFacts, issuer: CertificateFacts, trust: TrustStore, near: datetime
    ) -> Iterator[RevocationAnswer]:
        at_hand = self._responses.get(certificate.serial, ())
        for response in sorted(at_hand, key=lambda one: abs(one.produced_at - near))[:_TRIED]:
            made = response.produced_at
            try:
                yield from response.answers(
                    certificate,
                    issuer,
                    trust=trust,
                    at=made,
                    responder_good=partial(self._vouched, issuer=issuer, trust=trust, at=made),
                )
            except RevocationError:
                continue

    def _vouched(
        self, responder: CertificateFacts, *, issuer: CertificateFacts, trust: TrustStore, at: datetime
    ) -> bool:
        """Say whether the issuer's own lists tell that a responder without ocsp-nocheck was good."""
        told = [
            one
            for one in self._by_lists(responder, issuer, trust, at)
            if speaks_about(one, responder, at, self._rules)
        ]
        return bool(told) and not any(revoked_by(one, at) for one in told)

    def _by_lists(
        self, certificate: CertificateFacts, issuer: CertificateFacts, trust: TrustStore, near: datetime
    ) -> Iterator[RevocationAnswer]:
        at_hand = self._lists.get(issuer.subject, ())
        for listed in sorted(at_hand, key=lambda one: abs(one.made - near))[:_TRIED]:
            key = (listed.place, issuer.sha256)
            try:
                if key not in self._checked:
                    self._checked[key] = None
                    self._checked[key] = check_crl(listed.der, issuer, at=listed.made, trust=trust)
                crl = self._checked[key]
                if crl is not None:
                    yield crl.says(certificate)
            except RevocationError:
                continue

    def _rank(self, answer: RevocationAnswer, at: datetime) -> tuple[bool, bool, bool, datetime]:
        current = is_fresh(answer, at, self._rules)
        by_ocsp = answer.source is RevocationSource.OCSP
        return _final(answer, at), by_ocsp, current, answer.this_update


def _final(answer: RevocationAnswer, at: datetime) -> bool:
    return revoked_by(answer, at) and not answer.on_hold
