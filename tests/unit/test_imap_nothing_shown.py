"""The read gate makes evidence 60 for what is shown, and only for that: an item that shows nothing makes none."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from directory.accounts import Right
from kephs.imap.commands import FetchItem, ItemKind, Section, SectionText
from kephs.imap.gate import GATE, SECTION_GATE, shows_content, shows_octets
from tests.support.imap_world import DISPATCH, ORIGINAL, PLAIN, build_world, notice

ORIGINAL_HEADER = ORIGINAL.index(b"\r\n\r\n") + 4
NOTHING = [
    "BODY.PEEK[9.9]", "BODY[9.9]", "BODY.PEEK[3]", "BODY.PEEK[1.1.TEXT]", "BODY.PEEK[1.2.HEADER]",
    "BODY.PEEK[1.3.7.HEADER]", "BODY.PEEK[1.1.HEADER.FIELDS (SUBJECT)]", "BODY.PEEK[]<999999999.1>",
    f"BODY.PEEK[]<{len(DISPATCH)}.1>", "BODY.PEEK[TEXT]<999999999.1>", "BODY.PEEK[1]<999999999.1>",
    "BODY.PEEK[1.3.TEXT]<999999999.1>", f"BODY.PEEK[1.3.HEADER]<{ORIGINAL_HEADER}.1>",
    "BODY.PEEK[1.3.HEADER.FIELDS (SUBJECT)]<999999999.1>", "(BODY.PEEK[9] BODY.PEEK[1.9] FLAGS)",
]  # fmt: skip
ONE_OCTET = [
    f"BODY.PEEK[]<{len(DISPATCH) - 1}.1>", f"BODY.PEEK[1.3.HEADER]<{ORIGINAL_HEADER - 1}.1>",
    "(BODY.PEEK[9.9] BODY.PEEK[2]<0.1>)", "BODY.PEEK[1.3.HEADER.FIELDS (X-NONE)]",
]  # fmt: skip


@pytest.mark.parametrize("text", NOTHING)
async def test_an_item_that_returns_no_octet_makes_no_evidence(text: str):
    world = await build_world()
    await world.file(DISPATCH, gated=True)
    await world.file(DISPATCH)
    client = await world.client()
    answer = await client.say(f"FETCH 1 {text}")
    assert world.reader.asked == []
    assert b" OK " in answer
    assert await world.flags(1) == frozenset(), "nothing was shown: it keeps looking unread"
    same = await client.say(f"FETCH 2 {text}")
    assert answer.split(b"\r\n", 1)[0][3:] == same.split(b"\r\n", 1)[0][3:].replace(b"FLAGS (\\Seen) ", b"")


@pytest.mark.parametrize("text", ONE_OCTET)
async def test_a_single_octet_of_content_makes_evidence(text: str):
    world = await build_world()
    await world.file(DISPATCH, gated=True)
    client = await world.client()
    await client.say(f"FETCH 1 {text}")
    assert world.reader.made == ["d1"]


@pytest.mark.parametrize("text", [*NOTHING, *ONE_OCTET])
async def test_where_no_index_tells_an_item_is_taken_to_show_something(text: str):
    world = await build_world()
    await world.file(DISPATCH, gated=True, index=False)
    client = await world.client()
    await client.say(f"FETCH 1 {text}")
    assert world.reader.made == ["d1"]


async def test_nothing_of_the_content_is_read_to_find_that_nothing_would_be_shown():
    world = await build_world()
    await world.file(DISPATCH, gated=True)
    read: list[object] = []
    source = world.service.source

    async def noted(blob):
        read.append(blob)
        return await source(blob)

    world.service.source = noted
    client = await world.client()
    for text in NOTHING:
        await client.say(f"FETCH 1 {text}")
    assert read == []


async def test_of_several_messages_only_those_that_show_something_get_evidence():
    world = await build_world()
    await world.file(notice("s1", "one part"), gated=True)
    await world.file(DISPATCH, gated=True)
    await world.file(notice("s3", "one part"), gated=True)
    client = await world.client()
    answer = await client.say("FETCH 1:3 BODY.PEEK[2]")
    assert world.reader.asked == [["d2"]]
    assert answer.count(b"BODY[2] NIL") == 2
    assert b"MIIC" in answer
    await client.say("FETCH 1:3 BODY.PEEK[1]")
    assert world.reader.asked[1:] == [["d1", "d3"]]


async def test_a_part_without_any_octet_and_a_message_without_body_make_no_evidence():
    empty = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n\r\n--b--\r\n"
    world = await build_world()
    await world.file(empty, gated=True)
    await world.file(b"Subject: x\r\n\r\n", gated=True)
    client = await world.client()
    assert b"BODY[1] {0}" in await client.say("FETCH 1 BODY.PEEK[1]")
    assert b"BODY[TEXT] {0}" in await client.say("FETCH 2 BODY.PEEK[TEXT]")
    assert world.reader.asked == []


async def test_what_shows_nothing_is_answered_even_where_evidence_cannot_be_made():
    world = await build_world()
    await world.file(DISPATCH, gated=True)
    world.reader.refuses = {"d1"}
    client = await world.client()
    assert b"BODY[9.9] NIL" in await client.say("FETCH 1 BODY.PEEK[9.9]")
    assert b" NO [UNAVAILABLE]" in await client.say("FETCH 1 (BODY.PEEK[9.9] BODY.PEEK[2])")


async def test_without_the_right_to_read_even_an_item_that_shows_nothing_is_refused():
    world = await build_world(rights=Right.SEND)
    await world.file(DISPATCH, gated=True)
    client = await world.client()
    assert b" NO [NOPERM]" in await client.say("FETCH 1 BODY.PEEK[9.9]")


async def test_an_unread_message_that_showed_nothing_makes_its_evidence_later():
    world = await build_world()
    await world.file(PLAIN, gated=True)
    client = await world.client()
    await client.say("FETCH 1 BODY[9]")
    assert b"Hello Joe" in await client.say("FETCH 1 BODY[1]")
    assert world.reader.made == ["d1"]
    assert await world.flags(1) == {"\\Seen"}


@given(kind=st.sampled_from(list(ItemKind)), length=st.none() | st.integers(0, 50), origin=st.integers(0, 50))
def test_only_gated_items_show_octets_and_only_sections_show_none(kind, length, origin):
    item = FetchItem(kind, Section((1,), SectionText.ALL, partial=(origin, 1)))
    measured = kind in (ItemKind.SECTION, ItemKind.BINARY)
    expected = shows_content(item) and (not measured or (length or 0) > origin)
    assert shows_octets(item, length) is expected
    assert shows_octets(FetchItem(kind), None) is (GATE[kind] is True and not measured)


_parts = st.lists(st.integers(1, 4), max_size=4)
_words = st.sampled_from(["", "TEXT", "HEADER", "HEADER.FIELDS (SUBJECT)", "HEADER.FIELDS.NOT (TO)", "MIME"])


@settings(max_examples=150, deadline=None)
@given(parts=_parts, word=_words, partial=st.none() | st.tuples(st.integers(0, 2500), st.integers(1, 60)))
async def test_whatever_section_is_asked_octets_come_with_evidence_or_not_at_all(parts, word, partial):
    if word == "MIME" and not parts:
        word = "TEXT"
    inside = ".".join([*map(str, parts), *([word] if word else [])])
    text = f"BODY.PEEK[{inside}]" + ("" if partial is None else f"<{partial[0]}.{partial[1]}>")
    world = await build_world()
    await world.file(DISPATCH, gated=True)
    await world.file(DISPATCH)
    client = await world.client()
    gated, free = await client.say(f"FETCH 1 {text}"), await client.say(f"FETCH 2 {text}")
    assert gated[4:].split(b"\r\nt")[0] == free[4:].split(b"\r\nt")[0], "evidence never changes what is shown"
    asked = SectionText(word.split(" ")[0])
    shown = re.search(rb" \{([1-9]\d*)\}\r\n", free) is not None
    content = SECTION_GATE[asked, bool(parts)]
    if shown or asked not in (SectionText.HEADER_FIELDS, SectionText.HEADER_FIELDS_NOT):
        assert bool(world.reader.made) is (content and shown)
