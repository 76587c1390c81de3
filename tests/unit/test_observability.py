"""Logs: whatever somebody puts into an event by mistake, no address, secret, content or endless text comes out."""

import io
import json
import logging
import sys

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from kephs.observability.logs import (
    LONGEST,
    LibraryFormatter,
    configure_logging,
    mask_processor,
    masked,
    trace,
    trace_processor,
)

ADDRESSES = (
    "ayse.yilmaz@hs91.kep.tr",
    "AYSE.YILMAZ@HS91.KEP.TR",
    "ayşe.yılmaz@örnek.com.tr",
    "o'neill+x@example.org",
    "kephizmet@hs92.kep.tr",
)
OWN_ID = "01l3kf9v0a1b2c3d4e5f6g7h8i@hs91.kep.tr"


def write(**fields: object) -> dict[str, object]:
    event = {"event": "submission.refused", "level": "info", **fields}
    return dict(mask_processor(None, "info", event))


@pytest.mark.parametrize("address", ADDRESSES, ids=range(len(ADDRESSES)))
@pytest.mark.parametrize("around", ["{}", "<{}>", "from {} to", "RCPT TO:<{}>: no", "a={}", "mailto:{}?x"])
def test_an_address_is_masked_wherever_it_stands(address: str, around: str):
    text = masked(around.format(address))
    assert "@" not in text
    assert "<address>" in text
    for part in ("yilmaz", "YILMAZ", "yılmaz", "kephizmet"):
        assert part not in text


def test_our_own_ids_look_like_addresses_and_stay():
    assert masked(OWN_ID) == OWN_ID
    assert masked(f"2.0.0 evidence={OWN_ID} message={OWN_ID}") == f"2.0.0 evidence={OWN_ID} message={OWN_ID}"
    assert masked(f"x{OWN_ID}") == "<address>"


def test_app_passwords_and_identity_numbers_are_masked_and_digests_stay():
    assert masked("k3jx7a-7pqwe-m2zrt-abcde-fghij") == "<password>"
    assert masked("tckn 10000000146.") == "tckn <number>."
    digest = "certificate sha256=a12345678901b" + "0" * 51
    assert masked(digest) == digest
    assert masked("2026-11-22T02:48:08.444543Z") == "2026-11-22T02:48:08.444543Z"


def test_a_long_field_is_cut():
    text = masked("x" * 100_000)
    assert len(text) < LONGEST + 40
    assert text.endswith("(100000 characters)")
    assert masked("x" * LONGEST) == "x" * LONGEST


def test_an_address_on_the_cut_leaves_nothing_of_itself():
    assert "ayse" not in masked("x" * (LONGEST - 10) + " " + ADDRESSES[0])


@pytest.mark.parametrize("name", ["subject", "password", "address", "sender", "recipients", "body", "tckn"])
def test_fields_that_must_not_be_are_dropped_whatever_they_hold(name: str):
    assert write(**{name: "Ihtarname"})[name] == "<dropped>"


def test_numbers_stay_and_octets_become_their_number():
    event = write(size=10_000_000_146, seconds=0.5, ok=True, nothing=None, raw=b"Subject: x")
    assert (event["size"], event["seconds"], event["ok"], event["nothing"]) == (
        10_000_000_146,
        0.5,
        True,
        None,
    )
    assert event["raw"] == "<10 octets>"


def test_what_is_nested_is_masked_too():
    assert "yilmaz" not in str(write(detail={"a": [ADDRESSES[0]]}))
    assert "yilmaz" not in str(write(detail=ValueError(ADDRESSES[0])))


@given(st.text(max_size=400), st.sampled_from(ADDRESSES))
def test_no_text_around_an_address_saves_it(around: str, address: str):
    assert address not in masked(f"{around} {address} {around}")
    assert len(masked(around * 3)) <= LONGEST + 40


def _fail(error: BaseException) -> None:
    raise error


def _raise(error: BaseException) -> BaseException:
    try:
        _fail(error)
    except BaseException as raised:
        return raised
    raise AssertionError


def test_a_trace_says_where_and_masks_what():
    text = trace(_raise(ValueError(f"no such account {ADDRESSES[0]} " + "s" * 1000)))
    assert text.startswith("ValueError: no such account <address>")
    assert "unit/test_observability.py:" in text
    assert "_raise" in text
    assert len(text) < 1000


def test_a_trace_names_causes_and_members_of_groups_and_ends():
    inner = _raise(KeyError("k"))
    outer = ExceptionGroup("two", [inner, _raise(OSError(5, "disk"))])
    outer.__cause__ = inner
    inner.__cause__ = outer  # a circle
    text = trace(_raise(outer))
    assert text.count("KeyError") == 1
    assert "OSError" in text


@pytest.mark.parametrize("given_as", ["true", "tuple", "error"])
def test_every_form_of_exc_info_becomes_one_field(given_as: str):
    try:
        _fail(RuntimeError(ADDRESSES[0]))
    except RuntimeError as error:
        form = {"true": True, "tuple": sys.exc_info(), "error": error}[given_as]
        event = dict(trace_processor(None, "error", {"event": "x", "exc_info": form}))
    assert "exc_info" not in event
    assert event["exception"].startswith("RuntimeError: <address> at ")


def test_libraries_are_masked_too():
    record = logging.LogRecord("aiohttp", logging.ERROR, "f", 1, "mail from %s", (ADDRESSES[0],), None)
    line = json.loads(LibraryFormatter().format(record))
    assert line == {"event": "library", "logger": "aiohttp", "cause": "mail from <address>", "level": "error"}
    record.exc_info = (ValueError, ValueError(ADDRESSES[0]), None)
    assert "yilmaz" not in LibraryFormatter().format(record)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "json_lines"), [(io.StringIO, True), (_Terminal, False)], ids=["file", "tty"]
)
def test_events_are_json_lines_unless_a_terminal_reads_them(
    monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO], json_lines: bool
):
    before, out, seen = structlog.get_config(), stream(), []
    monkeypatch.setattr(sys, "stderr", out)

    def watch(_logger, _method, event):
        seen.append((event["event"], event["level"]))
        return event

    try:
        configure_logging(verbose=False, watch=watch)
        log = structlog.get_logger()
        log.info("worker.released", blobs=3, subject="Ihtarname")
        log.debug("worker.looked")
    finally:
        structlog.configure(**before)
    (line,) = out.getvalue().splitlines()
    assert "Ihtarname" not in line
    assert seen == [("worker.released", "info")]
    if json_lines:
        event = json.loads(line)
        assert (event["event"], event["blobs"], event["level"]) == ("worker.released", 3, "info")
        assert event["timestamp"].endswith("Z")
