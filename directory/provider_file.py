"""The provider register as a file: strict reading of its JSON into peers. Its signature is checked before.

Unknown and repeated keys, other types than the ones described and anything out of range are refused; the
error names the place, such as ``providers[2].smtp.port``. (spec: rem-formats §5 and §9, R-09)
"""

import ipaddress
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final

from directory.addresses import ADDRESS_MAX, DEFAULT_SUFFIX, LOCAL_PART_MAX, AddressError, KepAddress
from directory.providers import Peer, Profile, ProviderRegister, SealingCertificate, Stamps

FORMAT_VERSION: Final = 1
MAX_FILE: Final = 1 << 20  # octets
MAX_PROVIDERS: Final = 100  # hs00 to hs99
MAX_CERTIFICATES: Final = 256  # per provider and list; retired ones stay listed for ever
MAX_SEQUENCE: Final = (1 << 53) - 1  # what every JSON reader keeps exactly
MAX_MESSAGE_MIB: Final = 1024
MIB: Final = 1 << 20

_INSTANT: Final = timedelta(microseconds=1)
_NAME_MAX: Final = 200
_CERTIFICATE_MAX: Final = 64 * 1024
_PORT_MAX: Final = 65_535
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z", re.ASCII)
_HEX: Final = re.compile(r"[0-9a-f]{64}\Z", re.ASCII)
# Service addresses may hold a hyphen, so that no holder's address can be one (KEP-AD-03).
_SERVICE_LOCAL: Final = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*\Z", re.ASCII)
_HOST_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z", re.ASCII)
_HOST_MAX: Final = 253  # 255 octets on the wire (RFC 1035 2.3.4)

_TOP: Final = frozenset({"version", "sequence", "issued_at", "next_update", "providers"})
_PROVIDER: Final = frozenset({
    "domain", "name", "service_address", "smtp", "tls_certificates", "transaction_certificates",
    "max_message_mib", "profile", "since", "until",
})  # fmt: skip
_PROVIDER_MAY: Final = frozenset({"stamps"})
_PERIOD: Final = frozenset({"valid_from", "valid_until"})


class ProviderFileError(ValueError):
    """The file says something it must not; the text names the place."""


class RegisterSignatureError(Exception):
    """The register's signature is missing, broken, or not by a pinned signer; the text says which."""


@dataclass(frozen=True, slots=True)
class TlsPin:
    """SHA-256 of a DER certificate that a peer's SMTP server may show in a period, both ends included."""

    sha256: bytes
    valid_from: datetime
    valid_until: datetime

    def valid_at(self, at: datetime) -> bool:
        """Say whether the server may show it at a time."""
        return self.valid_from <= at <= self.valid_until


@dataclass(frozen=True, slots=True)
class ProviderEntry:
    """What the register says of one provider. ``until`` is the first moment it is none any more."""

    domain: str
    name: str
    service_address: str
    host: str
    port: int
    tls: tuple[TlsPin, ...]
    certificates: tuple[SealingCertificate, ...]
    max_message: int  # bytes of decoded content
    profile: Profile
    since: datetime
    until: datetime | None
    stamps: Stamps = Stamps.PER_EVIDENCE

    def listed_at(self, at: datetime) -> bool:
        """Say whether it was a provider at a time."""
        return self.since <= at and (self.until is None or at < self.until)

    def peer_at(self, at: datetime) -> Peer:
        """Return it as a peer with the TLS pins of a time."""
        return Peer(
            domain=self.domain,
            name=self.name,
            service_address=self.service_address,
            host=self.host,
            port=self.port,
            tls_pins=frozenset(pin.sha256 for pin in self.tls if pin.valid_at(at)),
            certificates=self.certificates,
            max_message=self.max_message,
            profile=self.profile,
            stamps=self.stamps,
        )


@dataclass(frozen=True, slots=True)
class ProviderFile:
    """One issue of the register. From ``next_update`` on it is stale."""

    sequence: int
    issued_at: datetime
    next_update: datetime
    entries: tuple[ProviderEntry, ...]

    def entry(self, domain: str) -> ProviderEntry | None:
        """Return what is said of a domain, whatever the dates."""
        return next((entry for entry in self.entries if entry.domain == domain), None)

    def stale_at(self, at: datetime) -> bool:
        """Say whether a newer issue should have come by then (NextUpdate has passed)."""
        return at >= self.next_update

    def register_at(self, at: datetime, *, own: str, suffix: str = DEFAULT_SUFFIX) -> ProviderRegister:
        """Return the peers of a time; our own entry is no peer and is left out."""
        peers = {
            entry.domain: entry.peer_at(at)
            for entry in self.entries
            if entry.domain != own and entry.listed_at(at)
        }
        return ProviderRegister(own, suffix, MappingProxyType(peers))

    def next_change(self, at: datetime) -> datetime | None:
        """Return the first moment after ``at`` when `register_at` or `stale_at` may say something else."""
        moments = [self.next_update]
        for entry in self.entries:
            moments += [entry.since, *([] if entry.until is None else [entry.until])]
            moments += [pin.valid_from for pin in entry.tls]
            moments += [pin.valid_until + _INSTANT for pin in entry.tls]  # it is valid at its end still
        return min((moment for moment in moments if moment > at), default=None)


def parse_provider_file(data: bytes, *, suffix: str = DEFAULT_SUFFIX) -> ProviderFile:
    """Read the register's JSON.

    Args:
        data: the exact bytes that are signed; UTF-8, at most 1 MiB.
        suffix: the ending all KEP domains share.

    Raises:
        ProviderFileError: it is not what the format says.
    """
    top = _Fields(_json(data), "", required=_TOP)
    if top.integer("version", 1, MAX_SEQUENCE) != FORMAT_VERSION:
        raise ProviderFileError(f"version: only format {FORMAT_VERSION} is read")
    issued_at, next_update = top.time("issued_at"), top.time("next_update")
    if next_update <= issued_at:
        raise ProviderFileError("next_update: is not after issued_at")
    entries = tuple(
        _entry(value, place, suffix) for value, place in top.array("providers", MAX_PROVIDERS, least=0)
    )
    _refuse_sharing(entries)
    return ProviderFile(top.integer("sequence", 1, MAX_SEQUENCE), issued_at, next_update, entries)


def _refuse_sharing(entries: Iterable[ProviderEntry]) -> None:
    """Refuse a domain listed twice, and a sealing certificate that would speak for two providers."""
    domains: set[str] = set()
    owners: dict[bytes, str] = {}
    for index, entry in enumerate(entries):
        if entry.domain in domains:
            raise ProviderFileError(f"providers[{index}].domain: {entry.domain} is listed twice")
        domains.add(entry.domain)
        for certificate in entry.certificates:
            owner = owners.setdefault(certificate.sha256, entry.domain)
            if owner != entry.domain:
                raise ProviderFileError(
                    f"providers[{index}].transaction_certificates: "
                    f"{owner} and {entry.domain} share one transaction certificate"
                )


def _entry(value: object, place: str, suffix: str) -> ProviderEntry:
    fields = _Fields(value, place, required=_PROVIDER, optional=_PROVIDER_MAY)
    domain = _domain(fields, suffix)
    smtp = _Fields(fields.value("smtp"), f"{place}.smtp", required=frozenset({"host", "port"}))
    pins = tuple(_pin(*one) for one in fields.array("tls_certificates", MAX_CERTIFICATES))
    listed = fields.array("transaction_certificates", MAX_CERTIFICATES)
    certificates = tuple(_sealing(*one) for one in listed)
    for name, digests in (
        ("tls_certificates", [pin.sha256 for pin in pins]),
        ("transaction_certificates", [one.sha256 for one in certificates]),
    ):
        if len(set(digests)) != len(digests):
            raise ProviderFileError(f"{place}.{name}: a certificate is listed twice")
    since = fields.time("since")
    until = None if fields.value("until") is None else fields.time("until")
    if until is not None and until <= since:
        raise ProviderFileError(f"{place}.until: is not after since")
    return ProviderEntry(
        domain=domain,
        name=fields.text("name", _NAME_MAX),
        service_address=_service_address(fields, domain),
        host=_host(smtp),
        port=smtp.integer("port", 1, _PORT_MAX),
        tls=pins,
        certificates=certificates,
        max_message=fields.integer("max_message_mib", 1, MAX_MESSAGE_MIB) * MIB,
        profile=_profile(fields),
        since=since,
        until=until,
        stamps=_stamps(fields),
    )


def _domain(fields: "_Fields", suffix: str) -> str:
    domain = fields.text("domain", ADDRESS_MAX)
    try:
        provider = KepAddress.parse(f"a@{domain}", suffix=suffix).provider
    except AddressError:
        provider = None
    if provider != domain:  # a subdomain, other case, or no KEP domain at all (KEP-AD-01)
        raise fields.error("domain", f"no provider's KEP domain such as hs91.{suffix}")
    return domain


def _service_address(fields: "_Fields", domain: str) -> str:
    address = fields.text("service_address", ADDRESS_MAX)
    local, _, place = address.rpartition("@")
    if place != domain or len(local) > LOCAL_PART_MAX or not _SERVICE_LOCAL.match(local):
        raise fields.error("service_address", f"no address such as kep-hizmet@{domain}")
    return address


def _host(fields: "_Fields") -> str:
    host = fields.text("host", _HOST_MAX)
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        labels = host.split(".")
        if not all(map(_HOST_LABEL.match, labels)) or labels[-1].isdigit():
            raise fields.error("host", "no host name in lower case, and no IP address") from None
    return host


def _profile(fields: "_Fields") -> Profile:
    try:
        return Profile(fields.text("profile", _NAME_MAX))
    except ValueError:
        known = ", ".join(profile.value for profile in Profile)
        raise fields.error("profile", f"unknown; known are {known}") from None


def _stamps(fields: "_Fields") -> Stamps:
    if not fields.has("stamps"):
        return Stamps.PER_EVIDENCE
    try:
        return Stamps(fields.text("stamps", _NAME_MAX))
    except ValueError:
        known = ", ".join(stamps.value for stamps in Stamps)
        raise fields.error("stamps", f"unknown; known are {known}") from None


def _pin(value: object, place: str) -> TlsPin:
    names = frozenset({"sha256"} if isinstance(value, dict) and "sha256" in value else {"certificate"})
    fields = _Fields(value, place, required=_PERIOD | names)
    if "certificate" in names:
        return TlsPin(sha256(fields.certificate("certificate")).digest(), *fields.period())
    text = fields.text("sha256", 1024)
    if not _HEX.match(text):
        raise fields.error("sha256", "not a SHA-256 digest: 64 digits 0-9a-f")
    return TlsPin(bytes.fromhex(text), *fields.period())


def _sealing(value: object, place: str) -> SealingCertificate:
    fields = _Fields(value, place, required=_PERIOD | {"certificate"})
    return SealingCertificate(sha256(fields.certificate("certificate")).digest(), *fields.period())


class _Fields:
    """One JSON object whose keys are exactly the required ones, and perhaps the optional ones."""

    __slots__ = ("_place", "_values")

    def __init__(
        self, value: object, place: str, *, required: frozenset[str], optional: frozenset[str] = frozenset()
    ) -> None:
        if not isinstance(value, dict):
            raise ProviderFileError(f"{place or 'the file'}: an object is expected")
        self._place, self._values = place, value
        for name in sorted(required - value.keys()):
            raise self.error(name, "is missing")
        for name in sorted(value.keys() - required - optional):
            raise self.error(_shown(name), "unknown key")

    def error(self, name: str, text: str) -> ProviderFileError:
        """Return an error at one of the keys."""
        return ProviderFileError(f"{self._place}.{name}: {text}".removeprefix("."))

    def has(self, name: str) -> bool:
        return name in self._values

    def value(self, name: str) -> object:
        return self._values[name]

    def text(self, name: str, most: int) -> str:
        value = self._values[name]
        if not isinstance(value, str) or not 1 <= len(value) <= most:
            raise self.error(name, f"text of 1 to {most} characters is expected")
        if not value.isprintable() or value != value.strip():
            raise self.error(name, "control characters, or blanks at an end")
        return value

    def integer(self, name: str, least: int, most: int) -> int:
        value = self._values[name]
        if type(value) is not int or not least <= value <= most:
            raise self.error(name, f"a whole number from {least} to {most} is expected")
        return value

    def time(self, name: str) -> datetime:
        value = self._values[name]
        if not isinstance(value, str) or not _TIME.match(value):
            raise self.error(name, "a UTC time such as 2026-11-21T09:00:00Z is expected")
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            raise self.error(name, "no such time") from None

    def period(self) -> tuple[datetime, datetime]:
        start, end = self.time("valid_from"), self.time("valid_until")
        if end <= start:
            raise self.error("valid_until", "is not after valid_from")
        return start, end

    def array(self, name: str, most: int, *, least: int = 1) -> list[tuple[object, str]]:
        """Return the members of a list, each with its place."""
        value = self._values[name]
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise self.error(name, f"a list of {least} to {most} members is expected")
        place = f"{self._place}.{name}".removeprefix(".")
        return [(member, f"{place}[{index}]") for index, member in enumerate(value)]

    def certificate(self, name: str) -> bytes:
        """Return a DER certificate from canonical base64; only its outer frame is looked at here."""
        text = self.text(name, _CERTIFICATE_MAX)
        try:
            der = b64decode(text.encode("ascii"), validate=True)
        except ValueError:
            der = b""
        if b64encode(der).decode("ascii") != text or not _framed(der):
            raise self.error(name, "no base64 of one DER certificate")
        return der


def _framed(der: bytes) -> bool:
    """Say whether it is one DER SEQUENCE from first to last byte, a SEQUENCE within (spec: RFC5280#4.1)."""
    if len(der) < 4 or der[0] != 0x30:
        return False
    head, length = 2, der[1]
    if length >= 0x80:
        octets = length & 0x7F
        head, length = 2 + octets, int.from_bytes(der[2 : 2 + octets], "big")
        if not 1 <= octets <= 3 or der[2] == 0 or length < 0x80:
            return False
    return head + length == len(der) and der[head : head + 1] == b"\x30"


def _json(data: bytes) -> object:
    if len(data) > MAX_FILE:
        raise ProviderFileError(f"larger than {MAX_FILE} bytes")
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unrepeated,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
    except ProviderFileError:
        raise
    except UnicodeDecodeError:
        raise ProviderFileError("not UTF-8") from None
    except RecursionError:  # the reader's own cap on depth; the format nests five deep
        raise ProviderFileError("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ProviderFileError(f"not JSON: {error.msg} at line {error.lineno}") from None
    except ValueError:  # a number of thousands of digits
        raise ProviderFileError("a number is too long") from None


def _unrepeated(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ProviderFileError(f"the key {_shown(name)} stands twice in one object")
        found[name] = value
    return found


def _refuse_number(text: str) -> object:
    raise ProviderFileError(f"{_shown(text)}: only whole numbers may stand here")


def _shown(text: str) -> str:
    """Return text from the file for an error: short and on one line."""
    return ascii(text[:40])[1:-1]
