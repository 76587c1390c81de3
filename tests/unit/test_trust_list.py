"""The trust list: two persons let a certificate in, one takes it out, nothing is trusted by default."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from itertools import product
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from evidence.asn1 import der
from kephs.domain.trust_list import (
    TRANSITIONS,
    AnchorEvent,
    AnchorKind,
    AnchorState,
    TrustAnchor,
    TrustListError,
    checked_name,
    folded_name,
    step,
)
from kephs.testpki.marker import is_test_root
from kephs.usecases.governance.trust_file import TrustFileError, make_trust_file, parse_trust_file
from kephs.usecases.governance.trust_list import (
    Door,
    TrustFault,
    TrustList,
    TrustRefusedError,
    active,
    adopt,
    read_fingerprint,
)
from storage.memory.store import MemoryStore
from tests.support.anchors import OTHER_KEY, ROOT_KEY, START, authority
from tests.support.pki import shared_pki

NOW = START + timedelta(days=100)
DOOR = Door(test_allowed=False, is_test=is_test_root)
ROOT = authority()


class At:
    """A clock that stands still until told."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> Any:
        return self.at


def listed(door: Door = DOOR) -> tuple[TrustList, MemoryStore, At]:
    store, clock = MemoryStore(), At()
    return TrustList(store, clock, door), store, clock


def fingerprint(der: bytes = ROOT) -> str:
    return sha256(der).hexdigest()


async def trusted(store: MemoryStore) -> list[bytes]:
    return (await store.read(lambda tx: active(tx.anchors.all())))[0]


async def test_an_import_trusts_nothing() -> None:
    work, store, _ = listed()
    (made,) = await work.propose([ROOT], "Ayşe Yılmaz", "file a.pem")
    assert made.anchor is not None
    assert (made.anchor.state, made.anchor.kind) == (AnchorState.PROPOSED, AnchorKind.ROOT)
    assert await trusted(store) == []


async def test_two_persons_make_it_active_and_neither_alone() -> None:
    work, store, _ = listed()
    await work.propose([ROOT], "Ayşe Yılmaz", "file")
    first = await work.confirm(fingerprint(), "Ayşe Yılmaz")  # who imported may confirm, and counts once
    assert (first.state, await trusted(store)) == (AnchorState.PROPOSED, [])
    second = await work.confirm(fingerprint(), "Veli Demir")
    assert (second.state, await trusted(store)) == (AnchorState.ACTIVE, [ROOT])
    assert [name for name, _ in second.confirmed] == ["Ayşe Yılmaz", "Veli Demir"]


@pytest.mark.parametrize(
    "again",
    ["Ayşe Işık", "AYŞE IŞIK", "ayse isik", " Ayşe  Işık ", "Ays\u0327e Is\u0327ik", "ayşe ışık"],
    ids=["same", "capitals", "ascii", "spaces", "decomposed", "small"],
)
async def test_one_person_in_two_spellings_counts_once(again: str) -> None:
    work, store, _ = listed()
    await work.propose([ROOT], "Veli Demir", "file")
    await work.confirm(fingerprint(), "Ayşe Işık")
    with pytest.raises(TrustRefusedError, match="second, different person") as refused:
        await work.confirm(fingerprint(), again)
    assert refused.value.fault is TrustFault.STEP
    assert await trusted(store) == []


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_a_name_and_its_capitals_are_one(name: str) -> None:
    assert folded_name(name) == folded_name(folded_name(name))
    assert folded_name(f" {name} ") == folded_name(name)


@pytest.mark.parametrize("name", ["", "  ", "123", "a\x1b[2J", "x" * 201], ids=range(5))
def test_a_name_is_letters_that_can_be_shown(name: str) -> None:
    with pytest.raises(TrustListError):
        checked_name(name)


@pytest.mark.parametrize(
    "typed",
    [fingerprint()[:62], fingerprint()[:16], fingerprint() + "00", "", "zz" * 32],
    ids=["short", "beginning", "long", "empty", "letters"],
)
async def test_anything_but_the_whole_fingerprint_is_refused(typed: str) -> None:
    work, store, _ = listed()
    await work.propose([ROOT], "Ayşe Yılmaz", "file")
    with pytest.raises(TrustRefusedError, match="whole SHA-256") as refused:
        await work.confirm(typed, "Veli Demir")
    assert refused.value.fault is TrustFault.FINGERPRINT
    assert (await store.read(lambda tx: list(tx.anchors.all())))[0].confirmed == ()


def test_a_fingerprint_may_be_typed_with_colons_and_capitals() -> None:
    digits = fingerprint().upper()
    typed = ":".join(digits[i : i + 2] for i in range(0, 64, 2))
    assert (
        read_fingerprint(typed) == read_fingerprint(f" {digits[:32]} {digits[32:]}") == sha256(ROOT).digest()
    )


async def test_one_person_retires_at_once_and_the_record_stays() -> None:
    work, store, _ = listed()
    await work.propose([ROOT], "Ayşe Yılmaz", "file")
    for name in ("Ayşe Yılmaz", "Veli Demir"):
        await work.confirm(fingerprint(), name)
    gone = await work.retire(fingerprint(), "Ali Kaya", "anahtarı çalındı")
    assert (gone.state, gone.retired_by, gone.reason) == (AnchorState.RETIRED, "Ali Kaya", "anahtarı çalındı")
    assert await trusted(store) == []
    assert await store.read(lambda tx: tx.anchors.get(sha256(ROOT).digest())) == gone
    with pytest.raises(TrustRefusedError, match="import it again"):
        await work.confirm(fingerprint(), "Veli Demir")


async def test_what_was_retired_comes_back_only_by_the_whole_way() -> None:
    work, store, _ = listed()
    await work.propose([ROOT], "Ayşe Yılmaz", "file")
    for name in ("Ayşe Yılmaz", "Veli Demir"):
        await work.confirm(fingerprint(), name)
    await work.retire(fingerprint(), "Ali Kaya", "yanlışlıkla")
    (again,) = await work.propose([ROOT], "Ali Kaya", "file")
    assert again.anchor is not None
    assert (again.anchor.state, again.anchor.confirmed, again.known) == (AnchorState.PROPOSED, (), False)
    await work.confirm(fingerprint(), "Ayşe Yılmaz")
    assert await trusted(store) == []


async def test_importing_twice_changes_nothing_and_is_recorded_once() -> None:
    work, store, _ = listed()
    await work.propose([ROOT, ROOT], "Ayşe Yılmaz", "file")
    (again,) = await work.propose([ROOT], "Veli Demir", "other file")
    assert again.known
    assert [e.actor for e in await store.read(lambda tx: list(tx.audit.page(0, 9)))] == ["Ayşe Yılmaz"]


async def test_every_step_is_in_the_process_record_and_a_refused_one_is_not() -> None:
    work, store, clock = listed()
    await work.propose([ROOT], "Ayşe Yılmaz", "file a.pem")
    clock.at += timedelta(hours=1)
    await work.confirm(fingerprint(), "Ayşe Yılmaz")
    with pytest.raises(TrustRefusedError):
        await work.confirm(fingerprint(), "ayşe yılmaz")
    await work.confirm(fingerprint(), "Veli Demir")
    await work.retire(fingerprint(), "Ali Kaya", "süresi doldu")
    entries = await store.read(lambda tx: list(tx.audit.page(0, 9)))
    assert [(e.action, e.actor) for e in entries] == [
        ("trust.imported", "Ayşe Yılmaz"),
        ("trust.confirmed", "Ayşe Yılmaz"),
        ("trust.confirmed", "Veli Demir"),
        ("trust.retired", "Ali Kaya"),
    ]
    assert {e.subject for e in entries} == {fingerprint()}
    assert "a.pem" in entries[0].detail
    assert "active" in entries[2].detail
    assert (entries[0].at, entries[1].at) == (NOW, NOW + timedelta(hours=1))


@pytest.mark.parametrize(
    ("der", "fault"),
    [
        (b"no certificate", TrustFault.UNREADABLE),
        (authority(is_ca=False), TrustFault.NOT_A_CA),
        (authority(cert_sign=False), TrustFault.NOT_A_CA),
        (authority(signer=OTHER_KEY), TrustFault.SELF_SIGNATURE),
        (authority(days=99), TrustFault.EXPIRED),
        (
            authority(
                more=((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"), True),)
            ),
            TrustFault.UNUSABLE,
        ),
        (ROOT + b"\x00", TrustFault.UNREADABLE),
    ],
    ids=["garbage", "no-ca", "no-cert-sign", "self-signature", "expired", "critical", "trailing"],
)
async def test_what_could_never_be_used_does_not_come_in(der: bytes, fault: TrustFault) -> None:
    work, store, _ = listed()
    refused, taken = await work.propose([der, authority("İkinci Kök")], "Ayşe Yılmaz", "file")
    assert (refused.anchor, refused.fault) == (None, fault)
    assert refused.problem
    assert taken.anchor is not None  # one bad certificate keeps no other out
    assert len(await store.read(lambda tx: list(tx.anchors.all()))) == 1


async def test_a_test_root_is_refused_in_production_and_taken_for_tests() -> None:
    pki = shared_pki()
    door = Door(test_allowed=True, is_test=is_test_root)
    for allowed, fault in ((DOOR, TrustFault.TEST), (door, None)):
        work, _, clock = listed(allowed)
        clock.at = pki.created
        (made,) = await work.propose([pki.root], "Ayşe Yılmaz", "file")
        assert made.fault is fault


def _with_parameters(certificate: bytes) -> bytes:
    """Return the root with NULL parameters in its ECDSA identifiers, signed anew, as TURKTRUST H7 is."""
    inner = [node.whole for node in der.children(der.children(der.parse(certificate, max_size=10_000))[0])]
    identifier = der.seq(der.oid("1.2.840.10045.4.3.2"), der.NULL_DER)
    inner[2] = identifier
    signed = der.seq(*inner)
    signature = b"\x00" + ROOT_KEY.sign(signed, ec.ECDSA(hashes.SHA256()))
    return der.seq(signed, identifier, b"\x03" + bytes((len(signature),)) + signature)


async def test_a_malformed_but_real_root_is_taken_although_cryptography_refuses_it() -> None:
    odd = _with_parameters(ROOT)
    with pytest.raises(ValueError, match=r"."):
        x509.load_der_x509_certificate(odd).signature_algorithm_parameters  # noqa: B018
    work, store, _ = listed()
    (made,) = await work.propose([odd], "Ayşe Yılmaz", "file")
    assert (made.fault, made.problem) == (None, "")
    for name in ("Ayşe Yılmaz", "Veli Demir"):
        await work.confirm(fingerprint(odd), name)
    assert await trusted(store) == [odd]


async def test_an_intermediate_is_told_from_a_root_and_is_no_anchor_by_itself() -> None:
    work, store, _ = listed()
    below = authority("Ara", issuer="Örnek ESHS Kök Sertifikası", key=OTHER_KEY)
    (made,) = await work.propose([below], "Ayşe Yılmaz", "file")
    assert made.anchor is not None
    assert made.anchor.kind is AnchorKind.INTERMEDIATE
    for name in ("Ayşe Yılmaz", "Veli Demir"):
        await work.confirm(fingerprint(below), name)
    roots, others = await store.read(lambda tx: active(tx.anchors.all()))
    assert (roots, others) == ([], [below])


async def test_what_expired_while_it_waited_is_not_confirmed() -> None:
    work, store, clock = listed()
    await work.propose([ROOT], "Ayşe Yılmaz", "file")
    await work.confirm(fingerprint(), "Ayşe Yılmaz")
    clock.at = START + timedelta(days=4000)
    with pytest.raises(TrustRefusedError, match="expired"):
        await work.confirm(fingerprint(), "Veli Demir")
    assert await trusted(store) == []


def test_active_without_two_names_counts_for_nothing() -> None:
    one = TrustAnchor(
        sha256(ROOT).digest(), ROOT, AnchorKind.ROOT, "x", AnchorState.ACTIVE, "A", NOW,
        confirmed=(("Ayşe", NOW), ("AYŞE", NOW)),
    )  # fmt: skip
    assert active([one]) == ([], [])
    assert active([replace(one, confirmed=(("Ayşe", NOW), ("Veli", NOW)))]) == ([ROOT], [])


async def test_a_program_that_adopts_names_its_grounds() -> None:
    store = MemoryStore()
    two = ("kephs init", "--test-pki")
    made = await store.write(
        lambda tx: adopt(tx, [ROOT, b"x"], DOOR, by=two[0], vouching=two, source="folder", at=NOW)
    )
    assert [one.anchor is not None and one.anchor.trusted for one in made] == [True, False]
    other = await store.write(
        lambda tx: adopt(
            tx, [authority("Öteki")], DOOR, by="kephs migrate", vouching=(), source="folder", at=NOW
        )
    )
    assert other[0].anchor is not None
    assert other[0].anchor.state is AnchorState.PROPOSED
    assert await trusted(store) == [ROOT]


@pytest.mark.parametrize(("state", "event"), list(product(AnchorState, AnchorEvent)))
def test_a_step_the_table_does_not_hold_raises(state: AnchorState, event: AnchorEvent) -> None:
    if (state, event) in TRANSITIONS:
        assert step(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(TrustListError):
            step(state, event)


# Signed lists.


def test_a_list_comes_back_as_it_was_made() -> None:
    found = parse_trust_file(make_trust_file([ROOT, b"second"], START))
    assert (found.certificates, found.issued_at) == ((ROOT, b"second"), START)


def _spoiled() -> dict[str, Callable[[bytes], bytes]]:
    return {
        "version": lambda c: c.replace(b'"version": 1', b'"version": 2'),
        "unknown-field": lambda c: c.replace(b"{", b'{"more": 1,', 1),
        "twice": lambda c: c.replace(b"{", b'{"version": 1,', 1),
        "no-certificates": lambda _: (
            b'{"version": 1, "issued_at": "2026-01-01T00:00:00Z", "certificates": []}'
        ),
        "not-base64": lambda c: c.replace(b'"certificates": [\n  "', b'"certificates": [\n  "*'),
        "time": lambda c: c.replace(b"2026-01-01T00:00:00Z", b"yesterday"),
        "list": lambda _: b"[]",
        "deep": lambda _: b"[" * 100_000,
        "latin-1": lambda _: b"\xff",
        "large": lambda c: c + b" " * (8 << 20),
    }


@pytest.mark.parametrize("how", sorted(_spoiled()))
def test_a_list_that_breaks_its_format_is_refused(how: str) -> None:
    spoiled = _spoiled()[how](make_trust_file([ROOT], START))
    with pytest.raises(TrustFileError):
        parse_trust_file(spoiled)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_list_or_refused(content: bytes) -> None:
    with suppress(TrustFileError):
        assert parse_trust_file(content).certificates
