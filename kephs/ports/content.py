"""Content: what lies in the blob store and the rows that name it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from evidence.ports import ByteSource


class BlobMissingError(Exception):
    """A row names content that cannot be read or does not match its digest."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Stored content: durable before this value exists. ``place`` and ``key`` are the store's own."""

    sha256: bytes
    sha512: bytes
    size: int
    place: str
    key: bytes  # data key, wrapped by the master key; destroying it destroys the content


class Spool(Protocol):
    """Content on its way in: encrypted on disk when large, in memory when small."""

    async def write(self, data: bytes) -> None:
        """Take the next bytes; waits where the disk is behind."""
        ...

    def source(self) -> ByteSource:
        """Return what was written so far for reading; only after the last write."""
        ...

    async def discard(self) -> None:
        """Forget everything; safe to call twice and after `BlobStore.keep`."""
        ...


class BlobStore(Protocol):
    """Content-addressed, encrypted, write-once content (D4)."""

    def spool(self) -> Spool:
        """Return an empty spool."""
        ...

    async def keep(self, spool: Spool) -> Blob:
        """Make a spool's content durable.

        Raises:
            StoreUnavailableError: nothing was kept.
        """
        ...

    async def put(self, data: bytes) -> Blob:
        """Make content durable; concurrent calls with small content share one sync.

        Raises:
            StoreUnavailableError: nothing was kept.
        """
        ...

    async def put_many(self, contents: Sequence[bytes]) -> list[Blob]:
        """Make pieces of small content durable together; concurrent calls share one sync.

        Raises:
            StoreUnavailableError: nothing was kept.
        """
        ...

    def open(self, blob: Blob) -> ByteSource:
        """Return content for reading any range; reads block briefly and check what they read.

        Raises:
            BlobMissingError: content is gone or altered (also from later reads).
        """
        ...

    async def erase(self, blob: Blob) -> None:
        """Erase the bytes of released content; safe to call twice."""
        ...


class Blobs(Protocol):
    """Rows that name content. References are counted from the rows that use it."""

    def add(self, blob: Blob, index: bytes | None = None) -> None:
        """Name content, a message's with its index; a digest that is named keeps what it has."""
        ...

    def add_all(self, contents: Sequence[tuple[Blob, bytes | None]]) -> None:
        """Name several pieces of content, each as `add` does."""
        ...

    def get(self, sha256: bytes) -> Blob | None: ...
    def get_all(self, digests: Sequence[bytes]) -> dict[bytes, Blob]:
        """Return those of several pieces of content that are named, by digest."""
        ...

    def set_index(self, sha256: bytes, index: bytes) -> None:
        """Keep a message's index (header block and part tree), encrypted, once."""
        ...

    def index(self, sha256: bytes) -> bytes | None: ...

    def release_unused(self, limit: int) -> list[Blob]:
        """Drop rows that nothing refers to any more, destroying their keys; return what may be erased."""
        ...

    def all(self) -> Iterable[Blob]: ...
