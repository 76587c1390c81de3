"""The contract of `kephs.ports.Store`: what is written for several messages at once is as if one by one."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evidence.ledger.chain import check_run
from evidence.model.records import EvidenceKind
from kephs.domain.lifecycle import DeliveryState, MessageState
from kephs.domain.mailboxes import FolderRole
from kephs.domain.messages import StoredEvidence
from kephs.ports import DuplicateEvidenceError, Ending, Filing, Tx
from tests.support.stores import (
    T0,
    account,
    after,
    blob,
    delivery,
    evidence,
    item,
    message,
    release,
    with_account,
    with_message,
)

SEEN = frozenset({"\\Seen"})


def with_messages(tx: Tx) -> None:
    """Have messages m1 to m3, each with a pending delivery, and content for six evidences."""
    with_message(tx)
    for number in (2, 3):
        tx.messages.add(message(f"m{number}"))
        tx.deliveries.add(delivery(f"d{number}", f"m{number}"))
    for number in range(4, 7):
        tx.blobs.add(blob(f"e{number}".encode()))


def delivered(number: int, **changes: object) -> StoredEvidence:
    """Return an evidence 40 of message m1 to m3."""
    message_id = f"m{number}"
    return evidence(f"e{number}", EvidenceKind.DELIVERY, message_id, 1, **changes)


def ending(number: int, evidence_id: str) -> Ending:
    return Ending(f"d{number}", DeliveryState.DELIVERED, evidence_id, after(1), "a1")


async def test_content_named_together_is_named_once_and_keeps_what_it_has(store: Any) -> None:
    await store.write(lambda tx: tx.blobs.add(blob(b"old", "m:1"), b"index"))
    together = [(blob(b"new"), b"of new"), (blob(b"old", "m:2"), b"other"), (blob(b"new", "m:3"), None)]
    await store.write(lambda tx: tx.blobs.add_all(together))
    digests = [blob(b"new").sha256, blob(b"old").sha256, blob(b"none").sha256]
    found = await store.read(lambda tx: tx.blobs.get_all(digests))
    assert found == {digests[0]: blob(b"new"), digests[1]: blob(b"old", "m:1")}
    assert await store.read(lambda tx: [tx.blobs.index(digest) for digest in digests[:2]]) == [
        b"of new",
        b"index",
    ]
    assert await store.read(lambda tx: tx.blobs.get_all([])) == {}


async def test_content_named_together_and_never_used_is_released(store: Any) -> None:
    contents = [(blob(bytes([n])), None) for n in range(5)]
    await store.write(lambda tx: tx.blobs.add_all(contents))
    await store.write(lambda tx: tx.blobs.add_all([*contents, (blob(b"\x05"), None)]))
    gone = await store.write(release)
    assert {one.sha256 for one in gone} == {blob(bytes([n])).sha256 for n in range(6)}


async def test_evidence_stored_together_continues_the_chain_in_its_order(store: Any) -> None:
    await store.write(with_messages)
    first = await store.write(lambda tx: tx.evidence.add(evidence("e4")))
    rows = [delivered(2), delivered(1, receipt_due=after(3)), delivered(3, event_time=after(1))]
    await store.write(lambda tx: tx.evidence.add_all([(row, None) for row in rows]))
    await store.write(lambda tx: tx.evidence.add_all([]))
    entries = await store.read(lambda tx: tx.evidence.ledger(0, 10))
    assert [entry.evidence_id for entry in entries] == ["e4", "e2", "e1", "e3"]
    assert check_run(entries) is None
    assert entries[0] == first
    found = await store.read(lambda tx: tx.evidence.of_messages(["m1", "m3", "m9"]))
    assert found == {"m1": [evidence("e4"), rows[1]], "m3": [rows[2]], "m9": []}


@pytest.mark.parametrize(
    ("taken", "named"),
    [
        (evidence("e5", EvidenceKind.DELIVERY, "m1", 1), "e5"),  # the event has its evidence
        (evidence("e1", EvidenceKind.RETRIEVAL, "m2", 1), "e1"),  # the id is taken
        (delivered(3), "e3"),  # the same twice
    ],
    ids=["event", "id", "twice"],
)
async def test_evidence_that_cannot_be_stored_is_named_and_nothing_is_stored(
    store: Any, taken: StoredEvidence, named: str
) -> None:
    await store.write(with_messages)
    await store.write(lambda tx: tx.evidence.add(delivered(1)))
    rows = [(delivered(2), None), (delivered(3), None), (taken, None)]
    with pytest.raises(DuplicateEvidenceError) as raised:
        await store.write(lambda tx: tx.evidence.add_all(rows))
    assert raised.value.args == (named,)
    assert await store.read(lambda tx: tx.evidence.get("e2")) is None
    assert len(await store.read(lambda tx: tx.evidence.ledger(0, 10))) == 1


async def test_deliveries_decided_together_are_decided_once(store: Any) -> None:
    await store.write(with_messages)
    assert await store.write(lambda tx: tx.deliveries.decide_all([])) == set()
    both = [ending(1, "e1"), ending(2, "e2")]
    assert await store.write(lambda tx: tx.deliveries.decide_all(both)) == {"d1", "d2"}
    # also where the same work runs again: it says what it changed, not what stands
    more = [*both, ending(3, "e3"), ending(9, "e9")]
    assert await store.write(lambda tx: tx.deliveries.decide_all(more)) == {"d3"}
    found = await store.read(lambda tx: tx.deliveries.of_messages(["m2", "m3", "m9"]))
    assert [one.evidence_id for one in (*found["m2"], *found["m3"])] == ["e2", "e3"]
    assert found["m2"][0].state is DeliveryState.DELIVERED
    assert found["m2"][0].decided_at == after(1)
    assert found["m9"] == []


async def test_receipts_ended_together_are_those_that_were_due(store: Any) -> None:
    await store.write(with_messages)
    due = [delivered(1, receipt_due=T0), delivered(2, receipt_due=T0), delivered(3)]
    await store.write(lambda tx: tx.evidence.add_all([(row, None) for row in due]))
    await store.write(lambda tx: tx.evidence.claim_receipts(T0, 1, after(60), "n1"))
    assert await store.write(lambda tx: tx.evidence.end_receipts(["e1", "e3", "e9"])) == {"e1"}
    assert await store.write(lambda tx: tx.evidence.end_receipts(["e1"])) == set()
    assert await store.read(lambda tx: tx.evidence.get("e1")) == delivered(1)
    await store.write(lambda tx: tx.evidence.take_over("n1", after(1)))
    assert await store.read(lambda tx: tx.evidence.next_due()) == T0  # of e2


async def test_the_first_kep_message_named_stands_among_those_named_together(store: Any) -> None:
    await store.write(with_messages)
    kept = {f"m{n}": blob(f"kep {n}".encode()) for n in (1, 2, 3)}

    def name(tx: Tx) -> None:
        tx.blobs.add_all([(one, None) for one in kept.values()])
        assert tx.messages.name_dispatches({"m2": kept["m2"].sha256})

    await store.write(name)
    late = {"m1": kept["m1"].sha256, "m2": kept["m3"].sha256}
    assert await store.write(lambda tx: tx.messages.name_dispatches(late)) == {"m1"}
    assert await store.write(lambda tx: tx.messages.name_dispatches({})) == set()
    found = await store.read(lambda tx: tx.messages.dispatches(["m1", "m2", "m3", "m9"]))
    assert found == {"m1": kept["m1"], "m2": kept["m2"]}
    with pytest.raises(KeyError):
        await store.write(lambda tx: tx.messages.name_dispatches({"m3": bytes(32), "m9": bytes(32)}))
    assert set(await store.write(release)) & set(kept.values()) == {kept["m3"]}


async def test_states_are_read_and_changed_together(store: Any) -> None:
    await store.write(with_messages)
    await store.write(lambda tx: tx.messages.due("m2", T0, 1))
    await store.write(lambda tx: tx.messages.set_states(["m1", "m2"], MessageState.COMPLETED))
    states = await store.read(lambda tx: tx.messages.states(["m1", "m2", "m3", "m9"]))
    assert states == {
        "m1": MessageState.COMPLETED,
        "m2": MessageState.COMPLETED,
        "m3": MessageState.ACCEPTED,
    }
    assert await store.read(lambda tx: tx.messages.next_due()) is None
    with pytest.raises(KeyError):
        await store.write(lambda tx: tx.messages.set_states(["m3", "m9"], MessageState.COMPLETED))
    assert await store.read(lambda tx: tx.messages.states(("m3",)).get("m3")) is MessageState.ACCEPTED


def _two_accounts(tx: Tx) -> None:
    with_account(tx)
    for other in ("a2", "b1", "b2"):
        tx.accounts.add(account(other, f"{other}@hs91.kep.tr"))
        tx.mailboxes.create_standard(other, 7)


_FILINGS = st.lists(
    st.tuples(
        st.sampled_from(["1", "2"]),
        st.sampled_from([FolderRole.INBOX, FolderRole.SENT, FolderRole.EVIDENCE]),
        st.builds(
            item,
            flags=st.sampled_from([frozenset(), SEEN]),
            size=st.integers(0, 9),
            counts_for_quota=st.booleans(),
        ),
    ),
    max_size=12,
)


@given(filings=_FILINGS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_filing_together_is_as_filing_one_by_one(store: Any, filings: list[Any]) -> None:
    if await store.read(lambda tx: tx.accounts.get("b2")) is None:
        await store.write(_two_accounts)

    def work(tx: Tx) -> tuple[Any, Any]:
        one_by_one = [tx.mailboxes.file(f"a{who}", role, one) for who, role, one in filings]
        together = tx.mailboxes.file_all([Filing(f"b{who}", role, one) for who, role, one in filings])
        return one_by_one, together

    one_by_one, together = await store.write(work)
    assert together == one_by_one
    mine, others = await store.read(lambda tx: [_mailboxes(tx, whose) for whose in "ab"])
    assert mine == others


def _mailboxes(tx: Tx, whose: str) -> list[Any]:
    found: list[Any] = []
    for account_id in (f"{whose}1", f"{whose}2"):
        owner = tx.accounts.get(account_id)
        found.append(owner and owner.used_bytes)
        for folder in tx.mailboxes.folders(account_id):
            counters = (folder.uid_next, folder.modseq, folder.messages, folder.unseen)
            found.append((counters, tx.mailboxes.summaries(folder.folder_id)))
    return found


async def test_one_folder_that_is_missing_stops_all_that_is_filed_together(store: Any) -> None:
    await store.write(with_account)
    filings = [Filing("a1", FolderRole.SENT, item()), Filing("nobody", FolderRole.SENT, item())]
    with pytest.raises(KeyError):
        await store.write(lambda tx: tx.mailboxes.file_all(filings))
    assert (await store.read(lambda tx: tx.mailboxes.by_role("a1", FolderRole.SENT))).messages == 0
    assert await store.write(lambda tx: tx.mailboxes.file_all([])) == []
