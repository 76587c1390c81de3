"""Everything an authority may answer, and do wrong, over real HTTP."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from datetime import timedelta

import aiohttp
import pytest
from aiohttp import web

from evidence.ports import TimestampUnavailableError
from evidence.stamps.timestamps import build_request, read_request
from tests.support.pki import NOW
from tests.support.tsa import (
    DIGEST,
    REPLY,
    WAYS,
    Reach,
    Tsa,
    authorities,
    client,
    opened,
    proves,
    refused,
    status,
)


@pytest.fixture
async def tsas() -> AsyncIterator[list[Tsa]]:
    async with authorities() as running:
        yield running


@pytest.fixture
def tsa(tsas: list[Tsa]) -> Tsa:
    return tsas[0]


@pytest.fixture(params=WAYS)
async def reach(request: pytest.FixtureRequest) -> AsyncIterator[Reach]:
    async with opened(request.param) as found:
        yield found


@pytest.mark.parametrize(
    "content_type",
    [REPLY, "application/timestamp-response", "application/octet-stream", "Application/Timestamp-Reply; q=1"],
)
async def test_a_good_token_counts_under_any_of_the_usual_names(tsa, reach, content_type):
    async def named(tsa, _request, body):
        return web.Response(body=tsa.answer(body), headers={"Content-Type": content_type})

    tsa.spoil = named
    assert proves(await client(reach, tsa.url).stamp(DIGEST))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (status(302, headers={"Location": "/elsewhere"}), "HTTP 302 (redirects are not followed)"),
        (status(307, headers={"Location": "/elsewhere"}), "HTTP 307 (redirects are not followed)"),
        (status(503, text="x" * 1000), "HTTP 503"),
        (status(204), "HTTP 204"),
        (status(200, body=bytes(70_000), content_type=REPLY), "larger than 65536"),
        (
            status(200, body=b"<html>captive</html>", content_type="text/html"),
            "text/html (it says: <html>captive",
        ),
        (
            status(200, body=b"x", headers={"Content-Encoding": "gzip", "Content-Type": REPLY}),
            "encoding gzip",
        ),
    ],
    ids=["302", "307", "503", "204", "huge", "portal", "gzip"],
)
async def test_what_is_no_answer_is_refused_with_its_reason(tsa, reach, spoil, reason):
    tsa.spoil = spoil
    assert reason in await refused(client(reach, tsa.url))
    assert len(tsa.requests) == 1


async def test_a_gzip_bomb_is_not_even_opened():
    async def bomb(_tsa, _request, _body):
        body = gzip.compress(bytes(50_000_000))
        return web.Response(body=body, headers={"Content-Encoding": "gzip", "Content-Type": REPLY})

    tsa = await Tsa().start()
    tsa.spoil = bomb
    try:
        async with aiohttp.ClientSession() as session:  # one that would open it
            assert "content encoding gzip" in await refused(client({"session": session}, tsa.url))
    finally:
        await tsa.runner.cleanup()


async def test_an_endless_answer_is_cut_off(tsa, reach):
    async def endless(_tsa, request, _body):
        response = web.StreamResponse(headers={"Content-Type": REPLY})
        await response.prepare(request)
        while True:
            await response.write(bytes(16_384))

    tsa.spoil = endless
    stamper = client(reach, tsa.url, timeout=timedelta(seconds=30))
    assert "larger than 65536" in await refused(stamper)


async def test_an_answer_that_drips_does_not_stretch_the_time_out(tsa, reach):
    dripped = asyncio.Event()

    async def drip(tsa, request, body):
        answer = tsa.answer(body)
        response = web.StreamResponse(headers={"Content-Type": REPLY, "Content-Length": str(len(answer))})
        await response.prepare(request)
        for octet in answer:
            await response.write(bytes((octet,)))
            dripped.set()
            await asyncio.sleep(0.02)
        return response

    tsa.spoil = drip
    began = asyncio.get_running_loop().time()
    text = await refused(client(reach, tsa.url, timeout=timedelta(seconds=0.2)))
    assert asyncio.get_running_loop().time() - began < 4
    assert "no answer within 0.2 s" in text
    assert dripped.is_set()


@pytest.mark.parametrize(
    "spoken",
    [
        b"",
        b"\x00" * 100,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nContent-Type: application/timestamp-reply\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(50_000)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: \xff\xfe\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    ],
    ids=[
        "silence",
        "nuls",
        "ssh",
        "length",
        "minus",
        "short",
        "chunks",
        "line",
        "headers",
        "type",
        "continue",
    ],
)
async def test_a_server_that_speaks_no_http_is_passed_over(tsas, reach, spoken):
    async def speak(reader, writer):
        with_request = await reader.readuntil(b"\r\n\r\n")
        assert with_request.startswith(b"POST")
        writer.write(spoken)
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server:
        odd = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/tsa"
        assert odd in await refused(client(reach, odd, timeout=timedelta(seconds=2)))
        assert proves(await client(reach, odd, tsas[1].url, timeout=timedelta(seconds=2)).stamp(DIGEST))


async def test_a_kept_connection_that_the_server_closed_meanwhile_costs_nothing(tsa, reach):
    """The server closes after its answer without having said so: our next request meets a dead connection."""
    served = []

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        answer = tsa.answer(await reader.readexactly(length))
        served.append(len(answer))
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
            % (REPLY.encode(), len(answer))
        )
        writer.write(answer)
        await reader.read(1)  # the next request arrives: close without an answer
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        stamper = client(reach, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/tsa")
        for _ in range(3):
            assert proves(await stamper.stamp(DIGEST))
        assert len(served) == 3


async def test_a_token_without_certificates_is_refused(tsa, reach):
    async def bare(tsa, _request, body):
        asked = read_request(body)
        short = build_request(asked.imprint, asked.nonce).removesuffix(b"\x01\x01\xff")
        short = bytes((0x30, len(short) - 2)) + short[2:]
        return web.Response(body=tsa.answer(short), content_type=REPLY)

    tsa.spoil = bare
    assert "certificate" in await refused(client(reach, tsa.url))


async def test_a_token_over_other_bytes_is_refused_and_counted(tsa, reach):
    async def other(tsa, _request, body):
        asked = read_request(body)
        return web.Response(body=tsa.answer(build_request(bytes(32), asked.nonce)), content_type=REPLY)

    tsa.spoil = other
    paid = []
    text = await refused(client(reach, tsa.url, spent=lambda *told: paid.append(told)))
    assert "the imprint is not the request's" in text
    assert paid == [(tsa.url, NOW)]


async def test_a_flipped_octet_anywhere_is_no_time_stamp(tsa, reach):
    flip = {"at": 0}

    async def flipped(tsa, _request, body):
        answer = bytearray(tsa.answer(body))
        answer[flip["at"] % len(answer)] ^= 1
        return web.Response(body=bytes(answer), content_type=REPLY)

    tsa.spoil = flipped
    stamper = client(reach, tsa.url)
    passed = []
    for at in range(0, 1700, 13):
        flip["at"] = at
        try:
            passed.append((at, await stamper.stamp(DIGEST)))
        except TimestampUnavailableError:
            continue
    assert passed == []


@pytest.mark.parametrize("offset", [-7, 7])
async def test_the_authoritys_time_is_compared_with_the_time_it_had(tsa, reach, offset):
    """An answer that took long is not refused for it: genTime lies between question and answer."""
    times = iter([NOW, NOW + timedelta(minutes=5)])
    stamper = client(reach, tsa.url, clock=lambda: next(times), max_skew=timedelta(seconds=5))
    tsa.now = NOW + timedelta(minutes=2)
    assert await stamper.stamp(DIGEST)
    tsa.now = NOW + timedelta(seconds=offset)
    assert "far from our clock" in await refused(client(reach, tsa.url, max_skew=timedelta(seconds=5)))


async def test_of_an_authority_that_is_known_every_octet_is_still_looked_at(tsa, reach):
    """What is remembered of good answers saves no check: after many good ones a spoilt one is refused."""
    stamper, answers, place = client(reach, tsa.url, avoid_for=timedelta(0)), [], [0]

    async def remembered(tsa, _request, body):
        answers.append(tsa.answer(body))
        return web.Response(body=answers[-1], content_type=REPLY)

    async def spoilt(tsa, _request, body):
        answer = bytearray(tsa.answer(body))
        answer[place[0]] ^= 1
        return web.Response(body=bytes(answer), content_type=REPLY)

    async def repeated(_tsa, _request, _body):
        return web.Response(body=answers[-1], content_type=REPLY)

    tsa.spoil = remembered
    assert all([proves(await stamper.stamp(DIGEST)) for _ in range(40)])
    tsa.spoil = spoilt
    for place[0] in range(0, min(map(len, answers)), 7):
        await refused(stamper)
    tsa.spoil = repeated
    assert "the nonce is not the request's" in await refused(stamper)


async def test_a_token_of_an_authority_that_is_known_counts_as_spent_and_must_be_of_now(tsa, reach):
    spent = []
    stamper = client(reach, tsa.url, avoid_for=timedelta(0), spent=lambda *one: spent.append(one))
    for _ in range(40):
        assert proves(await stamper.stamp(DIGEST))
    tsa.now = NOW - timedelta(seconds=61)
    for _ in range(40):
        assert "far from our clock" in await refused(stamper)
    assert spent == [(tsa.url, NOW)] * 80
