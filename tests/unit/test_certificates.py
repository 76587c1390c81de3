"""Certificate facts agree with `cryptography`, and odd certificates are read or refused as ruled."""

from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from evidence.asn1 import der
from evidence.x509.certificates import (
    BTK_SIGNATURE,
    DIGITAL_SIGNATURE,
    EKU_OCSP_SIGNING,
    EKU_TIME_STAMPING,
    KEY_CERT_SIGN,
    MAX_CERTIFICATE,
    NON_REPUDIATION,
    QC_COMPLIANCE,
    TEST_TRANSACTION_POLICY,
    CertificateError,
    certificate_facts,
)
from tests.support.pki import AYSE_TCKN, ayse, mehmet, shared_pki


def everybody():
    pki = shared_pki()
    return [
        pki.root,
        *pki.intermediates,
        ayse().certificate,
        mehmet().certificate,
        pki.tsa.certificate,
        *(issued.certificate for issued in pki.responders.values()),
        *(issued.certificate for issued in pki.transactions.values()),
    ]


@pytest.mark.parametrize("index", range(8))
def test_facts_agree_with_cryptography(index):
    der_bytes = everybody()[index]
    facts, other = certificate_facts(der_bytes), x509.load_der_x509_certificate(der_bytes)
    assert facts.serial == other.serial_number
    assert facts.subject == other.subject.public_bytes()
    assert facts.issuer == other.issuer.public_bytes()
    assert (facts.not_before, facts.not_after) == (other.not_valid_before_utc, other.not_valid_after_utc)
    assert facts.tbs == other.tbs_certificate_bytes
    assert facts.signature == other.signature
    key = other.public_key()
    encoded = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert facts.spki == encoded
    assert facts.key.size == key.key_size
    usage = other.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (DIGITAL_SIGNATURE in facts.extensions.key_usage) == usage.digital_signature
    assert (NON_REPUDIATION in facts.extensions.key_usage) == usage.content_commitment
    assert (KEY_CERT_SIGN in facts.extensions.key_usage) == usage.key_cert_sign


def test_a_holder_certificate_shows_what_the_rules_ask_for():
    facts = certificate_facts(ayse().certificate)
    assert facts.tckn == AYSE_TCKN
    assert facts.common_name == "TEST Ayşe Yılmaz"
    assert facts.country == "TR"
    assert facts.has_qc(QC_COMPLIANCE)
    assert facts.has_qc(BTK_SIGNATURE)
    assert any(text for policy in facts.extensions.policies for text in policy.notices)
    assert all(
        url.startswith("http://127.0.0.1:9/")
        for url in facts.extensions.ocsp_urls + facts.extensions.crl_urls
    )
    assert facts.extensions.ocsp_urls
    assert facts.extensions.crl_urls
    assert facts.extensions.ca_issuers_urls
    assert not facts.extensions.unknown_critical
    assert facts.label == "TEST Ayşe Yılmaz"
    assert AYSE_TCKN in facts.subject_text


def test_a_transaction_certificate_names_its_provider():
    facts = certificate_facts(shared_pki().transactions["hs91.kep.tr"].certificate)
    assert facts.has_policy(TEST_TRANSACTION_POLICY)
    assert "hs91.kep.tr" in facts.extensions.dns_names
    assert "kep-hizmet@hs91.kep.tr" in facts.extensions.email_names
    assert not facts.extensions.qc_statements
    assert facts.tckn is None


def test_usages_of_tsa_and_responder_are_seen():
    pki = shared_pki()
    tsa = certificate_facts(pki.tsa.certificate)
    assert tsa.extensions.extended_key_usage == (EKU_TIME_STAMPING,)
    assert tsa.extended_key_usage_critical
    responder = certificate_facts(pki.responders["p384"].certificate)
    assert responder.extensions.extended_key_usage == (EKU_OCSP_SIGNING,)
    assert responder.extensions.ocsp_no_check


def test_validity_includes_both_ends():
    facts = certificate_facts(ayse().certificate)
    second = timedelta(seconds=1)
    assert facts.valid_at(facts.not_before)
    assert facts.valid_at(facts.not_after)
    assert not facts.valid_at(facts.not_before - second)
    assert not facts.valid_at(facts.not_after + second)


def test_trailing_bytes_and_oversize_are_refused():
    good = ayse().certificate
    with pytest.raises(CertificateError, match="trailing"):
        certificate_facts(good + b"\x00")
    with pytest.raises(CertificateError, match="larger"):
        certificate_facts(der.seq(bytes(MAX_CERTIFICATE)))


def changed(certificate: bytes, old: bytes, new: bytes) -> bytes:
    """Replace inside, lengths kept."""
    assert len(old) == len(new)
    assert old in certificate
    return certificate.replace(old, new)


def test_an_extension_that_stands_twice_is_refused():
    good = ayse().certificate
    with pytest.raises(CertificateError, match="twice"):
        certificate_facts(changed(good, der.oid("2.5.29.35"), der.oid("2.5.29.14")))


def test_an_unknown_critical_extension_is_reported():
    good = shared_pki().intermediates[0]
    facts = certificate_facts(changed(good, der.oid("2.5.29.19"), der.oid("2.5.29.99")))
    assert facts.extensions.unknown_critical == ("2.5.29.99",)
    assert not facts.extensions.is_ca


def rebuilt(certificate: bytes, identifier: bytes) -> bytes:
    """Return the certificate with another signature AlgorithmIdentifier in both places (signature then broken)."""
    outer = der.children(der.parse(certificate, max_size=10_000))
    inner = [node.whole for node in der.children(outer[0])]
    inner[2] = identifier
    return der.seq(der.seq(*inner), identifier, outer[2].whole)


def test_ecdsa_identifiers_with_parameters_are_read_although_cryptography_refuses():
    odd = rebuilt(shared_pki().root, der.seq(der.oid("1.2.840.10045.4.3.3"), der.NULL_DER))
    assert certificate_facts(odd).common_name == "TEST kephs Kok CA"


def test_two_different_signature_algorithms_are_refused():
    good = ayse().certificate
    outer = [node.whole for node in der.children(der.parse(good, max_size=10_000))]
    outer[1] = der.seq(der.oid("1.2.840.10045.4.3.2"))
    with pytest.raises(CertificateError, match="differ"):
        certificate_facts(der.seq(*outer))


def test_facts_are_parsed_once():
    good = ayse().certificate
    assert certificate_facts(good) is certificate_facts(bytes(bytearray(good)))
    assert hash(certificate_facts(good)) == hash(certificate_facts(good).sha256)


def test_times_are_aware():
    assert isinstance(certificate_facts(ayse().certificate).not_after, datetime)
    assert certificate_facts(ayse().certificate).not_after.utcoffset() == timedelta(0)
