"""Sections, partials, envelopes, structures: what clients get equals the stored bytes."""

import email
import email.policy
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evidence.mail.mime import scan
from evidence.ports import BytesSource
from kephs.domain.message_index import MessageIndexError, decode, decode_header, encode
from kephs.imap import render
from kephs.imap.fetch import PIECE
from tests.support.imap_world import DISPATCH, ORIGINAL, PLAIN, build_world

DISPATCH_STRUCTURE = (
    b'(((("text" "plain" ("charset" "utf-8") NIL NIL "quoted-printable" 28 0 NIL NIL ("tr" "en") NIL)'
    b'("text" "html" ("charset" "utf-8") NIL NIL "7bit" 25 0 NIL NIL NIL NIL) "alternative" '
    b'("boundary" "alt") NIL NIL NIL)'
    b'("application" "xml" ("name*" "utf-8\'\'%C3%87.xml") "<delil@kep>" "delil" "7bit" 8 NIL '
    b'("attachment" ("filename" "delil.xml")) NIL NIL)'
    b'("message" "rfc822" NIL NIL NIL "7bit" 657 '
    b'("Sat, 21 Nov 2026 11:00:00 +0300" "=?utf-8?b?xLBodGFy?=" '
    b'(("=?UTF-8?B?QXnFn2UgWcSxbG1heg==?=" NIL "ayse.yilmaz" "hs91.kep.tr")) '
    b'(("=?UTF-8?B?QXnFn2UgWcSxbG1heg==?=" NIL "ayse.yilmaz" "hs91.kep.tr")) '
    b'(("=?UTF-8?B?QXnFn2UgWcSxbG1heg==?=" NIL "ayse.yilmaz" "hs91.kep.tr")) '
    b'(("Veli Demir" NIL "veli.demir" "hs91.kep.tr")(NIL NIL "ekip" NIL)(NIL NIL "a" "b.example")'
    b'("Ali Veli" NIL "c" "d.example")(NIL NIL NIL NIL)) NIL NIL NIL "<o1@client>") '
    b'(("text" "plain" ("charset" "utf-8") NIL NIL "8bit" 22 1 NIL NIL NIL NIL)'
    b'("application" "pkcs7-signature" ("name" "smime.p7s") NIL NIL "base64" 4 NIL '
    b'("attachment" ("filename" "smime.p7s")) NIL NIL) "signed" ("protocol" "application/pkcs7-signature" '
    b'"micalg" "sha-256" "boundary" "in") NIL NIL NIL) 23 NIL ("attachment" ("filename" "original.eml")) '
    b'NIL NIL) "mixed" ("boundary" "mid") NIL NIL NIL)'
    b'("application" "pkcs7-signature" NIL NIL NIL "7bit" 4 NIL NIL NIL NIL) "signed" '
    b'("boundary" "out" "micalg" "sha-256") NIL NIL NIL)'
)
LITERAL = re.compile(rb"(BODY\[[^]]*\](?:<\d+>)?|RFC822[.A-Z]*) \{(\d+)\}\r\n")


def literals(answer: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    at = 0
    while (match := LITERAL.search(answer, at)) is not None:
        end = match.end() + int(match[2])
        found[match[1]] = answer[match.end() : end]
        at = end
    return found


def part_bytes(message: bytes, path: str) -> bytes | None:
    """Cut a section out by hand: only for the dispatch message above."""
    cuts = {
        "": message,
        "HEADER": message[: message.index(b"\r\n\r\n") + 4],
        "TEXT": message[message.index(b"\r\n\r\n") + 4 :],
        "1": message[
            message.index(b"--mid\r\n") : message.index(b"\r\n--out\r\nContent-Type: application/pk")
        ],
        "1.MIME": b'Content-Type: multipart/mixed; boundary="mid"\r\n\r\n',
        "1.1.1": b"KEP iletisi: s=C3=BCre doldu",
        "1.1.2": b"<p>KEP <b>iletisi</b></p>",
        "1.2": b"<delil/>",
        "1.3": ORIGINAL,
        "1.3.HEADER": ORIGINAL[: ORIGINAL.index(b"\r\n\r\n") + 4],
        "1.3.TEXT": ORIGINAL[ORIGINAL.index(b"\r\n\r\n") + 4 :],
        "1.3.1": "Borcunuzu ödeyiniz.\r\n".encode(),
        "1.3.2": b"MIIB",
        "2": b"MIIC",
        "3": None,
        "1.3.3": None,
        "1.2.1": None,
        "2.TEXT": None,
    }
    return cuts[path]


PATHS = [
    "", "HEADER", "TEXT", "1", "1.MIME", "1.1.1", "1.1.2", "1.2", "1.3", "1.3.HEADER", "1.3.TEXT", "1.3.1", "1.3.2",
    "2", "3", "1.3.3", "1.2.1", "2.TEXT",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
async def test_every_section_is_a_slice_of_the_stored_bytes(path: str):
    world = await build_world()
    await world.file(DISPATCH)
    client = await world.client()
    answer = await client.say(f"FETCH 1 BODY.PEEK[{path}]")
    wanted = part_bytes(DISPATCH, path)
    if wanted is None:
        assert f"BODY[{path}] NIL)".encode() in answer
    else:
        assert literals(answer) == {f"BODY[{path}]".encode(): wanted}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from([path for path in PATHS if part_bytes(DISPATCH, path) is not None]),
    origin=st.integers(0, 2000),
    length=st.integers(1, 2000),
)
async def test_every_partial_is_a_slice_of_its_section(path: str, origin: int, length: int):
    world = await build_world()
    await world.file(DISPATCH)
    client = await world.client()
    answer = await client.say(f"FETCH 1 BODY.PEEK[{path}]<{origin}.{length}>")
    wanted = part_bytes(DISPATCH, path)
    assert wanted is not None
    assert literals(answer) == {f"BODY[{path}]<{origin}>".encode(): wanted[origin : origin + length]}


async def test_header_fields_are_chosen_as_received_and_in_order():
    world = await build_world()
    await world.file(ORIGINAL)
    client = await world.client()
    chosen = literals(await client.say("FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT TO X-None)]"))
    assert chosen == {
        b"BODY[HEADER.FIELDS (SUBJECT TO X-None)]": b"To: Veli Demir <veli.demir@hs91.kep.tr>, ekip:a@b.example,\r\n"
        b' "Ali ""Veli""" <c@d.example>;\r\nSubject: =?utf-8?b?xLBodGFy?=\r\n\r\n'
    }
    [rest] = literals(await client.say("FETCH 1 BODY.PEEK[HEADER.FIELDS.NOT (SUBJECT TO)]")).values()
    header = ORIGINAL[: ORIGINAL.index(b"\r\n\r\n") + 4]
    assert sorted([*next(iter(chosen.values())).split(b"\r\n"), *rest.split(b"\r\n")]) == sorted(
        [*header.split(b"\r\n"), b"", b""]
    )


async def test_the_old_names_answer_like_the_new_ones():
    world = await build_world()
    await world.file(PLAIN)
    client = await world.client()
    found = literals(
        await client.say("FETCH 1 (RFC822 RFC822.HEADER RFC822.TEXT BODY.PEEK[1] BODY.PEEK[1.MIME])")
    )
    cut = PLAIN.index(b"\r\n\r\n") + 4
    assert found == {
        b"RFC822": PLAIN,
        b"RFC822.HEADER": PLAIN[:cut],
        b"RFC822.TEXT": PLAIN[cut:],
        b"BODY[1]": PLAIN[cut:],
        b"BODY[1.MIME]": b"MIME-Version: 1.0\r\nContent-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n\r\n",
    }


async def test_a_long_message_leaves_in_pieces():
    content = PLAIN + b"0123456789abcde\r\n" * 200_000
    world = await build_world()
    await world.file(content)
    client = await world.client()
    answer = await client.say("FETCH 1 BODY.PEEK[]<3.3000000>")
    assert literals(answer) == {b"BODY[]<3>": content[3:3_000_003]}
    assert max(len(piece) for piece in client.pieces) <= PIECE


async def test_the_structure_of_a_dispatch():
    world = await build_world()
    await world.file(DISPATCH, gated=True)
    client = await world.client()
    assert await client.say("FETCH 1 BODYSTRUCTURE") == (
        b"* 1 FETCH (BODYSTRUCTURE " + DISPATCH_STRUCTURE + b")\r\nt3 OK Done\r\n"
    )


async def test_the_structure_without_extensions():
    world = await build_world()
    await world.file(PLAIN)
    client = await world.client()
    assert b'BODY ("text" "plain" ("charset" "US-ASCII") NIL NIL "7bit" 55 1))' in await client.say(
        "FETCH 1 BODY"
    )


async def test_the_envelope_of_rfc_3501():
    world = await build_world()
    await world.file(PLAIN)
    client = await world.client()
    assert (
        b'ENVELOPE ("Mon, 7 Feb 1994 21:52:25 -0800 (PST)" "afternoon meeting" '
        b'(("Fred Foobar" NIL "foobar" "Blurdybloop.example")) (("Fred Foobar" NIL "foobar" "Blurdybloop.example")) '
        b'(("Fred Foobar" NIL "foobar" "Blurdybloop.example")) ((NIL NIL "mooch" "owatagu.siam.edu.example")) '
        b'NIL NIL NIL "<B27397-0100000@Blurdybloop.example>")'
    ) in await client.say("FETCH 1 ENVELOPE")


async def test_a_message_of_thousands_of_parts_is_described_beside_the_loop():
    world = await build_world()
    part = b"--b\r\nContent-Type: text/plain; name=a\r\n\r\nx\r\n"
    await world.file(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + part * 3000 + b"--b--\r\n")
    client = await world.client()
    before = world.offload.runs
    answer = await client.say("FETCH 1 BODYSTRUCTURE")
    assert answer.count(b'("name" "a" "charset" "us-ascii")') == 3000
    assert world.offload.runs == before + 2


def test_strings_are_quoted_where_they_can_be_and_literals_where_not():
    assert render.string(b"") == b'""'
    assert render.string(b'a"b\\c') == b'"a\\"b\\\\c"'
    assert render.string("ş".encode()) == b"{2}\r\n\xc5\x9f"
    assert render.string(b"a\r\nb") == b"{4}\r\na\r\nb"
    assert render.string(b"x" * 2000).startswith(b"{2000}\r\n")


@pytest.mark.parametrize(
    "message",
    [
        b"Content-Type: multipart/mixed\r\n\r\nno boundary\r\n",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\nno parts\r\n",
        b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nRnJvbTogYQ0KDQo=\r\n",
        b"\r\n",
        b"",
        b"Subject: no end",
        b'From: "unclosed <a@b\r\nTo: <>\r\nContent-Type: text\r\n\r\n',
    ],
)
async def test_malformed_messages_still_have_a_structure_and_an_envelope(message: bytes):
    world = await build_world()
    await world.file(message)
    client = await world.client()
    answer = await client.say("FETCH 1 (ENVELOPE BODY BODYSTRUCTURE BODY.PEEK[] BODY.PEEK[1])")
    assert b" OK " in answer
    assert b"BODY[] {%d}" % len(message) in answer
    assert b'"multipart"' not in answer


def test_an_index_comes_back_equal():
    source = BytesSource(DISPATCH)
    root = scan(source)
    data = encode(source, root)
    index = decode(data)
    assert index.root == root
    assert index.header == decode_header(data) == DISPATCH[: DISPATCH.index(b"\r\n\r\n") + 4]


@pytest.mark.parametrize(
    "data", [b"", b"\x01", b"\x02\0\0\0\0[]", b"\x01\0\0\0\x09[]", b"\x01\0\0\0\0{}", b"\x01\0\0\0\0["]
)
def test_what_is_no_index_is_refused(data: bytes):
    with pytest.raises(MessageIndexError):
        decode(data)


async def test_long_names_become_encoded_words_that_clients_can_read():
    name = "Çok Uzun Adlı Şirket Unvanı " * 8
    raw = f"From: {name}<a@b.example>\r\n\r\n".encode()
    shown = render.envelope(scan(BytesSource(raw)).fields)
    match = re.search(rb'\(\("([^"]*)" NIL "a" "b.example"\)\)', shown)
    assert match is not None
    words = match[1].decode("ascii")
    assert all(len(word) <= 75 for word in words.split(" "))
    parsed = email.message_from_string(f"X: {words}\n\n", policy=email.policy.default)
    assert parsed["X"] == name.strip()
