"""Evidence 10 that came with a peer's message: entered, archived, renewed and rebuilt like our own (KEP-RT-01)."""

import secrets
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from io import BytesIO
from typing import Any

import pytest

from directory.providers import Stamps
from evidence.bundle.hand_over import HandedBy, is_sealed
from evidence.bundle.zip_store import read_archive
from evidence.forms.serialise import read as read_record
from evidence.mail.kep_message import KepMessage, parse_kep_message
from evidence.model.records import EvidenceKind
from evidence.ports import BytesSource
from evidence.report import Report, SubIndication, Verdict
from evidence.stamps.timestamps import build_request, parse_response
from evidence.verify.bundle import verify_bundle
from kephs.domain.mailboxes import FolderRole
from kephs.domain.messages import StoredEvidence
from kephs.domain.refusals import RefusalCode
from kephs.ports.preservation import RenewalReason
from kephs.usecases.archive.archived_proof import ReadProofs
from kephs.usecases.archive.preserve import PreservationParts, Preserve
from kephs.usecases.archive.preserve_records import RenewedRecords
from kephs.usecases.archive.seal import ArchiveRules
from kephs.usecases.ending.hand_over import Handing
from kephs.usecases.ending.hand_over_notes import note_handing
from kephs.usecases.proof.bundle import MakeBundle
from kephs.usecases.proof.prove import Prove
from kephs.usecases.proof.timeline import ShowTimeline, Stamp
from kephs.usecases.relay import take_dispatch
from kephs.usecases.submission.results import Accepted, Refused, Taken
from storage.fsck import check as fsck
from storage.hand_over_parts import KeyCipher
from storage.objects.memory import MemoryObjectStore
from tests.support.archive_world import POLICY, ArchiveWorld
from tests.support.hand_over import KEY, Ending, MemoryParts, Successor
from tests.support.pair import Pair, arrive_from, dispatch_of, new_pair, peer_of, receipt_of
from tests.support.pki import mehmet, shared_pki
from tests.support.sealed import LocalTimestamper
from tests.support.world import AYSE, CAN, DOMAIN, FATMA, PEER, Inline, World, compose, signed
from tests.unit.test_erasure import Mailboxes

TEN = EvidenceKind.SUBMISSION_ACCEPTANCE
FIRST_ENDS = timedelta(days=30)
LATER = timedelta(days=60)
"""After the end of the first authority's certificate, within the life of the second's."""


@pytest.fixture
async def pair() -> Pair:
    return await new_pair()


async def rows(world: World) -> list[StoredEvidence]:
    """Return the evidence that came along, in the order of the ledger."""

    def look(tx: Any) -> list[StoredEvidence]:
        entries = tx.evidence.ledger(0, 1000)
        found = [tx.evidence.get(entry.evidence_id) for entry in entries]
        return [row for row in found if row is not None and row.kind is TEN and row.origin is not None]

    return await world.store.read(look)


async def content(world: World, digest: bytes | None) -> bytes:
    blob = await world.store.read(lambda tx: tx.blobs.get(digest or b""))
    assert blob is not None
    source = world.blobs.open(blob)
    return bytes(source.read(0, source.size))


async def carried(world: World, message_id: str) -> KepMessage:
    message = await world.store.read(lambda tx: tx.messages.get(message_id))
    assert message is not None
    return parse_kep_message(BytesSource(await content(world, message.dispatch)))


async def findings(world: World) -> list[Any]:
    found = await world.store.read(lambda tx: list(fsck.check(tx, world.blobs, deep=True)))
    return [one for one in found if not one.harmless]


# --------------------------------------------------------------------------- taken over


async def test_it_is_entered_before_what_we_say_ourselves_with_its_octets_and_its_record(pair: Pair) -> None:
    message_id = await pair.send()
    await pair.work()
    (row,) = await rows(pair.there)
    inside = (await carried(pair.there, message_id)).evidences[0].content
    assert await content(pair.there, row.blob) == inside
    record = read_record(inside)
    assert (row.evidence_id, row.event_time) == (record.evidence_id, record.event_time)
    assert (row.origin, row.message_id, row.number, row.account_id) == (DOMAIN, message_id, None, None)
    assert row.receipt_due is None
    entry = await pair.there.store.read(lambda tx: tx.evidence.ledger_of(row.evidence_id))
    assert entry is not None
    assert (entry.number, entry.evidence_sha256) == (1, sha256(inside).digest())
    theirs = await pair.here.store.read(lambda tx: tx.evidence.ers(row.evidence_id))
    assert await pair.there.store.read(lambda tx: tx.evidence.ers(row.evidence_id)) == theirs is not None
    assert await findings(pair.there) == await findings(pair.here) == []


async def test_with_its_token_inside_it_has_no_record_beside_it() -> None:
    pair = await new_pair()
    pair.here.peers[PEER] = replace(peer_of(PEER), stamps=Stamps.PER_EVIDENCE)
    await pair.send()
    await pair.work()
    (row,) = await rows(pair.there)
    assert await pair.there.store.read(lambda tx: tx.evidence.ers(row.evidence_id)) is None
    assert await findings(pair.there) == []


async def test_the_same_message_again_enters_nothing(pair: Pair) -> None:
    dispatch = await dispatch_of(pair.here, compose(to=(FATMA,)))
    first = await pair.there_gets(dispatch)
    size = await pair.there.store.read(lambda tx: len(tx.evidence.ledger(0, 1000)))
    assert await pair.there_gets(dispatch) == first
    assert await pair.there.store.read(lambda tx: len(tx.evidence.ledger(0, 1000))) == size == 2


async def test_of_a_message_that_is_turned_away_nothing_is_kept(pair: Pair) -> None:
    nobody = f"yok@{PEER}"
    dispatch = await dispatch_of(pair.here, compose(to=(nobody,)), (nobody,))
    assert isinstance(await pair.there_gets(dispatch, to=(nobody,)), Taken)
    assert await rows(pair.there) == []
    assert await findings(pair.there) == []


async def test_one_id_given_twice_is_entered_once_and_both_messages_arrive(pair: Pair) -> None:
    one, two = compose(to=(FATMA,), subject="bir"), compose(to=(FATMA,), subject="iki")
    same = f"bir@{DOMAIN}"
    first = await pair.there_gets(await dispatch_of(pair.here, one, evidence_id=same))
    (entered,) = await rows(pair.there)
    second = await pair.there_gets(await dispatch_of(pair.here, two, evidence_id=same))
    await pair.there.work()
    assert isinstance(first, Taken)
    assert isinstance(second, Taken)
    assert await rows(pair.there) == [entered], "what stands is never overwritten"
    assert entered.message_id == first.message_id != second.message_id
    assert await pair.there.count(FATMA, FolderRole.INBOX) == 2
    assert (await carried(pair.there, second.message_id)).evidences[0].content
    assert await findings(pair.there) == []


async def test_a_receipt_under_the_id_of_evidence_that_came_along_is_refused(pair: Pair) -> None:
    """hs92 got 10 of hs91's; a receipt of hs91's under the same id is about a message of its own."""
    await pair.send()
    letter = await signed(compose(sender=CAN, to=(AYSE,), message_id="<2@test>"), mehmet())
    back = await pair.there.send(letter, sender=CAN, to=(AYSE,))
    assert isinstance(back, Accepted)
    await pair.work()
    (row,) = await rows(pair.there)
    message = await pair.message(back.message_id, pair.there)
    record = pair.here.records.make(EvidenceKind.RETRIEVAL, message, number=1)
    receipt = await receipt_of(pair.here, replace(record, evidence_id=row.evidence_id))
    answer = await arrive_from(pair.there, "", (message.sender.address,), receipt)
    assert isinstance(answer, Refused)
    assert answer.refusal.code is RefusalCode.RECEIPT_UNMATCHED
    assert await rows(pair.there) == [row]


# --------------------------------------------------------------------------- archived, renewed, rebuilt


@dataclass
class Rounds:
    """Another authority than the first, as rounds ask it."""

    world: World

    async def stamp(self, digest: bytes, hash_name: str) -> bytes:
        request = build_request(digest, secrets.randbits(64), hash_name=hash_name)
        return parse_response(shared_pki().timestamp_reply(request, self.world.clock.now()))


def archive_of(world: World) -> ArchiveWorld:
    rules = ArchiveRules(world.domain, "files", 20, 1000, timedelta(minutes=1), timedelta(hours=1))
    return ArchiveWorld(world, rules, MemoryObjectStore(clock=world.clock.now))


async def renew(archive: ArchiveWorld) -> None:
    world = archive.world
    parts = PreservationParts(
        store=world.store, objects=archive.objects, cipher=archive.cipher, records=archive.reader,
        stamper=Rounds(world), revocation=world.ocsp, trust=world.trust, clock=world.clock,
        provider=world.domain, retention=timedelta(days=7400),
    )  # fmt: skip
    await Preserve(parts, warn=lambda text: None).renew(RenewalReason.YEARLY, "sha256")


async def bundle(archive: ArchiveWorld, message_id: str) -> bytes:
    world = archive.world
    records = RenewedRecords(world.store, archive.objects, archive.cipher)
    making = MakeBundle(
        store=world.store, blobs=world.blobs, sealer=world.sealer, revocation=world.ocsp, trust=world.trust,
        policy=POLICY, offload=Inline(), clock=world.clock, ledger=Prove(world.store, archive.publish),
        renewed=ReadProofs(world.store, archive.reader, records),
    )  # fmt: skip
    out = BytesIO()
    (await making.make(message_id)).write(out)
    return out.getvalue()


def judged(world: World, data: bytes) -> Report:
    return verify_bundle(BytesSource(data), world.trust, world.clock.now() + timedelta(minutes=1), POLICY)


def evidence_files(data: bytes) -> list[str]:
    names = [one.name for one in read_archive(BytesSource(data)).members]
    return sorted(name for name in names if name.startswith("delil/") and name.endswith(".xml"))


async def crossed(*, stamps: Stamps = Stamps.BATCH) -> tuple[Pair, ArchiveWorld, str]:
    """Return a message whose evidence 10 was stamped by an authority that ends soon, and its archive."""
    pair = await new_pair()
    pair.here.peers[PEER] = replace(peer_of(PEER), stamps=stamps)
    ends = shared_pki().issue_tsa(not_after=pair.clock.at + FIRST_ENDS)

    async def stamp(digest: bytes) -> bytes:
        return await LocalTimestamper(pair.clock.at, ends).stamp(digest)

    pair.here.tsa.stamp = stamp  # type: ignore[method-assign]
    message_id = await pair.send()
    await pair.work()
    archive = archive_of(pair.there)
    pair.clock.at += timedelta(minutes=1)
    await archive.seal.seal_all()
    return pair, archive, message_id


@pytest.mark.parametrize("stamps", list(Stamps), ids=str)
async def test_a_round_keeps_it_provable_after_the_end_of_its_authority(stamps: Stamps) -> None:
    pair, archive, message_id = await crossed(stamps=stamps)
    await renew(archive)
    pair.clock.at += LATER
    data = await bundle(archive, message_id)
    report = judged(pair.there, data)
    assert report.passed, report.failing_step
    kinds = ("10-SubmissionAcceptance", "20-RelayAcceptance", "40-Delivery-1")
    assert evidence_files(data) == [f"delil/{kind}.xml" for kind in kinds], "once each"
    assert await findings(pair.there) == []


@pytest.mark.parametrize("early", [True, False], ids=["made-before-the-end", "made-after-the-end"])
async def test_without_a_round_it_is_undecided_and_the_bundle_is_made_all_the_same(early: bool) -> None:
    pair, archive, message_id = await crossed()
    if early:
        assert judged(pair.there, await bundle(archive, message_id)).passed
    pair.clock.at += LATER
    report = judged(pair.there, await bundle(archive, message_id))
    step = report.failing_step
    assert step is not None
    assert (report.verdict, step.sub_indication) == (
        Verdict.INDETERMINATE,
        SubIndication.OUT_OF_BOUNDS_NO_POE,
    )
    assert "10-SubmissionAcceptance" in step.detail


async def test_a_round_does_nothing_for_a_message_from_before_there_were_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(take_dispatch, "_enter", lambda *about: None)
        pair, archive, message_id = await crossed()
    assert await rows(pair.there) == []
    assert await findings(pair.there) == []
    await renew(archive)
    pair.clock.at += LATER
    data = await bundle(archive, message_id)
    assert "delil/10-SubmissionAcceptance.xml" in evidence_files(data), "it goes along as it came"
    assert judged(pair.there, data).verdict is Verdict.INDETERMINATE


async def test_the_index_of_it_comes_back_from_the_archive_the_same_to_the_letter() -> None:
    pair, archive, _ = await crossed()
    before = await rows(pair.there)
    ers = await pair.there.store.read(lambda tx: tx.evidence.ers(before[0].evidence_id))

    def forget(tx: Any) -> None:
        for name in ("evidence", "ledger", "records", "tiles", "checkpoints", "archived", "authorities"):
            table = getattr(tx.evidence._t, name)
            for key in list(table):
                table.drop(key)
        tx.blobs._t.blobs.drop(before[0].blob)

    await pair.there.store.write(forget)
    assert (await archive.rebuilding(pair.there.store, pair.there.blobs).run()).whole
    assert await rows(pair.there) == before
    assert await pair.there.store.read(lambda tx: tx.evidence.ers(before[0].evidence_id)) == ers
    assert await findings(pair.there) == []


async def test_the_timeline_shows_it_as_the_senders_providers(pair: Pair) -> None:
    message_id = await pair.send()
    await pair.work()
    world = pair.there
    timeline = await ShowTimeline(world.store, world.blobs, Inline(), world.clock, PEER).show(message_id)
    (event,) = timeline.events
    assert (event.kind, event.issuer_domain, event.ours, event.ledger_number) == (TEN, DOMAIN, False, 1)
    assert (event.stamp, event.standing) == (Stamp.BESIDE, True)
    assert [one.kind for one in timeline.recipients[0].events] == [20, 40]


# --------------------------------------------------------------------------- when the content or the provider ends


async def test_it_stays_when_the_kep_message_that_brought_it_is_destroyed(pair: Pair) -> None:
    message_id = await pair.send()
    await pair.work()
    boxes = Mailboxes(pair.there)
    await boxes.delete(FATMA)
    await boxes.tidy()
    message = await pair.message(message_id, pair.there)
    assert await pair.there.store.read(lambda tx: tx.blobs.get(message.dispatch or b"")) is None
    data = await bundle(archive_of(pair.there), message_id)
    assert evidence_files(data)[0] == "delil/10-SubmissionAcceptance.xml"
    (row,) = await rows(pair.there)
    assert sha256(await content(pair.there, row.blob)).digest() == row.blob
    report = judged(pair.there, data)
    assert report.passed, report.failing_step
    assert any("its content is destroyed" in one.detail for one in report.steps)
    assert await findings(pair.there) == []


class EndingThere(Ending):
    """The recipient's provider ends."""

    @property
    def handing(self) -> Handing:
        return replace(super().handing, by=HandedBy(PEER, "Örnek A.Ş.", f"kephizmet@{PEER}", "Derya Devir"))


async def test_it_is_handed_over_with_its_row_and_its_number(pair: Pair) -> None:
    message_id = await pair.send()
    await pair.work()
    ending = EndingThere(pair.there, message_id)
    await pair.there.store.write(lambda tx: note_handing(tx, pair.clock.now(), ending.handing.by))
    await ending.publisher().publish()
    parts = MemoryParts()
    await ending.hand(parts)
    checked = await ending.check(parts)
    assert checked.passed, checked.report.failing_step
    successor = Successor(ending)
    await successor.take(parts)
    (row,) = await rows(pair.there)
    opened = [KeyCipher(KEY).open(name, one) for name, one in parts.files.items() if is_sealed(name)]
    assert any(row.evidence_id.encode() in one for one in opened)
