"""One side of the signer's socket misbehaves: the other gives it up, and nothing else suffers."""

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest

from evidence.forms.record_wire import encode, fingerprint
from evidence.model.records import Party, Profile
from evidence.ports import SignerUnavailableError
from kephs.signer import client, wire
from kephs.signer.client import RemoteSealer
from kephs.signer.server import SignerRules, SignerServer
from kephs.signer.wire import Answer, Failure, Hello, Seal, Trouble, pack, pack_answer, pack_request
from tests.support.evidence_samples import HS91, record
from tests.unit.test_signer_sealing import DIGEST, NOW, Held, _outcome, until


@asynccontextmanager
async def raw_server(sealing):
    """A server, and the other end of its socket as bytes."""
    ours, theirs = socket.socketpair()
    async with asyncio.TaskGroup() as group:
        server_ = SignerServer(sealing, SignerRules(HS91), lambda: NOW)
        served = group.create_task(server_.serve(theirs, asyncio.Event()))
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        frames = wire.FrameReader(wire.ANSWER_MAX)

        async def answer():
            while True:
                found = frames.feed(await reader.read(1))
                if found:
                    return wire.read_answer(found[0])
                if reader.at_eof():
                    return None

        assert await answer() == Hello(fingerprint())
        yield writer, answer
        writer.close()
        await writer.wait_closed()
        await served


GOOD = Seal(5, (encode(record()),), Profile.KEP, None)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff", (wire.REQUEST_MAX + 1).to_bytes(4), b"\0\0\0\0", b"GET / HTTP/1.1\r\n\r\n",
        pack({"op": "seal"}), b"\0\0\x3e\x82\x3e\x80" + b"[" * 16_000,
    ],
    ids=["huge", "one too many", "empty", "another protocol", "no number", "JSON bomb"],
)  # fmt: skip
async def test_a_server_closes_on_garbage(data):
    held = Held()
    async with raw_server(held) as (writer, answer):
        writer.write(data)
        assert await answer() is None
    assert held.asked == []


@pytest.mark.parametrize(
    "record_bytes",
    [b"", b"[]", b"[" * 500_000, encode(record()).replace(b"[40,", b"[99,"), DIGEST],
    ids=["empty", "no field", "JSON bomb", "unknown kind", "a digest"],
)
async def test_a_server_refuses_records_that_are_none(record_bytes):
    held = Held()
    async with raw_server(held) as (writer, answer):
        writer.write(pack_request(Seal(5, (record_bytes,), Profile.KEP, None)))
        refused = await answer()
        assert isinstance(refused, Failure)
        assert (refused.number, refused.trouble) == (5, Trouble.REFUSED)
        writer.write(pack_request(GOOD))
        assert isinstance(await answer(), Answer)
    assert held.asked == [(1, Profile.KEP, None)]


async def test_a_server_refuses_operations_it_does_not_know():
    async with raw_server(Held()) as (writer, answer):
        for head in ({"id": 1, "op": "sign-raw"}, {"id": 1, "op": "seal", "profile": 5, "stamping": None}):
            writer.write(pack(head, (b"x",)))
            assert (await answer()).trouble is Trouble.REFUSED


async def test_a_server_whose_client_is_gone_stops_its_work():
    held = Held()
    held.hold(record().evidence_id)
    async with raw_server(held) as (writer, _):
        writer.write(pack_request(GOOD))
        await until(lambda: held.asked)


@pytest.mark.parametrize(
    "data",
    [
        pack_answer(Answer(1 << 40, (b"x",))), pack_answer(Hello(fingerprint())), b"\xff" * 8,
        (wire.ANSWER_MAX + 1).to_bytes(4), pack({"id": 0, "error": "other", "text": ""}),
    ],
    ids=["to no question", "second hello", "garbage", "too long", "unknown trouble"],
)  # fmt: skip
async def test_a_client_gives_up_a_signer_that_talks_nonsense(data):
    ours, theirs = socket.socketpair()
    theirs.sendall(pack_answer(Hello(fingerprint())))
    sealer = RemoteSealer(wait_seconds=0.01)
    link = await sealer.attach(ours)
    async with asyncio.TaskGroup() as group:
        call = group.create_task(_outcome(sealer.sign_entity(DIGEST, NOW)))
        await asyncio.sleep(0)
        theirs.sendall(data)
        assert isinstance(await call, SignerUnavailableError)
    assert link.lost.is_set()
    theirs.close()


@pytest.mark.parametrize("parts", [(), (None,), (b"x", b"y")], ids=["none", "absent", "two"])
async def test_a_client_takes_no_answer_of_another_shape(parts):
    ours, theirs = socket.socketpair()
    theirs.sendall(pack_answer(Hello(fingerprint())))
    sealer = RemoteSealer(wait_seconds=0.01)
    await sealer.attach(ours)
    async with asyncio.TaskGroup() as group:
        call = group.create_task(_outcome(sealer.sign_entity(DIGEST, NOW)))
        await asyncio.sleep(0)
        theirs.sendall(pack_answer(Answer(0, parts)))
        assert isinstance(await call, SignerUnavailableError)
    sealer.close()
    theirs.close()


async def test_a_signer_that_does_not_read_makes_callers_wait_not_buffer():
    ours, theirs = socket.socketpair()
    theirs.sendall(pack_answer(Hello(fingerprint())))
    sealer = RemoteSealer(answer_seconds=0.1)
    link = await sealer.attach(ours)
    many = tuple(Party(f"{n:064}@hs91.kep.tr") for n in range(500))
    with pytest.raises(SignerUnavailableError):
        await sealer.seal_many([record(recipients=many)] * 400)
    assert not link.writable.is_set() or link.lost.is_set()
    sealer.close()
    await link.lost.wait()
    theirs.close()


def test_limits_fit_each_other():
    assert client.ANSWER_SECONDS > 60
    assert wire.HEAD_MAX < 1 << 16
    assert wire.RECORDS_MAX * 2 * 9 < wire.HEAD_MAX - 200
    assert wire.LEAVES_MAX * 5 < wire.HEAD_MAX - 200
