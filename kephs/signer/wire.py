"""What client and signer say to each other: frames of a JSON head and raw parts. Sans-IO.

A frame is four octets (how many follow), two octets (the length of the head), the head (a JSON object,
ASCII), then the parts, one after the other; the head's ``parts`` tells their lengths, ``null`` for one that
is absent. Numbers are big-endian. Nothing here is pickled, and no length is believed before it was compared
with its cap.

=========  =======================================  ==========================================================
``op``     further names in the head                parts
=========  =======================================  ==========================================================
``seal``   ``id``, ``profile``, ``stamping``        records (`record_wire`), `RECORDS_MAX` at most
``sign``   ``id``, ``at``                           SHA-256 digests of signed entities, `RECORDS_MAX` at most
``stamp``  ``id``                                   SHA-256 digests, `LEAVES_MAX` at most
=========  =======================================  ==========================================================

The answer to ``seal`` has two parts for each record, the XML and the evidence record (RFC 4998; absent where
the XML holds its own stamp, or is released without); to ``sign`` one for each digest, the CMS signature; to
``stamp`` one for each digest. Where there is none, the head has ``error`` (a `Trouble`) and ``text``. The
signer speaks first: ``hello`` names the form of the records it takes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeAlias

from evidence.forms.record_wire import RECORD_MAX, RecordWireError, decode_time, encode_time, read_json
from evidence.model.records import Profile
from evidence.ports import Stamping

Part: TypeAlias = bytes | None

RECORDS_MAX: Final = 128
LEAVES_MAX: Final = 1000
HEAD_MAX: Final = 16 << 10
REQUEST_MAX: Final = RECORD_MAX + HEAD_MAX
"""Octets of a request: one record of the largest size, or several small ones."""
ANSWER_MAX: Final = 16 << 20
"""Octets of an answer: XML says the same at greater length."""
DIGEST_SIZE: Final = 32
NUMBER_MAX: Final = (1 << 53) - 1
TEXT_MAX: Final = 300
_LENGTH: Final = 4
_HEAD_LENGTH: Final = 2
_HEADS: Final = _LENGTH + _HEAD_LENGTH


class WireError(Exception):
    """The other side does not keep to the form; the connection is of no further use."""


class Trouble(StrEnum):
    """Why there is no answer."""

    SIGNER = "signer-unavailable"
    STAMP = "timestamp-unavailable"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: its head without ``parts``, and its parts; ``size`` in octets, as it came."""

    head: Mapping[str, object]
    parts: tuple[Part, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Seal:
    """Seal these records."""

    number: int
    records: tuple[bytes, ...]
    profile: Profile
    stamping: Stamping | None


@dataclass(frozen=True, slots=True)
class Sign:
    """Sign entities; a digest sent here can become a CMS signature only, never evidence."""

    number: int
    digests: tuple[bytes, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class Stamp:
    """Stamp what was released unstamped."""

    number: int
    leaves: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Unknown:
    """A well-formed frame that asks for nothing there is."""

    number: int
    problem: str


Request: TypeAlias = Seal | Sign | Stamp | Unknown


@dataclass(frozen=True, slots=True)
class Hello:
    """The signer's first word: the form of records it takes."""

    form: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What was asked for."""

    number: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why it is not there."""

    number: int
    trouble: Trouble
    text: str


# --------------------------------------------------------------------------- frames

_DUMPS: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode


def pack(head: dict[str, object], parts: Sequence[Part] = ()) -> bytes:
    """Return a frame.

    Raises:
        WireError: the head is too long.
    """
    head["parts"] = [None if part is None else len(part) for part in parts]
    text = _DUMPS(head).encode("ascii")
    if len(text) > HEAD_MAX:
        raise WireError("too many parts for a head")
    body = b"".join([part for part in parts if part is not None])
    length = _HEAD_LENGTH + len(text) + len(body)
    return b"".join((length.to_bytes(_LENGTH), len(text).to_bytes(_HEAD_LENGTH), text, body))


class FrameReader:
    """Bytes in, frames out; where the bytes are cut does not matter.

    Args:
        most: octets of one frame; a longer one is refused when its length is read, before it is buffered.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Take what arrived and return the frames it completes.

        Raises:
            WireError: a frame is too long or not well formed.
        """
        rest = self._rest
        rest += data
        frames, start = [], 0
        while len(rest) - start >= _LENGTH:
            length = int.from_bytes(rest[start : start + _LENGTH])
            if not _HEAD_LENGTH < length <= self._most:
                raise WireError(f"a frame of {length} octets; {self._most} are the most")
            end = start + _LENGTH + length
            if len(rest) < end:
                break
            frames.append(_frame(bytes(rest[start:end])))
            start = end
        del rest[:start]
        return frames


def _frame(data: bytes) -> Frame:
    start = _HEADS + int.from_bytes(data[_LENGTH:_HEADS])
    try:
        head = read_json(data[_HEADS:start], HEAD_MAX)
    except RecordWireError as error:
        raise WireError(f"the head of a frame: {error}") from None
    if type(head) is not dict or start > len(data):
        raise WireError("the head of a frame is no object")
    lengths = head.pop("parts", None)
    if type(lengths) is not list:
        raise WireError("a frame does not tell its parts")
    parts: list[Part] = []
    for length in lengths:
        if length is None:
            parts.append(None)
            continue
        if type(length) is not int or not 0 <= length <= len(data) - start:
            raise WireError("a part of a frame has no such length")
        parts.append(data[start : start + length])
        start += length
    if start != len(data):
        raise WireError("a frame holds more than its parts")
    return Frame(head, tuple(parts), len(data))


def _number(head: Mapping[str, object]) -> int:
    number = head.get("id")
    if type(number) is not int or not 0 <= number <= NUMBER_MAX:
        raise WireError("a frame without number")
    return number


# --------------------------------------------------------------------------- requests


def pack_request(request: Seal | Sign | Stamp) -> bytes:
    """Return the frame of a request.

    Raises:
        WireError: it is too large.
    """
    match request:
        case Seal():
            head: dict[str, object] = {
                "id": request.number, "op": "seal", "profile": request.profile.value,
                "stamping": None if request.stamping is None else request.stamping.value,
            }  # fmt: skip
            frame = pack(head, request.records)
        case Sign():
            head = {"id": request.number, "op": "sign", "at": encode_time(request.at)}
            frame = pack(head, request.digests)
        case Stamp():
            frame = pack({"id": request.number, "op": "stamp"}, request.leaves)
    if len(frame) - _LENGTH > REQUEST_MAX:
        raise WireError(f"a request of {len(frame)} octets; {REQUEST_MAX} are the most")
    return frame


def read_request(frame: Frame) -> Request:
    """Return what a frame asks for; `Unknown` for what there is not, so that it can be answered.

    Raises:
        WireError: it has no number to answer to.
    """
    number = _number(frame.head)
    try:
        return _request(number, frame)
    except (WireError, RecordWireError, ValueError) as error:
        return Unknown(number, str(error))


def _request(number: int, frame: Frame) -> Request:
    head = {name: value for name, value in frame.head.items() if name != "id"}
    parts = tuple([part for part in frame.parts if part is not None])
    if len(parts) != len(frame.parts) or not parts:
        raise WireError("a part is absent")
    match head:
        case {"op": "seal", "profile": str(profile), "stamping": None | str() as mode, **others}:
            if len(parts) > RECORDS_MAX:
                raise WireError("too many records")
            request: Request = Seal(number, parts, Profile(profile), None if mode is None else Stamping(mode))
        case {"op": "sign", "at": str(at), **others}:
            _digests(parts, RECORDS_MAX)
            request = Sign(number, parts, decode_time(at))
        case {"op": "stamp", **others}:
            _digests(parts, LEAVES_MAX)
            request = Stamp(number, parts)
        case _:
            raise WireError("an operation that is not known")
    if others:
        raise WireError("a name too many")
    return request


def _digests(parts: tuple[bytes, ...], most: int) -> None:
    if len(parts) > most:
        raise WireError("too many digests")
    if any(len(part) != DIGEST_SIZE for part in parts):
        raise WireError("a digest is of 32 octets")


# --------------------------------------------------------------------------- answers


def pack_answer(answer: Hello | Answer | Failure) -> bytes:
    """Return the frame of an answer.

    Raises:
        WireError: it is too large.
    """
    match answer:
        case Hello():
            return pack({"hello": answer.form})
        case Failure():
            return pack({"id": answer.number, "error": answer.trouble.value, "text": answer.text[:TEXT_MAX]})
    frame = pack({"id": answer.number}, answer.parts)
    if len(frame) - _LENGTH > ANSWER_MAX:
        raise WireError(f"an answer of {len(frame)} octets; {ANSWER_MAX} are the most")
    return frame


def read_answer(frame: Frame) -> Hello | Answer | Failure:
    """Return what the signer says.

    Raises:
        WireError: it says nothing of this.
    """
    match frame.head:
        case {"hello": str(form), **others} if not others and not frame.parts:
            return Hello(form)
        case {"id": _, "error": str(trouble), "text": str(text), **others} if not others:
            if trouble in _TROUBLES and not frame.parts:
                return Failure(_number(frame.head), Trouble(trouble), text)
        case {"id": _, **others} if not others:
            return Answer(_number(frame.head), frame.parts)
    raise WireError("an answer that is not known")


_TROUBLES: Final = frozenset(trouble.value for trouble in Trouble)
