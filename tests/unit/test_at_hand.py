"""Verification data at hand is told apart by content; nothing in it makes the reader fail."""

import asyncio
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from evidence.bundle.making import to_pem
from evidence.stamps.ers import encode_record
from evidence.stamps.messages import granted
from evidence.verify.at_hand import AtHand, Sort, from_pem, gathered, joined, promising, sort_of
from tests.support.bundles import revocation_files
from tests.support.pki import ayse, shared_pki
from tests.support.sealed import LATER, LocalTimestamper
from tests.support.signers import signed_message

TOKEN = asyncio.run(LocalTimestamper().stamp(sha256(b"x").digest()))
RECORD = encode_record((), TOKEN)


def kinds() -> dict[str, tuple[bytes, Sort]]:
    pki = shared_pki()
    return {
        "a": (ayse().certificate, Sort.CERTIFICATE),
        "b": (pki.root, Sort.CERTIFICATE),
        "c": (pki.crl("p384", LATER), Sort.CRL),
        "d": (revocation_files([ayse()])[0].content, Sort.OCSP),
        "e": (TOKEN, Sort.STAMP),
        "f": (granted(TOKEN), Sort.STAMP),
        "g": (RECORD, Sort.RECORD),
    }


def test_every_sort_is_known_by_its_content_whatever_its_name():
    for der, sort in kinds().values():
        assert sort_of(der) is sort
    found = gathered((name, der) for name, (der, _) in kinds().items())
    assert {sort: len(found.of(sort)) for sort in Sort} == {
        Sort.CERTIFICATE: 2, Sort.CRL: 1, Sort.OCSP: 1, Sort.STAMP: 2, Sort.RECORD: 1,
    }  # fmt: skip
    assert found.name_of(RECORD) == "g"
    assert found.name_of(b"x") is None


def test_pem_files_may_hold_several_items_and_comments():
    text = b"comment\n" + to_pem(ayse().certificate) + b"\nmore\n" + to_pem(shared_pki().root)
    assert gathered([("x", text)]).of(Sort.CERTIFICATE) == (ayse().certificate, shared_pki().root)
    assert from_pem(text) == ayse().certificate
    assert from_pem(b"none") is None


def test_an_item_that_stands_twice_counts_once_and_keeps_its_first_name():
    found = joined(gathered([("1", RECORD), ("2", RECORD)]), gathered([("3", RECORD)]))
    assert found.of(Sort.RECORD) == (RECORD,)
    assert found.name_of(RECORD) == "1"


def test_what_is_no_verification_data_is_left_out():
    contents = [
        ("m", signed_message(ayse())), ("t", b"hello"), ("n", b""), ("j", b"0\x82"),
        ("p", b"-----BEGIN X-----\n!!\n-----END X-----"),
        ("q", b"-----BEGIN X-----\nAAA\n-----END X-----"),
    ]  # fmt: skip
    assert gathered(contents) == AtHand()
    assert not promising(signed_message(ayse())[:4096])


@given(st.binary(max_size=200))
def test_no_bytes_make_the_sorting_fail(data):
    for candidate in (data, b"0\x82" + data, b"-----BEGIN CERTIFICATE-----\n" + data):
        gathered([("x", candidate)])


@given(st.sampled_from(sorted(kinds())), st.data())
def test_a_flipped_byte_never_makes_the_sorting_fail(name, data):
    der = bytearray(kinds()[name][0])
    der[data.draw(st.integers(0, min(len(der), 300) - 1))] ^= data.draw(st.integers(1, 255))
    gathered([("x", bytes(der))])
