"""What the algorithm table says of an authority's key before anybody confirms it (spec: signing.md 2.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from evidence.x509.algorithms import (
    DEFAULT_ALGORITHMS,
    AlgorithmPolicy,
    Family,
    KeyRule,
    Role,
    SignatureAlgorithm,
)
from evidence.x509.certificates import CertificateFacts
from evidence.x509.chain import certificate_algorithm

_HASH: Final = "sha256"  # the rows ask for family and size; each digest that is allowed is as good
_NAMES: Final = {Family.RSA: "RSA", Family.RSA_PSS: "RSA-PSS", Family.DSA: "DSA", Family.ECDSA: "ECDSA"}


@dataclass(frozen=True, slots=True)
class KeyWarning:
    """What speaks against a key although the certificate may come on the list; ``code`` is stable."""

    code: str
    english: str
    turkish: str


def key_text(facts: CertificateFacts) -> str:
    """Return family and size of a certificate's key for people, such as "ECDSA 384"."""
    key = facts.key
    return "?" if key.family is None else f"{_NAMES[key.family]} {key.size}"


def key_warnings(
    facts: CertificateFacts, at: datetime, table: AlgorithmPolicy = DEFAULT_ALGORITHMS
) -> list[KeyWarning]:
    """Return what the table says against an authority's key; the list takes the certificate all the same.

    The self-signature of a root proves nothing and is not judged: what counts is what its key signs.

    Args:
        facts: of the authority.
        at: the current time.
        table: allowed algorithms and sizes, with their dates.
    """
    found, key = [], key_text(facts)
    if not _usable(facts, at, table):
        found.append(
            KeyWarning(
                "key-too-weak",
                f"{key}: no signature that leads to this key is accepted; needed: {limits(table)}",
                f"{key}: bu anahtara dayanan hiçbir imza kabul edilmez; gereken: {limits(table)}",
            )
        )
    elif _signs_without_pss(facts, at, table):
        found.append(
            KeyWarning(
                "rsa-pss-needed",
                f"{key}: it signed itself without PSS; what it signs for others counts with RSA-PSS alone",
                f"{key}: kendini PSS'siz imzalamış; başkaları için imzaladıkları yalnız RSA-PSS ile geçerli",
            )
        )
    if table.lapsed(at):
        found.append(
            KeyWarning(
                "table-lapsed",
                "the algorithm table is past its date: ask for the communiqué's amendment",
                "algoritma tablosunun süresi doldu: Tebliğ değişikliğini edinin",
            )
        )
    return found


def limits(table: AlgorithmPolicy = DEFAULT_ALGORITHMS) -> str:
    """Return what the table asks of authorities' keys, with its last day; figures alone, in no language."""
    rows = [(f"{_NAMES[row.family]} >= {row.min_bits}", _last_day(row)) for row in _rows(table)]
    by_end: dict[str | None, list[str]] = {}
    for text, end in rows:
        by_end.setdefault(end, []).append(text)
    return "; ".join(
        ", ".join(texts) + (f" (.. {end})" if end is not None else "") for end, texts in by_end.items()
    )


def limit_facts(table: AlgorithmPolicy = DEFAULT_ALGORITHMS) -> list[dict[str, Any]]:
    """Return the table's rows for authorities as JSON shows them."""
    return [
        {"family": _NAMES[row.family], "min_bits": row.min_bits, "until": _last_day(row)}
        for row in _rows(table)
    ]


def _rows(table: AlgorithmPolicy) -> Sequence[KeyRule]:
    return [row for row in table.keys if row.role is Role.AUTHORITY]


def _last_day(row: KeyRule) -> str | None:
    """Return the last day of a row, whose end is the first moment after it."""
    return None if row.until is None else f"{row.until - timedelta(microseconds=1):%Y-%m-%d}"


def _usable(facts: CertificateFacts, at: datetime, table: AlgorithmPolicy) -> bool:
    """Say whether there is an algorithm with which this key may sign as an authority."""
    family = facts.key.family
    ways = {Family.RSA: (Family.RSA, Family.RSA_PSS)}.get(family, (family,)) if family is not None else ()
    return any(_allowed(way, facts, at, table) for way in ways)


def _signs_without_pss(facts: CertificateFacts, at: datetime, table: AlgorithmPolicy) -> bool:
    algorithm = certificate_algorithm(facts)
    own = facts.subject == facts.issuer and algorithm is not None and algorithm.family is Family.RSA
    return own and not _allowed(Family.RSA, facts, at, table)


def _allowed(family: Family, facts: CertificateFacts, at: datetime, table: AlgorithmPolicy) -> bool:
    algorithm = SignatureAlgorithm(family, _HASH)
    return table.refusal(Role.AUTHORITY, algorithm, _HASH, facts.key.size, at) is None
