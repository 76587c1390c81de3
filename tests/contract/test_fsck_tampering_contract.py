"""fsck finds what somebody with the database in hand changed: rows taken out, columns rewritten."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from evidence.model.records import EvidenceKind
from kephs.domain.lifecycle import DeliveryState, MessageState
from storage.fsck.check import FindingCode
from storage.unit_of_work import SqliteStore
from tests.support.fsck_world import NOBODY, World, inbox
from tests.support.stores import T0, after, item, open_store


@pytest.fixture
async def world(store: Any) -> World:
    return await World(store).build()


@pytest.fixture
async def on_disk(tmp_path: Path, template: Path) -> AsyncIterator[World]:
    async with open_store("sqlite", tmp_path, template) as store:
        assert isinstance(store, SqliteStore)
        yield await World(store).build()


# Rows that are gone.


async def test_evidence_and_deliveries_whose_message_is_gone_are_found(world: World) -> None:
    world.drop("messages", "m1")
    assert await world.found() == {
        *(("evidence.without_message", name) for name in ("e10", "e40", "e41", "e60")),
        ("delivery.without_message", "d1"),
        ("delivery.without_message", "d2"),
    }


async def test_evidence_whose_refused_message_is_gone_is_found(world: World) -> None:
    world.drop("messages", "m2")
    assert await world.found() == {("evidence.without_message", "e11")}


async def test_the_bytes_of_evidence_without_a_message_are_checked_all_the_same(world: World) -> None:
    world.drop("messages", "m2")
    await world.blobs.erase(world.rows["e11"])
    assert ("evidence.content_missing", "e11") in await world.found()


async def test_an_account_without_its_holder_is_found(world: World) -> None:
    world.drop("operators", "o2")
    assert await world.found() == {("account.without_holder", "a2")}


async def test_an_operator_who_is_no_longer_marked_as_holder_is_found(world: World) -> None:
    world.change("operators", "o1", is_holder=False)
    assert await world.found() == {("account.without_holder", "a1")}


async def test_the_account_of_a_message_or_a_delivery_being_gone_is_found(world: World) -> None:
    world.drop("accounts", "a1")
    world.drop("accounts", "a2")
    assert await world.found() == {
        *(("message.without_account", name) for name in ("m1", "m2", "m3")),
        ("delivery.other_account", "d1"),
        ("delivery.other_account", "d3"),
    }


async def test_a_standard_folder_that_is_gone_is_found(world: World) -> None:
    world.drop("folders", 3)
    assert await world.found() == {("account.without_folder", "a1")}


async def test_an_evidence_gone_from_rows_and_ledger_is_found_by_its_delivery(world: World) -> None:
    world.drop("evidence", "e60")
    world.drop("ledger", 4)
    assert ("delivery.without_evidence", "d1") in await world.found()


# What the signed XML says against the rows.


@pytest.mark.parametrize(
    ("table", "key", "columns", "evidence_id", "told"),
    [
        ("evidence", "e60", {"kind": EvidenceKind.NON_RETRIEVAL}, "e60", "kind 60"),
        ("evidence", "e10b", {"evidence_id": "e10c"}, "e10c", "evidence id"),
        ("evidence", "e11", {"message_id": "m3"}, "e11", "message id"),
        ("evidence", "e40", {"event_time": after(1.001)}, "e40", "event time"),
        ("evidence", "e40", {"number": 2}, "e40", "recipient's number"),
        ("evidence", "e40", {"account_id": "a2"}, "e40", "sender's account"),
        ("deliveries", "d1", {"address": NOBODY}, "e40", "recipient's address"),
        ("deliveries", "d2", {"address": "ayse.yilmaz@hs91.kep.tr"}, "e41", "recipient's address"),
        ("messages", "m2", {"digest_sha256": bytes(32)}, "e11", "digest of the original"),
        ("messages", "m1", {"user_message_id": "<other@client>"}, "e40", "Message-ID"),
        ("messages", "m1", {"user_message_id": None}, "e40", "Message-ID"),
        ("messages", "m1", {"submitted_at": T0 + timedelta(milliseconds=1)}, "e60", "submission time"),
    ],
)
async def test_a_row_that_says_otherwise_than_the_signed_evidence_is_found(
    world: World, table: str, key: str, columns: dict[str, Any], evidence_id: str, told: str
) -> None:
    world.change(table, key, **columns)
    findings = await world.check()
    details = {f.subject: f.detail for f in findings if f.code is FindingCode.EVIDENCE_OTHER_FACTS}
    assert told in details[evidence_id].split(", ")


async def test_evidence_whose_row_names_another_evidences_bytes_is_found(world: World) -> None:
    world.change("evidence", "e40", blob=world.rows["e60"].sha256)
    found = await world.found()
    assert {("evidence.other_facts", "e40"), ("ledger.other_digest", "2")} <= found


async def test_a_time_changed_by_less_than_the_xml_shows_is_found_by_the_ledger(world: World) -> None:
    world.change("evidence", "e10", event_time=T0 + timedelta(microseconds=1))
    assert await world.found() == {("ledger.other_time", "1")}


async def test_a_recipient_who_is_not_the_messages_is_found_before_any_evidence_names_them(
    world: World,
) -> None:
    world.change("deliveries", "d3", address=NOBODY)
    assert await world.found() == {("delivery.other_recipient", "d3"), ("delivery.other_account", "d3")}


async def test_a_delivery_moved_to_another_account_is_found(world: World) -> None:
    world.change("deliveries", "d1", account_id="a1")
    assert await world.found() == {("delivery.other_account", "d1"), ("item.other_account", "7:1")}


async def test_a_delivery_decided_at_another_time_than_its_evidence_is_found(world: World) -> None:
    world.change("deliveries", "d2", decided_at=after(5))
    assert await world.found() == {("delivery.other_time", "d2")}


async def test_a_read_gate_opened_without_evidence_60_is_found(world: World) -> None:
    world.drop("evidence", "e60")
    world.change("deliveries", "d1", state=DeliveryState.DELIVERED)  # read_evidence_id, the gate, stays set
    assert ("delivery.evidence_early", "d1") in await world.found()


# Items and states.


async def test_an_item_whose_content_is_not_the_kep_message_is_found(world: World) -> None:
    world.change("items", 7, 1, sha256=world.rows["m1"].sha256)
    assert await world.found() == {("item.other_content", "7:1")}


async def test_an_item_of_a_delivery_that_does_not_exist_is_found(on_disk: World) -> None:
    on_disk.change("items", 7, 1, delivery_id="nothing")
    assert await on_disk.found() == {("item.without_delivery", "7:1"), ("delivery.not_filed", "d1")}


async def test_an_item_whose_content_no_row_names_is_found(on_disk: World) -> None:
    on_disk.sql("DELETE FROM blobs WHERE sha256 = ?", on_disk.rows["dispatch"].sha256)
    assert await on_disk.found() == {("item.content_missing", "7:1"), ("blobs.orphaned", "")}


async def test_a_completed_message_without_its_kep_message_is_found(world: World) -> None:
    world.change("messages", "m1", dispatch=None)
    assert await world.found() == {("message.without_dispatch", "m1")}


async def test_an_accepted_message_with_nothing_pending_and_nothing_due_is_found(world: World) -> None:
    world.change("messages", "m1", state=MessageState.ACCEPTED)
    (finding,) = await world.check()
    assert (finding.code, finding.subject) == (FindingCode.MESSAGE_STUCK, "m1")
    assert "nothing is pending" in finding.detail


async def test_an_accepted_message_with_work_due_is_sound_although_all_is_decided(world: World) -> None:
    world.change("messages", "m1", state=MessageState.ACCEPTED, next_at=T0)
    assert await world.found() == set()


# Rows that cannot be read: told of, and the check goes on.


@pytest.mark.parametrize(
    ("statement", "subject", "follows"),
    [
        ("UPDATE messages SET personal = zeroblob(60) WHERE message_id = 'm1'", "messages:m1", ()),
        ("UPDATE messages SET state = 'foo' WHERE message_id = 'm1'", "messages:m1", ()),
        ("UPDATE messages SET submitted_at = 'noon' WHERE message_id = 'm2'", "messages:m2", ()),
        (
            "UPDATE deliveries SET state = 'foo' WHERE delivery_id = 'd2'",
            "deliveries:d2",
            {("evidence.without_delivery", "e41"), ("message.without_delivery", "m1")},
        ),
        (
            "UPDATE evidence SET kind = 99 WHERE evidence_id = 'e11'",
            "evidence:e11",
            {("message.without_evidence", "m2")},
        ),
        (
            "UPDATE evidence SET event_time = 9223372036854775807 WHERE evidence_id = 'e11'",
            "evidence:e11",
            {("message.without_evidence", "m2")},
        ),
        ("UPDATE accounts SET personal = x'00' WHERE account_id = 'a2'", "accounts:a2", ()),
        (
            "UPDATE operators SET personal = zeroblob(60) WHERE operator_id = 'o2'",
            "operators:o2",
            {("account.without_holder", "a2")},
        ),
        ("UPDATE app_passwords SET label = x'00' WHERE account_id = 'a2'", "app_passwords:a2", ()),
        (
            "UPDATE folders SET role = 'foo' WHERE folder_id = 8",
            "folders:a2",
            (),
        ),
        ("UPDATE items SET received_at = 'noon' WHERE folder_id = 7", "items:7", ()),
        (
            "UPDATE blobs SET message_index = x'00' WHERE sha256 IN (SELECT dispatch FROM messages)",
            "items:7:1",
            (),
        ),
    ],
)
async def test_a_row_that_cannot_be_read_is_found_and_the_check_goes_on(
    on_disk: World, statement: str, subject: str, follows: Any
) -> None:
    on_disk.sql(statement)
    on_disk.sql("UPDATE accounts SET used_bytes = 77 WHERE account_id = 'a1'")
    on_disk.sql("UPDATE messages SET next_at = NULL WHERE message_id = 'm3'")
    assert await on_disk.found() == {
        ("row.unreadable", subject),
        ("account.usage", "a1"),
        ("message.stuck", "m3"),
        *follows,
    }


async def test_one_item_that_cannot_be_read_does_not_hide_the_others(on_disk: World) -> None:
    def copy(tx: Any) -> None:
        tx.mailboxes.append(inbox(tx), item(b"m1"))
        tx.mailboxes.append(inbox(tx), item(b"m3", delivery_id="d1", received_at=after(1)))

    await on_disk.store.write(copy)
    on_disk.sql("UPDATE blobs SET message_index = zeroblob(60) WHERE sha256 = ?", on_disk.rows["m1"].sha256)
    assert await on_disk.found() == {
        ("row.unreadable", "items:2:1"),
        ("row.unreadable", "items:7:2"),
        ("item.other_content", "7:3"),
    }


async def test_an_entry_of_the_ledger_that_cannot_be_read_is_found(on_disk: World) -> None:
    on_disk.sql("UPDATE ledger SET at = 'noon' WHERE seq = 3")
    found = await on_disk.found()
    assert {("row.unreadable", "ledger:3"), ("ledger.gap", "3")} <= found
    assert ("evidence.not_in_ledger", "e41") in found


async def test_a_digest_of_another_length_breaks_the_ledger_and_not_the_check(on_disk: World) -> None:
    on_disk.sql("UPDATE ledger SET digest = x'00' WHERE seq = 3")
    assert {("ledger.broken", "3"), ("ledger.other_digest", "3")} <= await on_disk.found()


async def test_a_recipients_number_that_is_none_is_found(on_disk: World) -> None:
    on_disk.sql("UPDATE deliveries SET number = 'two' WHERE delivery_id = 'd2'")
    assert ("row.unreadable", "messages:m1") in await on_disk.found()


# Proofs of time.


async def test_evidence_whose_record_was_taken_away_is_found(on_disk: World) -> None:
    on_disk.change("evidence", "e40", proof=None, stamp=None)
    assert await on_disk.found() == {("evidence.without_proof", "e40")}


async def test_evidence_with_the_record_of_another_is_found(on_disk: World) -> None:
    on_disk.sql(
        "UPDATE evidence SET (proof, stamp) = (SELECT proof, stamp FROM evidence WHERE evidence_id = 'e60')"
        " WHERE evidence_id = 'e40'"
    )
    assert await on_disk.found() == {("evidence.proof_broken", "e40")}


async def test_a_token_that_was_altered_is_found_at_every_evidence_of_its_batch(on_disk: World) -> None:
    on_disk.sql(
        "UPDATE time_stamps SET token = (SELECT token FROM time_stamps AS other"
        " WHERE other.sha256 <> time_stamps.sha256 LIMIT 1)"
        " WHERE sha256 = (SELECT stamp FROM evidence WHERE evidence_id = 'e40')"
    )
    assert ("evidence.proof_broken", "e40") in await on_disk.found()


async def test_evidence_that_waits_for_its_stamp_is_told_and_is_no_fault(on_disk: World) -> None:
    on_disk.change("evidence", "e40", proof=None, stamp=None, unstamped=True)
    findings = await on_disk.check()
    assert [(one.code.value, one.harmless) for one in findings] == [("evidence.unstamped", True)]
