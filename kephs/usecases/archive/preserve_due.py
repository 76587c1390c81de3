"""When proofs must be renewed, and how: rules, no I/O.

A round is due

- a year after the round before, or after the oldest evidence that no round covers yet;
- half a year before the certificate of an authority ends whose token must hold today (and again a month and
  a week before, where the round then made could not get further);
- at once when such a certificate is revoked, while its issuer still answers and other proofs stand;
- before a hash is retired: then as hash-tree renewal under the strongest of `TARGETS` that counts longer.

(signing.md 7, KEP-RT-01)
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from evidence.x509.algorithms import AlgorithmPolicy
from evidence.x509.certificates import CertificateFacts
from kephs.ports.preservation import RenewalReason, RenewalRow

FIRST_HASH: Final = "sha256"
TARGETS: Final = ("sha512", "sha3_512")
"""Hashes for hash-tree renewal, in the order of preference."""


@dataclass(frozen=True, slots=True)
class PreservationRules:
    """How early. ``before_end``: the leads before a certificate's end, longest first."""

    every: timedelta = timedelta(days=365)
    before_end: tuple[timedelta, ...] = (timedelta(days=182), timedelta(days=30), timedelta(days=7))
    before_hash_end: timedelta = timedelta(days=182)
    look_every: timedelta = timedelta(days=1)
    """How often authorities are asked about."""
    wait_for_material: timedelta = timedelta(days=14)
    """How long a round waits for revocation data that nobody gives, before it goes on without."""


@dataclass(frozen=True, slots=True)
class Due:
    """A round that is due at a time."""

    at: datetime
    reason: RenewalReason
    hash_name: str


@dataclass(frozen=True, slots=True)
class Situation:
    """What the decision rests on.

    Attributes:
        newest: the round before; None at first.
        oldest: time of the oldest evidence that no round covers; None where all is covered.
        authorities: certificates whose tokens must hold today: of the newest round's token, and of the
            tokens of evidence that no round covers.
        revoked: SHA-256 of those known to be revoked.
    """

    newest: RenewalRow | None
    oldest: datetime | None
    authorities: Sequence[CertificateFacts]
    revoked: Collection[bytes] = ()


def next_round(
    situation: Situation, now: datetime, algorithms: AlgorithmPolicy, rules: PreservationRules
) -> Due | None:
    """Return the round that is due next; None where there is nothing to keep alive.

    Of several causes the earliest counts. Where a hash-tree renewal is due by ``now`` as well, it is made
    instead: it renews everything.

    Args:
        situation: what there is.
        now: the time.
        algorithms: until when hashes count.
        rules: how early.
    """
    newest = situation.newest
    if newest is None and situation.oldest is None:
        return None
    name = FIRST_HASH if newest is None else newest.hash_name
    since = newest.at if newest is not None else situation.oldest
    assert since is not None
    causes = [(since + rules.every, RenewalReason.YEARLY)]
    for one in situation.authorities:
        if one.sha256 in situation.revoked:
            causes.append((now, RenewalReason.REVOKED))
        at = _before(one.not_after, since, rules)
        if at is not None:
            causes.append((at, RenewalReason.EXPIRY))
    if (late := _late(situation, algorithms, rules)) is not None:
        causes.append((late, RenewalReason.HASH))
    at, reason = min(causes, key=lambda cause: (cause[0], list(RenewalReason).index(cause[1])))
    rehash = _retired(name, algorithms, rules)
    if rehash is not None and rehash.at <= max(at, now):
        return rehash
    return Due(at, reason, name)


def _before(end: datetime, since: datetime, rules: PreservationRules) -> datetime | None:
    """Return the first lead before an end that lies after the last round: a round is not made in vain."""
    return next((end - lead for lead in rules.before_end if end - lead > since), None)


def _late(situation: Situation, algorithms: AlgorithmPolicy, rules: PreservationRules) -> datetime | None:
    """Return when evidence sealed after a hash-tree renewal must follow it; None where none must."""
    newest, end = situation.newest, _ends(algorithms).get(FIRST_HASH)
    if newest is None or newest.hash_name == FIRST_HASH or situation.oldest is None:
        return None
    last_call = None if end is None or not algorithms.enforce_end else end - min(rules.before_end)
    return last_call if last_call is not None and newest.at < last_call else None


def _ends(algorithms: AlgorithmPolicy) -> dict[str, datetime | None]:
    """Return until when each hash counts; of two rows for one the first."""
    return {row.name: row.until for row in reversed(algorithms.hashes)}


def _retired(name: str, algorithms: AlgorithmPolicy, rules: PreservationRules) -> Due | None:
    """Return the hash-tree renewal that the end of a hash asks for; None without end or a longer target."""
    ends = _ends(algorithms)
    end = ends.get(name)
    if end is None or not algorithms.enforce_end:
        return None
    for target in TARGETS:
        until = ends.get(target, end)
        if target != name and (until is None or until > end):
            return Due(end - rules.before_hash_end, RenewalReason.HASH, target)
    return None
