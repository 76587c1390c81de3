"""Whatever comes over the wire: no exception but the named ones, no matter how it is cut."""

import itertools

from hypothesis import example, given, settings
from hypothesis import strategies as st

from kephs.imap.commands import Command
from kephs.imap.cursor import GrammarError
from kephs.imap.framing import AFTER_LOGIN, AppendBegins, Event, FrameLimits, Framer, Piece
from kephs.imap.grammar import CommandError, SearchCharsetError, parse
from kephs.imap.search import Header
from tests.support.imap_world import Client, build_world, notice

SMALL = FrameLimits(line=60, literal=20, skip=30)
WIRE = st.lists(
    st.sampled_from(
        [b"a NOOP", b"\r\n", b"\r", b"\n", b"{3}\r\n", b"{3+}\r\n", b"{25+}\r\n", b"{99}\r\n", b"xyz", b" ", b"a APPEND b",
         b"{99999999999999999999+}\r\n", b'"', b"\0", b"LOGIN"]
    )
    | st.binary(max_size=8),
    max_size=14,
).map(b"".join)  # fmt: skip


def all_events(pieces: list[bytes]) -> list[Event]:
    """Return what comes out; every second message is accepted, and its pieces are put together."""
    framer = Framer(SMALL)
    found: list[Event] = []
    appends = 0
    for piece in pieces:
        framer.feed(piece)
        while (event := framer.next_command()) is not None:
            if isinstance(event, AppendBegins):
                appends += 1
                (framer.accept if appends % 2 else framer.decline)()
            if isinstance(event, Piece) and isinstance(found[-1], Piece):
                event = Piece(found.pop().data + event.data)  # type: ignore[union-attr]
            found.append(event)
    return found


@settings(max_examples=400)
@given(WIRE, st.lists(st.integers(0, 120), max_size=6))
@example(b"x" * 60 + b"\r\n", [61])
@example(b"a APPEND x {9}\r\n012345678 {2+}\r\nxx\r\nb APPEND x {3+}\r\nabc\r\nc NOOP\r\n", [20, 25, 40])
@example(b"x" * 61 + b"\r\n", [61, 62])
def test_where_the_network_cuts_does_not_matter(data: bytes, cuts: list[int]):
    edges = [0, *sorted(cut for cut in cuts if cut <= len(data)), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
    assert all_events([data]) == all_events(pieces) == all_events([bytes([byte]) for byte in data])


@given(WIRE)
def test_the_framer_never_holds_more_than_its_caps(data: bytes):
    framer = Framer(SMALL)
    for byte in data * 3:
        framer.feed(bytes([byte]))
        while (event := framer.next_command()) is not None:
            if isinstance(event, AppendBegins):
                framer.accept()
        held = len(framer._buffer) + len(framer._command)
        assert held <= SMALL.line + SMALL.literal + 10 or framer._dead


WORDS = st.sampled_from(
    [b"FETCH", b"STORE", b"SEARCH", b"UID", b"LIST", b"LOGIN", b"STATUS", b"1:*", b"(", b")", b"BODY[", b"]", b"<0.1>",
     b"HEADER.FIELDS", b"NOT", b"OR", b'"x"', b'""', b"{1}\r\nx", b"{2+}\r\nab", b"\\Seen", b"+FLAGS", b"RETURN", b"1",
     b"1-Jan-2020", b"CHARSET", b"UTF-8", b"RFC822", b".", b"%", b"*", b"\xff", b"\0", b"NIL", b"ID", b"AUTHENTICATE",
     b"COPY", b"MOVE", b"APPEND", b"CREATE", b"RENAME", b"DELETE", b"SUBSCRIBE", b"GETQUOTAROOT", b"ENABLE", b"x/y",
     b"CONDSTORE", b"UTF8=ACCEPT", b"(CHANGEDSINCE 1)", b"(UNCHANGEDSINCE 1)", b"MODSEQ", b"BINARY[1]<0.1>", b"PREVIEW",
     b"(LAZY)", b"UTF8 (~{3+}", b"~{3+}", b'" 1-Feb-2020 00:00:00 +0000"', b"(MIN MAX)", b"LSUB", b"(SUBSCRIBED)",
     b"PLAIN", b"=", b"SELECT", b"&AV8-", b"FULL", b"TEXT", b"SINCE", b"KEYWORD"]
)  # fmt: skip


@settings(max_examples=400)
@given(st.lists(WORDS | st.binary(max_size=4), max_size=12), st.sampled_from([b" ", b""]))
def test_any_words_are_a_command_or_refused(words: list[bytes], joint: bytes):
    found: Command | GrammarError
    try:
        found = parse(b"a " + joint.join(words))
    except (CommandError, SearchCharsetError) as error:
        found = error
    assert isinstance(found, Command) or str(found).isascii()


@settings(max_examples=60)
@given(st.lists(st.lists(WORDS | st.binary(max_size=4), max_size=8).map(b" ".join), max_size=6))
async def test_a_session_answers_every_line_with_one_tagged_answer(lines: list[bytes]):
    world = await build_world()
    await world.file(notice("a"), gated=True)
    client = await world.client()
    client.framer = Framer(AFTER_LOGIN)
    for folder in ("x", "x/y"):
        await client.say(f"CREATE {folder}")
    for line in lines:
        if any(stop in line for stop in (b"{", b"\r", b"\n", b"\0")):
            continue
        answer = await client.send(b"q " + line + b"\r\n")
        tagged = [one for one in answer.split(b"\r\n") if one.startswith((b"q ", b"+ "))]
        assert len(tagged) == 1, answer


@given(st.binary(max_size=300))
def test_any_bytes_can_be_searched_as_a_header(block: bytes):
    Header.of(block)


@given(st.binary(max_size=400))
@settings(max_examples=60)
async def test_any_bytes_are_shown_as_they_are(content: bytes):
    world = await build_world()
    await world.file(content)
    client: Client = await world.client()
    answer = await client.say("FETCH 1 (BODY.PEEK[] ENVELOPE BODYSTRUCTURE)")
    assert b"{%d}\r\n%b" % (len(content), content) in answer
    assert b" OK " in answer


TALK = st.lists(
    st.sampled_from(
        [b"a APPEND Taslaklar {3}\r\n", b"b APPEND x {5+}\r\n", b"c APPEND {1}\r\n", b"x", b"abc", b"\r\n", b"{2+}\r\n",
         b"d NOOP\r\n", b"e IDLE\r\n", b"DONE\r\n", b"f SELECT Taslaklar\r\n", b"g COPY 1 Ar&AV8-iv\r\n", b" ", b")",
         b"h UID MOVE 1:* &AMcA9g-p\r\n", b"i CREATE k/l\r\n", b"j DELETE k\r\n", b"k RENAME k/l m\r\n", b"\0", b"+",
         b"l STORE 1 (UNCHANGEDSINCE 1) +FLAGS \\Deleted\r\n", b"m EXPUNGE\r\n", b"n ENABLE UTF8=ACCEPT\r\n",
         b"o APPEND INBOX {4+}\r\n", b"p APPEND Taslaklar UTF8 (~{3+}\r\n", b"q FETCH 1 (BINARY[1] PREVIEW)\r\n"]
    )
    | st.binary(max_size=6),
    max_size=20,
).map(b"".join)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(TALK, st.integers(1, 30))
async def test_any_talk_is_answered_alike_however_it_is_cut_and_holds_nothing_at_the_end(
    data: bytes, cut: int
):
    answers = []
    for size in (max(len(data), 1), cut):
        world = await build_world()
        client = await world.client(None)
        answer = b"".join([await client.send(data[at : at + size]) for at in range(0, len(data), size)])
        answers.append(answer)
        await client.session.close()
        assert world.service.filing._coming == {}
    assert answers[0] == answers[1]
