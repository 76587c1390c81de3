"""SEARCH: every key, Turkish letters, and what costs nothing stays cheap."""

from datetime import UTC, datetime

import pytest

from directory.accounts import Right
from kephs.imap.search import fold
from tests.support.imap_world import DISPATCH, PLAIN, World, build_world, notice

SEEN = frozenset({"\\Seen"})


@pytest.fixture
async def world() -> World:
    world = await build_world()
    await world.file(PLAIN, flags=SEEN, at=datetime(2026, 3, 2, 23, 59, tzinfo=UTC))
    await world.file(
        notice("IŞIK faturası", "içerik bir", "veli@hs91.kep.tr"), at=datetime(2026, 3, 3, tzinfo=UTC)
    )
    await world.file(
        DISPATCH, flags=frozenset({"\\Flagged", "$Onemli"}), at=datetime(2026, 3, 4, 12, tzinfo=UTC)
    )
    return world


CASES = [
    ("ALL", "1 2 3"),
    ("SEEN", "1"),
    ("UNSEEN", "2 3"),
    ("FLAGGED", "3"),
    ("UNFLAGGED", "1 2"),
    ("ANSWERED", ""),
    ("DELETED", ""),
    ("UNDELETED", "1 2 3"),
    ("DRAFT", ""),
    ("UNDRAFT", "1 2 3"),
    ("UNANSWERED", "1 2 3"),
    ("NEW", ""),
    ("OLD", "1 2 3"),
    ("RECENT", ""),
    ("KEYWORD $onemli", "3"),
    ("UNKEYWORD $onemli", "1 2"),
    ("2", "2"),
    ("1,3", "1 3"),
    ("*", "3"),
    ("2:*", "2 3"),
    ("UID 1:2", "1 2"),
    ("UID 9:*", "3"),
    ("LARGER 1000", "3"),
    ("SMALLER 1000", "1 2"),
    ("BEFORE 3-Mar-2026", "1"),
    ("ON 3-Mar-2026", "2"),
    ("SINCE 3-Mar-2026", "2 3"),
    ("SENTBEFORE 1-Jan-2000", "1"),
    ("SENTON 7-Feb-1994", "1"),
    ("SENTSINCE 21-Nov-2026", "2 3"),
    ("FROM foobar", "1"),
    ("TO ayse", "2"),
    ("CC x", ""),
    ("BCC x", ""),
    ('SUBJECT "ışık"', "2"),
    ('SUBJECT "IŞIK FATURASI"', "2"),
    ("SUBJECT ihtar", "3"),
    ('SUBJECT ""', "1 2 3"),
    ("HEADER Message-ID kep.tr", "3"),
    ('HEADER Return-Path ""', "1"),
    ('HEADER X-None ""', ""),
    ("BODY tomorrow", "1"),
    ('BODY "süre doldu"', "3"),
    ('BODY "ödeyiniz"', "3"),
    ("BODY Borcunuzu", "3"),
    ("TEXT Blurdybloop", "1"),
    ('TEXT "içerik"', "2"),
    ("NOT SEEN", "2 3"),
    ("NOT (FROM foobar)", "2 3"),
    ("OR SEEN FLAGGED", "1 3"),
    ("OR (FROM foobar) (BODY doldu)", "1 3"),
    ("UNSEEN NOT BODY doldu", "2"),
    ("1:2 UNSEEN SUBJECT x", ""),
    ("CHARSET US-ASCII SEEN", "1"),
]


@pytest.mark.parametrize(("key", "numbers"), CASES)
async def test_keys(world: World, key: str, numbers: str):
    client = await world.client()
    wanted = f"* SEARCH {numbers}".rstrip() + "\r\n"
    assert (await client.say(f"SEARCH {key}")).startswith(wanted.encode())


async def test_uid_search_gives_uids(world: World):
    client = await world.client()
    await client.say(r"STORE 1 +FLAGS.SILENT (\Deleted)")
    await client.say("EXPUNGE")
    assert b"* SEARCH 2 3\r\n" in await client.say("UID SEARCH ALL")
    assert b"* SEARCH 1 2\r\n" in await client.say("SEARCH ALL")
    assert b"* SEARCH 3\r\n" in await client.say("UID SEARCH 2")


async def test_flags_dates_and_sizes_need_no_content_and_no_headers(world: World):
    client = await world.client()

    async def never(*_args):
        raise AssertionError

    world.service.rows = never  # type: ignore[method-assign]
    for key in (
        "SEEN",
        "LARGER 5 SINCE 1-Jan-2020",
        "OR ALL BODY x",
        "SMALLER 1 TEXT x",
        "NOT (UNSEEN) SEEN 1",
    ):
        assert b" OK " in await client.say(f"SEARCH {key}")


async def test_a_big_folder_is_looked_through_beside_the_loop():
    world = await build_world(rights=Right.READ)
    for _ in range(501):
        await world.file(b"Subject: x\r\n\r\n")
    client = await world.client()
    answer = await client.say("SEARCH 1:501 LARGER 1")
    assert answer.split(b"\r\n")[0].count(b" ") == 502
    assert world.offload.runs == 2


def test_turkish_letters_compare_without_case():
    assert fold("İSTANBUL") == fold("istanbul")
    assert fold("ILGAZ") == fold("ılgaz") == fold("ilgaz")
    assert fold("ŞÇĞÖÜ") == fold("şçğöü")
    assert fold("şube") != fold("sube")
