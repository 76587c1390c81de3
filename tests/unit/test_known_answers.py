"""Answers like one that was verified: the short way says what the long way says, or nothing."""

from datetime import datetime, timedelta
from hashlib import sha256, sha384

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.cms.signed_data import ID_TST_INFO, CmsSigner
from evidence.stamps.known_answers import ANSWER_MAX, GoodToken, KnownAnswers
from evidence.stamps.messages import (
    TimestampRefusedError,
    TokenIssuer,
    build_request,
    check_response,
    granted,
    parse_response,
    read_request,
)
from evidence.stamps.timestamps import verify_token
from evidence.x509.chain import TrustStore
from tests.support.pki import NOW, shared_pki
from tests.support.sealed import signer_of, trust

POLICY = "1.2.3"
TSA = shared_pki().tsa
SEALS = shared_pki().transactions["hs91.kep.tr"]
DIGEST = sha256(b"what is stamped").digest()
NONCE = 2**63 + 7
STATING = CmsSigner(TSA.certificate, TSA.chain, content_type=ID_TST_INFO)
"""The authority; it may state the time of signing too."""


def answer(
    digest: bytes = DIGEST,
    nonce: int = NONCE,
    *,
    at: datetime = NOW,
    serial: int = 2**63,
    hash_name: str = "sha256",
    stated: datetime | None = None,
    policy: str = POLICY,
) -> bytes:
    """Return an answer whose signature has 71 octets, so that answers are alike."""
    return signed(content(digest, nonce, at, serial, hash_name, policy), stated)


def content(
    digest: bytes = DIGEST, nonce: int = NONCE, at: datetime = NOW, serial: int = 2**63,
    hash_name: str = "sha256", policy: str = POLICY,
) -> bytes:  # fmt: skip
    asked = read_request(build_request(digest, nonce, hash_name=hash_name))
    return TokenIssuer(TSA.certificate, TSA.chain, policy).to_be_signed(asked, at, serial).content


def signed(info: bytes, stated: datetime | None = None, by: CmsSigner = STATING) -> bytes:
    draft, signature = by.to_be_signed(sha256(info).digest(), stated), b""
    while len(signature) != 71:
        (signature,) = signer_of(TSA).sign_now([draft.digest])
    return granted(by.assemble(draft, signature, content=info))


def learned(first: bytes, believed: TrustStore | None = None, **asked) -> KnownAnswers:
    believed = believed or trust()
    known = KnownAnswers(believed)
    asked = {"digest": DIGEST, "nonce": NONCE} | asked
    token = check_response(first, **asked)
    verified = verify_token(token, imprint=lambda _name: asked["digest"], trust=believed, at=NOW)
    assert verified.passed
    known.learn(first, verified)
    return known


def found(known: KnownAnswers, data: bytes, *, at: datetime = NOW, **asked) -> GoodToken | None:
    return known.token(data, **({"digest": DIGEST, "nonce": NONCE, "hash_name": "sha256"} | asked), at=at)


@given(st.binary(min_size=32, max_size=32), st.integers(2**63, 2**64 - 1), st.integers(2**63, 2**64 - 1))
def test_the_short_way_says_what_the_long_way_says(digest, nonce, serial):
    known = learned(answer())
    data = answer(digest, nonce, serial=serial, at=NOW + timedelta(seconds=3))
    good = found(known, data, digest=digest, nonce=nonce)
    token = check_response(data, digest=digest, nonce=nonce)
    verified = verify_token(token, imprint=digest, trust=trust(), at=NOW)
    assert good == GoodToken(token.der, token.info.gen_time, verified.chain)


def test_an_authority_that_states_the_time_of_signing_is_known_as_well():
    known = learned(answer(stated=NOW))
    later = NOW + timedelta(seconds=5)
    assert found(known, answer(at=later, stated=later)) is not None
    assert found(known, answer()) is None


def test_an_answer_that_is_not_like_one_seen_is_left_to_the_long_way():
    known = learned(answer())
    assert found(KnownAnswers(trust()), answer()) is None
    assert found(known, answer(serial=2**71)) is None
    assert found(known, answer(policy="1.2.4")) is None


@pytest.mark.parametrize("bit", [0, 3, 7])
def test_no_octet_can_change_unseen(bit):
    data = answer()
    known = learned(data)
    for place in range(len(data)):
        spoilt = bytearray(data)
        spoilt[place] ^= 1 << bit
        assert found(known, bytes(spoilt)) is None, place


def test_imprint_hash_and_nonce_are_the_requests():
    known = learned(answer())
    assert found(known, answer(), digest=sha256(b"other").digest()) is None
    assert found(known, answer(), nonce=NONCE + 1) is None
    assert found(known, answer(), hash_name="sha3_256") is None
    long = {"digest": sha384(b"x").digest(), "hash_name": "sha384"}
    assert found(learned(answer(**long), **long), answer(**long), **long) is not None


def test_a_signature_over_other_octets_is_left_to_the_long_way():
    ours, moment = answer(), text(NOW)
    known = learned(ours)
    theirs = content(at=NOW + timedelta(seconds=1))
    moved = ours.replace(content(), theirs)
    assert moved != ours
    assert found(known, moved) is None  # the digest is another's
    digests = sha256(content()).digest(), sha256(theirs).digest()
    assert moment not in moved
    assert found(known, moved.replace(*digests)) is None  # the signature is another's


def text(at: datetime) -> bytes:
    return at.strftime("%Y%m%d%H%M%SZ").encode()


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (b"\x02\x09\x00\x80", b"\x02\x09\x00\x00"),
        (text(NOW), b"20261131090000Z"),
        (text(NOW), b"2026112109000xZ"),
        (text(NOW), b"20261121090000+"),
    ],
    ids=["padded serial number", "no such day", "no digit", "no zone"],
)
def test_what_an_authority_signs_must_be_well_formed_all_the_same(good, bad):
    spoilt = content(nonce=2**62).replace(good, bad)
    assert spoilt != content(nonce=2**62)
    data = signed(spoilt)
    with pytest.raises(TimestampRefusedError):
        check_response(data, digest=DIGEST, nonce=2**62)
    assert found(learned(answer(nonce=2**62), nonce=2**62), data, nonce=2**62) is None


def test_a_time_in_the_future_or_an_expired_certificate_is_left_to_the_long_way():
    known = learned(answer())
    assert found(known, answer(), at=NOW - timedelta(hours=1)) is None
    assert found(known, answer(), at=NOW + timedelta(days=20_000)) is None


def test_what_was_learned_ends_with_the_trust_in_its_root():
    believed = trust()
    known = learned(answer(), believed)
    assert found(known, answer()) is not None
    believed.renew((SEALS.certificate,))
    assert found(known, answer()) is None
    believed.renew((shared_pki().root,))
    assert found(known, answer()) is None  # the long way finds the path again


def test_an_answer_with_a_certificate_beside_its_path_is_not_learned():
    beside = CmsSigner(TSA.certificate, (*TSA.chain, SEALS.certificate), content_type=ID_TST_INFO)
    data = signed(content(), by=beside)
    assert found(learned(data), data) is None


def test_what_is_remembered_has_a_bound():
    known, most = KnownAnswers(trust()), 0
    for octets in range(1, 48):
        for serial in range(1, 17, 2):
            data = answer(nonce=1 << 8 * octets - 2, serial=1 << 8 * serial)
            token = check_response(data, digest=DIGEST, nonce=1 << 8 * octets - 2)
            known.learn(data, verify_token(token, imprint=DIGEST, trust=trust(), at=NOW))
            most = max(most, known.size)
    assert 64 < most <= 256


def test_what_did_not_pass_is_not_learned():
    nobody = TrustStore(())
    known, data = KnownAnswers(nobody), answer()
    token = check_response(data, digest=DIGEST, nonce=NONCE)
    known.learn(data, verify_token(token, imprint=DIGEST, trust=nobody, at=NOW))
    assert known.size == 0


def test_a_long_answer_is_not_learned():
    known, data = KnownAnswers(trust()), answer()
    token = check_response(data, digest=DIGEST, nonce=NONCE)
    verified = verify_token(token, imprint=DIGEST, trust=trust(), at=NOW)
    known.learn(bytes(ANSWER_MAX + 1 - len(data)) + data, verified)
    assert known.size == 0


def test_an_answer_without_nonce_is_not_learned():
    request = read_request(build_request(DIGEST, NONCE))._replace(nonce=None)
    issuer = TokenIssuer(TSA.certificate, TSA.chain, POLICY)
    data = signed(issuer.to_be_signed(request, NOW, 2**63).content)
    known = KnownAnswers(trust())
    known.learn(data, verify_token(parse_response(data), imprint=DIGEST, trust=trust(), at=NOW))
    assert known.size == 0
