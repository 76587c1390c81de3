"""The process of a token: many callers, its death, its parent's death, signals, what it is given."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import psutil
import pytest

from evidence.adapters.soft_signer import KeyMaterialError
from evidence.ports import SignerUnavailableError
from kephs.testpki.issued import to_pem
from tests.support.softhsm import MODULE, PIN, TOKEN
from tests.support.token_signer import (
    DIGESTS,
    PATIENCE,
    Clock,
    filled_hsm,
    gone,
    outcome,
    signer_of,
    transaction,
    verify,
)

pytestmark = pytest.mark.tools


@pytest.fixture
def hsm():
    """The store, with the PIN that is right."""
    found = filled_hsm()
    found.pin_file.write_text(PIN + "\n")
    return found


async def test_a_thousand_callers_at_once_each_have_their_own(hsm):
    digests = [sha256(n.to_bytes(2)).digest() for n in range(1000)]
    with closing(signer_of(hsm)) as signer:
        answers = await asyncio.gather(*[signer.sign_many([digest]) for digest in digests])
    for (signature,), digest in zip(answers, digests, strict=True):
        verify(transaction(), signature, digest)


async def test_a_process_killed_amid_a_batch_answers_each_caller_rightly_or_not_at_all(hsm):
    clock = Clock()
    with closing(signer_of(hsm, timer=clock)) as signer:
        first = signer.pid
        calls = [asyncio.ensure_future(outcome(signer.sign_many(DIGESTS[n:]))) for n in range(60)]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        os.kill(first, signal.SIGKILL)
        outcomes = await asyncio.gather(*calls)
        failed = [isinstance(one, SignerUnavailableError) for one in outcomes]
        assert not failed[0]
        assert failed == sorted(failed), "in order: who came first was served first"
        assert failed[-1]
        for n, one in enumerate(outcomes):
            if not failed[n]:
                assert len(one) == len(DIGESTS) - n
                for signature, digest in zip(one, DIGESTS[n:], strict=True):
                    verify(transaction(), signature, digest)
        await asyncio.to_thread(gone, first)  # it was waited for
        with pytest.raises(SignerUnavailableError, match="is away"):
            await signer.sign_many(DIGESTS[:1])
        clock.now += 2
        verify(transaction(), (await signer.sign_many(DIGESTS[:1]))[0], DIGESTS[0])
        assert signer.pid != first


async def test_it_heeds_no_signal_that_asks_it_to_end(hsm):
    with closing(signer_of(hsm)) as signer:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(signer.pid, number)
        verify(transaction(), (await signer.sign_many(DIGESTS[:1]))[0], DIGESTS[0])


async def test_a_process_that_hangs_is_killed_on_closing(hsm):
    signer = signer_of(hsm)
    pid = signer.pid
    os.kill(pid, signal.SIGSTOP)
    asking = asyncio.ensure_future(outcome(signer.sign_many(DIGESTS)))
    await asyncio.sleep(0)
    signer.close()
    assert "closed" in str(await asking)
    gone(pid)


def test_closing_lets_the_process_end(hsm):
    signer = signer_of(hsm)
    pid = signer.pid
    signer.close()
    assert signer.pid is None
    assert not psutil.pid_exists(pid)


def test_after_a_refusal_no_process_is_left(hsm):
    before = set(psutil.Process().children())
    with pytest.raises(KeyMaterialError):
        signer_of(hsm, key_label="none")
    assert set(psutil.Process().children()) == before


def test_the_pin_is_in_no_argument_and_no_variable_and_no_file_of_ours_is_open_there(hsm):
    with closing(signer_of(hsm)) as signer:
        proc = Path(f"/proc/{signer.pid}")
        for name in ("cmdline", "environ"):
            assert PIN.encode() not in (proc / name).read_bytes()
        opened = [str(one.readlink()) for one in (proc / "fd").iterdir()]
        assert not any(str(hsm.pin_file) in name for name in opened)
        assert sum(name.startswith("socket:") for name in opened) == 1
        assert MODULE.name in (proc / "maps").read_text()


_PARENT = """
import sys, threading
from pathlib import Path
from evidence.adapters.pkcs11_signer import Pkcs11Signer
from evidence.adapters.pkcs11_token import TokenPlace
module, label, pin, key, certificate = sys.argv[1:]
signer = Pkcs11Signer.from_pem(TokenPlace(Path(module), label, Path(pin), key), Path(certificate))
print(signer.pid, flush=True)
threading.Event().wait()
"""


@pytest.mark.parametrize("stopped", [False, True], ids=["idle", "stopped"])
def test_a_process_does_not_outlive_a_parent_that_was_killed(hsm, tmp_path, stopped):
    certificate = tmp_path / "certificate.pem"
    certificate.write_bytes(to_pem((transaction().certificate,)))
    place = hsm.place()
    with subprocess.Popen(
        [sys.executable, "-P", "-c", _PARENT, MODULE, TOKEN, place.pin_file, "seal", certificate],
        stdout=subprocess.PIPE, text=True,
    ) as parent:  # fmt: skip
        pid = int(parent.stdout.readline())
        if stopped:
            os.kill(pid, signal.SIGSTOP)
        parent.kill()
    if stopped:
        os.kill(pid, signal.SIGCONT)
    gone(pid)


def test_the_program_speaks_to_a_socket_only():
    program = "from evidence.adapters.pkcs11_child import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no socket" in done.stderr
    assert "Traceback" not in done.stderr
