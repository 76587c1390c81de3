"""Providers that read ``rem-baseline`` messages of each other, and what such a provider says."""

import asyncio
import email
import email.policy
from collections.abc import Sequence
from email.message import EmailMessage

from directory.providers import Profile as PeerProfile
from evidence.mail.package import Boundaries, Envelope, plan_receipt
from evidence.model.records import EvidenceKind, EvidenceRecord, Party, Profile, Reason, SealedEvidence
from evidence.ports import Stamping
from evidence.seal.sealing import Sealer
from kephs.domain.mailboxes import FolderRole
from kephs.domain.messages import StoredEvidence, Transfer
from kephs.usecases.records import receipt_recipient
from storage.fsck.check import Finding, check
from tests.support.pair import Pair, new_pair, peer_of
from tests.support.world import DOMAIN, PEER, World


async def new_baseline_pair(*others: str, **settings) -> Pair:
    """Return hs91 and hs92, and any others, that know each other as ``rem-baseline`` providers.

    A third provider that is not named in ``others`` stays one of ``kep-ts102640``.
    """
    pair = await new_pair(**settings)
    worlds = {world.domain: world for world in pair.worlds}
    for domain in (PEER, *others):
        pair.here.peers[domain] = peer_of(domain, profile=PeerProfile.REM_BASELINE)
        worlds[domain].peers[DOMAIN] = peer_of(DOMAIN, profile=PeerProfile.REM_BASELINE)
    return pair


async def sealed_as(world: World, record: EvidenceRecord, sealer: Sealer | None = None) -> SealedEvidence:
    """Return a record as a ``rem-baseline`` provider seals it."""
    maker = sealer or world.sealer
    (sealed,) = await maker.seal_many([record], profile=Profile.REM_BASELINE, stamping=Stamping.OWN)
    return sealed


async def baseline_receipt(world: World, record: EvidenceRecord, to: str) -> bytes:
    """Return a world's receipt of a record in the form of the profile, to a provider's service address."""
    whom = receipt_recipient(record.kind, record.sender.address, to)
    envelope, evidence = Envelope(world.issuer.address, (whom,)), await sealed_as(world, record)
    plan = plan_receipt(envelope, evidence, boundaries=Boundaries.of(world.ids.token()))
    return plan.finish(await world.sealer.sign_entity(plan.digest(), world.clock.now()))


async def said_by(
    pair: Pair, kind: int, message_id: str, number: int | None = None, *reasons: Reason, **changes
) -> EvidenceRecord:
    """Return what hs92 says of a message of hs91's, complete enough for the profile."""
    hs91 = Party(pair.here.issuer.address, pair.here.issuer.name)
    relayed = EvidenceKind(kind) in (EvidenceKind.RELAY_ACCEPTANCE, EvidenceKind.RELAY_REJECTION)
    return await pair.says(
        kind, message_id, number, reasons=reasons, other_party=hs91 if relayed else None, **changes
    )


async def findings(world: World) -> Sequence[Finding]:
    """Return what fsck finds in a provider's store, but for contents that lost a race."""
    found = await world.store.read(lambda tx: list(check(tx, world.blobs, deep=True)))
    return [one for one in found if not one.harmless]


async def dispatch_to(pair: Pair, peer: str) -> Transfer:
    """Return the one transfer of a dispatch of hs91's to a peer."""
    (found,) = [t for t in await pair.transfers(pair.here) if t.peer == peer and not t.evidence_id]
    return found


class Meeting(asyncio.Barrier):
    """A barrier for the first so many, open to whoever comes later."""

    met = False

    async def wait(self) -> int:
        if self.met:
            return 0
        await super().wait()
        self.met = True
        return 0


def mail(content: bytes) -> EmailMessage:
    parsed = email.message_from_bytes(content, policy=email.policy.SMTP)
    assert isinstance(parsed, EmailMessage)
    return parsed


def sent_to(pair: Pair, provider: str) -> list[bytes]:
    """Return the dispatches that hs91 handed to a provider, as sent."""
    return [c for letter, c in pair.out.sent if letter.recipients[0].endswith(f"@{provider}")]


async def rows_of(world: World, kind: int) -> list[StoredEvidence]:
    return await world.store.read(lambda tx: [e for e in tx.evidence.all() if e.kind == kind])


async def inbox(world: World, address: str, role: FolderRole = FolderRole.INBOX) -> list[bytes]:
    """Return the contents of a folder."""

    def look(tx):
        account = tx.accounts.by_address(address)
        folder = tx.mailboxes.by_role(account.account_id, role)
        uids = [one.uid for one in tx.mailboxes.summaries(folder.folder_id)]
        return [tx.blobs.get(one.sha256) for one in tx.mailboxes.items(folder.folder_id, uids)]

    sources = [world.blobs.open(blob) for blob in await world.store.read(look)]
    return [source.read(0, source.size) for source in sources]


async def sound(pair: Pair) -> bool:
    """Say whether fsck finds nothing anywhere."""
    for world in pair.worlds:
        assert await findings(world) == []
    return True
