"""Making a bundle from the store: complete, the same bytes again, made anew when something changed."""

import io
import json
import zipfile
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidence.ledger.notes import NoteSigner
from evidence.ports import BytesSource, Sealing
from evidence.report import Verdict
from evidence.verify.bundle import verify_bundle
from evidence.x509.role import SealPolicy
from kephs.testpki.issued import Issued
from kephs.usecases.proof.bundle import BundleFault, BundleUnavailableError, MakeBundle
from kephs.usecases.proof.prove import Prove
from kephs.usecases.proof.publish_ledger import PublishLedger
from kephs.usecases.submission.results import Accepted, Refused
from tests.support.pair import Pair, new_pair
from tests.support.pki import AYSE_TCKN, ayse, shared_pki
from tests.support.sealed import LocalTimestamper, signer_of
from tests.support.world import AYSE, FATMA, MEHMET, Inline, LocalSealer, World, compose, new_world, signed

LOG = NoteSigner("hs91.kep.tr/kephs-ledger", Ed25519PrivateKey.generate())


def maker(world: World, *, ledger: bool = True, sealer: Sealing | None = None) -> MakeBundle:
    publishing = PublishLedger(world.store, LOG, world.clock, alarm=lambda _cause: None)
    return MakeBundle(
        store=world.store, blobs=world.blobs, sealer=sealer or world.sealer, revocation=world.ocsp, trust=world.trust,
        policy=SealPolicy(), offload=Inline(), clock=world.clock,
        ledger=Prove(world.store, publishing) if ledger else None,
    )  # fmt: skip


async def made(world: World, message: str, **options) -> bytes:
    out = io.BytesIO()
    (await maker(world, **options).make(message)).write(out)
    return out.getvalue()


def names(data: bytes) -> set[str]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return set(archive.namelist())


def member(data: bytes, name: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.read(name)


def check(world: World, data: bytes, **options):
    at = world.clock.now() + timedelta(minutes=1)
    return verify_bundle(BytesSource(data), world.trust, at, log_key=LOG.verifier, **options)


@pytest.fixture
async def world() -> World:
    return await new_world()


@pytest.fixture
async def pair() -> Pair:
    return await new_pair()


async def sent(world: World, by: Issued | None = None) -> str:
    outcome = await world.send(await signed(compose(), by or ayse()))
    assert isinstance(outcome, Accepted)
    await world.work()
    return outcome.message_id


async def test_a_bundle_of_a_message_holds_every_kind_of_proof_and_verifies(world: World) -> None:
    data = await made(world, await sent(world))
    report = check(world, data)
    assert report.passed, report.failing_step
    assert not [step for step in report.steps if step.ok is None], "nothing was left unchecked"
    expected = {
        "mimetype", "BENIOKU.txt", "imza.p7s", "imza.ers", "imza.yol.txt", "imza-rapor.json", "ileti/original.eml", "ileti/dispatch.eml",
        "kokler/parmak-izleri.txt", "kayit/checkpoint", "kayit/manifest.json", "kayit/manifest.p7s",
    }  # fmt: skip
    for stem in ("10-SubmissionAcceptance", "40-Delivery-1"):
        expected |= {f"delil/{stem}.xml", f"delil/{stem}.ers", f"delil/{stem}.yol.txt", f"kayit/{stem}.proof"}
    found = names(data)
    assert expected <= found
    rest = found - expected
    assert all(name.startswith(("dogrulama/", "kokler/")) for name in rest)
    assert {name.rpartition(".")[2] for name in rest} == {"ocsp", "tsr", "pem"}
    assert any(name.startswith("dogrulama/gonderici-") for name in rest)


async def test_the_verdict_at_reception_is_kept_as_it_was(world: World) -> None:
    verdict = json.loads(member(await made(world, await sent(world)), "imza-rapor.json"))
    assert verdict["verdict"] == "TOTAL-PASSED"
    assert verdict["steps"]


async def test_the_same_contents_give_the_same_bytes_whenever_they_are_asked_for(world: World) -> None:
    message_id = await sent(world)
    first = await made(world, message_id)
    stamps = world.tsa.stamps
    world.clock.at += timedelta(days=3)
    other = await signed(compose(message_id="<2@test>"), ayse())
    assert isinstance(await world.send(other), Accepted)  # the ledger grows, this message's evidence does not
    stamps_after = world.tsa.stamps
    assert await made(world, message_id) == first
    assert world.tsa.stamps == stamps_after > stamps, "nothing was stamped for it again"


async def test_new_evidence_makes_a_new_bundle(world: World) -> None:
    message_id = await sent(world)
    first = await made(world, message_id)
    (delivery,) = await world.store.read(lambda tx: tx.deliveries.of_message(message_id))
    reader = await world.person(MEHMET)
    await world.reader.expose(reader, [delivery.delivery_id])
    await world.work()
    second = await made(world, message_id)
    assert names(second) - names(first) >= {"delil/60-Retrieval-1.xml", "kayit/60-Retrieval-1.proof"}
    assert check(world, second).passed
    assert await made(world, message_id) == second


async def test_a_bundle_made_without_the_ledger_is_made_anew_when_there_is_one(world: World) -> None:
    message_id = await sent(world)
    first = await made(world, message_id, ledger=False)
    assert await made(world, message_id, ledger=False) == first
    assert "kayit/checkpoint" not in names(first)
    assert check(world, first).passed
    assert "kayit/checkpoint" in names(await made(world, message_id))


async def test_what_is_kept_but_unreadable_is_made_anew(world: World) -> None:
    message_id = await sent(world)
    await made(world, message_id)
    kept = await world.store.read(lambda tx: tx.evidence.appendix(message_id))
    assert kept is not None
    inputs, _ = kept
    await world.store.write(lambda tx: tx.evidence.set_appendix(message_id, inputs, b"{}"))
    assert check(world, await made(world, message_id)).passed


async def test_two_that_make_one_at_the_same_moment_give_the_same_bytes(world: World) -> None:
    message_id = await sent(world)
    rows_made: list[bytes] = []

    class Meanwhile(LocalSealer):
        """Lets another process finish while this one has its manifest signed."""

        async def sign_entity(self, digest, at):
            if not rows_made:
                rows_made.append(b"")
                world.clock.at += timedelta(seconds=1)
                rows_made.append(await made(world, message_id))
            return await super().sign_entity(digest, at)

    key = shared_pki().transactions["hs91.kep.tr"]
    here = maker(world, sealer=Meanwhile(signer_of(key), world.tsa))
    out = io.BytesIO()
    (await here.make(message_id)).write(out)
    assert out.getvalue() == rows_made[1]


async def test_evidence_of_a_peer_is_in_the_bundle_with_its_own_stamps(pair: Pair) -> None:
    message_id = await pair.send()
    await pair.work()
    await pair.read(FATMA, message_id)
    await pair.work()
    data = await made(pair.here, message_id)
    report = check(pair.here, data)
    assert report.passed, report.failing_step
    assert {"delil/20-RelayAcceptance.xml", "delil/60-Retrieval-1.ers"} <= names(data)


async def test_a_message_relayed_to_us_has_a_bundle_with_the_evidence_that_came_in_it(pair: Pair) -> None:
    message_id = await pair.send()
    await pair.work()
    data = await made(pair.there, message_id)
    report = check(pair.there, data)
    assert report.passed, report.failing_step
    stems = {"10-SubmissionAcceptance", "20-RelayAcceptance", "40-Delivery-1"}
    assert {f"delil/{stem}.{ending}" for stem in stems for ending in ("xml", "ers")} <= names(data)
    assert {f"kayit/{stem}.proof" for stem in stems} <= names(data), "what came with it is in our ledger, too"
    assert sum(name.startswith("delil/10-") and name.endswith(".xml") for name in names(data)) == 1


async def test_where_a_peers_authority_has_ended_the_bundle_is_made_and_leaves_the_peers_evidence_open(
    pair: Pair,
) -> None:
    ends = shared_pki().issue_tsa(not_after=pair.clock.at + timedelta(days=30))

    async def stamp(digest: bytes) -> bytes:
        return await LocalTimestamper(pair.clock.at, ends).stamp(digest)

    pair.here.tsa.stamp = stamp  # type: ignore[method-assign]
    message_id = await pair.send()
    await pair.work()
    early = await made(pair.there, message_id)
    assert check(pair.there, early).passed
    pair.clock.at += timedelta(days=60)
    report = check(pair.there, await made(pair.there, message_id))
    step = report.failing_step
    assert step is not None
    assert (report.verdict, step.name) == (Verdict.INDETERMINATE, "evidence")
    assert "10-SubmissionAcceptance" in step.detail
    with pytest.raises(BundleUnavailableError, match="does not verify"):  # its own provider must renew it
        await made(pair.here, message_id)


async def test_faults_have_their_codes(world: World) -> None:
    async def fault(wanted: str) -> BundleFault:
        with pytest.raises(BundleUnavailableError) as caught:
            await made(world, wanted)
        return caught.value.fault

    assert await fault("nobody@nowhere") is BundleFault.NO_SUCH_MESSAGE
    refused = await world.send(compose(message_id="<unsigned@test>"))
    assert isinstance(refused, Refused)
    await world.work()
    assert await fault("<unsigned@test>") is BundleFault.CONTENT_GONE
    message_id = await sent(world)
    world.ocsp.down = True
    assert await fault(message_id) is BundleFault.REVOCATION_SILENT


# ------------------------------------------------------------------- the sender's signature, later


async def test_a_certificate_revoked_after_reception_does_no_harm_to_the_bundle(world: World) -> None:
    issued = shared_pki().issue_user("Ayşe Yılmaz", AYSE_TCKN)
    message_id = await sent(world, issued)
    world.clock.at += timedelta(hours=1)
    shared_pki().revoke(issued.serial, world.clock.at)
    world.clock.at += timedelta(hours=1)
    report = check(world, await made(world, message_id))
    assert report.passed, report.failing_step
    assert not [step for step in report.steps if step.ok is None]


async def test_a_certificate_that_expired_after_reception_does_no_harm_to_the_bundle(world: World) -> None:
    issued = shared_pki().issue_user("Ayşe Yılmaz", AYSE_TCKN, not_after=world.clock.at + timedelta(hours=1))
    message_id = await sent(world, issued)
    world.clock.at += timedelta(days=2)
    report = check(world, await made(world, message_id))
    assert report.passed, report.failing_step


async def test_where_each_evidence_has_its_own_token_the_bundle_holds_the_signatures_token_too() -> None:
    world = await new_world(batch=False)
    data = await made(world, await sent(world))
    report = check(world, data)
    assert report.passed, report.failing_step
    assert not [step for step in report.steps if step.ok is None]
    assert sum(name.endswith(".tsr") for name in names(data)) == 1


class Older:
    """A blob store in which one material was kept before there were records."""

    def __init__(self, world: World, material: bytes) -> None:
        self._blobs, self._material = world.blobs, material

    def __getattr__(self, name: str):
        return getattr(self._blobs, name)

    def open(self, blob):
        source = self._blobs.open(blob)
        if blob.sha256 != self._material:
            return source
        plain = json.loads(source.read(0, source.size))
        del plain["record"]
        return BytesSource(json.dumps(plain).encode())


async def test_a_message_accepted_before_there_were_records_has_a_bundle_that_says_so(world: World) -> None:
    message_id = await sent(world)
    message = await world.store.read(lambda tx: tx.messages.get(message_id))
    work, out = maker(world), io.BytesIO()
    work._blobs = Older(world, message.material)
    (await work.make(message_id)).write(out)
    assert names(await made(world, message_id)) - names(out.getvalue()) >= {"imza.ers", "imza.yol.txt"}
    report = check(world, out.getvalue())
    assert report.passed, report.failing_step
    noted = [step for step in report.steps if step.ok is None]
    assert [step.number for step in noted] == ["15"]
    assert "by evidence 10" in noted[0].detail


async def test_what_the_grace_let_out_has_a_bundle_once_evidence_10_is_stamped() -> None:
    world = await new_world(grace=True)
    world.tsa.down = True
    message_id = await sent(world)
    world.tsa.down = False
    world.clock.at += timedelta(hours=1)
    await world.work()
    data = await made(world, message_id)
    assert "imza.ers" not in names(data)
    report = check(world, data)
    assert report.passed, report.failing_step
    assert "by evidence 10" in next(step.detail for step in report.steps if step.number == "15")


async def test_unstamped_evidence_makes_no_bundle() -> None:
    world = await new_world(grace=True)
    world.tsa.down = True
    outcome = await world.send(await signed(compose(), ayse()), sender=AYSE)
    assert isinstance(outcome, Accepted)
    with pytest.raises(BundleUnavailableError) as caught:
        await made(world, outcome.message_id)
    assert caught.value.fault is BundleFault.EVIDENCE_UNSTAMPED
