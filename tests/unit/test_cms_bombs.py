"""Signature bombs: each is refused, and the work done for it is counted, not timed."""

from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from evidence.asn1 import der
from evidence.cms import signed_data as cms_module
from evidence.cms.signed_data import (
    COUNTER_SIGNATURE,
    MAX_SIGNER_CERTIFICATE,
    SIGNATURE_TIME_STAMP,
    parse_signed_data,
)
from evidence.nes import signature_stamps
from evidence.nes.preparing import MAX_COUNTER_DEPTH, MAX_COUNTERS, MAX_MESSAGE_LINKS
from evidence.nes.signature_stamps import MAX_MESSAGE_STAMPS
from evidence.nes.verifier import prepare_signature
from evidence.ports import BytesSource
from evidence.report import SubIndication, Verdict
from evidence.x509 import chain as chain_module
from evidence.x509.algorithms import MAX_RSA_BITS, load_key
from evidence.x509.certificates import certificate_facts
from evidence.x509.chain import TrustStore
from tests.support.pki import NOW, ayse, mehmet, shared_pki
from tests.support.signers import attribute, good_attributes, shared_trust, signed_data, signer_info

CONTENT = b"Content-Type: text/plain\r\n\r\nMerhaba\r\n"
DIGEST = sha256(CONTENT).digest()
BIG = 1 << 28
FORMAT = (Verdict.FAILED, SubIndication.FORMAT_FAILURE)


@pytest.fixture
def verifications(monkeypatch):
    """Count signature values checked, of signers and of certificates."""
    done = []
    for module in (cms_module, chain_module):
        honest = module.verify_signature

        def counted(*arguments, honest=honest):
            done.append(arguments)
            return honest(*arguments)

        monkeypatch.setattr(module, "verify_signature", counted)
    return done


def info(issued=None, *, more=(), unsigned=b""):
    who = issued or ayse()
    return signer_info(who, [*good_attributes(who, DIGEST).values(), *more], unsigned=unsigned)


def judged(cms, trust=None):
    """Return verdict and sub-indication of the earliest failing step, and all steps."""
    prepared = prepare_signature(cms, BytesSource(CONTENT), trust=trust or shared_trust(), at=NOW)
    failing = next((step for step in prepared.steps if step.ok is False), None)
    found = (failing.verdict, failing.sub_indication) if failing is not None else None
    return found, prepared.steps


def whole(*infos, certificates=None):
    return signed_data(list(infos), [ayse().certificate] if certificates is None else certificates)


def test_the_harmless_twin_holds(verifications):
    assert judged(whole(info()))[0] is None
    assert len(verifications) <= 3


def test_a_thousand_signers_are_refused_unread(verifications):
    assert judged(whole(*[info()] * 1000))[0] == FORMAT
    assert verifications == []


def test_ten_thousand_certificates_are_refused_unread(verifications):
    tiny = der.seq(der.NULL_DER)
    assert judged(whole(info(), certificates=[tiny] * 10_000))[0] == FORMAT
    assert verifications == []


def test_ten_thousand_values_of_one_attribute_are_refused(verifications):
    values = attribute("1.2.3.4", *(der.integer(number) for number in range(10_000)))
    assert judged(whole(info(more=[values])))[0] == FORMAT
    assert verifications == []


def test_ten_thousand_attributes_are_refused(verifications):
    many = [attribute(f"1.2.3.{number}", der.NULL_DER) for number in range(10_000)]
    assert judged(whole(info(more=many)))[0] == FORMAT
    assert verifications == []


def test_a_hundred_megabytes_of_attributes_are_refused_before_they_are_read(verifications):
    huge = attribute("1.2.3.4", der.octets(bytes(100 * 1024 * 1024)))
    assert judged(whole(info(more=[huge])))[0] == FORMAT
    assert verifications == []


@pytest.mark.parametrize("opening", [b"\x30\x80", b"\x30\x84\x00\x0f\xff\xff"])
def test_a_hundred_thousand_levels_are_refused(opening, verifications):
    assert judged(opening * 100_000)[0] == FORMAT
    assert verifications == []


def test_values_nested_deeply_inside_an_attribute_cost_nothing():
    nested = b""
    for _ in range(2_000):
        nested = der.seq(nested)
    assert judged(whole(info(more=[attribute("1.2.3.4", nested)])))[0] is None


def test_a_huge_object_identifier_is_refused(verifications):
    huge = der.seq(der.tlv(der.OID, b"\x2a" + b"\xff" * 50_000 + b"\x01"), der.set_of([der.NULL_DER]))
    assert judged(whole(info(more=[huge])))[0] == FORMAT
    assert verifications == []


def test_a_huge_serial_number_is_refused(verifications):
    good = parse_signed_data(whole(info()))
    issuer = good.signers[0].issuer
    huge = der.seq(issuer, der.tlv(der.INTEGER, b"\x01" + bytes(100_000)))
    small = der.seq(issuer, der.integer(ayse().serial))
    members = [
        huge if one.whole == small else one.whole for one in der.children(der.parse(info(), max_size=BIG))
    ]
    assert judged(whole(der.seq(*members)))[0] == FORMAT
    assert verifications == []


# ------------------------------------------------------------------ counter-signatures


def countered(count, depth=1):
    """Return a signer with this many counter-signatures, each nested this deep."""
    parent = der.children(der.parse(info(), max_size=BIG))
    listed = good_attributes(mehmet(), sha256(parent[-1].content).digest())
    del listed["type"]
    inner = b""
    for _ in range(depth):
        inner = signer_info(
            mehmet(),
            list(listed.values()),
            unsigned=der.tlv(0xA1, attribute(COUNTER_SIGNATURE, inner)) if inner else b"",
        )
    values = der.tlv(0xA1, der.seq(der.oid(COUNTER_SIGNATURE), der.tlv(der.SET, inner * count)))
    return whole(
        der.seq(*(node.whole for node in parent), values),
        certificates=[ayse().certificate, mehmet().certificate],
    )


def test_ten_thousand_counter_signatures_are_refused_unread(verifications):
    assert judged(countered(10_000))[0] == FORMAT
    assert verifications == []


def test_more_counter_signatures_than_the_cap_are_not_verified(verifications):
    found, steps = judged(countered(MAX_COUNTERS + 1))
    assert found == FORMAT
    assert "too-many" in [step.code for step in steps]
    assert len(verifications) <= 3


def test_deeply_nested_counter_signatures_are_cut_at_the_cap(verifications):
    _, steps = judged(countered(1, depth=MAX_COUNTER_DEPTH + 40))
    assert "counter-nested" in [step.code for step in steps]
    assert len(verifications) <= MAX_COUNTER_DEPTH + 6


# ------------------------------------------------------------------ time stamps


def test_more_time_stamps_than_the_cap_are_not_verified(monkeypatch):
    verified = []
    monkeypatch.setattr(signature_stamps, "verify_token", lambda *_, **__: verified.append(1))
    many = der.tlv(
        0xA1, attribute(SIGNATURE_TIME_STAMP, *(der.integer(n) for n in range(MAX_MESSAGE_STAMPS + 1)))
    )
    found, steps = judged(whole(info(unsigned=many)))
    assert found == FORMAT
    assert "too-many" in [step.code for step in steps]
    assert verified == []


# ------------------------------------------------------------------ certificates and keys


def test_a_huge_signer_certificate_is_not_remembered_but_refused(verifications):
    good = ayse().x509.public_bytes(Encoding.DER)
    outer = der.children(der.parse(good, max_size=BIG))
    tbs = der.children(outer[0])
    extensions = [node.whole for node in der.children(der.inside(tbs[-1]))]
    extensions.append(der.seq(der.oid("1.2.3.4"), der.octets(bytes(MAX_SIGNER_CERTIFICATE))))
    padded = der.seq(*(node.whole for node in tbs[:-1]), der.explicit(3, der.seq(*extensions)))
    huge = der.seq(padded, outer[1].whole, outer[2].whole)
    ess = attribute(
        "1.2.840.113549.1.9.16.2.47", der.seq(der.seq(der.seq(der.octets(sha256(huge).digest()))))
    )
    attributes = good_attributes(ayse(), DIGEST) | {"ess": ess}
    found, steps = judged(whole(signer_info(ayse(), list(attributes.values())), certificates=[huge]))
    assert found == (Verdict.INDETERMINATE, SubIndication.SIG_CONSTRAINTS_FAILURE)
    assert "certificate-too-large" in [step.code for step in steps]
    assert verifications == []


def test_impostor_authorities_share_one_budget_among_all_signers(verifications):
    pki = shared_pki()
    impostors = [pki.issue_user("Can", "10000000146", impostor=True) for _ in range(8)]
    infos = [info(one) for one in impostors]
    names = [der_ for one in impostors for der_ in (one.certificate, *one.chain)]
    found, _ = judged(whole(*infos, certificates=names), trust=TrustStore([pki.root]))
    assert found is not None
    assert len(verifications) <= MAX_MESSAGE_LINKS + 8


def spki(modulus, exponent):
    numbers = der.seq(der.integer(modulus), der.integer(exponent))
    return der.seq(der.seq(der.oid("1.2.840.113549.1.1.1"), der.NULL_DER), der.bits(numbers))


@pytest.mark.parametrize(
    ("bits", "exponent", "usable"),
    [
        (2048, 65537, True),
        (MAX_RSA_BITS, 65537, True),
        (MAX_RSA_BITS + 8, 65537, False),
        (64 * 1024, 65537, False),
        (2048, (1 << 2047) + 1, False),
        (2048, (1 << 71) + 1, False),
    ],
)
def test_keys_that_would_be_a_burden_verify_nothing(bits, exponent, usable):
    node = der.parse(spki((1 << bits - 1) + 1, exponent), max_size=BIG)
    key, _ = load_key(node)
    assert isinstance(key, rsa.RSAPublicKey) is usable


@pytest.mark.parametrize(
    ("curve", "usable"),
    [(ec.SECP256R1(), True), (ec.BrainpoolP384R1(), True), (ec.SECP256K1(), False)],
)
def test_keys_on_odd_curves_verify_nothing(curve, usable):
    public = ec.generate_private_key(curve).public_key()
    node = der.parse(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), max_size=BIG)
    assert (load_key(node)[0] is not None) is usable


def test_a_broken_point_is_no_key():
    good = certificate_facts(ayse().certificate).spki
    assert load_key(der.parse(good, max_size=BIG))[0] is not None
    broken = good[:-1] + bytes([good[-1] ^ 1])
    assert load_key(der.parse(broken, max_size=BIG))[0] is None
