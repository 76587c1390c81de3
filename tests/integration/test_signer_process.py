"""The signer as a process of its own: it seals, is killed, is replaced, and never outlives its parent."""

import asyncio
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from config.settings import FILE_NAME, SettingsError, load, save
from evidence.ports import SignerRefusedError, SignerUnavailableError, Stamping
from evidence.verify.evidence import verify_evidence
from evidence.x509.role import SealPolicy
from kephs.bootstrap import open_issuer, open_trust
from kephs.cli.instance import make_instance
from kephs.cli.run.signer_child import signer_beside
from kephs.instances.schema import make_database
from kephs.testpki.oids import TEST_TRANSACTION_POLICY
from tests.support.evidence_samples import record
from tests.support.softhsm import MODULE, PIN, SoftHsm, empty_hsm

pytestmark = pytest.mark.slow  # a TEST PKI of its own, and processes
TOKEN = "kephs-process"
DIGEST = sha256(b"entity").digest()
POLICY = SealPolicy(transaction_policies=frozenset({TEST_TRANSACTION_POLICY}))


@pytest.fixture(scope="module")
def instance(tmp_path_factory) -> Iterator[SimpleNamespace]:
    """An instance whose TEST PKI answers."""
    home = tmp_path_factory.mktemp("signer") / "hs91"
    settings = make_instance(home, "hs91.kep.tr", now=datetime.now(UTC), test_pki=True)
    make_database(settings, datetime.now(UTC))
    with subprocess.Popen(
        [sys.executable, "-P", "-c", "from kephs.cli.main import main; main()", "test-pki", home, "--with-parent"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as pki:  # fmt: skip
        assert pki.stdout is not None
        assert pki.stdout.readline() == b"ready\n"
        yield SimpleNamespace(home=home, settings=settings, issuer=open_issuer(settings))
        assert pki.stdin is not None
        pki.stdin.close()


def beside(home: Path, **options):
    return signer_beside(home, lambda: open_trust(load(home)), **options)


def about_now(instance, number=0, **changes):
    now = datetime.now(UTC)
    fields = {"event_time": now, "submission_time": now, "issuer": instance.issuer} | changes
    return record(evidence_id=f"{number}@hs91.kep.tr", **fields)


def signers(of: int | None = None) -> list[psutil.Process]:
    children = psutil.Process(of).children()
    return [child for child in children if "kephs.cli.run.signer" in " ".join(child.cmdline())]


async def test_what_the_process_seals_verifies(instance):
    async with beside(instance.home) as sealer:
        made = [about_now(instance, n) for n in range(5)]
        sealed = [
            *await sealer.seal_many(made, stamping=Stamping.BATCH),
            *await sealer.seal_many(made, stamping=Stamping.OWN),
        ]
        assert len(await sealer.sign_entity(DIGEST, datetime.now(UTC))) > 1000
    trust, now = open_trust(instance.settings), datetime.now(UTC)
    for one in sealed:
        report = verify_evidence(one.xml, trust, now, POLICY, ers=one.ers)
        assert report.passed, report
    assert [one.ers is not None for one in sealed] == [True] * 5 + [False] * 5
    assert signers() == []


async def test_it_refuses_another_providers_records_and_other_times(instance):
    async with beside(instance.home) as sealer:
        for changes in (
            {"issuer": replace(instance.issuer, address="kep-hizmet@hs92.kep.tr")},
            {"event_time": datetime(2026, 1, 1, tzinfo=UTC)},
        ):
            with pytest.raises(SignerRefusedError):
                await sealer.seal_many([about_now(instance, **changes)])
        assert len(await sealer.seal_many([about_now(instance)])) == 1


async def test_a_kill_ends_the_calls_under_way_and_later_calls_are_served_by_the_next(instance):
    async with beside(instance.home, first_pause=0) as sealer:
        (first,) = signers()
        for _ in range(2):
            (child,) = signers()
            child.suspend()
            async with asyncio.TaskGroup() as group:
                calls = [
                    group.create_task(_outcome(sealer.seal_many([about_now(instance, n)])))
                    for n in range(300)
                ]
                await asyncio.sleep(0)
                child.kill()
            assert {type(call.result()) for call in calls} == {SignerUnavailableError}
            await served(sealer, instance)
        (last,) = signers()
        assert last.pid != first.pid
    assert signers() == []


async def _outcome(asking):
    try:
        return await asking
    except SignerUnavailableError as error:
        return error


async def test_asked_to_end_it_answers_what_it_was_asked_and_is_replaced(instance):
    async with beside(instance.home, first_pause=0) as sealer:
        (child,) = signers()
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(sealer.seal_many([about_now(instance, n)])) for n in range(50)]
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            child.terminate()
        assert all(len(call.result()) == 1 for call in calls)
        await asyncio.to_thread(child.wait, 20)
        await served(sealer, instance)


_PARENT = """
import asyncio, sys
from pathlib import Path
from config.settings import load
from kephs.bootstrap import open_trust
from kephs.cli.run.signer_child import signer_beside

async def main():
    home = Path(sys.argv[1])
    async with signer_beside(home, lambda: open_trust(load(home))):
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def test_it_ends_with_its_parent_however_that_ends(instance):
    with subprocess.Popen(
        [sys.executable, "-P", "-c", _PARENT, instance.home], stdout=subprocess.PIPE
    ) as parent:  # fmt: skip
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        (child,) = signers(parent.pid)
        parent.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs([child], timeout=20)
        assert alive == []


@contextmanager
def changed_settings(home: Path, old: str, new: str) -> Iterator[None]:
    path = home / FILE_NAME
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    try:
        yield
    finally:
        path.write_text(text)


async def test_a_signer_that_cannot_start_says_why_and_leaves_nothing_behind(instance, capfd):
    with (
        changed_settings(instance.home, "keys/transaction", "keys/none"),
        pytest.raises(SettingsError, match="did not start"),
    ):
        async with beside(instance.home):
            pytest.fail("it started")
    assert "transaction certificate" in capfd.readouterr().err
    assert signers() == []


async def test_a_signer_that_cannot_be_replaced_is_tried_again(instance):
    async with beside(instance.home, first_pause=0.01) as sealer:
        (child,) = signers()
        with changed_settings(instance.home, "keys/transaction", "keys/none"):
            child.kill()
            while len(await asked(sealer, instance)) == 1:  # until its end is seen
                pass
        await served(sealer, instance)


async def served(sealer, instance):
    """Wait until a signer answers: on a busy machine it may start for longer than a call waits for it."""
    while not await asked(sealer, instance):
        pass


async def asked(sealer, instance):
    outcome = await _outcome(sealer.seal_many([about_now(instance)]))
    return [] if isinstance(outcome, SignerUnavailableError) else outcome


@pytest.fixture
def token(instance) -> Iterator[SoftHsm]:
    """The instance's key moved to a token."""
    hsm, path = empty_hsm(), instance.home / FILE_NAME
    if not hsm.has(TOKEN):
        hsm.add_token(TOKEN)
        hsm.add_key_file(instance.settings.seal.key, "seal", "c1", TOKEN)
    text, kept = path.read_text(), instance.settings.seal.key.with_suffix(".kept")
    hsm.pin_file.write_text(PIN)
    values = tomllib.loads(text)
    values["seal"] |= {
        "pkcs11_module": str(MODULE), "pkcs11_token": TOKEN, "pkcs11_key": "seal", "pin_file": str(hsm.pin_file),
    }  # fmt: skip
    save(instance.home, values)
    instance.settings.seal.key.rename(kept)
    yield hsm
    kept.rename(instance.settings.seal.key)
    path.write_text(text)


@pytest.mark.tools
async def test_a_key_on_a_token_seals_and_a_killed_signer_logs_in_again(instance, token):
    async with beside(instance.home, first_pause=0) as sealer:
        assert len(await asked(sealer, instance)) == 1
        signers()[0].kill()
        while await asked(sealer, instance):  # until its end is seen
            pass
        await served(sealer, instance)
        sealed = await sealer.seal_many([about_now(instance, n) for n in range(20)])
    trust, now = open_trust(instance.settings), datetime.now(UTC)
    assert all(verify_evidence(one.xml, trust, now, POLICY, ers=one.ers).passed for one in sealed)


@pytest.mark.tools
async def test_a_wrong_pin_reaches_the_token_once_however_often_the_server_starts(instance, token, capfd):
    token.pin_file.write_text("00000")
    for text in ("refuses the PIN", "refused this PIN before", "refused this PIN before"):
        with pytest.raises(SettingsError, match="did not start"):
            async with beside(instance.home):
                pytest.fail("it started")
        said = capfd.readouterr().err
        assert text in said
        assert "00000" not in said


def run(*arguments, **options):
    program = "from kephs.cli.run.signer import command; command(prog_name='kephs signer')"
    return subprocess.run(
        [sys.executable, "-P", "-c", program, *map(str, arguments)],
        capture_output=True, text=True, timeout=30, check=False, **options,
    )  # fmt: skip


def test_it_talks_to_nobody_but_a_parent(instance):
    assert load(instance.home)
    read, write = os.pipe()
    for given in (subprocess.DEVNULL, read):
        done = run(instance.home, "--with-parent", stdin=given)
        assert done.returncode == 1
        assert "no socket" in done.stderr
        assert "Traceback" not in done.stderr
    os.close(read)
    os.close(write)
    assert run(instance.home).returncode == 2


async def test_a_signer_that_is_to_believe_others_is_replaced_and_what_it_was_asked_is_answered(instance):
    renewed, told, settled = asyncio.Event(), [], []

    def trusted():
        told.append(open_trust(instance.settings))
        return told[-1]

    async with signer_beside(instance.home, trusted, renewed=renewed, settle=settled.append) as sealer:
        (before,) = signers()
        calls = [asyncio.ensure_future(sealer.seal_many([about_now(instance, n)])) for n in range(5)]
        await asyncio.sleep(0)
        renewed.set()
        assert all(len(made) == 1 for made in await asyncio.gather(*calls))
        await asyncio.to_thread(before.wait, 20)
        async with asyncio.timeout(20):
            while True:  # a call at that very moment is told to come again, as when the signer dies
                try:
                    assert len(await sealer.seal_many([about_now(instance, 9)])) == 1
                    break
                except SignerUnavailableError:
                    continue
        (after,) = signers()
    assert before.pid != after.pid
    assert len(told) == 2
    assert settled == [before.pid, after.pid]  # each is sent to its processors
