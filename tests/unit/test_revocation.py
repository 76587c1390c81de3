"""OCSP responses and CRLs are believed only from the right issuer, on the right certificate, in time."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp

from evidence.x509.certificates import certificate_facts
from evidence.x509.crl import check_crl
from evidence.x509.revocation import (
    FreshnessRules,
    RevocationError,
    RevocationSource,
    RevocationStatus,
    check_ocsp,
    is_fresh,
    ocsp_request,
)
from kephs.testpki.status import Responder
from tests.support.pki import AYSE_TCKN, NOW, ayse, make_pki, mehmet, shared_pki
from tests.support.signers import shared_trust

HOUR = timedelta(hours=1)
NONCE = b"0123456789abcdef"


def facts_of(issued):
    return certificate_facts(issued.certificate), certificate_facts(issued.chain[0])


def answer(issued, *, ca="p384", at=NOW, asked_at=NOW, nonce=NONCE, rules=None):
    certificate, issuer = facts_of(issued)
    response = shared_pki().ocsp_response(ocsp_request(certificate, issuer, nonce=nonce), asked_at, ca=ca)
    return check_ocsp(
        response,
        certificate,
        issuer,
        at=at,
        trust=shared_trust(),
        nonce=nonce,
        rules=rules or FreshnessRules(),
    )


def test_the_request_is_what_cryptography_reads_and_would_write():
    certificate, issuer = facts_of(ayse())
    request = ocsp.load_der_ocsp_request(ocsp_request(certificate, issuer, nonce=NONCE))
    assert request.serial_number == ayse().serial
    nonce = request.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
    assert nonce == NONCE
    same = (
        ocsp.OCSPRequestBuilder()
        .add_certificate(ayse().x509, x509.load_der_x509_certificate(ayse().chain[0]), hashes.SHA1())
        .build()
    )
    assert (request.issuer_key_hash, request.issuer_name_hash) == (
        same.issuer_key_hash,
        same.issuer_name_hash,
    )


@pytest.mark.parametrize(("who", "ca"), [(ayse, "p384"), (mehmet, "pss")])
def test_a_delegated_responder_of_the_issuer_is_believed(who, ca):
    found = answer(who(), ca=ca)
    assert found.status is RevocationStatus.GOOD
    assert found.source is RevocationSource.OCSP
    assert found.responder == shared_pki().responders[ca].certificate
    assert found.next_update > NOW


def test_revoked_is_told_with_time_and_reason():
    bad = shared_pki().issue_user("Can", AYSE_TCKN)
    shared_pki().revoke(bad.serial, NOW - HOUR)
    found = answer(bad)
    assert (found.status, found.revoked_at, found.reason) == (
        RevocationStatus.REVOKED, NOW - HOUR, "keyCompromise",
    )  # fmt: skip


def test_a_certificate_that_was_never_issued_is_unknown():
    bad = shared_pki().issue_user("Can", AYSE_TCKN, impostor=True)
    certificate, _ = facts_of(bad)
    issuer = certificate_facts(shared_pki().intermediates[0])
    request = ocsp_request(certificate, issuer)
    response = shared_pki().ocsp_response(request, NOW, ca="p384")
    found = check_ocsp(response, certificate, issuer, at=NOW, trust=shared_trust())
    assert found.status is RevocationStatus.UNKNOWN


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"at": NOW + 2 * HOUR}, "not fresh"),
        ({"at": NOW - HOUR}, "future"),
        ({"nonce": None, "rules": FreshnessRules(require_nonce=True)}, None),
    ],
)
def test_answers_outside_their_window_are_refused(options, why):
    if why is None:
        assert answer(ayse(), **options).status is RevocationStatus.GOOD  # nothing asked, nothing missing
        return
    with pytest.raises(RevocationError, match=why):
        answer(ayse(), **options)


def responded(issued, responder, *, ca_hash_of=None, serial=None, nonce=None, status=b"\x80\x00", until=HOUR):
    """Return a response by any responder certificate on a certificate."""
    certificate, issuer = facts_of(issued)
    request = ocsp.load_der_ocsp_request(ocsp_request(ca_hash_of or certificate, issuer))
    from kephs.testpki.status import cert_id  # noqa: PLC0415

    made = Responder(responder).sign(
        cert_id(request), status, NOW, NOW, NOW + until if until else None, nonce
    )
    return check_ocsp(made, certificate, issuer, at=NOW, trust=shared_trust(), nonce=NONCE)


def test_the_hand_made_response_is_good_before_it_is_spoiled():
    assert responded(ayse(), shared_pki().responders["p384"]).status is RevocationStatus.GOOD
    assert responded(ayse(), shared_pki().responders["p384"], until=None).status is RevocationStatus.GOOD


@pytest.mark.parametrize(
    ("responder", "why"),
    [
        (lambda pki: pki.responders["pss"], "not issued by"),
        (lambda pki: pki.issue_responder("p384", eku=False), "OCSPSigning"),
        (lambda pki: pki.issue_responder("p384", nocheck=False), "nocheck"),
        (lambda pki: make_pki().responders["p384"], "not issued by"),
        (lambda pki: ayse(), "OCSPSigning"),
    ],
)
def test_a_responder_without_the_issuers_mandate_is_refused(responder, why):
    with pytest.raises(RevocationError, match=why):
        responded(ayse(), responder(shared_pki()))


def test_the_issuer_itself_may_answer():
    pki = shared_pki()
    found = responded(ayse(), pki.authorities["p384"].issued)
    assert found.status is RevocationStatus.GOOD
    assert found.responder is None


def test_an_answer_on_another_certificate_is_refused():
    other = certificate_facts(shared_pki().issue_user("Can", AYSE_TCKN).certificate)
    with pytest.raises(RevocationError, match="another certificate"):
        responded(ayse(), shared_pki().responders["p384"], ca_hash_of=other)


def test_another_nonce_is_refused():
    with pytest.raises(RevocationError, match="nonce"):
        responded(ayse(), shared_pki().responders["p384"], nonce=b"another nonce...")


def test_every_flipped_byte_of_a_response_is_refused():
    certificate, issuer = facts_of(ayse())
    good = shared_pki().ocsp_response(ocsp_request(certificate, issuer, nonce=NONCE), NOW, ca="p384")
    trust = shared_trust()
    for index in range(len(good)):
        broken = bytearray(good)
        broken[index] ^= 0x02
        with pytest.raises(RevocationError):
            check_ocsp(bytes(broken), certificate, issuer, at=NOW, trust=trust, nonce=NONCE)


def test_an_error_status_is_no_answer():
    certificate, issuer = facts_of(ayse())
    error = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415

    with pytest.raises(RevocationError, match="status 03"):
        check_ocsp(error.public_bytes(Encoding.DER), certificate, issuer, at=NOW, trust=shared_trust())


# ------------------------------------------------------------------ lists


def listed(ca="p384", *, at=NOW):
    issuer = certificate_facts(shared_pki().authorities[ca].certificate)
    return check_crl(shared_pki().crl(ca, NOW), issuer, at=at, trust=shared_trust())


@pytest.mark.parametrize(("who", "ca"), [(ayse, "p384"), (mehmet, "pss")])
def test_a_list_answers_for_its_issuers_certificates(who, ca):
    found = listed(ca).answer(certificate_facts(who().certificate), NOW)
    assert (found.status, found.source) == (RevocationStatus.GOOD, RevocationSource.CRL)
    assert is_fresh(found, NOW)


def test_a_list_tells_revoked_with_time_and_reason():
    bad = shared_pki().issue_user("Can", AYSE_TCKN)
    shared_pki().revoke(bad.serial, NOW - HOUR)
    found = listed().answer(certificate_facts(bad.certificate), NOW)
    assert (found.status, found.revoked_at, found.reason) == (
        RevocationStatus.REVOKED, NOW - HOUR, "keyCompromise",
    )  # fmt: skip


def test_a_list_does_not_answer_for_others_or_out_of_time():
    with pytest.raises(RevocationError, match="another issuer"):
        listed("p384").answer(certificate_facts(mehmet().certificate), NOW)
    with pytest.raises(RevocationError, match="not fresh"):
        listed().answer(certificate_facts(ayse().certificate), NOW + 48 * HOUR)
    with pytest.raises(RevocationError, match="future"):
        listed().answer(certificate_facts(ayse().certificate), NOW - HOUR)


def test_a_list_of_an_impostor_is_refused():
    issuer = certificate_facts(shared_pki().authorities["p384"].certificate)
    with pytest.raises(RevocationError, match="does not verify"):
        check_crl(make_pki().crl("p384", NOW), issuer, at=NOW, trust=shared_trust())
    with pytest.raises(RevocationError, match="another issuer"):
        check_crl(shared_pki().crl("pss", NOW), issuer, at=NOW, trust=shared_trust())


def test_every_flipped_byte_of_a_list_is_refused():
    issuer = certificate_facts(shared_pki().authorities["p384"].certificate)
    good = shared_pki().crl("p384", NOW)
    trust = shared_trust()
    for index in range(len(good)):
        broken = bytearray(good)
        broken[index] ^= 0x01
        with pytest.raises(RevocationError):
            check_crl(bytes(broken), issuer, at=NOW, trust=trust)


def made_list(*extensions, next_update=NOW + HOUR):
    authority = shared_pki().authorities["p384"]
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.issued.x509.subject)
        .last_update(NOW)
        .next_update(next_update)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    key = authority.issued.key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415

    der = builder.sign(key, hashes.SHA384()).public_bytes(Encoding.DER)
    return check_crl(der, certificate_facts(authority.certificate), at=NOW, trust=shared_trust())


def scope(**kwargs):
    base = {
        "full_name": None, "relative_name": None, "only_contains_user_certs": False,
        "only_contains_ca_certs": False, "only_some_reasons": None, "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }  # fmt: skip
    return x509.IssuingDistributionPoint(**(base | kwargs))


def test_delta_indirect_and_unknown_lists_are_refused():
    assert made_list().answer(certificate_facts(ayse().certificate), NOW).status is RevocationStatus.GOOD
    for extension in (
        x509.DeltaCRLIndicator(1),
        scope(indirect_crl=True),
        scope(only_some_reasons=frozenset({x509.ReasonFlags.key_compromise})),
        x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"),
    ):
        with pytest.raises(RevocationError):
            made_list((extension, True))


def test_a_list_for_authorities_only_does_not_answer_for_holders():
    with pytest.raises(RevocationError, match="does not cover"):
        made_list((scope(only_contains_ca_certs=True), True)).answer(
            certificate_facts(ayse().certificate), NOW
        )
    users = made_list((scope(only_contains_user_certs=True), True))
    assert users.answer(certificate_facts(ayse().certificate), NOW).status is RevocationStatus.GOOD
