"""Provider registers made for tests: signers by name, entries, signed pairs."""

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from evidence.adapters.soft_signer import SoftSigner
from evidence.x509.certificates import certificate_facts
from kephs.register_seal import make_register, register_entry
from kephs.testpki.hierarchy import self_signed
from kephs.testpki.issued import Issued
from kephs.testpki.keys import KeyKind, make_key

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)


@cache
def _issued(name: str, kind: KeyKind) -> Issued:
    assert name
    return self_signed("tls", make_key(kind), NOW).issued


def issued(name: str, kind: KeyKind = "p256") -> Issued:
    """Return a self-signed certificate of its own for each name and kind of key."""
    return _issued(name, kind)


def signer(name: str = "operator", kind: KeyKind = "p256") -> SoftSigner:
    one = issued(name, kind)
    return SoftSigner(one.key, one.certificate)


def pin(name: str = "operator", kind: KeyKind = "p256") -> bytes:
    return certificate_facts(issued(name, kind).certificate).sha256


def entry(domain: str = "hs92.kep.tr", **changed) -> dict[str, Any]:
    values: dict[str, Any] = {
        "domain": domain,
        "name": f"TEST {domain}",
        "service_address": f"kep-hizmet@{domain}",
        "host": "127.0.0.1",
        "port": 2525,
        "tls_certificates": [issued(f"tls {domain}").certificate],
        "transaction_certificates": [issued(f"seal {domain}").certificate],
        "max_message_mib": 25,
        "since": NOW - 10 * DAY,
    }
    return register_entry(**values | changed)


def made(
    *entries: dict[str, Any], sequence: int = 1, by: str = "operator", at: datetime = NOW, days: int = 7
):
    return make_register(
        entries, signer(by), sequence=sequence, issued_at=at, next_update=at + timedelta(days=days)
    )
