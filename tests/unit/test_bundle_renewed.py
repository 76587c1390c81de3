"""A bundle made after a round of renewal brings the renewed record and passes offline; before, nothing changes."""

import secrets
from datetime import timedelta
from io import BytesIO
from typing import Any

import pytest

from evidence.bundle.zip_store import read_archive
from evidence.ports import BytesSource
from evidence.stamps.ers import read_record
from evidence.stamps.timestamps import build_request, parse_response
from evidence.verify.bundle import verify_bundle
from kephs.ports.objects import ObjectUnavailableError
from kephs.ports.preservation import RenewalReason
from kephs.usecases.archive.archived_proof import ReadProofs
from kephs.usecases.archive.preserve import PreservationParts, Preserve
from kephs.usecases.archive.preserve_records import RenewedRecords
from kephs.usecases.proof.bundle import BundleFault, BundleUnavailableError, MakeBundle
from kephs.usecases.proof.prove import Prove
from tests.support.archive_world import POLICY, ArchiveWorld, archive_world
from tests.support.pki import shared_pki
from tests.support.world import DOMAIN, Inline


class Stamps:
    """The world's authority as rounds ask it."""

    def __init__(self, archive: ArchiveWorld) -> None:
        self._clock = archive.world.clock

    async def stamp(self, digest: bytes, hash_name: str) -> bytes:
        request = build_request(digest, secrets.randbits(64), hash_name=hash_name)
        return parse_response(shared_pki().timestamp_reply(request, self._clock.now()))


def preserve(archive: ArchiveWorld) -> Preserve:
    world = archive.world
    return Preserve(
        PreservationParts(
            store=world.store, objects=archive.objects, cipher=archive.cipher, records=archive.reader,
            stamper=Stamps(archive), revocation=world.ocsp, trust=world.trust, clock=world.clock,
            provider=DOMAIN, retention=timedelta(days=7400),
        ),
        warn=lambda text: None,
    )  # fmt: skip


def making(archive: ArchiveWorld) -> MakeBundle:
    world = archive.world
    records = RenewedRecords(world.store, archive.objects, archive.cipher)
    return MakeBundle(
        store=world.store, blobs=world.blobs, sealer=world.sealer, revocation=world.ocsp, trust=world.trust,
        policy=POLICY, offload=Inline(), clock=world.clock, ledger=Prove(world.store, archive.publish),
        renewed=ReadProofs(world.store, archive.reader, records),
    )  # fmt: skip


async def bundle(archive: ArchiveWorld) -> bytes:
    message = await archive.world.store.read(lambda tx: next(iter(tx.messages.all())))
    ready = await making(archive).make(message.message_id)
    out = BytesIO()
    ready.write(out)
    return out.getvalue()


def stamps_of(data: bytes) -> list[int]:
    """Return how many time stamps each evidence record inside has."""
    archive = read_archive(BytesSource(data))
    return [
        sum(map(len, read_record(archive.open(one).read(0, one.size)).chains))
        for one in archive.members
        if one.name.startswith("delil/") and one.name.endswith(".ers")
    ]


async def renewed(rounds: int = 1) -> ArchiveWorld:
    archive = await archive_world()
    await archive.letters(1)
    await archive.seal.seal_all()
    for _ in range(rounds):
        archive.forward(timedelta(minutes=1))
        await preserve(archive).renew(RenewalReason.YEARLY, "sha256")
    return archive


async def test_before_any_round_the_archive_is_not_asked() -> None:
    archive = await archive_world()
    await archive.letters(1)
    await archive.seal.seal_all()
    archive.objects.silent = 100
    assert stamps_of(await bundle(archive)) == [1, 1]


@pytest.mark.parametrize("rounds", [1, 3])
async def test_a_renewed_record_goes_into_the_bundle_and_passes_offline(rounds: int) -> None:
    archive = await renewed(rounds)
    made = await bundle(archive)
    assert stamps_of(made) == [1 + rounds] * 2
    report = verify_bundle(BytesSource(made), archive.world.trust, archive.world.clock.now(), POLICY)
    assert report.passed, report.failing_step


async def test_a_record_in_two_chains_goes_into_the_bundle_and_passes_offline() -> None:
    archive = await renewed()
    archive.forward(timedelta(minutes=1))
    await preserve(archive).renew(RenewalReason.HASH, "sha512")
    made = await bundle(archive)
    assert stamps_of(made) == [3, 3]
    report = verify_bundle(BytesSource(made), archive.world.trust, archive.world.clock.now(), POLICY)
    assert report.passed, report.failing_step


async def test_a_bundle_that_was_made_before_is_made_anew_with_the_longer_record() -> None:
    archive = await archive_world()
    await archive.letters(1)
    await archive.seal.seal_all()
    before = await bundle(archive)
    await preserve(archive).renew(RenewalReason.YEARLY, "sha256")
    after = await bundle(archive)
    assert (stamps_of(before), stamps_of(after)) == ([1, 1], [2, 2])
    assert await bundle(archive) == after


async def test_issuers_that_are_silent_by_now_were_heard_before() -> None:
    archive = await renewed()
    archive.world.ocsp.down = True
    made = await bundle(archive)
    report = verify_bundle(BytesSource(made), archive.world.trust, archive.world.clock.now(), POLICY)
    assert report.passed, report.failing_step


async def test_an_archive_that_does_not_answer_is_said_and_no_old_record_is_given_out() -> None:
    archive = await renewed()

    async def silent(ref: Any) -> bytes:
        raise ObjectUnavailableError("503")

    archive.memory.get = silent  # type: ignore[method-assign]
    with pytest.raises(BundleUnavailableError) as raised:
        await bundle(archive)
    assert raised.value.fault is BundleFault.ARCHIVE_SILENT
