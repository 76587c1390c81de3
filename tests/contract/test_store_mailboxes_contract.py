"""The contract of `kephs.ports.Store`: mailboxes."""

import hashlib
from typing import Any

import pytest

from kephs.domain.lifecycle import DeliveryState
from kephs.domain.mailboxes import STANDARD_FOLDERS, FolderRole
from kephs.ports import Blob, Ending, Tx
from storage.errors import ConflictError
from tests.support.stores import (
    T0,
    after,
    blob,
    inbox,
    item,
    modseq_now,
    with_account,
    with_message,
)

# Mailboxes.


async def test_a_new_account_has_the_standard_folders(store: Any) -> None:
    await store.write(with_account)
    folders = await store.read(lambda tx: tx.mailboxes.folders("a1"))
    assert [(f.name, f.role) for f in folders] == list(STANDARD_FOLDERS)
    assert {(f.uid_validity, f.uid_next, f.messages, f.unseen) for f in folders} == {(7, 1, 0, 0)}
    assert await store.read(lambda tx: tx.mailboxes.folder("a1", "inbox")) == folders[0]
    assert await store.read(lambda tx: tx.mailboxes.folder("a1", "Çöp")) == folders[5]
    assert await store.read(lambda tx: tx.mailboxes.folder("a1", "çöp")) is None
    with pytest.raises(ConflictError):
        await store.write(lambda tx: tx.mailboxes.create_standard("a1", 8))
    with pytest.raises(ConflictError):
        await store.write(lambda tx: tx.mailboxes.create_standard("nobody", 8))


async def test_uids_ascend_and_are_never_reused(store: Any) -> None:
    await store.write(with_account)
    assert await store.write(lambda tx: [tx.mailboxes.append(inbox(tx), item()) for _ in range(3)]) == [
        1,
        2,
        3,
    ]
    await store.write(lambda tx: tx.mailboxes.remove(inbox(tx), [3, 2, 99]))
    assert await store.write(lambda tx: tx.mailboxes.append(inbox(tx), item())) == 4
    folder = await store.read(lambda tx: tx.mailboxes.folder("a1", "INBOX"))
    assert (folder.uid_next, folder.messages, folder.unseen) == (5, 2, 2)


async def test_what_is_filed_by_role_lies_in_that_folder_and_nowhere_else(store: Any) -> None:
    await store.write(with_account)
    seen = item(flags=frozenset({"\\Seen"}))
    assert await store.write(lambda tx: tx.mailboxes.file("a1", FolderRole.SENT, seen)) == 1
    assert await store.write(lambda tx: tx.mailboxes.file("a1", FolderRole.SENT, item())) == 2
    sent = await store.read(lambda tx: tx.mailboxes.by_role("a1", FolderRole.SENT))
    assert (sent.uid_next, sent.messages, sent.unseen) == (3, 2, 1)
    found = await store.read(lambda tx: tx.mailboxes.summaries(sent.folder_id))
    assert [(one.uid, one.modseq) for one in found] == [(1, sent.modseq - 1), (2, sent.modseq)]
    others = await store.read(lambda tx: tx.mailboxes.folders("a1"))
    assert sum(folder.messages for folder in others) == 2
    for account_id, role in (("nobody", FolderRole.SENT), ("a1", FolderRole.PLAIN)):
        with pytest.raises(KeyError):
            await store.write(lambda tx, a=account_id, r=role: tx.mailboxes.file(a, r, item()))


async def test_a_failed_append_gives_its_uid_to_the_next(store: Any) -> None:
    await store.write(with_account)

    def fails(tx: Tx) -> None:
        tx.mailboxes.append(inbox(tx), item())
        raise LookupError

    with pytest.raises(LookupError):
        await store.write(fails)
    assert await store.write(lambda tx: tx.mailboxes.append(inbox(tx), item())) == 1
    assert (await store.read(lambda tx: tx.accounts.get("a1"))).used_bytes == len(b"content")


async def test_items_come_back_with_their_index_and_place(store: Any) -> None:
    await store.write(with_account)
    sha256 = blob().sha256
    filed = item(flags=frozenset({"\\Seen", "$Önemli"}), received_at=after(3))
    await store.write(lambda tx: tx.blobs.set_index(sha256, b"index"))
    await store.write(
        lambda tx: (tx.mailboxes.append(inbox(tx), filed), tx.mailboxes.append(inbox(tx), item()))
    )
    items = await store.read(lambda tx: tx.mailboxes.items(inbox(tx), [2, 1, 7, 2]))
    assert [i.summary.uid for i in items] == [1, 2]
    assert (items[0].sha256, items[0].index) == (sha256, b"index")
    assert (items[0].summary.flags, items[0].summary.received_at) == (filed.flags, filed.received_at)
    assert [i.summary for i in items] == await store.read(lambda tx: tx.mailboxes.summaries(inbox(tx)))
    assert await store.read(lambda tx: tx.mailboxes.items(inbox(tx), [])) == []
    assert await store.read(lambda tx: tx.mailboxes.with_content(inbox(tx), sha256)) == 1
    assert await store.read(lambda tx: tx.mailboxes.with_content(inbox(tx), b"?" * 32)) is None
    sent = await store.read(lambda tx: tx.mailboxes.by_role("a1", FolderRole.SENT))
    assert await store.read(lambda tx: tx.mailboxes.with_content(sent.folder_id, sha256)) is None


async def test_many_items_are_fetched_at_once(store: Any) -> None:
    await store.write(with_account)
    await store.write(lambda tx: [tx.mailboxes.append(inbox(tx), item()) for _ in range(400)])
    found = await store.read(lambda tx: tx.mailboxes.items(inbox(tx), range(1, 500)))
    assert [i.summary.uid for i in found] == list(range(1, 401))


async def test_an_item_without_content_or_delivery_is_refused(store: Any) -> None:
    await store.write(with_account)
    for wrong in (item(b"unknown"), item(delivery_id="none")):
        with pytest.raises(ConflictError):
            await store.write(lambda tx, wrong=wrong: tx.mailboxes.append(inbox(tx), wrong))


async def test_every_change_raises_the_modification_number(store: Any) -> None:
    await store.write(with_account)

    def modseq() -> Any:
        return store.read(lambda tx: tx.mailboxes.folder("a1", "INBOX").modseq)

    start = await modseq()
    await store.write(lambda tx: [tx.mailboxes.append(inbox(tx), item()) for _ in range(3)])
    filed = await modseq()
    assert filed > start
    await store.write(lambda tx: tx.mailboxes.set_flags(inbox(tx), 2, frozenset({"\\Seen"})))
    flagged = await modseq()
    changed = await store.read(lambda tx: tx.mailboxes.since(inbox(tx), filed))
    assert [(s.uid, s.flags, s.modseq) for s in changed] == [(2, frozenset({"\\Seen"}), flagged)]
    await store.write(lambda tx: tx.mailboxes.remove(inbox(tx), [1, 3]))
    assert await store.read(lambda tx: tx.mailboxes.expunged_since(inbox(tx), flagged)) == [1, 3]
    assert await store.read(lambda tx: tx.mailboxes.since(inbox(tx), flagged)) == []
    assert await store.read(lambda tx: tx.mailboxes.expunged_since(inbox(tx), modseq_now(tx))) == []


async def test_what_changes_nothing_raises_no_modification_number(store: Any) -> None:
    await store.write(with_account)
    await store.write(lambda tx: tx.mailboxes.append(inbox(tx), item()))
    before = await store.read(lambda tx: tx.mailboxes.folder("a1", "INBOX"))
    await store.write(lambda tx: tx.mailboxes.set_flags(inbox(tx), 1, frozenset()))
    await store.write(lambda tx: tx.mailboxes.set_flags(inbox(tx), 9, frozenset({"\\Seen"})))
    await store.write(lambda tx: tx.mailboxes.remove(inbox(tx), [9]))
    assert await store.read(lambda tx: tx.mailboxes.folder("a1", "INBOX")) == before


async def test_unseen_follows_the_flags(store: Any) -> None:
    await store.write(with_account)
    seen = frozenset({"\\Seen"})

    def unseen() -> Any:
        return store.read(lambda tx: tx.mailboxes.folder("a1", "INBOX").unseen)

    await store.write(lambda tx: tx.mailboxes.append(inbox(tx), item(flags=seen)))
    await store.write(lambda tx: tx.mailboxes.append(inbox(tx), item()))
    assert await unseen() == 1
    await store.write(lambda tx: tx.mailboxes.set_flags(inbox(tx), 2, seen | {"\\Flagged"}))
    assert await unseen() == 0
    await store.write(lambda tx: tx.mailboxes.set_flags(inbox(tx), 1, frozenset()))
    await store.write(lambda tx: tx.mailboxes.remove(inbox(tx), [1, 2]))
    assert await unseen() == 0


async def test_usage_counts_content_and_never_evidence(store: Any) -> None:
    await store.write(with_account)

    def used() -> Any:
        return store.read(lambda tx: tx.accounts.get("a1").used_bytes)

    await store.write(lambda tx: tx.mailboxes.append(inbox(tx), item()))
    await store.write(lambda tx: tx.mailboxes.append(inbox(tx), item(counts_for_quota=False)))
    assert await used() == 7
    await store.write(lambda tx: tx.accounts.add_usage("a1", 100))
    await store.write(lambda tx: tx.mailboxes.remove(inbox(tx), [2]))
    assert await used() == 107
    await store.write(lambda tx: tx.mailboxes.remove(inbox(tx), [1]))
    assert await used() == 100


async def test_the_gate_hangs_on_the_delivery_and_opens_everywhere_at_once(store: Any) -> None:
    await store.write(with_message)
    archive = await store.read(lambda tx: tx.mailboxes.by_role("a1", FolderRole.ARCHIVE).folder_id)

    def file(tx: Tx) -> None:
        tx.deliveries.decide_all((Ending("d1", DeliveryState.DELIVERED, "e1", T0),))
        tx.mailboxes.append(inbox(tx), item(delivery_id="d1"))
        tx.mailboxes.append(archive, item(delivery_id="d1"))
        tx.mailboxes.append(inbox(tx), item())

    def gates(tx: Tx) -> list[bool]:
        return [s.gated for f in (inbox(tx), archive) for s in tx.mailboxes.summaries(f)]

    await store.write(file)
    assert await store.read(gates) == [True, False, True]
    await store.write(lambda tx: tx.deliveries.read("d1", "e60"))
    assert await store.read(gates) == [False, False, False]
    assert [i.summary.gated for i in await store.read(lambda tx: tx.mailboxes.items(archive, [1]))] == [False]


async def test_the_store_knows_where_a_delivery_was_filed(store: Any) -> None:
    await store.write(with_message)

    def work(tx: Any) -> Any:
        archive = tx.mailboxes.by_role("a1", FolderRole.ARCHIVE).folder_id
        uid = tx.mailboxes.append(inbox(tx), item(delivery_id="d1"))
        tx.mailboxes.append(inbox(tx), item(delivery_id="d1"))
        tx.mailboxes.append(inbox(tx), item(delivery_id="d1", received_at=after(1)))
        tx.mailboxes.append(archive, item(delivery_id="d1"))
        tx.mailboxes.remove(inbox(tx), [uid])
        return tx.mailboxes.filed("d1"), tx.mailboxes.filed("d2")

    here, nowhere = await store.write(work)
    assert (here.inbox, here.elsewhere, here.removed, here.inbox_times) == (2, 1, 1, 2)
    assert (nowhere.inbox, nowhere.elsewhere, nowhere.removed) == (0, 0, 0)


async def test_digests_of_a_blob_row_are_as_given(store: Any) -> None:
    row = Blob(hashlib.sha256(b"x").digest(), hashlib.sha512(b"x").digest(), 1, "f:" + "0" * 32, b"k" * 40)
    await store.write(lambda tx: tx.blobs.add(row))
    assert await store.read(lambda tx: tx.blobs.get(row.sha256)) == row
