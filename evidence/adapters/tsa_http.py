"""Time stamps over HTTP from several authorities, checked before anybody uses them.

(spec: RFC3161#3.4, signing.md 4 TSA client; who asks: `evidence.adapters.tsa_identity`, what is paid for:
`evidence.adapters.tsa_credits`)
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol, TypeAlias

import aiohttp
import structlog
from yarl import URL

from evidence.adapters.tsa_exchange import Exchange, ExchangeError, SessionExchange
from evidence.adapters.tsa_identity import SALT_OCTETS, TsaEndpoint, refusal_text, shown
from evidence.ports import TimestampUnavailableError
from evidence.stamps.known_answers import GoodToken, KnownAnswers
from evidence.stamps.timestamps import (
    TimestampRefusedError,
    Token,
    build_request,
    check_response,
    parse_response,
    verify_token,
)
from evidence.x509.certificates import CertificateFacts
from evidence.x509.chain import Chain, TrustStore
from evidence.x509.revocation import RevocationAnswer, RevocationStatus

_NOBODY: Final[Mapping[str, str]] = MappingProxyType({})
_64_BITS: Final = (1 << 64) - 1
_CERTIFICATES_KEPT: Final = 64
_REVOCATION_SECONDS: Final = 3.0

RevocationCheck: TypeAlias = Callable[[Chain], Awaitable[str | None]]
"""Says why a TSA's chain must not be used (revoked), or None. Silence of OCSP and CRL is its to judge; it
does not raise."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Authority:
    endpoint: TsaEndpoint
    url: URL
    policy: str | None
    known: KnownAnswers

    @property
    def name(self) -> str:
        return self.endpoint.url


class _Asked(NamedTuple):  # a tuple: frozen dataclasses are slow to make
    """What an authority was asked, and when."""

    digest: bytes
    hash_name: str
    nonce: int
    at: datetime


class RevocationStatusOf(Protocol):
    """Who knows whether certificates are revoked (`evidence.adapters.revocation_http.HttpRevocation`)."""

    async def status(
        self, certificate: CertificateFacts, issuer: CertificateFacts, at: datetime
    ) -> RevocationAnswer | None:
        """Return an answer fresh at ``at``, None where nobody gives one."""
        ...


def revocation_check(known: RevocationStatusOf, clock: Callable[[], datetime]) -> RevocationCheck:
    """Return a check that refuses revoked chains and takes silence for good, for `HttpTimestamper`.

    Silence is no ground to stop: whoever verifies the evidence later asks again, with data of that day.
    """

    async def check(chain: Chain) -> str | None:
        for certificate, issuer in chain.links:
            answer = await known.status(certificate, issuer, clock())
            if answer is not None and answer.status is RevocationStatus.REVOKED:
                return f"{certificate.subject_text} is revoked"
        return None

    return check


class HttpTimestamper:
    """Asks authorities in order until one gives a good token; an `evidence.ports.Timestamper`.

    An authority that failed is asked last for a while, so that a dead first one does not cost its
    time-out at every stamp.

    Args:
        endpoints: the authorities, the preferred one first; a bare address is one without credentials.
        session: the HTTP client, which keeps connections alive; it stays the caller's.
        exchange: who carries requests instead of the session, at less cost (`KeptConnections`).
        clock: the current time, aware.
        trust: anchors of the authorities; every token is verified up to one of them.
        nonces: gives 64 random bits at each call.
        timeout: for one authority's whole answer, connecting included: drips do not stretch it.
        max_skew: how far genTime may lie outside the time between question and answer; further off, one
            of the two clocks is wrong.
        avoid_for: how long an authority that failed is asked last.
        policy: the TSA policy that requests name and tokens must carry, for endpoints that name none
            themselves; None takes any.
        intermediates: certificates that complete chains of tokens without them, DER.
        spent: told the address and the time of every token that an authority gave, good or bad: each was
            paid for (one that came after the time-out was too, but nobody knows of it). It may not block,
            and its failures are logged, never raised.
        revocation: asked about the chain of a TSA certificate before its first token is used and again
            after ``revocation_for``; None: nobody is asked.
        revocation_for: how long its word about one certificate counts.
    """

    def __init__(
        self,
        endpoints: Sequence[str | TsaEndpoint],
        *,
        session: aiohttp.ClientSession,
        exchange: Exchange | None = None,
        clock: Callable[[], datetime],
        trust: TrustStore,
        nonces: Callable[[], int],
        timeout: timedelta = timedelta(seconds=5),
        max_skew: timedelta = timedelta(seconds=60),
        avoid_for: timedelta = timedelta(seconds=30),
        policy: str | None = None,
        intermediates: Sequence[bytes] = (),
        spent: Callable[[str, datetime], None] | None = None,
        revocation: RevocationCheck | None = None,
        revocation_for: timedelta = timedelta(minutes=5),
    ) -> None:
        given = [TsaEndpoint(one) if isinstance(one, str) else one for one in endpoints]
        self._authorities = tuple(
            _Authority(one, URL(one.url), one.policy or policy, KnownAnswers(trust)) for one in given
        )
        self._exchange = SessionExchange(session) if exchange is None else exchange
        self._clock = clock
        self._trust = trust
        self._nonces = nonces
        self._timeout = timeout.total_seconds()
        self._max_skew = max_skew
        self._avoid_for = avoid_for
        self._intermediates = tuple(intermediates)
        self._spent = spent
        self._revocation = revocation
        self._revocation_for = revocation_for
        self._asked_about: dict[bytes, tuple[datetime, str | None]] = {}
        self._avoid_until: dict[str, datetime] = {}

    async def stamp(self, digest: bytes, hash_name: str = "sha256") -> bytes:
        """Return a verified token, DER ContentInfo, over a digest.

        Args:
            digest: SHA-256 of what is stamped, unless another hash is named.
            hash_name: hashlib's name of its hash (hash-tree renewal takes stronger ones).

        Raises:
            TimestampUnavailableError: no authority gave a usable one; the text says what each did.
            ValueError: the digest is not of the hash's length.
        """
        failures: list[str] = []
        for authority in self._in_order():
            try:
                token = await self._ask(authority, digest, hash_name)
            except TimestampRefusedError as error:
                failure = shown(str(error))
            except TimeoutError:
                failure = f"no answer within {self._timeout:g} s"
            except ExchangeError as error:
                failure = shown(str(error))
            except OSError as error:
                failure = f"{type(error).__name__} {shown(str(error))}"
            else:
                self._avoid_until.pop(authority.name, None)
                return token
            failures.append(f"{authority.name}: {failure}")
            self._avoid_until[authority.name] = self._clock() + self._avoid_for
            _log.warning("stamp.authority_failed", url=authority.name, detail=failure)
        raise TimestampUnavailableError("; ".join(failures) or "no authority is configured")

    def _in_order(self) -> Sequence[_Authority]:
        if not self._avoid_until:
            return self._authorities
        now = self._clock()
        failed = {name for name, until in self._avoid_until.items() if until > now}
        return sorted(self._authorities, key=lambda authority: authority.name in failed)

    async def _ask(self, authority: _Authority, digest: bytes, hash_name: str) -> bytes:
        asked = _Asked(digest, hash_name, self._nonces() & _64_BITS, self._clock())
        body = build_request(digest, asked.nonce, policy=authority.policy, hash_name=hash_name)
        credentials = self._credentials(authority.endpoint, digest)
        answer = await self._exchange.post(authority.url, body, credentials, seconds=self._timeout)
        now = self._clock()
        good = authority.known.token(answer, digest=digest, hash_name=hash_name, nonce=asked.nonce, at=now)
        if good is None:
            good = self._verified(authority, answer, asked, now)
        else:
            self._count(authority, now)
            self._check_time(good.gen_time, asked.at, now)
        if self._revocation is not None:
            await self._check_revocation(self._revocation, good.chain, now)
        return good.der

    def _verified(self, authority: _Authority, answer: bytes, asked: _Asked, now: datetime) -> GoodToken:
        """Return the token of an answer, verified in full; one like it will be known.

        Raises:
            TimestampRefusedError: it is not good.
        """
        token = self._read(authority, answer, asked, now)
        self._check_time(token.info.gen_time, asked.at, now)
        verified = verify_token(
            token,
            imprint=lambda name: asked.digest if name == asked.hash_name else b"",
            trust=self._trust,
            at=max(now, token.info.gen_time),
            candidates=self._intermediates,
        )
        if not verified.passed or verified.chain is None:
            step = verified.report.failing_step
            raise TimestampRefusedError(f"{step.name}: {step.detail}" if step else "not verified")
        authority.known.learn(answer, verified)
        return GoodToken(token.der, token.info.gen_time, verified.chain)

    def _check_time(self, gen_time: datetime, before: datetime, now: datetime) -> None:
        if not before - self._max_skew <= gen_time <= now + self._max_skew:
            raise TimestampRefusedError(f"genTime {gen_time.isoformat()} is far from our clock")

    def _credentials(self, endpoint: TsaEndpoint, digest: bytes) -> Mapping[str, str]:
        if endpoint.user is None:
            return _NOBODY
        bits = (self._nonces() & _64_BITS) << 64 | self._nonces() & _64_BITS
        return endpoint.headers(digest, bits.to_bytes(SALT_OCTETS, "big"))

    def _read(self, authority: _Authority, answer: bytes, asked: _Asked, now: datetime) -> Token:
        """Return the token of an answer, and count it: a bad one costs as much as a good one."""
        try:
            token = check_response(
                answer, digest=asked.digest, nonce=asked.nonce, policy=authority.policy,
                hash_name=asked.hash_name,
            )  # fmt: skip
        except TimestampRefusedError as error:
            if (words := refusal_text(answer)) is not None:
                told = "" if words in str(error) else f" (it says: {words})"
                raise TimestampRefusedError(f"{error}{told}") from error
            if _is_granted(answer):
                self._count(authority, now)
            raise
        self._count(authority, now)
        return token

    def _count(self, authority: _Authority, now: datetime) -> None:
        if self._spent is None:
            return
        try:
            self._spent(authority.name, now)
        except Exception:  # noqa: BLE001 - a count is an aid: whatever breaks in it, the stamp is good
            _log.warning("stamp.count_failed", url=authority.name, exc_info=True)

    # ------------------------------------------------------------------ revocation

    async def _check_revocation(self, check: RevocationCheck, chain: Chain, now: datetime) -> None:
        """Refuse a revoked authority; what was said about one certificate counts for a while.

        Raises:
            TimestampRefusedError: it is revoked.
        """
        certificate = chain.leaf.sha256
        known = self._asked_about.get(certificate)
        if known is None or not timedelta(0) <= now - known[0] < self._revocation_for:
            known = (now, await _word_on(chain, check))
            if len(self._asked_about) >= _CERTIFICATES_KEPT:
                self._asked_about.clear()
            self._asked_about[certificate] = known
        if known[1] is not None:
            raise TimestampRefusedError(f"its certificate: {shown(known[1])}")


async def _word_on(chain: Chain, check: RevocationCheck) -> str | None:
    """Ask about a chain; who is silent too long has said nothing against it."""
    try:
        async with asyncio.timeout(_REVOCATION_SECONDS):
            return await check(chain)
    except TimeoutError:
        _log.warning("stamp.revocation_silent", tsa=chain.leaf.subject_text)
        return None


def _is_granted(answer: bytes) -> bool:
    try:
        parse_response(answer)
    except TimestampRefusedError:
        return False
    return True
