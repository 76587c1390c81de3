"""Every store keeps content while a legal hold stands, and knows who removed what and what was destroyed."""

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from directory.accounts import AccountState
from kephs.domain.erasure import ContentPart, Destroyed, PendingErasure, Removal, RemovalCause
from kephs.domain.legal_hold import HoldKind, HoldState, LegalHold, lift, new_hold
from kephs.domain.lifecycle import MessageState
from kephs.ports import Tx
from storage.errors import ConflictError
from tests.support.stores import T0, account, after, blob, delivery, inbox, item, message, operator, release

ORIGINAL, DISPATCH, DRAFT = b"original", b"dispatch", b"draft"
OWNER = Removal("a1", "o1", "Çiğdem Şahin", RemovalCause.OWNER, T0)


def digest(content: bytes) -> bytes:
    return sha256(content).digest()


def filled(tx: Tx) -> None:
    """Ayşe (a1) sent a message to Veli (a2); it is completed, she keeps the original and a draft, he the rest."""
    for number, address in ((1, "ayse.yilmaz@hs91.kep.tr"), (2, "veli.demir@hs91.kep.tr")):
        tx.accounts.add(account(f"a{number}", address))
        tx.accounts.add_operator(operator(f"o{number}", f"a{number}"))
        tx.mailboxes.create_standard(f"a{number}", 7)
    for content in (ORIGINAL, DISPATCH, DRAFT):
        tx.blobs.add(blob(content))
    values = {"digest_sha256": digest(ORIGINAL), "state": MessageState.COMPLETED}
    tx.messages.add(message("m1", **values))
    tx.messages.name_dispatches({"m1": digest(DISPATCH)})
    tx.deliveries.add(replace(delivery("d1", "m1", 1), account_id="a2"))
    tx.mailboxes.append(inbox(tx), item(ORIGINAL))
    tx.mailboxes.append(inbox(tx), item(DRAFT))
    tx.mailboxes.append(tx.mailboxes.folders("a2")[0].folder_id, item(DISPATCH))


def emptied(tx: Tx) -> None:
    """Everybody deletes everything, in both ways there are."""
    folder = inbox(tx)
    uids = [one.uid for one in tx.mailboxes.summaries(folder)]
    tx.erasures.removing(folder, uids, OWNER)
    tx.mailboxes.remove(folder, uids)
    other = tx.mailboxes.folders("a2")[0].folder_id
    tx.erasures.removing(other, None, replace(OWNER, account_id="a2", operator_id=None, by="Veli"))
    tx.mailboxes.delete(other)


def released(tx: Tx) -> set[bytes]:
    found: set[bytes] = set()
    while gone := release(tx):
        found |= {one.sha256 for one in gone}
    return found


def everything() -> set[bytes]:
    return {digest(content) for content in (ORIGINAL, DISPATCH, DRAFT)}


async def hold(store: Any, kind: HoldKind, subject: str) -> LegalHold:
    return await store.write(lambda tx: tx.holds.add(new_hold(kind, subject, "Ayşe Savcı", T0, "2026/12")))


async def lifted(store: Any, one: LegalHold) -> None:
    for name in ("Ali Kaya", "Veli Demir"):
        one = lift(one, name, after(1), "karar kesinleşti")
        await store.write(lambda tx, one=one: tx.holds.put(one))


async def test_without_a_hold_everything_goes(store: Any) -> None:
    await store.write(filled)
    await store.write(emptied)
    assert await store.write(released) == everything()


async def test_a_hold_on_a_message_keeps_its_contents_and_nothing_else(store: Any) -> None:
    await store.write(filled)
    one = await hold(store, HoldKind.MESSAGE, "m1")
    await store.write(emptied)
    assert await store.write(released) == {digest(DRAFT)}
    await lifted(store, one)
    assert await store.write(released) == {digest(ORIGINAL), digest(DISPATCH)}


async def test_a_hold_on_the_sender_keeps_what_it_had_and_what_it_sent(store: Any) -> None:
    await store.write(filled)
    one = await hold(store, HoldKind.ACCOUNT, "a1")
    await store.write(emptied)
    assert await store.write(released) == set()
    assert await store.read(lambda tx: list(tx.holds.held(1))) == sorted({digest(ORIGINAL), digest(DRAFT)})
    await lifted(store, one)
    assert await store.write(released) == everything()
    assert await store.read(lambda tx: list(tx.holds.held(1))) == []


async def test_a_hold_on_a_recipient_keeps_what_it_received(store: Any) -> None:
    await store.write(filled)
    await store.write(emptied)
    await hold(store, HoldKind.ACCOUNT, "a2")  # after the deletion, before anything was destroyed
    assert await store.write(released) == {digest(DRAFT)}


async def test_content_under_two_holds_goes_with_the_last(store: Any) -> None:
    await store.write(filled)
    first, second = await hold(store, HoldKind.MESSAGE, "m1"), await hold(store, HoldKind.ACCOUNT, "a1")
    await store.write(emptied)
    await lifted(store, first)
    assert await store.write(released) == set()
    await lifted(store, second)
    assert await store.write(released) == everything()


async def test_holds_come_back_as_they_were_stored(store: Any) -> None:
    await store.write(filled)
    one = await hold(store, HoldKind.MESSAGE, "m1")
    two = await hold(store, HoldKind.ACCOUNT, "a1")
    assert (one.number, two.number) == (1, 2)
    assert await store.read(lambda tx: tx.holds.all()) == [one, two]
    asked = lift(one, "Ali Kaya", after(1), "gerek kalmadı")
    await store.write(lambda tx: tx.holds.put(asked))
    assert await store.read(lambda tx: tx.holds.get(1)) == asked
    assert await store.read(lambda tx: tx.holds.keeping("m1")) == [asked, two]
    done = lift(asked, "Veli Demir", after(5), "gerek kalmadı")
    await store.write(lambda tx: tx.holds.put(done))
    assert done.state is HoldState.LIFTED
    assert await store.read(lambda tx: tx.holds.keeping("m1")) == [two]
    assert await store.read(lambda tx: tx.holds.keeping("m1", after(4))) == [done, two]
    assert await store.read(lambda tx: tx.holds.keeping("m1", after(5))) == [two]
    assert await store.read(lambda tx: tx.holds.get(3)) is None


async def test_a_hold_on_nothing_there_is_refused(store: Any) -> None:
    await store.write(filled)
    for kind in HoldKind:
        with pytest.raises(ConflictError):
            await hold(store, kind, "nobody")
    with pytest.raises(KeyError):
        await store.write(lambda tx: tx.holds.put(LegalHold(9, HoldKind.MESSAGE, "m1", "A", T0, "r")))


async def test_who_removed_content_is_known_until_it_is_destroyed(store: Any) -> None:
    await store.write(filled)
    await store.write(emptied)
    assert await store.read(lambda tx: tx.erasures.removals(digest(ORIGINAL))) == [OWNER]
    (by_veli,) = await store.read(lambda tx: tx.erasures.removals(digest(DISPATCH)))
    assert (by_veli.account_id, by_veli.operator_id, by_veli.by) == ("a2", None, "Veli")
    await store.write(lambda tx: tx.erasures.forget(digest(ORIGINAL)))
    assert await store.read(lambda tx: tx.erasures.removals(digest(ORIGINAL))) == []
    for content in (ORIGINAL, DISPATCH):
        found = await store.read(lambda tx, content=content: tx.erasures.messages_with(digest(content)))
        assert [one.message_id for one in found] == ["m1"]
    assert await store.read(lambda tx: tx.erasures.messages_with(digest(DRAFT))) == []


async def test_only_the_items_named_are_noted(store: Any) -> None:
    await store.write(filled)
    await store.write(lambda tx: tx.erasures.removing(inbox(tx), [1, 1, 9], OWNER))
    assert await store.read(lambda tx: tx.erasures.removals(digest(ORIGINAL))) == [OWNER]
    assert await store.read(lambda tx: tx.erasures.removals(digest(DRAFT))) == []


async def test_what_was_destroyed_is_found_by_message(store: Any) -> None:
    await store.write(filled)
    rows = [
        Destroyed("m1", part, digest(part.value.encode()), after(n), n + 1, [None, RemovalCause.CLOSING][n])
        for n, part in enumerate(ContentPart)
    ]
    await store.write(lambda tx: [tx.erasures.add_destroyed(one) for one in rows])
    assert await store.read(lambda tx: tx.erasures.destroyed("m1")) == rows
    assert await store.read(lambda tx: tx.erasures.destroyed("m2")) == []


async def test_closed_accounts_wait_in_the_order_of_closing(store: Any) -> None:
    await store.write(filled)
    rows = [PendingErasure("a1", after(2), "Ayşe"), PendingErasure("a2", after(1), "kabuk")]
    await store.write(lambda tx: [tx.erasures.later(one) for one in (*rows, rows[0])])
    assert await store.read(lambda tx: tx.erasures.pending()) == rows[1]
    await store.write(lambda tx: tx.erasures.done("a2"))
    assert await store.read(lambda tx: tx.erasures.pending()) == rows[0]
    await store.write(lambda tx: tx.erasures.done("a1"))
    assert await store.read(lambda tx: tx.erasures.pending()) is None
    assert await store.read(lambda tx: tx.erasures.first_uids(inbox(tx), 1)) == [1]
    assert await store.read(lambda tx: tx.accounts.get("a1").state) is AccountState.ACTIVE
