"""Every store keeps the archive's rows: contiguous ranges, quarantine, moves, rounds, and rows put back."""

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256, sha512
from typing import Any

import pytest

from evidence.bundle.archive_object import ObjectKind
from evidence.ledger.chain import LedgerEntry
from evidence.model.records import EvidenceKind
from kephs.ports.archive import ArchivedObject, ObjectState
from kephs.ports.objects import ObjectRef
from kephs.ports.preservation import CoveredEvidence, RenewalReason, RenewalRow, StampAuthority
from tests.support.proofs import proof_over
from tests.support.stores import T0, after, blob, evidence, message, with_message

LATER = T0 + timedelta(days=7300)
DER = (b"\x30\x03\x02\x01\x01", b"\x30\x03\x02\x01\x02")  # two SEQUENCEs stand for certificates


def row(first: int, last: int, kind: ObjectKind = ObjectKind.EVIDENCE, **changes: Any) -> ArchivedObject:
    name = f"{kind.value}/2026/03/02/{first:012d}-{last:012d}.kepa"
    made = ArchivedObject(
        name, kind, first, last, "files", "v1", 100, sha256(name.encode()).digest(),
        sha512(name.encode()).digest(), LATER, T0, check_due=after(100),
    )  # fmt: skip
    return replace(made, **changes)


async def add(store: Any, *rows: ArchivedObject) -> list[bool]:
    return await store.write(lambda tx: [tx.archive.add(one) for one in rows])


async def test_the_watermark_is_the_end_of_the_newest_range_of_a_kind(store: Any) -> None:
    assert await store.read(lambda tx: tx.archive.watermark()) == 0
    assert await add(store, row(1, 10), row(11, 12), row(1, 3, ObjectKind.PROCESS)) == [True] * 3
    assert await store.read(lambda tx: tx.archive.watermark()) == 12
    assert await store.read(lambda tx: tx.archive.watermark(ObjectKind.PROCESS)) == 3


async def test_ranges_neither_overlap_nor_leave_a_gap(store: Any) -> None:
    await add(store, row(1, 10))
    assert await add(store, row(1, 12), row(5, 20), row(10, 11)) == [False] * 3
    with pytest.raises(ValueError, match="gap"):
        await add(store, row(12, 13))
    assert await store.read(lambda tx: tx.archive.watermark()) == 10


async def test_rows_come_back_as_they_went_in(store: Any) -> None:
    made = row(1, 10, state=ObjectState.MOVED, checked_at=after(3), renewed_round=2)
    await add(store, made)
    assert await store.read(lambda tx: tx.archive.get(made.name)) == made
    assert await store.read(lambda tx: tx.archive.get("delil/none")) is None


async def test_objects_are_listed_by_name_in_pages_and_by_kind(store: Any) -> None:
    rows = [row(1, 10), row(11, 20), row(1, 5, ObjectKind.PROCESS)]
    await add(store, *rows)
    listed = await store.read(lambda tx: list(tx.archive.all(limit=2)))
    assert listed == rows[:2]
    assert await store.read(lambda tx: list(tx.archive.all(after=listed[-1].name))) == rows[2:]
    assert await store.read(lambda tx: list(tx.archive.all(kind=ObjectKind.PROCESS))) == rows[2:]


async def test_entries_come_with_everything_that_their_rows_name(store: Any) -> None:
    record, kept = proof_over(b"stamped"), blob(b"material")

    def fill(tx: Any) -> list[LedgerEntry]:
        with_message(tx)
        tx.blobs.add(kept)
        tx.messages.add(message("m2", material=kept.sha256))
        entries = [
            tx.evidence.add(evidence("e1")),
            tx.evidence.add(evidence("e2", EvidenceKind.DELIVERY, number=1), record),
            tx.evidence.add(evidence("e3", message_id="m2"), record),
        ]
        tx.audit.add(at=T0, actor="Çiğdem", action="a.b", subject="s")
        return [*entries, tx.audit.anchor(T0)]

    entries = await store.write(fill)
    found = await store.read(lambda tx: list(tx.evidence.entered(0, 10)))
    rows = await store.read(lambda tx: [tx.evidence.get(f"e{number}") for number in (1, 2, 3)])
    assert [one.entry for one in found] == entries
    assert [one.evidence for one in found] == [*rows, None]
    assert [one.blob for one in found] == [*(blob(name) for name in (b"e1", b"e2", b"e3")), None]
    assert [one.ers for one in found] == [None, record, record, None]
    assert [one.material for one in found] == [None, None, kept, None]
    assert await store.read(lambda tx: list(tx.evidence.entered(1, 2))) == found[1:3]


async def test_the_object_that_holds_an_entry_is_found(store: Any) -> None:
    rows = [row(1, 10), row(11, 20)]
    await add(store, *rows)

    def look(tx: Any) -> list[ArchivedObject | None]:
        return [tx.archive.holding(ObjectKind.EVIDENCE, number) for number in (1, 10, 11, 20, 21)]

    assert await store.read(look) == [rows[0], rows[0], rows[1], rows[1], None]
    assert await store.read(lambda tx: tx.archive.holding(ObjectKind.PROCESS, 1)) is None


async def test_rebuild_adopts_in_any_order_but_no_entry_twice(store: Any) -> None:
    def adopt(tx: Any) -> list[bool]:
        return [tx.archive.adopt(one) for one in (row(11, 20), row(1, 10), row(5, 12), row(11, 20))]

    assert await store.write(adopt) == [True, True, False, False]


async def test_what_is_due_for_a_check_comes_longest_due_first(store: Any) -> None:
    rows = [row(1, 1, check_due=after(20)), row(2, 2, check_due=None), row(3, 3, check_due=after(10))]
    await add(store, *rows, row(4, 4, check_due=after(99)))
    due = await store.read(lambda tx: list(tx.archive.unchecked(after(20), 10)))
    assert due == [rows[1], rows[2], rows[0]]


async def test_a_check_is_noted_and_a_damaged_object_stays_due_until_it_is_sound(store: Any) -> None:
    one, other = row(1, 1), row(2, 2)
    await add(store, one, other)
    await store.write(lambda tx: tx.archive.mark_damaged(one.name, after(5)))
    await store.write(lambda tx: tx.archive.mark_checked(other.name, after(5), after(500)))
    (quarantined,) = await store.read(lambda tx: list(tx.archive.damaged(10)))
    assert (quarantined.name, quarantined.state) == (one.name, ObjectState.DAMAGED)
    assert [item.name for item in await store.read(lambda tx: tx.archive.unchecked(after(5), 10))] == [
        one.name
    ]
    assert [item.name for item in await store.read(lambda tx: tx.archive.stale(after(5), 10))] == [one.name]
    await store.write(lambda tx: tx.archive.mark_checked(one.name, after(6), after(600)))
    sound = await store.read(lambda tx: tx.archive.get(one.name))
    assert (sound.state, sound.checked_at, sound.check_due) == (ObjectState.SEALED, after(6), after(600))
    with pytest.raises(KeyError):
        await store.write(lambda tx: tx.archive.mark_checked("none", T0, T0))
    with pytest.raises(KeyError):
        await store.write(lambda tx: tx.archive.mark_damaged("none", T0))


async def test_a_move_is_noted_once_and_only_from_the_version_that_was_read(store: Any) -> None:
    one = row(1, 1)
    await add(store, one)
    new = replace(one.ref, version="v2", retain_until=LATER + timedelta(days=1))

    def move(tx: Any) -> bool:
        return tx.archive.moved(one.name, one.ref, new, "s3", after(9))

    assert [await store.write(move) for _ in range(2)] == [True, False]
    kept = await store.read(lambda tx: tx.archive.get(one.name))
    assert (kept.ref, kept.place, kept.state) == (new, "s3", ObjectState.MOVED)
    assert await store.read(lambda tx: list(tx.archive.elsewhere("s3", 10))) == []
    assert await store.read(lambda tx: list(tx.archive.elsewhere("files", 10))) == [kept]


async def test_retention_is_only_ever_extended(store: Any) -> None:
    one = row(1, 1)
    await add(store, one)
    await store.write(lambda tx: tx.archive.extended(one.name, LATER - timedelta(days=1)))
    assert (await store.read(lambda tx: tx.archive.get(one.name))).retain_until == LATER
    await store.write(lambda tx: tx.archive.extended(one.name, LATER + timedelta(days=1)))
    assert (await store.read(lambda tx: tx.archive.get(one.name))).retain_until == LATER + timedelta(days=1)


async def test_totals_count(store: Any) -> None:
    empty = await store.read(lambda tx: tx.archive.totals(T0, T0))
    assert (empty.objects, empty.octets, empty.earliest_end) == (0, 0, None)
    await add(store, row(1, 1), row(2, 2, state=ObjectState.MOVED, checked_at=after(1)), row(3, 3, size=7))
    await store.write(lambda tx: tx.archive.mark_damaged(row(3, 3).name, after(2)))
    found = await store.read(lambda tx: tx.archive.totals(after(50), LATER + timedelta(1)))
    assert (found.objects, found.octets, found.damaged, found.moved) == (3, 207, 1, 1)
    assert (found.never_checked, found.check_overdue, found.expiring) == (1, 1, 3)
    assert (found.earliest_end, found.oldest_check) == (LATER, after(1))


# ----------------------------------------------------------------------- rounds


def a_round(number: int, last: int) -> tuple[RenewalRow, list[ObjectRef]]:
    refs = [
        ObjectRef(f"yenileme/{number:06d}{part}.kepa", "v1", 10, bytes(32), bytes(64), LATER)
        for part in ("", "/x")
    ]
    made = RenewalRow(number, after(number), RenewalReason.YEARLY, "sha256", bytes(32), 5, last, refs[0])
    return made, refs


async def test_rounds_follow_each_other_and_mark_what_they_cover(store: Any) -> None:
    await add(store, row(1, 10), row(11, 20))
    first, refs = a_round(1, 10)
    assert await store.write(lambda tx: tx.preservation.add_round(first, refs, "s3"))
    assert not await store.write(lambda tx: tx.preservation.add_round(first, refs, "s3"))
    with pytest.raises(ValueError, match="follow"):
        await store.write(lambda tx: tx.preservation.add_round(*a_round(3, 20)))
    assert await store.read(lambda tx: list(tx.preservation.rounds())) == [first]
    kept = await store.read(lambda tx: {one.name: one for one in tx.archive.all()})
    assert [one.renewed_round for one in kept.values() if one.kind is ObjectKind.EVIDENCE] == [1, 0]
    assert {kept[ref.name].place for ref in refs} == {"s3"}
    second, more = a_round(2, 20)
    assert await store.write(lambda tx: tx.preservation.add_round(second, more))
    assert await store.read(lambda tx: list(tx.preservation.rounds())) == [first, second]


async def test_a_round_that_was_carried_is_found_where_it_lies(store: Any) -> None:
    first, refs = a_round(1, 0)
    await store.write(lambda tx: tx.preservation.add_round(first, refs))
    new = replace(first.head, version="v2")
    await store.write(lambda tx: tx.archive.moved(first.head.name, first.head, new, "s3", T0))
    assert (await store.read(lambda tx: tx.preservation.rounds()))[0].head == new


async def test_a_round_is_told_what_is_archived(store: Any) -> None:
    ers = proof_over(b"one")

    def fill(tx: Any) -> None:
        with_message(tx)
        for n, record in (("e1", ers), ("e2", None)):
            content = n.encode()
            tx.blobs.add(blob(content, f"m:{n}"))
            made = evidence(
                n,
                EvidenceKind.DELIVERY,
                number=int(n[1:]),
                blob=sha256(content).digest(),
                event_time=after(1),
            )
            tx.evidence.add(made, record)

    await store.write(fill)
    assert await store.read(lambda tx: list(tx.preservation.covered(0, 10))) == []
    paths = [DER]
    await store.write(lambda tx: tx.archive.add(row(1, 1), paths))

    def look(tx: Any) -> Any:
        rows = tx.preservation
        return (
            rows.watermark(), list(rows.covered(0, 10)), rows.first_at(0), rows.first_at(1),
            list(rows.evidence_objects(0)), list(rows.authorities(0)), list(rows.authorities(1)),
        )  # fmt: skip

    mark, covered, first, none, objects, authorities, later = await store.read(look)
    (only,) = covered
    assert isinstance(only, CoveredEvidence)
    assert (mark, only.number, only.sha256) == (1, 1, sha256(b"e1").digest())
    assert only.token_sha256 is not None
    assert (first, none) == (after(1), None)
    assert objects == [row(1, 1).ref]
    assert authorities == [StampAuthority(DER)]
    assert later == []
    await store.write(lambda tx: tx.archive.add(row(2, 2), paths))
    assert await store.read(lambda tx: list(tx.preservation.authorities(1))) == [StampAuthority(DER)]
    assert (await store.read(lambda tx: list(tx.preservation.covered(1, 10))))[0].token_sha256 is None


# ----------------------------------------------------------------------- rows put back


async def test_an_entry_put_back_is_the_same_and_another_one_is_refused(store: Any) -> None:
    def fill(tx: Any) -> Any:
        with_message(tx)
        tx.blobs.add(blob(b"x"))
        return tx.evidence.add(evidence(blob=blob(b"x").sha256))

    entry = await store.write(fill)
    assert not await store.write(lambda tx: tx.archive.restore_entry(entry))
    with pytest.raises(ValueError, match="another"):
        await store.write(lambda tx: tx.archive.restore_entry(replace(entry, salt=bytes(32))))
    following = replace(entry, number=2, evidence_id="other", previous=entry.hash)
    assert await store.write(lambda tx: tx.archive.restore_entry(following))
    assert await store.read(lambda tx: tx.evidence.ledger(0, 10)) == [entry, following]
    with pytest.raises(ValueError, match="another"):
        await store.write(lambda tx: tx.archive.restore_entry(replace(following, number=3)))
    assert await store.read(lambda tx: tx.archive.newest_entry()) == 2


async def test_evidence_put_back_is_the_same_record_and_all(store: Any) -> None:
    ers = proof_over(b"x")
    made = evidence(blob=blob(b"x").sha256, receipt_due=after(4))

    def fill(tx: Any) -> Any:
        with_message(tx)
        tx.blobs.add(blob(b"x"))
        return [tx.archive.restore(made, ers), tx.archive.restore(made, ers)]

    assert await store.write(fill) == [True, False]
    assert await store.read(lambda tx: tx.evidence.get(made.evidence_id)) == made
    assert await store.read(lambda tx: tx.evidence.ers(made.evidence_id)) == ers
    with pytest.raises(KeyError):
        await store.write(lambda tx: tx.archive.restore(replace(made, message_id="gone"), None))


async def test_process_records_put_back_continue_the_chain(store: Any) -> None:
    made = await store.write(
        lambda tx: [tx.audit.add(at=after(n), actor="a", action="b.c", subject=str(n)) for n in range(2)]
    )
    assert not await store.write(lambda tx: tx.archive.restore_audit(made[0]))
    with pytest.raises(ValueError, match="another"):
        await store.write(lambda tx: tx.archive.restore_audit(replace(made[1], actor="b")))
    with pytest.raises(ValueError, match=r"missing|process record 5"):
        await store.write(lambda tx: tx.archive.restore_audit(replace(made[1], number=5)))
