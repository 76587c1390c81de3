"""The TEST PKI answers for what it revoked."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from hypothesis import given
from hypothesis import strategies as st

from kephs.testpki.index import UnknownSerialError
from tests.support.pki import AYSE_TCKN, NOW, ayse, make_pki, mehmet, request_for, shared_pki

ISSUERS = ("p384", "pss")


# ------------------------------------------------------------------ revocation


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256()], ids=lambda a: a.name)
@pytest.mark.parametrize("issuer", ISSUERS)
def test_ocsp_says_good_signed_by_the_responder_with_the_nonce(issuer, algorithm):
    pki = shared_pki()
    issued = pki.issue_user("Ali", AYSE_TCKN, issuer=issuer)
    request = request_for(issued, issuer, nonce=b"0123456789abcdef", algorithm=algorithm)
    answer = ocsp.load_der_ocsp_response(pki.ocsp_response(request, NOW, ca=issuer))
    assert answer.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
    assert answer.certificate_status is ocsp.OCSPCertStatus.GOOD
    assert answer.serial_number == issued.serial
    assert answer.hash_algorithm.name == algorithm.name
    assert answer.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"0123456789abcdef"
    assert answer.produced_at_utc == answer.this_update_utc == NOW
    assert answer.next_update_utc == NOW + timedelta(hours=1)
    (responder,) = answer.certificates
    assert responder == pki.responders[issuer].x509
    responder.public_key().verify(answer.signature, answer.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize("issuer", ISSUERS)
def test_a_revocation_shows_in_ocsp_and_crl_from_its_time_on(issuer):
    pki = shared_pki()
    issued = pki.issue_user("Ali", AYSE_TCKN, issuer=issuer)
    request = request_for(issued, issuer)
    later = NOW + timedelta(hours=2)
    pki.revoke(issued.serial, later, x509.ReasonFlags.superseded)
    before = ocsp.load_der_ocsp_response(pki.ocsp_response(request, NOW, ca=issuer))
    assert before.certificate_status is ocsp.OCSPCertStatus.GOOD
    assert (
        x509.load_der_x509_crl(pki.crl(issuer, NOW)).get_revoked_certificate_by_serial_number(issued.serial)
        is None
    )
    after = ocsp.load_der_ocsp_response(pki.ocsp_response(request, later, ca=issuer))
    assert after.certificate_status is ocsp.OCSPCertStatus.REVOKED
    assert after.revocation_time_utc == later
    assert after.revocation_reason is x509.ReasonFlags.superseded
    crl = x509.load_der_x509_crl(pki.crl(issuer, later))
    entry = crl.get_revoked_certificate_by_serial_number(issued.serial)
    assert entry.revocation_date_utc == later
    assert (
        entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.superseded
    )
    assert crl.next_update_utc == later + timedelta(days=1)


@pytest.mark.parametrize("reason", list(x509.ReasonFlags))
def test_every_reason_that_can_be_revoked_for_is_answered(reason):
    if reason is x509.ReasonFlags.remove_from_crl:
        return  # a mark of delta CRLs, which this PKI has none of
    pki = shared_pki()
    issued = pki.issue_user("Ali", AYSE_TCKN)
    pki.revoke(issued.serial, NOW, reason)
    answer = ocsp.load_der_ocsp_response(pki.ocsp_response(request_for(issued, "p384"), NOW, ca="p384"))
    assert answer.revocation_reason is (None if reason is x509.ReasonFlags.unspecified else reason)


def test_ocsp_does_not_vouch_for_what_it_never_issued():
    pki = shared_pki()
    stranger = pki.issue_user("Ali", AYSE_TCKN, impostor=True)
    answer = ocsp.load_der_ocsp_response(pki.ocsp_response(request_for(stranger, "p384"), NOW, ca="p384"))
    assert answer.certificate_status is ocsp.OCSPCertStatus.UNKNOWN
    with pytest.raises(UnknownSerialError):
        pki.revoke(stranger.serial, NOW)


def test_ocsp_refuses_other_issuers_and_garbage():
    pki = shared_pki()
    wrong = ocsp.load_der_ocsp_response(pki.ocsp_response(request_for(mehmet(), "pss"), NOW, ca="p384"))
    assert wrong.response_status is ocsp.OCSPResponseStatus.UNAUTHORIZED
    for garbage in (b"", b"garbage", request_for(ayse(), "p384") + b"\0"):
        answer = ocsp.load_der_ocsp_response(pki.ocsp_response(garbage, NOW, ca="p384"))
        assert answer.response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


@given(st.binary(max_size=100))
def test_no_request_breaks_the_responder(data):
    assert ocsp.load_der_ocsp_response(shared_pki().ocsp_response(data, NOW, ca="p384"))


def test_answers_without_nonce_are_reused_for_a_minute_only():
    pki = shared_pki()
    request = request_for(pki.issue_user("Ali", AYSE_TCKN), "p384")
    first = pki.ocsp_response(request, NOW, ca="p384")
    assert pki.ocsp_response(request, NOW + timedelta(seconds=30), ca="p384") == first
    assert pki.ocsp_response(request, NOW + timedelta(seconds=61), ca="p384") != first


def test_the_crl_is_reused_and_its_number_grows():
    pki = make_pki()
    first = pki.crl("p384", NOW)
    assert pki.crl("p384", NOW + timedelta(minutes=9)) == first
    issued = pki.issue_user("Ali", AYSE_TCKN)
    pki.revoke(issued.serial, NOW)
    second = pki.crl("p384", NOW)

    def number(der):
        return x509.load_der_x509_crl(der).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number

    assert number(second) > number(first)


def test_an_issuing_authority_can_be_revoked_by_the_root():
    pki = make_pki()
    pki.revoke(pki.authorities["pss"].issued.serial, NOW, x509.ReasonFlags.ca_compromise)
    revoked = list(x509.load_der_x509_crl(pki.crl("root", NOW)))
    assert [entry.serial_number for entry in revoked] == [pki.authorities["pss"].issued.serial]
