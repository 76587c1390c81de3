"""Deletion that holds: content nobody refers to loses its key first, then its bytes.

Where that was the content of a message, the process record says so in the same transaction
(`kephs.domain.erasure`): the key is gone exactly when the entry is there. Mailboxes of closed accounts are
emptied first, a batch at a time.

spec: KEP-RT-02, D4
"""

from datetime import datetime
from typing import Final

from kephs.domain.erasure import (
    CONTENT_DESTROYED,
    ContentPart,
    Destroyed,
    destroyed_by,
    destroyed_cause,
    destroyed_detail,
)
from kephs.ports import Blob, BlobStore, Clock, Store, Tx
from kephs.usecases.ending.erase import empty_next

BATCH: Final = 100


class Tidy:
    """Releases content whose last reference is gone."""

    def __init__(self, *, store: Store, blobs: BlobStore, clock: Clock) -> None:
        self._store, self._blobs, self._clock = store, blobs, clock

    async def release(self) -> int:
        """Release one batch and return its size. A crash in between leaves bytes without a key: noise.

        Raises:
            StoreUnavailableError: nothing was released.
        """
        now = self._clock.now()
        if await self._store.read(lambda tx: tx.erasures.pending()) is not None:
            await self._store.write(lambda tx: empty_next(tx, now))
        released = await self._store.write(lambda tx: _release(tx, now))
        for blob in released:
            await self._blobs.erase(blob)
        return len(released)


def _release(tx: Tx, now: datetime) -> list[Blob]:
    released = tx.blobs.release_unused(BATCH)
    for blob in released:
        _record(tx, blob, now)
    return released


def _record(tx: Tx, blob: Blob, now: datetime) -> None:
    """Enter what was destroyed, once for each message it was the content of; drafts are nobody's evidence."""
    messages = tx.erasures.messages_with(blob.sha256)
    removals = list(tx.erasures.removals(blob.sha256)) if messages else []
    accounts = {one.account_id: tx.accounts.get(one.account_id) for one in removals}
    named = [(one, str(getattr(accounts[one.account_id], "address", "-"))) for one in removals]
    for message in messages:
        original = message.digest_sha256 == blob.sha256
        part = ContentPart.ORIGINAL if original else ContentPart.DISPATCH
        entry = tx.audit.add(
            at=now, actor=destroyed_by(removals), action=CONTENT_DESTROYED, subject=message.message_id,
            detail=destroyed_detail(part, blob.sha256, blob.sha512, blob.size, named),
        )  # fmt: skip
        cause = destroyed_cause(removals)
        tx.erasures.add_destroyed(Destroyed(message.message_id, part, blob.sha256, now, entry.number, cause))
    tx.erasures.forget(blob.sha256)
