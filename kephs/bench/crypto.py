"""Benchmarks of signing and verifying, in memory, beside the raw P-256 operation in the same loop."""

import itertools
import secrets
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from evidence.adapters.soft_signer import SoftSigner
from evidence.chain import TrustStore
from evidence.mime import scan
from evidence.nes import Prepared, conclude, prepare
from evidence.ports import BytesSource
from evidence.records import Authentication, EvidenceKind, EvidenceRecord, Issuer, MessageFacts, Party
from evidence.report import Verdict
from evidence.revocation import RevocationAnswer, check_ocsp, ocsp_request
from evidence.sealing import Sealer
from evidence.timestamps import TokenIssuer, build_request, read_request
from evidence.verify_evidence import check_evidence
from kephs.bench.figures import IN_MEMORY, BenchError, Figure, own_peak_rss_mb
from kephs.bench.interleave import Work, rates
from kephs.bench.letters import Holder, Letters
from kephs.testpki.authority import TestPki
from kephs.testpki.keys import make_key, sign_digest
from kephs.testpki.oids import TEST_TSA_POLICY
from kephs.testpki.profiles import make_tckn

T = TypeVar("T")
Clock = Callable[[], datetime]

DOMAIN: Final = "hs91.kep.tr"
LETTER_BYTES: Final = 4096  # the size the project's reference figures were taken with
KNOWN_SENDERS: Final = 200
_ECDSA: Final = ec.ECDSA(Prehashed(hashes.SHA256()))
_RAW_SIGN: Final = "raw P-256 sign"
_RAW_VERIFY: Final = "raw P-256 verify"
_PERSON: Final = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"


class LocalStamps:
    """A `Timestamper` in this process: tokens of the TEST TSA by template; no network, not checked again."""

    def __init__(self, pki: TestPki, clock: Clock) -> None:
        self._tokens = TokenIssuer(pki.tsa.certificate, pki.tsa.chain, TEST_TSA_POLICY)
        self._key, self._clock = pki.tsa.key, clock

    async def stamp(self, digest: bytes) -> bytes:
        """Return a token over a digest."""
        request = read_request(build_request(digest, secrets.randbits(64)))
        draft = self._tokens.to_be_signed(request, self._clock(), secrets.randbits(64))
        return self._tokens.assemble(draft, sign_digest(self._key, draft.digest))


@dataclass(frozen=True, slots=True)
class Stage:
    """A TEST PKI in memory and what hangs on it."""

    pki: TestPki
    sealer: Sealer
    clock: Clock
    numbers: "itertools.count[int]"

    @classmethod
    def make(cls, clock: Clock) -> "Stage":
        """Make everything; the RSA authority plays no part here and gets a key that is made quickly."""
        keys = {"pss": make_key("rsa2048")}
        pki = TestPki.create(None, base_url="http://127.0.0.1:9", now=clock(), keys=keys)
        transaction = pki.transactions[DOMAIN]
        assert isinstance(transaction.key, ec.EllipticCurvePrivateKey)
        signer = SoftSigner(transaction.key, transaction.certificate, transaction.chain)
        return cls(pki, Sealer(signer, LocalStamps(pki, clock)), clock, itertools.count(1))

    def trust(self) -> TrustStore:
        """Return a trust store that remembers nothing yet."""
        return TrustStore([self.pki.root], intermediates=self.pki.intermediates)

    def holder(self) -> Holder:
        """Return a new holder with a certificate of their own."""
        number = next(self.numbers)
        issued = self.pki.issue_user(f"TEST {number}", make_tckn(number))
        return Holder(f"sender{number}@{DOMAIN}", "", issued)


def seal(clock: Clock, seconds: float) -> list[Figure]:
    """Seal evidence: XML written, signed and time-stamped (XAdES-B-T), each another record."""
    stage, key = Stage.make(clock), _p256()
    sealing = Work(
        lambda count: [_record(clock()) for _ in range(count)],
        lambda record: _outcome(stage.sealer.seal(record)),
    )
    raw = Work(_digests, lambda digest: key.sign(digest, _ECDSA))
    note = "XAdES-B-T: one signature and one token of a TSA in this process, so 0.5 would be the ceiling"
    return [_figure("seal", "evidence/s", _RAW_SIGN, sealing, raw, seconds, note)]


def verify(clock: Clock, seconds: float) -> list[Figure]:
    """Verify evidence XML completely (XAdES-B-T, chain, role, byte identity), each another document."""
    stage = Stage.make(clock)
    trust = stage.trust()

    def sealed(count: int) -> list[bytes]:
        return [_outcome(stage.sealer.seal(_record(clock()))).xml for _ in range(count)]

    def check(xml: bytes) -> None:
        if not check_evidence(xml, trust, clock()).passed:
            raise BenchError("an evidence did not pass")

    note = "two signatures each (evidence, token); links between certificates remembered"
    ours, raw = Work(sealed, check), _raw_verify()
    return [_figure("verify", "evidence/s", _RAW_VERIFY, ours, raw, seconds, note)]


def nes(clock: Clock, seconds: float) -> list[Figure]:
    """Verify senders' qualified signatures: from known senders, and with nothing remembered."""
    stage = Stage.make(clock)
    warm_note = (
        f"{KNOWN_SENDERS} known senders: certificate paths and OCSP answers remembered; every message "
        f"({LETTER_BYTES} octets) and signature another"
    )
    cold_note = (
        "every sender new and nothing remembered: paths under P-384 and the OCSP answers on sender and "
        "authority are checked too, seven signatures each"
    )
    half = seconds / 2
    warm, cold = _warm(stage), _cold(stage)
    return [
        _figure("nes", "messages/s", _RAW_VERIFY, warm, _raw_verify(), half, warm_note),
        _figure("nes-cold", "messages/s", _RAW_VERIFY, cold, _raw_verify(), half, cold_note),
    ]


def _warm(stage: Stage) -> Work:
    trust, clock = stage.trust(), stage.clock
    holders = [stage.holder() for _ in range(KNOWN_SENDERS)]
    writers = itertools.cycle([Letters(holder, clock) for holder in holders])
    answers: dict[bytes, RevocationAnswer] = {}
    for holder in holders:
        letter = Letters(holder, clock).write(holders[0].address)
        answers |= _ask(stage, trust, _prepare(letter, trust, clock()))

    def letters(count: int) -> list[bytes]:
        return [next(writers).write(holders[0].address, LETTER_BYTES) for _ in range(count)]

    def check(letter: bytes) -> None:
        at = clock()
        _must_pass(conclude(_prepare(letter, trust, at), answers, at).verdict)

    return Work(letters, check)


def _cold(stage: Stage) -> Work:
    clock = stage.clock

    def letters(count: int) -> list[tuple[bytes, TrustStore, dict[bytes, bytes]]]:
        made = []
        for _ in range(count):
            holder = stage.holder()
            letter = Letters(holder, clock).write(holder.address, LETTER_BYTES)
            trust = stage.trust()
            needs = _prepare(letter, trust, clock()).needs
            responses = {
                certificate.sha256: _response(stage, ocsp_request(certificate, issuer), issuer.subject)
                for certificate, issuer in needs
            }
            made.append((letter, stage.trust(), responses))
        return made

    def check(item: tuple[bytes, TrustStore, dict[bytes, bytes]]) -> None:
        letter, trust, responses = item
        at = clock()
        prepared = _prepare(letter, trust, at)
        answers = {
            certificate.sha256: check_ocsp(
                responses[certificate.sha256], certificate, issuer, at=at, trust=trust
            )
            for certificate, issuer in prepared.needs
        }
        _must_pass(conclude(prepared, answers, at).verdict)

    return Work(letters, check)


def _prepare(letter: bytes, trust: TrustStore, at: datetime) -> Prepared:
    source = BytesSource(letter)
    return prepare(source, scan(source), trust=trust, at=at)


def _ask(stage: Stage, trust: TrustStore, prepared: Prepared) -> dict[bytes, RevocationAnswer]:
    at = stage.clock()
    return {
        certificate.sha256: check_ocsp(
            _response(stage, ocsp_request(certificate, issuer), issuer.subject),
            certificate, issuer, at=at, trust=trust,
        )
        for certificate, issuer in prepared.needs
    }  # fmt: skip


def _response(stage: Stage, request: bytes, issuer_subject: bytes) -> bytes:
    authorities = stage.pki.authorities
    named = {authorities[name].issued.x509.subject.public_bytes(): name for name in ("root", "p384")}
    return stage.pki.ocsp_response(request, stage.clock(), ca=named[issuer_subject])


def _must_pass(verdict: Verdict) -> None:
    if verdict is not Verdict.PASSED:
        raise BenchError("a sender's signature did not pass")


def _raw_verify() -> Work:
    key = _p256()
    public = key.public_key()

    def signed(count: int) -> list[tuple[bytes, bytes]]:
        return [(digest, key.sign(digest, _ECDSA)) for digest in _digests(count)]

    return Work(signed, lambda pair: public.verify(pair[1], pair[0], _ECDSA))


def _digests(count: int) -> Sequence[bytes]:
    return [secrets.token_bytes(32) for _ in range(count)]


def _p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _figure(
    name: str, unit: str, baseline_name: str, ours: Work, raw: Work, seconds: float, note: str
) -> Figure:
    value, baseline = rates((ours, raw), seconds)
    return Figure(name, value, unit, baseline, baseline_name, own_peak_rss_mb(), IN_MEMORY, {"note": note})


def _outcome(work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine gives that never waits: no event loop in the measurement."""
    try:
        work.send(None)
    except StopIteration as done:
        outcome: T = done.value
        return outcome
    work.close()
    raise BenchError("the work waited for something")


def _record(at: datetime) -> EvidenceRecord:
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
