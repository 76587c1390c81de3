"""Hostile OCSP responses and lists: the readers raise their own error only, and no changed byte passes unseen.

Fixed counts: the same work in every run of CI.
"""

import contextlib
from functools import cache
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence.asn1 import der
from evidence.x509.certificates import certificate_facts
from evidence.x509.crl import check_crl, crl_header
from evidence.x509.crl_entries import CrlEntries
from evidence.x509.offline import OfflineRevocation
from evidence.x509.revocation import RevocationError, RevocationStatus, check_ocsp, parse_ocsp
from tests.support.pki import AYSE_TCKN, NOW, ayse, shared_pki
from tests.support.revocation_answers import HOUR, Listed, crl, extension, facts_of, response, revoked, single
from tests.support.signers import shared_trust

POSITIONS = st.integers(0, 10_000)
TAGS = st.sampled_from(
    [0x02, 0x04, 0x05, 0x06, 0x0A, 0x17, 0x18, 0x30, 0x31, 0x80, 0x82, 0xA0, 0xA1, 0x1F, 0xBF]
)
TREES = st.recursive(
    st.builds(der.tlv, TAGS, st.binary(max_size=140)),
    lambda inner: st.builds(lambda tag, parts: der.tlv(tag, *parts), TAGS, st.lists(inner, max_size=6)),
    max_leaves=25,
)


@cache
def good_response() -> bytes:
    archive = extension("1.3.6.1.5.5.7.48.1.6", der.generalized_time(NOW))
    nonce = extension("1.3.6.1.5.5.7.48.1.2", der.octets(b"0123456789abcdef"))
    return response(single(ayse(), revoked(NOW - HOUR, 1), extensions=archive), extensions=nonce)


@cache
def good_list() -> bytes:
    odd = extension("2.5.29.24", der.generalized_time(NOW))
    entries = [Listed(ayse().serial, NOW - HOUR, 1, odd), Listed(2**150, NOW, 4), Listed(7)]
    return crl(*entries, extensions=extension("2.5.29.60", der.generalized_time(NOW)))


def damaged(good: bytes, position: int, cut: int, junk: bytes) -> bytes:
    at = position % (len(good) + 1)
    return good[:at] + junk + good[at + cut :]


def ocsp_status(data: bytes) -> RevocationStatus:
    certificate, issuer = facts_of(ayse())
    return check_ocsp(data, certificate, issuer, at=NOW, trust=shared_trust()).status


def crl_status(data: bytes) -> RevocationStatus:
    certificate, issuer = facts_of(ayse())
    return check_crl(data, issuer, at=NOW, trust=shared_trust()).answer(certificate, NOW).status


def test_both_seeds_say_revoked_before_they_are_damaged():
    assert ocsp_status(good_response()) is crl_status(good_list()) is RevocationStatus.REVOKED


@settings(max_examples=400)
@given(st.one_of(st.binary(max_size=300), TREES))
def test_readers_of_any_bytes_raise_their_own_error_only(data):
    for reader in (parse_ocsp, crl_header, ocsp_status, crl_status):
        with contextlib.suppress(RevocationError):
            reader(data)
    with contextlib.suppress(RevocationError, der.DerError):
        CrlEntries(der.parse(der.seq(data), max_size=10_000)).find(5)


@settings(max_examples=400)
@given(POSITIONS, st.integers(0, 4), st.binary(max_size=6))
def test_a_damaged_response_or_list_is_refused_or_says_the_same(position, cut, junk):
    """Nothing outside the signatures is believed: what still passes can only say revoked."""
    for good, check in ((good_response(), ocsp_status), (good_list(), crl_status)):
        with contextlib.suppress(RevocationError):
            assert check(damaged(good, position, cut, junk)) is RevocationStatus.REVOKED


@settings(max_examples=150)
@given(st.lists(st.tuples(POSITIONS, st.integers(0, 4), st.binary(max_size=6)), max_size=6))
def test_data_at_hand_never_raises_and_one_good_answer_is_found_among_broken_ones(changes):
    responses = [damaged(good_response(), *change) for change in changes]
    lists = [damaged(good_list(), *change) for change in changes]
    certificate, issuer = facts_of(ayse())
    data = OfflineRevocation([*responses, good_response()], [*lists, good_list()])
    found = data.answer(certificate, issuer, shared_trust(), NOW)
    assert found is not None
    assert found.status is RevocationStatus.REVOKED


@settings(max_examples=300)
@given(st.lists(TREES, max_size=6), st.lists(TREES, max_size=6))
def test_parts_of_any_shape_inside_a_true_signature_raise_the_own_error_only(parts, more):
    """An issuer's own software may be broken too: signed nonsense is refused like any other."""
    certificate, issuer = facts_of(ayse())
    for data in (response(*parts, extensions=b"".join(more)), response(single(ayse(), b"".join(parts)))):
        with contextlib.suppress(RevocationError):
            check_ocsp(data, certificate, issuer, at=NOW, trust=shared_trust())
    for data in (crl(*parts), crl(extensions=b"".join(more)), crl(trailing=b"".join(parts))):
        with contextlib.suppress(RevocationError):
            check_crl(data, issuer, at=NOW, trust=shared_trust()).answer(certificate, NOW)


@settings(max_examples=200)
@given(st.lists(st.integers(-(2**70), 2**160), max_size=30), st.integers(0, 29))
def test_signed_lists_are_read_as_they_were_written(serials, which):
    other = certificate_facts(shared_pki().issue_user("Can", AYSE_TCKN).certificate)
    der_list = crl(*(Listed(serial, NOW - HOUR, which % 5 + 1) for serial in serials))
    issuer = certificate_facts(shared_pki().authorities["p384"].certificate)
    made = check_crl(der_list, issuer, at=NOW, trust=shared_trust())
    assert len(made) == len(serials)
    assert made.answer(other, NOW).status is RevocationStatus.GOOD


@pytest.mark.parametrize(
    "bomb",
    [
        der.seq(b"\x30\x84\x7f\xff\xff\xff" + bytes(100)),
        b"\x30\x80" * 200_000,
        der.seq(der.tlv(0x0A, b"\x00"), der.tlv(0xA0, b"\xa0\x82\x03\xe8" * 200_000)),
        response(*[single(ayse())] * 64, enclosed=[b"\x30\x03\x02\x01\x05"] * 16),
        response(single(ayse()), enclosed=[shared_pki().responders["p384"].certificate] * 16),
    ],
    ids=["length-lie", "open-nesting", "deep-nesting", "many-answers", "one-name-sixteen-times"],
)
def test_bombs_cost_milliseconds(bomb):
    certificate, issuer = facts_of(ayse())
    start = perf_counter()
    with contextlib.suppress(RevocationError):
        check_ocsp(bomb, certificate, issuer, at=NOW, trust=shared_trust())
    with contextlib.suppress(RevocationError):
        check_crl(bomb, issuer, at=NOW, trust=shared_trust())
    assert perf_counter() - start < 1.0  # measured: below 20 ms each; the rest is room for a busy machine
