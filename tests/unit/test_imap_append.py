"""APPEND: own messages come in as they are, spooled; the provider's own folders take none."""

import pytest

from directory.accounts import ALL_RIGHTS, Right
from kephs.domain.mailboxes import FolderRole
from kephs.domain.message_index import decode
from kephs.ports import StoreUnavailableError
from kephs.usecases.mailbox.mailbox import APPEND_MAX
from tests.support.imap_world import DISPATCH, PLAIN, Client, World, build_world, notice
from tests.support.stores import account, message


async def test_a_message_is_filed_as_it_came_with_flags_and_date():
    world = await build_world()
    client = await world.client(None)
    extra = r'(\Seen \Draft $x) "07-Feb-1994 21:52:25 -0800" '
    answer = await client.append("Taslaklar", DISPATCH, extra=extra)
    assert answer == b"t2 OK [APPENDUID 77 1] Appended\r\n"
    await client.say("SELECT Taslaklar")
    shown = await client.say("FETCH 1 (FLAGS INTERNALDATE BODY.PEEK[] BODYSTRUCTURE)")
    assert rb"FLAGS ($x \Draft \Seen)" in shown
    assert b'INTERNALDATE " 8-Feb-1994 05:52:25 +0000"' in shown
    assert b"BODY[] {%d}\r\n%b" % (len(DISPATCH), DISPATCH) in shown
    assert world.reader.asked == [], "what its owner brought has no gate"


async def test_the_content_index_is_stored_along():
    world = await build_world()
    client = await world.client(None)
    await client.append("Taslaklar", DISPATCH)

    def item(tx):
        folder = tx.mailboxes.by_role("a1", FolderRole.DRAFTS)
        return tx.mailboxes.items(folder.folder_id, [1])[0]

    assert decode((await world.store.read(item)).index).root.subtype == "signed"


async def test_a_message_without_being_asked_for():
    client = await (await build_world()).client(None)
    answer = await client.send(b"x APPEND Taslaklar {%d+}\r\n%b\r\ny NOOP\r\n" % (len(PLAIN), PLAIN))
    assert answer == b"x OK [APPENDUID 77 1] Appended\r\ny OK Done\r\n"


@pytest.mark.parametrize("cut", [1, 2, 7, 1000])
async def test_where_the_network_cuts_does_not_matter(cut: int):
    client = await (await build_world()).client(None)
    wire = b"x APPEND {9}\r\nTaslaklar (\\Seen) {%d}\r\n%b\r\n" % (len(PLAIN), PLAIN)
    answer = b"".join([await client.send(wire[at : at + cut]) for at in range(0, len(wire), cut)])
    assert answer == b"+ go on\r\n+ go on\r\nx OK [APPENDUID 77 1] Appended\r\n"
    await client.say("SELECT Taslaklar")
    assert PLAIN in await client.say("FETCH 1 BODY.PEEK[]")


async def test_a_long_message_goes_to_the_spool_in_pieces_and_is_never_held():
    world = await build_world()
    client = await world.client(None)
    content = notice("big", "0123456789abcdef" * 8192)
    await client.say(f"APPEND Taslaklar {{{len(content)}}}")
    for at in range(0, len(content), 5000):
        await client.send(content[at : at + 5000])
        assert not client.framer._buffer
    assert b"OK [APPENDUID" in await client.send(b"\r\n")
    await client.say("SELECT Taslaklar")
    assert content in await client.say("FETCH 1 BODY.PEEK[]")


@pytest.mark.parametrize(
    ("folder", "code"),
    [
        ("INBOX", b"CANNOT"),
        ("inbox", b"CANNOT"),
        ("Deliller", b"CANNOT"),
        ("nothing", b"TRYCREATE"),
        ("nothing/below", b"TRYCREATE"),
    ],
)
async def test_where_messages_cannot_be_filed_they_are_not_asked_for(folder: str, code: bytes):
    world = await build_world()
    client = await world.client(None)
    assert b"t2 NO [%b]" % code in await client.append(folder, PLAIN)
    wire = b"x APPEND %b {%d+}\r\n%b\r\ny NOOP\r\n" % (folder.encode(), len(PLAIN), PLAIN)
    answer = await client.send(wire)
    assert b"x NO [%b]" % code in answer
    assert answer.endswith(b"y OK Done\r\n")
    assert b"(MESSAGES 0)" in await client.say("STATUS Deliller (MESSAGES)")


async def test_too_big_or_empty_messages_are_not_asked_for():
    client = await (await build_world()).client(None)
    assert b"t2 NO [TOOBIG]" in await client.say(f"APPEND Taslaklar {{{APPEND_MAX + 1}}}")
    assert b"t3 NO [CANNOT]" in await client.say("APPEND Taslaklar {0}")
    assert b"t4 BAD" in await client.say("APPEND Taslaklar (\\Recent) {3}")
    assert b"t5 OK" in await client.say("NOOP")


async def test_a_second_message_in_one_command_is_bad_and_files_nothing():
    client = await (await build_world()).client(None)
    answer = await client.send(b"x APPEND Taslaklar {3+}\r\nabc {3+}\r\ndef\r\n")
    assert answer == b"x BAD one message at a time\r\n"
    assert b"(MESSAGES 0)" in await client.say("STATUS Taslaklar (MESSAGES)")


async def test_nul_octets_are_refused_also_in_binary_literals():
    client = await (await build_world()).client(None)
    for mark in (b"", b"~"):
        answer = await client.send(b"x APPEND Taslaklar %b{4+}\r\na\0bc\r\n" % mark)
        assert answer.startswith(b"x NO [UNKNOWN-CTE]")
    assert b"x OK" in await client.send(b"x APPEND Taslaklar ~{4+}\r\nabcd\r\n")


async def test_after_enabling_utf8_a_message_may_say_that_it_is():
    client = await (await build_world()).client(None)
    await client.say("ENABLE UTF8=ACCEPT")
    content = notice("ş")
    answer = await client.send('x APPEND "Çöp" UTF8 (~{%d}\r\n'.encode() % len(content) + content + b")\r\n")
    assert b"x OK [APPENDUID" in answer
    answer = await client.send('x APPEND "Çöp" UTF8 (~{%d}\r\n'.encode() % len(content) + content + b"\r\n")
    assert b"x BAD" in answer


async def world_with_quota(quota: int) -> World:
    world = await build_world()
    tables = world.store._tables
    tables.accounts._rows["a1"] = account(quota_bytes=quota)
    return world


async def test_over_quota_nothing_is_asked_for_and_nothing_filed():
    world = await world_with_quota(2 * len(PLAIN))
    client = await world.client(None)
    assert b" OK " in await client.append("Taslaklar", PLAIN)
    assert b"t3 NO [OVERQUOTA]" in await client.append("Taslaklar", PLAIN + b"more")
    assert b" OK " in await client.append("Taslaklar", PLAIN)
    assert b"NO [OVERQUOTA]" in await client.append("Taslaklar", b"x")


async def test_messages_that_are_still_coming_count_too():
    world = await world_with_quota(1000)
    one, two = await world.client(None), await world.client(None)
    assert b"+ go on" in await one.say("APPEND Taslaklar {600}")
    assert b"NO [OVERQUOTA]" in await two.say("APPEND Taslaklar {600}")
    await one.session.close()
    assert b"+ go on" in await two.say("APPEND Taslaklar {600}")
    await two.session.close()
    assert world.service.filing._coming == {}


async def test_a_connection_that_ends_in_the_middle_leaves_nothing():
    world = await build_world()
    client = await world.client(None)
    await client.say("APPEND Taslaklar {600}")
    await client.send(b"x" * 599)
    appending = client.session._append._appending
    await client.session.close()
    assert appending._spool._data == b""
    assert world.service.filing._coming == {}


async def test_a_full_disk_is_a_no_and_the_session_goes_on():
    world = await build_world()
    client = await world.client(None)
    await client.say("APPEND Taslaklar {6}")

    async def full(_data: bytes) -> None:
        raise StoreUnavailableError

    client.session._append._appending._spool.write = full
    await client.send(b"abc")
    assert await client.send(b"def\r\n") == b"t2 NO [UNAVAILABLE] Try again later\r\n"
    assert b" OK " in await client.say("NOOP")
    assert world.service.filing._coming == {}


@pytest.mark.parametrize(
    ("folder", "right"),
    [
        ("Taslaklar", Right.SEND),
        ("Giden", Right.SEND),
        ("Ar&AV8-iv", Right.ARCHIVE),
        ("&AMcA9g-p", Right.DELETE),
    ],
)
async def test_an_operator_files_only_with_the_right_to(folder: str, right: Right):
    without = await (await build_world(rights=ALL_RIGHTS & ~right)).client(None)
    assert b"NO [NOPERM]" in await without.append(folder, PLAIN)
    alone = await (await build_world(rights=right)).client(None)
    assert b" OK " in await alone.append(folder, PLAIN)


async def test_a_message_appended_to_the_open_folder_is_told_at_once():
    client = await (await build_world()).client("Taslaklar")
    assert await client.append("Taslaklar", PLAIN) == b"* 1 EXISTS\r\nt3 OK [APPENDUID 77 1] Appended\r\n"


# --- no doubling of what was sent -----------------------------------------------------------------------


async def sent(world: World, content: bytes, message_id: str) -> int:
    """File what the provider files in Giden when it accepts a message."""
    uid = await world.file(content, role=FolderRole.SENT, flags=frozenset({"\\Seen"}))

    def accept(tx):
        folder = tx.mailboxes.by_role("a1", FolderRole.SENT)
        digest = tx.mailboxes.items(folder.folder_id, [uid])[0].sha256
        tx.messages.add(message("m1", user_message_id=message_id, digest_sha256=digest))

    await world.store.write(accept)
    return uid


async def giden(client: Client) -> bytes:
    return await client.say("STATUS Giden (MESSAGES)")


async def test_a_copy_of_what_was_sent_is_answered_with_the_one_that_is_filed():
    world = await build_world()
    await world.file(PLAIN, role=FolderRole.SENT)
    uid = await sent(world, notice("konu"), "<konu@x>")
    client = await world.client(None)
    answer = await client.append(
        "Giden", notice("konu", "the client's own copy, unsigned"), extra="(\\Seen) "
    )
    assert answer == b"t2 OK [APPENDUID 77 %d] Filed already when it was accepted\r\n" % uid
    assert b"(MESSAGES 2)" in await giden(client)


async def test_elsewhere_or_after_it_was_removed_the_copy_is_filed():
    world = await build_world()
    uid = await sent(world, notice("konu"), "<konu@x>")
    client = await world.client(None)
    assert b"OK [APPENDUID 77 1] Appended" in await client.append("Taslaklar", notice("konu"))
    await client.say("SELECT Giden")
    await client.say(f"STORE {uid} +FLAGS (\\Deleted)")
    await client.say("EXPUNGE")
    assert b"OK [APPENDUID 77 2] Appended" in await client.append("Giden", notice("konu"))
    assert b"OK [APPENDUID 77 3] Appended" in await client.append("Giden", notice("another"))


async def test_a_copy_of_what_was_sent_needs_no_room():
    world = await world_with_quota(len(notice("konu")) + 10)
    uid = await sent(world, notice("konu"), "<konu@x>")
    client = await world.client(None)
    assert b"APPENDUID 77 %d" % uid in await client.append("Giden", notice("konu"))
    assert b"NO [OVERQUOTA]" in await client.append("Giden", notice("other"))
