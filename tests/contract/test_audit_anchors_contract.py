"""Every store anchors the process record in the ledger, and fsck holds both against each other (KEP-RT-04)."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kephs.domain.audit_anchor import Anchored, Statement, anchor_name
from kephs.ports import DuplicateEvidenceError
from kephs.usecases.governance.anchor_audit import AnchorAudit, published_anchors
from storage.fsck import check as fsck
from storage.memory.store import MemoryBlobStore
from tests.support.ledger_world import DAY, HandClock, LedgerWorld
from tests.support.stores import T0, after, evidence, with_message


def note(tx: Any, number: int = 0, **changes: Any) -> Any:
    values = {
        "at": after(number),
        "actor": "Ayşe Yılmaz",
        "action": "account.opened",
        "subject": f"s{number}",
    }
    return tx.audit.add(**{**values, **changes})


async def test_an_anchor_is_a_ledger_entry_whose_digest_is_that_of_its_statement(store: Any) -> None:
    head = await store.write(lambda tx: [note(tx, n) for n in range(3)][-1])
    entered = await store.write(lambda tx: tx.audit.anchor(after(9)))
    assert entered.evidence_id == anchor_name(3) == "audit:000000000003"
    said = Statement(3, head.digest, after(9))
    assert entered.evidence_sha256 == said.sha256
    assert Statement.read(said.encode()) == said
    kept = Anchored(3, said.sha256, after(9), entered.number)
    assert await store.read(lambda tx: tx.audit.last_anchor()) == kept
    assert await store.read(lambda tx: list(tx.audit.anchors(0, 10))) == [kept]


async def test_what_is_anchored_is_not_anchored_again_and_nothing_needs_no_anchor(store: Any) -> None:
    assert await store.write(lambda tx: tx.audit.anchor(T0)) is None
    await store.write(note)
    assert await store.write(lambda tx: tx.audit.anchor(T0)) is not None
    assert await store.write(lambda tx: tx.audit.anchor(after(1))) is None


async def test_anchors_come_by_number_in_pages(store: Any) -> None:
    for number in range(12):
        await store.write(lambda tx, number=number: (note(tx, number), tx.audit.anchor(after(number))))

    def pages(tx: Any) -> list[list[int]]:
        return [[one.number for one in tx.audit.anchors(*args)] for args in ((0, 3), (3, 2), (10, 9))]

    assert await store.read(pages) == [[1, 2, 3], [4, 5], [11, 12]]
    assert (await store.read(lambda tx: tx.audit.last_anchor())).number == 12


async def test_no_evidence_may_have_the_name_of_an_anchor(store: Any) -> None:
    def taken(tx: Any) -> None:
        with_message(tx)
        tx.evidence.add(evidence("e1"))
        tx.evidence.add(evidence(anchor_name(1), origin="hs92.kep.tr", blob=evidence("e2").blob))

    with pytest.raises(DuplicateEvidenceError):
        await store.write(taken)


async def test_the_record_is_anchored_at_once_and_then_once_a_day(store: Any) -> None:
    clock = HandClock()
    work = AnchorAudit(store, clock)
    assert await store.read(work.due) is None
    await store.write(note)
    assert await store.read(work.due) == T0
    assert (await work.anchor()).number == 1
    assert await store.read(work.due) == T0 + DAY  # nothing new: told from the last anchor alone
    await store.write(lambda tx: note(tx, 1))
    clock.forward(DAY - timedelta(seconds=1))
    assert await store.read(work.due) == T0 + DAY
    clock.forward(timedelta(seconds=1))
    assert await store.read(work.due) <= clock.now()
    assert (await work.anchor()).number == 2
    clock.forward(2 * DAY)
    assert await store.read(work.due) is None


async def test_a_clock_set_back_makes_no_anchor_earlier_than_the_one_before(store: Any) -> None:
    clock = HandClock()
    work = AnchorAudit(store, clock)
    await store.write(note)
    await work.anchor()
    clock.forward(-timedelta(days=365))
    await store.write(lambda tx: note(tx, 1))
    assert (await work.anchor()).at == T0


async def found(world: LedgerWorld) -> set[tuple[str, str]]:
    def run(tx: Any) -> set[tuple[str, str]]:
        findings = fsck.check(tx, MemoryBlobStore(), log=world.key.verifier)
        kinds = ("audit.", "ledger.", "tree.", "checkpoint.")
        return {(one.code.value, one.subject) for one in findings if one.code.value.startswith(kinds)}

    return await world.store.read(run)


async def test_a_record_with_anchors_between_evidence_is_sound(store: Any, tmp_path: Path) -> None:
    world = await LedgerWorld(store).build()
    work = AnchorAudit(store, world.clock)
    for _ in range(3):
        await world.grow(2)
        now = world.clock.now()
        await store.write(lambda tx, now=now: [note(tx, at=now) for _ in range(2)])
        await work.anchor()
        world.clock.forward(DAY)
    await world.publisher.publish()
    assert await found(world) == set()
    anchors = await store.read(lambda tx: list(tx.audit.anchors(0, 10)))
    assert [one.number for one in anchors] == [2, 4, 6]
    assert await store.read(lambda tx: published_anchors(tx, anchors, world.key.verifier)) == (3, None)
    await world.grow(1)
    assert await found(world) == set()


async def test_an_entry_back_dated_behind_an_anchor_is_found(store: Any) -> None:
    world = await LedgerWorld(store).build()
    await store.write(lambda tx: note(tx, at=world.clock.now()))
    await AnchorAudit(store, world.clock).anchor()
    world.clock.forward(DAY)
    await store.write(lambda tx: note(tx, at=T0 - 3 * DAY))
    assert await found(world) == {("audit.back_dated", "2")}
