"""Folders of one's own: made, renamed, removed, subscribed; and what is never touched."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from directory.accounts import ALL_RIGHTS, Right
from kephs.domain.mailboxes import DEPTH_MAX, FOLDERS_MAX, LEVEL_MAX, MailboxRefusal, check_folder_name
from kephs.imap.failures import REFUSALS
from tests.support.imap_world import PLAIN, Client, build_world, notice


async def names(client: Client, command: str = 'LIST "" "*"') -> list[bytes]:
    answer = await client.say(command)
    return [found.strip(b'"') for found in re.findall(rb'\* \w+ \([^)]*\) "/" ([^\r]+)\r\n', answer)]


def test_every_refusal_has_its_text():
    assert set(REFUSALS) == set(MailboxRefusal)
    assert all(text.startswith(b"[") and text.isascii() for text in REFUSALS.values())


async def test_a_folder_is_made_with_the_folders_above_it():
    client = await (await build_world()).client(None)
    assert b" OK " in await client.say("CREATE is/2026/kas&ATE-m")
    assert {b"is", b"is/2026", b"is/2026/kas&ATE-m"} <= set(await names(client))
    assert b" OK " in await client.say("SELECT is/2026/kas&ATE-m")
    assert rb'* LIST (\HasChildren) "/" is' in await client.say('LIST "" is')
    assert b"NO [ALREADYEXISTS]" in await client.say("CREATE is")
    assert b" OK " in await client.say("CREATE yeni/"), "a delimiter at the end only announces folders below"
    assert b"yeni" in await names(client)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("inbox", b"ALREADYEXISTS"),
        ("Giden", b"ALREADYEXISTS"),
        ("OUTBOX", b"ALREADYEXISTS"),
        ("Inbox.Sent", b"ALREADYEXISTS"),
        ('""', b"CANNOT"),
        ("a//b", b"CANNOT"),
        ("/a", b"CANNOT"),
        ('"a*"', b"CANNOT"),
        ('"a%"', b"CANNOT"),
        ('" a"', b"CANNOT"),
        ("../x", b"CANNOT"),
        ("/".join("a" * (DEPTH_MAX + 1)), b"LIMIT"),
        ("a" * (LEVEL_MAX + 1), b"LIMIT"),
    ],
)
async def test_names_that_no_folder_can_have_are_refused(name: str, code: bytes):
    client = await (await build_world()).client(None)
    before = await names(client)
    assert b" NO [%b] " % code in await client.say(f"CREATE {name}")
    assert await names(client) == before


@given(st.text(max_size=30))
def test_a_name_that_is_accepted_holds_nothing_that_harms(name: str):
    if check_folder_name(name) is None:
        assert not set(name) & set("*%\0\r\n\u2028")
        assert all(level and level == level.strip() and level not in (".", "..") for level in name.split("/"))


async def test_the_number_of_folders_is_capped():
    client = await (await build_world()).client(None)
    for number in range(FOLDERS_MAX - 6):
        assert b" OK " in await client.say(f"CREATE f{number}")
    assert b"NO [LIMIT]" in await client.say("CREATE onemore")
    assert b" OK " in await client.say("DELETE f0")
    assert b"NO [LIMIT]" in await client.say("CREATE a/b"), "the folder above counts too"
    assert b" OK " in await client.say("CREATE onemore")


@pytest.mark.parametrize("name", ["INBOX", "Giden", "Taslaklar", "Deliller", "Ar&AV8-iv", "&AMcA9g-p"])
async def test_standard_folders_are_neither_deleted_nor_renamed(name: str):
    client = await (await build_world()).client(None)
    before = await names(client)
    assert b"NO [CANNOT]" in await client.say(f"DELETE {name}")
    assert b"NO [CANNOT]" in await client.say(f"RENAME {name} x")
    assert await names(client) == before


async def test_a_folder_is_renamed_with_all_below_it():
    world = await build_world()
    client = await world.client(None)
    await client.say("CREATE a/b/c")
    await client.append("a/b", PLAIN)
    assert b" OK " in await client.say("RENAME a x/y")
    assert {b"x", b"x/y", b"x/y/b", b"x/y/b/c"} <= set(await names(client))
    assert b"a" not in await names(client)
    assert b"(MESSAGES 1)" in await client.say("STATUS x/y/b (MESSAGES)")
    assert b"NO [NONEXISTENT]" in await client.say("RENAME a z")
    assert b"NO [CANNOT]" in await client.say("RENAME x x/z")
    assert b"NO [ALREADYEXISTS]" in await client.say("RENAME x x")
    assert b"NO [ALREADYEXISTS]" in await client.say("RENAME x Giden")
    assert b"NO [LIMIT]" in await client.say(f"RENAME x {'/'.join('l' * (DEPTH_MAX - 1))}"), (
        "what is below counts"
    )


async def test_a_deleted_folder_takes_its_messages_and_leaves_those_below():
    world = await build_world()
    client = await world.client(None)
    await client.say("CREATE a/b")
    await client.append("a", PLAIN)
    used = (await world.service.tree.quota(world.person)).used
    assert b" OK " in await client.say("DELETE a")
    assert (await world.service.tree.quota(world.person)).used == used - len(PLAIN)
    assert rb'* LIST (\Noselect \HasChildren) "/" a' in await client.say('LIST "" a')
    assert b"NO [NONEXISTENT]" in await client.say("SELECT a")
    assert b"NO [NONEXISTENT]" in await client.say("DELETE a")
    assert b" OK " in await client.say("CREATE a")


async def test_a_name_used_again_has_another_uidvalidity():
    client = await (await build_world()).client(None)
    seen = set()
    for _ in range(3):
        await client.say("CREATE a")
        found = re.search(rb"UIDVALIDITY (\d+)", await client.say("STATUS a (UIDVALIDITY)"))
        assert found is not None
        seen.add(found[1])
        await client.say("DELETE a")
    assert len(seen) == 3


async def test_subscriptions_are_kept_and_shown():
    client = await (await build_world()).client(None)
    await client.say("CREATE a/b")
    assert b" OK " in await client.say("UNSUBSCRIBE a")
    assert b"a" not in await names(client, 'LSUB "" "*"')
    assert b"a/b" in await names(client, 'LSUB "" "*"')
    assert rb'* LSUB (\Noselect) "/" a' in await client.say('LSUB "" "%"'), "it holds one that is subscribed"
    assert b"a" not in await names(client, 'LIST (SUBSCRIBED) "" "*"')
    recursive = await client.say('LIST (SUBSCRIBED RECURSIVEMATCH) "" "%"')
    assert rb'* LIST (\HasChildren) "/" a ("CHILDINFO" ("SUBSCRIBED"))' in recursive
    assert rb'(\HasNoChildren) "/" a/b' in await client.say('LIST "" a/b')
    assert rb'(\HasNoChildren \Subscribed) "/" a/b' in await client.say('LIST "" a/b RETURN (SUBSCRIBED)')
    assert b"NO [NONEXISTENT]" in await client.say("SUBSCRIBE nothing")
    assert b" OK " in await client.say("SUBSCRIBE a")
    assert b"a" in await names(client, 'LSUB "" "*"')


@pytest.mark.parametrize(
    ("missing", "commands"),
    [
        (Right.ARCHIVE, ["CREATE x", "RENAME a b"]),
        (Right.DELETE, ["DELETE a"]),
        (Right.READ | Right.ARCHIVE, ["SUBSCRIBE a", "UNSUBSCRIBE a"]),
    ],
)
async def test_an_operator_changes_folders_only_with_the_right_to(missing: Right, commands: list[str]):
    world = await build_world(rights=ALL_RIGHTS & ~missing)
    await world.service._store.write(lambda tx: tx.mailboxes.create("a1", "a", 500))
    client = await world.client(None)
    before = await names(client, 'LSUB "" "*"')
    for command in commands:
        assert b"NO [NOPERM]" in await client.say(command)
    assert await names(client, 'LSUB "" "*"') == before


async def test_after_enabling_utf8_names_are_told_in_utf8():
    client = await (await build_world()).client(None)
    assert b"* ENABLED UTF8=ACCEPT\r\n" in await client.say("ENABLE UTF8=ACCEPT X-UNKNOWN")
    assert '"/" "Arşiv"'.encode() in await client.say('LIST "" "*"')
    assert b" OK " in await client.say('SELECT "Çöp"')
    assert b" OK " in await client.say('CREATE "a&AV8-"')
    assert b'* STATUS "a&AV8-"'[:9] in await client.say('STATUS "a&AV8-" (MESSAGES)')
    plain = await client.session._service.folders(client.session._who())
    assert "a&AV8-" in {folder.name for folder in plain}
    assert b" BAD " in await client.say("SEARCH CHARSET UTF-8 ALL")


# --- STATUS and QUOTA -------------------------------------------------------------------------------


async def test_status_tells_sizes_and_limits():
    world = await build_world()
    await world.file(PLAIN, flags=frozenset({"\\Deleted"}))
    await world.file(notice("a"))
    client = await world.client(None)
    size = len(PLAIN) + len(notice("a"))
    answer = await client.say("STATUS INBOX (SIZE HIGHESTMODSEQ APPENDLIMIT DELETED DELETED-STORAGE)")
    assert answer == (
        b"* STATUS INBOX (SIZE %d HIGHESTMODSEQ 3 APPENDLIMIT 146800640 DELETED 1 DELETED-STORAGE %d)\r\n"
        b"t2 OK STATUS done\r\n" % (size, len(PLAIN))
    )
    assert b"* STATUS Giden (SIZE 0)" in await client.say('LIST "" Giden RETURN (STATUS (SIZE))')


async def test_the_quota_is_told_in_units_of_1024_octets_and_never_set():
    world = await build_world()
    await world.file(notice("a", "x" * 3000))
    client = await world.client(None)
    assert b'* QUOTA "" (STORAGE 4 102400)\r\n' in await client.say('GETQUOTA ""')
    assert b'* QUOTAROOT INBOX ""\r\n* QUOTA "" (STORAGE 4 102400)' in await client.say("GETQUOTAROOT inbox")
    assert (await client.say("GETQUOTAROOT Deliller")).startswith(b"* QUOTAROOT Deliller\r\nt4 OK")
    assert b" NO " in await client.say("GETQUOTA other")
    assert b" NO [NOPERM]" in await client.say('SETQUOTA "" (STORAGE 999999)')


# --- the open folder --------------------------------------------------------------------------------


async def test_the_open_folder_may_be_renamed_by_another_session():
    world = await build_world()
    one, two = await world.client(None), await world.client(None)
    await one.say("CREATE a")
    await one.append("a", PLAIN)
    await two.say("SELECT a")
    await one.say("RENAME a b")
    assert b"Hello Joe" in await two.say("FETCH 1 BODY[]")
    await one.append("b", notice("new"))
    assert b"* 2 EXISTS" in await two.say("NOOP")
    assert b" OK " in await two.say(r"STORE 1:2 +FLAGS (\Flagged)")


async def test_the_open_folder_may_be_deleted_and_its_messages_go_away_like_any():
    world = await build_world()
    one, two = await world.client(None), await world.client(None)
    await one.say("CREATE a")
    for _ in range(2):
        await one.append("a", PLAIN)
    await one.say("SELECT a")
    await two.say("SELECT a")
    assert b"* 2 EXPUNGE\r\n* 1 EXPUNGE\r\nt6 OK Deleted" in await one.say("DELETE a")
    two.session.changed()
    assert b"EXPUNGE\r\n" not in await two.say("FETCH 1 FLAGS"), "not while numbers are in use"
    assert b"NO [EXPUNGEISSUED]" in await two.say("FETCH 1 BODY.PEEK[]")
    assert b" OK " in await two.say(r"STORE 1 +FLAGS (\Seen)")
    assert b" NO " in await two.say("COPY 1 Taslaklar")
    assert b"* 2 EXPUNGE\r\n* 1 EXPUNGE\r\n" in await two.say("NOOP")
    assert b"* SEARCH\r\n" in await two.say("SEARCH ALL")
    assert b" OK " in await two.say("EXPUNGE")
    await one.say("CREATE a")
    await one.append("a", notice("other"))
    assert b"EXISTS" not in await two.say("NOOP"), "a folder of the same name is another one"
    assert b"* 1 EXISTS" in await two.say("SELECT a")


async def test_a_store_that_meets_a_deleted_folder_is_a_no():
    world = await build_world()
    one, two = await world.client(None), await world.client(None)
    await one.say("CREATE a")
    await one.append("a", PLAIN)
    await two.say("SELECT a")
    await one.say("DELETE a")
    assert b"NO [EXPUNGEISSUED]" in await two.say(r"STORE 1 +FLAGS (\Seen)")
    assert b"* 1 EXPUNGE" in await two.say("NOOP")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["CREATE", "DELETE", "RENAME"]), st.sampled_from(["a", "a/b", "b", "b/a/b"]),
                  st.sampled_from(["a", "a/b", "b", "c/a"])),
        max_size=12,
    )
)  # fmt: skip
async def test_whatever_is_done_to_folders_the_list_is_what_a_simple_model_says(steps):
    client = await (await build_world()).client(None)
    model: set[str] = set()

    def with_above(name: str) -> set[str]:
        levels = name.split("/")
        return {"/".join(levels[:end]) for end in range(1, len(levels) + 1)}

    for verb, name, to in steps:
        below = {one for one in model if one == name or one.startswith(name + "/")}
        answer = await client.say(f"{verb} {name}" + (f" {to}" if verb == "RENAME" else ""))
        done = b" OK " in answer
        if verb == "CREATE":
            assert done is (name not in model)
            model |= with_above(name) if done else set()
        elif verb == "DELETE":
            assert done is (name in model)
            model -= {name} if done else set()
        else:
            free = not any(one == to or one.startswith(to + "/") for one in model)
            assert done is (bool(below) and to != name and not to.startswith(name + "/") and free)
            if done:
                model = (model - below) | {to + one[len(name) :] for one in below} | (with_above(to) - {to})
    standard = {b"INBOX", b"Giden", b"Taslaklar", b"Deliller", b"Ar&AV8-iv", b"&AMcA9g-p"}
    shown = await client.say('LIST "" "*"')
    listed = {
        found[2].decode()
        for found in re.finditer(rb'\* LIST \(([^)]*)\) "/" ([^\r]+)\r\n', shown)
        if rb"\Noselect" not in found[1]
    }
    assert listed == model | {name.decode() for name in standard}
