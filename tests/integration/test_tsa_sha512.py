"""SHA-512 imprints over real HTTP: what hash-tree renewal asks of a TSA, and answers that it must not take."""

import secrets
from collections.abc import AsyncIterator
from hashlib import new as new_hash
from hashlib import sha256, sha512
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from evidence.adapters.tsa_http import HttpTimestamper
from evidence.ports import TimestampUnavailableError
from evidence.stamps.timestamps import build_request, read_request, read_token, verify_token
from evidence.x509.chain import TrustStore
from kephs.ports.preservation import RenewalReason
from kephs.simulation.authorities import YEAR
from kephs.simulation.story import START
from kephs.testpki.server import port_of, serve
from tests.support.pki import NOW, shared_pki
from tests.support.tsa import REPLY, Tsa, authorities, client
from tests.unit.test_preserve import World

OCTETS = b"the root of a hash tree"
DIGEST = sha512(OCTETS).digest()
TRUST = TrustStore([shared_pki().root])


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as opened:
        yield opened


@pytest.fixture
async def tsa() -> AsyncIterator[Tsa]:
    async with authorities(1) as (running,):
        yield running


def holds(token: bytes, octets: bytes = OCTETS) -> bool:
    """Say whether a token is about these octets, under whichever hash it names."""
    return verify_token(
        token, imprint=lambda name: new_hash(name, octets).digest(), trust=TRUST, at=NOW
    ).passed


async def refusal(session: aiohttp.ClientSession, tsa: Tsa) -> str:
    with pytest.raises(TimestampUnavailableError) as caught:
        await client({"session": session}, tsa.url).stamp(DIGEST, "sha512")
    return str(caught.value)


async def test_the_test_pkis_tsa_stamps_a_sha512_imprint_over_http(session):
    runner = await serve(shared_pki(), "127.0.0.1", 0, clock=lambda: NOW)
    try:
        url = f"http://127.0.0.1:{port_of(runner)}/tsa"
        token = await client({"session": session}, url).stamp(DIGEST, "sha512")
    finally:
        await runner.cleanup()
    info = read_token(token).info
    assert (info.hash_name, info.imprint) == ("sha512", DIGEST)
    assert holds(token)
    assert not holds(token, b"other octets")


async def test_the_request_names_sha512_and_carries_all_64_octets(session, tsa):
    assert holds(await client({"session": session}, tsa.url).stamp(DIGEST, "sha512"))
    asked = read_request(tsa.bodies[0])
    assert (asked.hash_name, asked.imprint) == ("sha512", DIGEST)


@pytest.mark.parametrize(
    ("digest", "name"),
    [
        (sha256(OCTETS).digest(), "sha256"),
        (DIGEST[:32], "sha256"),
        (sha512(b"other octets").digest(), "sha512"),
        (bytes(64), "sha512"),
    ],
    ids=["sha-256 of the same", "half of the digest", "other octets", "zeros"],
)
async def test_an_answer_about_anything_but_the_sha512_digest_is_refused(session, tsa, digest, name):
    async def other(tsa, _request, body):
        asked = read_request(body)
        answer = tsa.answer(build_request(digest, asked.nonce, policy=asked.policy, hash_name=name))
        return web.Response(body=answer, content_type=REPLY)

    tsa.spoil = other
    assert "imprint" in await refusal(session, tsa)


async def test_a_sha512_answer_to_a_sha256_question_is_refused_as_well(session, tsa):
    async def other(tsa, _request, body):
        asked = read_request(body)
        answer = tsa.answer(build_request(DIGEST, asked.nonce, hash_name="sha512"))
        return web.Response(body=answer, content_type=REPLY)

    tsa.spoil = other
    with pytest.raises(TimestampUnavailableError, match="imprint"):
        await client({"session": session}, tsa.url).stamp(sha256(OCTETS).digest())


@pytest.mark.parametrize(("digest", "name"), [(DIGEST, "sha256"), (DIGEST[:32], "sha512"), (DIGEST, "md5")])
async def test_a_digest_of_another_length_or_hash_is_never_sent(session, tsa, digest, name):
    with pytest.raises(ValueError, match="imprint must be"):
        await client({"session": session}, tsa.url).stamp(digest, name)
    assert tsa.requests == []


async def renewing(world: World, session: aiohttp.ClientSession, url: str) -> HttpTimestamper:
    return HttpTimestamper(
        [url], session=session, clock=world.clock.now, trust=world.authorities.trust,
        nonces=lambda: secrets.randbits(64),
    )  # fmt: skip


async def test_a_round_of_hash_tree_renewal_gets_its_one_token_over_http(tmp_path: Path, session) -> None:
    """Archive, retired hash, TEST PKI behind HTTP; then a TSA that stays with SHA-256: no round is made."""
    world = World(tmp_path)
    await world.archive.enter(6)
    world.authorities.retire_sha256(START + YEAR)
    await world.passes(0.6)
    runner = await serve(world.authorities.newest, "127.0.0.1", 0, clock=world.clock.now)
    tsa = await Tsa().start()
    tsa.pki = world.authorities.newest
    tsa.now = world.clock.now()

    async def stays(tsa, _request, body):
        asked = read_request(body)
        answer = tsa.answer(build_request(asked.imprint[:32], asked.nonce))
        return web.Response(body=answer, content_type=REPLY)

    tsa.spoil = stays
    try:
        broken = await renewing(world, session, tsa.url)
        with pytest.raises(TimestampUnavailableError, match="imprint"):
            await world.restarted(stamper=broken).run()
        assert world.archive.rows.made == []
        good = await renewing(world, session, f"http://127.0.0.1:{port_of(runner)}/tsa")
        row = await world.restarted(stamper=good).run()
        assert row is not None
        assert (row.reason, row.hash_name, row.leaves) == (RenewalReason.HASH, "sha512", 6)
        assert await world.all_hold()
        facts = (await world.check(1)).report.facts
        assert facts["hashes"] == ["sha256", "sha512"]
    finally:
        await tsa.runner.cleanup()
        await runner.cleanup()
        await world.archive.close()
