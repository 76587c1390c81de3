"""fsck on the archive: gaps, overlaps, lost, altered, unreachable and short-lived objects are found, and told apart."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from evidence.bundle.archive_object import ObjectKind
from evidence.model.records import EvidenceKind
from kephs.ports.objects import ObjectUnavailableError
from storage.fsck.archive import archived_rows, check_archive, check_objects
from storage.fsck.scope import Scope
from storage.memory.store import MemoryBlobStore
from storage.objects.memory import MemoryObjectStore
from tests.contract.test_store_archive_contract import LATER, row
from tests.support.stores import T0, after, blob, evidence, with_message


def ledger(tx: Any, count: int = 20) -> None:
    """Enter so much evidence."""
    with_message(tx)
    for n in range(1, count + 1):
        content = f"x{n}".encode()
        tx.blobs.add(blob(content, f"m:x{n}"))
        made = evidence(
            f"x{n}", EvidenceKind.DELIVERY, number=n, blob=blob(content).sha256, event_time=after(n)
        )
        tx.evidence.add(made)


async def found(store: Any, *rows: Any) -> set[tuple[str, str]]:
    """Return codes and subjects of what fsck says of these rows."""

    def fill(tx: Any) -> None:
        ledger(tx)
        for one in rows:
            tx.archive.adopt(one)

    await store.write(fill)

    def check(tx: Any) -> set[tuple[str, str]]:
        scope = Scope(tx, MemoryBlobStore(), lambda _what, _count: None, deep=False)
        return {(one.code.value, one.subject) for one in check_archive(scope)}

    return await store.read(check)


async def test_ranges_that_follow_each_other_hold(store: Any) -> None:
    assert await found(store, row(1, 10), row(11, 20)) == set()


async def test_an_archive_that_lags_behind_is_no_finding(store: Any) -> None:
    assert await found(store, row(1, 10)) == set()


async def test_entries_in_no_object_are_found(store: Any) -> None:
    assert await found(store, row(1, 5), row(8, 20)) == {("archive.gap", "delil:6")}


async def test_objects_that_hold_more_than_the_ledger_has_are_found(store: Any) -> None:
    assert await found(store, row(1, 25)) == {("archive.ahead", "delil:25")}


async def test_quarantine_and_short_retention_are_found(store: Any) -> None:
    short = row(1, 10, retain_until=T0 + timedelta(days=7000))
    rotten = row(11, 20)
    await found(store, short, rotten)
    await store.write(lambda tx: tx.archive.mark_damaged(rotten.name, T0))

    def check(tx: Any) -> set[tuple[str, str]]:
        scope = Scope(tx, MemoryBlobStore(), lambda _what, _count: None, deep=False)
        return {(one.code.value, one.subject) for one in check_archive(scope)}

    assert await store.read(check) == {
        ("archive.retention_short", short.name), ("archive.damaged", rotten.name)
    }  # fmt: skip


async def test_process_records_are_held_against_their_own_chain(store: Any) -> None:
    assert await found(store, row(1, 3, ObjectKind.PROCESS)) == {("archive.ahead", "surec:3")}


class Silent(MemoryObjectStore):
    """A store that does not answer."""

    async def list(self, prefix: str) -> Any:
        raise ObjectUnavailableError("503")
        yield


async def test_objects_are_looked_for_where_their_rows_say() -> None:
    objects = MemoryObjectStore(clock=lambda: T0)
    rows = []
    for first in (1, 2, 3, 4):
        one = row(first, first)
        ref = await objects.put(one.name, b"octets %d" % first, LATER)
        rows.append(replace(one, version=ref.version, size=ref.size, sha256=ref.sha256, sha512=ref.sha512))
    await objects.put("delil/2026/03/02/000000000009-000000000009.kepa", b"nobody's", LATER)
    missing = row(5, 5)
    altered = replace(rows[1], sha256=bytes(32))
    objects.contents[rows[2].name] = b"octets X"
    elsewhere = replace(rows[3], place="s3")
    listed = [rows[0], altered, rows[2], elsewhere, missing]

    async def codes(*, deep: bool, **places: Any) -> dict[str, list[str]]:
        seen: dict[str, list[str]] = {}
        async for one in check_objects(listed, places, deep=deep, progress=lambda _what, _count: None):
            seen.setdefault(one.code.value, []).append(one.subject)
        return seen

    shallow = await codes(deep=False, files=objects)
    assert shallow["archive.object_missing"] == [missing.name]
    assert altered.name in shallow["archive.object_altered"]
    assert shallow["archive.unreachable"] == ["s3"]
    assert shallow["archive.object_unknown"] == [""]
    deep = await codes(deep=True, files=objects)
    assert set(deep["archive.object_altered"]) == {altered.name, rows[2].name}
    silent = await codes(deep=False, files=Silent(clock=lambda: T0), s3=Silent(clock=lambda: T0))
    assert silent == {"archive.unreachable": ["files", "s3"]}


async def test_rows_are_listed_for_the_look_at_objects(store: Any) -> None:
    one = row(1, 10)
    await store.write(lambda tx: tx.archive.adopt(one))
    assert await store.read(lambda tx: list(archived_rows(tx))) == [one]
