"""COPY and MOVE: what goes where, what it is called there, and that the read gate goes along."""

import re

import pytest

from directory.accounts import ALL_RIGHTS, Right
from kephs.domain.mailboxes import FolderRole
from kephs.usecases.mailbox import filing
from tests.support.imap_world import DISPATCH, PLAIN, Client, World, build_world, notice
from tests.support.stores import account


async def world_of(count: int) -> World:
    world = await build_world()
    for number in range(1, count + 1):
        await world.file(notice(f"s{number}"))
    return world


async def test_copies_keep_flags_and_date_and_their_uids_are_told():
    world = await world_of(4)
    client = await world.client()
    await client.say(r"STORE 2 +FLAGS.SILENT (\Flagged $x)")
    date = re.search(rb'INTERNALDATE "[^"]*"', await client.say("FETCH 2 INTERNALDATE"))
    assert date is not None
    assert await client.say("COPY 2,4 Taslaklar") == b"t5 OK [COPYUID 77 2,4 1:2] Copied\r\n"
    assert b"COPYUID 77 1:4 3:6]" in await client.say("UID COPY 1:* Taslaklar")
    await client.say("SELECT Taslaklar")
    shown = await client.say("FETCH 1 (FLAGS INTERNALDATE)")
    assert rb"FLAGS ($x \Flagged)" in shown
    assert date[0] in shown


async def test_moved_messages_leave_and_the_new_uids_are_told_before():
    client = await (await world_of(4)).client()
    assert await client.say("MOVE 1,3 Ar&AV8-iv") == (
        b"* OK [COPYUID 77 1,3 1:2] moved\r\n* 3 EXPUNGE\r\n* 1 EXPUNGE\r\nt3 OK Moved\r\n"
    )
    assert b"* 1 EXPUNGE\r\nt4 OK" in await client.say("UID MOVE 2 &AMcA9g-p")
    assert b"* SEARCH 4\r\n" in await client.say("UID SEARCH ALL")
    assert b"(MESSAGES 2 UIDNEXT 3)" in await client.say("STATUS Ar&AV8-iv (MESSAGES UIDNEXT)")


@pytest.mark.parametrize("verb", ["COPY", "MOVE", "UID COPY", "UID MOVE"])
@pytest.mark.parametrize(
    ("target", "code"), [("INBOX", b"CANNOT"), ("Deliller", b"CANNOT"), ("nothing", b"TRYCREATE")]
)
async def test_nothing_goes_where_the_provider_files_or_nothing_is(verb: str, target: str, code: bytes):
    world = await world_of(2)
    client = await world.client()
    answer = await client.say(f"{verb} 1:* {target}")
    assert b"t3 NO [%b]" % code in answer
    assert b"EXPUNGE" not in answer.replace(b"EXPUNGEISSUED", b"")
    assert b"* SEARCH 1 2\r\n" in await client.say("UID SEARCH ALL")


async def test_evidence_may_be_moved_out_and_never_counts():
    world = await build_world()
    await world.file(notice("delil"), role=FolderRole.EVIDENCE)
    before = await world.service.tree.quota(world.person)
    client = await world.client("Deliller")
    assert b"OK Moved" in await client.say("MOVE 1 Ar&AV8-iv")
    assert await world.service.tree.quota(world.person) == before


async def test_a_copy_over_quota_copies_nothing_and_a_move_always_fits():
    world = await world_of(3)
    used = (await world.service.tree.quota(world.person)).used
    size = len(notice("s1"))
    world.store._tables.accounts._rows["a1"] = account(quota_bytes=used + size, used_bytes=used)
    client = await world.client()
    assert b"NO [OVERQUOTA]" in await client.say("COPY 1:2 Ar&AV8-iv")
    assert b"(MESSAGES 0)" in await client.say("STATUS Ar&AV8-iv (MESSAGES)")
    assert b" OK " in await client.say("COPY 1 Ar&AV8-iv")
    assert b"NO [OVERQUOTA]" in await client.say("COPY 1 Ar&AV8-iv")
    assert b" OK " in await client.say("MOVE 1:3 Ar&AV8-iv")
    assert (await world.service.tree.quota(world.person)).used == used + size


async def test_what_another_session_removed_is_not_copied_by_number_but_left_out_by_uid():
    world = await world_of(3)
    one, two = await world.client(), await world.client()
    await one.say(r"STORE 2 +FLAGS.SILENT (\Deleted)")
    await one.say("EXPUNGE")
    assert b"NO [EXPUNGEISSUED]" in await two.say("COPY 1:3 Ar&AV8-iv")
    assert b"(MESSAGES 0)" in await two.say("STATUS Ar&AV8-iv (MESSAGES)")
    assert b"[COPYUID 77 1,3 1:2]" in await two.say("UID COPY 1:3 Ar&AV8-iv")
    assert b"[COPYUID 77 1,3 1:2]" in await two.say("MOVE 1:2 &AMcA9g-p")


async def test_no_message_is_no_error():
    client = await (await world_of(1)).client()
    assert await client.say("UID COPY 99 Ar&AV8-iv") == b"t3 OK Nothing to copy\r\n"
    assert await client.say("UID MOVE 99 Ar&AV8-iv") == b"t4 OK Nothing to move\r\n"
    assert b" BAD " in await client.say("COPY 2 Ar&AV8-iv")


async def test_an_examined_folder_gives_copies_and_loses_nothing():
    client = await (await world_of(1)).client(None)
    await client.say("EXAMINE INBOX")
    assert b"NO [READ-ONLY]" in await client.say("MOVE 1 Ar&AV8-iv")
    assert b" OK " in await client.say("COPY 1 Ar&AV8-iv")


async def test_other_sessions_see_what_comes_and_goes():
    world = await world_of(2)
    mover, inbox, archive = await world.client(), await world.client(), await world.client("Ar&AV8-iv")
    await mover.say("MOVE 1 Ar&AV8-iv")
    for session in (inbox, archive):
        session.session.changed()
    assert b"* 1 EXPUNGE" in await inbox.say("NOOP")
    assert b"* 1 EXISTS" in await archive.say("NOOP")
    assert b"[COPYUID 77 1 2]" in await archive.say("COPY 1 Ar&AV8-iv"), "also into the open folder"
    assert b"* SEARCH 1 2" in await archive.say("UID SEARCH ALL")


async def test_a_long_move_is_done_in_pieces_and_a_long_copy_refused(monkeypatch: pytest.MonkeyPatch):
    world = await build_world()
    for _ in range(620):
        await world.file(b"Subject: x\r\n\r\n")
    client = await world.client()
    monkeypatch.setattr(filing, "COPY_MAX", 600)
    assert b"NO [LIMIT]" in await client.say("COPY 1:* Ar&AV8-iv")
    answer = await client.say("MOVE 1:* Ar&AV8-iv")
    assert answer.startswith(b"* OK [COPYUID 77 1:620 1:620] moved\r\n* 620 EXPUNGE\r\n")
    assert answer.count(b" EXPUNGE\r\n") == 620


@pytest.mark.parametrize("verb", ["COPY", "MOVE"])
async def test_an_operator_files_only_with_the_right_to(verb: str):
    for missing, allowed, refused in (
        (Right.ARCHIVE, "&AMcA9g-p", "Ar&AV8-iv"),
        (Right.DELETE, "Ar&AV8-iv", "&AMcA9g-p"),
    ):
        world = await build_world(rights=ALL_RIGHTS & ~missing)
        await world.file(PLAIN)
        client = await world.client()
        assert b"NO [NOPERM]" in await client.say(f"{verb} 1 {refused}")
        assert b" OK " in await client.say(f"{verb} 1 {allowed}")


# --- the read gate goes along ---------------------------------------------------------------------------


async def filed_unread(verb: str, target: str = "klasör") -> tuple[World, Client]:
    """Return a client in a folder of its own that holds one unread KEP message."""
    world = await build_world()
    await world.file(DISPATCH, gated=True)
    client = await world.client()
    await client.say(f'CREATE "{target}"')
    assert b" OK " in await client.say(f'{verb} 1 "{target}"')
    assert world.reader.asked == [], "to file a message is not to read it"
    await client.say(f'SELECT "{target}"')
    return world, client


CONTENT = [
    "BODY[]", "BODY.PEEK[]", "BODY.PEEK[TEXT]<0.1>", "BODY.PEEK[1.3.HEADER]", "RFC822", "RFC822.TEXT", "BINARY[2]",
    "BINARY.PEEK[1.1.1]", "BINARY.PEEK[1.1.1]<0.1>", "BINARY[]", "PREVIEW",
]  # fmt: skip
NO_CONTENT = [
    "FLAGS", "ENVELOPE", "BODYSTRUCTURE", "BODY.PEEK[HEADER]", "BODY.PEEK[1.MIME]", "RFC822.SIZE", "MODSEQ",
    "BINARY.SIZE[1.1.1]", "BINARY[9]", "BINARY.PEEK[1.1.1]<9999.1>", "PREVIEW (LAZY)", "(PREVIEW (LAZY) UID)",
]  # fmt: skip


@pytest.mark.parametrize("verb", ["COPY", "MOVE"])
@pytest.mark.parametrize("text", CONTENT)
async def test_content_of_a_filed_unread_message_makes_evidence_first(verb: str, text: str):
    world, client = await filed_unread(verb)
    assert b" OK " in await client.say(f"FETCH 1 {text}")
    assert world.reader.made == ["d1"]


@pytest.mark.parametrize("verb", ["COPY", "MOVE"])
@pytest.mark.parametrize("text", CONTENT)
async def test_without_evidence_nothing_of_a_filed_unread_message_is_shown(verb: str, text: str):
    world, client = await filed_unread(verb)
    world.reader.refuses = {"d1"}
    assert re.fullmatch(rb"t\d+ NO \[UNAVAILABLE\] [^\r\n]+\r\n", await client.say(f"FETCH 1 {text}"))


@pytest.mark.parametrize("verb", ["COPY", "MOVE"])
@pytest.mark.parametrize("text", NO_CONTENT)
async def test_what_shows_no_content_of_a_filed_message_makes_no_evidence(verb: str, text: str):
    world, client = await filed_unread(verb)
    assert b" OK " in await client.say(f"FETCH 1 {text}")
    assert world.reader.asked == []


@pytest.mark.parametrize("verb", ["COPY", "MOVE"])
async def test_search_sees_only_the_header_of_a_filed_unread_message(verb: str):
    world, client = await filed_unread(verb)
    assert b"* SEARCH\r\n" in await client.say("SEARCH TEXT Borcunuzu")
    assert b"* SEARCH\r\n" in await client.say("SEARCH BODY doldu")
    assert b"* SEARCH 1\r\n" in await client.say("SEARCH SUBJECT ihtar")
    assert b"COUNT 0" in await client.say("SEARCH RETURN (COUNT) BODY doldu")
    assert world.reader.asked == []
    await client.say("FETCH 1 BODY.PEEK[]")
    assert b"* SEARCH 1\r\n" in await client.say("SEARCH BODY doldu")


@pytest.mark.parametrize("first", ["INBOX", '"klasör"'])
async def test_a_copy_and_its_origin_are_one_reading(first: str):
    world, client = await filed_unread("COPY")
    await client.say(f"SELECT {first}")
    await client.say("FETCH 1 BODY.PEEK[]")
    for folder in ("INBOX", '"klasör"'):
        await client.say(f"SELECT {folder}")
        assert b"MIIC" in await client.say("FETCH 1 BODY.PEEK[]")
    assert world.reader.made == ["d1"]


async def test_without_the_right_to_read_a_filed_message_stays_closed():
    world = await build_world(rights=ALL_RIGHTS & ~Right.READ)
    await world.file(DISPATCH, gated=True)
    client = await world.client()
    assert b" OK " in await client.say("MOVE 1 Ar&AV8-iv")
    await client.say("SELECT Ar&AV8-iv")
    for text in CONTENT:
        assert b"NO [NOPERM]" in await client.say(f"FETCH 1 {text}")
    assert world.reader.asked == []


async def test_a_folder_takes_no_more_messages_than_sessions_can_hold(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(filing, "ITEMS_MAX", 3)
    client = await (await world_of(2)).client()
    assert b" OK " in await client.say("COPY 1:2 Ar&AV8-iv")
    assert b"NO [LIMIT]" in await client.say("COPY 1:2 Ar&AV8-iv")
    assert b" OK " in await client.append("Ar&AV8-iv", PLAIN)
    assert b"NO [LIMIT]" in await client.append("Ar&AV8-iv", PLAIN)
    assert b"NO [LIMIT]" in await client.say("MOVE 1 Ar&AV8-iv")
