"""How values stand in the tables: times, flags and sealed JSON."""

import json
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from storage.crypto import Vault

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = 86_400_000_000


def to_micros(at: datetime) -> int:
    """Return microseconds since 1970; a naive time raises `TypeError`."""
    since = at - _EPOCH
    return since.days * _DAY + since.seconds * 1_000_000 + since.microseconds


def to_micros_or_none(at: datetime | None) -> int | None:
    """Return microseconds since 1970, or None."""
    return None if at is None else to_micros(at)


def from_micros(micros: int) -> datetime:
    """Return the time, UTC and aware."""
    return _EPOCH + timedelta(microseconds=micros)


def from_micros_or_none(micros: int | None) -> datetime | None:
    """Return the time, or None."""
    return None if micros is None else _EPOCH + timedelta(microseconds=micros)


@lru_cache(maxsize=1024)
def to_flags(text: str) -> frozenset[str]:
    """Return the flags of an item's column; few distinct sets exist, so they are shared."""
    return frozenset(text.split())


@lru_cache(maxsize=1024)
def from_flags(flags: frozenset[str]) -> str:
    """Return flags in a fixed order.

    Raises:
        ValueError: a flag is empty or has a space: it could not be read back.
    """
    text = " ".join(sorted(flags))
    if to_flags(text) != flags:
        raise ValueError("a flag is empty or has a space")
    return text


def seal_json(vault: Vault, value: object, place: str) -> bytes:
    """Seal a JSON value for one row."""
    return vault.seal(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(), place)


def unseal_json(vault: Vault, sealed: bytes, place: str) -> Any:
    """Return a sealed JSON value; `KeyMismatchError` where it does not open."""
    return json.loads(vault.unseal(sealed, place))
