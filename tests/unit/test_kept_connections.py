"""One connection to a time-stamping authority: answers in any pieces, and what ends it."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.adapters.kept_connections import HEAD_MAX, PostConnection
from evidence.adapters.tsa_exchange import ExchangeError
from evidence.stamps.messages import MAX_RESPONSE, TimestampRefusedError

TYPE = b"Content-Type: application/timestamp-reply\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\n" + TYPE + b"Content-Length: 5\r\n\r\ntoken"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\n" + TYPE + b"Transfer-Encoding: chunked\r\n\r\n2\r\nto\r\n3\r\nken\r\n0\r\n\r\n"
)
LATER = b"HTTP/1.1 100 Continue\r\nContent-Type: text/plain\r\n\r\n" + PLAIN
LAST = PLAIN.replace(b"Content-Length", b"Connection: close\r\nContent-Length")
OPEN_END = b"HTTP/1.1 200 OK\r\n" + TYPE + b"\r\ntoken"


class Wire(asyncio.Transport):
    """A transport that remembers what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.ended = False

    def write(self, data) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.ended

    def abort(self) -> None:
        self.ended = True


def connected() -> tuple[PostConnection, Wire]:
    connection, wire = PostConnection(), Wire()
    connection.connection_made(wire)
    return connection, wire


async def asked(connection: PostConnection) -> "asyncio.Task[bytes]":
    task = asyncio.get_running_loop().create_task(connection.ask(b"question"))
    await asyncio.sleep(0)
    return task


async def answered(connection: PostConnection, pieces, *, ends: bool = False) -> bytes:
    task = await asked(connection)
    for piece in pieces:
        connection.data_received(piece)
    if ends:
        connection.connection_lost(None)
    return await asyncio.wait_for(task, 1)


def cut(data: bytes, places) -> list[bytes]:
    edges = [0, *sorted(place % len(data) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


@pytest.mark.parametrize("data", [PLAIN, CHUNKED, LATER], ids=["plain", "chunked", "continue"])
@given(places=st.lists(st.integers(0, 400), max_size=8))
def test_where_the_network_cuts_does_not_matter(data, places):
    async def run():
        connection, wire = connected()
        for _ in range(2):
            assert await answered(connection, cut(data, places)) == b"token"
            assert connection.reusable
        assert wire.written == [b"question", b"question"]

    asyncio.run(run())


@given(data=st.binary(min_size=1, max_size=200), head=st.sampled_from([b"", PLAIN[:20], PLAIN[:-5]]))
def test_whatever_comes_is_an_answer_or_an_error_of_ours(data, head):
    async def run():
        connection, _ = connected()
        try:
            await answered(connection, [head + data] if head else [data], ends=True)
        except (ExchangeError, TimestampRefusedError):
            assert not connection.reusable

    asyncio.run(run())


async def test_an_answer_that_ends_with_its_connection_counts():
    connection, _ = connected()
    assert await answered(connection, [OPEN_END[:-3], OPEN_END[-3:]], ends=True) == b"token"
    assert not connection.reusable


async def test_an_answer_that_says_so_is_the_last_of_its_connection():
    connection, _ = connected()
    assert await answered(connection, [LAST]) == b"token"
    assert not connection.reusable


@pytest.mark.parametrize("more", [PLAIN, b"HT"], ids=["whole", "begun"])
async def test_after_an_answer_that_nobody_asked_for_a_connection_is_not_used_again(more):
    connection, _ = connected()
    assert await answered(connection, [PLAIN + more]) == b"token"
    assert not connection.reusable
    connection, wire = connected()
    assert await answered(connection, [PLAIN]) == b"token"
    connection.data_received(more)
    assert not connection.reusable
    assert wire.ended


async def test_an_answer_cut_short_is_none():
    connection, _ = connected()
    with pytest.raises(ExchangeError, match="ended before the answer"):
        await answered(connection, [PLAIN[:-1]], ends=True)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\n" + TYPE + b"Content-Length: 70000\r\n\r\n" + bytes(MAX_RESPONSE + 1),
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * (MAX_RESPONSE + HEAD_MAX),
        b"HTTP/1.1 100 Continue\r\n\r\n" * 4000,
        b"HTTP/1.1 200 OK\r\n" + TYPE + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 20_000,
    ],
    ids=["body", "header", "continue", "chunks"],
)
async def test_no_answer_grows_beyond_its_bound(data):
    connection, _ = connected()
    with pytest.raises(TimestampRefusedError, match="larger than 65536"):
        await answered(connection, [data[at : at + 4096] for at in range(0, len(data), 4096)])
    assert not connection.reusable


async def test_nobody_asks_over_a_connection_that_has_ended():
    connection, wire = connected()
    wire.ended = True
    with pytest.raises(ExchangeError, match="was closed"):
        await connection.ask(b"question")
    assert wire.written == []
