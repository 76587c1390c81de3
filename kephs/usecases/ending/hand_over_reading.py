"""Rows of a hand-over read back into the program's data classes, whatever their fields."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from directory.addresses import KepAddress
from evidence.bundle.archive_object import from_micros

T = TypeVar("T")


def restored(kind: type[T], value: Any, *, suffix: str = "kep.tr") -> T:
    """Return the value that `kephs.usecases.ending.hand_over_rows.plain` wrote.

    Args:
        kind: of the value.
        value: as JSON had it, untrusted.
        suffix: of KEP addresses.

    Raises:
        ValueError: not such a value.
    """
    try:
        found: T = _restored(kind, value, suffix)
    except (TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"not a row of {getattr(kind, '__name__', kind)}: {error}"[:200]) from None
    return found


def _restored(kind: Any, value: Any, suffix: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        inner = [one for one in get_args(kind) if one is not NoneType]
        return None if value is None else _restored(inner[0], value, suffix)
    if origin in (tuple, list, frozenset):
        if not isinstance(value, list):
            raise TypeError("no list")
        return origin(_restored(get_args(kind)[0], one, suffix) for one in value)
    return _single(kind, value, suffix)


def _single(kind: Any, value: Any, suffix: str) -> Any:
    if kind is KepAddress:
        return KepAddress.parse(value, suffix=suffix)
    if isinstance(kind, type) and is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise TypeError("no object")
        hints = _hints(kind)
        return kind(
            **{field.name: _restored(hints[field.name], value[field.name], suffix) for field in fields(kind)}
        )
    if kind is bytes:
        return bytes.fromhex(value)
    if kind is datetime:
        return from_micros(value)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if type(value) is not kind:
        raise TypeError(f"{type(value).__name__} for {kind}")
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)
