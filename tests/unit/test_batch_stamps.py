"""Proof of time through a message's life: records beside evidence, stamps inside, and the grace of D16."""

from hashlib import sha256

import pytest

from directory.providers import Profile as PeerProfile
from directory.providers import Stamps
from evidence.mail.kep_message import parse_kep_message
from evidence.model.records import EvidenceKind
from evidence.ports import ByteSource, BytesSource
from evidence.stamps.ers_check import check_record
from kephs.domain.mailboxes import FolderRole
from kephs.domain.messages import StoredEvidence
from kephs.usecases.submission.results import Accepted, Refused
from tests.support.pair import PEER, Pair, new_pair, peer_of
from tests.support.pki import ayse
from tests.support.world import AYSE, MEHMET, World, compose, new_world, signed

K = EvidenceKind
INSIDE = b"<xades:EncapsulatedTimeStamp>"


async def kept(world: World) -> list[tuple[StoredEvidence, bytes, bytes | None]]:
    """Return every evidence with its bytes and its record."""

    def look(tx):
        return [(row, tx.blobs.get(row.blob), tx.evidence.ers(row.evidence_id)) for row in tx.evidence.all()]

    return [(row, whole(world.blobs.open(blob)), ers) for row, blob, ers in await world.store.read(look)]


def whole(source: ByteSource) -> bytes:
    return source.read(0, source.size)


async def messages_of(world: World, address: str, role: FolderRole) -> list[bytes]:
    """Return the contents of a folder."""

    def look(tx):
        account = tx.accounts.by_address(address)
        folder = tx.mailboxes.by_role(account.account_id, role)
        uids = [one.uid for one in tx.mailboxes.summaries(folder.folder_id)]
        return [tx.blobs.get(one.sha256) for one in tx.mailboxes.items(folder.folder_id, uids)]

    return [whole(world.blobs.open(blob)) for blob in await world.store.read(look)]


def proves(ers: bytes, xml: bytes, world: World) -> bool:
    """Say whether a record proves these bytes."""
    digest = {"sha256": sha256(xml).digest()}
    return check_record(ers, digest.__getitem__, world.trust, world.clock.now()).passed


async def test_in_batch_mode_every_evidence_has_a_record_that_proves_its_exact_bytes() -> None:
    world = await new_world()
    await world.send(await signed(compose(), ayse()))
    await world.work()
    found = await kept(world)
    assert {row.kind for row, _, _ in found} == {K.SUBMISSION_ACCEPTANCE, K.DELIVERY}
    for row, xml, ers in found:
        assert not row.unstamped
        assert INSIDE not in xml
        assert proves(ers, xml, world)


async def test_evidence_travels_with_its_record_in_dispatches_and_receipts() -> None:
    world = await new_world()
    await world.send(await signed(compose(), ayse()))
    await world.work()
    by_xml = {xml: ers for _, xml, ers in await kept(world)}
    carried = [
        *await messages_of(world, MEHMET, FolderRole.INBOX),
        *await messages_of(world, AYSE, FolderRole.EVIDENCE),
    ]
    assert len(carried) == 3
    for content in carried:
        message = parse_kep_message(BytesSource(content))
        (evidence,), (record,) = message.evidences, message.extensions
        assert record.content == by_xml[evidence.content]
        assert record.name == evidence.name.replace(".xml", ".ers")


async def with_peer(**changes) -> Pair:
    pair = await new_pair()
    pair.here.peers[PEER] = peer_of(PEER, **changes)
    pair.there.peers[pair.here.domain] = peer_of(pair.here.domain, **changes)
    return pair


@pytest.mark.parametrize(
    "changes",
    [{"stamps": Stamps.PER_EVIDENCE}, {"stamps": Stamps.BATCH, "profile": PeerProfile.REM_BASELINE}],
    ids=["did-not-agree", "rem-baseline"],
)
async def test_what_leaves_to_a_peer_that_did_not_agree_has_its_stamp_inside(changes) -> None:
    pair = await with_peer(**changes)
    message_id = await pair.send()
    await pair.work()
    await pair.read("fatma.kaya@hs92.kep.tr", message_id)
    await pair.work()
    for world in (pair.here, pair.there):
        for row, xml, ers in await kept(world):
            assert (INSIDE in xml, ers) == (True, None), row.kind
    assert await pair.states(message_id) == ["read"]


async def test_evidence_of_a_peer_is_kept_with_the_record_that_came_beside_it() -> None:
    pair = await new_pair()
    await pair.send()
    await pair.work()
    theirs = {row.evidence_id: (xml, ers) for row, xml, ers in await kept(pair.there) if not row.origin}
    ours = {row.evidence_id: (xml, ers) for row, xml, ers in await kept(pair.here) if row.origin}
    assert ours == theirs
    assert all(proves(ers, xml, pair.here) for xml, ers in ours.values())


async def test_one_recipient_elsewhere_who_did_not_agree_decides_for_evidence_10_alone() -> None:
    pair = await with_peer(stamps=Stamps.PER_EVIDENCE)
    await pair.send(to=("fatma.kaya@hs92.kep.tr", MEHMET))
    await pair.work()
    ours = {row.kind: INSIDE in xml for row, xml, _ in await kept(pair.here) if row.origin is None}
    assert ours == {K.SUBMISSION_ACCEPTANCE: True, K.DELIVERY: False}


# --- the grace of D16 ------------------------------------------------------------------------------


async def test_without_the_grace_nothing_is_accepted_while_no_authority_answers() -> None:
    world = await new_world()
    world.tsa.down = True
    outcome = await world.send(await signed(compose(), ayse()))
    assert isinstance(outcome, Refused)
    assert outcome.refusal.text.smtp == 451
    assert await kept(world) == []


async def test_with_the_grace_a_message_is_accepted_and_its_record_follows() -> None:
    world = await new_world(grace=True)
    world.tsa.down = True
    assert isinstance(await world.send(await signed(compose(), ayse())), Accepted)
    ((row, xml, ers),) = await kept(world)
    assert (row.unstamped, ers) == (True, None)
    assert INSIDE not in xml
    await world.work()
    assert await messages_of(world, AYSE, FolderRole.EVIDENCE) == []  # nothing leaves unstamped
    assert await messages_of(world, MEHMET, FolderRole.INBOX) == []
    world.tsa.down = False
    world.clock.at = world.clock.at.replace(minute=30)
    await world.work()
    for row, xml, ers in await kept(world):
        assert not row.unstamped
        assert proves(ers, xml, world)
    receipts = await messages_of(world, AYSE, FolderRole.EVIDENCE)
    assert [len(parse_kep_message(BytesSource(content)).extensions) for content in receipts] == [1, 1]
    assert len(await messages_of(world, MEHMET, FolderRole.INBOX)) == 1


async def test_a_record_made_twice_stands_once() -> None:
    world = await new_world(grace=True)
    world.tsa.down = True
    await world.send(await signed(compose(), ayse()))
    world.tsa.down = False
    ((row, _, _),) = await kept(world)
    opened = [await world.dispatches.kept.open(row) for _ in range(2)]  # workers that hold the row as it was
    ((stamped, _, ers),) = await kept(world)
    opened.append(await world.dispatches.kept.open(stamped))
    assert [one.ers for one in opened] == [ers] * 3


async def test_where_two_workers_stamp_at_one_moment_one_record_stands_for_both() -> None:
    world = await new_world(grace=True)
    world.tsa.down = True
    await world.send(await signed(compose(), ayse()))
    world.tsa.down = False
    ((row, _, _),) = await kept(world)
    other = world.sealer.records

    async def overtaken(leaves):
        (mine,) = await other(leaves)
        (theirs,) = await other(leaves)
        await world.store.write(lambda tx: tx.evidence.set_ers(row.evidence_id, theirs))
        return [mine]

    world.sealer.records = overtaken
    opened = await world.dispatches.kept.open(row)
    ((_, _, ers),) = await kept(world)
    assert opened.ers == ers
