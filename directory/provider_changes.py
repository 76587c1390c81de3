"""What one issue of the provider register says differently from another."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from directory.provider_file import ProviderEntry, ProviderFile, TlsPin
from directory.providers import SealingCertificate


class ChangeKind(StrEnum):
    """What changed. Stable: printed with ``--json``."""

    NEW = "new"
    GONE = "gone"  # no longer listed at all
    PERIOD = "period"
    NAME = "name"
    SERVICE_ADDRESS = "service-address"
    ENDPOINT = "endpoint"
    PIN_ADDED = "pin-added"
    PIN_REMOVED = "pin-removed"
    PIN_PERIOD = "pin-period"
    CERTIFICATE_ADDED = "certificate-added"
    CERTIFICATE_REMOVED = "certificate-removed"
    CERTIFICATE_PERIOD = "certificate-period"
    LIMIT = "limit"
    PROFILE = "profile"
    STAMPS = "stamps"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference; ``before`` and ``after`` as text, None where there is nothing."""

    kind: ChangeKind
    domain: str
    before: str | None = None
    after: str | None = None


def changes_between(before: ProviderFile | None, after: ProviderFile) -> tuple[Change, ...]:
    """Return what changed, by domain."""
    old = {entry.domain: entry for entry in before.entries} if before is not None else {}
    new = {entry.domain: entry for entry in after.entries}
    found: list[Change] = []
    for domain in sorted(old.keys() | new.keys()):
        if domain not in old:
            found.append(Change(ChangeKind.NEW, domain, after=new[domain].name))
        elif domain not in new:
            found.append(Change(ChangeKind.GONE, domain, before=old[domain].name))
        else:
            found += _of_entry(old[domain], new[domain])
    return tuple(found)


def _of_entry(old: ProviderEntry, new: ProviderEntry) -> Iterable[Change]:
    pairs = (
        (ChangeKind.PERIOD, _period(old.since, old.until), _period(new.since, new.until)),
        (ChangeKind.NAME, old.name, new.name),
        (ChangeKind.SERVICE_ADDRESS, old.service_address, new.service_address),
        (ChangeKind.ENDPOINT, f"{old.host} {old.port}", f"{new.host} {new.port}"),
        (ChangeKind.LIMIT, f"{old.max_message >> 20} MiB", f"{new.max_message >> 20} MiB"),
        (ChangeKind.PROFILE, old.profile.value, new.profile.value),
        (ChangeKind.STAMPS, old.stamps.value, new.stamps.value),
    )
    for kind, was, is_now in pairs:
        if was != is_now:
            yield Change(kind, new.domain, was, is_now)
    kinds = (ChangeKind.PIN_ADDED, ChangeKind.PIN_REMOVED, ChangeKind.PIN_PERIOD)
    yield from _of_certificates(new.domain, kinds, _by_digest(old.tls), _by_digest(new.tls))
    kinds = (ChangeKind.CERTIFICATE_ADDED, ChangeKind.CERTIFICATE_REMOVED, ChangeKind.CERTIFICATE_PERIOD)
    yield from _of_certificates(new.domain, kinds, _by_digest(old.certificates), _by_digest(new.certificates))


def _of_certificates(
    domain: str,
    kinds: tuple[ChangeKind, ChangeKind, ChangeKind],
    old: Mapping[str, str],
    new: Mapping[str, str],
) -> Iterable[Change]:
    added, removed, moved = kinds
    for digest, period in new.items():
        if digest not in old:
            yield Change(added, domain, after=f"{digest} {period}")
        elif old[digest] != period:
            yield Change(moved, domain, f"{digest} {old[digest]}", f"{digest} {period}")
    for digest, period in old.items():
        if digest not in new:
            yield Change(removed, domain, before=f"{digest} {period}")


def _by_digest(listed: Iterable[TlsPin | SealingCertificate]) -> dict[str, str]:
    return {one.sha256.hex(): _period(one.valid_from, one.valid_until) for one in listed}


def _period(start: datetime, end: datetime | None) -> str:
    return f"{start:%Y-%m-%dT%H:%M:%SZ}/{'' if end is None else format(end, '%Y-%m-%dT%H:%M:%SZ')}"
