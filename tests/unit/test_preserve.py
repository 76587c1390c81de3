"""Rounds of renewal as the lane makes them: one token, nothing lost by a death, nothing believed unseen."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from hashlib import new as new_hash

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence.ports import TimestampUnavailableError
from evidence.stamps.ers_check import check_record
from evidence.stamps.renewal import SpanTree
from evidence.stamps.renewal_check import authorities_step
from evidence.x509.offline import OfflineRevocation
from kephs.ports.objects import ObjectDamagedError, ObjectRef, ObjectUnavailableError
from kephs.ports.preservation import RenewalReason
from kephs.simulation.archive import RETENTION, SimulatedArchive
from kephs.simulation.authorities import DOMAIN, YEAR, Authorities, MovingClock
from kephs.simulation.story import START
from kephs.usecases.archive.preserve import MaterialMissingError, PreservationParts, Preserve
from kephs.usecases.archive.preserve_object import (
    RenewalObjectError,
    head_name,
    names_earlier,
    read_head,
    read_span,
    write_span,
)
from kephs.usecases.archive.preserve_records import find_object, rebuilt_rounds
from storage.objects.memory import MemoryObjectStore

DAY = timedelta(days=1)


class DeathError(Exception):
    """Stands for a death."""


class MortalStore(MemoryObjectStore):
    """A store in memory whose caller dies at the n-th put, before or after it took effect."""

    def __init__(self, clock: MovingClock) -> None:
        super().__init__(clock=clock.now)
        self.left: int | None = None
        self.after = False
        self.down = False

    async def put(self, name: str, data: bytes, retain_until) -> ObjectRef:
        if self.down:
            raise ObjectUnavailableError("down")
        if self.left is not None:
            self.left -= 1
            if self.left < 0 and not self.after:
                raise DeathError
        ref = await super().put(name, data, retain_until)
        if self.left is not None and self.left < 0:
            raise DeathError
        return ref


class World:
    """A small archive with one authority, on a moving clock."""

    def __init__(self, folder) -> None:
        self.clock = MovingClock(START)
        self.authorities = Authorities(self.clock, START)
        self.authorities.new_generation()
        self.authorities.new_stamping()
        self.archive = SimulatedArchive(folder, self.clock, self.authorities)
        self.store = MortalStore(self.clock)
        self.archive.store = self.store  # type: ignore[assignment]
        self.archive.use(self.authorities.new_transaction())
        self.warnings: list[str] = []
        self.preserve = self.restarted()

    def restarted(self, **changes) -> Preserve:
        archive, by = self.archive, self.authorities
        parts = PreservationParts(
            archive.rows, self.store, archive.cipher, archive, by, by, by.trust, self.clock, DOMAIN, RETENTION,
            by.algorithms, span=4,
        )  # fmt: skip
        self.preserve = Preserve(replace(parts, **changes), warn=self.warnings.append)
        return self.preserve

    async def passes(self, count: float) -> None:
        self.clock.move(START + count * YEAR)

    async def joined(self, number: int) -> tuple[bytes, bytes]:
        async for one in self.archive.read(number, number):
            ers = await self.preserve.records.record_of(number, one.xml, one.ers)
            assert ers is not None
            return one.xml, ers
        raise AssertionError(number)

    async def check(self, number: int):
        xml, ers = await self.joined(number)
        return check_record(
            ers, lambda name: new_hash(name, xml).digest(), self.authorities.trust, self.clock.now(),
            algorithms=self.authorities.algorithms(),
        )  # fmt: skip

    async def all_hold(self) -> bool:
        numbers = range(1, len(self.archive.rows.evidence) + 1)
        return all([(await self.check(number)).passed for number in numbers])


@pytest.fixture
async def world(tmp_path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.archive.enter(11)
    yield made
    await made.archive.close()


async def test_nothing_is_due_before_a_year_and_then_one_round_covers_everything(world):
    assert world.preserve.due(world.archive.rows) == world.clock.now()  # a look at the authorities
    assert await world.preserve.run() is None
    assert world.preserve.due(world.archive.rows) == world.clock.now() + DAY
    await world.passes(1.1)
    tokens = world.authorities.tokens
    row = await world.preserve.run()
    assert row is not None
    assert (row.number, row.reason, row.hash_name, row.last) == (1, RenewalReason.YEARLY, "sha256", 11)
    assert world.authorities.tokens == tokens + 1
    assert await world.preserve.run() is None
    assert await world.all_hold()
    assert [len((await world.check(number)).tokens) for number in (1, 10)] == [2, 1]


async def test_rounds_go_on_and_the_old_authority_may_end(world):
    reasons = []
    for year in (1.1, 2.2, 3.3, 4.4, 4.55, 5.6, 6.7):
        await world.passes(year)
        if year == 4.55:
            world.authorities.new_stamping()
            world.archive.use(world.authorities.new_transaction())
            await world.archive.enter(3)
        row = await world.preserve.run()
        assert row is not None
        reasons.append(row.reason)
    assert reasons == [RenewalReason.YEARLY] * 4 + [RenewalReason.EXPIRY] + [RenewalReason.YEARLY] * 2
    assert await world.all_hold()
    first = (await world.check(1)).tokens[0].certificate
    assert first is not None
    assert first.not_after < world.clock.now()


async def test_the_same_evidence_is_not_covered_twice_by_itself(world):
    await world.passes(1.1)
    await world.preserve.run()
    await world.passes(2.2)
    row = await world.preserve.run()
    assert row is not None
    assert row.leaves == 0
    assert (await world.preserve.records.rounds())[1].head.round.spans == ()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("put", [0, 1, 2, 3])
async def test_a_death_at_any_write_loses_nothing_and_pays_no_token_twice(world, put, after):
    await world.passes(1.1)
    world.store.left, world.store.after = put, after
    with pytest.raises(DeathError):
        await world.preserve.run()
    assert world.archive.rows.made == []
    world.store.left = None
    paid = world.authorities.tokens
    head_is_there = await find_object(world.store, head_name(1)) is not None
    assert head_is_there == (put == 3 and after)
    row = await world.restarted().run()
    assert row is not None
    assert world.authorities.tokens == paid + (0 if head_is_there else 1)
    assert [one.number for one in world.archive.rows.made] == [1]
    assert len(world.archive.rows.renewal_objects) == 4
    assert await world.all_hold()


async def test_a_death_before_the_row_is_written_finds_the_round_again(world, monkeypatch):
    await world.passes(1.1)

    async def dies(_work):
        raise DeathError

    monkeypatch.setattr(type(world.archive.rows), "write", lambda _self, work: dies(work))
    with pytest.raises(DeathError):
        await world.preserve.run()
    monkeypatch.undo()
    paid = world.authorities.tokens
    await world.archive.enter(5)  # life goes on in between
    paid_after = world.authorities.tokens
    row = await world.restarted().run()
    assert row is not None
    assert (row.last, world.authorities.tokens, paid < paid_after) == (11, paid_after, True)
    await world.passes(2.2)
    assert await world.preserve.run() is not None
    assert await world.all_hold()


async def test_what_grew_after_a_death_is_in_the_round_made_then(world):
    await world.passes(1.1)
    world.store.left, world.store.after = 2, True
    with pytest.raises(DeathError):
        await world.preserve.run()
    world.store.left = None
    await world.archive.enter(4)
    row = await world.restarted().run()
    assert row is not None
    assert row.last == 15
    assert await world.all_hold()


async def test_of_two_processes_that_make_a_round_at_once_one_wins_and_the_other_takes_it_over(world):
    await world.passes(1.1)
    other = world.restarted()
    first = world.restarted()
    assert (await first.run()) is not None
    world.archive.rows.made.clear()  # as the other saw them
    row = await other.renew(RenewalReason.YEARLY, "sha256")
    assert row.number == 1
    assert [one.number for one in world.archive.rows.made] == [1]
    tokens = {known.head.round.token for known in await world.restarted().records.rounds()}
    assert len(tokens) == 1
    assert await world.all_hold()


async def test_a_silent_store_is_waited_for(world):
    await world.passes(1.1)
    world.store.down = True
    with pytest.raises(ObjectUnavailableError):
        await world.preserve.run()
    world.store.down = False
    assert await world.preserve.run() is not None
    assert await world.all_hold()


# ------------------------------------------------------------------ authorities


async def test_revocation_data_is_collected_before_the_token_and_proven_by_it(world):
    await world.passes(1.1)
    await world.preserve.run()
    world.authorities.new_stamping()
    await world.passes(2.2)
    await world.preserve.run()
    first, second = await world.preserve.records.rounds()
    for one in (first, second):
        endings = {name.rpartition(".")[2] for name in one.head.material}
        assert endings == {"cer", "ocsp"}
        assert one.head.missing == ()
        assert one.head.begun_at <= one.head.round.at
    assert names_earlier(second.head.manifest, [first.plain])
    material = await world.preserve.records.material_of(1)
    known = OfflineRevocation([data for name, data in material.items() if name.endswith(".ocsp")], ())
    found = await world.check(1)
    step = authorities_step(found, known, world.authorities.trust, world.clock.now())
    assert step.ok is False  # of the newest authority nobody asked yet
    kept = replace(found, tokens=found.tokens[:-1])
    assert authorities_step(kept, known, world.authorities.trust, world.clock.now()).ok is True
    assert authorities_step(found, known, world.authorities.trust, world.clock.now(), needed=False).ok is None


async def silence(*_args):
    return None


async def test_a_round_waits_for_revocation_data_and_goes_on_without_after_two_weeks(world):
    await world.passes(1.1)
    paid = world.authorities.tokens
    world.restarted(revocation=type("Silent", (), {"status": staticmethod(silence)})())
    with pytest.raises(MaterialMissingError):
        await world.preserve.run()
    world.clock.move(world.clock.now() + 13 * DAY)
    with pytest.raises(MaterialMissingError):
        await world.preserve.run()
    assert world.authorities.tokens == paid
    world.clock.move(world.clock.now() + 2 * DAY)
    row = await world.preserve.run()
    assert row is not None
    (known,) = await world.preserve.records.rounds()
    assert len(known.head.missing) == 2
    assert "missing" in world.warnings[0]


async def test_a_revoked_authority_is_left_at_once(world):
    await world.passes(0.3)
    old = world.authorities.stamping
    world.authorities.revoke(old.issued, world.clock.now())
    world.authorities.new_stamping()
    world.clock.move(world.clock.now() + DAY)
    row = await world.preserve.run()
    assert row is not None
    assert row.reason is RenewalReason.REVOKED
    assert "revoked" in world.warnings[0]
    assert await world.preserve.run() is None
    assert await world.all_hold()
    material = await world.preserve.records.material_of(1)
    known = OfflineRevocation([data for name, data in material.items() if name.endswith(".ocsp")], ())
    found = await world.check(1)
    kept = replace(found, tokens=found.tokens[:1])
    assert authorities_step(kept, known, world.authorities.trust, world.clock.now()).ok is True


async def test_a_token_of_a_revoked_authority_renews_nothing(world):
    await world.passes(0.3)
    world.authorities.revoke(world.authorities.stamping.issued, world.clock.now())
    world.clock.move(world.clock.now() + DAY)
    with pytest.raises(TimestampUnavailableError, match="revoked"):
        await world.preserve.run()
    assert await find_object(world.store, head_name(1)) is None
    world.authorities.new_stamping()
    assert await world.preserve.run() is not None


async def test_a_token_over_something_else_renews_nothing(world):
    await world.passes(1.1)

    class Lying:
        async def stamp(self, digest: bytes, hash_name: str) -> bytes:
            return await world.authorities.stamp(bytes(len(digest)), hash_name)

    world.restarted(stamper=Lying())
    with pytest.raises(TimestampUnavailableError, match="imprint"):
        await world.preserve.run()
    assert world.archive.rows.made == []


# ------------------------------------------------------------------ hash-tree renewal


async def test_a_retired_hash_moves_every_evidence_into_a_new_chain(world):
    await world.passes(1.1)
    await world.preserve.run()
    await world.archive.enter(4)
    world.authorities.retire_sha256(START + 2 * YEAR)
    world.authorities.new_stamping(sha512=True)
    await world.passes(1.6)
    row = await world.preserve.run()
    assert row is not None
    assert (row.reason, row.hash_name, row.leaves) == (RenewalReason.HASH, "sha512", 15)
    await world.archive.enter(2)
    await world.passes(1.99)
    row = await world.preserve.run()
    assert row is not None
    assert (row.reason, row.hash_name, row.leaves, row.last) == (RenewalReason.HASH, "sha512", 2, 17)
    await world.passes(3.1)
    row = await world.preserve.run()
    assert row is not None
    assert (row.reason, row.hash_name, row.leaves) == (RenewalReason.YEARLY, "sha512", 0)
    assert await world.all_hold()
    facts = (await world.check(1)).report.facts
    assert facts["hashes"] == ["sha256", "sha512"]


async def test_a_damaged_object_stops_hash_tree_renewal_until_it_is_restored(world):
    await world.passes(1.1)
    await world.preserve.run()
    ref = world.archive.rows.holding(3)
    good = world.store.contents[ref.name]
    world.store.contents[ref.name] = good[:-1] + b"?"
    world.archive._last_read = None
    world.authorities.retire_sha256(START + 2 * YEAR)
    world.authorities.new_stamping(sha512=True)
    await world.passes(1.6)
    with pytest.raises(ObjectDamagedError):
        await world.preserve.run()
    world.store.contents[ref.name] = good
    assert await world.preserve.run() is not None
    assert await world.all_hold()


async def test_a_gap_in_the_rows_is_no_round(world):
    await world.passes(1.1)
    world.archive.rows.evidence[4] = replace(world.archive.rows.evidence[4], number=99)
    with pytest.raises(RenewalObjectError, match="gap"):
        await world.preserve.run()


async def test_a_record_under_another_hash_is_read_again(world):
    """A peer's: its row cannot tell the leaf."""
    rows = world.archive.rows.evidence
    token = rows[0].token_sha256
    rows[0] = replace(rows[0], token_sha256=None, read_again=True)
    await world.passes(1.1)
    await world.preserve.run()
    (known,) = await world.preserve.records.rounds()
    tree = await world.preserve.records.span(known.head.span_names[0])
    assert token in tree
    assert await world.all_hold()


# ------------------------------------------------------------------ reading back


async def test_rows_are_rebuilt_from_the_objects_alone(world):
    for year in (1.1, 2.2):
        await world.passes(year)
        await world.preserve.run()
    found = await rebuilt_rounds(world.store, world.archive.cipher)
    assert [one.row for one in found] == list(world.archive.rows.made)
    assert {ref.name for one in found for ref in one.objects} == {
        ref.name for ref in world.archive.rows.renewal_objects
    }


async def test_a_row_that_names_another_head_is_refused(world):
    for year in (1.1, 2.2):
        await world.passes(year)
        await world.preserve.run()
    rows = world.archive.rows.made
    for spoiled in ([rows[0], replace(rows[1], head=rows[0].head)], [rows[1]], [replace(rows[0], number=2)]):
        world.archive.rows.made = list(spoiled)
        with pytest.raises(RenewalObjectError):
            await world.restarted().records.rounds()


async def test_a_missing_span_is_told(world):
    await world.passes(1.1)
    await world.preserve.run()
    (known,) = await world.preserve.records.rounds()
    world.store._refs.pop(known.head.span_names[0])
    with pytest.raises(RenewalObjectError, match="not there"):
        await world.restarted().records.record_of(1, b"x", None)
    with pytest.raises(RenewalObjectError, match="not there"):
        await rebuilt_rounds(world.store, world.archive.cipher)


async def test_what_follows_from_the_heads_octets_cannot_be_changed(world):
    await world.passes(1.1)
    await world.preserve.run()
    (known,) = await world.preserve.records.rounds()
    assert read_head(known.plain, None) == known.head
    for at in range(0, len(known.plain), 97):
        broken = bytearray(known.plain)
        broken[at] ^= 1
        try:
            found = read_head(bytes(broken), None)
        except RenewalObjectError:
            continue
        # what the reader lets pass is inside the token: its signature is judged with every record
        assert found.round.token != known.head.round.token
        assert found.manifest == known.head.manifest


@settings(max_examples=60)
@given(data=st.binary(max_size=200))
def test_junk_is_no_object(data):
    with pytest.raises(RenewalObjectError):
        read_span(data)
    with pytest.raises(RenewalObjectError):
        read_head(data, None)


@settings(max_examples=60)
@given(count=st.integers(1, 40), at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_span_is_read_back_and_a_flip_changes_its_root_or_is_refused(count, at, bit):
    tree = SpanTree([new_hash("sha512", b"%d" % number).digest() for number in range(count)], "sha512")
    data = write_span(5, 4 + count, tree)
    first, last, found = read_span(data)
    assert (first, last, found.root) == (5, 4 + count, tree.root)
    broken = bytearray(data)
    broken[at % len(data)] ^= 1 << bit
    try:
        assert read_span(bytes(broken)) is not None
    except RenewalObjectError:
        return
    first, last, other = read_span(bytes(broken))
    assert (first, last, other.root) != (5, 4 + count, tree.root)
