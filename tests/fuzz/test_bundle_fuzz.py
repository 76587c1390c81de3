"""Archives and bundles of any shape: a verdict or a clean error, in bounded time and memory, never a crash."""

import asyncio
import contextlib
import io
import json
import random
import tracemalloc
import zipfile
from dataclasses import replace
from time import perf_counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evidence.bundle.making import BundleError, from_pem, path_file, plan_bundle
from evidence.bundle.zip_store import ArchiveError, read_archive
from evidence.ports import BytesSource
from evidence.report import Report
from evidence.verify.bundle import verify_bundle
from tests.support.bundles import bundle, everything
from tests.support.evidence_samples import AT
from tests.support.sealed import LATER, sealer, trust

ROUNDS = 400
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def check(data: bytes) -> Report:
    return verify_bundle(BytesSource(data), trust(), LATER)


@pytest.fixture(scope="module")
def whole() -> bytes:
    return bundle(everything())


def spliced(good: bytes, chance: random.Random) -> bytes:
    """Return the bytes with one cut, splice, flip or repetition."""
    at, length = chance.randrange(len(good)), chance.randrange(1, 64)
    kind = chance.randrange(4)
    if kind == 0:
        return good[:at] + good[at + length :]
    if kind == 1:
        return good[:at] + chance.randbytes(length) + good[at:]
    if kind == 2:
        other = chance.randrange(len(good))
        return good[:at] + good[other : other + length] + good[at + length :]
    return good[:at] + bytes((good[at] ^ (1 << chance.randrange(8)),)) + good[at + 1 :]


@pytest.mark.slow
def test_no_splice_of_a_bundle_passes_or_crashes(whole):
    chance = random.Random(20261121)
    for _ in range(ROUNDS):
        data = spliced(whole, chance)
        if data != whole:
            assert not check(data).passed


@pytest.mark.slow
def test_no_change_of_the_directory_passes_or_crashes(whole):
    chance = random.Random(20261122)
    start = whole.rindex(b"kayit/manifest.p7s") + 200
    begin = whole.index(b"PK\x01\x02", start - 400)
    edges = [bytes(4), b"\xff" * 4, b"\xff" * 2, b"\x00\x80", b"PK\x05\x06", b"PK\x01\x02", b"\x08\x00"]
    for _ in range(ROUNDS):
        at, edge = chance.randrange(begin, len(whole)), chance.choice(edges)
        data = whole[:at] + edge + whole[at + len(edge) :]
        if data != whole:
            assert not check(data).passed


def resigned(change) -> bytes:
    """Return a bundle whose manifest says odd things under a good signature."""
    plan = plan_bundle(everything(), created_at=LATER)
    manifest = json.loads(plan.manifest)
    change(manifest)
    plan = replace(plan, manifest=json.dumps(manifest).encode())
    out = io.BytesIO()
    plan.write(asyncio.run(sealer().sign_entity(plan.digest, AT)), out)
    return out.getvalue()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_signed_manifest_may_say_anything(data):
    def change(manifest):
        place = data.draw(st.sampled_from(["", "files", "ledger"]))
        target = manifest if not place else data.draw(st.sampled_from(manifest[place]))
        target[data.draw(st.sampled_from(sorted(target)))] = data.draw(_VALUES)

    report = check(resigned(change))  # a verdict of whatever kind, that can be printed
    json.dumps(report.to_json(), ensure_ascii=False).encode()


@pytest.mark.parametrize("name", ["evidence_id", "number", "previous", "hash", "at", "evidence_sha256"])
def test_entries_of_odd_types_are_refused(name):
    for value in ([], {}, None, 1.5, 1 << 80, "\ud800"):
        report = check(resigned(lambda m, value=value: m["ledger"][0].update({name: value})))
        assert not report.passed


@given(st.binary(max_size=400))
def test_readers_of_any_bytes_raise_their_own_error_only(data):
    for candidate in (data, b"PK\x03\x04" + data, data + b"PK\x05\x06" + bytes(18)):
        with contextlib.suppress(ArchiveError):
            archive = read_archive(BytesSource(candidate))
            for member in archive.members:
                archive.open(member).read(0, 10)
    with contextlib.suppress(BundleError):
        path_file(bytes(32), data)
    assert from_pem(data) is None


def packed(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def test_a_bomb_is_refused_before_it_is_unpacked():
    zeros = bytes(100 << 20)
    data = packed({f"delil/{n}.xml": zeros for n in range(2)})
    del zeros
    tracemalloc.start()
    begin = perf_counter()
    report = check(data)
    taken, (_, peak) = perf_counter() - begin, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not report.passed
    assert report.steps[0].detail == "it would unpack to far more than it is"
    assert peak < 8 << 20
    assert taken < 2


def test_a_bundle_that_somebody_packed_tightly_is_no_bomb():
    files = {f"{n}.txt": b"delil " * 50_000 for n in range(4)}
    archive = read_archive(BytesSource(packed(files)))
    assert len(archive.members) == 4


class Sparse:
    """A gigabyte of zeros that nobody holds, with an archive's end behind it."""

    def __init__(self, tail: bytes) -> None:
        self.size, self._tail, self.read_bytes = (1 << 30) + len(tail), tail, 0

    def read(self, start: int, length: int) -> bytes:
        self.read_bytes += length
        end = min(start + length, self.size)
        zeros = max(0, min(end, 1 << 30) - start)
        return bytes(zeros) + self._tail[max(0, start - (1 << 30)) : max(0, end - (1 << 30))]


def test_a_gigabyte_that_is_no_archive_is_hardly_read():
    for tail in (b"", b"PK\x05\x06" + bytes(18)):
        source = Sparse(tail)
        assert not verify_bundle(source, trust(), LATER).passed
        assert source.read_bytes < 1 << 20
