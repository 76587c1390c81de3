"""The wiring of the public ledger: which keys, witnesses and lanes an instance's settings give."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog

from config.settings import LogKey, Settings, SettingsError
from evidence.ledger.notes import KeyKind
from kephs.bootstrap.ledger import open_public_ledger
from kephs.cli.instance import free_port, make_instance
from kephs.ledger.keys import known_witnesses, open_ledger_key, open_witness_key, witnessed_logs
from kephs.system import SystemClock
from storage.memory.store import MemoryStore
from tests.support.ledger_world import signer
from tests.support.stores import T0

LOG = signer(3, "hs92.kep.tr/kephs-ledger").verifier.vkey
WITNESS = signer(4, "hs92.kep.tr/kephs-witness", KeyKind.COSIGNATURE).verifier.vkey


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_instance(tmp_path / "hs91", "hs91.kep.tr", now=T0, test_pki=False)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


def changed(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update={"ledger": settings.ledger.model_copy(update=changes)})


async def test_by_default_there_is_a_log_and_neither_witness_nor_server(
    settings: Settings, session: Any
) -> None:
    made = open_public_ledger(settings, MemoryStore(), SystemClock(), session)
    assert made.verifier.name == "hs91.kep.tr/kephs-ledger"
    assert [lane.name for lane in made.lanes()] == ["audit anchor", "ledger"]
    assert (made.gather, made.witness) == (None, None)
    async with made.served() as port:
        assert port == 0


async def test_witnesses_and_witnessed_logs_come_from_the_settings(settings: Settings, session: Any) -> None:
    port = free_port()
    given = changed(
        settings, port=port, witnesses=(LogKey(vkey=WITNESS, url="http://127.0.0.1:9/"),),
        witnessed=(LogKey(vkey=LOG),),
    )  # fmt: skip
    made = open_public_ledger(given, MemoryStore(), SystemClock(), session)
    assert [lane.name for lane in made.lanes()] == ["audit anchor", "ledger", "cosignatures"]
    assert made.witness is not None
    async with made.served() as bound:
        assert bound == port
        async with session.get(f"http://127.0.0.1:{port}/witness.vkey") as response:
            shown = await response.text()
    assert shown.strip() == open_witness_key(given).verifier.vkey


async def test_contradictions_are_alarms_in_the_log(settings: Settings, session: Any) -> None:
    made = open_public_ledger(settings, MemoryStore(), SystemClock(), session)
    with structlog.testing.capture_logs() as logged:
        made.publish._alarm("the tree is another")
    assert logged == [{"event": "ledger.contradiction", "cause": "the tree is another", "log_level": "error"}]


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("witnesses", (LogKey(vkey="nonsense", url="http://x"),), "ledger.witnesses"),
        ("witnesses", (LogKey(vkey=LOG, url="http://x"),), "not a witness's key"),
        ("witnesses", (LogKey(vkey=WITNESS),), "needs a url"),
        ("witnesses", (LogKey(vkey=WITNESS, url="ftp://x"),), "needs a url"),
        ("witnesses", (LogKey(vkey=WITNESS, url="http://x"),) * 2, "twice"),
        ("witnessed", (LogKey(vkey=WITNESS),), "not a log's key"),
        ("witnessed", (LogKey(vkey=LOG),) * 2, "twice"),
        ("origin", "a name with spaces", "ledger.origin"),
    ],
    ids=["nonsense", "kind", "no-url", "scheme", "twice", "log-kind", "log-twice", "origin"],
)
def test_a_wrong_setting_is_named(settings: Settings, field: str, value: Any, told: str) -> None:
    given = changed(settings, **{field: value})
    with pytest.raises(SettingsError, match=told):
        (known_witnesses(given), witnessed_logs(given), open_ledger_key(given))


@pytest.mark.parametrize("content", [None, b"nonsense", b"-----BEGIN PRIVATE KEY-----\n"], ids=str)
def test_a_key_that_cannot_be_read_is_named_with_its_cure(settings: Settings, content: bytes | None) -> None:
    settings.ledger.key.unlink()
    if content is not None:
        settings.ledger.key.write_bytes(content)
    with pytest.raises(SettingsError, match=r"ledger\.key.*restore"):
        open_ledger_key(settings)
