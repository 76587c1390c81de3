"""BINARY and PREVIEW: parts without their encoding, the beginning of the text."""

import base64
import binascii
import quopri
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence.mail import transfer
from evidence.mail.mime import Range
from evidence.ports import BytesSource
from kephs.imap import binary
from kephs.imap.binary import decoded, decoded_size, window
from kephs.imap.fetch import FetchPolicy
from tests.support.imap_world import DISPATCH, ORIGINAL, PLAIN, build_world, notice


def mixed(body: bytes, encoding: str) -> bytes:
    return (
        b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: application/pdf\r\n"
        b"Content-Transfer-Encoding: %b\r\n\r\n%b\r\n--b--\r\n" % (encoding.encode(), body)
    )


async def fetched(content: bytes, text: str) -> bytes:
    world = await build_world()
    await world.file(content)
    client = await world.client()
    return await client.say(f"FETCH 1 {text}")


@pytest.mark.parametrize("size", [0, 1, 2, 3, 1000, 200_000])
async def test_base64_is_taken_off_and_its_size_told(size: int):
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    message = mixed(base64.encodebytes(body).replace(b"\n", b"\r\n").rstrip(), "base64")
    answer = await fetched(message, "(BINARY.SIZE[1] BINARY.PEEK[1])")
    assert b"BINARY.SIZE[1] %d BINARY[1] ~{%d}\r\n%b)" % (size, size, body) in answer
    partial = await fetched(message, "BINARY.PEEK[1]<1.2>")
    assert b"BINARY[1]<1> ~{%d}\r\n%b)" % (len(body[1:3]), body[1:3]) in partial


async def test_quoted_printable_is_taken_off():
    answer = await fetched(DISPATCH, "(BINARY.SIZE[1.1.1] BINARY[1.1.1])")
    text = "KEP iletisi: süre doldu".encode()
    assert b"BINARY.SIZE[1.1.1] %d BINARY[1.1.1] ~{%d}\r\n%b)" % (len(text), len(text), text) in answer
    assert rb"FLAGS (\Seen)" in answer


async def test_what_has_no_encoding_is_given_as_it_is():
    answer = await fetched(DISPATCH, "(BINARY.PEEK[1.3] BINARY.SIZE[1.3] BINARY.PEEK[] BINARY.SIZE[])")
    assert b"BINARY[1.3] {%d}\r\n%b" % (len(ORIGINAL), ORIGINAL) in answer
    assert b"BINARY.SIZE[1.3] %d" % len(ORIGINAL) in answer
    assert b"BINARY[] {%d}\r\n%b" % (len(DISPATCH), DISPATCH) in answer
    answer = await fetched(DISPATCH, "(BINARY.PEEK[7] BINARY.SIZE[7])")
    assert b"BINARY[7] NIL BINARY.SIZE[7] 0" in answer


async def test_an_unknown_encoding_is_a_no_and_makes_no_evidence():
    world = await build_world()
    await world.file(mixed(b"begin 644 x", "x-uuencode"), gated=True)
    client = await world.client()
    assert re.fullmatch(rb"t3 NO \[UNKNOWN-CTE\][^\r]+\r\n", await client.say("FETCH 1 BINARY[1]"))
    assert b"NO [UNKNOWN-CTE]" in await client.say("FETCH 1 BINARY.SIZE[1]")
    assert world.reader.asked == []


async def test_a_long_part_leaves_in_pieces(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(binary, "PIECE", 1000)
    body = bytes(range(256)) * 2000
    world = await build_world()
    await world.file(mixed(base64.encodebytes(body).replace(b"\n", b"\r\n"), "base64"))
    client = await world.client()
    answer = await client.say("FETCH 1 BINARY.PEEK[1]<1000.400000>")
    assert b"~{400000}\r\n" + body[1000:401_000] + b")" in answer
    assert max(len(piece) for piece in client.pieces) < 40_000


def _decode(data: bytes, encoding: str) -> bytes:
    return b"".join(decoded(BytesSource(b"##" + data + b"##"), Range(2, 2 + len(data)), encoding))


@settings(max_examples=200)
@given(st.binary(max_size=300), st.integers(1, 80), st.integers(1, 40))
def test_base64_is_decoded_alike_however_it_is_read(data: bytes, line: int, piece: int):
    coded = base64.b64encode(data)
    wire = b"\r\n".join(coded[at : at + line] for at in range(0, len(coded), line))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(binary, "PIECE", piece)
        assert _decode(wire, "base64") == data
        assert decoded_size(BytesSource(wire), Range(0, len(wire)), "base64") == len(data)


@settings(max_examples=200)
@given(st.binary(max_size=300), st.integers(1, 40))
def test_quoted_printable_is_decoded_alike_however_it_is_read(data: bytes, piece: int):
    wire = quopri.encodestring(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(binary, "PIECE", piece)
        assert _decode(wire, "quoted-printable") == binascii.a2b_qp(wire)


@settings(max_examples=300)
@given(st.binary(max_size=200), st.sampled_from(["base64", "quoted-printable"]), st.integers(1, 50))
def test_any_bytes_decode_to_no_more_than_they_are(data: bytes, encoding: str, piece: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(binary, "PIECE", piece)
        patch.setattr(transfer, "_HELD_MAX", 20)
        assert len(_decode(data, encoding)) <= len(data)


@given(st.lists(st.binary(max_size=20), max_size=8), st.integers(0, 100), st.integers(1, 60))
def test_a_window_is_a_slice(pieces: list[bytes], start: int, length: int):
    whole = b"".join(pieces)
    assert b"".join(window(iter(pieces), start, length)) == whole[start : start + length]


async def test_a_preview_is_the_beginning_of_the_text_on_one_line():
    assert b"PREVIEW {24}\r\n" + "KEP iletisi: süre doldu".encode() in await fetched(DISPATCH, "PREVIEW")
    assert b'PREVIEW "Hello Joe, do you think' in await fetched(PLAIN, "(PREVIEW (LAZY))")
    shown = await fetched(notice("a", "x\r\n y\t\r\n" * 200), "PREVIEW")
    assert b'PREVIEW "' + b"x y " * 49 + b'x y"' in shown.replace(b'x y "', b'x y"')
    assert b'PREVIEW ""' in await fetched(mixed(b"AAAA", "base64"), "PREVIEW")


@pytest.mark.parametrize("target", ["INBOX", "Ar&AV8-iv"])
async def test_with_reading_over_imap_off_extensions_see_the_stub_alone(target: str):
    world = await build_world(policy=FetchPolicy(imap_body=False))
    await world.file(DISPATCH, gated=True)
    client = await world.client()
    if target != "INBOX":
        await client.say(f"MOVE 1 {target}")
        await client.say(f"SELECT {target}")
    answer = await client.say("FETCH 1 (BINARY[1] BINARY.SIZE[1.3] PREVIEW BINARY.PEEK[2] BINARY.PEEK[])")
    assert "Bu KEP iletisi henüz okunmadı".encode() in answer
    assert b"MIIC" not in answer
    assert b"BINARY.SIZE[1.3] 0" in answer
    assert b"BINARY[2] NIL" in answer
    assert world.reader.asked == []
