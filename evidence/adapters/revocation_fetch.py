"""Fetches OCSP answers and lists from the addresses that certificates name, within limits.

**Where it goes.** Addresses come only from certificates that chain to a configured root, so a sender cannot
choose them; still, an issuer's mistake must not open the provider's own network. Only http and https (ldap://
is passed over: Turkish issuers name an http address too), no user names in addresses, no redirects, and no
private, loopback or link-local address unless the trust store holds a TEST root (production refuses those).
Behind a proxy the proxy resolves names and is the place for such a rule; literal addresses are checked here.

**What protects the answers** is their signature: http is as good as https, the content type is not looked at,
compressed bodies are not asked for and not unpacked. https is verified as usual; a broken certificate
there is silence. (spec: RFC5280#8, RFC6960#5, signing.md 2.5)
"""

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

import aiohttp
from yarl import URL

from evidence.x509.revocation import RevocationError

_PIECE: Final = 64 * 1024
_REMEMBERED: Final = 256
_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")


class SilentError(RevocationError):
    """The address does not answer: nobody there, too slow, or fallen silent a moment ago."""


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """How long to wait, in seconds.

    ``connect``: for the connection, name resolution included; ``read``: for the first octets, and between two
    pieces; the whole request has its own limit (`RevocationFetcher.fetch`). ``silent_for``: an address that
    did not answer is not asked again that long: many messages must not wait for the same dead responder.
    """

    connect: float = 2.0
    read: float = 4.0
    silent_for: timedelta = timedelta(seconds=2)


DEFAULT_LIMITS: Final = FetchLimits()


class RevocationFetcher:
    """HTTP with limits.

    Args:
        session: shared client session.
        clock: gives the time, aware UTC.
        proxy: through which all requests go; None asks directly.
        private: whether private addresses may be asked.
        limits: times.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        clock: Callable[[], datetime],
        proxy: str | None,
        private: bool,
        limits: FetchLimits,
    ) -> None:
        self._session, self._clock, self._proxy = session, clock, proxy
        self._private, self._limits = private, limits
        self._silent: OrderedDict[str, datetime] = OrderedDict()

    async def fetch(
        self,
        method: str,
        url: str,
        seconds: float,
        cap: int,
        *,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        """Return the body of an answer of status 200.

        Args:
            method: GET or POST.
            url: as the certificate names it.
            seconds: for everything, however slowly the octets drip.
            cap: octets; a longer body is refused by its announced length or when it passes the cap.
            data: body of the request.
            headers: of the request.

        Raises:
            SilentError: nobody answered in time.
            RevocationError: a forbidden address, another status, or too large.
        """
        if self._silent.get(url, self._clock()) > self._clock():
            raise SilentError("did not answer a moment ago")
        try:
            async with asyncio.timeout(seconds):
                await self._check_address(url)
                body = await self._request(method, url, cap, data, headers or {})
        except (aiohttp.ClientConnectionError, TimeoutError, OSError) as error:
            self._silent[url] = self._clock() + self._limits.silent_for
            self._silent.move_to_end(url)
            while len(self._silent) > _REMEMBERED:
                self._silent.popitem(last=False)
            raise SilentError(type(error).__name__) from error
        except (aiohttp.ClientError, ValueError) as error:
            if isinstance(error, RevocationError):
                raise
            raise RevocationError(f"HTTP: {type(error).__name__}") from error
        self._silent.pop(url, None)
        return body

    async def _request(
        self, method: str, url: str, cap: int, data: bytes | None, headers: dict[str, str]
    ) -> bytes:
        limits = aiohttp.ClientTimeout(
            total=None, connect=self._limits.connect, sock_connect=self._limits.connect,
            sock_read=self._limits.read,
        )  # fmt: skip
        async with self._session.request(
            method,
            url,
            data=data,
            headers={"Accept-Encoding": "identity", **headers},
            allow_redirects=False,
            auto_decompress=False,
            proxy=self._proxy,
            timeout=limits,
        ) as response:
            if response.status != 200:
                raise RevocationError(f"HTTP status {response.status}")
            if response.content_length is not None and response.content_length > cap:
                raise RevocationError(f"answer is larger than {cap} octets")
            body = bytearray()
            while piece := await response.content.read(_PIECE):
                body += piece
                if len(body) > cap:
                    raise RevocationError(f"answer is larger than {cap} octets")
            return bytes(body)

    async def _check_address(self, url: str) -> None:
        """Refuse addresses that no issuer of certificates has any business to name."""
        parts = URL(url)
        if parts.scheme not in {"http", "https"} or not parts.host or parts.user or parts.password:
            raise RevocationError("not an address to ask")
        if self._private:
            return
        try:
            addresses = [ip_address(parts.host)]
        except ValueError:
            addresses = [] if self._proxy else await _resolved(parts.host, parts.port or 80)
        if not all(map(_is_public, addresses)):
            raise RevocationError("address is not a public one")


async def _resolved(host: str, port: int) -> list[IPv4Address | IPv6Address]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ip_address(str(address[0]).partition("%")[0]) for *_, address in found]


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    """Say whether an address is on the Internet; IPv6 forms that carry an IPv4 address go by that one."""
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            return _is_public(IPv4Address(address.packed[-4:]))
        if address.ipv4_mapped is not None:
            return _is_public(address.ipv4_mapped)
        if address not in _UNICAST or address.sixtofour is not None or address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast
