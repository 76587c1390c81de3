"""An evidence record as JSON bytes and back, strictly: what crosses to the process that holds the key.

The form follows the dataclasses: each is an array of its fields in their order, times are ISO 8601 in UTC,
octets small hexadecimal digits, enumerations their values; where a field may hold one of several classes, the
array begins with the class's name. Such bytes live as long as a request: they are not for keeping, and
whoever exchanges them compares `fingerprint` first. Characters that no serialisation can carry (lone
surrogates) become U+FFFD here, as they do in evidence.

The reader takes nothing else: no array of another length, no other type, no other way to write a time. Both
directions are made once, from the annotations of `EvidenceRecord`.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import cache, lru_cache
from hashlib import sha256
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from evidence.model.records import EvidenceRecord

RECORD_MAX: Final = 1 << 20
"""Octets of one record: 500 recipients with long names fit several times."""
ITEMS_MAX: Final = 10_000
"""Entries of one list, `evidence.forms.rem_xml.RECIPIENTS_MAX`."""
INTEGER_MAX: Final = 1 << 31
_REMEMBERED: Final = 16
"""What holds nothing but texts is the same again and again: a provider stands in all its evidence."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.(?!000000)[0-9]{6})?\+00:00"
)
_HEX: Final = re.compile(r"(?:[0-9a-f]{2})*")
_ZERO: Final = timedelta(0)


class RecordWireError(Exception):
    """No record in the form of this module, or one that has none."""


@dataclass(frozen=True, slots=True)
class _Codec:
    """Both directions of one type; decoders raise `RecordWireError`. ``name`` tells types apart."""

    name: str
    encode: Callable[[Any], Any] | None  # None: as it is
    decode: Callable[[Any], Any]


def encode(record: EvidenceRecord) -> bytes:
    """Return the record as JSON, ASCII.

    Raises:
        RecordWireError: it is too large, or a time is not UTC.
    """
    tree = _encoded(_record_codec(), record)
    text = _DUMPS(tree).encode("ascii")
    if b"\\ud" in text:  # emoji or worse
        text = _DUMPS(_clean(tree)).encode("ascii")
    if len(text) > RECORD_MAX:
        raise RecordWireError(f"a record of {len(text)} octets; {RECORD_MAX} are the most")
    return text


def decode(data: bytes) -> EvidenceRecord:
    """Return the record that `encode` made these bytes of.

    Raises:
        RecordWireError: anybody else made them.
    """
    tree = read_json(data, RECORD_MAX)
    if b"\\ud" in data or b"\\uD" in data:
        _refuse_halves(tree)
    record: EvidenceRecord = _record_codec().decode(tree)
    return record


def fingerprint() -> str:
    """Return a short text that differs where the fields of records do."""
    return sha256(_record_codec().name.encode()).hexdigest()[:32]


def read_json(data: bytes, most: int) -> object:
    """Read JSON that is ASCII, not too long, not too deep, without fractions, and names nothing twice.

    Raises:
        RecordWireError: it is not so.
    """
    if len(data) > most:
        raise RecordWireError("too long")
    try:
        found: object = _LOADS(data.decode("ascii"))
    except (ValueError, RecursionError):
        raise RecordWireError("no JSON") from None
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RecordWireError("a name stands twice")
    return found


def _no_constant(_name: str) -> object:
    raise RecordWireError("a number that is none")


def _no_float(_text: str) -> object:
    raise RecordWireError("a fraction")


_LOADS: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_no_float
).decode
_DUMPS: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode


def _clean(tree: Any) -> Any:
    """Return a tree with U+FFFD where half a character stands."""
    if isinstance(tree, list):
        return [_clean(one) for one in tree]
    return _SURROGATE.sub("\ufffd", tree) if isinstance(tree, str) else tree


def _refuse_halves(tree: object) -> None:
    """Refuse texts with half a character; without recursion, for anybody may have made this tree."""
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, str) and _SURROGATE.search(one):
            raise RecordWireError("half a character")


# --------------------------------------------------------------------------- single values


def _decode_text(value: object) -> str:
    if type(value) is not str:
        raise RecordWireError("no text")
    return value


def _decode_bool(value: object) -> bool:
    if type(value) is not bool:
        raise RecordWireError("neither true nor false")
    return value


def _decode_integer(value: object) -> int:
    if type(value) is not int or not -INTEGER_MAX <= value <= INTEGER_MAX:
        raise RecordWireError("no number, or too large a one")
    return value


def _decode_octets(value: object) -> bytes:
    text = _decode_text(value)
    if not _HEX.fullmatch(text):
        raise RecordWireError("no hexadecimal digits")
    return bytes.fromhex(text)


def encode_time(value: datetime) -> str:
    """Return a time as ISO 8601.

    Raises:
        RecordWireError: it is not in UTC.
    """
    if value.utcoffset() != _ZERO:
        raise RecordWireError("a time that is not UTC")
    return value.isoformat()


def decode_time(value: object) -> datetime:
    """Return the time that `encode_time` wrote.

    Raises:
        RecordWireError: it is not in that form.
    """
    if type(value) is not str or not _TIME.fullmatch(value):
        raise RecordWireError("no time in UTC as this module writes it")
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise RecordWireError("no time") from None


_SINGLE: Final[Mapping[type, _Codec]] = MappingProxyType(
    {
        str: _Codec("text", None, _decode_text),
        bool: _Codec("bool", None, _decode_bool),
        int: _Codec("integer", None, _decode_integer),
        bytes: _Codec("octets", bytes.hex, _decode_octets),
        datetime: _Codec("time", encode_time, decode_time),
    }
)


# --------------------------------------------------------------------------- composed values


@cache
def _record_codec() -> _Codec:
    return _codec(EvidenceRecord)


def _encoded(codec: _Codec, value: Any) -> Any:
    return value if codec.encode is None else codec.encode(value)


def _codec(hint: Any) -> _Codec:
    """Return the codec of an annotation.

    Raises:
        TypeError: a record has a field of a type this module does not know: teach it.
    """
    if hint in _SINGLE:
        return _SINGLE[hint]
    origin, inside = get_origin(hint), get_args(hint)
    if origin is tuple and len(inside) == 2 and inside[1] is ...:
        return _many(_codec(inside[0]))
    if origin in (Union, UnionType):
        return _either(inside)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _member(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        return _object(hint)
    raise TypeError(f"records cannot hold {hint!r}")


def _many(item: _Codec) -> _Codec:
    def encode_many(values: Iterable[Any]) -> list[Any]:
        return list(values) if item.encode is None else [item.encode(value) for value in values]

    def decode_many(value: object) -> tuple[Any, ...]:
        if type(value) is not list or len(value) > ITEMS_MAX:
            raise RecordWireError("no list, or too long a one")
        return tuple([item.decode(one) for one in value])

    return _Codec(f"[{item.name}]", encode_many, decode_many)


def _member(kind: type[Enum]) -> _Codec:
    by_value = {member.value: member for member in kind}
    plain = {type(value) for value in by_value}

    def decode_member(value: object) -> Enum:
        if type(value) not in plain or value not in by_value:
            raise RecordWireError(f"no {kind.__name__}")
        return by_value[value]

    return _Codec(
        f"{kind.__name__}({sorted(map(str, by_value))})", lambda member: member.value, decode_member
    )


def _either(hints: tuple[Any, ...]) -> _Codec:
    """Return the codec of a value that may be missing, or of one of several classes."""
    others = [hint for hint in hints if hint is not NoneType]
    inner = _codec(others[0]) if len(others) == 1 else _one_of(others)
    if len(others) == len(hints):
        return inner
    encode_inner, decode_inner = inner.encode, inner.decode

    def encode_some(value: Any) -> Any:
        return value if value is None or encode_inner is None else encode_inner(value)

    return _Codec(
        f"{inner.name}?",
        None if encode_inner is None else encode_some,
        lambda value: None if value is None else decode_inner(value),
    )


def _one_of(hints: list[Any]) -> _Codec:
    codecs = {hint.__name__: _object(hint) for hint in hints}

    def encode_one(value: Any) -> list[Any]:
        name = type(value).__name__
        return [name, *_encoded(codecs[name], value)]

    def decode_one(value: object) -> Any:
        if type(value) is not list or not value or type(value[0]) is not str or value[0] not in codecs:
            raise RecordWireError("no class that is known here")
        return codecs[value[0]].decode(value[1:])

    return _Codec("|".join(codec.name for codec in codecs.values()), encode_one, decode_one)


def _object(kind: type) -> _Codec:
    """Return the codec of a dataclass."""
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    codecs = [_codec(hints[name]) for name in names]
    writers = [(place, codec.encode) for place, codec in enumerate(codecs) if codec.encode is not None]
    texts = [place for place, codec in enumerate(codecs) if codec.decode is _decode_text]
    readers = [(place, codec.decode) for place, codec in enumerate(codecs) if place not in texts]

    def encode_object(value: Any) -> list[Any]:
        found = [getattr(value, name) for name in names]
        for place, encode_field in writers:
            found[place] = encode_field(found[place])
        return found

    remembered = None if readers else lru_cache(maxsize=_REMEMBERED)(kind)

    def decode_object(value: object) -> Any:
        if type(value) is not list or len(value) != len(names):
            raise RecordWireError(f"no {kind.__name__}")
        place = 0
        try:
            for place in texts:
                if type(value[place]) is not str:
                    raise RecordWireError("no text")  # noqa: TRY301  # as its codec would: faster
            for place, decode_field in readers:
                value[place] = decode_field(value[place])
        except RecordWireError as error:
            raise RecordWireError(f"{names[place]}: {error}") from None
        return kind(*value) if remembered is None else remembered(*value)

    inside = ",".join(f"{name}:{codec.name}" for name, codec in zip(names, codecs, strict=True))
    return _Codec(f"{kind.__name__}({inside})", encode_object, decode_object)
