"""Deletion that holds: content nobody refers to loses its key first, then its bytes.

spec: KEP-RT-02, D4
"""

from typing import Final

from kephs.ports import BlobStore, Store

BATCH: Final = 100


class Tidy:
    """Releases content whose last reference is gone."""

    def __init__(self, *, store: Store, blobs: BlobStore) -> None:
        self._store, self._blobs = store, blobs

    async def release(self) -> int:
        """Release one batch and return its size. A crash in between leaves bytes without a key: noise.

        Raises:
            StoreUnavailableError: nothing was released.
        """
        released = await self._store.write(lambda tx: tx.blobs.release_unused(BATCH))
        for blob in released:
            await self._blobs.erase(blob)
        return len(released)
