"""A whole provider in memory: real rules, real signatures, twins of the stores, a clock that tests move."""

import asyncio
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from functools import partial
from hashlib import sha256

from directory.accounts import ALL_RIGHTS, AccountKind, ServiceType
from directory.providers import ProviderRegister
from evidence.adapters.batch_stamper import BatchStamper
from evidence.adapters.soft_signer import SoftSigner
from evidence.forms.serialise import read as read_record
from evidence.mail.smime_sign import sign_message
from evidence.model.records import EvidenceKind, EvidenceRecord, Issuer
from evidence.nes.qualified import NesPolicy
from evidence.ports import TimestampUnavailableError
from evidence.seal.sealing import Sealer
from evidence.stamps.timestamps import build_request as timestamp_request
from evidence.stamps.timestamps import parse_response
from evidence.x509.chain import TrustStore
from evidence.x509.revocation import check_ocsp, ocsp_request
from evidence.x509.role import SealPolicy
from kephs.domain.mailboxes import FolderRole
from kephs.domain.messages import Person
from kephs.domain.policy import Limits
from kephs.domain.relay import NotHanded, RelayTrouble
from kephs.domain.relay_times import RelayTimes
from kephs.ports import ScanVerdict
from kephs.system import LocalChanges
from kephs.testpki.issued import Issued
from kephs.together import together
from kephs.usecases.delivery.deliver import Deliver
from kephs.usecases.delivery.dispatch import DispatchMaker
from kephs.usecases.delivery.fresh import FreshEvidence
from kephs.usecases.delivery.kept_evidence import KeptEvidence
from kephs.usecases.delivery.read import Reader
from kephs.usecases.delivery.receipts import FileReceipts, ReceiptMaker
from kephs.usecases.mailbox.tidy import Tidy
from kephs.usecases.people.accounts import AccountWork, Opening
from kephs.usecases.people.sign_in import PASSWORD_METHOD, SignIn
from kephs.usecases.records import RecordMaker
from kephs.usecases.relay.give_up import GiveUp
from kephs.usecases.relay.pass_refusal import PassRefusal
from kephs.usecases.relay.receive import Receive
from kephs.usecases.relay.relay import Relay, Wait
from kephs.usecases.relay.take_dispatch import TakeDispatch
from kephs.usecases.relay.take_receipt import TakeReceipt
from kephs.usecases.submission.results import Incoming
from kephs.usecases.submission.signers import BindingRule
from kephs.usecases.submission.submit import Submit, SubmitSettings
from kephs.worker.lanes import lanes, take_over
from kephs.worker.run import Worker
from storage.memory.store import MemoryBlobStore, MemoryStore
from tests.support.pki import AYSE_TCKN, MEHMET_TCKN, NOW, shared_pki

DOMAIN = "hs91.kep.tr"
AYSE, MEHMET, KURUM = f"ayse.yilmaz@{DOMAIN}", f"mehmet.demir@{DOMAIN}", f"ornekkurum@{DOMAIN}"

PEER = "hs92.kep.tr"
FATMA, CAN = f"fatma.kaya@{PEER}", f"can.ozturk@{PEER}"
CAST = {
    DOMAIN: (
        ("ayse.yilmaz", AccountKind.REAL_PERSON, "Ayşe Yılmaz", "Ayşe Yılmaz", AYSE_TCKN),
        ("mehmet.demir", AccountKind.REAL_PERSON, "Mehmet Demir", "Mehmet Demir", MEHMET_TCKN),
        ("ornekkurum", AccountKind.LEGAL_PERSON, "Örnek Kurum A.Ş.", "Zeynep Işık", "10000000382"),
    ),
    PEER: (
        ("fatma.kaya", AccountKind.REAL_PERSON, "Fatma Kaya", "Fatma Kaya", AYSE_TCKN),
        ("can.ozturk", AccountKind.REAL_PERSON, "Can Öztürk", "Can Öztürk", MEHMET_TCKN),
    ),
}


def issuer_of(domain: str) -> Issuer:
    """Return how a test provider names itself."""
    label = domain.partition(".")[0]
    return Issuer(
        f"TEST {label}", f"kep-hizmet@{domain}", "urn:oid:2.25.1", "Örnek Cd. 1", "Ankara", "06000", "TR"
    )


def password_of(address: str) -> str:
    """Return the app password of a test account; its first six characters select it."""
    return f"{sha256(address.encode()).hexdigest()[:6]}-ghijk-lmnop-qrstu-vwxyz"


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.at = NOW + timedelta(minutes=1)

    def now(self) -> datetime:
        """Return the test's time."""
        return self.at


class Ids:
    """Counts."""

    def __init__(self) -> None:
        self.count = 0

    def new(self) -> str:
        """Return the next id."""
        self.count += 1
        return f"01test{self.count:020d}"

    def token(self) -> str:
        """Return a boundary seed."""
        self.count += 1
        return f"{self.count:032x}"


class Inline:
    """Runs offloaded work at once."""

    async def run(self, function, *args):
        """Call it."""
        return function(*args)


class PlainPasswords:
    """Passwords that need no stretching in tests."""

    async def hash(self, password):
        """Return it marked."""
        return f"plain:{password}"

    async def verify(self, stored, password):
        """Compare."""
        return stored == f"plain:{password}"


class PlainIdentity:
    """Identity hashes one can read."""

    def mac(self, identity_number):
        """Return the number as bytes."""
        return identity_number.encode()


@dataclass
class LocalTsa:
    """The TEST PKI's TSA without HTTP; ``down`` makes it silent."""

    clock: Clock
    down: bool = False
    stamps: int = 0

    async def stamp(self, digest: bytes) -> bytes:
        """Return a token."""
        if self.down:
            raise TimestampUnavailableError("down")
        self.stamps += 1
        request = timestamp_request(digest, secrets.randbits(64))
        return parse_response(shared_pki().timestamp_reply(request, self.clock.now()))


class LocalSealer(Sealer):
    """The provider's sealer; callers wait at ``together`` until so many have sealed at one moment."""

    together: asyncio.Barrier | None = None

    async def seal_many(self, records, **form):
        """Seal, and wait for company."""
        sealed = await super().seal_many(records, **form)
        if sealed and self.together is not None:
            await self.together.wait()
        return sealed

    async def sign_entities(self, digests, at):
        """Sign, and wait for company."""
        signatures = await super().sign_entities(digests, at)
        if self.together is not None:
            await self.together.wait()
        return signatures


@dataclass
class LocalOcsp:
    """The TEST PKI's OCSP without HTTP; ``down`` makes OCSP and CRL silent."""

    clock: Clock
    trust: TrustStore
    down: bool = False

    async def status(self, certificate, issuer, at):
        """Return a checked answer."""
        if self.down:
            return None
        names = {shared_pki().authorities[n].certificate: n for n in ("root", "p384", "pss")}
        request = ocsp_request(certificate, issuer)
        response = shared_pki().ocsp_response(request, self.clock.now(), ca=names[issuer.der])
        return check_ocsp(response, certificate, issuer, at=at, trust=self.trust)


@dataclass
class Eicar:
    """A scanner that knows one signature; ``down`` makes it raise."""

    found: str = ""
    error: Exception | None = None

    async def scan(self, content):
        """Say what the test wants."""
        if self.error:
            raise self.error
        return ScanVerdict(not self.found, self.found)


class NoNetwork:
    """A courier without a network."""

    async def hand_over(self, peer, letter):
        """Fail as a closed port does."""
        return NotHanded(RelayTrouble.NO_CONNECTION)


@dataclass
class World:
    """One provider with two people and an institution. ``peers``: other providers by domain."""

    limits: Limits = field(default_factory=Limits)
    domain: str = DOMAIN
    peers: dict = field(default_factory=dict)
    courier: object = field(default_factory=NoNetwork)
    times: RelayTimes = field(default_factory=RelayTimes)
    clock: Clock = field(default_factory=Clock)
    grace: bool = False
    nes_policy: NesPolicy = field(default_factory=NesPolicy)
    binding: BindingRule = BindingRule.FIRST_USE
    batch: bool = True
    window: timedelta = timedelta()  # of the batches

    def __post_init__(self) -> None:
        pki = shared_pki()
        self.ids, self.changes = Ids(), LocalChanges()
        self.issuer = issuer_of(self.domain)
        self.store, self.blobs = MemoryStore(), MemoryBlobStore()
        self.trust = TrustStore([pki.root], intermediates=pki.intermediates)
        self.tsa, self.scanner = LocalTsa(self.clock), Eicar()
        self.ocsp = LocalOcsp(self.clock, self.trust)
        key = pki.transactions[self.domain]
        self.sealer = LocalSealer(
            SoftSigner(key.key, key.certificate, key.chain), self.tsa,
            BatchStamper(self.tsa, window=self.window) if self.batch else None, unstamped_grace=self.grace,
        )  # fmt: skip
        self.register = register = ProviderRegister(self.domain, peers=self.peers)
        self.records = RecordMaker(self.issuer, self.domain, self.clock, self.ids)
        offload, fresh = Inline(), FreshEvidence()
        kept = KeptEvidence(self.store, self.blobs, self.sealer, offload, fresh)
        shared = {
            "store": self.store, "blobs": self.blobs, "sealer": self.sealer, "records": self.records,
            "changes": self.changes,
        }  # fmt: skip
        self.submit = Submit(
            store=self.store, blobs=self.blobs, sealer=self.sealer, revocation=self.ocsp,
            scanner=self.scanner, identity=PlainIdentity(), offload=offload, clock=self.clock, ids=self.ids,
            changes=self.changes, trust=self.trust,
            settings=SubmitSettings(
                self.issuer, register, self.limits, self.nes_policy, self.times, self.binding
            ),
            fresh=fresh, together=together,
        )  # fmt: skip
        self.dispatches = DispatchMaker(
            self.store, self.blobs, self.sealer, self.records, offload, self.clock, self.ids, kept
        )
        receipts = ReceiptMaker(self.sealer, self.records, register, self.clock, self.ids)
        self.deliver = Deliver(
            self.store, self.sealer, self.records, self.dispatches, receipts, register, self.changes
        )
        self.receipts = FileReceipts(
            self.store, self.blobs, receipts, kept, self.clock, self.ids, self.changes, self.times
        )
        self.give_up = GiveUp(**shared, clock=self.clock, times=self.times)
        self.relay = Relay(
            self.store, self.blobs, self.dispatches, self.records, register, self.courier, self.give_up,
            offload, self.clock, self.times,
        )  # fmt: skip
        self.receive = Receive(
            dispatches=TakeDispatch(
                self.store, self.blobs, self.sealer, self.records, self.scanner, register, self.limits,
                offload, self.changes, self.ids,
            ),
            receipts=TakeReceipt(
                self.store, self.blobs, self.changes, self.clock, self.times, self.domain,
                PassRefusal(self.blobs, self.sealer, self.records),
            ),
            revocation=self.ocsp, offload=offload, clock=self.clock, trust=self.trust, policy=SealPolicy(),
            register=register,
        )  # fmt: skip
        self.reader = Reader(
            store=self.store, blobs=self.blobs, sealer=self.sealer, records=self.records,
            changes=self.changes, register=register,
        )  # fmt: skip
        work = lanes(
            "main", deliver=self.deliver, receipts=self.receipts, relay=self.relay,
            wait=Wait(self.store, self.give_up, register, self.clock), peers=self.peers, connections=4,
            lease=timedelta(minutes=5),
        )  # fmt: skip
        self.worker = Worker(
            store=self.store, clock=self.clock,
            subscribe=lambda: self.changes.subscribe(LocalChanges.EVERYTHING), lanes=lambda: work,
            take_over=partial(take_over, "main"), tidy=Tidy(store=self.store, blobs=self.blobs, clock=self.clock).release,
        )  # fmt: skip
        self.accounts = AccountWork(
            store=self.store, identity=PlainIdentity(), passwords=PlainPasswords(), clock=self.clock,
            ids=self.ids, register=register,
        )  # fmt: skip
        self.sign_in = SignIn(
            store=self.store, passwords=PlainPasswords(), clock=self.clock, register=register
        )

    async def open_accounts(self) -> "World":
        """Open the accounts of the cast at this provider."""
        for local, kind, holder, person, tckn in CAST[self.domain]:
            address = f"{local}@{self.domain}"
            await self.accounts.open(
                Opening(address, kind, ServiceType.SEND_AND_RECEIVE, holder, person, tckn)
            )
            await self.accounts.add_password(address, password_of(address), label="test")
        return self

    async def person(self, address: str) -> Person:
        """Sign in."""
        person = await self.sign_in.sign_in(address, password_of(address))
        assert person is not None
        assert person.authentication.method == PASSWORD_METHOD
        return person

    async def send(self, message: bytes, *, sender: str = AYSE, to=(MEHMET,), **faults):
        """Submit bytes as an edge would."""
        spool = self.blobs.spool()
        await spool.write(message)
        given = {
            "person": faults.get("person") or await self.person(sender), "envelope_from": sender, "attempted": tuple(to),
            "any_refused": False, "spool": spool, "nul": False, "line_too_long": False,
            "received_at": self.clock.now(),
        } | faults  # fmt: skip
        return await self.submit.submit(Incoming(**given))

    async def work(self) -> None:
        """Do all work that is due."""
        while await self.worker.round():
            pass

    async def evidence(self) -> list[EvidenceRecord]:
        """Return all evidence there is, read back from its signed bytes, in ledger order."""
        entries = await self.store.read(lambda tx: tx.evidence.ledger(0, 10_000))
        found = []
        for entry in entries:
            blob = await self.store.read(
                lambda tx, entry=entry: tx.blobs.get(tx.evidence.get(entry.evidence_id).blob)
            )
            source = self.blobs.open(blob)
            found.append(read_record(source.read(0, source.size)))
        return found

    async def kinds(self) -> list[EvidenceKind]:
        """Return the kinds of all evidence in ledger order."""
        return [record.kind for record in await self.evidence()]

    async def count(self, address: str, role: FolderRole) -> int:
        """Return how many items a folder has."""

        def look(tx):
            account = tx.accounts.by_address(address)
            return len(tx.mailboxes.summaries(tx.mailboxes.by_role(account.account_id, role).folder_id))

        return await self.store.read(look)


def compose(
    sender: str = AYSE, to=(MEHMET,), cc=(), subject="İhtarname", message_id="<1@test>", **extra
) -> bytes:
    """Return an unsigned message."""
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = ", ".join(to)
    if cc:
        message["Cc"] = ", ".join(cc)
    message["Subject"] = subject
    message["Date"] = "Sat, 21 Nov 2026 12:00:00 +0300"
    if message_id:
        message["Message-ID"] = message_id
    for name, value in extra.items():
        message[name] = value
    message.set_content("Sayın Yetkili, bildiririz.", cte="quoted-printable")
    return message.as_bytes()


async def signed(unsigned: bytes, by: Issued, at: datetime = NOW) -> bytes:
    """Return the message signed by a holder."""
    signer = SoftSigner(by.key, by.certificate, by.chain)
    return await sign_message(unsigned, signer, at, boundary=f"b-{secrets.token_hex(12)}")


async def new_world(**settings) -> World:
    """Return a world with its accounts open."""
    assert ALL_RIGHTS
    return await World(**settings).open_accounts()
