"""Time stamps over HTTP from several authorities, checked before anybody uses them.

(spec: RFC3161#3.4, signing.md 4 TSA client)
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

import aiohttp

from evidence.chain import TrustStore
from evidence.ports import TimestampUnavailableError
from evidence.timestamps import (
    MAX_RESPONSE,
    TimestampRefusedError,
    build_request,
    check_response,
    verify_token,
)

_QUERY: Final = "application/timestamp-query"
_REPLY: Final = "application/timestamp-reply"
_HEADERS: Final = {"Content-Type": _QUERY, "Accept": _REPLY, "Accept-Encoding": "identity"}


class HttpTimestamper:
    """Asks authorities in order until one gives a good token; an `evidence.ports.Timestamper`.

    An authority that failed is asked last for a while, so that a dead first one does not cost its
    time-out at every stamp.

    Args:
        endpoints: addresses of authorities, the preferred one first.
        session: the HTTP client, which keeps connections alive; it stays the caller's.
        clock: the current time, aware.
        trust: anchors of the authorities; every token is verified up to one of them.
        nonces: gives 64 random bits at each call.
        timeout: for one authority's answer, connecting included.
        max_skew: how far genTime may lie from our clock; further off, one of the two is wrong.
        avoid_for: how long an authority that failed is asked last.
        policy: the TSA policy that requests name and tokens must carry; None takes any.
        intermediates: certificates that complete chains of tokens without them, DER.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        session: aiohttp.ClientSession,
        clock: Callable[[], datetime],
        trust: TrustStore,
        nonces: Callable[[], int],
        timeout: timedelta = timedelta(seconds=5),
        max_skew: timedelta = timedelta(seconds=60),
        avoid_for: timedelta = timedelta(seconds=30),
        policy: str | None = None,
        intermediates: Sequence[bytes] = (),
    ) -> None:
        self._endpoints = tuple(endpoints)
        self._session = session
        self._clock = clock
        self._trust = trust
        self._nonces = nonces
        self._timeout = timeout
        self._max_skew = max_skew
        self._avoid_for = avoid_for
        self._policy = policy
        self._intermediates = tuple(intermediates)
        self._avoid_until: dict[str, datetime] = {}

    async def stamp(self, digest: bytes) -> bytes:
        """Return a verified token, DER ContentInfo, over a SHA-256 digest.

        Raises:
            TimestampUnavailableError: no authority gave a usable one; the text says what each did.
            ValueError: the digest is not of 32 octets.
        """
        failures: list[str] = []
        for endpoint in self._in_order():
            try:
                token = await self._ask(endpoint, digest)
            except (aiohttp.ClientError, OSError, TimeoutError, TimestampRefusedError) as error:
                failures.append(f"{endpoint}: {type(error).__name__} {error}")
                self._avoid_until[endpoint] = self._clock() + self._avoid_for
            else:
                self._avoid_until.pop(endpoint, None)
                return token
        raise TimestampUnavailableError("; ".join(failures) or "no authority is configured")

    def _in_order(self) -> list[str]:
        if not self._avoid_until:
            return list(self._endpoints)
        now = self._clock()
        failed = {endpoint for endpoint, until in self._avoid_until.items() if until > now}
        return sorted(self._endpoints, key=lambda endpoint: endpoint in failed)

    async def _ask(self, endpoint: str, digest: bytes) -> bytes:
        nonce = self._nonces()
        body = build_request(digest, nonce, policy=self._policy)
        async with asyncio.timeout(self._timeout.total_seconds()):
            answer = await self._post(endpoint, body)
        token = check_response(answer, digest=digest, nonce=nonce, policy=self._policy)
        now = self._clock()
        if abs(token.info.gen_time - now) > self._max_skew:
            raise TimestampRefusedError(f"genTime {token.info.gen_time.isoformat()} is far from our clock")
        verified = verify_token(
            token,
            imprint=digest,
            trust=self._trust,
            at=max(now, token.info.gen_time),
            candidates=self._intermediates,
        )
        if not verified.passed:
            step = verified.report.failing_step
            raise TimestampRefusedError(f"{step.name}: {step.detail}" if step else "not verified")
        return token.der

    async def _post(self, endpoint: str, body: bytes) -> bytes:
        """Post a request and return the answer, at most 64 KiB; redirects are not followed."""
        async with self._session.post(
            endpoint, data=body, headers=_HEADERS, allow_redirects=False
        ) as response:
            if response.status != 200:
                raise TimestampRefusedError(f"HTTP {response.status}")
            if response.content_type != _REPLY:
                raise TimestampRefusedError(f"content type {response.content_type}")
            answer = bytearray()
            async for chunk in response.content.iter_any():
                answer += chunk
                if len(answer) > MAX_RESPONSE:
                    response.close()
                    raise TimestampRefusedError(f"answer larger than {MAX_RESPONSE} octets")
            return bytes(answer)
