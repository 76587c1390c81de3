"""Logs: events with fields, one JSON line each, without content or addresses (KEP-RT-03).

Nobody puts an address, a subject or a secret into an event. Should it happen all the same, it is caught here:
what looks like one is masked, long texts are cut, and traces show where, not with what.
"""

import json
import logging
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeAlias

import structlog

Processor: TypeAlias = Callable[[Any, str, MutableMapping[str, Any]], Mapping[str, Any]]

LONGEST: Final = 300  # characters of one field
_LONGEST_TRACE: Final = 4_000
_LOOKED_AT: Final = 8_192  # characters of a field that are looked at before it is cut
_CAUSES: Final = 5
_FRAMES: Final = 12

_OURS: Final = re.compile(r"(?:[a-z_]+=)?0[0-9a-v]{25}\Z")
"""Local part of the ids we make (`kephs.system.TimeOrderedIds`): they look like addresses and are none."""
_ADDRESS: Final = re.compile(r"([^\s@<>\"'(),;:\[\]{}]{1,320})@[^\s@<>\"'(),;:\[\]{}]{1,255}")
_APP_PASSWORD: Final = re.compile(r"\b[a-z2-7]{6}(?:-[a-z2-7]{5}){4}\b")
_IDENTITY_NUMBER: Final = re.compile(r"(?<![0-9A-Za-z])[1-9][0-9]{10}(?![0-9A-Za-z])")
_NEVER: Final = frozenset(
    {
        "address", "body", "content", "from", "identity", "password", "recipient", "recipients", "secret",
        "sender", "subject", "tckn", "text", "to",
    }
)  # fmt: skip
"""Names of fields whose value is not written, whatever it is."""
_DROPPED: Final = "<dropped>"


def configure_logging(*, verbose: bool, watch: Processor | None = None) -> None:
    """Write events to standard error: JSON lines, or readable ones on a terminal.

    Args:
        verbose: debug events too.
        watch: sees every event before it is masked and returns it unchanged (`kephs.observability.metrics`).
    """
    terminal = sys.stderr.isatty()
    render = (
        structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(serializer=_line)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            *([] if watch is None else [watch]),
            trace_processor,
            mask_processor,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),  # one write a line: the signer writes too
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LibraryFormatter())
    logging.basicConfig(level=logging.ERROR, handlers=[handler])  # libraries: only what went wrong


def _line(event: Mapping[str, Any], **_: object) -> str:
    return _ENCODE(event)


_ENCODE: Final = json.JSONEncoder(ensure_ascii=False).encode
"""Of events as `mask_processor` leaves them: plain values."""


# --------------------------------------------------------------------------- masks


def masked(text: str, longest: int = LONGEST) -> str:
    """Return a text without addresses, app passwords and identity numbers, cut to ``longest`` characters."""
    whole = text[:_LOOKED_AT]
    if "@" in whole:
        whole = _ADDRESS.sub(_address, whole)
    if "-" in whole:
        whole = _APP_PASSWORD.sub("<password>", whole)
    whole = _IDENTITY_NUMBER.sub("<number>", whole)
    if len(whole) <= longest and len(text) <= _LOOKED_AT:
        return whole
    return f"{whole[:longest]}… ({len(text)} characters)"


def _address(found: "re.Match[str]") -> str:
    return found[0] if _OURS.match(found[1]) else "<address>"


def mask_processor(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Mask every field of an event, as structlog calls it."""
    return {name: _field(name, value) for name, value in event.items()}


def _field(name: str, value: object) -> object:
    if name in _NEVER:
        return _DROPPED
    if isinstance(value, str):
        return masked(str(value), _LONGEST_TRACE if name == "exception" else LONGEST)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} octets>"
    return masked(str(value))


# --------------------------------------------------------------------------- traces


def trace_processor(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Turn ``exc_info`` into one line that says what was raised where, without values of variables."""
    given = event.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()
    if isinstance(given, tuple):
        given = given[1]
    if isinstance(given, BaseException):
        event["exception"] = trace(given)
    return event


def trace(error: BaseException) -> str:
    """Return what was raised, where, and because of what: ``Error: text at a.py:1 f > b.py:2 g``."""
    lines: list[str] = []
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting and len(lines) < _CAUSES:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        lines.append(f"{type(one).__name__}: {masked(str(one))}{_places(one.__traceback__)}")
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        cause = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
        if cause is not None:
            waiting.append(cause)
    return " <- ".join(lines)


def _places(frames: TracebackType | None) -> str:
    places: list[str] = []
    while frames is not None:
        code = frames.tb_frame.f_code
        places.append(f"{'/'.join(Path(code.co_filename).parts[-2:])}:{frames.tb_lineno} {code.co_name}")
        frames = frames.tb_next
    return f" at {' > '.join(places[-_FRAMES:])}" if places else ""


class LibraryFormatter(logging.Formatter):
    """What libraries log through the standard library, in the same form and under the same masks."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one JSON line."""
        line: dict[str, Any] = {
            "event": "library",
            "logger": record.name,
            "cause": masked(record.getMessage()),
            "level": record.levelname.lower(),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = masked(trace(record.exc_info[1]), _LONGEST_TRACE)
        return json.dumps(line, ensure_ascii=False)
