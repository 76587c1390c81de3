"""fsck finds what does not hold of the process record, the trust list and bound certificates."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from directory.certificates import BoundCertificate
from kephs.domain.trust_list import AnchorState, TrustAnchor
from kephs.usecases.governance.trust_list import Door, adopt
from storage.fsck.check import check
from storage.memory.store import MemoryBlobStore, MemoryStore
from tests.support.anchors import authority
from tests.support.stores import T0, account, after, open_store, operator

ROOT = authority()
DOOR = Door(test_allowed=False, is_test=lambda _: False)
NAME = sha256(ROOT).hexdigest()


def trusted(tx: Any) -> TrustAnchor:
    names = ("Ayşe Yılmaz", "Veli Demir")
    (made,) = adopt(tx, [ROOT], DOOR, by=names[0], vouching=names, source="test", at=after(1))
    assert made.anchor is not None
    return made.anchor


def certificate(**changes: Any) -> BoundCertificate:
    der = b"certificate"
    return replace(BoundCertificate(sha256(der).digest(), "a1", "o1", der, "challenge", T0), **changes)


async def found(store: Any) -> set[tuple[str, str]]:
    read = store.read(lambda tx: [f for f in check(tx, MemoryBlobStore()) if not f.harmless])
    codes = ("audit.", "anchor.", "certificate.", "row.")
    return {(f.code.value, f.subject) for f in await read if f.code.value.startswith(codes)}


async def test_what_kephs_wrote_holds(store: Any) -> None:
    def fill(tx: Any) -> None:
        tx.accounts.add(account())
        tx.accounts.add_operator(operator())
        trusted(tx)
        tx.accounts.add_certificate(certificate())
        tx.accounts.withdraw_certificate("a1", certificate().sha256, after(9), "o1")
        tx.accounts.add_certificate(certificate(bound_at=after(10)))

    await store.write(fill)
    assert await found(store) == set()


PUT: dict[str, tuple[Callable[[TrustAnchor], TrustAnchor], set[str]]] = {
    "never-recorded": (lambda one: replace(one, fingerprint=bytes(32)), {"anchor.unrecorded"}),
    "one-name": (lambda one: replace(one, confirmed=one.confirmed[:1]), {"anchor.unconfirmed"}),
    "retired-unrecorded": (
        lambda one: replace(one, state=AnchorState.RETIRED, retired_by="x", retired_at=after(2)),
        {"anchor.unrecorded"},
    ),
}


@pytest.mark.parametrize("how", sorted(PUT))
async def test_an_anchor_that_the_record_does_not_know_so_is_found(how: str) -> None:
    store = MemoryStore()
    change, codes = PUT[how]
    await store.write(lambda tx: tx.anchors.put(change(trusted(tx))))
    assert {code for code, _ in await found(store)} == codes


async def test_an_anchor_retired_in_the_record_alone_is_found(store: Any) -> None:
    def fill(tx: Any) -> None:
        trusted(tx)
        tx.audit.add(at=after(3), actor="Ali Kaya", action="trust.retired", subject=NAME)

    await store.write(fill)
    assert await found(store) == {("anchor.unrecorded", NAME)}


async def test_confirmations_before_a_retirement_do_not_count_after_it(store: Any) -> None:
    def fill(tx: Any) -> None:
        anchor = trusted(tx)
        for action in ("trust.retired", "trust.imported", "trust.confirmed"):
            tx.audit.add(at=after(3), actor="Ali Kaya", action=action, subject=NAME)
        tx.anchors.put(anchor)

    await store.write(fill)
    assert await found(store) == {("anchor.unrecorded", NAME)}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"operator_id": "o2"}, "certificate.other_operator"),
        ({"der": b"another"}, "certificate.other_digest"),
        ({"withdrawn_at": after(-9), "withdrawn_by": "o1"}, "certificate.other_time"),
        ({"withdrawn_at": after(9)}, "certificate.other_time"),
    ],
    ids=["operator", "digest", "withdrawn-before", "withdrawn-by-nobody"],
)
async def test_a_bound_certificate_that_contradicts_itself_is_found(
    store: Any, change: dict[str, Any], code: str
) -> None:
    def fill(tx: Any) -> None:
        for number, address in (("1", "ayse.yilmaz"), ("2", "veli.demir")):
            tx.accounts.add(account(f"a{number}", f"{address}@hs91.kep.tr"))
            tx.accounts.add_operator(operator(f"o{number}", f"a{number}"))
        tx.accounts.add_certificate(certificate(**change))

    await store.write(fill)
    assert await found(store) == {(code, f"a1:{certificate().sha256.hex()}")}


async def test_an_anchor_changed_by_sql_is_found(tmp_path: Path, template: Path) -> None:
    async with open_store("sqlite", tmp_path, template) as store:
        await store.write(trusted)
        with closing(sqlite3.connect(tmp_path / "kephs.db")) as connection:
            connection.execute("UPDATE trust_anchors SET state = 'retired'")
            connection.commit()
        assert await found(store) == {("row.unreadable", f"trust_anchors:{NAME}")}
