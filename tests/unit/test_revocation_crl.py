"""A list is believed when it is complete, its issuer's own, and understood to its last entry."""

import tracemalloc
from datetime import timedelta
from itertools import pairwise

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from evidence.asn1.der import (
    DerError,
    bits,
    boolean,
    explicit,
    implicit,
    integer,
    octets,
    oid,
    parse,
    seq,
    tlv,
)
from evidence.x509.certificates import certificate_facts
from evidence.x509.crl import check_crl, crl_header
from evidence.x509.crl_entries import CrlEntries
from evidence.x509.revocation import RevocationError, RevocationStatus
from kephs.testpki import profiles
from tests.support.pki import AYSE_TCKN, BASE_URL, NOW, ayse, shared_pki
from tests.support.revocation_answers import HOUR, Listed, crl, extension, time_of
from tests.support.signers import shared_trust

SERIALS = st.integers(1, 2**159 - 1)
DATE = "2.5.29.24"


def check(der, *, issuer=None, at=NOW):
    facts = certificate_facts((issuer or shared_pki().authorities["p384"].issued).certificate)
    return check_crl(der, facts, at=at, trust=shared_trust())


def ask(der, issued=None):
    return check(der).answer(certificate_facts((issued or ayse()).certificate), NOW)


def point(name=b"", *flags):
    """Return a critical IssuingDistributionPoint; flags are tag numbers of its booleans."""
    inside = [implicit(number, b"\xff") for number in flags]
    return extension("2.5.29.28", seq(name, *inside), critical=True)


def full_name(*urls):
    return explicit(0, explicit(0, *(implicit(6, url.encode()) for url in urls)))


def test_a_serial_on_the_list_is_revoked_and_all_others_are_good():
    entries = [Listed(ayse().serial + step, NOW - HOUR, 1) for step in (-1, 1)]
    assert ask(crl(*entries)).status is RevocationStatus.GOOD
    found = ask(crl(*entries, Listed(ayse().serial, NOW - HOUR, 4)))
    assert (found.status, found.revoked_at, found.reason) == (
        RevocationStatus.REVOKED, NOW - HOUR, "superseded",
    )  # fmt: skip


@pytest.mark.parametrize(("version", "number"), [(1, 1), (1, None), (None, None)])
def test_lists_with_and_without_number_and_version_are_read(version, number):
    found = check(crl(version=version, number=number))
    assert (found.number, len(found)) == (number, 0)


@pytest.mark.parametrize("version", [0, 2])
def test_another_version_is_refused(version):
    with pytest.raises(RevocationError, match="version"):
        check(crl(version=version))


def test_on_hold_is_revoked_and_a_final_revocation_goes_before_it():
    hold, final = Listed(ayse().serial, NOW - 3 * HOUR, 6), Listed(ayse().serial, NOW - HOUR, 1)
    assert ask(crl(hold)).on_hold
    for order in ((hold, final), (final, hold)):
        assert ask(crl(*order)).reason == "keyCompromise"


def test_remove_from_crl_has_no_meaning_in_a_complete_list():
    der = crl(Listed(ayse().serial, NOW - HOUR, 8))
    with pytest.raises(RevocationError, match="removeFromCRL"):
        ask(der)
    assert ask(der, shared_pki().issue_user("Can", AYSE_TCKN)).status is RevocationStatus.GOOD


@pytest.mark.parametrize("text", ["20261121080000.5Z", "20261121080000.000Z", "20261121080000Z"])
def test_fractions_of_a_second_are_read_in_all_three_places(text):
    found = ask(crl(Listed(ayse().serial, text), this=text, until=text.replace("1121", "1122")))
    assert found.revoked_at.replace(microsecond=0) == NOW - HOUR


def test_a_list_without_next_update_is_refused():
    with pytest.raises(RevocationError, match="nextUpdate"):
        check(crl(until=None))


@pytest.mark.parametrize(
    ("spoiled", "why"),
    [
        (extension("2.5.29.27", integer(1), critical=True), "delta"),
        (extension("2.5.29.27", integer(1)), "delta"),
        (extension("1.2.3.4", b"\x05\x00", critical=True), "unknown critical"),
        (extension("2.5.29.20", integer(1)), "twice"),
        (point(b"", 4), "indirect"),
        (point(b"", 5), "attribute"),
        (point(implicit(3, b"\x01\x40")), "some reasons"),
        (point(b"", 9), "unexpected"),
        (extension("2.5.29.28", seq(implicit(1, b"\x01"))), "boolean"),
        (extension("2.5.29.28", seq(full_name("http://\xe9"))), "codec"),
    ],
    ids=[
        "delta", "delta-not-critical", "unknown-critical", "number-twice", "indirect",
        "attribute-certificates", "some-reasons", "unknown-scope", "malformed-flag", "address-not-ascii",
    ],
)  # fmt: skip
def test_lists_that_are_not_complete_or_not_understood_are_refused(spoiled, why):
    with pytest.raises(RevocationError, match=why):
        check(crl(extensions=spoiled))


def test_an_unknown_extension_that_is_not_critical_is_passed_over():
    assert ask(crl(extensions=extension("1.2.3.4", b"\x05\x00"))).status is RevocationStatus.GOOD


@pytest.mark.parametrize(
    ("scope", "holder", "authority"),
    [
        (point(b"", 1), True, False),
        (point(b"", 2), False, True),
        (point(implicit(1, b"\x00")), True, True),
        (point(full_name(f"{BASE_URL}/crl/p384.crl")), True, True),
        (point(full_name("ldap://x/y", f"{BASE_URL}/crl/p384.crl")), True, True),
        (point(full_name("http://elsewhere/part2.crl")), False, False),
        (point(explicit(0, explicit(1, seq(oid("2.5.4.3"), tlv(0x0C, b"x"))))), False, False),
    ],
    ids=[
        "users",
        "authorities",
        "explicit-false",
        "its-point",
        "one-of-its-points",
        "other-point",
        "relative",
    ],
)
def test_a_list_answers_only_for_its_scope(scope, holder, authority):
    pki = shared_pki()
    below = pki.issue(
        profiles.name(common_name="TEST kephs CA below"),
        [(x509.BasicConstraints(ca=True, path_length=None), True)],
        authority=pki.authorities["p384"],
    )
    for issued, covered in ((ayse(), holder), (below, authority)):
        facts = certificate_facts(issued.certificate)
        if covered:
            assert check(crl(extensions=scope)).answer(facts, NOW).status is RevocationStatus.GOOD
            continue
        with pytest.raises(RevocationError, match="does not cover"):
            check(crl(extensions=scope)).answer(facts, NOW)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (Listed(7, extensions=extension("1.2.3.4", b"\x05\x00", critical=True)), "unknown critical"),
        (Listed(7, extensions=extension("2.5.29.29", seq(), critical=True)), "indirect"),
        (Listed(7, extensions=extension("2.5.29.29", seq())), "indirect"),
        (Listed(7, reason=1, extensions=extension("2.5.29.21", b"\x0a\x01\x01")), "twice"),
        (Listed(7, raw=b"\x02\x02\x00\x07"), "minimal"),
        (Listed(7, raw=b"\x02\x02\xff\x87"), "minimal"),
        (Listed(7, raw=b"\x02\x00"), "serial"),
        (Listed(7, raw=b"\x04\x01\x07"), "serial"),
        (seq(integer(7)), "time|container"),
        (seq(integer(7), integer(8)), "time"),
        (seq(integer(7), time_of(NOW), octets(b"x")), "tag"),
        (octets(b"x"), "sequence|serial"),
        (b"\x30\x80\x00\x00", "length"),
    ],
    ids=[
        "unknown-critical", "certificate-issuer", "certificate-issuer-not-critical", "reason-twice", "padded",
        "padded-negative", "empty-serial", "no-serial", "no-time", "wrong-time", "wrong-extensions",
        "no-sequence", "indefinite",
    ],
)  # fmt: skip
def test_one_bad_entry_spoils_the_list_for_everybody(entry, why):
    good = Listed(99, NOW - HOUR, 1)
    for entries in ([good, entry], [entry, good]):
        with pytest.raises(RevocationError, match=why):
            check(crl(*entries))


@pytest.mark.parametrize("size", [3, 60, 200, 1000])
def test_entries_of_any_size_are_read(size):
    long = Listed(ayse().serial, NOW - HOUR, 1, extensions=extension("1.2.3.4", octets(bytes(size))))
    assert ask(crl(Listed(5), long, Listed(6))).reason == "keyCompromise"
    assert len(check(crl(Listed(5), long, Listed(6)))) == 3


def test_invalidity_dates_of_every_entry_are_read_and_change_nothing():
    entries = [
        Listed(n, NOW - HOUR, 1, extension(DATE, time_of(NOW - timedelta(seconds=n)))) for n in range(1, 40)
    ]
    assert len(check(crl(*entries))) == 39
    odd = Listed(40, NOW, 1, extension(DATE, time_of(NOW)) + extension("1.2.3.4", b"\x05\x00", critical=True))
    with pytest.raises(RevocationError, match="critical"):
        check(crl(*entries, odd))


def test_a_block_that_lacks_its_date_is_no_block_already_seen():
    dated = Listed(1, NOW - HOUR, 1, extension(DATE, time_of(NOW))).der()
    start = dated.rindex(b"\x18\x0f") + 2
    cut = bytes((dated[0], dated[1] - 15)) + dated[2:start]
    assert len(check(crl(dated))) == 1
    with pytest.raises(RevocationError):
        check(crl(dated, cut))


def test_no_entry_runs_past_the_list():
    node = parse(seq(Listed(1).der(), Listed(2).der()), max_size=999)
    assert len(CrlEntries(node)) == 2
    for missing in range(1, len(Listed(2).der())):
        with pytest.raises(DerError):
            CrlEntries(node._replace(end=node.end - missing))


def test_a_signature_by_sha_1_or_with_two_algorithms_does_not_count():
    with pytest.raises(RevocationError, match="sha1"):
        check(crl(weak=True))
    with pytest.raises(RevocationError, match="differ"):
        check(crl(inner=seq(oid("1.2.840.10045.4.3.2"))))


def test_the_octets_of_a_serial_inside_another_entry_are_no_entry():
    """Serial 5 is 02 01 05; the same octets stand inside other serials and extensions."""
    decoys = [
        Listed(int.from_bytes(b"\x11\x02\x01\x05\x22", "big")),
        Listed(77, extensions=extension("1.2.3.4", integer(5))),
    ]
    entries = check(crl(*decoys))._entries
    assert entries.find(5) is None
    assert entries.find(77) is not None
    entries = check(crl(*decoys, Listed(5)))._entries
    assert entries.find(5) is not None


@given(listed=st.sets(SERIALS, max_size=12), asked=SERIALS)
def test_the_search_finds_what_is_listed_and_nothing_else(listed, asked):
    node = parse(seq(*(Listed(serial).der() for serial in sorted(listed))), max_size=100_000)
    entries = CrlEntries(node)
    assert all(entries.find(serial) is not None for serial in listed)
    assert (entries.find(asked) is not None) is (asked in listed)


def test_the_issuer_must_be_allowed_to_sign_lists_and_have_signed_this_one():
    with pytest.raises(RevocationError, match="may not sign"):
        check(crl(), issuer=ayse())
    with pytest.raises(RevocationError, match="another issuer"):
        check(crl(by=shared_pki().authorities["root"].issued))
    impostor = crl(by=shared_pki().impostor_of("p384").issued)
    with pytest.raises(RevocationError, match="does not verify"):
        check(impostor)


def test_a_tail_after_the_known_members_is_refused():
    with pytest.raises(RevocationError):
        check(crl(trailing=boolean(value=True)))
    good = crl()
    body = parse(good, max_size=10_000)
    with pytest.raises(RevocationError):
        check(seq(body.content, bits(b"")))


@pytest.mark.parametrize(
    ("older", "newer"),
    [((3, NOW), (4, NOW)), ((None, NOW), (None, NOW + HOUR)), ((None, NOW), (9, NOW + HOUR))],
    ids=["number", "date", "number-on-one-only"],
)
def test_lists_are_ordered_by_number_or_by_date(older, newer):
    lists = [check(crl(number=number, this=this)) for number, this in (older, newer)]
    assert [one.older_than(other) for one, other in pairwise([*lists, lists[0]])] == [True, False]


def test_a_list_that_keeps_expired_certificates_says_since_when():
    found = ask(crl(extensions=extension("2.5.29.60", time_of(NOW - HOUR))))
    assert found.kept_since == NOW - HOUR


def test_the_header_names_issuer_and_date_without_checking():
    issuer = certificate_facts(shared_pki().authorities["p384"].certificate)
    assert crl_header(crl()) == (issuer.subject, NOW)
    with pytest.raises(RevocationError):
        crl_header(b"\x30\x00")


def test_a_list_larger_than_the_cap_is_not_parsed():
    with pytest.raises(RevocationError, match="larger"):
        check(bytes(20 * 1024 * 1024 + 1))


def test_entries_cost_four_octets_each_whatever_the_size_of_the_list():
    block = b"".join(Listed(2**120 + n, NOW - HOUR, 1).der() for n in range(1000))
    entries = parse(seq(block * 25), max_size=20 * 1024 * 1024)
    tracemalloc.start()
    try:
        made = CrlEntries(entries)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(made) == 25_000
    assert kept < 150_000
    assert peak < 300_000
    assert made.find(2**120 + 1000) is None
    assert made.find(2**120 + 999) is not None
