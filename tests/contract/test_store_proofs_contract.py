"""Every store keeps evidence records as they came, and what a bundle was sealed with."""

from dataclasses import replace
from typing import Any

import pytest

from evidence.model.records import EvidenceKind
from kephs.domain.lifecycle import MessageState
from kephs.domain.mailboxes import FolderRole
from storage.errors import ConflictError
from tests.support.proofs import proof_over, proofs_over
from tests.support.stores import blob, evidence, item, with_message


async def test_a_record_comes_back_exactly_as_it_was_added(store: Any) -> None:
    first, second = proofs_over([b"one", b"two"])
    single = proof_over(b"three")

    def fill(tx: Any) -> None:
        with_message(tx)
        for number, ers in enumerate((first, second, single), 1):
            tx.evidence.add(evidence(f"e{number}", EvidenceKind.DELIVERY, number=number), ers)

    await store.write(fill)
    found = await store.read(lambda tx: [tx.evidence.ers(f"e{number}") for number in (1, 2, 3, 4)])
    assert found == [first, second, single, None]


async def test_evidence_stamped_inside_has_no_record(store: Any) -> None:
    await store.write(lambda tx: (with_message(tx), tx.evidence.add(evidence())))
    assert await store.read(lambda tx: tx.evidence.ers("e1")) is None


async def test_what_was_released_unstamped_gets_its_record_once(store: Any) -> None:
    early, late = proofs_over([b"x", b"y"])
    await store.write(lambda tx: (with_message(tx), tx.evidence.add(replace(evidence(), unstamped=True))))
    assert (await store.read(lambda tx: tx.evidence.get("e1"))).unstamped
    assert await store.write(lambda tx: tx.evidence.set_ers("e1", early))
    assert not await store.write(lambda tx: tx.evidence.set_ers("e1", late))
    row, ers = await store.read(lambda tx: (tx.evidence.get("e1"), tx.evidence.ers("e1")))
    assert (row.unstamped, ers) == (False, early)


async def test_evidence_that_has_its_stamp_gets_no_other(store: Any) -> None:
    mine, other = proofs_over([b"x", b"y"])
    await store.write(lambda tx: (with_message(tx), tx.evidence.add(evidence(), mine)))
    assert not await store.write(lambda tx: tx.evidence.set_ers("e1", other))
    assert await store.read(lambda tx: tx.evidence.ers("e1")) == mine


async def test_what_a_bundle_was_sealed_with_is_kept_and_replaced(store: Any) -> None:
    await store.write(with_message)
    assert await store.read(lambda tx: tx.evidence.appendix("m1")) is None
    for inputs in (b"a" * 32, b"b" * 32):
        await store.write(lambda tx, inputs=inputs: tx.evidence.set_appendix("m1", inputs, inputs * 9))
    assert await store.read(lambda tx: tx.evidence.appendix("m1")) == (b"b" * 32, b"b" * 288)
    with pytest.raises(ConflictError):
        await store.write(lambda tx: tx.evidence.set_appendix("nobody", bytes(32), b""))


async def test_every_ledger_entry_has_a_salt_of_its_own(store: Any) -> None:
    def fill(tx: Any) -> list[Any]:
        with_message(tx)
        kinds = EvidenceKind.DELIVERY
        return [tx.evidence.add(evidence(f"e{n}", kinds, number=n)) for n in (1, 2)]

    made = await store.write(fill)
    kept = await store.read(lambda tx: tx.evidence.ledger(0, 10))
    assert kept == made
    assert len({entry.salt for entry in kept}) == 2
    assert {len(entry.salt) for entry in kept} == {32}


async def test_the_kep_message_stays_as_long_as_somebody_has_its_original(store: Any) -> None:
    """Its bundle holds both, also where no mailbox here has the KEP message."""

    def fill(tx: Any) -> None:
        with_message(tx)
        for content in (b"m1", b"kep"):
            tx.blobs.add(blob(content))
        folder = tx.mailboxes.by_role("a1", FolderRole.SENT)
        tx.mailboxes.append(folder.folder_id, item(b"m1"))
        tx.messages.name_dispatches({"m1": blob(b"kep").sha256})
        tx.messages.set_states(("m1",), MessageState.COMPLETED)

    def drop(tx: Any) -> None:
        folder = tx.mailboxes.by_role("a1", FolderRole.SENT)
        tx.mailboxes.remove(folder.folder_id, [1])

    async def released() -> set[bytes]:
        found = set()
        while gone := await store.write(lambda tx: tx.blobs.release_unused(10)):
            found |= {one.sha256 for one in gone}
        return found

    await store.write(fill)
    assert blob(b"kep").sha256 not in await released()
    await store.write(drop)
    assert {blob(b"m1").sha256, blob(b"kep").sha256} <= await released()
