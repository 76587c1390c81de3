"""fsck finds what does not hold between providers, and nothing in a store that is sound; over every store."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from evidence.model.records import EvidenceKind, MessageFacts, Party, Reason, ReasonCode
from kephs.domain.lifecycle import DeliveryState, MessageState, TransferState
from kephs.ports import Tx
from tests.support.evidence_samples import HS91
from tests.support.fsck_relay_world import DENIZ, ISSUERS, THIRD, RelayWorld, digest, told_at
from tests.support.fsck_world import VELI, archive, inbox
from tests.support.stores import PEER, T0, after, item, open_store, receipt, transfer

K, S, T = EvidenceKind, DeliveryState, TransferState
Expected = set[tuple[str, str]]


def id_of(value: object) -> str:
    """Name a case alike in every process: sets have no order of their own."""
    return str(sorted(value)) if isinstance(value, set) else str(value)


@pytest.fixture
async def world(store: Any) -> RelayWorld:
    return await RelayWorld(store).build()


async def test_a_sound_store_that_relays_has_no_findings(world: RelayWorld) -> None:
    counts: dict[str, int] = {}
    assert await world.check(deep=True, progress=counts.__setitem__) == []
    assert (counts["messages"], counts["transfers"]) == (10, 10)


async def test_what_a_peer_repeats_or_contradicts_is_no_damage(world: RelayWorld) -> None:
    await world.add("again", K.DELIVERY, "s1", 1, after(20), origin=PEER)
    await world.add("contrary", K.RELAY_REJECTION, "s1", 1, after(20), origin=PEER)
    await world.add("late", K.RELAY_ACCEPTANCE, "s4", None, after(20), origin=THIRD)
    await world.add("later", K.DELIVERY, "s4", 1, after(20), origin=THIRD)
    await world.add("refused after all", K.RELAY_REJECTION, "s2", 1, after(20), origin=PEER)
    assert await world.found() == set()


async def test_another_original_under_a_taken_id_is_refused_on_record(world: RelayWorld) -> None:
    other = replace(facts(world, "r3"), digest_sha256=digest("other"))
    await world.add("double", K.RELAY_REJECTION, "r3", says={"message": other, "sender": Party(DENIZ)})
    assert await world.found() == set()


async def test_spelling_that_a_peer_may_change_is_no_damage(world: RelayWorld) -> None:
    of = world.messages["s2"]
    spelt = {
        "recipients": tuple(Party(p.address.upper(), "Other") for p in of.parties),
        "sender": Party("AYSE@HS91.KEP.TR"),
        "submission_time": after(77),
        "message": replace(
            facts(world, "s2"), kep_message_id="s2@elsewhere.example", user_message_id=None, subject=""
        ),
    }
    await world.add("odd", K.RELAY_ACCEPTANCE, "s2", 1, after(5), origin=PEER, says=spelt)
    assert await world.found() == set()


def facts(world: RelayWorld, message_id: str) -> MessageFacts:
    of = world.messages[message_id]
    return MessageFacts(of.subject, of.user_message_id, of.message_id, of.digest_sha256)


async def test_a_refusal_names_recipients_as_the_peer_wrote_them(world: RelayWorld) -> None:
    of = world.messages["r2"]
    row = await world.told("r2-21", {"recipients": (Party("no address"), *of.parties)})
    await world.store.write(lambda tx: tx.blobs.add(world.rows["r2-21"]))
    world.change("evidence", "r2-21", blob=row.blob)
    found = {(f.code.value, f.detail) for f in await world.check()}
    assert found == {
        ("ledger.other_digest", "r2-21"),
        ("evidence.proof_broken", "the token stamps another root"),
    }


# Messages that peers relayed to us.


@pytest.mark.parametrize(
    ("table", "key", "columns", "expected"),
    [
        ("messages", "r1", {"dispatch": None}, {("message.without_dispatch", "r1")}),
        ("messages", "r1", {"account_id": "a1"}, {("message.without_account", "r1")}),
        (
            "messages",
            "r2",
            {"state": MessageState.COMPLETED},
            {("message.without_evidence", "r2"), ("message.without_dispatch", "r2")},
        ),
        ("messages", "r3", {"next_at": None}, {("message.stuck", "r3")}),
        ("messages", "r3", {"state": MessageState.COMPLETED}, {("message.completed_early", "r3")}),
        (
            "messages",
            "r3",
            {"state": MessageState.REFUSED},
            {
                ("message.without_evidence", "r3"),
                ("message.accepted_and_refused", "r3"),
                ("message.refused_with_deliveries", "r3"),
            },
        ),
        ("messages", "r3", {"origin": THIRD}, {("transfer.other_peer", "t-r3-20")}),
        (
            "messages",
            "s2",
            {"state": MessageState.COMPLETED},
            {("message.completed_early", "s2")},
        ),
        ("messages", "s2", {"next_at": None}, {("message.stuck", "s2")}),
        ("messages", "s1", {"state": MessageState.ACCEPTED}, None),
        ("messages", "s1", {"dispatch": None}, {("message.without_dispatch", "s1")}),
    ],
    ids=id_of,
)
async def test_a_message_whose_state_does_not_fit_is_found(
    world: RelayWorld, table: str, key: str, columns: dict[str, Any], expected: Expected | None
) -> None:
    world.change(table, key, **columns)
    found = await world.found()
    if expected is None:
        expected = {("message.stuck", key), ("message.content_missing", key)}
    assert {f for f in found if f[1] == key or f[0].startswith("transfer")} == expected


async def test_a_lost_20_or_21_of_ours_is_found(world: RelayWorld) -> None:
    world.drop("evidence", "r1-20")
    world.drop("evidence", "r1-21")
    found = [f.detail for f in await world.check() if f.code.value == "message.without_evidence"]
    assert found == ["recipient 1 without 20", "recipient 2 without 21", "completed with 0 of 20"]
    assert {("transfer.without_evidence", "t-r1-20"), ("transfer.without_evidence", "t-r1-21")} <= (
        await world.found()
    )


async def test_a_recipient_both_taken_and_refused_by_us_is_found(world: RelayWorld) -> None:
    await world.add("both", K.RELAY_REJECTION, "r1", 1)
    assert await world.found() == {("message.accepted_and_refused", "r1")}


@pytest.mark.parametrize("name", ["dispatch r3", "dispatch s2", "s2"])
async def test_content_lost_while_a_message_is_under_way_is_found(world: RelayWorld, name: str) -> None:
    await world.blobs.erase(world.rows[name])
    assert await world.found() == {("message.content_missing", name[-2:])}


async def test_content_altered_while_a_message_is_under_way_is_found_when_deep(world: RelayWorld) -> None:
    world.blobs._contents[world.rows["dispatch r3"].place] = b"dispatch r?"
    assert await world.found() == set()
    assert [f.code.value for f in await world.check(deep=True)] == ["message.content_missing"]


async def test_an_item_taken_out_from_under_the_read_gate_is_found(world: RelayWorld) -> None:
    world.change("items", 7, 2, delivery_id=None)
    assert await world.found() == {("item.ungated", "7:2"), ("delivery.not_filed", "d-r1-1")}


async def test_a_copy_outside_the_read_gate_is_found_while_the_message_is_unread(world: RelayWorld) -> None:
    await world.store.write(lambda tx: tx.mailboxes.append(archive(tx), item(b"dispatch r1")))
    assert await world.found() == {("item.ungated", "11:1")}


# Recipients of peers.


@pytest.mark.parametrize(
    ("key", "columns", "expected"),
    [
        ("d-s1-1", {"state": S.DELIVERED}, {("delivery.evidence_early", "d-s1-1")}),
        ("d-s1-1", {"read_evidence_id": None}, {("delivery.without_evidence", "d-s1-1")}),
        ("d-s1-1", {"read_evidence_id": "s1-40-1"}, {("delivery.without_evidence", "d-s1-1")}),
        ("d-s1-1", {"evidence_id": "s1-20-1"}, {("delivery.without_evidence", "d-s1-1")}),
        ("d-s1-1", {"evidence_id": None}, {("delivery.without_evidence", "d-s1-1")}),
        ("d-s1-1", {"decided_at": after(3)}, {("delivery.other_time", "d-s1-1")}),
        ("d-s1-2", {"state": S.FAILED}, {("delivery.without_evidence", "d-s1-2")}),
        ("d-s1-3", {"state": S.DELIVERED}, {("delivery.without_evidence", "d-s1-3")}),
        ("d-s1-4", {"state": S.FAILED}, {("delivery.without_evidence", "d-s1-4")}),
        ("d-s1-4", {"decided_at": after(8)}, {("delivery.other_time", "d-s1-4")}),
        ("d-s1-4", {"decided_at": None}, {("delivery.other_time", "d-s1-4")}),
        (
            "d-s1-4",
            {"state": S.PENDING, "evidence_id": None},
            {
                ("delivery.evidence_early", "d-s1-4"),
                ("message.completed_early", "s1"),
                ("transfer.other_state", "t-s1-3"),
            },
        ),
        (
            "d-s2-1",
            {"state": S.PENDING},
            {("delivery.evidence_early", "d-s2-1"), ("transfer.other_state", "t-s2-2")},
        ),
        ("d-s2-1", {"evidence_id": "s2-20"}, {("delivery.evidence_early", "d-s2-1")}),
        (
            "d-s2-2",
            {"state": S.RELAYED},
            {("delivery.without_evidence", "d-s2-2"), ("transfer.other_state", "t-s2-3")},
        ),
        (
            "d-s2-2",
            {"state": S.UNREACHED},
            {("delivery.without_evidence", "d-s2-2"), ("transfer.other_state", "t-s2-3")},
        ),
        ("d-s3-1", {"state": S.UNREACHED}, {("delivery.without_evidence", "d-s3-1")}),
        ("d-s4-1", {"address": f"other@{THIRD}"}, {("delivery.other_recipient", "d-s4-1")}),
        ("d-s2-3", {"state": S.RELAYED}, {("delivery.without_evidence", "d-s2-3")}),
        (
            "d-s2-3",
            {"peer": PEER, "account_id": None},
            {("delivery.other_peer", "d-s2-3"), ("transfer.other_state", "t-s2-2")},
        ),
        (
            "d-s2-2",
            {"peer": None},
            {("delivery.other_peer", "d-s2-2"), ("transfer.other_peer", "t-s2-3")},
        ),
    ],
    ids=id_of,
)
async def test_a_peers_recipient_whose_state_lacks_its_evidence_is_found(
    world: RelayWorld, key: str, columns: dict[str, Any], expected: Expected
) -> None:
    world.change("deliveries", key, **columns)
    assert await world.found() == expected


async def test_a_recipient_left_out_is_found(world: RelayWorld) -> None:
    world.drop("deliveries", "d-s2-2")
    assert await world.found() == {("message.without_delivery", "s2"), ("transfer.other_peer", "t-s2-3")}


async def test_a_peers_evidence_that_moved_nothing_is_found(world: RelayWorld) -> None:
    await world.add("e1", K.DELIVERY, "s2", 1, origin=PEER)
    await world.add("e2", K.RELAY_ACCEPTANCE, "s2", 2, origin=THIRD)
    await world.add("e3", K.RETRIEVAL, "s3", 1, origin=PEER)
    assert await world.found() == {
        ("delivery.evidence_early", f"d-{key}") for key in ("s2-1", "s2-2", "s3-1")
    }


async def test_an_end_that_we_told_beside_another_is_found(world: RelayWorld) -> None:
    await world.add("e1", K.RELAY_FAILURE, "s3", 1)  # 41 of ours stands
    await world.add("e2", K.NON_DELIVERY, "s1", 1)  # the peer's 40 stands
    assert await world.found() == {("delivery.contradicted", "d-s3-1"), ("delivery.contradicted", "d-s1-1")}


async def test_a_peers_recipient_in_one_of_our_mailboxes_is_found(world: RelayWorld) -> None:
    def file(tx: Tx) -> None:
        tx.mailboxes.append(inbox(tx), item(b"dispatch s2", delivery_id="d-s2-1"))

    await world.store.write(file)
    assert ("delivery.filed_early", "d-s2-1") in await world.found()


# Evidence.


async def test_evidence_that_is_not_its_makers_to_make_is_found(world: RelayWorld) -> None:
    for name, *about in (
        ("e1", K.SUBMISSION_ACCEPTANCE, "s1", None, T0, PEER),  # only we accept what is submitted here
        ("e2", K.RELAY_FAILURE, "s1", 1, T0, PEER),
        ("e3", K.DELIVERY, "s1", 4, T0, PEER),  # hs93 serves that one
        ("e4", K.DELIVERY, "s2", 3, T0, PEER),  # we do
        ("e5", K.DELIVERY, "r1", 1, T0, PEER),  # a peer about its own message
        ("e6", K.SUBMISSION_ACCEPTANCE, "r1"),
        ("e7", K.RELAY_ACCEPTANCE, "s4", 1),
        ("e8", K.RETRIEVAL, "s3", 1),
        ("e9", K.RELAY_ACCEPTANCE, "s2"),
        ("x1", K.SUBMISSION_ACCEPTANCE, "r3", None, T0, THIRD),  # only hs92 accepted that
        ("x2", K.SUBMISSION_ACCEPTANCE, "r2", None, T0, PEER),  # of what we turned away nothing is kept
        ("x3", K.RELAY_ACCEPTANCE, "r3", None, T0, PEER),  # only we say that of what is relayed to us
    ):
        await world.add(name, *about)
    found = {key for code, key in await world.found() if code == "evidence.other_maker"}
    assert found == {f"e{n}" for n in range(1, 10)} | {"x1", "x2", "x3"}


async def test_evidence_about_nobody_is_found(world: RelayWorld) -> None:
    await world.add("e1", K.DELIVERY, "s2", None, origin=PEER)
    await world.add("e2", K.RELAY_ACCEPTANCE, "r1", 3)
    assert {("evidence.without_delivery", "e1"), ("evidence.without_delivery", "e2")} <= await world.found()


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        ("s1-40-1", {"issuer": ISSUERS[THIRD]}, "issuer"),
        ("s1-40-1", {"issuer": HS91}, "issuer"),
        ("s1-31-4", {"issuer": ISSUERS[PEER]}, "issuer"),
        ("r3-20", {"issuer": ISSUERS[PEER]}, "issuer"),
        ("s3-41", {"reasons": (Reason(ReasonCode.UNKNOWN_RECIPIENT, "x"),)}, "reason"),
        ("s1-40-1", {"recipients": (Party(VELI),)}, "recipients"),
        ("s1-40-1", {"event_time": after(2) + timedelta(milliseconds=1)}, "event time"),
        ("s1-40-1", {"evidence_id": "other"}, "evidence id"),
        ("s1-40-1", {"refers_to": 2}, "recipient's number"),
        ("s3-20", {"kind": K.RELAY_REJECTION}, "kind 21"),
        ("r3-20", {"sender": Party(DENIZ)}, "sender's address"),
        ("r1-10", {"sender": Party(DENIZ)}, "sender's address"),
        ("r1-10", {"submission_time": told_at(1)}, "submission time"),
        ("r1-10", {"message": MessageFacts("x", None, "r3", bytes(32))}, "message id"),
        ("r1-10", {"message": MessageFacts("x", "<y@test>", "r1", bytes(32))}, "Message-ID"),
        ("r1-10", {"message": MessageFacts("x", None, "r1", bytes(32))}, "digest of the original"),
        ("r1-10", {"recipients": (Party(VELI),)}, "recipients"),
        ("r1-10", {"issuer": ISSUERS[THIRD]}, "issuer"),
    ],
    ids=id_of,
)
async def test_evidence_that_says_otherwise_than_the_rows_is_found(
    world: RelayWorld, name: str, changes: dict[str, Any], told: str
) -> None:
    row = await world.told(name, changes)
    await world.store.write(lambda tx: tx.blobs.add(world.rows[name]))
    world.change("evidence", name, blob=row.blob)
    details = {f.subject: f.detail for f in await world.check() if f.code.value == "evidence.other_facts"}
    assert told in details[name].split(", ")


async def test_a_digest_that_a_peers_evidence_does_not_have_is_found(world: RelayWorld) -> None:
    world.change("messages", "s3", digest_sha256=bytes(32))
    details = {f.subject: f.detail for f in await world.check() if f.code.value == "evidence.other_facts"}
    assert details == dict.fromkeys(("s3-10", "s3-20", "s3-41"), "digest of the original")


async def test_a_peers_evidence_passed_off_as_ours_is_found(world: RelayWorld) -> None:
    world.change("evidence", "s1-40-1", origin=None)
    assert {("evidence.other_maker", "s1-40-1"), ("delivery.without_evidence", "d-s1-1")} <= (
        await world.found()
    )


async def test_evidence_10_that_came_with_a_message_counts_for_its_own_kind_alone(world: RelayWorld) -> None:
    world.change("evidence", "r1-20", origin=PEER)  # taken by nobody of ours, whatever else stands there
    assert ("message.without_evidence", "r1") in await world.found()


async def test_evidence_10_of_a_peer_passed_off_as_ours_is_found(world: RelayWorld) -> None:
    world.change("evidence", "r1-10", origin=None)
    assert ("evidence.other_maker", "r1-10") in await world.found()


async def test_received_evidence_is_in_the_ledger_too(world: RelayWorld) -> None:
    entry = await world.store.read(lambda tx: tx.evidence.ledger_of("s1-60-1"))
    assert entry is not None
    world.drop("ledger", entry.number)
    assert ("evidence.not_in_ledger", "s1-60-1") in await world.found()


# Transfers.


async def test_a_peer_that_has_no_transfer_is_found(world: RelayWorld) -> None:
    world.drop("transfers", "t-s2-3")
    world.drop("transfers", "t-s4-3")
    assert await world.found() == {("transfer.missing", "s2"), ("transfer.missing", "s4")}


async def test_an_evidence_that_was_never_on_its_way_is_found(world: RelayWorld) -> None:
    world.drop("transfers", "t-r1-20")
    world.change("evidence", "r1-40", receipt_due=None)
    assert await world.found() == {
        ("evidence.without_receipt", "r1-20"),
        ("evidence.without_receipt", "r1-40"),
    }


@pytest.mark.parametrize("key", ["t-r1-21", "t-r3-20", "t-s2-2", "t-s2-3"])
async def test_a_transfer_that_nobody_works_on_is_found(world: RelayWorld, key: str) -> None:
    world.change("transfers", key, next_at=None)
    assert await world.found() == {("transfer.stuck", key)}


@pytest.mark.parametrize(
    ("key", "state"),
    [
        ("t-s1-2", T.QUEUED),
        ("t-s1-2", T.ANSWERED),
        ("t-s1-3", T.HELD),
        ("t-s2-2", T.HANDED),
        ("t-s2-2", T.DONE),
        ("t-s2-3", T.ANSWERED),
        ("t-s2-3", T.FAILED),
        ("t-r1-21", T.HANDED),
        ("t-r1-21", T.ANSWERED),
    ],
    ids=id_of,
)
async def test_a_transfer_that_is_elsewhere_than_its_recipients_is_found(
    world: RelayWorld, key: str, state: TransferState
) -> None:
    world.change("transfers", key, state=state, next_at=T0)
    assert await world.found() == {("transfer.other_state", key)}


@pytest.mark.parametrize("name", ["t-r1-21", "t-r2-21", "t-r3-20"])
async def test_a_receipt_whose_content_is_lost_or_altered_is_found(world: RelayWorld, name: str) -> None:
    world.blobs._contents[world.rows[name].place] = b"other!!"
    assert await world.found() == {("transfer.content_missing", name)}
    await world.blobs.erase(world.rows[name])
    assert await world.found() == {("transfer.content_missing", name)}


async def test_a_transfer_to_whom_it_does_not_concern_is_found(world: RelayWorld) -> None:
    def add(tx: Tx) -> None:
        for row in (
            transfer("x1", "r1"),  # relayed here, not from here
            transfer("x2", "s3", peer=THIRD),  # serves nobody
            receipt("x3", "s3-20", message_id="s3"),  # receipts never cause receipts
            receipt("x4", "nothing", message_id="r1", peer=THIRD),
        ):
            tx.transfers.add(replace(row, blob=world.rows["t-r1-21"].sha256 if row.blob else None))

    await world.store.write(add)
    assert await world.found() == {
        *(("transfer.other_peer", f"x{n}") for n in range(1, 5)),
        ("transfer.without_evidence", "x3"),
        ("transfer.without_evidence", "x4"),
    }


async def test_a_transfer_whose_message_is_gone_is_found(world: RelayWorld) -> None:
    world.drop("messages", "s4")
    assert await world.found() == {
        ("transfer.without_message", "t-s4-3"),
        ("delivery.without_message", "d-s4-1"),
        ("evidence.without_message", "s4-10"),
        ("evidence.without_message", "s4-31"),
    }


async def test_rows_that_cannot_be_read_are_found_and_the_check_goes_on(
    tmp_path: Path, template: Path
) -> None:
    async with open_store("sqlite", tmp_path, template) as store:
        world = await RelayWorld(store).build()
        world.sql("UPDATE transfers SET state = 'foo' WHERE transfer_id = 't-s1-2'")
        world.sql("UPDATE transfers SET deadline = 'noon' WHERE transfer_id = 't-r1-21'")
        world.sql("UPDATE transfers SET message_id = 'gone', kind = 'bar' WHERE transfer_id = 't-s4-3'")
        assert await world.found() == {
            ("row.unreadable", "transfers:t-s1-2"),
            ("row.unreadable", "transfers:t-r1-21"),
            ("row.unreadable", "transfers:t-s4-3"),
            ("transfer.missing", "s1"),
            ("transfer.missing", "s4"),
            ("evidence.without_receipt", "r1-21"),
        }
