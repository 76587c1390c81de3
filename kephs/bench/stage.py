"""What the benchmarks in memory share: a TEST PKI, an authority in this process, records, the raw operations.

Work that waits for nothing is measured by `kephs.bench.interleave`; work of many callers at once, as a server
has them, by `kephs.bench.turns` with a `Supply` of fresh items.
"""

import asyncio
import itertools
import math
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from time import process_time
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from evidence.adapters.batch_stamper import BatchStamper
from evidence.adapters.soft_signer import SoftSigner
from evidence.model.records import Authentication, EvidenceKind, EvidenceRecord, Issuer, MessageFacts, Party
from evidence.ports import Signer
from evidence.seal.sealing import Sealer
from evidence.stamps.timestamps import TokenIssuer, build_request, read_request, verify_token
from evidence.x509.chain import TrustStore
from evidence.x509.role import SealPolicy
from kephs.bench.figures import BenchError, ticks
from kephs.bench.interleave import Work
from kephs.bench.letters import Holder
from kephs.bench.turns import Runner, each
from kephs.testpki.authority import TestPki
from kephs.testpki.issued import Issued
from kephs.testpki.keys import PrivateKey, make_key, sign_digest
from kephs.testpki.oids import TEST_TRANSACTION_POLICY, TEST_TSA_POLICY
from kephs.testpki.profiles import make_tckn

T = TypeVar("T")
Clock = Callable[[], datetime]

DOMAIN: Final = "hs91.kep.tr"
CALLERS: Final = 50
"""Callers at once, as at a busy server; each asks for one evidence and waits for it."""
JOINED: Final = 25
"""Evidence of one group, where what arrives together is joined."""
RAW_SIGN: Final = "raw P-256 sign"
RAW_VERIFY: Final = "raw P-256 verify"
SEAL_POLICY: Final = SealPolicy(transaction_policies=frozenset({TEST_TRANSACTION_POLICY}))
ECDSA: Final = ec.ECDSA(Prehashed(hashes.SHA256()))
_PERSON: Final = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"
_FIRST: Final = 1000  # items of a supply's first turn
_MOST: Final = 40_000


class LocalStamps:
    """A `Timestamper` in this process: tokens of the TEST TSA by template, no network.

    Args:
        pki: whose authority it is.
        clock: the time.
        trust: where given, each token is verified up to it, as the HTTP client does with what it gets, and
            asking lets the other callers run, as waiting for the network would: they fill the next batch.
    """

    def __init__(self, pki: TestPki, clock: Clock, trust: TrustStore | None = None) -> None:
        self._tokens = TokenIssuer(pki.tsa.certificate, pki.tsa.chain, TEST_TSA_POLICY)
        self._key, self._clock, self._trust = pki.tsa.key, clock, trust

    async def stamp(self, digest: bytes) -> bytes:
        """Return a token over a digest."""
        request = read_request(build_request(digest, secrets.randbits(64)))
        draft = self._tokens.to_be_signed(request, self._clock(), secrets.randbits(64))
        token = self._tokens.assemble(draft, sign_digest(self._key, draft.digest))
        if self._trust is not None:
            await asyncio.sleep(0)
            if not verify_token(token, imprint=digest, trust=self._trust, at=self._clock()).passed:
                raise BenchError("a token did not pass")
        return token


@dataclass(frozen=True, slots=True)
class Stage:
    """A TEST PKI in memory and what hangs on it."""

    pki: TestPki
    clock: Clock
    numbers: "itertools.count[int]"

    @classmethod
    def make(cls, clock: Clock, others: Mapping[str, PrivateKey] = MappingProxyType({})) -> "Stage":
        """Make everything; the RSA authority plays no part here and gets a key that is made quickly.

        Args:
            clock: the time.
            others: keys of authorities, by name, in place of their usual kinds.
        """
        keys = {"pss": make_key("rsa2048"), **others}
        pki = TestPki.create(None, base_url="http://127.0.0.1:9", now=clock(), keys=keys)
        return cls(pki, clock, itertools.count(1))

    @property
    def transaction(self) -> Issued:
        """Return the provider's transaction certificate and its key."""
        return self.pki.transactions[DOMAIN]

    def trust(self) -> TrustStore:
        """Return a trust store that remembers nothing yet."""
        return TrustStore([self.pki.root], intermediates=self.pki.intermediates)

    def signer(self) -> SoftSigner:
        """Return the provider's key in memory."""
        issued = self.transaction
        assert isinstance(issued.key, ec.EllipticCurvePrivateKey)
        return SoftSigner(issued.key, issued.certificate, issued.chain)

    def own_sealer(self) -> Sealer:
        """Return what seals with a token inside each evidence; it waits for nothing (see `outcome`)."""
        return Sealer(self.signer(), LocalStamps(self.pki, self.clock))

    def batch_sealer(self, signer: Signer | None = None) -> tuple[Sealer, BatchStamper]:
        """Return what seals with one token for many, and what counts the batches."""
        stamps = LocalStamps(self.pki, self.clock, self.trust())
        batcher = BatchStamper(stamps)
        return Sealer(signer or self.signer(), stamps, batcher), batcher

    def holder(self) -> Holder:
        """Return a new holder with a certificate of their own."""
        number = next(self.numbers)
        issued = self.pki.issue_user(f"TEST {number}", make_tckn(number))
        return Holder(f"sender{number}@{DOMAIN}", "", issued)

    def records(self, count: int) -> list[EvidenceRecord]:
        """Return so many records of different events, now."""
        at = self.clock()
        return [new_record(at) for _ in range(count)]


class Supply(Generic[T]):
    """Items that many callers work on in turns: each once, all made outside the clock.

    Args:
        make: makes so many new ones.
        work: takes one.
        callers: how many work at once; each begins the next when it has done one.
    """

    def __init__(
        self, make: Callable[[int], Sequence[T]], work: Callable[[T], Awaitable[object]], callers: int = 1
    ) -> None:
        self._make, self._work, self._callers = make, work, callers
        self._items: deque[T] = deque()
        self._wanted = _FIRST
        self._turns = 0
        self.done = 0
        self.cpu_seconds = 0.0

    @property
    def cpu_rate(self) -> float:
        """Return items per second of this process's processor time, the first turn left out."""
        return self.done / self.cpu_seconds if self.cpu_seconds else 0.0

    @property
    def runner(self) -> Runner:
        """Return what `kephs.bench.turns.take_turns` takes; a turn ends early when nothing is left."""
        return Runner(self._turn, before=self._before)

    async def all(self, count: int) -> None:
        """Work on so many new ones, to the last."""
        self._items.extend(self._make(count))
        await self._turn(math.inf)

    async def _before(self) -> None:
        self._items.extend(self._make(self._wanted - len(self._items)))

    async def _turn(self, deadline: float) -> int:
        before, started = len(self._items), process_time()
        await each([self._caller] * self._callers, deadline)
        done = before - len(self._items)
        if self._turns:
            self.done += done
            self.cpu_seconds += process_time() - started
        self._turns += 1
        self._wanted = min(_MOST, max(_FIRST, 2 * done))
        return done

    async def _caller(self, deadline: float) -> int:
        items, work = self._items, self._work
        while items and ticks() < deadline:
            await work(items.popleft())
        return 0


class GroupSupply(Supply[T]):
    """Items that callers work on in groups, as the signer's process joins what arrives together.

    Args:
        make: makes so many new ones.
        work: takes a group.
        callers: how many work at once.
        most: items of one group.
    """

    def __init__(
        self, make: Callable[[int], Sequence[T]], work: Callable[[Sequence[T]], Awaitable[object]],
        callers: int, most: int,
    ) -> None:  # fmt: skip
        super().__init__(make, lambda one: work((one,)), callers)
        self._group_work, self._most = work, most

    async def _caller(self, deadline: float) -> int:
        items = self._items
        while items and ticks() < deadline:
            await self._group_work([items.popleft() for _ in range(min(self._most, len(items)))])
        return 0


def by_processor(ours: Supply[Any], raw: Supply[Any]) -> dict[str, object]:
    """Return the same rates by processor time of this process: neighbours change them much less."""
    return {"cpu_value": round(ours.cpu_rate), "cpu_ratio": float(f"{ours.cpu_rate / raw.cpu_rate:.3g}")}


def raw_sign_supply() -> Supply[bytes]:
    """Return raw signatures as work for turns."""
    key = p256()

    async def sign(digest: bytes) -> None:
        key.sign(digest, ECDSA)

    return Supply(digests, sign)


def raw_verify() -> Work:
    """Return raw verifications, each of another signature."""
    key = p256()
    public = key.public_key()

    def signed(count: int) -> list[tuple[bytes, bytes]]:
        return [(digest, key.sign(digest, ECDSA)) for digest in digests(count)]

    return Work(signed, lambda pair: public.verify(pair[1], pair[0], ECDSA))


def raw_verify_supply() -> Supply[tuple[bytes, bytes]]:
    """Return raw verifications as work for turns."""
    raw = raw_verify()

    async def verify(pair: tuple[bytes, bytes]) -> None:
        raw.run(pair)

    return Supply(raw.prepare, verify)


def digests(count: int) -> Sequence[bytes]:
    """Return so many different digests."""
    return [secrets.token_bytes(32) for _ in range(count)]


def p256() -> ec.EllipticCurvePrivateKey:
    """Return a new key."""
    return ec.generate_private_key(ec.SECP256R1())


def outcome(work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine gives that never waits: no event loop in the measurement."""
    try:
        work.send(None)
    except StopIteration as done:
        found: T = done.value
        return found
    work.close()
    raise BenchError("the work waited for something")


def share_ms(seconds: Sequence[float], share: float) -> float:
    """Return the time below which this share of all times lies, ms."""
    ordered = sorted(seconds)
    return float(f"{1000 * ordered[math.ceil(share * len(ordered)) - 1]:.3g}")


def new_record(at: datetime) -> EvidenceRecord:
    """Return the acceptance of a message that nobody else sent."""
    fresh = secrets.token_hex(10)
    issuer = Issuer(
        "TEST Örnek KEP Hizmet Sağlayıcısı A.Ş.", f"kep-hizmet@{DOMAIN}", f"https://{DOMAIN}/ilke",
        "Büyükdere Cd. 2", "İstanbul", "34330",
    )  # fmt: skip
    return EvidenceRecord(
        kind=EvidenceKind.SUBMISSION_ACCEPTANCE,
        evidence_id=f"{fresh}@{DOMAIN}",
        event_time=at,
        submission_time=at,
        issuer=issuer,
        sender=Party(f"ayse@{DOMAIN}", "TEST Ayşe"),
        recipients=(Party(f"mehmet@{DOMAIN}", "TEST Mehmet"),),
        message=MessageFacts(
            "TEST İhtar", f"<{fresh}@mua.test>", f"kep-{fresh}@{DOMAIN}", sha256(fresh.encode()).digest()
        ),
        sender_authentication=Authentication(at, _PERSON, "TEST Ayşe"),
    )
