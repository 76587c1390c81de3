"""Two providers in memory (or three), the wire between them with every fault a wire can have, and forgers."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256

from directory.accounts import AccountKind, ServiceType
from directory.providers import Peer, SealingCertificate, Stamps
from evidence.adapters.soft_signer import SoftSigner
from evidence.forms.serialise import read as read_record
from evidence.mail.kep_message import parse_kep_message
from evidence.mail.package import Boundaries, Envelope, plan_dispatch, plan_receipt, transfer_label
from evidence.model.records import EvidenceKind, EvidenceRecord, MessageFacts, Party, SealedEvidence
from evidence.ports import BytesSource
from evidence.seal.sealing import Sealer
from evidence.verify.evidence import check_evidence
from kephs.domain.messages import Delivery, Submission, Transfer
from kephs.domain.policy import Limits
from kephs.domain.relay import Handed, Letter, NotHanded, RelayTrouble
from kephs.domain.relay_times import RelayTimes
from kephs.testpki.issued import Issued
from kephs.testpki.profiles import make_tckn
from kephs.usecases.people.accounts import Opening
from kephs.usecases.submission.results import Accepted, Arriving, Refused, Taken
from tests.support.pki import NOW, ayse, shared_pki
from tests.support.world import (
    AYSE,
    DOMAIN,
    FATMA,
    PEER,
    Clock,
    World,
    compose,
    issuer_of,
    password_of,
    signed,
)

MIB = 1 << 20
THIRD = "hs93.kep.tr"
DENIZ = f"deniz.ak@{THIRD}"

Seen = tuple[int, tuple[int, ...], int | None, str]
"""An evidence in short: kind, reasons, recipient's number, label of the provider that made it."""


def peer_of(domain: str, **changes) -> Peer:
    """Return the register's entry of a test provider."""
    entry = Peer(
        domain, issuer_of(domain).name, issuer_of(domain).address, "127.0.0.1", 25,
        frozenset({sha256(b"tls").digest()}), (registered(transaction_of(domain)),), 25 * MIB,
        stamps=Stamps.BATCH,
    )  # fmt: skip
    return replace(entry, **changes)


def transaction_of(domain: str) -> Issued:
    """Return a provider's transaction certificate; the third provider gets its own when first asked for."""
    pki = shared_pki()
    if domain not in pki.transactions:
        pki.add_provider(domain, f"TEST {domain}", "p384")
    return pki.transactions[domain]


def registered(
    issued: Issued, begin: datetime | None = None, end: datetime | None = None
) -> SealingCertificate:
    """Return how the register names a transaction certificate; a year from yesterday by default."""
    digest = sha256(issued.certificate).digest()
    return SealingCertificate(digest, begin or NOW - timedelta(days=1), end or NOW + timedelta(days=365))


@dataclass
class Wire:
    """A courier that hands letters to the other worlds at once.

    ``trouble``: nothing gets through. ``lose_replies``: so many 250s are lost after they were given.
    ``tamper``: changes the bytes on their way. ``before_reply``: what happens between the peer's decision
    and its 250. ``swallow``: the peer says 250 and forgets. ``sent``: everything that left, as sent.
    """

    trouble: NotHanded | None = None
    lose_replies: int = 0
    tamper: Callable[[bytes], Awaitable[bytes]] | None = None
    before_reply: Callable[[], Awaitable[None]] | None = None
    swallow: bool = False
    others: dict[str, World] = field(default_factory=dict)
    sent: list[tuple[Letter, bytes]] = field(default_factory=list)
    answers: list[Taken | Refused] = field(default_factory=list)
    tries: int = 0

    async def hand_over(self, peer: Peer, letter: Letter) -> Handed | NotHanded:
        """Do what SMTP would."""
        self.tries += 1
        if self.trouble is not None:
            return self.trouble
        content = letter.content.read(0, letter.content.size)
        self.sent.append((letter, content))
        if self.swallow:
            return Handed("2.0.0")
        if self.tamper is not None:
            content = await self.tamper(content)
        outcome = await arrive(self.others[peer.domain], letter, content)
        self.answers.append(outcome)
        if self.before_reply is not None:
            await self.before_reply()
        if self.lose_replies:
            self.lose_replies -= 1
            return NotHanded(RelayTrouble.CONNECTION_LOST)
        if isinstance(outcome, Refused):
            code = RelayTrouble.REFUSED_FOR_NOW if outcome.refusal.text.temporary else RelayTrouble.REFUSED
            return NotHanded(code, str(outcome.refusal.text.smtp))
        return Handed("2.0.0")


async def arrive(world: World, letter: Letter, content: bytes) -> Taken | Refused:
    """Hand bytes to a provider as its inbound edge would."""
    return await arrive_from(world, letter.sender, letter.recipients, content)


async def arrive_from(
    world: World, sender: str, recipients: tuple[str, ...], content: bytes, **faults: bool
) -> Taken | Refused:
    """Hand bytes in an envelope to a provider as its inbound edge would."""
    spool = world.blobs.spool()
    await spool.write(content)
    given = {"nul": False, "line_too_long": False} | faults
    arriving = Arriving(sender, recipients, spool, received_at=world.clock.now(), **given)
    return await world.receive.receive(arriving)


@dataclass
class Pair:
    """hs91 (``here``) and hs92 (``there``), each other's peers; a third provider where a test wants one."""

    here: World
    there: World
    out: Wire  # from hs91
    back: Wire  # from hs92
    third: World | None = None

    @property
    def clock(self) -> Clock:
        """Return the clock of hs91, and of all unless a test gave hs92 its own."""
        return self.here.clock

    @property
    def worlds(self) -> list[World]:
        """Return all providers."""
        return [self.here, self.there, *([self.third] if self.third else [])]

    async def send(self, to=(FATMA,), cc=(), **settings) -> str:
        """Submit a signed notice of Ayşe's and return its id."""
        message = await signed(compose(to=to, cc=cc, **settings), ayse())
        outcome = await self.here.send(message, to=(*to, *cc))
        assert isinstance(outcome, Accepted), outcome
        return outcome.message_id

    async def work(self) -> None:
        """Do all work that is due on every side; that it ends at all is a promise, too."""
        for _ in range(1000):
            if not sum([await world.worker.round() for world in self.worlds]):
                return
        raise AssertionError("the work never ends")

    async def later(self, **delta: float) -> None:
        """Move the clocks and do what falls due."""
        for clock in {id(world.clock): world.clock for world in self.worlds}.values():
            clock.at += timedelta(**delta)
        await self.work()

    async def transfers(self, world: World) -> list[Transfer]:
        """Return everything on its way from one of them."""
        return await world.store.read(
            lambda tx: tx.transfers.list(peer=None, state=None, after="", limit=5000)
        )

    async def transfer(self, message_id: str, peer: str = PEER) -> Transfer:
        """Return the transfer that carries a message of hs91's to a peer."""
        (found,) = [
            t for t in await self.transfers(self.here) if (t.message_id, t.peer) == (message_id, peer)
        ]
        return found

    async def message(self, message_id: str, world: World | None = None) -> Submission:
        """Return a message as hs91 (or another) has it."""
        found = await (world or self.here).store.read(lambda tx: tx.messages.get(message_id))
        assert found is not None
        return found

    async def deliveries(self, message_id: str, world: World | None = None) -> list[Delivery]:
        """Return the deliveries of a message, at hs91 or another."""
        return await (world or self.here).store.read(lambda tx: tx.deliveries.of_message(message_id))

    async def states(self, message_id: str) -> list[str]:
        """Return the state of each recipient of a message sent by hs91."""
        return [delivery.state.value for delivery in await self.deliveries(message_id)]

    async def read(self, address: str, message_id: str) -> None:
        """Let a recipient of hs92 open a message for the first time."""
        deliveries = await self.deliveries(message_id, self.there)
        (delivery,) = [d for d in deliveries if d.address == address]
        reader = await self.there.person(address)
        assert await self.there.reader.expose(reader, [delivery.delivery_id]) == {delivery.delivery_id}

    # --- forging ------------------------------------------------------------------------------

    async def says(
        self, kind: int, message_id: str, number: int | None = None, *, by: World | None = None, **changes
    ) -> EvidenceRecord:
        """Return what hs92 (or ``by``) would say of a message of hs91's, with changes."""
        speaker = by or self.there
        made = speaker.records.make(EvidenceKind(kind), await self.message(message_id), number=number)
        return replace(made, **changes)

    async def receive(self, record: EvidenceRecord, **sealing) -> Taken | Refused:
        """Let hs91 get a genuine receipt of a record; see `receipt_of` for how to spoil it."""
        return await self.here_gets(await receipt_of(self.there, record, **sealing))

    async def here_gets(self, content: bytes) -> Taken | Refused:
        """Let hs91 get a receipt's bytes."""
        return await arrive_from(self.here, "", (AYSE,), content)

    async def there_gets(
        self, content: bytes, *, to: tuple[str, ...] = (FATMA,), **faults
    ) -> Taken | Refused:
        """Let hs92 get a dispatch's bytes."""
        sender = faults.pop("sender", self.here.issuer.address)
        return await arrive_from(self.there, sender, to, content, **faults)


def sealer_of(world: World, issued: Issued) -> Sealer:
    """Return a sealer with any certificate and a world's time stamps."""
    return Sealer(SoftSigner(issued.key, issued.certificate, issued.chain), world.tsa)


async def receipt_of(
    world: World,
    record: EvidenceRecord,
    *,
    evidence_by: Sealer | None = None,
    sealed_by: Sealer | None = None,
    xml: bytes | None = None,
    service: str | None = None,
) -> bytes:
    """Return a world's receipt of a record; somebody else may sign the evidence, or the message.

    ``xml`` replaces the sealed evidence; ``service`` the address the receipt comes from.
    """
    evidence = await (evidence_by or world.sealer).seal(record)
    if xml is not None:
        evidence = SealedEvidence(record, xml)
    envelope = Envelope(service or world.issuer.address, (record.sender.address,))
    plan = plan_receipt(envelope, evidence, boundaries=Boundaries.of(world.ids.token()))
    return plan.finish(await (sealed_by or world.sealer).sign_entity(plan.digest(), world.clock.now()))


async def dispatch_of(
    world: World,
    original: bytes,
    to: tuple[str, ...] = (FATMA,),
    *,
    evidence_by: Sealer | None = None,
    sealed_by: Sealer | None = None,
    service: str | None = None,
    **changes,
) -> bytes:
    """Return a world's dispatch of any original with an evidence 10 of its own making, with changes."""
    facts = MessageFacts("Konu", "<x@test>", world.records.fresh_id(), sha256(original).digest())
    now = world.clock.now()
    sender = Party(f"ayse.yilmaz@{world.domain}", "Ayşe Yılmaz")
    record = EvidenceRecord(
        EvidenceKind.SUBMISSION_ACCEPTANCE, world.records.fresh_id(), now, now, world.issuer, sender,
        tuple(Party(address) for address in to), facts,
    )  # fmt: skip
    record = replace(record, **changes)
    evidence = await (evidence_by or world.sealer).seal(record)
    envelope = Envelope(service or world.issuer.address, tuple(p.address for p in record.recipients))
    return await sealed_dispatch(world, envelope, evidence, original, sealed_by)


async def with_original(world: World, dispatch: bytes, original: bytes) -> bytes:
    """Return a dispatch of a world's with its genuine evidence 10, but another original, sealed again."""
    message = parse_kep_message(BytesSource(dispatch))
    xml = message.evidences[0].content
    record = read_record(xml)
    envelope = Envelope(world.issuer.address, tuple(p.address for p in record.recipients))
    return await sealed_dispatch(world, envelope, SealedEvidence(record, xml), original)


async def sealed_dispatch(
    world: World, envelope: Envelope, evidence: SealedEvidence, original: bytes, by: Sealer | None = None
) -> bytes:
    """Return a dispatch of these parts."""
    label = transfer_label(has_8bit=not original.isascii(), is_binary=False)
    plan = plan_dispatch(envelope, evidence, label=label, boundaries=Boundaries.of(world.ids.token()))
    digest = sha256(plan.entity_head + original + plan.entity_tail).digest()
    p7s = await (by or world.sealer).sign_entity(digest, world.clock.now())
    return b"".join((plan.prefix, plan.entity_head, original, plan.entity_tail, plan.suffix(p7s)))


# --------------------------------------------------------------------------- what there is to see


async def seen(world: World) -> list[Seen]:
    """Return all evidence that a provider keeps, in short, each verified as its issuer's own."""
    found = []
    for record, xml in zip(await world.evidence(), await xml_of(world), strict=True):
        domain = record.issuer.address.rpartition("@")[2]
        check = check_evidence(xml, world.trust, world.clock.now())
        assert check.passed, check.report.failing_step
        assert check.chain is not None
        assert check.chain.leaf.der == transaction_of(domain).certificate
        reasons = tuple(int(reason.code) for reason in record.reasons)
        found.append((int(record.kind), reasons, record.refers_to, domain.partition(".")[0]))
    return found


async def xml_of(world: World) -> list[bytes]:
    """Return the exact bytes of all evidence that a provider keeps, in ledger order."""

    def look(tx):
        return [
            tx.blobs.get(tx.evidence.get(entry.evidence_id).blob) for entry in tx.evidence.ledger(0, 10_000)
        ]

    sources = [world.blobs.open(blob) for blob in await world.store.read(look)]
    return [source.read(0, source.size) for source in sources]


async def proofs_of(world: World) -> list[tuple[bytes, bytes | None]]:
    """Return all evidence that a provider keeps, each with its evidence record, in ledger order."""
    ids = [entry.evidence_id for entry in await world.store.read(lambda tx: tx.evidence.ledger(0, 10_000))]
    records = await world.store.read(lambda tx: [tx.evidence.ers(one) for one in ids])
    return list(zip(await xml_of(world), records, strict=True))


async def untouched(world: World) -> bool:
    """Say whether a provider keeps nothing: no message, no evidence, no content, nothing on its way."""

    def look(tx):
        rows = (tx.messages.all(), tx.evidence.all(), tx.blobs.all())
        return not any(list(kept) for kept in rows) and not tx.transfers.counts()

    return await world.store.read(look)


def go_stale(world: World, *, stale: bool = True) -> None:
    """Let a provider's register of peers go out of date, or come fresh again."""
    object.__setattr__(world.register, "stale", lambda: stale)


# --------------------------------------------------------------------------- making


async def new_pair(
    times: RelayTimes | None = None,
    *,
    third: bool = False,
    skew: timedelta | None = None,
    there_limits: Limits | None = None,
    **limits,
) -> Pair:
    """Return two providers with their accounts open, or three.

    ``skew``: how far hs92's clock is ahead of everybody's and of the time-stamping authority's.
    """
    times, clock = times or RelayTimes(), Clock()
    domains = (DOMAIN, PEER, THIRD) if third else (DOMAIN, PEER)
    wires = {domain: Wire() for domain in domains}
    worlds: dict[str, World] = {}
    for domain in domains:
        settings = dict(limits)
        if domain == PEER and there_limits is not None:
            settings["limits"] = there_limits
        peers = {other: peer_of(other) for other in domains if other != domain}
        transaction_of(domain)
        own = Clock() if domain == PEER and skew else clock
        worlds[domain] = World(
            domain=domain, peers=peers, courier=wires[domain], clock=own, times=times, **settings
        )
    if skew:
        worlds[PEER].clock.at += skew
        worlds[PEER].tsa.clock = clock  # the authority's time is right whatever ours is
    for wire in wires.values():
        wire.others = worlds
    for domain in (DOMAIN, PEER):
        await worlds[domain].open_accounts()
    if third:
        await open_account(worlds[THIRD], DENIZ)
    return Pair(worlds[DOMAIN], worlds[PEER], wires[DOMAIN], wires[PEER], worlds.get(THIRD))


async def open_account(world: World, address: str) -> None:
    """Open one more account."""
    kind, service = AccountKind.REAL_PERSON, ServiceType.SEND_AND_RECEIVE
    name = address.partition("@")[0].replace(".", " ").title()
    await world.accounts.open(Opening(address, kind, service, name, name, make_tckn(7)))
    await world.accounts.add_password(address, password_of(address), label="test")
