"""The TEST PKI: right certificates, defects one at a time, answers on revocation, state that survives."""

import stat
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from directory.identity import is_identity_number
from evidence.x509.algorithms import Family
from evidence.x509.certificates import (
    BTK_SEAL,
    BTK_SIGNATURE,
    MALI_MUHUR_ARC,
    NON_REPUDIATION,
    QC_COMPLIANCE,
    TEST_TRANSACTION_POLICY,
    certificate_facts,
)
from evidence.x509.chain import Chain, ChainFailure
from kephs.testpki.authority import TestPki
from kephs.testpki.hierarchy import p256_keys
from kephs.testpki.issued import to_pem
from kephs.testpki.marker import is_test_certificate, is_test_root
from kephs.testpki.oids import BTK_TEXT, TEST_MARKER
from kephs.testpki.profiles import make_tckn, whole_second
from tests.support.pki import (
    AYSE_TCKN,
    BASE_URL,
    NOW,
    P12_PASSWORD,
    ayse,
    chain_of,
    make_pki,
    mehmet,
    p12_of,
    request_for,
    shared_pki,
    slow_keys,
)

ISSUERS = ("p384", "pss")


# ------------------------------------------------------------------ certificates


@pytest.mark.parametrize("issuer", ISSUERS)
def test_a_holder_has_everything_the_turkish_rules_want(issuer):
    issued = shared_pki().issue_user("Zeynep Kaya", AYSE_TCKN, issuer=issuer)
    facts = certificate_facts(issued.certificate)
    assert facts.tckn == AYSE_TCKN
    assert facts.country == "TR"
    assert facts.common_name == "TEST Zeynep Kaya"
    assert facts.has_qc(QC_COMPLIANCE)
    assert facts.has_qc(BTK_SIGNATURE)
    assert NON_REPUDIATION in facts.extensions.key_usage
    assert BTK_TEXT in facts.extensions.policies[0].notices
    assert BTK_TEXT.encode() in next(q.info for q in facts.extensions.qc_statements if q.oid == BTK_SIGNATURE)
    assert facts.extensions.ocsp_urls == (f"http://127.0.0.1:9/ocsp/{issuer}",)
    assert facts.extensions.ca_issuers_urls == (f"http://127.0.0.1:9/ca/{issuer}.cer",)
    assert facts.extensions.crl_urls == (f"http://127.0.0.1:9/crl/{issuer}.crl",)
    assert isinstance(chain_of(issued), Chain)


@pytest.mark.parametrize("key", ["p256", "p384", "p521", "rsa1024", "rsa2048", "rsa3072"])
def test_holders_have_the_key_that_was_asked_for(key):
    facts = certificate_facts(shared_pki().issue_user("Ali", AYSE_TCKN, key=key).certificate)
    family, size = (Family.ECDSA, key[1:]) if key[0] == "p" else (Family.RSA, key[3:])
    assert (facts.key.family, facts.key.size) == (family, int(size))


def test_the_pss_authority_signs_with_pss_and_nothing_else():
    authority = shared_pki().authorities["pss"].issued.x509
    public = authority.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    assert public.key_size == 4096
    scheme = mehmet().x509.signature_algorithm_parameters
    assert isinstance(scheme, padding.PSS)
    assert scheme._salt_length == 32
    crl = x509.load_der_x509_crl(shared_pki().crl("pss", NOW))
    assert isinstance(crl.signature_algorithm_parameters, padding.PSS)
    assert crl.is_signature_valid(public)


def test_the_p384_authority_is_p384():
    public = shared_pki().authorities["p384"].issued.x509.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public.key_size == 384


DEFECTS = {
    "qualified": lambda f: f.has_qc(QC_COMPLIANCE),
    "btk": lambda f: f.has_qc(BTK_SIGNATURE),
    "user_notice": lambda f: any(policy.notices for policy in f.extensions.policies),
    "non_repudiation": lambda f: NON_REPUDIATION in f.extensions.key_usage,
    "digital_signature": lambda f: 0 in f.extensions.key_usage,
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_spoils_one_thing_only(defect):
    facts = certificate_facts(shared_pki().issue_user("Ali", AYSE_TCKN, **{defect: False}).certificate)
    assert {name for name, holds in DEFECTS.items() if not holds(facts)} == {defect}


def test_seal_and_mali_muhur_are_marked():
    seal = certificate_facts(
        shared_pki().issue_user("Kurum", AYSE_TCKN, seal=True, organization="TEST A.Ş.").certificate
    )
    assert seal.has_qc(BTK_SEAL)
    assert not seal.has_qc(BTK_SIGNATURE)
    assert seal.organization == "TEST A.Ş."
    mali = certificate_facts(shared_pki().issue_user("Kurum", AYSE_TCKN, mali_muhur=True).certificate)
    assert any(policy.oid.startswith(MALI_MUHUR_ARC) for policy in mali.extensions.policies)


def test_expired_and_future_holders_fail_by_time_alone():
    pki = shared_pki()
    old = pki.issue_user(
        "Ali", AYSE_TCKN, not_before=NOW - timedelta(days=400), not_after=NOW - timedelta(days=1)
    )
    young = pki.issue_user("Ali", AYSE_TCKN, not_before=NOW + timedelta(days=1))
    assert isinstance(chain_of(old), ChainFailure)
    assert isinstance(chain_of(old, NOW - timedelta(days=30)), Chain)
    assert isinstance(chain_of(young), ChainFailure)
    assert isinstance(chain_of(young, NOW + timedelta(days=2)), Chain)


@pytest.mark.parametrize("issuer", ISSUERS)
def test_an_impostor_of_the_same_name_leads_to_no_root(issuer):
    issued = shared_pki().issue_user("Ali", AYSE_TCKN, issuer=issuer, impostor=True)
    real = shared_pki().authorities[issuer].issued.x509
    assert issued.x509.issuer == real.subject
    assert isinstance(chain_of(issued), ChainFailure)


@pytest.mark.parametrize("issuer", ISSUERS)
def test_a_broken_certificate_signature_leads_to_no_root(issuer):
    issued = shared_pki().issue_user("Ali", AYSE_TCKN, issuer=issuer, broken_signature=True)
    assert isinstance(chain_of(issued), ChainFailure)


@pytest.mark.parametrize(("domain", "issuer"), [("hs91.kep.tr", "p384"), ("hs92.kep.tr", "pss")])
def test_a_transaction_certificate_names_its_provider_and_is_no_holder(domain, issuer):
    issued = shared_pki().transactions[domain]
    facts = certificate_facts(issued.certificate)
    assert facts.has_policy(TEST_TRANSACTION_POLICY)
    assert facts.extensions.dns_names == (domain,)
    assert facts.extensions.email_names == (f"kep-hizmet@{domain}",)
    assert facts.extensions.key_usage == frozenset({0, 1})
    assert not facts.extensions.qc_statements
    assert facts.key.size == 256
    assert issued.chain == (shared_pki().authorities[issuer].certificate,)
    assert isinstance(chain_of(issued), Chain)


def test_the_whole_chain_can_be_p256():
    fast = TestPki.create(None, base_url=BASE_URL, now=NOW, keys={**slow_keys(), **p256_keys()})
    holder = fast.issue_user("Ali", AYSE_TCKN)
    chain = chain_of(holder, root=fast.root)
    assert isinstance(chain, Chain)
    assert {facts.key.size for facts in chain.certificates} == {256}
    assert {facts.x509.signature_hash_algorithm.name for facts in (holder, *_authorities(fast))} == {"sha256"}
    answer = ocsp.load_der_ocsp_response(
        fast.ocsp_response(request_for(holder, "p384", pki=fast), NOW, ca="p384")
    )
    assert answer.certificate_status is ocsp.OCSPCertStatus.GOOD


def _authorities(pki):
    return [pki.authorities[name].issued for name in ("root", "p384")]


def test_a_holder_never_has_the_transaction_policy():
    assert not certificate_facts(ayse().certificate).has_policy(TEST_TRANSACTION_POLICY)


def test_the_tsa_has_a_critical_extended_key_usage_of_its_own():
    usage = shared_pki().tsa.x509.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert usage.critical
    assert list(usage.value) == [ExtendedKeyUsageOID.TIME_STAMPING]


@pytest.mark.parametrize("authority", ["root", *ISSUERS])
def test_ocsp_responders_are_delegated_by_the_authority_itself(authority):
    responder = shared_pki().responders[authority].x509
    extensions = responder.extensions
    assert responder.issuer == shared_pki().authorities[authority].issued.x509.subject
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.OCSP_SIGNING
    ]
    assert extensions.get_extension_for_class(x509.OCSPNoCheck)


def test_tls_has_its_own_root_that_evidence_does_not_know():
    issued = shared_pki().issue_tls("hs91.kep.tr")
    assert isinstance(chain_of(issued), ChainFailure)
    assert isinstance(chain_of(issued, root=shared_pki().tls_root), Chain)
    names = issued.x509.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["hs91.kep.tr", "localhost"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]


def test_every_certificate_says_test_by_name_and_by_marker():
    pki = shared_pki()
    everybody = [
        *(authority.certificate for authority in pki.authorities.values()),
        *(issued.certificate for issued in pki.transactions.values()),
        *(issued.certificate for issued in pki.responders.values()),
        pki.tsa.certificate, ayse().certificate, pki.issue_tls("hs91.kep.tr").certificate,
    ]  # fmt: skip
    for der in everybody:
        certificate = x509.load_der_x509_certificate(der)
        assert "TEST" in certificate.subject.rfc4514_string()
        assert certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(TEST_MARKER))
        assert is_test_certificate(der)
        assert is_test_root(der)


def test_a_name_alone_makes_no_test_certificate():
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "TEST kephs Kok CA")])
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=1))
    der = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    assert not is_test_certificate(der)
    assert not is_test_root(der)


# ------------------------------------------------------------------ numbers and times


@given(st.integers(0, 899_999_999))
def test_made_identity_numbers_have_right_check_digits(number):
    tckn = make_tckn(number)
    assert is_identity_number(tckn)
    assert not is_identity_number(tckn[:-1] + str((int(tckn[-1]) + 1) % 10))


@given(st.text(max_size=12))
def test_no_text_breaks_the_check_of_identity_numbers(text):
    assert is_identity_number(text) in {True, False}


def test_a_known_identity_number_passes_and_wrong_ones_are_refused():
    assert is_identity_number("10000000146")
    with pytest.raises(ValueError, match="identity number"):
        shared_pki().issue_user("Ali", "10000000145")
    with pytest.raises(ValueError, match="nine digits"):
        make_tckn(900_000_000)


def test_times_are_whole_seconds_with_a_zone():
    assert whole_second(datetime(2026, 1, 1, 0, 0, 0, 999, tzinfo=UTC)).microsecond == 0
    with pytest.raises(ValueError, match="zone"):
        whole_second(datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point


# ------------------------------------------------------------------ files


def test_state_survives_a_reload_and_reaches_other_processes(tmp_path):
    pki = make_pki(tmp_path / "pki")
    server = TestPki.load(tmp_path / "pki")
    issued = pki.issue_user("Ali", AYSE_TCKN)
    request = request_for(issued, "p384", pki=pki)
    good = ocsp.load_der_ocsp_response(server.ocsp_response(request, NOW, ca="p384"))
    assert good.certificate_status is ocsp.OCSPCertStatus.GOOD
    pki.revoke(issued.serial, NOW)
    for reader in (server, TestPki.load(tmp_path / "pki")):
        answer = ocsp.load_der_ocsp_response(reader.ocsp_response(request, NOW, ca="p384"))
        assert answer.certificate_status is ocsp.OCSPCertStatus.REVOKED
    again = TestPki.load(tmp_path / "pki")
    assert again.root == pki.root
    assert again.tsa.certificate == pki.tsa.certificate
    assert again.base_url == pki.base_url
    assert again.created == NOW
    assert {d: i.certificate for d, i in again.transactions.items()} == {
        d: i.certificate for d, i in pki.transactions.items()
    }
    later = again.issue_user("Veli", AYSE_TCKN, issuer="pss")
    assert isinstance(chain_of(later, root=pki.root), Chain)


def test_a_line_half_written_by_another_process_waits_for_its_rest(tmp_path):
    pki = make_pki(tmp_path)
    issued = pki.issue_user("Ali", AYSE_TCKN)
    reader = TestPki.load(tmp_path)
    line = f'{{"revoked": {issued.serial}, "at": "{NOW.isoformat()}", "reason": "keyCompromise"}}\n'.encode()
    for part, revoked in ((line[:20], False), (line[20:], True)):
        with (tmp_path / "index.jsonl").open("ab") as file:
            file.write(part)
        reader.index.refresh()
        assert (reader.index.revocation(issued.serial) is not None) is revoked


def test_a_provider_can_be_added_later(tmp_path):
    pki = make_pki(tmp_path)
    issued = pki.add_provider("hs93.kep.tr", "TEST Üçüncü A.Ş.", "pss")
    assert TestPki.load(tmp_path).transactions["hs93.kep.tr"].certificate == issued.certificate


def test_private_keys_and_containers_are_readable_by_their_owner_alone(tmp_path):
    make_pki(tmp_path / "pki")
    path = p12_of(ayse(), tmp_path)
    secrets = [*(tmp_path / "pki").glob("*.key"), path]
    assert len(secrets) > 8
    assert {stat.S_IMODE(secret.stat().st_mode) for secret in secrets} == {0o600}
    assert stat.S_IMODE((tmp_path / "pki").stat().st_mode) == 0o700


def test_a_p12_holds_key_certificate_and_chain(tmp_path):
    store = load_pkcs12(p12_of(mehmet(), tmp_path).read_bytes(), P12_PASSWORD.encode())
    assert store.key.public_key() == mehmet().x509.public_key()
    assert store.cert.certificate == mehmet().x509
    assert [extra.certificate.public_bytes(Encoding.DER) for extra in store.additional_certs] == list(
        mehmet().chain
    )
    with pytest.raises(ValueError, match="password"):
        load_pkcs12(p12_of(mehmet(), tmp_path).read_bytes(), b"wrong")


@pytest.mark.tools
def test_openssl_opens_the_p12_without_legacy_algorithms(tmp_path):
    path = p12_of(ayse(), tmp_path)
    done = subprocess.run(
        ["openssl", "pkcs12", "-in", path, "-passin", f"pass:{P12_PASSWORD}", "-info", "-noout"],
        capture_output=True,
        check=True,
    )
    assert b"AES-256-CBC" in done.stderr
    assert b"RC2" not in done.stderr


@pytest.mark.tools
@pytest.mark.parametrize("who", [ayse, mehmet])
def test_openssl_builds_the_chain_and_reads_the_crl(tmp_path, who):
    issued = who()
    authority = "p384" if who is ayse else "pss"
    (tmp_path / "root.pem").write_bytes(to_pem([shared_pki().root]))
    (tmp_path / "chain.pem").write_bytes(to_pem(issued.chain))
    (tmp_path / "leaf.pem").write_bytes(to_pem([issued.certificate]))
    crl = x509.load_der_x509_crl(shared_pki().crl(authority, NOW)).public_bytes(Encoding.PEM)
    (tmp_path / "crl.pem").write_bytes(crl)
    subprocess.run(
        [
            "openssl",
            "verify",
            "-x509_strict",
            "-attime",
            str(int(NOW.timestamp())),
            "-CAfile",
            "root.pem",
            "-untrusted",
            "chain.pem",
            "-CRLfile",
            "crl.pem",
            "-crl_check",
            "leaf.pem",
        ],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )


@pytest.mark.tools
def test_openssl_accepts_the_ocsp_response(tmp_path):
    now = datetime.now(UTC)
    fresh = make_pki(now=now)  # openssl looks at the real clock
    issued = fresh.issue_user("Ali", AYSE_TCKN, issuer="pss")
    (tmp_path / "root.pem").write_bytes(to_pem([fresh.root]))
    (tmp_path / "ca.pem").write_bytes(to_pem(issued.chain))
    (tmp_path / "leaf.pem").write_bytes(to_pem([issued.certificate]))
    (tmp_path / "answer.der").write_bytes(
        fresh.ocsp_response(request_for(issued, "pss", pki=fresh), now, ca="pss")
    )
    done = subprocess.run(
        [
            "openssl",
            "ocsp",
            "-respin",
            "answer.der",
            "-issuer",
            "ca.pem",
            "-cert",
            "leaf.pem",
            "-CAfile",
            "root.pem",
            "-verify_other",
            "ca.pem",
            "-no_nonce",
        ],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert b"leaf.pem: good" in done.stdout
    assert b"Response verify OK" in done.stderr
