"""Data at hand answers for the time asked: what was current then, or what was said later about it."""

from datetime import timedelta

import pytest

from evidence.x509 import offline
from evidence.x509.certificates import certificate_facts
from evidence.x509.offline import MAX_LISTS, MAX_RESPONSES, OfflineRevocation
from evidence.x509.revocation import RevocationSource, RevocationStatus, revoked_by
from kephs.testpki import profiles
from tests.support.pki import AYSE_TCKN, NOW, ayse, make_pki, mehmet, shared_pki
from tests.support.revocation_answers import (
    HOUR,
    UNKNOWN,
    Listed,
    crl,
    extension,
    facts_of,
    response,
    revoked,
    single,
    time_of,
)
from tests.support.signers import shared_trust

DAY = timedelta(days=1)
JUNK = [b"", b"junk", b"\x30\x00", bytes(2000)]


def ocsp(status=None, *, at=NOW, issued=None, until=HOUR, **options):
    words = () if status is None else (status,)
    made = single(issued or ayse(), *words, this=at, until=at + until, **options)
    return response(made, at=at)


def listed(*entries, at=NOW, number=1):
    return crl(*entries, this=at, until=at + DAY, number=number)


def ask(ocsp_data=(), crls=(), *, at=NOW, issued=None, **options):
    certificate, issuer = facts_of(issued or ayse())
    data = OfflineRevocation(ocsp_data, crls)
    return data.answer(certificate, issuer, shared_trust(), at, **options)


def test_nothing_at_hand_is_no_answer():
    assert ask() is None
    assert ask(JUNK, JUNK) is None
    assert ask([ocsp(issued=mehmet())]) is None


@pytest.mark.parametrize(
    ("responses", "lists", "source"),
    [(1, 0, RevocationSource.OCSP), (0, 1, RevocationSource.CRL), (1, 1, RevocationSource.OCSP)],
)
def test_either_source_answers_and_ocsp_goes_first(responses, lists, source):
    found = ask([ocsp()] * responses, [listed()] * lists)
    assert (found.status, found.source) == (RevocationStatus.GOOD, source)


def test_a_broken_file_does_not_hide_a_good_one_and_is_named():
    certificate, issuer = facts_of(ayse())
    data = OfflineRevocation([*JUNK, ocsp()], [*JUNK, listed()])
    assert data.answer(certificate, issuer, shared_trust(), NOW).status is RevocationStatus.GOOD
    assert len(data.unreadable) == 2 * len(JUNK)


def test_what_is_not_signed_by_who_may_is_left_aside():
    other = make_pki()
    impostor = response(single(ayse()), by=other.responders["p384"])
    assert ask([impostor], [crl(by=shared_pki().impostor_of("p384").issued)]) is None
    assert ask([impostor, ocsp()]).status is RevocationStatus.GOOD


@pytest.mark.parametrize(
    ("made", "at", "speaks"),
    [
        (NOW, NOW, True),
        (NOW + 30 * DAY, NOW, True),
        (NOW, NOW + HOUR, True),
        (NOW - 2 * HOUR, NOW, False),
    ],
    ids=["current", "later", "end-of-window", "too-old"],
)
def test_an_answer_counts_that_speaks_about_the_time(made, at, speaks):
    assert (ask([ocsp(at=made)], at=at) is not None) is speaks


def test_a_revocation_after_the_time_is_told_and_leaves_the_time_untouched():
    found = ask([ocsp(revoked(NOW + 2 * HOUR, 1), at=NOW + DAY)])
    assert found.status is RevocationStatus.REVOKED
    assert not revoked_by(found, NOW)
    assert revoked_by(found, NOW + 3 * HOUR)


def test_a_final_revocation_before_the_time_goes_before_everything_else():
    bad = listed(Listed(ayse().serial, NOW - HOUR, 1), at=NOW - HOUR / 2)
    for responses in ([ocsp()], [ocsp(), ocsp(at=NOW + HOUR)]):
        found = ask(responses, [bad])
        assert revoked_by(found, NOW)
        assert found.source is RevocationSource.CRL


def test_a_newer_hold_does_not_hide_a_final_revocation():
    final = listed(Listed(ayse().serial, NOW - HOUR, 1), at=NOW - HOUR)
    assert not ask([ocsp(revoked(NOW, 6))], [final]).on_hold


@pytest.mark.parametrize("taken_back", [False, True])
def test_of_on_hold_and_good_the_newer_one_counts(taken_back):
    early, late = NOW - timedelta(minutes=30), NOW
    hold = listed(Listed(ayse().serial, early - HOUR, 6), at=early if taken_back else late)
    found = ask([ocsp(at=late if taken_back else early)], [hold])
    assert revoked_by(found, NOW) is not taken_back


def test_of_several_good_answers_the_current_and_newest_is_given():
    times = [NOW - HOUR, NOW - timedelta(minutes=5), NOW + DAY]
    assert ask([ocsp(at=at) for at in times]).this_update == times[1]


def test_not_before_asks_for_an_answer_made_after_the_signature():
    early, late = ocsp(at=NOW - HOUR / 2), ocsp(at=NOW + DAY)
    assert ask([early]).this_update == NOW - HOUR / 2
    assert ask([early], not_before=NOW) is None
    assert ask([early, late], not_before=NOW).this_update == NOW + DAY


def test_not_after_leaves_answers_from_the_future_aside():
    assert ask([ocsp(at=NOW + DAY)], not_after=NOW) is None
    assert ask([ocsp(at=NOW)], not_after=NOW) is not None


def test_unknown_is_told_only_where_nothing_better_is_there():
    assert ask([ocsp(UNKNOWN)]).status is RevocationStatus.UNKNOWN
    assert ask([ocsp(UNKNOWN)], [listed()]).status is RevocationStatus.GOOD
    assert ask([ocsp(UNKNOWN, at=NOW + DAY)]) is None


def test_good_said_after_the_certificates_end_needs_an_archive_cutoff():
    end = NOW + DAY
    short = shared_pki().issue_user("Can", AYSE_TCKN, not_after=end)
    late = end + DAY
    cutoff = extension("1.3.6.1.5.5.7.48.1.6", time_of(NOW))
    assert ask([ocsp(issued=short, at=late)], issued=short) is None
    assert ask([ocsp(issued=short, at=late, extensions=cutoff)], issued=short) is not None
    kept = crl(this=late, until=late + DAY, extensions=extension("2.5.29.60", time_of(NOW)))
    assert ask([], [listed(at=late)], issued=short) is None
    assert ask([], [kept], issued=short) is not None


def test_a_responder_without_nocheck_counts_where_a_list_vouches_for_it():
    pki = shared_pki()
    own = pki.issue(
        profiles.name(common_name="TEST kephs OCSP own"), profiles.responder_extensions(nocheck=False),
        authority=pki.authorities["p384"],
    )  # fmt: skip
    der = response(single(ayse()), by=own)
    assert ask([der]) is None
    assert ask([der], [listed()]).source is RevocationSource.OCSP
    bad = listed(Listed(own.serial, NOW - HOUR, 1))
    assert ask([der], [bad]).source is RevocationSource.CRL  # the list itself speaks of the holder


def test_a_responder_whose_certificate_ended_since_counts_for_the_time_of_its_answer():
    pki = shared_pki()
    old = pki.issue(
        profiles.name(common_name="TEST kephs OCSP old"), profiles.responder_extensions(),
        authority=pki.authorities["p384"], not_after=NOW + HOUR,
    )  # fmt: skip
    assert ask([response(single(ayse()), by=old)]) is not None
    late = response(single(ayse(), this=NOW + DAY, until=NOW + 2 * DAY), by=old, at=NOW + DAY)
    assert ask([late]) is None


def test_authorities_are_answered_for_by_their_own_issuer():
    certificate = certificate_facts(shared_pki().intermediates[0])
    root = certificate_facts(shared_pki().root)
    der = crl(by=shared_pki().authorities["root"].issued)
    data = OfflineRevocation([], [der, listed()])
    assert data.answer(certificate, root, shared_trust(), NOW).der == der


def test_work_is_bounded_however_much_is_brought(monkeypatch):
    """Each signature is checked once at most, only where serial or issuer fit, and of those only a few."""
    checked = []
    real = offline.check_crl
    monkeypatch.setattr(offline, "check_crl", lambda *args, **more: checked.append(1) or real(*args, **more))
    lists = [listed(number=number) for number in range(MAX_LISTS + 5)]
    responses = [ocsp(issued=mehmet(), at=NOW + timedelta(seconds=n)) for n in range(MAX_RESPONSES + 5)]
    certificate, issuer = facts_of(ayse())
    data = OfflineRevocation(responses, lists)
    assert data.unreadable == ("10 more than are looked at",)
    for _ in range(3):
        assert data.answer(certificate, issuer, shared_trust(), NOW).source is RevocationSource.CRL
    assert len(checked) == 16


def test_of_many_lists_those_nearest_to_the_time_are_looked_at():
    """A folder of daily lists: the one of the day is found wherever it stands."""
    days = [NOW - n * DAY for n in range(40)]
    lists = [listed(at=day, number=400 - n) for n, day in enumerate(days)]
    for at in (days[0], days[20], days[39]):
        assert ask([], lists, at=at + HOUR).this_update == at
    responses = [ocsp(at=day) for day in days]
    for at in (days[0], days[20], days[39]):
        assert ask(responses, [], at=at).this_update == at
