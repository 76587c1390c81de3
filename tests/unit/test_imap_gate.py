"""The read gate: which items show content, and that nothing leaves before evidence 60 is durable."""

import re
from dataclasses import replace

import pytest

from directory.accounts import ALL_RIGHTS, AccountState, Right
from kephs.domain.mailboxes import FolderRole
from kephs.imap.commands import Fetch, FetchItem, ItemKind, Section, SectionText
from kephs.imap.fetch import FetchPolicy
from kephs.imap.gate import GATE, SECTION_GATE, shows_content
from kephs.imap.grammar import parse
from tests.support.imap_world import DISPATCH, NOW, PLAIN, build_world, notice

GATED = [
    "BODY[]", "BODY[TEXT]", "BODY[1]", "BODY[1.2]", "BODY[1.3.TEXT]", "RFC822", "RFC822.TEXT", "BODY.PEEK[]",
    "BODY.PEEK[TEXT]", "BODY.PEEK[1]", "BODY.PEEK[1.3.TEXT]", "BODY.PEEK[]<0.1>", "BODY[TEXT]<5.1>",
    "BODY[1.3.HEADER]", "BODY.PEEK[1.3.HEADER]", "BODY.PEEK[1.3.HEADER.FIELDS (SUBJECT)]",
    "BODY.PEEK[1.3.HEADER.FIELDS.NOT (SUBJECT)]", "(FLAGS BODY.PEEK[2])",
]  # fmt: skip
OPEN = [
    "FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "BODY", "ALL", "FAST", "FULL",
    "BODY[HEADER]", "BODY.PEEK[HEADER]", "RFC822.HEADER", "BODY.PEEK[HEADER.FIELDS (SUBJECT)]",
    "BODY.PEEK[HEADER.FIELDS.NOT (SUBJECT)]", "BODY.PEEK[1.MIME]", "BODY[1.3.MIME]", "BODY.PEEK[HEADER]<0.10>",
]  # fmt: skip


def items(text: str) -> tuple[FetchItem, ...]:
    body = parse(b"a FETCH 1 " + text.encode()).body
    assert isinstance(body, Fetch)
    return body.items


@pytest.mark.parametrize("text", GATED)
def test_items_that_show_content_are_gated(text: str):
    assert any(shows_content(item) for item in items(text))


@pytest.mark.parametrize("text", OPEN)
def test_items_that_show_no_content_are_not(text: str):
    assert not any(shows_content(item) for item in items(text))


def test_the_tables_know_every_kind_and_section():
    assert set(GATE) == set(ItemKind)
    possible = {(text, numbered) for text in SectionText for numbered in (True, False)}
    assert set(SECTION_GATE) == possible - {(SectionText.MIME, False)}


@pytest.mark.parametrize(
    ("kind", "gated"), [(ItemKind.BINARY, True), (ItemKind.PREVIEW, True), (ItemKind.BINARY_SIZE, False)]
)
def test_items_of_extensions_are_decided_before_they_are_offered(kind: ItemKind, gated: bool):
    assert shows_content(FetchItem(kind, Section((1,), SectionText.ALL))) is gated


@pytest.mark.parametrize("text", GATED)
async def test_every_gated_item_makes_evidence_once(text: str):
    world = await build_world()
    await world.file(DISPATCH, gated=True)
    client = await world.client()
    await client.say(f"FETCH 1 {text}")
    await client.say(f"FETCH 1 {text}")
    assert world.reader.made == ["d1"]


@pytest.mark.parametrize("text", OPEN)
async def test_what_is_not_gated_makes_no_evidence(text: str):
    world = await build_world()
    await world.file(DISPATCH, gated=True)
    client = await world.client()
    assert b" OK " in await client.say(f"FETCH 1 {text}")
    assert world.reader.asked == []


async def test_flags_alone_make_no_evidence():
    world = await build_world()
    await world.file(DISPATCH, gated=True)
    client = await world.client()
    await client.say(r"STORE 1 +FLAGS (\Seen)")
    assert world.reader.asked == []


async def test_an_examined_folder_still_makes_evidence_and_keeps_flags():
    world = await build_world()
    await world.file(DISPATCH, gated=True)
    client = await world.client(None)
    await client.say("EXAMINE INBOX")
    assert b"[READ-ONLY]" not in await client.say("FETCH 1 BODY[]<0.1>")
    assert world.reader.made == ["d1"]
    assert await world.flags(1) == frozenset()


@pytest.mark.parametrize("text", GATED)
async def test_without_evidence_nothing_of_the_message_is_shown(text: str):
    world = await build_world()
    await world.file(DISPATCH, gated=True)
    world.reader.refuses = {"d1"}
    client = await world.client()
    answer = await client.say(f"FETCH 1 (FLAGS ENVELOPE {text.strip('()')})")
    assert re.fullmatch(rb"t\d+ NO \[UNAVAILABLE\] [^\r\n]+\r\n", answer)
    assert await world.flags(1) == frozenset()


async def test_a_message_without_evidence_is_left_out_and_the_others_are_shown():
    world = await build_world()
    for number in range(1, 4):
        await world.file(notice(f"s{number}", f"secret{number}"), gated=True)
    world.reader.refuses = {"d2"}
    client = await world.client()
    answer = await client.say("FETCH 1:3 BODY.PEEK[TEXT]")
    assert b"secret1" in answer
    assert b"secret2" not in answer
    assert b"* 2 FETCH" not in answer
    assert b"secret3" in answer
    assert b" NO [UNAVAILABLE]" in answer
    world.reader.refuses = set()
    assert b"secret2" in await client.say("FETCH 2 BODY.PEEK[TEXT]")


async def test_evidence_of_a_long_fetch_is_made_in_batches_ahead():
    world = await build_world()
    for number in range(120):
        await world.file(notice(f"s{number}"), gated=True)
    client = await world.client()
    await client.say("FETCH 1:* BODY.PEEK[]")
    assert [len(batch) for batch in world.reader.asked] == [50, 50, 20]


async def test_no_content_byte_is_produced_before_its_evidence():
    world = await build_world()
    await world.file(notice("s1", "content" * 20_000), gated=True)
    order: list[str] = []
    expose, source = world.reader.expose, world.service.source

    async def noted_expose(person, ids):
        order.append("asked")
        done = await expose(person, ids)
        order.append("durable")
        return done

    async def noted_source(blob):
        order.append("read")
        return await source(blob)

    world.reader.expose = noted_expose  # type: ignore[method-assign]
    world.service.source = noted_source  # type: ignore[method-assign]
    client = await world.client()
    assert b"content" in await client.say("FETCH 1 (ENVELOPE BODY.PEEK[])")
    assert order[:2] == ["asked", "durable"]
    assert order[2:] == ["read"]


async def test_what_has_no_delivery_has_no_gate():
    world = await build_world()
    await world.file(PLAIN, role=FolderRole.SENT)
    client = await world.client("Giden")
    assert b"Hello Joe" in await client.say("FETCH 1 BODY[TEXT]")
    assert world.reader.asked == []


async def test_search_sees_only_headers_of_unread_messages():
    world = await build_world()
    await world.file(notice("konu", "needle"), gated=True)
    await world.file(notice("needle", "hay"), gated=True)
    client = await world.client()
    assert b"* SEARCH\r\n" in await client.say("SEARCH BODY needle")
    assert b"* SEARCH 2\r\n" in await client.say("SEARCH TEXT needle")
    assert b"* SEARCH 1 2\r\n" in await client.say("SEARCH NOT BODY needle")
    assert world.reader.asked == []
    await client.say("FETCH 1 BODY.PEEK[]")
    assert b"* SEARCH 1\r\n" in await client.say("SEARCH BODY needle")


async def test_without_the_right_to_read_no_content_is_shown_and_no_evidence_made():
    world = await build_world(rights=Right.SEND | Right.DELETE)
    await world.file(notice("s1", "needle"), gated=True)
    await world.file(notice("s2", "needle"))
    client = await world.client()
    answer = await client.say("FETCH 1:2 BODY.PEEK[TEXT]")
    assert b"needle" not in answer
    assert b" NO [NOPERM]" in answer
    assert b"* SEARCH\r\n" in await client.say("SEARCH BODY needle")
    assert b" NO [NOPERM]" in await client.say(r"STORE 1 +FLAGS (\Seen)")
    assert world.reader.asked == []


async def test_without_the_right_to_delete_nothing_is_marked_or_removed():
    world = await build_world(rights=ALL_RIGHTS & ~Right.DELETE)
    await world.file(PLAIN, flags=frozenset({"\\Deleted"}))
    await world.file(PLAIN)
    client = await world.client(None)
    answer = await client.say("SELECT INBOX")
    permanent = re.search(rb"PERMANENTFLAGS \(([^)]*)\)", answer)
    assert permanent is not None
    assert b"\\Deleted" not in permanent[1]
    assert b" NO [NOPERM]" in await client.say(r"STORE 2 +FLAGS (\Deleted)")
    assert b" NO [NOPERM]" in await client.say(r"STORE 1 -FLAGS (\Deleted)")
    assert b" OK " in await client.say(r"STORE 1:2 +FLAGS (\Flagged)")
    assert b" NO [NOPERM]" in await client.say("EXPUNGE")
    assert b" OK " in await client.say("CLOSE")
    assert await world.flags(1) == {"\\Deleted", "\\Flagged"}


async def test_rights_that_end_during_a_session_end_its_reading():
    world = await build_world()
    for number in range(20):
        await world.file(notice(f"s{number}"))
    client = await world.client()
    assert b" OK " in await client.say("FETCH 1 BODY.PEEK[]")

    def revoke(tx):
        table = tx.accounts._t.operators
        table.put("o1", replace(table["o1"], rights=Right.SEND))

    await world.store.write(revoke)
    client.session.changed()
    assert b" NO [NOPERM]" in await client.say("FETCH 2 BODY.PEEK[]")


async def test_an_account_closed_during_a_session_shows_nothing_more_but_a_blocked_one_does():
    world = await build_world()
    await world.file(notice("s1"))
    client = await world.client()
    await world.store.write(lambda tx: tx.accounts.set_state("a1", AccountState.BLOCKED, NOW))
    client.session.changed()
    assert b" OK " in await client.say("FETCH 1 BODY.PEEK[]")
    await world.store.write(lambda tx: tx.accounts.set_state("a1", AccountState.CLOSED, NOW))
    client.session.changed()
    assert b" NO [NOPERM]" in await client.say("FETCH 1 BODY.PEEK[]")


# --- reading over IMAP switched off -----------------------------------------------------------------


async def test_with_reading_over_imap_off_a_stub_is_served_and_no_evidence_made():
    world = await build_world(policy=FetchPolicy(imap_body=False))
    await world.file(DISPATCH, gated=True)
    client = await world.client()
    answer = await client.say("FETCH 1 (RFC822.SIZE BODYSTRUCTURE BODY[])")
    size = re.search(rb"RFC822.SIZE (\d+)", answer)
    whole = re.search(rb"BODY\[\] \{(\d+)\}\r\n", answer)
    assert size is not None
    assert whole is not None
    assert size[1] == whole[1]
    stub = answer[whole.end() : whole.end() + int(whole[1])]
    assert b"MIIB" not in stub
    assert b"Subject: =?utf-8?b?xLBodGFy?=" in stub
    assert b'("text" "plain" ("charset" "utf-8") NIL NIL "base64"' in answer
    head = stub.index(b"\r\n\r\n") + 4
    text = await client.say("FETCH 1 (BODY[1] BODY.PEEK[1.3] BODY.PEEK[TEXT] BODY.PEEK[HEADER])")
    assert b"BODY[1] {%d}\r\n%b" % (len(stub) - head, stub[head:]) in text
    assert b"BODY[1.3] NIL" in text
    assert stub[:head] in text
    assert world.reader.asked == []
    assert await world.flags(1) == frozenset(), "a stub is not the message: it stays unread"


async def test_with_reading_over_imap_off_read_messages_are_shown():
    world = await build_world(policy=FetchPolicy(imap_body=False))
    await world.file(PLAIN)
    client = await world.client()
    assert b"Hello Joe" in await client.say("FETCH 1 BODY[]")


async def test_the_header_of_an_embedded_message_that_is_one_part_is_not_its_mime_header():
    inner = b"Subject: secret\r\nContent-Type: text/plain\r\n\r\nx\r\n"
    world = await build_world()
    await world.file(
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n"
        + inner
        + b"\r\n--b--\r\n",
        gated=True,
    )
    client = await world.client()
    answer = await client.say("FETCH 1 BODY.PEEK[1.1.MIME]")
    assert b"Content-Type: text/plain" in answer
    assert b"secret" not in answer
    assert world.reader.asked == []
    assert b"secret" in await client.say("FETCH 1 BODY.PEEK[1.HEADER]")
    assert world.reader.made == ["d1"]
