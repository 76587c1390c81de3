"""Paid time stamps, counted in a file while real HTTP brings them."""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from structlog.testing import capture_logs

from evidence.adapters.tsa_credits import CreditFile, read_credits
from evidence.adapters.tsa_identity import TsaEndpoint
from evidence.stamps.token_budget import CreditState
from tests.support.pki import NOW
from tests.support.tsa import (
    DIGEST,
    Tsa,
    authorities,
    client,
    proves,
)


@pytest.fixture
async def tsas() -> AsyncIterator[list[Tsa]]:
    async with authorities() as running:
        yield running


@pytest.fixture
def tsa(tsas: list[Tsa]) -> Tsa:
    return tsas[0]


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as opened:
        yield opened


async def test_a_failing_count_fails_no_stamp(tsa, session):
    def broken(_endpoint, _at):
        raise RuntimeError("disk")

    with capture_logs() as logs:
        assert proves(await client({"session": session}, tsa.url, spent=broken).stamp(DIGEST))
    assert [entry["event"] for entry in logs] == ["stamp.count_failed"]


async def test_tokens_are_counted_across_restarts_and_processes(tsa, session, tmp_path):
    path = tmp_path / "tsa-credits.json"
    endpoint = TsaEndpoint(tsa.url, credits=10)
    one, two = (CreditFile(path, [endpoint], every=1000) for _ in range(2))
    for counter in (one, two):
        stamper = client({"session": session}, endpoint, spent=counter.spent)
        for _ in range(2):
            await stamper.stamp(DIGEST)
    assert not path.exists()
    await one.close()
    await two.close()
    await two.close()
    (line,) = read_credits(path, [endpoint])
    assert (line.used, line.left, line.state) == (4, 6, CreditState.PLENTY)
    assert (line.spending.first, line.spending.last) == (NOW, NOW)
    assert CreditFile(path, [endpoint]).report() == (line,)
    assert two.report() == (line,)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tsa-credits.json", "tsa-credits.json.lock"]


async def test_the_file_is_written_every_so_many_tokens(tmp_path):
    path = tmp_path / "tsa-credits.json"
    counter = CreditFile(path, ["http://tsa.example/"], every=5, apart=0)
    for _ in range(4):
        counter.spent("http://tsa.example/", NOW)
    assert counter._writing is None
    counter.spent("http://tsa.example/", NOW)
    counter.spent("http://tsa.example/", NOW)  # while it is written
    await counter._writing
    assert json.loads(path.read_text())["spent"]["http://tsa.example/"]["used"] == 5
    for _ in range(4):
        counter.spent("http://tsa.example/", NOW)
    await counter._writing
    assert json.loads(path.read_text())["spent"]["http://tsa.example/"]["used"] == 10
    counter.spent("http://tsa.example/", NOW)
    await counter.close()
    assert json.loads(path.read_text())["spent"]["http://tsa.example/"]["used"] == 11


async def test_between_two_times_that_the_file_is_written_some_time_passes(tmp_path):
    path = tmp_path / "tsa-credits.json"
    counter = CreditFile(path, ["http://tsa.example/"], every=2, apart=0.02)
    for _ in range(2):
        counter.spent("http://tsa.example/", NOW)
    await counter._writing
    for _ in range(9):
        counter.spent("http://tsa.example/", NOW)
    assert counter._writing is None  # not yet, but no further token is needed for it
    while read_credits(path, ["http://tsa.example/"])[0].used < 11:
        await asyncio.sleep(0.001)
    await counter.close()


async def test_what_waits_to_be_written_is_written_in_the_end(tmp_path):
    path = tmp_path / "tsa-credits.json"
    counter = CreditFile(path, ["http://tsa.example/"], every=1, apart=3600)
    for _ in range(3):
        counter.spent("http://tsa.example/", NOW)
        if counter._writing is not None:
            await counter._writing
    assert read_credits(path, ["http://tsa.example/"])[0].used == 1
    await counter.close()
    assert read_credits(path, ["http://tsa.example/"])[0].used == 3


async def test_what_is_spent_while_the_file_is_written_is_written_once(tmp_path):
    counter = CreditFile(tmp_path / "tsa-credits.json", ["http://tsa.example/"], every=1)
    for _ in range(5):
        counter.spent("http://tsa.example/", NOW)
    await counter.close()
    assert read_credits(tmp_path / "tsa-credits.json", ["http://tsa.example/"])[0].used == 5


async def test_many_who_count_in_one_file_lose_nothing(tmp_path):
    path = tmp_path / "tsa-credits.json"

    async def one():
        counter = CreditFile(path, [], every=1)
        for _ in range(10):
            counter.spent("http://tsa.example/", NOW)
            await asyncio.sleep(0)
        await counter.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(one())
    assert read_credits(path, [])[0].used == 80


async def test_running_out_is_told_at_each_step_and_at_the_start(tmp_path):
    path = tmp_path / "tsa-credits.json"
    endpoint = TsaEndpoint("http://tsa.example/", credits=20)
    counter = CreditFile(path, [endpoint])
    with capture_logs() as logs:
        for _ in range(25):
            counter.spent(endpoint.url, NOW)
    assert [(e["log_level"], e["state"], e["left"]) for e in logs] == [
        ("warning", "low", 4),
        ("error", "critical", 1),
        ("error", "exhausted", 0),
    ]
    await counter.close()
    with capture_logs() as logs:
        CreditFile(path, [endpoint])
    assert [entry["state"] for entry in logs] == ["exhausted"]


async def test_a_file_that_cannot_be_written_or_read_stops_nothing(tmp_path):
    path = tmp_path / "gone" / "tsa-credits.json"
    counter = CreditFile(path, ["http://tsa.example/"], every=2)
    with capture_logs() as logs:
        for _ in range(3):
            counter.spent("http://tsa.example/", NOW)
        await counter.close()
    assert {entry["event"] for entry in logs} == {"stamp.credits_not_kept"}
    assert counter.report()[0].used == 3
    path.parent.mkdir()
    await counter.close()  # nothing was lost
    assert read_credits(path, ["http://tsa.example/"])[0].used == 3

    path.write_bytes(b"damaged")
    with capture_logs() as logs:
        counter = CreditFile(path, ["http://tsa.example/"])
        counter.spent("http://tsa.example/", NOW)
        await counter.close()
    assert [entry["event"] for entry in logs] == ["stamp.credits_unreadable"]
    assert path.with_name("tsa-credits.json.damaged").read_bytes() == b"damaged"
    assert read_credits(path, ["http://tsa.example/"])[0].used == 1
