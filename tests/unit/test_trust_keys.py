"""What `kephs trust` says of an authority's key: the algorithm table, in figures and in both languages."""

from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from evidence.x509.algorithms import DEFAULT_ALGORITHMS, AlgorithmPolicy, Family, KeyRule, Role
from evidence.x509.certificates import CertificateFacts, certificate_facts
from kephs.cli.trust.keys import key_text, key_warnings, limit_facts, limits
from kephs.cli.trust.words import WORDS, cure_of
from kephs.usecases.governance.trust_list import TrustFault
from tests.support.anchors import START, authority

NOW = START + timedelta(days=30)
AFTER = datetime(2028, 1, 1, tzinfo=UTC)
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@cache
def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def root(key: Key, *, pss: bool = False, issuer: str = "Kök", signer: Key | None = None) -> CertificateFacts:
    name, issued = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in ("Kök", issuer))
    digest = hashes.SHA256()
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issued)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(START)
        .not_valid_after(START + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(
            signer or key, digest,
            rsa_padding=padding.PSS(padding.MGF1(digest), digest.digest_size) if pss else None,
        )
    )  # fmt: skip
    return certificate_facts(made.public_bytes(serialization.Encoding.DER))


def codes(
    facts: CertificateFacts, at: datetime = NOW, table: AlgorithmPolicy = DEFAULT_ALGORITHMS
) -> list[str]:
    return [one.code for one in key_warnings(facts, at, table)]


def test_an_rsa_2048_root_is_warned_of_with_what_is_needed_and_until_when():
    (found,) = key_warnings(root(rsa_key(2048)), NOW)
    assert found.code == "key-too-weak"
    for text in (found.english, found.turkish):
        assert "RSA 2048" in text
        assert "RSA-PSS >= 4096, DSA >= 3072, ECDSA >= 256 (.. 2027-12-31)" in text


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda one: one.name)
def test_elliptic_curve_roots_of_the_table_are_not_warned_of(curve):
    assert codes(root(ec.derive_private_key(7, curve))) == []


def test_short_curves_are_warned_of():
    assert codes(root(ec.derive_private_key(7, ec.SECP224R1()))) == ["key-too-weak"]


def test_an_rsa_4096_root_is_told_that_only_pss_counts_unless_it_signed_itself_so():
    assert codes(root(rsa_key(4096))) == ["rsa-pss-needed"]
    assert codes(root(rsa_key(4096), pss=True)) == []


def test_what_signed_an_intermediate_says_nothing_of_the_intermediates_own_key():
    assert codes(root(rsa_key(4096), issuer="Başka", signer=rsa_key(2048))) == []
    assert codes(root(rsa_key(2048), issuer="Başka", signer=rsa_key(4096), pss=True)) == ["key-too-weak"]


def test_after_the_tables_last_day_its_review_is_asked_for():
    facts = certificate_facts(authority())
    assert codes(facts, AFTER - timedelta(microseconds=1)) == []
    assert codes(facts, AFTER) == ["table-lapsed"]
    assert codes(facts, AFTER, AlgorithmPolicy(enforce_end=True)) == ["key-too-weak", "table-lapsed"]


def test_limits_of_different_ends_are_told_apart_and_no_end_is_none():
    rows = (
        KeyRule(Role.SIGNER, Family.RSA, 2048, AFTER),
        KeyRule(Role.AUTHORITY, Family.RSA_PSS, 3072, AFTER),
        KeyRule(Role.AUTHORITY, Family.ECDSA, 384, None),
    )
    table = AlgorithmPolicy(keys=rows)
    assert limits(table) == "RSA-PSS >= 3072 (.. 2027-12-31); ECDSA >= 384"
    assert [one["until"] for one in limit_facts(table)] == ["2027-12-31", None]
    assert codes(root(ec.derive_private_key(7, ec.SECP256R1())), NOW, table) == ["key-too-weak"]


def test_keys_are_named_as_people_know_them():
    assert key_text(root(rsa_key(2048))) == "RSA 2048"
    assert key_text(certificate_facts(authority())) == "ECDSA 256"


def test_every_refusal_has_its_cure_in_both_languages():
    assert {fault.value for fault in TrustFault} <= set(WORDS)
    for code, (english, turkish) in WORDS.items():
        assert english
        assert ": " in turkish
        assert not english.endswith(".")
        assert not turkish.endswith(".")
        assert cure_of(code) == f"{english} / {turkish}"
