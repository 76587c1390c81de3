"""fsck finds each kind of damage, and nothing in a store that is sound; over every store."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from evidence.model.records import EvidenceKind
from kephs.cli.health.fsck import SENTENCES
from kephs.domain.lifecycle import DeliveryState, MessageState
from kephs.ports import Ending, Tx
from storage.fsck.check import FindingCode
from storage.memory.store import MemoryStore
from tests.support.fsck_world import World, archive, inbox, sent, to_veli, written
from tests.support.stores import T0, after, item

DELIVERED, FAILED, READ = DeliveryState.DELIVERED, DeliveryState.FAILED, DeliveryState.READ
Damage = Callable[[World], Awaitable[object]]


@pytest.fixture
async def world(store: Any) -> World:
    return await World(store).build()


async def test_a_sound_store_has_no_findings(world: World) -> None:
    told: list[tuple[str, int]] = []
    assert await world.check(deep=True, progress=lambda what, count: told.append((what, count))) == []
    assert dict(told) == {
        "messages": 3,
        "evidence": 6,
        "transfers": 0,
        "ledger": 6,
        "accounts": 2,
        "blobs": 9,
        "checkpoints": 0,
        "audit": 0,
        "anchors": 0,
        "certificates": 0,
        "holds": 0,
        "destroyed": 0,
        "objects": 0,
    }


async def test_what_a_person_may_do_is_no_damage(world: World) -> None:
    def busy(tx: Tx) -> None:
        moved = item(b"dispatch", delivery_id="d1", received_at=after(1))
        tx.mailboxes.append(inbox(tx), moved)  # a copy keeps the time of arrival
        tx.mailboxes.append(archive(tx), moved)
        tx.mailboxes.append(archive(tx), item(b"dispatch"))  # what was read may be uploaded anywhere
        tx.mailboxes.set_flags(inbox(tx), 1, frozenset({"\\Seen"}))
        tx.mailboxes.remove(inbox(tx), [1, 2])
        tx.mailboxes.remove(archive(tx), [1, 2])
        tx.mailboxes.remove(sent(tx), [1])

    await world.store.write(busy)
    assert await world.found() == set()
    released = await world.store.write(lambda tx: tx.blobs.release_unused(10))
    for row in released:
        await world.blobs.erase(row)
    assert {row.sha256 for row in released} == {world.rows[x].sha256 for x in ("m1", "dispatch")}
    assert await world.found() == set()


def rows(work: Callable[[Tx], object], *expected: tuple[FindingCode, str]) -> Any:
    return damage(lambda world: world.store.write(work), *expected)


def damage(work: Damage, *expected: tuple[FindingCode, str]) -> Any:
    return pytest.param(work, {(code.value, subject) for code, subject in expected}, id=expected[0][0].value)


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        rows(
            lambda tx: tx.messages.add(written("m9", state=MessageState.COMPLETED, recipients=())),
            (FindingCode.MESSAGE_WITHOUT_EVIDENCE, "m9"),
        ),
        rows(
            lambda tx: tx.messages.add(written("m9", state=MessageState.REFUSED)),
            (FindingCode.MESSAGE_WITHOUT_EVIDENCE, "m9"),
        ),
        damage(
            lambda world: world.plant("e9", EvidenceKind.SUBMISSION_REJECTION, "m1"),
            (FindingCode.MESSAGE_ACCEPTED_AND_REFUSED, "m1"),
        ),
        rows(
            lambda tx: tx.messages.set_states(("m3",), MessageState.COMPLETED),
            (FindingCode.MESSAGE_COMPLETED_EARLY, "m3"),
        ),
        rows(lambda tx: tx.messages.due("m3", None, 0), (FindingCode.MESSAGE_STUCK, "m3")),
        rows(
            lambda tx: tx.messages.set_states(("m1",), MessageState.ACCEPTED),  # nothing pending, nothing due
            (FindingCode.MESSAGE_STUCK, "m1"),
        ),
        rows(
            lambda tx: tx.deliveries.add(to_veli("d9", "m2")),
            (FindingCode.MESSAGE_REFUSED_WITH_DELIVERIES, "m2"),
        ),
        rows(
            lambda tx: tx.deliveries.decide_all((Ending("d3", FAILED, "none", T0),)),
            (FindingCode.DELIVERY_WITHOUT_EVIDENCE, "d3"),
        ),
        rows(
            lambda tx: tx.deliveries.decide_all((Ending("d3", DELIVERED, "none", T0),)),
            (FindingCode.DELIVERY_WITHOUT_EVIDENCE, "d3"),
            (FindingCode.DELIVERY_NOT_FILED, "d3"),
            (FindingCode.MESSAGE_WITHOUT_DISPATCH, "m3"),
        ),
        damage(
            lambda world: world.plant("e9", EvidenceKind.DELIVERY, "m3", 1),
            (FindingCode.DELIVERY_EVIDENCE_EARLY, "d3"),
        ),
        damage(
            lambda world: world.plant("e9", EvidenceKind.RETRIEVAL, "m1", 2),
            (FindingCode.DELIVERY_EVIDENCE_EARLY, "d2"),
        ),
        damage(
            lambda world: world.plant("e9", EvidenceKind.NON_DELIVERY, "m1", 1),
            (FindingCode.DELIVERY_CONTRADICTED, "d1"),
        ),
        rows(
            lambda tx: tx.mailboxes.append(inbox(tx), item(b"dispatch", delivery_id="d3")),
            (FindingCode.DELIVERY_FILED_EARLY, "d3"),
        ),
        rows(
            lambda tx: tx.mailboxes.append(
                inbox(tx), item(b"dispatch", delivery_id="d1", received_at=after(9))
            ),
            (FindingCode.DELIVERY_DOUBLED, "d1"),
        ),
        damage(
            lambda world: world.plant("e9", EvidenceKind.DELIVERY, "m2", 2),
            (FindingCode.EVIDENCE_WITHOUT_DELIVERY, "e9"),
        ),
        damage(
            lambda world: world.plant("e9", EvidenceKind.NON_RETRIEVAL, "m1", 2, xml=b"<no evidence/>"),
            (FindingCode.EVIDENCE_NOT_XML, "e9"),
        ),
        rows(
            lambda tx: tx.mailboxes.append(
                sent(tx), item(b"dispatch", delivery_id="d1", received_at=after(1))
            ),
            (FindingCode.ITEM_OTHER_ACCOUNT, "2:2"),
        ),
        rows(
            lambda tx: tx.mailboxes.append(archive(tx), item(b"m1", delivery_id="d1")),
            (FindingCode.ITEM_OTHER_CONTENT, "11:1"),
        ),
        rows(lambda tx: tx.accounts.add_usage("a1", 5), (FindingCode.ACCOUNT_USAGE, "a1")),
    ],
)
async def test_each_damage_to_rows_is_found(world: World, work: Damage, expected: set[Any]) -> None:
    await work(world)
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
    assert "refused messages" in SENTENCES[FindingCode.BLOBS_ORPHANED][1]  # not only crashes leave them


# Damage that no port can do.


async def memory_world() -> World:
    return await World(MemoryStore()).build()


async def test_a_changed_link_of_the_ledger_is_found() -> None:
    for change in (
        {"hash": b"?" * 32},
        {"previous": b"?" * 32},
        {"at": after(99)},
        {"evidence_sha256": sha256(b"other").digest()},
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
        folders.put(2, replace(folders[2], **change))
        assert await world.found() == {("folder.counters", "2")}


async def test_a_removed_row_of_content_is_found() -> None:
    world = await memory_world()
    tables = world.store._tables  # type: ignore[union-attr]
    tables.blobs.drop(world.rows["e10"].sha256)
    assert await world.found() == {("evidence.content_missing", "e10"), ("blobs.orphaned", "")}


def test_the_codes_are_stable() -> None:
    assert len({c.value for c in FindingCode}) == len(FindingCode) == 96
    assert READ.value == "read"
