"""The contract of `kephs.ports.Store`: folders that come and go, items that are copied and moved."""

from typing import Any

import pytest

from kephs.domain.lifecycle import DeliveryState
from kephs.domain.mailboxes import FolderRole
from kephs.ports import Ending, FolderExistsError, Tx
from storage.errors import ConflictError
from tests.support.stores import (
    T0,
    account,
    after,
    blob,
    inbox,
    item,
    operator,
    release,
    with_account,
    with_message,
)

SEEN = frozenset({"\\Seen"})


async def created(store: Any, name: str = "İşler/2026", validity: int = 9) -> Any:
    return await store.write(lambda tx: tx.mailboxes.create("a1", name, validity))


async def used(store: Any) -> int:
    found: int = await store.read(lambda tx: tx.accounts.get("a1").used_bytes)
    return found


async def test_a_new_folder_is_plain_empty_and_subscribed(store: Any) -> None:
    await store.write(with_account)
    folder = await created(store)
    assert folder == await store.read(lambda tx: tx.mailboxes.folder("a1", "İşler/2026"))
    assert (folder.name, folder.role, folder.subscribed) == ("İşler/2026", FolderRole.PLAIN, True)
    assert (folder.uid_validity, folder.uid_next, folder.messages, folder.unseen) == (9, 1, 0, 0)
    assert (await store.read(lambda tx: tx.mailboxes.folders("a1")))[-1] == folder
    assert all(f.subscribed for f in await store.read(lambda tx: tx.mailboxes.folders("a1")))


@pytest.mark.parametrize("name", ["Giden", "INBOX", "inbox", "Yeni"])
async def test_a_name_is_given_once(store: Any, name: str) -> None:
    await store.write(with_account)
    plain = await created(store, "Yeni")
    with pytest.raises(FolderExistsError):
        await created(store, name)
    if name != "Yeni":
        with pytest.raises(FolderExistsError):
            await store.write(lambda tx: tx.mailboxes.rename(plain.folder_id, name))
    with pytest.raises(ConflictError):
        await store.write(lambda tx: tx.mailboxes.create("nobody", "x", 9))


async def test_work_goes_on_after_a_name_was_taken(store: Any) -> None:
    def work(tx: Tx) -> str:
        with_account(tx)
        with pytest.raises(FolderExistsError):
            tx.mailboxes.create("a1", "Giden", 9)
        with pytest.raises(FolderExistsError):
            tx.mailboxes.rename(inbox(tx), "Giden")
        return tx.mailboxes.create("a1", "Yeni", 9).name

    assert await store.write(work) == "Yeni"


async def test_a_renamed_folder_keeps_items_uids_and_uidvalidity(store: Any) -> None:
    await store.write(with_account)
    folder = await created(store)
    await store.write(lambda tx: tx.mailboxes.append(folder.folder_id, item()))
    before = await store.read(lambda tx: tx.mailboxes.folder("a1", folder.name))
    await store.write(lambda tx: tx.mailboxes.rename(folder.folder_id, "Eski"))
    await store.write(lambda tx: tx.mailboxes.rename(folder.folder_id, "Eski"))  # its own name is not taken
    renamed = await store.read(lambda tx: tx.mailboxes.folder("a1", "Eski"))
    assert (renamed.folder_id, renamed.uid_validity, renamed.uid_next, renamed.messages) == (
        before.folder_id,
        before.uid_validity,
        before.uid_next,
        before.messages,
    )
    assert await store.read(lambda tx: tx.mailboxes.folder("a1", folder.name)) is None
    assert [s.uid for s in await store.read(lambda tx: tx.mailboxes.summaries(folder.folder_id))] == [1]


@pytest.mark.parametrize("validity", [1, 7, 9, 10, 4_000_000_000])
async def test_a_name_used_again_has_another_uidvalidity_than_ever_before(store: Any, validity: int) -> None:
    await store.write(with_account)
    first = await created(store, "Yeni", 9)
    await store.write(lambda tx: tx.mailboxes.rename(first.folder_id, "Eski"))
    second = await created(store, "Yeni", validity)
    await store.write(lambda tx: tx.mailboxes.delete(second.folder_id))
    third = await created(store, "Yeni", validity)
    validities = [7, first.uid_validity, second.uid_validity, third.uid_validity]
    assert validities == sorted(set(validities))
    assert second.uid_validity == max(validity, 10)


async def test_a_folder_that_is_not_there_is_a_defect(store: Any) -> None:
    await store.write(with_account)
    for work in (
        lambda tx: tx.mailboxes.rename(99, "x"),
        lambda tx: tx.mailboxes.delete(99),
        lambda tx: tx.mailboxes.subscribe(99, on=True),
        lambda tx: tx.mailboxes.copy(99, [1], inbox(tx)),
        lambda tx: tx.mailboxes.copy(inbox(tx), [1], 99),
        lambda tx: tx.mailboxes.move(inbox(tx), [1], 99),
    ):
        with pytest.raises(KeyError):
            await store.write(work)


async def test_subscriptions_are_kept(store: Any) -> None:
    await store.write(with_account)
    for on in (False, True):
        await store.write(lambda tx, on=on: tx.mailboxes.subscribe(inbox(tx), on=on))
        assert (await store.read(lambda tx: tx.mailboxes.folder("a1", "INBOX"))).subscribed is on


async def test_a_deleted_folder_takes_items_usage_and_content_with_it(store: Any) -> None:
    def fill(tx: Tx) -> int:
        with_account(tx)
        for name in (b"one", b"two"):
            tx.blobs.add(blob(name))
        folder = tx.mailboxes.create("a1", "Yeni", 9).folder_id
        for row in (item(b"one"), item(b"one"), item(b"two", counts_for_quota=False), item()):
            tx.mailboxes.append(folder, row)
        tx.mailboxes.remove(folder, [2])
        tx.mailboxes.append(inbox(tx), item())
        return folder

    folder = await store.write(fill)
    assert await used(store) == 3 + 7 + 7
    await store.write(lambda tx: tx.mailboxes.delete(folder))
    assert await used(store) == 7
    assert await store.read(lambda tx: tx.mailboxes.folder("a1", "Yeni")) is None
    assert await store.read(lambda tx: tx.mailboxes.summaries(folder)) == []
    released = {b.sha256 for b in await store.write(release)}
    assert released == {blob(b"one").sha256, blob(b"two").sha256}
    with pytest.raises(KeyError):
        await store.write(lambda tx: tx.mailboxes.append(folder, item()))


async def test_a_folders_id_is_never_given_to_another(store: Any) -> None:
    await store.write(with_account)
    first = await created(store, "Bir")
    await store.write(lambda tx: tx.mailboxes.delete(first.folder_id))
    second = await created(store, "İki")
    assert second.folder_id > first.folder_id


async def test_that_a_delivery_was_filed_is_known_after_its_folder_is_gone(store: Any) -> None:
    def work(tx: Any) -> Any:
        with_message(tx)
        tx.deliveries.decide_all((Ending("d1", DeliveryState.DELIVERED, "e1", T0),))
        folder = tx.mailboxes.create("a1", "Yeni", 9).folder_id
        uid = tx.mailboxes.append(inbox(tx), item(delivery_id="d1"))
        tx.mailboxes.move(inbox(tx), [uid], folder)
        tx.mailboxes.delete(folder)
        found = tx.mailboxes.filed("d1")
        return found.inbox, found.elsewhere, found.removed

    assert await store.write(work) == (0, 0, 2)


# Copying and moving.


async def test_copies_keep_flags_dates_gate_and_quota(store: Any) -> None:
    def fill(tx: Tx) -> int:
        with_message(tx)
        tx.deliveries.decide_all((Ending("d1", DeliveryState.DELIVERED, "e1", T0),))
        tx.mailboxes.append(inbox(tx), item(delivery_id="d1", received_at=after(3), flags=SEEN | {"$Önemli"}))
        tx.mailboxes.append(inbox(tx), item(counts_for_quota=False))
        tx.mailboxes.append(inbox(tx), item())
        folder = tx.mailboxes.create("a1", "Yeni", 9).folder_id
        tx.mailboxes.append(folder, item())
        return folder

    folder = await store.write(fill)
    before = await store.read(lambda tx: tx.mailboxes.folder("a1", "INBOX"))
    start = await store.read(lambda tx: tx.mailboxes.folder("a1", "Yeni"))
    assert await used(store) == 21
    pairs = await store.write(lambda tx: tx.mailboxes.copy(inbox(tx), [3, 1, 2, 77, 1], folder))
    assert pairs == [(1, 2), (2, 3), (3, 4)]
    assert await used(store) == 35
    assert await store.read(lambda tx: tx.mailboxes.folder("a1", "INBOX")) == before
    now = await store.read(lambda tx: tx.mailboxes.folder("a1", "Yeni"))
    assert (now.uid_next, now.messages, now.unseen) == (5, 4, 3)
    assert now.modseq > start.modseq
    new = await store.read(lambda tx: tx.mailboxes.since(folder, start.modseq))
    assert [(s.uid, s.flags, s.received_at, s.delivery_id, s.gated) for s in new] == [
        (2, SEEN | {"$Önemli"}, after(3), "d1", True),
        (3, frozenset(), T0, None, False),
        (4, frozenset(), T0, None, False),
    ]
    await store.write(lambda tx: tx.deliveries.read("d1", "e2"))
    assert [s.gated for s in await store.read(lambda tx: tx.mailboxes.summaries(folder))] == [False] * 4
    await store.write(lambda tx: tx.mailboxes.remove(folder, [3]))
    assert await used(store) == 35  # evidence does not count, nor do its copies


async def test_moved_items_are_new_there_and_expunged_here(store: Any) -> None:
    await store.write(with_account)
    folder = (await created(store)).folder_id
    rows = [item(flags=SEEN), item(), item()]
    await store.write(lambda tx: [tx.mailboxes.append(inbox(tx), row) for row in rows])
    here = (await store.read(lambda tx: tx.mailboxes.folder("a1", "INBOX"))).modseq
    there = (await store.read(lambda tx: tx.mailboxes.folder("a1", "İşler/2026"))).modseq
    assert await store.write(lambda tx: tx.mailboxes.move(inbox(tx), [2, 9, 1], folder)) == [(1, 1), (2, 2)]
    assert await used(store) == 21
    assert await store.read(lambda tx: tx.mailboxes.expunged_since(inbox(tx), here)) == [1, 2]
    assert [s.uid for s in await store.read(lambda tx: tx.mailboxes.since(folder, there))] == [1, 2]
    assert [s.uid for s in await store.read(lambda tx: tx.mailboxes.summaries(inbox(tx)))] == [3]
    source = await store.read(lambda tx: tx.mailboxes.folder("a1", "INBOX"))
    target = await store.read(lambda tx: tx.mailboxes.folder("a1", "İşler/2026"))
    assert (source.uid_next, source.messages, source.unseen) == (4, 1, 1)
    assert (target.uid_next, target.messages, target.unseen) == (3, 2, 1)
    assert await store.write(release) == []


async def test_an_item_may_be_copied_and_moved_within_its_folder(store: Any) -> None:
    await store.write(with_account)
    await store.write(lambda tx: tx.mailboxes.append(inbox(tx), item()))
    assert await store.write(lambda tx: tx.mailboxes.copy(inbox(tx), [1], inbox(tx))) == [(1, 2)]
    before = (await store.read(lambda tx: tx.mailboxes.folder("a1", "INBOX"))).modseq
    assert await store.write(lambda tx: tx.mailboxes.move(inbox(tx), [1], inbox(tx))) == [(1, 3)]
    folder = await store.read(lambda tx: tx.mailboxes.folder("a1", "INBOX"))
    assert (folder.uid_next, folder.messages, folder.unseen) == (4, 2, 2)
    assert await store.read(lambda tx: tx.mailboxes.expunged_since(inbox(tx), before)) == [1]
    assert [s.uid for s in await store.read(lambda tx: tx.mailboxes.summaries(inbox(tx)))] == [2, 3]
    assert await used(store) == 14


async def test_moving_or_copying_nothing_changes_nothing(store: Any) -> None:
    await store.write(with_account)
    folder = (await created(store)).folder_id
    before = await store.read(lambda tx: tx.mailboxes.folders("a1"))
    for work in (
        lambda tx: tx.mailboxes.copy(inbox(tx), [4], folder),
        lambda tx: tx.mailboxes.move(inbox(tx), [], folder),
    ):
        assert await store.write(work) == []
    assert await store.read(lambda tx: tx.mailboxes.folders("a1")) == before


async def test_items_never_cross_into_another_account(store: Any) -> None:
    def fill(tx: Tx) -> int:
        with_account(tx)
        tx.accounts.add(account("a2", "other@hs91.kep.tr"))
        tx.accounts.add_operator(operator("o2", "a2"))
        tx.mailboxes.create_standard("a2", 7)
        tx.mailboxes.append(inbox(tx), item())
        return tx.mailboxes.by_role("a2", FolderRole.INBOX).folder_id

    other = await store.write(fill)
    with pytest.raises(ConflictError):
        await store.write(lambda tx: tx.mailboxes.copy(inbox(tx), [1], other))
    with pytest.raises(ConflictError):
        await store.write(lambda tx: tx.mailboxes.move(inbox(tx), [1], other))
    assert await store.read(lambda tx: tx.mailboxes.summaries(other)) == []


async def test_many_items_are_moved_at_once(store: Any) -> None:
    await store.write(with_account)
    folder = (await created(store)).folder_id
    await store.write(lambda tx: [tx.mailboxes.append(inbox(tx), item()) for _ in range(300)])
    pairs = await store.write(lambda tx: tx.mailboxes.move(inbox(tx), range(1, 301), folder))
    assert pairs == [(n, n) for n in range(1, 301)]
    assert await store.read(lambda tx: tx.mailboxes.summaries(inbox(tx))) == []
