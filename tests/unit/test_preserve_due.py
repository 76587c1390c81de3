"""When a round is due: yearly, before certificates end, at once on revocation, before a hash is retired."""

from dataclasses import replace
from datetime import timedelta

import pytest

from evidence.x509.algorithms import AlgorithmPolicy, HashRule
from evidence.x509.certificates import certificate_facts
from kephs.ports.objects import ObjectRef
from kephs.ports.preservation import RenewalReason, RenewalRow
from kephs.usecases.archive.preserve_due import Due, PreservationRules, Situation, next_round
from tests.support.pki import NOW, shared_pki

YEAR, DAY = timedelta(days=365), timedelta(days=1)
RULES = PreservationRules()
HEAD = ObjectRef("yenileme/000001.kepa", "1", 1, bytes(32), bytes(64), NOW)
ROW = RenewalRow(1, NOW, RenewalReason.YEARLY, "sha256", bytes(32), 1, 1, HEAD)


def table(*, sha256=None, sha512=None, enforce: bool = True) -> AlgorithmPolicy:
    rules = (HashRule("sha256", sha256), HashRule("sha512", sha512))
    return AlgorithmPolicy(hashes=rules, enforce_end=enforce)


OPEN = table()


def authority(days: int):
    made = shared_pki().issue_tsa(not_before=NOW - YEAR, not_after=NOW + days * DAY)
    return certificate_facts(made.certificate)


def due(newest=ROW, oldest=None, authorities=(), revoked=(), *, now=NOW, algorithms=OPEN) -> Due | None:
    return next_round(Situation(newest, oldest, authorities, revoked), now, algorithms, RULES)


def test_nothing_is_due_while_nothing_is_archived():
    assert due(None) is None


def test_a_year_after_the_oldest_evidence_the_first_round_is_due():
    assert due(None, NOW) == Due(NOW + YEAR, RenewalReason.YEARLY, "sha256")


def test_a_year_after_a_round_the_next_is_due_whether_anything_is_new_or_not():
    assert due() == Due(NOW + YEAR, RenewalReason.YEARLY, "sha256")
    assert due(oldest=NOW + 300 * DAY) == due()


@pytest.mark.parametrize(("life", "wanted"), [(300, 300 - 182), (182, 152), (100, 70), (30, 23), (8, 1)])
def test_the_end_of_a_certificate_is_met_early_and_never_in_vain(life, wanted):
    assert due(authorities=[authority(life)]) == Due(NOW + wanted * DAY, RenewalReason.EXPIRY, "sha256")


@pytest.mark.parametrize("life", [7, 3, -5, 1000])
def test_a_certificate_that_ends_too_soon_or_late_leaves_the_yearly_round(life):
    assert due(authorities=[authority(life)]) == Due(NOW + YEAR, RenewalReason.YEARLY, "sha256")


def test_the_certificate_that_ends_first_counts():
    found = due(authorities=[authority(900), authority(300), authority(2000)])
    assert found == Due(NOW + 118 * DAY, RenewalReason.EXPIRY, "sha256")


def test_a_revoked_authority_makes_a_round_due_at_once():
    one = authority(900)
    now = NOW + 5 * DAY
    assert due(authorities=[one], revoked={one.sha256}, now=now) == Due(now, RenewalReason.REVOKED, "sha256")
    assert due(authorities=[one], revoked={bytes(32)}, now=now) == Due(
        NOW + YEAR, RenewalReason.YEARLY, "sha256"
    )


def test_half_a_year_before_a_hash_ends_everything_moves_to_the_next():
    found = due(algorithms=table(sha256=NOW + 300 * DAY))
    assert found == Due(NOW + 118 * DAY, RenewalReason.HASH, "sha512")


def test_a_round_that_is_due_earlier_is_made_first():
    found = due(authorities=[authority(200)], algorithms=table(sha256=NOW + 300 * DAY))
    assert found == Due(NOW + 18 * DAY, RenewalReason.EXPIRY, "sha256")


def test_where_both_are_due_the_new_hash_is_enough():
    late = NOW + 400 * DAY
    found = due(now=late, algorithms=table(sha256=late + 10 * DAY))
    assert found is not None
    assert (found.reason, found.hash_name) == (RenewalReason.HASH, "sha512")


def test_a_hash_is_left_only_for_one_that_counts_longer():
    end = NOW + 300 * DAY
    for policy in (table(sha256=end, sha512=end), table(sha256=end, sha512=end - DAY)):
        assert due(algorithms=policy) == Due(NOW + YEAR, RenewalReason.YEARLY, "sha256")
    found = due(algorithms=table(sha256=end, sha512=end + DAY))
    assert found is not None
    assert found.hash_name == "sha512"


def test_ends_that_nobody_enforces_move_nothing():
    assert due(algorithms=table(sha256=NOW + DAY, enforce=False)) == due()
    assert due(algorithms=AlgorithmPolicy()) == due()


def test_evidence_sealed_after_the_change_follows_before_the_old_hash_ends():
    end = NOW + 300 * DAY
    moved = replace(ROW, hash_name="sha512", reason=RenewalReason.HASH, at=end - 182 * DAY)
    policy = table(sha256=end)
    found = due(moved, end - 100 * DAY, algorithms=policy)
    assert found == Due(end - 7 * DAY, RenewalReason.HASH, "sha512")
    assert due(moved, None, algorithms=policy) == Due(moved.at + YEAR, RenewalReason.YEARLY, "sha512")
    done = replace(moved, at=end - 7 * DAY)
    assert due(done, end - DAY, algorithms=policy) == Due(done.at + YEAR, RenewalReason.YEARLY, "sha512")
