"""Connections to a time-stamping authority: which are kept, and how often a request is sent."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest
from yarl import URL

from evidence.adapters import kept_connections
from evidence.adapters.kept_connections import KeptConnections
from evidence.adapters.tsa_exchange import ExchangeError

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/timestamp-reply\r\nContent-Length: 5\r\n\r\ntoken"


class Server:
    """Answers on every connection until it was asked ``most`` times there, then closes without a word."""

    def __init__(self, most: int = 100) -> None:
        self.most = most
        self.asked: list[int] = []  # how often, by connection
        self.heads: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(0)
        place = len(self.asked) - 1
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                await reader.readexactly(1)
                self.asked[place] += 1
                if self.asked[place] > self.most:
                    return
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def running(most: int = 100) -> AsyncIterator[tuple[Server, URL]]:
    server = Server(most)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listening:
        yield server, URL(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/tsa?a=%20b")


async def test_requests_at_the_same_time_have_connections_of_their_own_and_leave_them_to_others():
    async with running() as (server, url):
        with closing(KeptConnections()) as kept:
            answers = await asyncio.gather(*(kept.post(url, b"x", {}) for _ in range(3)))
            assert answers == [b"token"] * 3
            for _ in range(3):
                await kept.post(url, b"x", {})
            assert sum(server.asked) == 6
            assert len(server.asked) == 3


async def test_the_head_says_where_what_and_who():
    async with running() as (server, url):
        with closing(KeptConnections()) as kept:
            await kept.post(url, b"x", {"Authorization": "Basic YTpi"})
    lines = server.heads[0].decode("ascii").splitlines()
    assert lines[0] == "POST /tsa?a=%20b HTTP/1.1"
    assert f"Host: 127.0.0.1:{url.port}" in lines
    assert "Authorization: Basic YTpi" in lines
    assert "Content-Type: application/timestamp-query" in lines
    assert "Content-Length: 1" in lines


async def test_a_kept_connection_that_is_cut_is_asked_again_on_another():
    async with running(most=1) as (server, url):
        with closing(KeptConnections()) as kept:
            assert await kept.post(url, b"x", {}) == b"token"
            assert await kept.post(url, b"x", {}) == b"token"
    assert server.asked == [2, 1]


async def test_a_new_connection_that_is_cut_is_not_asked_again():
    async with running(most=0) as (server, url):
        with closing(KeptConnections()) as kept, pytest.raises(ExchangeError):
            await kept.post(url, b"x", {})
    assert server.asked == [1]


async def test_a_connection_that_was_idle_for_long_is_not_trusted(monkeypatch):
    monkeypatch.setattr(kept_connections, "IDLE_SECONDS", 0.0)
    async with running() as (server, url):
        with closing(KeptConnections()) as kept:
            for _ in range(2):
                await kept.post(url, b"x", {})
    assert server.asked == [1, 1]


async def test_whoever_gives_up_ends_the_connection():
    async with running() as (server, url):
        with closing(KeptConnections()) as kept:
            await kept.post(url, b"x", {})
            task = asyncio.get_running_loop().create_task(kept.post(url, b"x", {}))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await kept.post(url, b"x", {})
    assert len(server.asked) == 2


async def test_a_connection_whose_answer_is_late_is_given_up():
    served = []

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        if len(served) > 1:
            writer.write(ANSWER)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(late, "127.0.0.1", 0) as listening:
        url = URL(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/tsa")
        with closing(KeptConnections()) as kept:
            with pytest.raises(TimeoutError):
                await kept.post(url, b"x", {}, seconds=0.01)
            assert await kept.post(url, b"x", {}, seconds=30) == b"token"
        for writer in served:
            await writer.wait_closed()
    assert len(served) == 2


async def test_connecting_counts_among_the_seconds():
    with socket.create_server(("127.0.0.1", 0)) as silent, closing(KeptConnections()) as kept:
        url = URL(f"https://127.0.0.1:{silent.getsockname()[1]}/tsa")  # nobody answers the handshake
        with pytest.raises(TimeoutError):
            await kept.post(url, b"x", {}, seconds=0.01)
