"""The session: what is allowed when, and what clients hear of each other."""

import base64
from typing import get_args

from kephs.domain.mailboxes import FolderRole
from kephs.imap.commands import Bare, Body, Verb
from kephs.imap.session import _BARE
from kephs.imap.states import AFTER_LOGIN, BODY_STATES, VERB_STATES
from tests.support.imap_world import ADDRESS, PASSWORD, PLAIN, Client, build_world, notice


def test_every_command_has_its_states():
    assert set(VERB_STATES) == set(Verb) == set(_BARE)
    assert set(BODY_STATES) == set(get_args(Body)) - {Bare}


async def test_before_login_only_login_is_possible():
    client = Client(await build_world())
    assert b"* CAPABILITY IMAP4rev1 LITERAL- SASL-IR AUTH=PLAIN ID\r\n" in await client.say("CAPABILITY")
    for command in (
        "SELECT INBOX",
        'LIST "" "*"',
        "FETCH 1 FLAGS",
        "IDLE",
        "NAMESPACE",
        "EXPUNGE",
        "CREATE x",
    ):
        assert b" BAD " in await client.say(command)


async def test_login_says_what_is_offered():
    client = Client(await build_world())
    answer = await client.say(f'LOGIN {ADDRESS} "{PASSWORD}"')
    assert answer == b"t1 OK [CAPABILITY %b APPENDLIMIT=146800640] Signed in\r\n" % AFTER_LOGIN
    assert b" BAD " in await client.say(f'LOGIN {ADDRESS} "{PASSWORD}"')


async def test_authenticate_plain_with_and_without_initial_response():
    secret = base64.b64encode(f"\0{ADDRESS}\0{PASSWORD}".encode())
    client = Client(await build_world())
    assert await client.say("AUTHENTICATE PLAIN") == b"+ \r\n"
    assert b"t1 OK" in await client.send(secret + b"\r\n")
    client = Client(await build_world())
    assert b"t1 OK" in await client.say(f"AUTHENTICATE PLAIN {secret.decode()}")
    client = Client(await build_world())
    await client.say("AUTHENTICATE PLAIN")
    assert await client.send(b"*\r\n") == b"t1 BAD Cancelled\r\n"
    await client.say("AUTHENTICATE PLAIN")
    assert b"t2 BAD" in await client.send(b"???\r\n")
    assert b"NO [AUTHORIZATIONFAILED]" in await client.say(
        "AUTHENTICATE PLAIN " + base64.b64encode(f"other\0{ADDRESS}\0{PASSWORD}".encode()).decode()
    )
    assert b" NO " in await client.say("AUTHENTICATE CRAM-MD5")
    assert b" BAD " in await client.say("AUTHENTICATE PLAIN " + base64.b64encode(b"only-one").decode())


async def test_the_third_wrong_password_ends_the_connection():
    client = Client(await build_world())
    for _ in range(2):
        assert b"NO [AUTHENTICATIONFAILED]" in await client.say(f"LOGIN {ADDRESS} wrong")
    assert (await client.say("LOGIN nobody@x wrong")).endswith(b"* BYE Too many tries\r\n")
    assert await client.say(f'LOGIN {ADDRESS} "{PASSWORD}"') == b""


async def test_select_tells_what_the_folder_holds():
    world = await build_world()
    await world.file(PLAIN, flags=frozenset({"\\Seen", "$Label1"}))
    await world.file(PLAIN)
    client = await world.client(None)
    assert await client.say("SELECT inbox") == (
        b"* FLAGS ($Label1 \\Answered \\Deleted \\Draft \\Flagged \\Seen)\r\n"
        b"* OK [PERMANENTFLAGS ($Label1 \\Answered \\Deleted \\Draft \\Flagged \\Seen \\*)] kept\r\n"
        b"* 2 EXISTS\r\n* 0 RECENT\r\n* OK [UNSEEN 2] first unseen\r\n* OK [UIDVALIDITY 77] valid\r\n"
        b"* OK [UIDNEXT 3] next\r\n* OK [HIGHESTMODSEQ 3] highest\r\nt2 OK [READ-WRITE] Open\r\n"
    )
    assert b"[READ-ONLY]" in await client.say("EXAMINE Giden")
    assert b" NO [NONEXISTENT]" in await client.say("SELECT nothing")
    assert b" BAD " in await client.say("FETCH 1 FLAGS"), "a failed SELECT leaves nothing selected"


async def test_folders_have_their_special_uses_and_turkish_names():
    client = await (await build_world()).client(None)
    answer = await client.say('LIST "" "*"')
    for line in (
        rb'* LIST (\HasNoChildren) "/" INBOX',
        rb'* LIST (\HasNoChildren \Sent) "/" Giden',
        rb'* LIST (\HasNoChildren \Drafts) "/" Taslaklar',
        rb'* LIST (\HasNoChildren) "/" Deliller',
        rb'* LIST (\HasNoChildren \Archive) "/" Ar&AV8-iv',
        rb'* LIST (\HasNoChildren \Trash) "/" &AMcA9g-p',
    ):
        assert line + b"\r\n" in answer
    assert b" OK " in await client.say("SELECT Ar&AV8-iv")
    assert b" OK " in await client.say("SUBSCRIBE Giden")
    assert b" OK " in await client.say("UNSUBSCRIBE Giden")
    assert b" NO " in await client.say("SUBSCRIBE x")
    assert (await client.say('LSUB "" "*"')).count(b"* LSUB ()") == 5
    assert b'* NAMESPACE (("" "/")) NIL NIL' in await client.say("NAMESPACE")


async def test_list_can_give_the_status_along():
    world = await build_world()
    await world.file(PLAIN)
    client = await world.client(None)
    answer = await client.say('LIST "" (INBOX Del%) RETURN (STATUS (MESSAGES UNSEEN) SUBSCRIBED)')
    assert answer == (
        b'* LIST (\\HasNoChildren \\Subscribed) "/" INBOX\r\n* STATUS INBOX (MESSAGES 1 UNSEEN 1)\r\n'
        b'* LIST (\\HasNoChildren \\Subscribed) "/" Deliller\r\n* STATUS Deliller (MESSAGES 0 UNSEEN 0)\r\n'
        b"t2 OK Listed\r\n"
    )
    only = await client.say('LIST (SPECIAL-USE) "" "*"')
    assert b"INBOX" not in only
    assert only.count(b"* LIST") == 4


async def test_store_tells_flags_unless_silent():
    world = await build_world()
    await world.file(PLAIN)
    client = await world.client()
    assert (
        await client.say(r"STORE 1 +FLAGS (\Seen $A)") == b"* 1 FETCH (FLAGS ($A \\Seen))\r\nt3 OK Done\r\n"
    )
    assert (
        await client.say(r"UID STORE 1 -FLAGS ($a)") == b"* 1 FETCH (FLAGS (\\Seen) UID 1)\r\nt4 OK Done\r\n"
    )
    assert await client.say(r"STORE 1 FLAGS.SILENT (\Flagged)") == b"t5 OK Done\r\n"
    assert await world.flags(1) == {"\\Flagged"}
    await client.say("STORE 1 FLAGS ()")
    assert await world.flags(1) == frozenset()
    many = " ".join(f"k{n}" for n in range(40))
    for letter in "ab":
        await client.say(f"STORE 1 +FLAGS ({many.replace('k', letter)})")
    assert b"NO [LIMIT]" in await client.say(f"STORE 1 +FLAGS ({many})")


async def test_fetching_a_body_marks_it_seen_and_says_so():
    world = await build_world()
    await world.file(PLAIN)
    client = await world.client()
    assert b"FLAGS" not in await client.say("FETCH 1 BODY.PEEK[]")
    answer = await client.say("FETCH 1 BODY[]")
    assert answer.startswith(b"* 1 FETCH (FLAGS (\\Seen) BODY[] {")
    assert b"FLAGS" not in await client.say("FETCH 1 BODY[]")
    assert await world.flags(1) == {"\\Seen"}


async def test_expunge_removes_what_is_marked_and_renumbers():
    world = await build_world()
    for _ in range(5):
        await world.file(PLAIN)
    client = await world.client()
    await client.say(r"STORE 2,4 +FLAGS.SILENT (\Deleted)")
    assert await client.say("EXPUNGE") == b"* 4 EXPUNGE\r\n* 2 EXPUNGE\r\nt4 OK Expunged\r\n"
    assert b"* SEARCH 1 3 5\r\n" in await client.say("UID SEARCH ALL")
    await client.say(r"STORE 1:* +FLAGS.SILENT (\Deleted)")
    assert await client.say("UID EXPUNGE 3") == b"* 2 EXPUNGE\r\nt7 OK Done\r\n"
    assert await client.say("CLOSE") == b"t8 OK Closed\r\n"
    assert b"* 0 EXISTS" in await client.say("SELECT INBOX")


async def test_unselect_removes_nothing():
    world = await build_world()
    await world.file(PLAIN, flags=frozenset({"\\Deleted"}))
    client = await world.client()
    assert b" OK " in await client.say("UNSELECT")
    assert await world.flags(1) == {"\\Deleted"}
    await client.say("EXAMINE INBOX")
    assert b" NO [READ-ONLY]" in await client.say("EXPUNGE")
    assert b" NO [READ-ONLY]" in await client.say(r"STORE 1 +FLAGS (\Seen)")
    assert b" OK " in await client.say("CLOSE")
    assert await world.flags(1) == {"\\Deleted"}


async def test_sessions_hear_of_each_other():
    world = await build_world()
    for _ in range(3):
        await world.file(PLAIN)
    one, two = await world.client(), await world.client()
    await one.say(r"STORE 1 +FLAGS (\Flagged)")
    assert b"* 1 FETCH (FLAGS (\\Flagged))\r\n" in await two.say("NOOP")
    await one.say(r"STORE 2 +FLAGS.SILENT (\Deleted)")
    await one.say("EXPUNGE")
    await world.file(PLAIN)
    two.session.changed()
    heard = await two.say("FETCH 1 FLAGS")
    assert b"* 4 EXISTS" in heard
    assert b"EXPUNGE" not in heard, "numbers must not change during FETCH"
    assert b"EXPUNGE" not in await two.say("SEARCH ALL")
    assert b"NO [EXPUNGEISSUED]" in await two.say("FETCH 2 BODY.PEEK[]")
    assert b" OK " in await two.say(r"STORE 2 +FLAGS (\Seen)")
    assert b"* 2 EXPUNGE\r\n" in await two.say("NOOP")
    assert b"* SEARCH 1 3 4\r\n" in await two.say("UID SEARCH ALL")


async def test_an_expunge_by_another_is_told_during_uid_commands():
    world = await build_world()
    for _ in range(3):
        await world.file(PLAIN)
    one, two = await world.client(), await world.client()
    await one.say(r"STORE 1 +FLAGS.SILENT (\Deleted)")
    await one.say("EXPUNGE")
    two.session.changed()
    assert (
        await two.say("UID FETCH 3 (FLAGS)") == b"* 1 EXPUNGE\r\n* 2 FETCH (UID 3 FLAGS ())\r\nt3 OK Done\r\n"
    )


async def test_a_flag_another_session_set_is_not_lost_by_ours():
    world = await build_world()
    await world.file(PLAIN)
    one, two = await world.client(), await world.client()
    await one.say(r"STORE 1 +FLAGS.SILENT (\Flagged)")
    answer = await two.say(r"STORE 1 +FLAGS.SILENT (\Answered)")
    assert await world.flags(1) == {"\\Answered", "\\Flagged"}
    assert b"* 1 FETCH (FLAGS (\\Answered \\Flagged))" in answer, "silence covers our own change only"


async def test_idle_pushes_and_ends_with_done():
    world = await build_world()
    client = await world.client()
    assert await client.say("IDLE") == b"+ idling\r\n"
    assert await client.session.news() == b""
    await world.file(PLAIN)
    client.session.changed()
    assert await client.session.news() == b"* 1 EXISTS\r\n"
    assert await client.send(b"DONE\r\n") == b"t3 OK IDLE done\r\n"
    await client.say("IDLE")
    assert b"t4 BAD" in await client.send(b"NOOP\r\n")


async def test_a_new_message_is_found_by_uid_at_once():
    world = await build_world()
    await world.file(PLAIN)
    client = await world.client()
    await world.file(notice("new"))
    client.session.changed()
    assert await client.say("UID FETCH 2:* (FLAGS)") == (
        b"* 2 EXISTS\r\n* 2 FETCH (UID 2 FLAGS ())\r\nt3 OK Done\r\n"
    )


async def test_numbers_beyond_the_folder_are_bad_but_uids_are_nothing():
    world = await build_world()
    await world.file(PLAIN)
    client = await world.client()
    assert b" BAD " in await client.say("FETCH 2 FLAGS")
    assert await client.say("UID FETCH 7 FLAGS") == b"t4 OK Done\r\n"
    assert b"* 1 FETCH (UID 1 FLAGS ())" in await client.say("UID FETCH 7:* FLAGS")
    empty = await world.client("Giden")
    assert await empty.say("FETCH 1:* FLAGS") == b"t3 OK Done\r\n"


async def test_store_trouble_is_no_reason_to_fall():
    world = await build_world()
    await world.file(PLAIN)
    client = await world.client()
    await world.store.close()
    assert b" NO [UNAVAILABLE]" in await client.say("FETCH 1 ENVELOPE")
    assert b" NO [UNAVAILABLE]" in await client.say(r"STORE 1 +FLAGS (\Seen)")


async def test_lost_content_is_said_and_the_rest_is_shown():
    world = await build_world()
    await world.file(notice("a", "first"))
    await world.file(notice("b", "second"))
    world.blobs._contents.pop("m:1")
    client = await world.client()
    answer = await client.say("FETCH 1:2 BODY.PEEK[TEXT]")
    assert b"second" in answer
    assert b"* 1 FETCH" not in answer
    assert b" NO [SERVERBUG]" in answer
    assert b" OK " in await client.say("FETCH 1 ENVELOPE"), "the index lies elsewhere"


async def test_a_message_without_an_index_is_scanned():
    world = await build_world()
    await world.file(PLAIN, index=False, role=FolderRole.DRAFTS)
    client = await world.client("Taslaklar")
    assert b'"afternoon meeting"' in await client.say("FETCH 1 (ENVELOPE BODY)")
    assert b"* SEARCH 1\r\n" in await client.say("SEARCH SUBJECT Meeting")


async def test_logout_says_goodbye_first():
    client = await (await build_world()).client()
    assert await client.say("LOGOUT") == b"* BYE Good-bye\r\nt3 OK LOGOUT done\r\n"
