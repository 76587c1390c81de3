"""Several messages that are delivered together end as each would alone."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from evidence.model.records import EvidenceKind
from kephs.domain.lifecycle import DeliveryState, MessageState
from kephs.domain.mailboxes import FolderRole
from kephs.domain.messages import Submission
from kephs.ports import Blob, BlobMissingError, StoreUnavailableError, Tx
from kephs.usecases.delivery.deliver import CHUNK
from kephs.usecases.sized import HERE_MAX
from tests.support.pki import ayse
from tests.support.world import AYSE, KURUM, MEHMET, World, compose, new_world, signed

NOBODY = "kimse@hs91.kep.tr"
LETTERS = ((MEHMET,), (MEHMET, KURUM), (MEHMET, NOBODY), (NOBODY,))


async def sent(world: World, to: tuple[str, ...], number: int, *, size: int = 0) -> Submission:
    """Submit a letter; return it as the worker claims it."""
    letter = compose(to=to, message_id=f"<{number}@t>") + b"satir\r\n" * (size // 7)
    accepted = await world.send(await signed(letter, ayse()), to=to)
    found = await world.store.read(lambda tx: tx.messages.get(accepted.message_id))
    assert found is not None
    return found


async def ended(world: World, messages: list[Submission]) -> None:
    """Check that every message is complete, with one evidence and one receipt for each of its events."""

    def look(tx: Tx) -> None:
        for message in messages:
            now = tx.messages.get(message.message_id)
            assert now is not None
            assert (now.state, now.next_at) == (MessageState.COMPLETED, None)
            made = Counter(one.kind for one in tx.evidence.of_message(message.message_id))
            deliveries = tx.deliveries.of_message(message.message_id)
            states = Counter(one.state for one in deliveries)
            assert (
                made
                == Counter(
                    {
                        EvidenceKind.SUBMISSION_ACCEPTANCE: 1,
                        EvidenceKind.DELIVERY: states[DeliveryState.DELIVERED],
                        EvidenceKind.NON_DELIVERY: states[DeliveryState.FAILED],
                    }
                )
                - Counter()
            )
            assert states.total() == len(message.recipients)
            assert all(one.receipt_due is None for one in tx.evidence.of_message(message.message_id))

    await world.store.read(look)


async def test_messages_delivered_together_have_the_evidence_and_receipts_of_their_own_events() -> None:
    world = await new_world()
    messages = [await sent(world, to, number) for number, to in enumerate(LETTERS)]
    await world.deliver.deliver_all(messages)
    await ended(world, messages)
    assert await world.count(MEHMET, FolderRole.INBOX) == 3
    assert await world.count(KURUM, FolderRole.INBOX) == 1
    assert await world.count(AYSE, FolderRole.EVIDENCE) == 4 + sum(map(len, LETTERS))


async def test_together_they_ask_the_signer_three_times_however_many_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await new_world()
    messages = [await sent(world, to, number) for number, to in enumerate(LETTERS)]
    asked: list[str] = []
    for name in ("seal_many", "sign_entities"):
        real = getattr(world.sealer, name)

        async def counted(*given, of=real, called=name, **form):
            asked.append(called)
            return await of(*given, **form)

        monkeypatch.setattr(world.sealer, name, counted)
    await world.deliver.deliver_all(messages)
    assert asked == ["sign_entities", "seal_many", "sign_entities"]


async def test_small_messages_become_durable_with_the_evidence_and_receipts_about_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await new_world()
    messages = [await sent(world, to, number) for number, to in enumerate(LETTERS)]
    asked: list[int] = []
    real = world.blobs.put_many

    async def counted(contents: Sequence[bytes]) -> list[Blob]:
        asked.append(len(contents))
        return await real(contents)

    monkeypatch.setattr(world.blobs, "put_many", counted)
    await world.deliver.deliver_all(messages)
    events = sum(map(len, LETTERS))
    assert asked == [len(messages) + events + len(messages) + events]  # and a receipt of each acceptance
    await ended(world, messages)


async def test_a_disk_that_takes_nothing_leaves_a_group_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await new_world()
    messages = [await sent(world, (MEHMET,), number) for number in range(2)]

    async def full(_contents: Sequence[bytes]) -> list[Blob]:
        raise StoreUnavailableError("the disk does not take content")

    with monkeypatch.context() as patched:
        patched.setattr(world.blobs, "put_many", full)
        with pytest.raises(StoreUnavailableError):
            await world.deliver.deliver_all(messages)
    for message in messages:
        assert await world.store.read(lambda tx, of=message: tx.messages.get(of.message_id)) == message
    await world.deliver.deliver_all(messages)
    await ended(world, messages)


async def test_delivering_together_what_was_delivered_already_changes_nothing() -> None:
    world = await new_world()
    messages = [await sent(world, to, number) for number, to in enumerate(LETTERS)]
    await world.deliver.deliver(messages[1])
    await world.deliver.deliver_all(messages)
    await world.deliver.deliver_all(messages)
    await ended(world, messages)


async def test_of_two_workers_that_decide_the_same_deliveries_one_evidence_item_and_receipt_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await new_world()
    messages = [await sent(world, to, number) for number, to in enumerate(LETTERS)]
    both, real = asyncio.Barrier(2), world.blobs.put_many

    async def after_both_have_looked(contents: Sequence[bytes]) -> list[Blob]:
        await both.wait()
        return await real(contents)

    monkeypatch.setattr(world.blobs, "put_many", after_both_have_looked)
    await asyncio.gather(world.deliver.deliver_all(messages), world.deliver.deliver_all(messages[1:3]))
    await ended(world, messages)
    assert await world.count(MEHMET, FolderRole.INBOX) == 3
    assert await world.count(KURUM, FolderRole.INBOX) == 1
    assert await world.count(AYSE, FolderRole.EVIDENCE) == 4 + sum(map(len, LETTERS))


async def test_a_message_whose_content_is_gone_holds_up_no_other_of_its_group() -> None:
    world = await new_world()
    messages = [await sent(world, (MEHMET,), number) for number in range(3)]
    world.dispatches.kept.fresh._letters.put(messages[1].digest_sha256, None)  # type: ignore[arg-type]
    found = await world.store.read(lambda tx: tx.blobs.get(messages[1].digest_sha256))
    assert found is not None
    await world.blobs.erase(found)
    with pytest.raises(BlobMissingError):
        await world.deliver.deliver_all(messages)
    await world.work()
    await ended(world, [messages[0], messages[2]])
    assert await world.count(MEHMET, FolderRole.INBOX) == 2


async def test_a_large_message_is_delivered_alone() -> None:
    world = await new_world()
    small = [await sent(world, (MEHMET,), number) for number in range(2)]
    large = await sent(world, (MEHMET,), 2, size=2 * HERE_MAX)
    assert large.size > HERE_MAX
    groups: list[int] = []
    deliver = replace(world.deliver, sealer=_Counting(world.sealer, groups))
    await deliver.deliver_all([large, *small])
    assert groups == [2, 1]
    await ended(world, [*small, large])


async def test_no_transaction_decides_more_than_a_chunk_however_many_recipients_a_group_has() -> None:
    world = await new_world()
    many = tuple(f"kimse.{number}@hs91.kep.tr" for number in range(2 * CHUNK // 5))
    messages = [await sent(world, many, number) for number in range(3)]
    groups: list[int] = []
    await replace(world.deliver, sealer=_Counting(world.sealer, groups)).deliver_all(messages)
    assert groups == [2 * len(many), len(many)]
    await ended(world, messages)


class _Counting:
    """The provider's sealer, and how many records it was given at once."""

    def __init__(self, inner, groups: list[int]) -> None:
        self._inner, self._groups = inner, groups

    async def seal_many(self, records, **form):
        """Seal, and note how many."""
        self._groups.append(len(records))
        return await self._inner.seal_many(records, **form)
