"""The way to a real S3 server fails at every request of every call: nothing is lost, nothing is believed."""

import secrets
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from kephs.ports.objects import ObjectDamagedError, ObjectError, ObjectRef, ObjectUnavailableError
from storage.objects.s3 import S3ObjectStore
from storage.objects.s3_link import S3Place
from tests.support import seaweed
from tests.support.objects import wall_clock
from tests.support.s3_proxy import Fault, S3Proxy

UNTIL = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
HOURS = count(1)
NAME = "delil/2026/11/22/000000000001-000000000100.kepa"
DATA = b"what is sealed\n" * 10_000
SECONDS = 0.5
LOST = [fault for fault in Fault if fault is not Fault.FLIPPED]


class Site:
    """A bucket, a store that reaches it through the proxy, and one that reaches it directly."""

    def __init__(self, proxy: S3Proxy, server: seaweed.SeaweedServer) -> None:
        self.proxy = proxy
        bucket = server.bucket()
        self.far = self._store(server.place(bucket, port=proxy.port, seconds=SECONDS))
        self.near = self._store(server.place(bucket))

    def _store(self, place: S3Place) -> S3ObjectStore:
        return S3ObjectStore(place, clock=wall_clock, random=secrets.token_hex)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    server = seaweed.running()
    async with S3Proxy(server.port) as proxy:
        made = Site(proxy, server)
        yield made
        proxy.plan.clear()
        await made.near.close()
    await made.far.close()  # after the proxy: what waits for an answer ends with it


async def listed(store: S3ObjectStore) -> list[ObjectRef]:
    return [ref async for ref in store.list("delil/")]


async def extended(store: S3ObjectStore, ref: ObjectRef, until: datetime) -> bool:
    return (await store.extend(ref, until)).retain_until == until


Call = Callable[[S3ObjectStore, ObjectRef], Awaitable[object]]
CALLS: dict[str, Call] = {
    "get": lambda store, ref: store.get(ref),
    "check": lambda store, ref: store.check(ref),
    "list": lambda store, ref: listed(store),
    "extend": lambda store, ref: extended(store, ref, UNTIL + timedelta(hours=next(HOURS))),
    "put again": lambda store, ref: store.put(NAME, DATA, UNTIL),
    "probe": lambda store, ref: store.probe(),
}


_REQUESTS_MOST = 60
_NOTHING = object()


@pytest.mark.parametrize("fault", LOST, ids=lambda fault: fault.name)
@pytest.mark.parametrize("call", CALLS)
async def test_no_answer_at_any_request_means_try_again_and_nothing_else(
    site: Site, call: str, fault: Fault
) -> None:
    ref = await site.near.put(NAME, DATA, UNTIL)
    expected = await CALLS[call](site.far, ref)
    assert site.proxy.requests
    for number in range(_REQUESTS_MOST):
        fired = len(site.proxy.fired)
        site.proxy.plan.extend([*[None] * number, fault])
        try:
            seen = await CALLS[call](site.far, ref)
        except ObjectUnavailableError:
            seen = _NOTHING  # also where a busy machine was late by itself
        site.proxy.plan.clear()
        if len(site.proxy.fired) == fired:  # it takes fewer requests
            break
        if seen is not _NOTHING:  # headers cut short are no error of HTTP's: they are asked for otherwise
            assert fault is Fault.CUT_ANSWER
            assert call == "probe" or seen == expected
    assert site.proxy.fired
    assert [one.name for one in await listed(site.near)] == [NAME]
    assert await site.near.get(ref) == DATA


@pytest.mark.parametrize("fault", LOST, ids=lambda fault: fault.name)
async def test_a_put_that_fails_at_any_request_can_be_asked_again(site: Site, fault: Fault) -> None:
    for number in count():
        name = f"delil/{number}.kepa"
        site.proxy.plan.extend([*[None] * number, fault])
        try:
            await site.far.put(name, DATA, UNTIL)
        except ObjectUnavailableError:
            assert len(site.proxy.fired) == number + 1
        site.proxy.plan.clear()
        ref = await site.far.put(name, DATA, UNTIL)
        assert await site.far.get(ref) == DATA
        first = [one async for one in site.near.list(name)]
        assert [(one.name, one.sha512) for one in first] == [(name, ref.sha512)]
        if len(site.proxy.fired) == number:
            break  # it takes fewer requests
    assert len(site.proxy.fired) >= 3


@pytest.mark.parametrize("read", ["get", "check"])
async def test_octets_changed_on_the_way_are_damage_and_never_content(site: Site, read: str) -> None:
    ref = await site.near.put(NAME, DATA, UNTIL)
    site.proxy.plan.append(Fault.FLIPPED)
    with pytest.raises(ObjectDamagedError):
        await CALLS[read](site.far, ref)


@pytest.mark.parametrize("fault", LOST, ids=lambda fault: fault.name)
async def test_a_large_put_that_fails_in_the_middle_can_be_asked_again(site: Site, fault: Fault) -> None:
    data = DATA * 160  # 24 MB: two parts
    site.proxy.plan.extend([None, None, fault])
    try:
        await site.far.put(NAME, data, UNTIL)
    except ObjectUnavailableError:
        pass
    else:
        assert fault is Fault.CUT_ANSWER
    site.proxy.plan.clear()
    ref = await site.near.put(NAME, data, UNTIL)
    assert await site.near.get(ref) == data
    assert await listed(site.near) == [ref]


async def test_a_wrong_key_is_no_damage() -> None:
    server = seaweed.running()
    bucket = server.bucket()
    good = S3ObjectStore(server.place(bucket), clock=wall_clock, random=secrets.token_hex)
    ref = await good.put(NAME, DATA, UNTIL)
    await good.close()
    place = server.place(bucket)
    for changed in (
        {"secret_key": "wrong"}, {"access_key": "nobody"}, {"bucket": "kephs-none"}, {"endpoint": "127.0.0.1:1"},
    ):  # fmt: skip
        store = S3ObjectStore(seaweed.changed(place, **changed), clock=wall_clock, random=secrets.token_hex)
        with pytest.raises(ObjectUnavailableError):
            await store.get(ref)
        with pytest.raises(ObjectError):
            await store.put("delil/b.kepa", DATA, UNTIL)
        await store.close()


async def test_a_closed_store_says_so() -> None:
    server = seaweed.running()
    store = S3ObjectStore(server.place(server.bucket()), clock=wall_clock, random=secrets.token_hex)
    await store.close()
    with pytest.raises(ObjectUnavailableError):
        await store.put(NAME, DATA, UNTIL)


def _certificate(folder: Path) -> Path:
    """Make a key and a certificate for 127.0.0.1 in one file, with the `openssl` of Debian."""
    both = folder / "server.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
            "2", "-subj", "/CN=TEST S3", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", both, "-out", folder / "ca.pem",
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    both.write_bytes(both.read_bytes() + (folder / "ca.pem").read_bytes())
    return both


@pytest.mark.tools
async def test_over_tls_the_server_is_verified_and_large_objects_pass(tmp_path: Path) -> None:
    server = seaweed.running()
    bucket = server.bucket()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate(tmp_path))
    async with S3Proxy(server.port, context) as proxy:
        known = replace(server.place(bucket, port=proxy.port), tls=True, ca_file=tmp_path / "ca.pem")
        store = S3ObjectStore(known, clock=wall_clock, random=secrets.token_hex)
        report = await store.probe()
        assert report.passed, report.failed
        data = DATA * 120  # 18 MB: two parts
        ref = await store.put(NAME, data, UNTIL)
        assert await store.get(ref) == data
        await store.close()
        stranger = S3ObjectStore(replace(known, ca_file=None), clock=wall_clock, random=secrets.token_hex)
        with pytest.raises(ObjectUnavailableError, match="certificate"):
            await stranger.get(ref)
        await stranger.close()
