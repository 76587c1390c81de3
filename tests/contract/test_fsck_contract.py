"""fsck finds each kind of damage, and nothing in a store that is sound; over every store."""

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evidence.records import EvidenceKind
from kephs.domain.lifecycle import DeliveryState, MessageState
from kephs.domain.mailboxes import FolderRole
from kephs.ports import Blob, Tx
from storage import fsck
from storage.fsck import Finding, FindingCode
from storage.memory import MemoryBlobStore, MemoryStore
from storage.unit_of_work import SqliteStore
from tests.support.stores import (
    STORES,
    T0,
    account,
    after,
    delivery,
    evidence,
    item,
    message,
    new_database,
    open_store,
)

Store = MemoryStore | SqliteStore
DELIVERED, FAILED, READ = DeliveryState.DELIVERED, DeliveryState.FAILED, DeliveryState.READ


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_database(tmp_path_factory.mktemp("template"))


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path, template: Path) -> AsyncIterator[Store]:
    async with open_store(request.param, tmp_path, template) as opened:
        yield opened


class World:
    """A sound store: one message read, one delivery failed, one message refused, one pending."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.blobs = MemoryBlobStore()
        self.rows: dict[str, Blob] = {}

    async def build(self) -> None:
        names = ("e10", "e40", "e60", "e41", "e11", "e10b", "original", "dispatch")
        self.rows = {name: await self.blobs.put(name.encode()) for name in names}
        await self.store.write(self._fill)

    def _fill(self, tx: Tx) -> None:
        tx.accounts.add(account())
        tx.mailboxes.create_standard("a1", 1)
        for row in self.rows.values():
            tx.blobs.add(row)
        tx.messages.add(message("m1", digest_sha256=self.rows["original"].sha256))
        tx.evidence.add(evidence("e10"))
        tx.mailboxes.append(folder(tx, FolderRole.SENT), item(b"original"))
        for name, number in (("d1", 1), ("d2", 2)):
            tx.deliveries.add(delivery(name, "m1", number))
        tx.deliveries.decide("d1", DELIVERED, "e40", after(1))
        tx.evidence.add(evidence("e40", EvidenceKind.DELIVERY, number=1))
        tx.mailboxes.append(inbox(tx), item(b"dispatch", delivery_id="d1", received_at=after(1)))
        tx.deliveries.decide("d2", FAILED, "e41", after(1))
        tx.evidence.add(evidence("e41", EvidenceKind.NON_DELIVERY, number=2))
        tx.messages.set_state("m1", MessageState.COMPLETED)
        tx.deliveries.read("d1", "e60")
        tx.evidence.add(evidence("e60", EvidenceKind.RETRIEVAL, number=1))
        tx.messages.add(message("m2", state=MessageState.REFUSED))
        tx.evidence.add(evidence("e11", EvidenceKind.SUBMISSION_REJECTION, "m2"))
        tx.messages.add(message("m3", next_at=T0))
        tx.evidence.add(evidence("e10b", message_id="m3"))
        tx.deliveries.add(delivery("d3", "m3", 1))

    async def check(self, **options: Any) -> list[Finding]:
        return await self.store.read(lambda tx: list(fsck.check(tx, self.blobs, **options)))

    async def found(self) -> set[tuple[str, str]]:
        return {(f.code.value, f.subject) for f in await self.check()}


@pytest.fixture
async def world(store: Store) -> World:
    made = World(store)
    await made.build()
    return made


def folder(tx: Tx, role: FolderRole) -> int:
    return tx.mailboxes.by_role("a1", role).folder_id


def inbox(tx: Tx) -> int:
    return folder(tx, FolderRole.INBOX)


async def test_a_sound_store_has_no_findings(world: World) -> None:
    told: list[tuple[str, int]] = []
    assert await world.check(deep=True, progress=lambda what, count: told.append((what, count))) == []
    assert dict(told) == {"messages": 3, "evidence": 6, "ledger": 6, "accounts": 1, "blobs": 8}


async def test_what_a_person_may_do_is_no_damage(world: World) -> None:
    def busy(tx: Tx) -> None:
        moved = item(b"dispatch", delivery_id="d1", received_at=after(1))
        tx.mailboxes.append(inbox(tx), moved)  # a copy keeps the time of arrival
        tx.mailboxes.append(folder(tx, FolderRole.ARCHIVE), moved)
        tx.mailboxes.set_flags(inbox(tx), 1, frozenset({"\\Seen"}))
        tx.mailboxes.remove(inbox(tx), [1, 2])
        tx.mailboxes.remove(folder(tx, FolderRole.ARCHIVE), [1])
        tx.mailboxes.remove(folder(tx, FolderRole.SENT), [1])

    await world.store.write(busy)
    assert await world.found() == set()
    released = await world.store.write(lambda tx: tx.blobs.release_unused(10))
    for row in released:
        await world.blobs.erase(row)
    assert {row.sha256 for row in released} == {world.rows[x].sha256 for x in ("original", "dispatch")}
    assert await world.found() == set()


def damage(work: Callable[[Tx], object], *expected: tuple[FindingCode, str]) -> Any:
    return pytest.param(work, {(code.value, subject) for code, subject in expected}, id=expected[0][0].value)


def _add(tx: Tx, row: Any) -> None:
    tx.evidence.add(row)


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        damage(
            lambda tx: tx.messages.add(message("m9", state=MessageState.COMPLETED)),
            (FindingCode.MESSAGE_WITHOUT_EVIDENCE, "m9"),
        ),
        damage(
            lambda tx: tx.messages.add(message("m9", state=MessageState.REFUSED)),
            (FindingCode.MESSAGE_WITHOUT_EVIDENCE, "m9"),
        ),
        damage(
            lambda tx: _add(
                tx,
                evidence("e9", EvidenceKind.SUBMISSION_REJECTION, "m1", blob=hashlib.sha256(b"e10").digest()),
            ),
            (FindingCode.MESSAGE_ACCEPTED_AND_REFUSED, "m1"),
        ),
        damage(
            lambda tx: tx.messages.set_state("m3", MessageState.COMPLETED),
            (FindingCode.MESSAGE_COMPLETED_EARLY, "m3"),
        ),
        damage(lambda tx: tx.messages.due("m3", None, 0), (FindingCode.MESSAGE_STUCK, "m3")),
        damage(
            lambda tx: tx.deliveries.add(delivery("d9", "m2", 1)),
            (FindingCode.MESSAGE_REFUSED_WITH_DELIVERIES, "m2"),
        ),
        damage(
            lambda tx: tx.deliveries.decide("d3", FAILED, "none", T0),
            (FindingCode.DELIVERY_WITHOUT_EVIDENCE, "d3"),
        ),
        damage(
            lambda tx: tx.deliveries.decide("d3", DELIVERED, "none", T0),
            (FindingCode.DELIVERY_WITHOUT_EVIDENCE, "d3"),
            (FindingCode.DELIVERY_NOT_FILED, "d3"),
        ),
        damage(
            lambda tx: _add(
                tx, evidence("e9", EvidenceKind.DELIVERY, "m3", 1, blob=hashlib.sha256(b"e10").digest())
            ),
            (FindingCode.DELIVERY_EVIDENCE_EARLY, "d3"),
        ),
        damage(
            lambda tx: _add(
                tx, evidence("e9", EvidenceKind.RETRIEVAL, "m1", 2, blob=hashlib.sha256(b"e10").digest())
            ),
            (FindingCode.DELIVERY_EVIDENCE_EARLY, "d2"),
        ),
        damage(
            lambda tx: _add(
                tx, evidence("e9", EvidenceKind.NON_DELIVERY, "m1", 1, blob=hashlib.sha256(b"e10").digest())
            ),
            (FindingCode.DELIVERY_CONTRADICTED, "d1"),
        ),
        damage(
            lambda tx: tx.mailboxes.append(inbox(tx), item(b"dispatch", delivery_id="d3")),
            (FindingCode.DELIVERY_FILED_EARLY, "d3"),
        ),
        damage(
            lambda tx: tx.mailboxes.append(
                inbox(tx), item(b"dispatch", delivery_id="d1", received_at=after(9))
            ),
            (FindingCode.DELIVERY_DOUBLED, "d1"),
        ),
        damage(
            lambda tx: _add(
                tx, evidence("e9", EvidenceKind.DELIVERY, "m1", 7, blob=hashlib.sha256(b"e10").digest())
            ),
            (FindingCode.EVIDENCE_WITHOUT_DELIVERY, "e9"),
        ),
        damage(lambda tx: tx.accounts.add_usage("a1", 5), (FindingCode.ACCOUNT_USAGE, "a1")),
    ],
)
async def test_each_damage_to_rows_is_found(
    world: World, work: Callable[[Tx], object], expected: set[Any]
) -> None:
    await world.store.write(work)
    assert await world.found() == expected


async def test_lost_content_is_found(world: World) -> None:
    await world.blobs.erase(world.rows["e40"])
    await world.blobs.erase(world.rows["dispatch"])
    number = await world.store.read(inbox)
    assert await world.found() == {
        ("evidence.content_missing", "e40"),
        ("item.content_missing", f"{number}:1"),
    }


async def test_altered_content_is_found_in_evidence_always_and_in_items_when_deep(world: World) -> None:
    for name in ("e40", "dispatch"):
        place = world.rows[name].place
        world.blobs._contents[place] = world.blobs._contents[place][:-1] + b"?"
    assert await world.found() == {("evidence.content_altered", "e40")}
    deep = {f.code for f in await world.check(deep=True)}
    assert deep == {FindingCode.EVIDENCE_CONTENT_ALTERED, FindingCode.ITEM_CONTENT_ALTERED}


async def test_content_that_no_row_names_is_counted_as_harmless(world: World) -> None:
    await world.blobs.put(b"orphan")
    await world.blobs.put(b"orphan")
    findings = await world.check()
    assert [(f.code, f.harmless, f.detail) for f in findings] == [
        (FindingCode.BLOBS_ORPHANED, True, "2 contents no row names")
    ]


# Damage that no port can do.


async def memory_world() -> World:
    world = World(MemoryStore())
    await world.build()
    return world


async def test_a_changed_link_of_the_ledger_is_found() -> None:
    for change in (
        {"hash": b"?" * 32},
        {"previous": b"?" * 32},
        {"at": after(99)},
        {"evidence_sha256": hashlib.sha256(b"other").digest()},
    ):
        world = await memory_world()
        ledger = world.store._tables.ledger  # type: ignore[union-attr]
        ledger.put(3, replace(ledger[3], **change))
        codes = {code for code, _ in await world.found()}
        assert "ledger.broken" in codes
        assert ("ledger.other_digest" in codes) == ("evidence_sha256" in change)


async def test_a_link_taken_out_of_the_ledger_is_found() -> None:
    world = await memory_world()
    ledger = world.store._tables.ledger  # type: ignore[union-attr]
    gone = ledger[6]
    ledger.drop(6)
    assert await world.found() == {("evidence.not_in_ledger", gone.evidence_id)}


async def test_a_doubled_or_unknown_link_of_the_ledger_is_found() -> None:
    world = await memory_world()
    ledger = world.store._tables.ledger  # type: ignore[union-attr]
    ledger.put(5, replace(ledger[5], evidence_id=ledger[4].evidence_id))
    ledger.put(6, replace(ledger[6], evidence_id="nobody"))
    codes = {code for code, _ in await world.found()}
    assert {"ledger.doubled", "ledger.unknown_evidence", "evidence.not_in_ledger", "ledger.broken"} <= codes


async def test_a_number_left_out_of_the_ledger_is_found() -> None:
    world = await memory_world()
    ledger = world.store._tables.ledger  # type: ignore[union-attr]
    ledger.put(6, replace(ledger[6], number=9))
    assert ("ledger.gap", "6") in await world.found()


async def test_wrong_counters_of_a_folder_are_found() -> None:
    for change in ({"messages": 9}, {"unseen": 9}, {"uid_next": 1}, {"modseq": 0}):
        world = await memory_world()
        folders = world.store._tables.folders  # type: ignore[union-attr]
        folders.put(1, replace(folders[1], **change))
        assert await world.found() == {("folder.counters", "1")}


async def test_a_removed_row_of_content_is_found() -> None:
    world = await memory_world()
    tables = world.store._tables  # type: ignore[union-attr]
    tables.blobs.drop(world.rows["e10"].sha256)
    assert await world.found() == {("evidence.content_missing", "e10"), ("blobs.orphaned", "")}


def test_the_codes_are_stable() -> None:
    assert len({c.value for c in FindingCode}) == len(FindingCode) == 25
    assert READ.value == "read"
