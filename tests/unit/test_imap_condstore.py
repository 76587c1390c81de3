"""Modification numbers (RFC 7162) and extended SEARCH answers (RFC 4731)."""

import re

import pytest

from directory.accounts import ALL_RIGHTS
from tests.support.imap_world import Client, World, build_world, notice


async def world_of(count: int) -> World:
    world = await build_world()
    for number in range(1, count + 1):
        await world.file(notice(f"s{number}"))
    return world


async def modseqs(client: Client) -> dict[int, int]:
    found = re.findall(rb"\* (\d+) FETCH \(MODSEQ \((\d+)\)", await client.say("FETCH 1:* MODSEQ"))
    return {int(number): int(modseq) for number, modseq in found}


async def test_every_change_raises_the_number_of_the_message_and_the_highest():
    client = await (await world_of(3)).client()
    before = await modseqs(client)
    assert len(set(before.values())) == 3
    await client.say(r"STORE 2 +FLAGS.SILENT (\Seen)")
    after = await modseqs(client)
    assert after[2] > max(before.values())
    assert (after[1], after[3]) == (before[1], before[3])
    assert b"HIGHESTMODSEQ %d)" % after[2] in await client.say("STATUS INBOX (HIGHESTMODSEQ)")
    assert b"* OK [HIGHESTMODSEQ %d]" % after[2] in await client.say("SELECT INBOX")


@pytest.mark.parametrize(
    "command",
    [
        "ENABLE CONDSTORE",
        "STATUS Giden (HIGHESTMODSEQ)",
        "FETCH 1 (MODSEQ)",
        "FETCH 1 FLAGS (CHANGEDSINCE 1)",
        r"STORE 1 (UNCHANGEDSINCE 1) +FLAGS (\Answered)",
        "SEARCH MODSEQ 1",
    ],
)
async def test_who_asks_once_hears_the_numbers_from_then_on(command: str):
    world = await world_of(1)
    client, other = await world.client(), await world.client()
    await other.say(r"STORE 1 +FLAGS (\Flagged)")
    assert b"MODSEQ" not in await client.say("NOOP")
    assert b"* OK [HIGHESTMODSEQ " in await client.say(command)
    assert b"[HIGHESTMODSEQ" not in await client.say("FETCH 1 (MODSEQ)")
    await other.say(r"STORE 1 +FLAGS (\Draft)")
    assert re.search(rb"\* 1 FETCH \(FLAGS \([^)]*\) MODSEQ \(\d+\)\)", await client.say("NOOP"))
    assert re.search(rb"FLAGS \([^)]*\) MODSEQ \(\d+\)", await client.say(r"STORE 1 -FLAGS (\Draft)"))


async def test_select_with_the_parameter_enables_it_for_good():
    world = await world_of(1)
    client, other = await world.client(None), await world.client()
    await client.say("SELECT INBOX (CONDSTORE)")
    await client.say("SELECT INBOX")
    await other.say(r"STORE 1 +FLAGS (\Flagged)")
    assert b"MODSEQ (" in await client.say("NOOP")
    shown = await client.say("FETCH 1 BODY[]")
    assert shown.startswith(rb"* 1 FETCH (FLAGS (\Flagged \Seen) BODY[] {")
    assert b" MODSEQ (" in shown, "the change of \\Seen is told with its number"


async def test_only_what_changed_since_is_fetched():
    client = await (await world_of(4)).client()
    highest = max((await modseqs(client)).values())
    assert await client.say(f"FETCH 1:* FLAGS (CHANGEDSINCE {highest})") == b"t4 OK Done\r\n"
    await client.say(r"STORE 2,4 +FLAGS.SILENT (\Seen)")
    answer = await client.say(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {highest})")
    assert re.findall(rb"\* (\d) FETCH \(UID \d FLAGS \(\\Seen\) MODSEQ \(\d+\)\)", answer) == [b"2", b"4"]


async def test_a_conditional_store_leaves_alone_what_others_changed():
    world = await world_of(3)
    one, two = await world.client(), await world.client()
    known = max((await modseqs(one)).values())
    await two.say(r"STORE 2 +FLAGS (\Answered)")
    answer = await one.say(rf"STORE 1:3 (UNCHANGEDSINCE {known}) +FLAGS.SILENT (\Flagged)")
    assert b"OK [MODIFIED 2] " in answer
    assert rb"* 2 FETCH (FLAGS (\Answered) MODSEQ (" in answer
    assert re.search(rb"\* 1 FETCH \(MODSEQ \(\d+\)\)", answer), "silence covers flags, not numbers"
    assert [await world.flags(uid) for uid in (1, 2, 3)] == [{"\\Flagged"}, {"\\Answered"}, {"\\Flagged"}]
    answer = await one.say(rf"UID STORE 1:3 (UNCHANGEDSINCE {known}) +FLAGS (\Draft)")
    assert b"OK [MODIFIED 1:3] " in answer, "its own changes count too"
    assert b"OK [MODIFIED 1:3]" in await one.say(r"STORE 1:3 (UNCHANGEDSINCE 0) FLAGS ()")


async def test_a_conditional_store_with_the_latest_number_is_done():
    client = await (await world_of(2)).client()
    highest = max((await modseqs(client)).values())
    answer = await client.say(rf"STORE 1:2 (UNCHANGEDSINCE {highest}) FLAGS (\Seen)")
    assert answer.count(rb"FLAGS (\Seen) MODSEQ (") == 2
    assert answer.endswith(b"OK Done\r\n")


async def test_search_for_modification_numbers_tells_the_highest():
    client = await (await world_of(3)).client()
    numbers = await modseqs(client)
    assert b"* SEARCH 2 3 (MODSEQ %d)\r\n" % numbers[3] in await client.say(f"SEARCH MODSEQ {numbers[2]}")
    assert b"* SEARCH\r\n" in await client.say(f"SEARCH MODSEQ {numbers[3] + 1}")
    answer = await client.say(f'SEARCH RETURN (MIN) MODSEQ "/flags/\\\\seen" all {numbers[2]}')
    assert b"MIN 2 MODSEQ %d\r\n" % numbers[2] in answer
    assert b"COUNT 2 MODSEQ %d\r\n" % numbers[3] in await client.say(
        f"SEARCH RETURN (MIN COUNT) MODSEQ {numbers[2]}"
    )


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("(MIN)", b"MIN 1"),
        ("(MAX)", b"MAX 6"),
        ("(MIN MAX COUNT)", b"MIN 1 MAX 6 COUNT 5"),
        ("()", b"ALL 1:3,5:6"),
        ("(ALL)", b"ALL 1:3,5:6"),
        ("(COUNT)", b"COUNT 5"),
    ],
)
async def test_extended_answers_tell_what_was_asked(asked: str, told: bytes):
    client = await (await world_of(6)).client()
    assert await client.say(f"SEARCH RETURN {asked} NOT 4") == (
        b'* ESEARCH (TAG "t3") %b\r\nt3 OK Done\r\n' % told
    )


async def test_extended_answers_about_nothing_tell_only_the_count():
    client = await (await world_of(1)).client()
    answer = await client.say("UID SEARCH RETURN (MIN MAX ALL COUNT) SEEN")
    assert answer == b'* ESEARCH (TAG "t3") UID COUNT 0\r\nt3 OK Done\r\n'
    assert b'* ESEARCH (TAG "t4") UID ALL 1\r\n' in await client.say("UID SEARCH RETURN () ALL")


async def test_what_is_announced_is_known():
    world = await build_world(rights=ALL_RIGHTS)
    client = await world.client()
    announced = (await client.say("CAPABILITY")).split(b"\r\n")[0].split()
    for name in (
        b"UIDPLUS", b"MOVE", b"ESEARCH", b"CONDSTORE", b"QUOTA", b"QUOTA=RES-STORAGE", b"ENABLE", b"UNSELECT",
        b"CHILDREN", b"STATUS=SIZE", b"BINARY", b"LITERAL-", b"IDLE", b"NAMESPACE", b"ID", b"APPENDLIMIT=146800640",
        b"UTF8=ACCEPT", b"PREVIEW", b"LIST-EXTENDED", b"LIST-STATUS", b"SPECIAL-USE",
    ):  # fmt: skip
        assert name in announced
    for name in (b"QRESYNC", b"MULTIAPPEND", b"CATENATE", b"SEARCHRES", b"ACL", b"THREAD", b"SORT"):
        assert name not in announced


async def test_selecting_another_folder_says_that_the_first_is_closed():
    client = await (await world_of(1)).client()
    assert (await client.say("SELECT Giden")).startswith(b"* OK [CLOSED] ")
    await client.say("UNSELECT")
    assert b"[CLOSED]" not in await client.say("SELECT Giden")
