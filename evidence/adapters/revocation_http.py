"""Asks issuers over HTTP whether certificates are revoked: OCSP first, CRL as fallback.

Answers are kept per certificate, requests for one certificate are made once at a time. Addresses come from
certificates that already chain to a configured root; redirects are not followed. (spec: signing.md 2.5)
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import aiohttp
import structlog

from evidence.x509.certificates import CertificateFacts
from evidence.x509.chain import TrustStore
from evidence.x509.crl import CheckedCrl, check_crl
from evidence.x509.revocation import (
    DEFAULT_FRESHNESS,
    MAX_CRL,
    MAX_OCSP,
    FreshnessRules,
    RevocationAnswer,
    RevocationError,
    RevocationStatus,
    check_ocsp,
    is_fresh,
    ocsp_request,
)

_URLS_TRIED: Final = 3
_PIECE: Final = 64 * 1024
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HttpRevocationSettings:
    """Limits of the client.

    ``timeout``: seconds for one OCSP request; ``crl_timeout``: for one list. ``refresh_after``: a kept good
    answer is asked again after this long although it is still fresh, so that a revocation is seen sooner
    than at nextUpdate; if nobody answers then, the fresh one is used on. ``retry_after``: how long silence
    is remembered. ``answers``, ``lists``: how many are kept.
    """

    timeout: float = 5.0
    crl_timeout: float = 20.0
    refresh_after: timedelta = timedelta(minutes=5)
    retry_after: timedelta = timedelta(seconds=2)
    answers: int = 50_000
    lists: int = 16
    freshness: FreshnessRules = DEFAULT_FRESHNESS


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: RevocationAnswer | None
    asked_at: datetime


@dataclass(slots=True)
class _List:
    """The last good list of one address; the lock lets one caller fetch while others wait."""

    lock: asyncio.Lock
    crl: CheckedCrl | None = None
    fetched_at: datetime | None = None


class HttpRevocation:
    """The `Revocation` port over HTTP.

    Args:
        session: shared client session; closing it is the owner's business.
        clock: gives the time, aware UTC.
        trust: roots and algorithm table for responders and lists.
        nonces: gives 16 to 32 random octets each time; None asks without nonce.
        settings: limits.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        clock: Callable[[], datetime],
        trust: TrustStore,
        nonces: Callable[[], bytes] | None,
        settings: HttpRevocationSettings | None = None,
    ) -> None:
        self._session, self._clock, self._trust, self._nonces = session, clock, trust, nonces
        self._settings = settings or HttpRevocationSettings()
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._lists: OrderedDict[str, _List] = OrderedDict()
        self._flights: dict[bytes, asyncio.Future[bool]] = {}

    async def status(
        self, certificate: CertificateFacts, issuer: CertificateFacts, at: datetime
    ) -> RevocationAnswer | None:
        """Return an answer fresh at ``at``; None where neither OCSP nor CRL gives one.

        Network failures never raise; they are logged and mean None.
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
            if answer is None and earlier is not None:
                answer = self._fresh(earlier.answer, at)  # silence does not take a fresh answer away
            self._kept[key] = _Kept(answer, self._clock())
            self._kept.move_to_end(key)
            while len(self._kept) > self._settings.answers:
                self._kept.popitem(last=False)
            done = True
            return answer
        finally:
            del self._flights[key]
            flight.set_result(done)

    def _usable(self, key: bytes, at: datetime) -> _Kept | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        age = self._clock() - kept.asked_at
        if kept.answer is None or kept.answer.status is RevocationStatus.UNKNOWN:
            return kept if age < self._settings.retry_after else None
        if self._fresh(kept.answer, at) is None:
            return None
        settled = kept.answer.status is RevocationStatus.REVOKED
        return kept if settled or age < self._settings.refresh_after else None

    def _fresh(self, answer: RevocationAnswer | None, at: datetime) -> RevocationAnswer | None:
        return answer if answer is not None and is_fresh(answer, at, self._settings.freshness) else None

    async def _ask(
        self, certificate: CertificateFacts, issuer: CertificateFacts, at: datetime
    ) -> RevocationAnswer | None:
        for url in _web(certificate.extensions.ocsp_urls):
            answer = await self._ocsp(url, certificate, issuer, at)
            if answer is not None:  # also "unknown": a list that is silent about it would not be better
                return answer
        for url in _web(certificate.extensions.crl_urls):
            answer = await self._crl(url, certificate, issuer, at)
            if answer is not None:
                return answer
        return None

    async def _ocsp(
        self, url: str, certificate: CertificateFacts, issuer: CertificateFacts, at: datetime
    ) -> RevocationAnswer | None:
        nonce = self._nonces() if self._nonces is not None else None
        request = ocsp_request(certificate, issuer, nonce=nonce)
        headers = {"Content-Type": "application/ocsp-request", "Accept": "application/ocsp-response"}
        try:
            body = await self._fetch(
                "POST", url, self._settings.timeout, MAX_OCSP, data=request, headers=headers
            )
            return check_ocsp(
                body,
                certificate,
                issuer,
                at=at,
                trust=self._trust,
                nonce=nonce,
                rules=self._settings.freshness,
            )
        except (RevocationError, aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            _log.warning(
                "revocation.ocsp_failed", url=url, error=type(error).__name__, detail=str(error)[:200]
            )
            return None

    async def _crl(
        self, url: str, certificate: CertificateFacts, issuer: CertificateFacts, at: datetime
    ) -> RevocationAnswer | None:
        try:
            crl = await self._list(url, issuer, at)
            # A list may have a million entries: searching must not hold up the event loop.
            return await asyncio.to_thread(crl.answer, certificate, at, self._settings.freshness)
        except (RevocationError, aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            _log.warning(
                "revocation.crl_failed", url=url, error=type(error).__name__, detail=str(error)[:200]
            )
            return None

    async def _list(self, url: str, issuer: CertificateFacts, at: datetime) -> CheckedCrl:
        """Return the list of an address, fetched again after a while; a failed fetch leaves the fresh one."""
        held = self._lists.setdefault(url, _List(asyncio.Lock()))
        self._lists.move_to_end(url)
        while len(self._lists) > self._settings.lists:
            self._lists.popitem(last=False)
        async with held.lock:
            usable = held.crl is not None and held.crl.issuer == issuer and held.crl.next_update > at
            age = self._clock() - held.fetched_at if held.fetched_at is not None else None
            if held.crl is not None and usable and age is not None and age < self._settings.refresh_after:
                return held.crl
            try:
                body = await self._fetch("GET", url, self._settings.crl_timeout, MAX_CRL)
                crl = await asyncio.to_thread(check_crl, body, issuer, at=at, trust=self._trust)
            except (RevocationError, aiohttp.ClientError, TimeoutError, OSError, ValueError):
                if held.crl is not None and usable:
                    return held.crl
                raise
            held.crl, held.fetched_at = crl, self._clock()
            return crl

    async def _fetch(
        self,
        method: str,
        url: str,
        seconds: float,
        cap: int,
        *,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        async with (
            asyncio.timeout(seconds),
            self._session.request(method, url, data=data, headers=headers, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise RevocationError(f"HTTP status {response.status}")
            body = bytearray()
            while piece := await response.content.read(_PIECE):
                body += piece
                if len(body) > cap:
                    raise RevocationError(f"answer is larger than {cap} octets")
            return bytes(body)


def _web(urls: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(url for url in urls if url.lower().startswith(("http://", "https://")))[:_URLS_TRIED]
