"""Hostile CMS and time stamps: the readers raise their own error only, and no changed byte passes unseen."""

import asyncio
import contextlib
from hashlib import sha256
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence.asn1 import der
from evidence.asn1.der import DerError
from evidence.cms.frame import frame_problem
from evidence.cms.signed_data import parse_signed_data
from evidence.seal.seal import check_seal, uncovered_problem
from evidence.stamps.stamp_check import token_problem
from evidence.stamps.timestamps import read_token, verify_token
from evidence.x509.certificates import CertificateError, certificate_facts
from evidence.x509.role import DEFAULT_SEAL_POLICY
from tests.support.evidence_samples import AT
from tests.support.pki import shared_pki
from tests.support.sealed import LATER, LocalTimestamper, sealer, trust

DIGEST = sha256(b"content").digest()
P7S = asyncio.run(sealer().sign_entity(DIGEST, AT))
TOKEN = asyncio.run(LocalTimestamper().stamp(DIGEST))
POSITIONS = st.integers(0, 10_000)
TAGS = st.sampled_from([0x02, 0x04, 0x05, 0x06, 0x17, 0x18, 0x30, 0x31, 0x80, 0xA0, 0xA1, 0x1F, 0x3F, 0xBF])
TREES = st.recursive(
    st.builds(der.tlv, TAGS, st.binary(max_size=140)),
    lambda inner: st.builds(lambda tag, parts: der.tlv(tag, *parts), TAGS, st.lists(inner, max_size=5)),
    max_leaves=25,
)


def seal_holds(p7s: bytes) -> bool:
    """Say whether a signature passes as one of our own: signature, stamp, path, and no byte uncovered."""
    signed = parse_signed_data(p7s)
    seal = check_seal(signed, lambda _: DIGEST, trust(), LATER, DEFAULT_SEAL_POLICY)
    return all(step.ok for step in seal.steps) and uncovered_problem(seal) is None


def stamp_holds(token: bytes) -> bool:
    report = verify_token(token, imprint=DIGEST, trust=trust(), at=LATER)
    return report.passed and token_problem(report) is None


def damaged(good: bytes, position: int, cut: int, junk: bytes) -> bytes:
    at = position % (len(good) + 1)
    return good[:at] + junk + good[at + cut :]


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=300), TREES))
def test_readers_of_any_bytes_raise_their_own_error_only(data):
    for reader in (parse_signed_data, read_token):
        with contextlib.suppress(DerError):
            reader(data)
    with contextlib.suppress(CertificateError):
        certificate_facts(data)
    assert frame_problem(data, []) is not None
    assert not verify_token(data, imprint=DIGEST, trust=trust(), at=LATER).passed


@settings(max_examples=400)
@given(position=POSITIONS, cut=st.integers(0, 6), junk=st.binary(max_size=6))
def test_a_damaged_signature_of_ours_never_holds(position, cut, junk):
    changed = damaged(P7S, position, cut, junk)
    with contextlib.suppress(DerError):
        assert changed == P7S or not seal_holds(changed)


@settings(max_examples=400)
@given(position=POSITIONS, cut=st.integers(0, 6), junk=st.binary(max_size=6))
def test_a_damaged_time_stamp_never_holds(position, cut, junk):
    changed = damaged(TOKEN, position, cut, junk)
    assert changed == TOKEN or not stamp_holds(changed)


@pytest.mark.slow
@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])
def test_a_flip_of_any_byte_of_a_signature_or_time_stamp_is_found(flip):
    assert seal_holds(P7S)
    assert stamp_holds(TOKEN)
    for position in range(len(P7S)):
        changed = bytearray(P7S)
        changed[position] ^= flip
        with contextlib.suppress(DerError):
            assert not seal_holds(bytes(changed)), position
    for position in range(len(TOKEN)):
        changed = bytearray(TOKEN)
        changed[position] ^= flip
        assert not stamp_holds(bytes(changed)), position


def test_empty_unsigned_attributes_are_refused():
    outer, data = der.children(der.parse(TOKEN, max_size=9_999))
    members = der.children(der.inside(data, der.SEQUENCE))
    signer = der.inside(members[-1])
    grown = der.seq(*(node.whole for node in der.children(signer)), der.tlv(0xA1))
    changed = der.seq(
        outer.whole,
        der.explicit(0, der.seq(*(node.whole for node in members[:-1]), der.tlv(der.SET, grown))),
    )
    with pytest.raises(DerError, match="unsigned"):
        parse_signed_data(changed)


# ------------------------------------------------------------------- the reader below


def naive_children(node: der.Node) -> list[der.Node]:
    found, position = [], node.body
    while position < node.end:
        found.append(der.read(node.data, position, node.end))
        position = found[-1].end
    return found


@settings(max_examples=500)
@given(st.one_of(st.binary(max_size=300), TREES, st.lists(TREES, max_size=4).map(b"".join)))
def test_members_are_read_the_quick_way_as_one_by_one(content):
    node = der.parse(der.seq(content), max_size=10_000)
    try:
        expected = naive_children(node)
    except DerError as error:
        with pytest.raises(DerError, match=str(error)):
            der.children(node)
    else:
        assert der.children(node) == expected


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65535, 65536])
@pytest.mark.parametrize("form", range(6))
def test_only_the_shortest_form_of_a_length_is_read(size, form):
    length = (
        bytes([size])
        if form == 0 and size < 128
        else bytes([0x80 | form]) + size.to_bytes(max(form, 4))[-form or 4 :]
    )
    node = der.Node(data := b"\x04" + length + bytes(size), 0x30, 0, 0, len(data))
    shortest = der.octets(bytes(size))
    if data == shortest:
        assert [child.whole for child in der.children(node)] == [shortest]
    else:
        with contextlib.suppress(DerError):
            assert [child.whole for child in der.children(node)] != [shortest]


def bombs() -> dict[str, bytes]:
    certificate = shared_pki().tsa.certificate
    return {
        "tiny values": der.seq(der.NULL_DER * 500_000),
        "depth": b"\x30\x80" * 100_000,
        "nested": b"".join(b"\x30\x84" + (600_000 - 6 * n).to_bytes(4) for n in range(90_000)),
        "one long value": der.octets(bytes(1_000_000)),
        "many certificates": P7S.replace(certificate, certificate * 400),
        "too long": der.octets(bytes(3_000_000)),
    }


@pytest.mark.parametrize("name", sorted(bombs()))
def test_a_bomb_is_refused_quickly(name):
    data = bombs()[name]
    started = perf_counter()
    with pytest.raises(DerError):
        parse_signed_data(data)
    assert not verify_token(data, imprint=DIGEST, trust=trust(), at=LATER).passed
    assert perf_counter() - started < 2
