"""Sealed columns, wrapped keys, values in the tables, batches."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import literal_column

from kephs.ports import StoreUnavailableError
from storage.batching import LARGEST_BATCH, BatchThread, Job
from storage.crypto import (
    CHUNK,
    ChunkCipher,
    KeyMismatchError,
    Vault,
    chunk_count,
    sealed_size,
    unwrap_key,
    wrap_key,
)
from storage.rows.statements import ListStatement
from storage.rows.values import from_flags, from_micros, seal_json, to_flags, to_micros, unseal_json

KEY = bytes(range(32))


@given(data=st.binary(max_size=300), place=st.text(max_size=20))
def test_what_is_sealed_opens_in_its_place_only(data: bytes, place: str) -> None:
    vault = Vault(KEY)
    sealed = vault.seal(data, place)
    assert vault.unseal(sealed, place) == data
    assert Vault(KEY).unseal(sealed, place) == data  # another process, another salt
    with pytest.raises(KeyMismatchError):
        vault.unseal(sealed, place + "x")
    with pytest.raises(KeyMismatchError):
        Vault(bytes(32)).unseal(sealed, place)


@given(at=st.integers(0, 60), bit=st.integers(0, 7))
def test_one_flipped_bit_opens_nothing(at: int, bit: int) -> None:
    sealed = bytearray(Vault(KEY).seal(b"a name of nineteen b", "accounts:1"))
    assert len(sealed) == 61
    sealed[at] ^= 1 << bit
    with pytest.raises(KeyMismatchError):
        Vault(KEY).unseal(bytes(sealed), "accounts:1")


@pytest.mark.parametrize("cut", [0, 1, 17, 25, 40])
def test_what_is_cut_short_opens_nothing(cut: int) -> None:
    with pytest.raises(KeyMismatchError):
        Vault(KEY).unseal(Vault(KEY).seal(b"x" * 30, "p")[:cut], "p")


def test_equal_values_never_look_alike() -> None:
    vault = Vault(KEY)
    assert len({vault.seal(b"same", "p") for _ in range(100)}) == 100


def test_a_vault_forgets_old_subkeys_and_still_opens_everything() -> None:
    sealed = [Vault(KEY).seal(bytes([n % 256]), "p") for n in range(300)]
    vault = Vault(KEY)
    own = vault.seal(b"own", "p")
    assert [vault.unseal(s, "p") for s in sealed] == [bytes([n % 256]) for n in range(300)]
    assert vault.unseal(own, "p") == b"own"
    assert vault.unseal(vault.seal(b"still own", "p"), "p") == b"still own"


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_keys_have_32_octets(size: int) -> None:
    with pytest.raises(ValueError, match="32 octets"):
        Vault(bytes(size))


def test_a_wrapped_key_opens_with_its_master_key_only() -> None:
    wrapped = wrap_key(KEY, bytes(32))
    assert unwrap_key(KEY, wrapped) == bytes(32)
    for master, changed in ((bytes(32), wrapped), (KEY, wrapped[:-1] + b"?"), (KEY, wrapped[:8]), (KEY, b"")):
        with pytest.raises(KeyMismatchError):
            unwrap_key(master, changed)


def test_a_chunk_opens_as_what_it_was_only() -> None:
    cipher = ChunkCipher(KEY, b"u" * 16)
    sealed = cipher.encrypt(3, b"chunk", last=False)
    assert cipher.decrypt(3, sealed, last=False) == b"chunk"
    for other, number, last in (
        (cipher, 4, False),
        (cipher, 3, True),
        (ChunkCipher(KEY, b"v" * 16), 3, False),
        (ChunkCipher(bytes(32), b"u" * 16), 3, False),
    ):
        with pytest.raises(KeyMismatchError):
            other.decrypt(number, sealed, last=last)


@pytest.mark.parametrize(("size", "chunks"), [(0, 1), (1, 1), (CHUNK, 1), (CHUNK + 1, 2), (2 * CHUNK, 2)])
def test_every_content_has_a_last_chunk(size: int, chunks: int) -> None:
    assert (chunk_count(size), sealed_size(size)) == (chunks, size + 16 * chunks)


@given(at=st.datetimes(timezones=st.just(UTC)))
def test_times_keep_their_microseconds(at: datetime) -> None:
    assert from_micros(to_micros(at)) == at


def test_times_are_stored_in_utc_whatever_their_zone() -> None:
    istanbul = timezone(timedelta(hours=3))
    assert from_micros(to_micros(datetime(2026, 3, 2, 3, 0, tzinfo=istanbul))) == datetime(
        2026, 3, 2, tzinfo=UTC
    )
    with pytest.raises(TypeError):
        to_micros(datetime(2026, 3, 2))  # noqa: DTZ001 - the naive time is the point


@given(
    flags=st.frozensets(
        st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=8), max_size=6
    )
)
def test_flags_come_back_as_they_went_in(flags: frozenset[str]) -> None:
    assert to_flags(from_flags(flags)) == flags


@pytest.mark.parametrize("flag", ["", " ", "a b", "a\tb"])
def test_flags_that_could_not_be_read_back_are_refused(flag: str) -> None:
    with pytest.raises(ValueError, match="flag"):
        from_flags(frozenset({flag}))


def test_sealed_json_keeps_turkish_text() -> None:
    vault = Vault(KEY)
    value = ["İhtar", None, [1, "ğüşöçı"]]
    assert unseal_json(vault, seal_json(vault, value, "m:1"), "m:1") == value


@given(values=st.lists(st.integers(), max_size=700))
def test_a_list_statement_covers_every_value(values: list[int]) -> None:
    statement = ListStatement(lambda binds: literal_column("x").in_(binds))
    covered: set[object] = set()
    for _, params in statement.parts(values):
        covered |= set(params.values())
    assert covered == set(values)


# The batching thread.


def echo(jobs: "list[Job[int]]") -> None:
    for job in jobs:
        job.result = job.payload * 2


async def test_each_caller_gets_its_own_result() -> None:
    thread: BatchThread[int] = BatchThread("t", echo)  # type: ignore[arg-type]
    await thread.start()
    assert await asyncio.gather(*(thread.submit(n) for n in range(1000))) == [2 * n for n in range(1000)]
    assert thread.counters.items == 1000
    assert thread.counters.batches >= 1000 / LARGEST_BATCH
    await thread.close()
    with pytest.raises(StoreUnavailableError):
        await thread.submit(1)


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(), KeyboardInterrupt(), StopIteration()])
async def test_a_batch_that_raises_fails_and_the_thread_goes_on(error: BaseException) -> None:
    failing = [True]

    def process(jobs: "list[Job[int]]") -> None:
        if failing.pop() if failing else False:
            raise error
        echo(jobs)

    thread: BatchThread[int] = BatchThread("t", process)  # type: ignore[arg-type]
    await thread.start()
    with pytest.raises(StoreUnavailableError, match=type(error).__name__):
        await thread.submit(1)
    assert await thread.submit(2) == 4
    assert (thread.counters.failed, thread.counters.items) == (1, 2)
    await thread.close()


async def test_what_prevents_the_start_is_raised_by_it() -> None:
    def refuse() -> None:
        raise LookupError("not here")

    thread: BatchThread[int] = BatchThread("t", echo, on_start=refuse)  # type: ignore[arg-type]
    with pytest.raises(LookupError, match="not here"):
        await thread.start()
    with pytest.raises(StoreUnavailableError):
        await thread.submit(1)
    await thread.close()


async def test_what_a_caller_gave_up_before_its_batch_is_not_done() -> None:
    done: list[int] = []
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()

    def process(jobs: "list[Job[int]]") -> None:
        done.extend(job.payload for job in jobs)
        if done == [0]:
            asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(10)

    thread: BatchThread[int] = BatchThread("t", process)  # type: ignore[arg-type]
    await thread.start()
    first = asyncio.ensure_future(thread.submit(0))
    while not done:
        await asyncio.sleep(0)
    second, third = asyncio.ensure_future(thread.submit(1)), asyncio.ensure_future(thread.submit(2))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, third)
    assert done == [0, 2]
    await thread.close()
