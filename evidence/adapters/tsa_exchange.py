"""How a request reaches a time-stamping authority and its answer comes back: what HTTP clients keep to.

Answers are short and refused by their head where that suffices: another status than 200, a content encoding
(none was asked for, and bombs are cheap), another media type, more than 64 KiB. Redirects are not followed.
(spec: RFC3161#3.4)

`SessionExchange` is the general client, which knows proxies; `evidence.adapters.kept_connections` does the
same at a fraction of the cost where authorities are reached directly.
"""

import asyncio
import errno
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol

import aiohttp
from yarl import URL

from evidence.adapters.tsa_identity import refusal_text, shown
from evidence.stamps.messages import MAX_RESPONSE, TimestampRefusedError

REQUEST_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Content-Type": "application/timestamp-query",
        "Accept": "application/timestamp-reply",
        "Accept-Encoding": "identity",
        "User-Agent": "kephs",
    }
)
TOO_LARGE: Final = f"answer larger than {MAX_RESPONSE} octets"
_UNNAMED: Final = "application/octet-stream"
_REPLIES: Final = frozenset({"application/timestamp-reply", "application/timestamp-response", _UNNAMED})
"""The registered type, one that some servers use instead, and "bytes" (also where no type is named)."""
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)


class ExchangeError(Exception):
    """No answer came: the connection could not be made, ended too early, or spoke no HTTP."""


class Exchange(Protocol):
    """Carries requests to authorities."""

    async def post(
        self, url: URL, body: bytes, credentials: Mapping[str, str], *, seconds: float | None = None
    ) -> bytes:
        """Post a request and return the answer.

        A server may close a kept connection in the moment we use it. Asking again then is right: at worst
        a token is paid for that nobody sees.

        Args:
            url: the authority's address, http or https.
            body: the request, DER.
            credentials: headers that say who asks, beside `REQUEST_HEADERS`.
            seconds: for the whole of it, connecting and asking again included; None: whoever calls limits it.

        Raises:
            TimeoutError: it took longer.
            TimestampRefusedError: what came is no answer of a time-stamping authority.
            ExchangeError: nothing usable came.
            OSError: likewise.
        """
        ...


class SessionExchange:
    """Exchanges through an aiohttp session, which stays the caller's."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def post(
        self, url: URL, body: bytes, credentials: Mapping[str, str], *, seconds: float | None = None
    ) -> bytes:
        """Post a request and return the answer; see `Exchange.post`."""
        headers = {**REQUEST_HEADERS, **credentials}
        try:
            async with asyncio.timeout(seconds):
                try:
                    return await self._post_once(url, body, headers)
                except (aiohttp.ClientError, OSError) as error:
                    if not _was_cut(error):
                        raise
                return await self._post_once(url, body, headers)
        except aiohttp.ClientError as error:
            raise ExchangeError(f"{type(error).__name__} {error}") from error

    async def _post_once(self, url: URL, body: bytes, headers: Mapping[str, str]) -> bytes:
        async with self._session.post(
            url, data=body, headers=headers, allow_redirects=False, timeout=_NO_TIMEOUT
        ) as response:
            check_head(response.status, response.headers.get("Content-Encoding"))
            answer = await _limited(response)
            check_type(response.headers.get("Content-Type"), answer)
            return answer


def check_head(status: int, encoding: str | None) -> None:
    """Look at the head of an answer before its body is read.

    Args:
        status: the status code.
        encoding: the value of Content-Encoding, None where there is none.

    Raises:
        TimestampRefusedError: no body is worth reading.
    """
    if status != 200:
        moved = " (redirects are not followed)" if 300 <= status < 400 else ""
        raise TimestampRefusedError(f"HTTP {status}{moved}")
    if encoding is not None and encoding.strip().lower() != "identity":
        raise TimestampRefusedError(f"content encoding {shown(encoding)}")


def check_type(value: str | None, answer: bytes) -> None:
    """Look at the media type of an answer.

    Args:
        value: the value of Content-Type, None where there is none.
        answer: the body; where it is something else its words are told.

    Raises:
        TimestampRefusedError: it is none of a time stamp.
    """
    kind = _UNNAMED if value is None else value.partition(";")[0].strip().lower()
    if kind not in _REPLIES:
        words = refusal_text(answer) or "a token, under a wrong name"
        raise TimestampRefusedError(f"content type {shown(kind)} (it says: {words})")


def _was_cut(error: Exception) -> bool:
    """Say whether an open connection ended before an answer began; failing to connect is another matter."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return False
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionError):
        return True
    return isinstance(error, OSError) and error.errno in {errno.ECONNRESET, errno.EPIPE}


async def _limited(response: aiohttp.ClientResponse) -> bytes:
    """Return a body, at most 64 KiB of it.

    Raises:
        TimestampRefusedError: it is larger; the connection is given up.
    """
    parts: list[bytes] = []
    size = 0
    while piece := await response.content.readany():
        parts.append(piece)
        size += len(piece)
        if size > MAX_RESPONSE:
            response.close()
            raise TimestampRefusedError(TOO_LARGE)
    return b"".join(parts)
