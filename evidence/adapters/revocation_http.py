"""Asks issuers over HTTP whether certificates are revoked: OCSP first, CRL as fallback.

Answers are kept per certificate, requests for one certificate are made once at a time. Where requests go and
within which limits stands in `evidence.adapters.revocation_fetch`. (spec: signing.md 2.5)
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import aiohttp
import structlog

from evidence.adapters.revocation_fetch import DEFAULT_LIMITS, FetchLimits, RevocationFetcher
from evidence.asn1.der import oid
from evidence.x509.certificates import CertificateFacts
from evidence.x509.chain import TrustStore
from evidence.x509.crl import CheckedCrl, check_crl
from evidence.x509.revocation import (
    DEFAULT_FRESHNESS,
    MAX_CRL,
    MAX_OCSP,
    FreshnessRules,
    ResponderUnknownError,
    RevocationAnswer,
    RevocationError,
    RevocationStatus,
    check_ocsp,
    is_fresh,
    ocsp_request,
)

TEST_MARKER: Final = "2.25.2867403162085531497"
"""Extension of every TEST certificate; a production start-up refuses roots that carry it."""

_URLS_TRIED: Final = 3
_OCSP_HEADERS: Final = (("Content-Type", "application/ocsp-request"), ("Accept", "application/ocsp-response"))
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HttpRevocationSettings:
    """Limits of the client.

    ``timeout``: seconds for one OCSP request; ``crl_timeout``: for one list; ``question_timeout``: for one
    certificate whatever is tried. ``refresh_after``: a kept good answer is asked again after this long
    although it is still fresh, so that a revocation is seen sooner than at nextUpdate; if nobody answers
    then, the fresh one is used on. ``retry_after``: how long silence about a certificate is remembered.
    ``answers``, ``lists``: how many are kept. ``private_addresses``: whether certificates may name addresses
    of private networks; None: only where the trust store holds a TEST root.
    """

    timeout: float = 5.0
    crl_timeout: float = 20.0
    question_timeout: float = 45.0
    refresh_after: timedelta = timedelta(minutes=5)
    retry_after: timedelta = timedelta(seconds=2)
    answers: int = 50_000
    lists: int = 16
    freshness: FreshnessRules = DEFAULT_FRESHNESS
    fetch: FetchLimits = DEFAULT_LIMITS
    private_addresses: bool | None = None


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: RevocationAnswer | None
    asked_at: datetime


@dataclass(slots=True)
class _List:
    """The last good list of one address; the lock lets one caller fetch while others wait.

    ``failed``: when the last attempt failed, for which issuer: the callers behind do not all try again.
    """

    lock: asyncio.Lock
    crl: CheckedCrl | None = None
    fetched_at: datetime | None = None
    failed: tuple[datetime, bytes] | None = None


class HttpRevocation:
    """The `Revocation` port over HTTP.

    Args:
        session: shared client session; closing it is the owner's business.
        clock: gives the time, aware UTC.
        trust: roots and algorithm table for responders and lists.
        nonces: gives 16 to 32 random octets each time; None asks without nonce.
        settings: limits.
        proxy: ``http://[user:password@]host:port`` through which all requests go; None asks directly.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        clock: Callable[[], datetime],
        trust: TrustStore,
        nonces: Callable[[], bytes] | None,
        settings: HttpRevocationSettings | None = None,
        proxy: str | None = None,
    ) -> None:
        self._clock, self._trust, self._nonces = clock, trust, nonces
        self._settings = settings or HttpRevocationSettings()
        private = self._settings.private_addresses
        if private is None:
            private = any(oid(TEST_MARKER) in root.der for root in trust.roots)
        self._fetcher = RevocationFetcher(
            session, clock=clock, proxy=proxy, private=private, limits=self._settings.fetch
        )
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._lists: OrderedDict[str, _List] = OrderedDict()
        self._flights: dict[bytes, asyncio.Future[bool]] = {}

    async def status(
        self, certificate: CertificateFacts, issuer: CertificateFacts, at: datetime
    ) -> RevocationAnswer | None:
        """Return an answer fresh at ``at``; None where neither OCSP nor CRL gives one.

        Network failures never raise; they are logged and mean None.

        Args:
            certificate: of a path to a configured root: its addresses are asked.
            issuer: the next certificate of that path.
            at: the present. Issuers are not asked about the past (`evidence.x509.offline` judges it).
        """
        key = certificate.sha256
        while True:
            if (kept := self._usable(key, at)) is not None:
                return kept.answer
            flight = self._flights.get(key)
            if flight is None:
                return await self._lead(certificate, issuer, at)
            if await asyncio.shield(flight):  # the leader was not cancelled: its outcome holds for all
                last = self._kept.get(key)
                return self._fresh(last.answer, at) if last is not None else None

    async def _lead(
        self, certificate: CertificateFacts, issuer: CertificateFacts, at: datetime
    ) -> RevocationAnswer | None:
        """Ask the network for everybody who waits for this certificate."""
        key = certificate.sha256
        flight: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._flights[key] = flight
        done = False
        try:
            answer = await self._ask(certificate, issuer, at)
            earlier = self._kept.get(key)
            if earlier is not None and earlier.answer is not None:
                answer = self._better(earlier.answer, answer, at)
            self._kept[key] = _Kept(answer, self._clock())
            self._kept.move_to_end(key)
            while len(self._kept) > self._settings.answers:
                self._kept.popitem(last=False)
            done = True
            return answer
        finally:
            del self._flights[key]
            flight.set_result(done)

    def _better(
        self, earlier: RevocationAnswer, answer: RevocationAnswer | None, at: datetime
    ) -> RevocationAnswer | None:
        """Return the answer to keep: silence or an older "good" does not take a fresh newer one away.

        Responses may be prepared ahead, and replayed by whoever sits in between: the last word counts.
        """
        if self._fresh(earlier, at) is None:
            return answer
        if answer is None:
            return earlier
        replayed = answer.this_update < earlier.this_update
        return earlier if replayed and answer.status is not RevocationStatus.REVOKED else answer

    def _usable(self, key: bytes, at: datetime) -> _Kept | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        age = self._clock() - kept.asked_at
        if kept.answer is None or kept.answer.status is RevocationStatus.UNKNOWN:
            return kept if age < self._settings.retry_after else None
        if self._fresh(kept.answer, at) is None:
            return None
        settled = kept.answer.status is RevocationStatus.REVOKED and not kept.answer.on_hold
        return kept if settled or age < self._settings.refresh_after else None

    def _fresh(self, answer: RevocationAnswer | None, at: datetime) -> RevocationAnswer | None:
        return answer if answer is not None and is_fresh(answer, at, self._settings.freshness) else None

    async def _ask(
        self, certificate: CertificateFacts, issuer: CertificateFacts, at: datetime
    ) -> RevocationAnswer | None:
        try:
            async with asyncio.timeout(self._settings.question_timeout):
                for url in _web(certificate.extensions.ocsp_urls):
                    answer = await self._ocsp(url, certificate, issuer, at)
                    if answer is not None:  # also "unknown": a list that is silent about it is not better
                        return answer
                return await self._by_lists(certificate, issuer, at)
        except TimeoutError:
            _log.warning("revocation.timed_out", seconds=self._settings.question_timeout)
            return None

    async def _ocsp(
        self, url: str, certificate: CertificateFacts, issuer: CertificateFacts, at: datetime
    ) -> RevocationAnswer | None:
        nonce = self._nonces() if self._nonces is not None else None
        request = ocsp_request(certificate, issuer, nonce=nonce)
        check = partial(
            check_ocsp, certificate=certificate, issuer=issuer, at=at, trust=self._trust, nonce=nonce,
            rules=self._settings.freshness,
        )  # fmt: skip
        try:
            body = await self._fetcher.fetch(
                "POST", url, self._settings.timeout, MAX_OCSP, data=request, headers=dict(_OCSP_HEADERS)
            )
            try:
                return check(body)
            except ResponderUnknownError as unknown:
                # Its own OCSP would be signed by itself: only the issuer's list can vouch for a responder.
                responder = unknown.responder
                told = await self._by_lists(responder, issuer, at)
                if told is None or told.status is not RevocationStatus.GOOD:
                    raise
                return check(body, responder_good=responder.__eq__)
        except RevocationError as error:
            _log.warning("revocation.ocsp_failed", url=url, detail=str(error)[:200])
            return None

    async def _by_lists(
        self, certificate: CertificateFacts, issuer: CertificateFacts, at: datetime
    ) -> RevocationAnswer | None:
        for url in _web(certificate.extensions.crl_urls):
            try:
                crl = await self._list(url, issuer, at)
                # A list may have a million entries: searching must not hold up the event loop.
                return await asyncio.to_thread(crl.answer, certificate, at, self._settings.freshness)
            except RevocationError as error:
                _log.warning("revocation.crl_failed", url=url, detail=str(error)[:200])
        return None

    async def _list(self, url: str, issuer: CertificateFacts, at: datetime) -> CheckedCrl:
        """Return the list of an address, fetched again after a while; a failed fetch leaves the fresh one.

        Raises:
            RevocationError: no list, or only one that is older than one seen before (spec: RFC5280#5.2.3).
        """
        held = self._lists.setdefault(url, _List(asyncio.Lock()))
        self._lists.move_to_end(url)
        while len(self._lists) > self._settings.lists:
            self._lists.popitem(last=False)
        async with held.lock:
            last = held.crl if held.crl is not None and held.crl.issuer == issuer else None
            usable = last is not None and last.next_update > at
            age = self._clock() - held.fetched_at if held.fetched_at is not None else None
            if last is not None and usable and age is not None and age < self._settings.refresh_after:
                return last
            try:
                self._check_failed(held, issuer)
                body = await self._fetcher.fetch("GET", url, self._settings.crl_timeout, MAX_CRL)
                crl = await asyncio.to_thread(check_crl, body, issuer, at=at, trust=self._trust)
                _check_order(crl, last, usable=usable)
            except RevocationError as error:
                held.failed = held.failed or (self._clock(), issuer.sha256)
                if last is not None and usable:
                    _log.warning("revocation.list_kept", url=url, detail=str(error)[:200])
                    return last
                raise
            self._forget(last)
            held.crl, held.fetched_at = crl, self._clock()
            return crl

    def _check_failed(self, held: _List, issuer: CertificateFacts) -> None:
        """Refuse to fetch again what failed a moment ago."""
        if held.failed is None:
            return
        at, sha256 = held.failed
        if sha256 == issuer.sha256 and self._clock() - at < self._settings.retry_after:
            raise RevocationError("list failed a moment ago")
        held.failed = None

    def _forget(self, crl: CheckedCrl | None) -> None:
        """Drop the answers from a list that has a successor: each would keep 20 MiB alive."""
        if crl is None:
            return
        for key in [key for key, kept in self._kept.items() if kept.answer and kept.answer.der is crl.der]:
            del self._kept[key]


def _check_order(crl: CheckedCrl, last: CheckedCrl | None, *, usable: bool) -> None:
    """Refuse a list that came before one already seen: somebody replays it (spec: RFC5280#5.2.3).

    Once the last list has ended, an issuer that begins to count anew is believed by the date.
    """
    if last is None:
        return
    if crl.older_than(last) if usable else crl.this_update < last.this_update:
        raise RevocationError("list is older than one seen before")


def _web(urls: tuple[str, ...]) -> tuple[str, ...]:
    """Return the first addresses that are asked: http and https, as the certificate lists them."""
    return tuple(url for url in urls if url.lower().startswith(("http://", "https://")))[:_URLS_TRIED]
