"""Deletion is provable: what its owner deletes, or closing empties, is destroyed, on record, unless it is held."""

import io
import zipfile
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.bundle.destroyed import DestroyedContent, DestroyedFormError, DestroyedPart
from kephs.cli.proof.show import render, to_json
from kephs.domain.audit import AuditEntry
from kephs.domain.erasure import ContentPart
from kephs.ports import Tx
from kephs.usecases.ending.legal_hold import HoldFault, HoldRefusedError, LegalHolds
from kephs.usecases.mailbox.mailbox import MailboxService
from kephs.usecases.mailbox.places import Place
from kephs.usecases.proof.dossier import DossierContentGoneError
from kephs.usecases.proof.timeline import ShowTimeline
from kephs.usecases.submission.results import Accepted
from storage.fsck.scope import Scope
from storage.fsck.trust import check_trust
from tests.support.dossiers import maker
from tests.support.pki import ayse
from tests.support.world import AYSE, MEHMET, NOW, Inline, World, compose, new_world, signed
from tests.unit.test_bundle_making import check as check_bundle
from tests.unit.test_bundle_making import made, member, names

DELETED = frozenset({"\\Deleted"})


class Mailboxes:
    """A world after one delivered message, and hands that delete."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.service = MailboxService(
            store=world.store, blobs=world.blobs, reader=world.reader, changes=world.changes,
            offload=Inline(), clock=world.clock,
        )  # fmt: skip
        self.holds = LegalHolds(world.store, world.clock, world.register)

    async def build(self) -> "Mailboxes":
        sent = await self.world.send(await signed(compose(), ayse()))
        assert isinstance(sent, Accepted)
        await self.world.work()
        (self.message_id,) = await self.read(lambda tx: [one.message_id for one in tx.messages.all()])
        return self

    async def read(self, work: Any) -> Any:
        return await self.world.store.read(work)

    async def delete(self, address: str) -> int:
        """Delete all that somebody has, as a client does; return how many items."""
        person, count = await self.world.person(address), 0
        for folder in await self.service.folders(person):
            opened = await self.service.open(person, folder.name)
            assert opened is not None
            uids = {one.uid: one.flags for one in opened.summaries}
            place = Place(folder.folder_id, folder.name, opened.folder.modseq)
            await self.service.change_flags(person, place, uids, lambda flags: flags | DELETED)
            await self.service.expunge(person, place, uids)
            count += len(uids)
        return count

    async def tidy(self) -> None:
        for _ in range(4):
            await self.world.worker.round()

    async def kept(self) -> set[ContentPart]:
        """Return which content of the message is still there."""

        def look(tx: Tx) -> set[ContentPart]:
            message = tx.messages.get(self.message_id)
            parts = {ContentPart.ORIGINAL: message.digest_sha256, ContentPart.DISPATCH: message.dispatch}
            return {part for part, digest in parts.items() if tx.blobs.get(digest) is not None}

        return await self.read(look)

    async def entries(self, prefix: str) -> list[AuditEntry]:
        entries = await self.read(lambda tx: list(tx.audit.page(0, 1000)))
        return [one for one in entries if one.action.startswith(prefix)]

    async def found(self) -> set[str]:
        def run(tx: Any) -> set[str]:
            scope = Scope(tx, self.world.blobs, lambda _what, _count: None, deep=False)
            return {one.code.value for one in check_trust(scope)}

        return await self.read(run)


@pytest.fixture
async def boxes() -> Mailboxes:
    return await Mailboxes(await new_world()).build()


async def test_content_deleted_by_everybody_is_destroyed_and_the_record_names_who_and_what(
    boxes: Mailboxes,
) -> None:
    assert await boxes.delete(AYSE)
    await boxes.tidy()
    assert await boxes.kept() == {ContentPart.DISPATCH}  # Mehmet has it
    await boxes.delete(MEHMET)
    await boxes.tidy()
    assert await boxes.kept() == set()
    first, second = await boxes.entries("content.")
    message = await boxes.read(lambda tx: tx.messages.get(boxes.message_id))
    assert first.subject == second.subject == boxes.message_id
    assert (
        f"original sha256={message.digest_sha256.hex()} sha512={message.digest_sha512.hex()}" in first.detail
    )
    assert f"kep-message sha256={message.dispatch.hex()}" in second.detail
    ayse, mehmet = await boxes.world.person(AYSE), await boxes.world.person(MEHMET)
    assert (first.actor, second.actor) == (ayse.name, mehmet.name)
    assert f"owner {ayse.operator_id} of {AYSE}" in first.detail
    rows = await boxes.read(lambda tx: tx.erasures.destroyed(boxes.message_id))
    assert [(one.part, one.number) for one in rows] == [
        (ContentPart.ORIGINAL, first.number),
        (ContentPart.DISPATCH, second.number),
    ]
    assert await boxes.found() == set()
    evidence = await boxes.read(lambda tx: tx.evidence.of_message(boxes.message_id))
    assert evidence
    assert all([await boxes.read(lambda tx, one=one: tx.blobs.get(one.blob)) for one in evidence])


async def test_closing_an_account_empties_its_mailbox_and_says_who_closed_it(boxes: Mailboxes) -> None:
    await boxes.world.accounts.block(MEHMET)
    boxes.world.clock.at += timedelta(days=100)
    await boxes.world.accounts.close(MEHMET, actor="Ali Kaya")
    await boxes.delete(AYSE)
    await boxes.tidy()
    account = await boxes.read(lambda tx: tx.accounts.by_address(MEHMET))
    assert account.used_bytes == 0
    assert await boxes.read(lambda tx: sum(f.messages for f in tx.mailboxes.folders(account.account_id))) == 0
    assert await boxes.kept() == set()
    gone = {one.detail.split()[0]: one for one in await boxes.entries("content.")}
    assert gone["kep-message"].actor == "Ali Kaya"
    assert "closing - of " in gone["kep-message"].detail
    (erased,) = await boxes.entries("account.erased")
    assert (erased.actor, erased.subject) == ("Ali Kaya", MEHMET)
    assert await boxes.read(lambda tx: tx.erasures.pending()) is None


@pytest.mark.parametrize("of", ["message", "sender", "recipient"])
async def test_while_a_hold_stands_owners_delete_and_nothing_is_destroyed(boxes: Mailboxes, of: str) -> None:
    if of == "message":
        held = await boxes.holds.hold_message(boxes.message_id, "Ayşe Savcı", "2026/12 esas")
    else:
        address = AYSE if of == "sender" else MEHMET
        held = await boxes.holds.hold_account(address, "Ayşe Savcı", "2026/12 esas")
    await boxes.delete(AYSE)
    await boxes.delete(MEHMET)
    await boxes.tidy()
    assert await boxes.delete(AYSE) == 0  # the owner sees it deleted
    assert await boxes.kept() == set(ContentPart)
    assert await boxes.entries("content.") == []
    assert await boxes.found() == set()
    number = held.hold.number
    await boxes.holds.lift(number, "Ali Kaya", "dava bitti")
    with pytest.raises(HoldRefusedError, match="different person"):
        await boxes.holds.lift(number, "ALİ KAYA", "dava bitti")
    await boxes.tidy()
    assert await boxes.kept() == set(ContentPart)
    await boxes.holds.lift(number, "Veli Demir", "dava bitti")
    await boxes.tidy()
    assert await boxes.kept() == set()
    assert {one.actor for one in await boxes.entries("content.")} <= {
        (await boxes.world.person(who)).name for who in (AYSE, MEHMET)
    }
    actions = [(one.action, one.actor) for one in await boxes.entries("hold.")]
    assert actions == [
        ("hold.set", "Ayşe Savcı"),
        ("hold.lift-asked", "Ali Kaya"),
        ("hold.lifted", "Veli Demir"),
    ]
    assert await boxes.found() == set()


async def test_a_hold_stops_closing_from_destroying(boxes: Mailboxes) -> None:
    await boxes.holds.hold_account(MEHMET, "Ayşe Savcı", "2026/12 esas")
    await boxes.world.accounts.block(MEHMET)
    boxes.world.clock.at += timedelta(days=100)
    await boxes.world.accounts.close(MEHMET)
    await boxes.delete(AYSE)
    await boxes.tidy()
    assert await boxes.kept() == set(ContentPart)
    assert await boxes.entries("account.erased")


async def test_a_hold_is_refused_where_there_is_nothing_to_hold_or_nobody_answers_for_it(
    boxes: Mailboxes,
) -> None:
    holds = boxes.holds
    for step, fault in (
        (holds.hold_message("none@hs91.kep.tr", "Ayşe", "esas"), HoldFault.NO_SUCH_MESSAGE),
        (holds.hold_account("kimse@hs91.kep.tr", "Ayşe", "esas"), HoldFault.NO_SUCH_ACCOUNT),
        (holds.hold_account("İ", "Ayşe", "esas"), HoldFault.NO_SUCH_ACCOUNT),
        (holds.hold_account(AYSE, " ", "esas"), HoldFault.STEP),
        (holds.hold_account(AYSE, "Ayşe", " "), HoldFault.STEP),
        (holds.lift(7, "Ayşe", "esas"), HoldFault.NO_SUCH_HOLD),
    ):
        with pytest.raises(HoldRefusedError) as refused:
            await step
        assert refused.value.fault is fault
    await boxes.delete(AYSE)
    await boxes.delete(MEHMET)
    await boxes.tidy()
    with pytest.raises(HoldRefusedError, match="nothing is left"):
        await holds.hold_message(boxes.message_id, "Ayşe", "esas")
    assert await boxes.entries("hold.") == []


async def test_content_destroyed_while_a_hold_stood_and_rows_nobody_recorded_are_found(
    boxes: Mailboxes,
) -> None:
    await boxes.delete(AYSE)
    await boxes.delete(MEHMET)
    await boxes.tidy()
    boxes.world.clock.at += timedelta(hours=1)
    held = await boxes.holds.hold_account(MEHMET, "Ayşe Savcı", "esas")
    assert await boxes.found() == set()
    tables = boxes.world.store._tables
    one = next(iter(tables.destroyed.values()))
    tables.holds.put(1, type(held.hold)(**{**_fields(held.hold), "set_at": one.at - timedelta(days=1)}))
    assert await boxes.found() == {"erasure.despite_hold"}
    tables.destroyed.drop(one.number)
    assert "erasure.unrecorded" in await boxes.found()
    tables.holds.drop(1)
    assert "hold.missing" in await boxes.found()


def _fields(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__dataclass_fields__}


async def test_show_says_what_was_destroyed_when_and_by_whom_and_that_evidence_stays(
    boxes: Mailboxes,
) -> None:
    world = boxes.world
    show = ShowTimeline(world.store, world.blobs, Inline(), world.clock, world.domain)
    await boxes.delete(AYSE)
    await boxes.tidy()
    halfway = await show.show(boxes.message_id)
    assert (halfway.content_kept, [one.part for one in halfway.destroyed]) == (True, [ContentPart.ORIGINAL])
    await boxes.delete(MEHMET)
    await boxes.tidy()
    timeline = await show.show(boxes.message_id)
    text = " ".join("\n".join(render(timeline)).replace("│", " ").split())
    assert "original message: destroyed on" in text
    assert "as its owner deleted it" in text
    assert "The content is gone; the evidence stays." in text
    plain = to_json(timeline)
    assert plain["content_kept"] is False
    assert [one["cause"] for one in plain["destroyed"]] == ["owner", "owner"]


async def test_a_bundle_of_destroyed_content_says_so_in_the_originals_place_and_its_evidence_verifies(
    boxes: Mailboxes,
) -> None:
    world = boxes.world
    await boxes.delete(AYSE)
    await boxes.delete(MEHMET)
    await boxes.tidy()
    data = await made(world, boxes.message_id)
    assert "ileti/original.eml" not in names(data)
    assert "ileti/dispatch.eml" not in names(data)
    statement = DestroyedContent.read(member(data, "ileti/imha.json"))
    message = await boxes.read(lambda tx: tx.messages.get(boxes.message_id))
    assert (statement.sha256, statement.sha512) == (message.digest_sha256, message.digest_sha512)
    entries = await boxes.entries("content.")
    assert [(one.record_number, one.record_sha256) for one in statement.parts] == [
        (one.number, one.digest) for one in entries
    ]
    report = check_bundle(world, data)
    assert report.passed, report.failing_step
    (step,) = [step for step in report.steps if step.name == "message"]
    assert (step.ok, "destroyed" in step.detail) == (None, True)
    assert await made(world, boxes.message_id) == data


async def test_nobody_can_put_the_statement_in_the_place_of_an_original_they_took_out(
    boxes: Mailboxes,
) -> None:
    world = boxes.world
    whole = await made(world, boxes.message_id)
    await boxes.delete(AYSE)
    await boxes.delete(MEHMET)
    await boxes.tidy()
    statement = member(await made(world, boxes.message_id), "ileti/imha.json")
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive, zipfile.ZipFile(out, "w") as other:
        for name in archive.namelist():
            if name != "ileti/original.eml":
                other.writestr(name, archive.read(name))
        other.writestr("ileti/imha.json", statement)
    assert not check_bundle(world, out.getvalue()).passed


@given(st.binary(max_size=60), st.integers(0, 400), st.integers(1, 255))
def test_any_other_spelling_of_a_statement_is_refused(noise: bytes, place: int, flip: int) -> None:
    one = DestroyedPart("original", b"\1" * 32, NOW, "owner", 7, b"\2" * 32)
    good = DestroyedContent("m@hs91.kep.tr", b"\1" * 32, b"\3" * 64, (one,))
    data = good.encode()
    assert DestroyedContent.read(data) == good
    place %= len(data)
    changed = data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :]
    for other in (noise, changed):
        with suppress(DestroyedFormError):
            assert DestroyedContent.read(other) != good


async def test_destroyed_content_has_no_dossier_and_the_refusal_says_why(boxes: Mailboxes) -> None:
    await boxes.delete(AYSE)
    await boxes.delete(MEHMET)
    await boxes.tidy()
    with pytest.raises(DossierContentGoneError):
        await maker(boxes.world).make(boxes.message_id)
