"""Every store keeps the trust list; rows that were not written with the instance's key are never trusted."""

import sqlite3
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from kephs.domain.trust_list import AnchorKind, AnchorState, TrustAnchor, confirm, retire
from storage.crypto import KeyMismatchError
from storage.unit_of_work import SqliteStore
from tests.support.stores import COLUMN_KEY, T0, after, new_database


def anchor(name: str = "root") -> TrustAnchor:
    der = name.encode() * 9
    return TrustAnchor(
        sha256(der).digest(), der, AnchorKind.ROOT, f"Kök Sertifika {name}", AnchorState.PROPOSED,
        "Çiğdem Şahin", T0,
    )  # fmt: skip


async def test_an_anchor_comes_back_in_every_state(store: Any) -> None:
    proposed = anchor()
    first = confirm(proposed, "Ayşe Yılmaz", after(1))
    active = confirm(first, "Veli Demir", after(2))
    gone = retire(active, "Ali Kaya", after(3), "anahtar çalındı")
    for state in (proposed, first, active, gone):
        await store.write(lambda tx, state=state: tx.anchors.put(state))
        assert await store.read(lambda tx: tx.anchors.get(proposed.fingerprint)) == state
        assert await store.read(lambda tx: list(tx.anchors.all())) == [state]


async def test_anchors_are_listed_by_fingerprint(store: Any) -> None:
    both = [anchor("one"), anchor("two")]
    await store.write(lambda tx: [tx.anchors.put(a) for a in both])
    found = await store.read(lambda tx: list(tx.anchors.all()))
    assert found == sorted(both, key=lambda a: a.fingerprint)
    assert await store.read(lambda tx: tx.anchors.get(bytes(32))) is None


async def test_work_that_fails_changes_no_anchor(store: Any) -> None:
    await store.write(lambda tx: tx.anchors.put(anchor()))

    def fails(tx: Any) -> None:
        tx.anchors.put(confirm(anchor(), "Veli Demir", T0))
        raise LookupError

    with pytest.raises(LookupError):
        await store.write(fails)
    assert await store.read(lambda tx: tx.anchors.get(anchor().fingerprint)) == anchor()


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE trust_anchors SET state = 'active'",
        "UPDATE trust_anchors SET der = x'3000'",
        "UPDATE trust_anchors SET fingerprint = x'00'",
        "UPDATE trust_anchors SET personal = x'00'",
    ],
    ids=["state", "certificate", "fingerprint", "sealed"],
)
async def test_an_anchor_changed_by_sql_alone_is_not_read(
    tmp_path: Path, template: Path, attack: str
) -> None:
    path = new_database(tmp_path, template)
    store = SqliteStore(path, column_key=COLUMN_KEY)
    await store.start()
    await store.write(lambda tx: tx.anchors.put(anchor()))
    with sqlite3.connect(path) as connection:
        connection.execute(attack)
    connection.close()
    with pytest.raises((KeyMismatchError, ValueError)):
        await store.read(lambda tx: tx.anchors.all())
    await store.close()
