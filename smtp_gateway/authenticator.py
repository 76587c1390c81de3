"""SMTP AUTH: reading PLAIN and LOGIN answers, and a brake on guessing per address and per network."""

import asyncio
import binascii
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Protocol

from kephs.domain.messages import Person
from kephs.ports import StoreUnavailableError

RESPONSE_MAX: Final = 2048  # base64 characters; addresses and app passwords are far shorter


class SaslError(ValueError):
    """The client's answer is not what the mechanism asks for."""


class ThrottledError(Exception):
    """Too many failures lately; credentials were not looked at."""


class CredentialsUnavailableError(Exception):
    """Credentials cannot be checked now."""


class Credentials(Protocol):
    """Who knows passwords (`kephs.usecases.people.sign_in.SignIn`). It compares in constant time."""

    async def sign_in(self, address: str, password: str) -> Person | None:
        """Return the person, or None after the time that a wrong password takes."""
        ...


def decode_response(response: bytes) -> str:
    """Return one base64 answer as text.

    Raises:
        SaslError: not base64, too long or not UTF-8.
    """
    if len(response) > RESPONSE_MAX:
        raise SaslError("too long")
    try:
        return b64decode(b"" if response == b"=" else response, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise SaslError("not base64 of UTF-8") from error


def split_plain(text: str) -> tuple[str, str]:
    """Return address and password of a PLAIN answer.

    Raises:
        SaslError: malformed, or it asks to act as somebody else.
    """
    # spec: RFC4616#2
    acting_as, first, rest = text.partition("\0")
    address, second, password = rest.partition("\0")
    if not first or not second or not address or not password or "\0" in password:
        raise SaslError("not a PLAIN answer")
    if acting_as not in {"", address}:
        raise SaslError("acting for another account")
    return address, password


@dataclass(frozen=True, slots=True)
class ThrottleSettings:
    """How guessing is braked. Times in seconds, counts are failures within ``window``."""

    window: float = 900.0
    delay: float = 0.5  # after the first failure, doubling
    max_delay: float = 8.0
    per_network: int = 30
    per_address: int = 100
    table_size: int = 10_000


@dataclass(slots=True)
class _Failures:
    count: int
    until: float


class Throttle:
    """Counts failures in tables of fixed size; the least recently failed entries are forgotten first.

    Someone who signed in from a network is not locked out there by others who guess at the address.
    """

    def __init__(self, settings: ThrottleSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        self._good: OrderedDict[tuple[str, str], None] = OrderedDict()

    def blocked(self, address: str, network: str) -> bool:
        """Say whether to refuse without looking."""
        address = _key(address)
        if (address, network) in self._good:
            return self._count(f"{address} {network}") >= self._settings.per_network
        if self._count(network) >= self._settings.per_network:
            return True
        return self._count(address) >= self._settings.per_address

    def failed(self, address: str, network: str) -> float:
        """Note a failure and return how many seconds to wait before saying so."""
        address = _key(address)
        keys = [network, address]
        if (address, network) in self._good:
            keys.append(f"{address} {network}")
        count = max(self._add(key) for key in keys)
        doubled = self._settings.delay * float(2 ** min(count - 1, 16))
        return min(doubled, self._settings.max_delay)

    def succeeded(self, address: str, network: str) -> None:
        """Note a success. It clears no counter: one's own account must not help to guess at others."""
        known = (_key(address), network)
        self._good[known] = None
        self._good.move_to_end(known)
        if len(self._good) > self._settings.table_size:
            self._good.popitem(last=False)

    def _count(self, key: str) -> int:
        found = self._failures.get(key)
        if found is None:
            return 0
        if found.until <= self._clock():
            del self._failures[key]
            return 0
        return found.count

    def _add(self, key: str) -> int:
        count = self._count(key) + 1
        self._failures[key] = _Failures(count, self._clock() + self._settings.window)
        self._failures.move_to_end(key)
        if len(self._failures) > self._settings.table_size:
            self._failures.popitem(last=False)
        return count


def _key(address: str) -> str:
    return "@" + address.strip().lower()[:320]  # the mark keeps it apart from networks


def network_of(peer: str) -> str:
    """Return what failures are counted by: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        address = ip_address(peer)
    except ValueError:
        return peer
    if address.version == 4:
        return str(address)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped) if mapped else str(address.exploded)[:19]


class Authenticator:
    """Checks credentials for one edge; shared by its connections."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        clock: Callable[[], float],
        settings: ThrottleSettings | None = None,
    ) -> None:
        self._credentials = credentials
        self._throttle = Throttle(settings or ThrottleSettings(), clock)

    async def check(self, address: str, password: str, peer: str) -> Person | None:
        """Return who signed in, or None after a delay that grows with the failures.

        Args:
            address: the KEP address as the client wrote it.
            password: the app password.
            peer: the client's IP address.

        Raises:
            ThrottledError: too many failures lately.
            CredentialsUnavailableError: the store does not answer.
        """
        network = network_of(peer)
        if self._throttle.blocked(address, network):
            raise ThrottledError
        try:
            person = await self._credentials.sign_in(address, password)
        except StoreUnavailableError as error:
            raise CredentialsUnavailableError from error
        if person is not None:
            self._throttle.succeeded(address, network)
            return person
        await asyncio.sleep(self._throttle.failed(address, network))
        return None
