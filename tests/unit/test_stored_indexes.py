"""What is stored about the parts of a message is what anybody finds who reads its octets."""

import pytest

from evidence.mail.mime import scan
from evidence.ports import BytesSource
from kephs.domain.mailboxes import FolderRole
from kephs.domain.message_index import decode
from kephs.ports import Tx
from kephs.usecases.delivery.fresh import TREE_MAX, FreshEvidence
from tests.support.pki import ayse
from tests.support.world import AYSE, MEHMET, World, compose, new_world, signed

FOLDERS = ((AYSE, FolderRole.EVIDENCE), (AYSE, FolderRole.SENT), (MEHMET, FolderRole.INBOX))


def letter(parts: int) -> bytes:
    """Return a letter with so many attachments, of lines in great number and of none."""
    one = b"--x\r\nContent-Type: text/plain\r\n\r\n" + b"satir\r\n" * 7 + b"son"
    head = compose().partition(b"Content-Type:")[0]
    return (
        head
        + b'Content-Type: multipart/mixed; boundary="x"\r\n\r\n'
        + b"\r\n".join([one] * parts)
        + b"\r\n--x--\r\n"
    )


async def stored(world: World) -> list[tuple[bytes, bytes]]:
    """Return octets and index of everything in the mailboxes."""

    def look(tx: Tx) -> list[tuple[bytes, bytes]]:
        found = []
        for address, role in FOLDERS:
            account = tx.accounts.by_address(address)
            assert account is not None
            folder = tx.mailboxes.by_role(account.account_id, role)
            uids = [one.uid for one in tx.mailboxes.summaries(folder.folder_id)]
            for item in tx.mailboxes.items(folder.folder_id, uids):
                blob = tx.blobs.get(item.sha256)
                assert blob is not None
                source = world.blobs.open(blob)
                found.append((source.read(0, source.size), item.index))
        return found

    return await world.store.read(look)


@pytest.mark.parametrize("forgotten", [False, True], ids=["fresh", "after a restart"])
@pytest.mark.parametrize("parts", [1, 3, TREE_MAX // 100])
async def test_the_index_of_our_own_messages_is_what_a_scan_of_them_finds(
    parts: int, forgotten: bool
) -> None:
    world = await new_world()
    await world.send(await signed(letter(parts), ayse()))
    if forgotten:
        fresh = world.dispatches.kept.fresh
        fresh._trees = FreshEvidence()._trees
    await world.work()
    found = await stored(world)
    assert len(found) == 4  # two receipts, the letter, the KEP message
    for octets, index in found:
        assert decode(index).root == scan(BytesSource(octets))
