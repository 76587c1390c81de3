"""A running server follows the trust list, and hands it to its signer; what cannot be read changes nothing."""

import asyncio
import socket
import threading
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.x509.chain import TrustStore
from kephs.domain.trust_list import AnchorKind, AnchorState, TrustAnchor
from kephs.ports import StoreUnavailableError, Tx
from kephs.trust.watch import TrustWatch
from kephs.trust.wire import MAGIC, TrustWireError, pack_trust, receive_trust
from storage.crypto import KeyMismatchError
from storage.memory.store import MemoryStore
from tests.support.anchors import OTHER_KEY, START, authority

ROOT, SECOND = authority(), authority("İkinci Kök", key=OTHER_KEY)
BELOW = authority("Ara", issuer="Örnek ESHS Kök Sertifikası", key=OTHER_KEY)


def anchor(
    der: bytes, state: AnchorState = AnchorState.ACTIVE, kind: AnchorKind = AnchorKind.ROOT
) -> TrustAnchor:
    return TrustAnchor(
        sha256(der).digest(), der, kind, "x", state, "A", START, confirmed=(("Ayşe", START), ("Veli", START))
    )


class World:
    def __init__(self) -> None:
        self.store, self.trust, self.helpers = MemoryStore(), TrustStore([ROOT]), list[bytes]()
        self.changes = 0
        self.watch = TrustWatch(self.store, self.trust, lambda: self.helpers, self._count, every=0.001)

    def _count(self) -> None:
        self.changes += 1

    async def put(self, *anchors: TrustAnchor) -> None:
        def work(tx: Tx) -> None:
            for one in anchors:
                tx.anchors.put(one)

        await self.store.write(work)

    def roots(self) -> set[bytes]:
        return {facts.der for facts in self.trust.roots}


async def test_what_was_approved_counts_and_what_was_retired_does_not() -> None:
    world = World()
    await world.put(anchor(ROOT), anchor(SECOND, AnchorState.PROPOSED))
    assert not await world.watch.look()
    await world.put(anchor(SECOND))
    assert await world.watch.look()
    assert world.roots() == {ROOT, SECOND}
    await world.put(anchor(ROOT, AnchorState.RETIRED))
    assert await world.watch.look()
    assert world.roots() == {SECOND}
    assert not await world.watch.look()
    assert world.changes == 2


async def test_the_last_root_goes_too() -> None:
    world = World()
    await world.put(anchor(ROOT, AnchorState.RETIRED))
    assert await world.watch.look()
    assert world.trust.empty


async def test_intermediates_of_list_and_folder_help_and_are_no_roots() -> None:
    world = World()
    await world.put(anchor(ROOT), anchor(BELOW, kind=AnchorKind.INTERMEDIATE))
    world.helpers.append(SECOND)
    assert await world.watch.look()
    assert world.roots() == {ROOT}
    assert {facts.der for facts in world.trust.intermediates} == {BELOW, SECOND}
    assert not await world.watch.look()


class Failing:
    def __init__(self, error: Exception) -> None:
        self.error, self.reads = error, 0

    async def read(self, _work: Any) -> Any:
        self.reads += 1
        raise self.error


@pytest.mark.parametrize(
    "error",
    [KeyMismatchError("row"), StoreUnavailableError("full"), RuntimeError("x")],
    ids=lambda e: type(e).__name__,
)
async def test_what_cannot_be_read_leaves_the_list_as_it_was_and_the_watch_goes_on(error: Exception) -> None:
    world, failing, stopping = World(), Failing(error), asyncio.Event()
    watch = TrustWatch(failing, world.trust, list, world._count, every=0.001)  # type: ignore[arg-type]
    assert not await watch.look()
    task = asyncio.ensure_future(watch.run(stopping))
    async with asyncio.timeout(10):
        while failing.reads < 3:
            await asyncio.sleep(0)
        stopping.set()
        await task
    assert world.roots() == {ROOT}
    assert world.changes == 0


# What the signer is handed.


def received(data: bytes) -> TrustStore:
    ours, theirs = socket.socketpair()

    def send() -> None:
        with ours:
            ours.sendall(data)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        return receive_trust(theirs)
    finally:
        theirs.close()
        sender.join()


def test_the_signer_reads_what_its_server_trusts() -> None:
    sent = TrustStore([ROOT, SECOND], intermediates=[BELOW])
    found = received(pack_trust(sent))
    assert {f.der for f in found.roots} == {ROOT, SECOND}
    assert {f.der for f in found.intermediates} == {BELOW}


def test_not_one_octet_more_is_taken() -> None:
    ours, theirs = socket.socketpair()
    ours.sendall(pack_trust(TrustStore([ROOT])) + b"next")
    assert receive_trust(theirs).roots
    assert theirs.recv(10) == b"next"
    ours.close()
    theirs.close()


@given(st.binary(max_size=60), st.integers(0, 400))
def test_anything_else_is_refused(junk: bytes, cut: int) -> None:
    whole = pack_trust(TrustStore([ROOT]))
    for data in (junk, whole[: min(cut, len(whole) - 1)], MAGIC + junk):
        if data == MAGIC + b"\0\0\0\0":
            continue
        try:
            assert not received(data).roots
        except TrustWireError:
            continue
