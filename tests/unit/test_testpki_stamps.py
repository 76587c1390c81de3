"""The TEST TSA's templates: requests are read and answers written exactly as the general way does it."""

from datetime import datetime, timedelta, timezone
from functools import cache
from hashlib import new as new_hash

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import example, given
from hypothesis import strategies as st

from evidence.asn1.der import NULL_DER, boolean, integer, octets, oid, seq
from evidence.stamps.messages import (
    TimestampRequestError,
    TokenIssuer,
    build_request,
    granted,
    parse_response,
    read_request,
    read_token,
)
from evidence.stamps.timestamps import verify_token
from evidence.x509.chain import TrustStore
from kephs.testpki import stamps
from kephs.testpki.issued import Issued
from kephs.testpki.keys import make_key
from kephs.testpki.oids import TEST_TSA_POLICY
from kephs.testpki.stamps import RequestReader, Stamper
from tests.support.pki import NOW, shared_pki

SHA256 = seq(oid("2.16.840.1.101.3.4.2.1"), NULL_DER)
BARE_SHA256 = seq(oid("2.16.840.1.101.3.4.2.1"))
BIG = 1 << 63
numbers = st.integers(0, (1 << 72) - 1)


def request(
    digest: bytes, *, identifier=SHA256, policy=None, nonce: int | None = None, certificates=True
) -> bytes:
    return seq(
        integer(1),
        seq(identifier, octets(digest)),
        oid(policy) if policy else b"",
        integer(nonce) if nonce is not None else b"",
        boolean(True) if certificates else b"",
    )


@cache
def authority(kind: str) -> Issued:
    issued = shared_pki().tsa
    if kind == "ecdsa":
        return issued
    key = make_key("rsa2048")
    return Issued(shared_pki().issue_user("Ali", "10000000146", key=key).certificate, key, issued.chain)


@cache
def stamper(kind: str) -> Stamper:
    return Stamper(authority(kind), TEST_TSA_POLICY)


def in_general(issued: Issued, der: bytes, at: datetime, serial: int, answer: bytes) -> bytes:
    """Return what the general emitter makes of a request and the signature of an answer."""
    issuer = TokenIssuer(issued.certificate, issued.chain, TEST_TSA_POLICY)
    read = read_request(der)
    signature = read_token(parse_response(answer)).signer.signature
    draft = issuer.to_be_signed(read, at, serial)
    return granted(issuer.assemble(draft, signature, certificates=read.certificates))


# ------------------------------------------------------------------ answers


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
@given(
    st.binary(min_size=32, max_size=32), st.none() | numbers, st.booleans(), numbers, st.integers(0, 10**9)
)
@example(bytes(32), BIG, True, BIG, 0)
@example(bytes(32), None, False, 0, 0)
def test_an_answer_has_the_octets_of_the_general_emitter(kind, digest, nonce, certificates, serial, seconds):
    issued, at = authority(kind), NOW + timedelta(seconds=seconds)
    der = request(digest, nonce=nonce, certificates=certificates)
    answer = stamper(kind).stamp(read_request(der), at, serial)
    assert answer == in_general(issued, der, at, serial, answer)
    assert isinstance(issued.key, rsa.RSAPrivateKey) == (kind == "rsa")


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512", "sha3_256"])
def test_every_imprint_gets_a_token_that_verifies_first_and_later(name):
    authority, trust = Stamper(shared_pki().tsa, TEST_TSA_POLICY), TrustStore([shared_pki().root])
    for text in (b"one", b"two", b"three"):
        digest = new_hash(name, text).digest()
        answer = authority.stamp(read_request(build_request(digest, BIG, hash_name=name)), NOW, BIG)
        token = parse_response(answer)
        assert verify_token(token, imprint=lambda asked, text=text: new_hash(asked, text).digest(),
                            trust=trust, at=NOW).passed  # fmt: skip
        assert (read_token(token).info.serial, read_token(token).info.gen_time) == (BIG, NOW)


def test_a_second_later_the_token_says_so():
    issuer, read = Stamper(shared_pki().tsa, TEST_TSA_POLICY), read_request(build_request(bytes(32), 1))
    times = [NOW, NOW + timedelta(seconds=1), NOW]
    answers = [issuer.stamp(read, at, 1) for at in times]
    assert [read_token(parse_response(answer)).info.gen_time for answer in answers] == times


def test_a_time_is_written_in_utc_whatever_its_zone():
    there = NOW.astimezone(timezone(timedelta(hours=3)))
    answer = Stamper(shared_pki().tsa, TEST_TSA_POLICY).stamp(
        read_request(build_request(bytes(32), 1)), there, 1
    )
    assert read_token(parse_response(answer)).info.gen_time == NOW


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="aware"):
        stamper("ecdsa").stamp(read_request(build_request(bytes(32), 1)), datetime(2026, 1, 1), 1)  # noqa: DTZ001


# ------------------------------------------------------------------ requests


def outcome(read, der: bytes):
    try:
        return read(der)
    except TimestampRequestError as error:
        return error.failure, str(error)


def taught(*known: bytes) -> RequestReader:
    reader = RequestReader()
    for der in known:
        reader.read(der)
    return reader


SHAPES = {
    "usual": request(bytes(32), nonce=BIG),
    "short nonce": request(bytes(32), nonce=BIG >> 1),
    "policy": request(bytes(32), policy=TEST_TSA_POLICY, nonce=BIG),
    "no NULL": request(bytes(32), identifier=BARE_SHA256, nonce=BIG),
    "negative": request(bytes(32), nonce=-BIG),
    "no certificates": request(bytes(32), nonce=BIG, certificates=False),
    "no nonce": request(bytes(32)),
}


@pytest.mark.parametrize("shape", SHAPES)
@given(st.binary(min_size=32, max_size=32), st.integers(-(1 << 71), 1 << 71))
def test_a_request_is_read_as_in_general(shape, digest, nonce):
    known = SHAPES[shape]
    again = known.replace(bytes(32), digest)
    reader = taught(known)
    assert reader.read(again) == read_request(again)
    other = request(digest, nonce=nonce)
    assert reader.read(other) == read_request(other)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_changed_octet_is_read_otherwise_than_in_general(shape):
    known = SHAPES[shape]
    for place in range(len(known)):
        for value in (0x00, 0x01, 0x7F, 0x80, 0xFF, known[place] ^ 1, known[place] ^ 0x20):
            changed = known[:place] + bytes((value,)) + known[place + 1 :]
            assert outcome(taught(known).read, changed) == outcome(read_request, changed)


@given(st.data())
def test_many_changed_octets_neither(data):
    changed = bytearray(SHAPES["usual"])
    for place in data.draw(st.lists(st.integers(0, len(changed) - 1), max_size=6)):
        changed[place] = data.draw(st.integers(0, 255))
    assert outcome(taught(SHAPES["usual"]).read, bytes(changed)) == outcome(read_request, bytes(changed))


@pytest.mark.parametrize("start", ["0001", "ff81"])
def test_a_nonce_with_an_octet_to_spare_is_refused_by_the_template_too(start):
    padded = SHAPES["usual"].replace(b"\x00\x80" + bytes(7), bytes.fromhex(start) + bytes(7))
    assert padded != SHAPES["usual"]
    with pytest.raises(TimestampRequestError):
        read_request(padded)
    with pytest.raises(TimestampRequestError):
        taught(SHAPES["usual"]).read(padded)


def test_cut_and_lengthened_requests_are_refused():
    known = SHAPES["usual"]
    reader = taught(known)
    for der in (b"", known[:-1], known + b"\x00"):
        with pytest.raises(TimestampRequestError):
            reader.read(der)


# ------------------------------------------------------------------ how much is kept


def test_varied_sizes_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(stamps, "_KEPT_MAX", 3)
    reader, issuer = RequestReader(), Stamper(shared_pki().tsa, TEST_TSA_POLICY)
    for bits in range(0, 512, 8):
        der = request(bytes(32), nonce=(1 << bits) - 1)
        answer = issuer.stamp(reader.read(der), NOW, 1 << bits % 64)
        assert answer == in_general(shared_pki().tsa, der, NOW, 1 << bits % 64, answer)
    assert max(len(kept) for kept in (reader._asked, issuer._drafts, issuer._frames)) <= 3
