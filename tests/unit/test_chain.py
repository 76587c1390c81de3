"""Paths to configured roots: every link, name, date and constraint counts."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from evidence.report import SubIndication, Verdict
from evidence.x509.certificates import certificate_facts
from evidence.x509.chain import Chain, ChainFailure, TrustStore, build_chain
from tests.support.pki import AYSE_TCKN, NOW, ayse, make_pki, mehmet, shared_pki
from tests.support.signers import shared_trust


def path_of(issued, *, trust=None, chain=True, at=NOW):
    candidates = [certificate_facts(der) for der in issued.chain] if chain else []
    return build_chain(certificate_facts(issued.certificate), candidates, trust or shared_trust(), at)


def bare_trust():
    return TrustStore([shared_pki().root])


@pytest.mark.parametrize("who", [ayse, mehmet])
def test_a_path_is_found_from_what_came_along(who):
    found = path_of(who(), trust=bare_trust())
    assert isinstance(found, Chain)
    assert found.leaf.der == who().certificate
    assert found.root.der == shared_pki().root
    assert len(found.links) == 2


@pytest.mark.parametrize("who", [ayse, mehmet])
def test_a_path_is_found_from_configured_intermediates(who):
    assert isinstance(path_of(who(), chain=False), Chain)


def test_no_intermediate_anywhere_means_no_path():
    found = path_of(ayse(), trust=bare_trust(), chain=False)
    assert isinstance(found, ChainFailure)
    assert found.sub_indication is SubIndication.NO_CERTIFICATE_CHAIN_FOUND


def test_an_empty_store_trusts_nobody():
    assert TrustStore([]).empty
    assert isinstance(path_of(ayse(), trust=TrustStore([])), ChainFailure)


def test_intermediates_are_never_roots():
    trust = TrustStore([], intermediates=[shared_pki().root, *shared_pki().intermediates])
    assert isinstance(path_of(ayse(), trust=trust), ChainFailure)


def test_another_root_of_the_same_name_is_no_root():
    other = make_pki()
    assert isinstance(
        path_of(ayse(), trust=TrustStore([other.root], intermediates=other.intermediates)), ChainFailure
    )


def test_an_impostor_authority_of_the_same_name_is_refused():
    bad = shared_pki().issue_user("Ayşe Yılmaz", AYSE_TCKN, impostor=True)
    found = path_of(bad)
    assert isinstance(found, ChainFailure)
    assert found.sub_indication is SubIndication.NO_CERTIFICATE_CHAIN_FOUND
    assert "did not sign" in found.detail


@pytest.mark.parametrize("issuer", ["p384", "pss"])
def test_a_broken_certificate_signature_is_refused(issuer):
    bad = shared_pki().issue_user("Ayşe Yılmaz", AYSE_TCKN, issuer=issuer, broken_signature=True)
    assert isinstance(path_of(bad), ChainFailure)


def test_dates_of_the_leaf_are_certain_failures():
    facts = certificate_facts(ayse().certificate)
    late = path_of(ayse(), at=facts.not_after + timedelta(seconds=1))
    early = path_of(ayse(), at=facts.not_before - timedelta(seconds=1))
    assert (late.sub_indication, late.verdict) == (SubIndication.EXPIRED, Verdict.FAILED)
    assert (early.sub_indication, early.verdict) == (SubIndication.NOT_YET_VALID, Verdict.FAILED)


def test_a_leaf_is_no_path_by_itself_even_if_configured_as_root():
    trust = TrustStore([ayse().certificate])
    assert isinstance(path_of(ayse(), trust=trust, chain=False), ChainFailure)


# ------------------------------------------------------------------ constraints, with a small PKI of our own

START = datetime(2026, 1, 1, tzinfo=UTC)


def key_of(kind):
    return rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())


class Maker:
    """Issues a tree of certificates in which one thing can be wrong."""

    def __init__(self):
        self.root_key = key_of("ec")
        self.root = self.make("TEST r", self.root_key, None, None, ca=True)

    def make(
        self,
        name,
        key,
        issuer,
        issuer_key,
        *,
        ca,
        path=None,
        usage=True,
        until=3650,
        constraints=False,
        days=0,
    ):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer_name = issuer.subject if issuer is not None else subject
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(issuer_name).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(START + timedelta(days=days))
            .not_valid_after(START + timedelta(days=until))
        )  # fmt: skip
        if ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(ca, path), critical=True)
        if ca:
            bits = dict.fromkeys(
                ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
                 "key_agreement", "crl_sign", "encipher_only", "decipher_only"), False)  # fmt: skip
            builder = builder.add_extension(
                x509.KeyUsage(**{**bits, "crl_sign": True}, key_cert_sign=usage), critical=True
            )
        if constraints:
            builder = builder.add_extension(
                x509.NameConstraints([x509.DNSName("kep.tr")], None), critical=False
            )
        return builder.sign(issuer_key or key, hashes.SHA256())

    def path(self, *, at=NOW, length=1, **spoiled):
        """Return the outcome for a leaf under `length` intermediates, the first of them spoiled."""
        issuer, issuer_key, between = self.root, self.root_key, []
        for index in range(length):
            key = key_of(spoiled.pop("kind", "ec"))
            options = {"ca": True, **(spoiled if index == 0 else {})}
            made = self.make(f"TEST ca {index}", key, issuer, issuer_key, **options)
            between.append(made)
            issuer, issuer_key = made, key
        leaf = self.make("TEST leaf", key_of("ec"), issuer, issuer_key, ca=None)
        facts = [certificate_facts(c.public_bytes(serialization.Encoding.DER)) for c in (leaf, *between)]
        trust = TrustStore([self.root.public_bytes(serialization.Encoding.DER)])
        return build_chain(facts[0], facts[1:], trust, at)


@pytest.mark.parametrize(
    ("spoiled", "sub", "word"),
    [
        ({"ca": False}, SubIndication.CHAIN_CONSTRAINTS_FAILURE, "not a CA"),
        ({"usage": False}, SubIndication.CHAIN_CONSTRAINTS_FAILURE, "may not sign"),
        ({"path": 0, "length": 2}, SubIndication.CHAIN_CONSTRAINTS_FAILURE, "longer"),
        ({"until": 30}, SubIndication.NO_CERTIFICATE_CHAIN_FOUND, "not valid"),
        ({"days": 1000}, SubIndication.NO_CERTIFICATE_CHAIN_FOUND, "not valid"),
        ({"constraints": True}, SubIndication.CHAIN_CONSTRAINTS_FAILURE, "name constraints"),
        ({"kind": "rsa"}, SubIndication.CRYPTO_CONSTRAINTS_FAILURE, "not allowed"),
        ({"length": 7}, SubIndication.NO_CERTIFICATE_CHAIN_FOUND, ""),
    ],
)
def test_one_thing_wrong_in_an_authority_breaks_the_path(spoiled, sub, word):
    found = Maker().path(**spoiled)
    assert isinstance(found, ChainFailure)
    assert found.sub_indication is sub
    assert word in found.detail


@pytest.mark.parametrize("good", [{}, {"path": 0}, {"path": 1, "length": 2}, {"length": 6}])
def test_the_same_paths_without_the_fault_hold(good):
    assert isinstance(Maker().path(**good), Chain)


def test_the_search_among_impostors_is_bounded():
    maker = Maker()
    real_key = key_of("ec")
    real = maker.make("TEST ca", real_key, maker.root, maker.root_key, ca=True)
    impostors = []
    for _ in range(100):
        key = key_of("ec")
        impostors.append(maker.make("TEST ca", key, real, key, ca=True))
    leaf = maker.make("TEST leaf", key_of("ec"), real, real_key, ca=None)
    facts = [certificate_facts(c.public_bytes(serialization.Encoding.DER)) for c in (leaf, *impostors)]
    trust = TrustStore([maker.root.public_bytes(serialization.Encoding.DER)])
    assert isinstance(build_chain(facts[0], facts[1:], trust, NOW), ChainFailure)


def test_a_link_is_checked_once():
    trust = shared_trust()
    path_of(ayse(), trust=trust)
    leaf = certificate_facts(ayse().certificate)
    issuer = certificate_facts(ayse().chain[0])
    assert trust.link_holds(leaf, issuer)
    assert not trust.link_holds(issuer, leaf)
