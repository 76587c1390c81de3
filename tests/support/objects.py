"""Object stores for tests: in memory, in files, on a real S3 server with object lock."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from kephs.ports.objects import ObjectStore
from storage.objects.file import FileObjectStore
from storage.objects.memory import MemoryObjectStore
from storage.objects.s3 import S3ObjectStore
from tests.support import seaweed

OBJECT_STORES = ["memory", "files", "s3"]


def wall_clock() -> datetime:
    """Return the real time: a real server compares retention with its own."""
    return datetime.now(UTC)


@asynccontextmanager
async def open_objects(kind: str, folder: Path) -> AsyncIterator[ObjectStore]:
    """Open an empty store of a kind."""
    store: ObjectStore
    if kind == "memory":
        store = MemoryObjectStore(clock=wall_clock)
    elif kind == "files":
        store = FileObjectStore(folder / "archive", clock=wall_clock)
    else:
        server = seaweed.running()
        store = S3ObjectStore(server.place(server.bucket()), clock=wall_clock, random=secrets.token_hex)
    try:
        yield store
    finally:
        await store.close()
