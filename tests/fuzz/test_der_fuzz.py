"""Hostile bytes never do more than raise the parser's own error, and never take long."""

import contextlib
from time import perf_counter

from hypothesis import given
from hypothesis import strategies as st

from evidence.asn1 import der
from evidence.asn1.der import DerError
from evidence.cms.signed_data import parse_signed_data
from evidence.x509.certificates import CertificateError, certificate_facts
from evidence.x509.revocation import RevocationError, check_ocsp, ocsp_request
from tests.support.pki import NOW, ayse, shared_pki
from tests.support.signers import shared_trust, signed_message, verified

_TAGS = st.sampled_from([0x02, 0x03, 0x04, 0x05, 0x06, 0x0C, 0x17, 0x18, 0x30, 0x31, 0xA0, 0xA1, 0x80])
_TREES = st.recursive(
    st.builds(der.tlv, _TAGS, st.binary(max_size=12)),
    lambda inner: st.builds(lambda tag, parts: der.tlv(tag, *parts), _TAGS, st.lists(inner, max_size=5)),
    max_leaves=25,
)


@given(st.one_of(st.binary(max_size=200), _TREES))
def test_readers_of_any_bytes_raise_their_own_error_only(data):
    for reader, error in (
        (lambda: list(der.walk(der.parse(data, max_size=10_000))), DerError),
        (lambda: parse_signed_data(data), DerError),
        (lambda: certificate_facts(data), CertificateError),
    ):
        with contextlib.suppress(error):
            reader()


@given(position=st.integers(0, 10_000), junk=st.binary(max_size=6), cut=st.integers(0, 6))
def test_a_damaged_certificate_raises_its_own_error_only(position, junk, cut):
    good = ayse().certificate
    at = position % len(good)
    with contextlib.suppress(CertificateError):
        certificate_facts(good[:at] + junk + good[at + cut :])


@given(position=st.integers(0, 10_000), junk=st.binary(min_size=1, max_size=6), cut=st.integers(0, 6))
def test_a_damaged_ocsp_response_is_good_or_refused(position, junk, cut):
    certificate = certificate_facts(ayse().certificate)
    issuer = certificate_facts(shared_pki().intermediates[0])
    request = ocsp_request(certificate, issuer)
    good = shared_pki().ocsp_response(request, NOW, ca="p384")
    at = position % len(good)
    with contextlib.suppress(RevocationError):
        check_ocsp(good[:at] + junk + good[at + cut :], certificate, issuer, at=NOW, trust=shared_trust())


@given(position=st.integers(0, 10_000), junk=st.binary(min_size=1, max_size=8), cut=st.integers(0, 8))
def test_a_damaged_message_never_raises(position, junk, cut):
    good = signed_message(ayse())
    at = position % len(good)
    verified(good[:at] + junk + good[at + cut :])


def test_a_million_tiny_values_are_refused_quickly():
    data = der.seq(der.NULL_DER * 500_000)
    started = perf_counter()
    with contextlib.suppress(DerError):
        parse_signed_data(data)
    assert perf_counter() - started < 1
