"""An instance whose key lies on a token: SoftHSM, through its own PKCS#11 module, as a provider's HSM would."""

import fcntl
import json
import shutil
import smtplib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from config import settings as config_settings
from evidence.ports import BytesSource
from evidence.verify.message import check_kep_message
from kephs.cli.instance import free_port
from tests.functional.registered import set_values
from tests.functional.site import Answer, Done, Site, compose, kephs_process, now, sign, until
from tests.support.softhsm import MODULE, PIN, SoftHsm, empty_hsm

pytestmark = [pytest.mark.slow, pytest.mark.tools, pytest.mark.timeout(180)]
TOKEN = "kephs-instance"
EMPTY = "kephs-instance-empty"
CROWD = 4


@pytest.fixture(scope="module")
def hsm() -> SoftHsm:
    made = empty_hsm()
    for label in (TOKEN, EMPTY):
        if not made.has(label):
            made.add_token(label)
    return made


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, hsm: SoftHsm) -> Iterator[Site]:
    """A running instance; its key was moved to the token, no file holds it any more."""
    made = Site(tmp_path_factory.mktemp("pkcs11") / "hs91")
    try:
        ayse = made.with_core(lambda core: made.open(core, "ayse", "Ayşe Yılmaz"))
        mehmet = made.with_core(lambda core: made.open(core, "mehmet", "Mehmet Demir"))
        made.who = SimpleNamespace(ayse=ayse, mehmet=mehmet)
        hsm.add_key_file(made.settings.seal.key, "seal", "e1", TOKEN)
        stranger = made.pki.issue_transaction("hs92.kep.tr", "TEST").write(made.home / "keys", "stranger")
        hsm.add_key_file(stranger.key, "another", "e2", TOKEN)
        made.settings.seal.key.unlink()
        pin = made.home / "keys" / "pin"
        pin.write_text(PIN + "\n")
        pin.chmod(0o600)
        set_values(made.home, "seal", pkcs11_module=str(MODULE), pkcs11_token=TOKEN, pkcs11_key="seal")
        made.settings = config_settings.load(made.home)
        made.start()
        yield made
        made.stop()
    finally:
        made.close()


@pytest.fixture
def copy(site: Site, tmp_path: Path) -> Path:
    """A copy of the instance that could start beside it."""
    home = tmp_path / "copy"
    shutil.copytree(site.home, home, ignore=shutil.ignore_patterns("run", "clamd", "blobs"))
    (home / "data" / "blobs").mkdir(mode=0o700)
    set_values(home, "network", submission_port=free_port(), inbound_port=free_port(), imap_port=free_port())
    set_values(home, "ledger", port=0)
    set_values(home, "test_pki", port=0)
    return home


def send(site: Site) -> Answer:
    ayse, mehmet = site.who.ayse, site.who.mehmet
    return site.submit(ayse, sign(compose(ayse.address, mehmet.address), ayse.issued), [mehmet.address])


def send_until(site: Site, code: int) -> Answer:
    """Send one message after the other until one is answered so."""
    answers: list[Answer] = []

    def answered() -> bool:
        answers.append(send(site))
        return answers[-1].code == code

    until(answered, f"a message that is answered with {code}")
    return answers[-1]


def signer(site: Site) -> psutil.Process:
    (found,) = (one for one in site.server.children() if "kephs.cli.run.signer" in " ".join(one.cmdline()))
    return found


def token_process(site: Site) -> psutil.Process:
    (found,) = signer(site).children()
    return found


def holds_module(process: psutil.Process) -> bool:
    return MODULE.name in Path(f"/proc/{process.pid}/maps").read_text()


def check(site: Site, answer: Answer) -> None:
    """Read the receipt of an acceptance as its sender does."""
    assert answer.code == 250, answer
    assert answer.evidence_id
    with site.imap(site.who.ayse, "Deliller") as client:
        uid = site.find(client, "X-REM-Evidence-Identifier", answer.evidence_id)
        receipt = site.fetch(client, uid, "BODY.PEEK[]")
    found = check_kep_message(BytesSource(receipt), site.trust, now())
    assert found.passed, found.report.failing_step
    assert found.evidences[0].stamped_at is not None


# --------------------------------------------------------------------------- it works


def test_a_process_of_the_signer_alone_holds_the_token_and_what_is_sealed_is_evidence(site: Site):
    answer = send(site)
    check(site, answer)
    site.wait_evidence(answer.message_id, 40)
    assert holds_module(token_process(site))
    assert not holds_module(signer(site))
    assert not holds_module(site.server)


def ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_signer_that_is_killed_signs_in_again(site: Site):
    first, token = signer(site), token_process(site)
    first.kill()
    for process in (first, token):
        until(partial(ended, process), "its end")
    check(site, send_until(site, 250))
    assert signer(site).pid != first.pid


def test_a_tokens_process_that_is_killed_is_replaced_by_the_same_signer(site: Site):
    first, token = signer(site), token_process(site)
    token.kill()
    until(partial(ended, token), "its end")
    check(site, send_until(site, 250))
    assert signer(site).pid == first.pid
    assert token_process(site).pid != token.pid


def test_a_token_that_was_away_is_used_again_without_a_restart(site: Site, hsm: SoftHsm):
    assert send(site).code == 250
    child, token = signer(site), token_process(site)
    tokens, away = hsm.folder / "tokens", hsm.folder / "tokens-away"
    tokens.rename(away)
    tokens.mkdir()
    try:
        assert send_until(site, 451).stable_code == "sealing-unavailable"
    finally:
        tokens.rmdir()
        away.rename(tokens)
    check(site, send_until(site, 250))
    assert signer(site).pid == child.pid
    assert token_process(site).pid == token.pid


@contextmanager
def hanging(hsm: SoftHsm) -> Iterator[None]:
    """Hold what SoftHSM locks while it reads a key: its calls come back when the block ends."""
    with ExitStack() as stack:
        for path in (hsm.folder / "tokens").rglob("*"):
            if path.is_file():
                fcntl.lockf(stack.enter_context(path.open("r+b")), fcntl.LOCK_EX)
        yield


def hangs(process: psutil.Process) -> bool:
    """Say whether a process waits for a lock."""
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return any(words[1] == "->" and str(process.pid) in words for words in lines)


def test_a_signer_whose_token_hangs_does_not_outlive_a_killed_server(site: Site, hsm: SoftHsm):
    child, token, server = signer(site), token_process(site), site._server
    assert server is not None
    with ThreadPoolExecutor(1) as pool, hanging(hsm):
        asking = pool.submit(send, site)
        until(lambda: hangs(token), "a call that does not come back")
        server.kill()
        server.wait()
        assert isinstance(asking.exception(), smtplib.SMTPException | OSError)
        for process in (child, token):
            until(partial(ended, process), "its end")
    site.start()
    check(site, send(site))


def test_a_bundle_is_made_beside_the_running_server_while_it_seals(site: Site, tmp_path: Path):
    answer = send(site)
    check(site, answer)
    site.wait_evidence(answer.message_id, 40)
    with ThreadPoolExecutor(CROWD) as pool:
        more = [pool.submit(send, site) for _ in range(CROWD)]
        kephs_process("bundle", site.home, answer.message_id, tmp_path / "b.kepdelil")
        assert {one.result().code for one in more} == {250}
    kephs_process("verify", tmp_path / "b.kepdelil", "--trust", site.home / "trust")
    check(site, send(site))


def test_a_second_server_may_use_the_same_token(site: Site, copy: Path):
    set_values(copy, "provider", legal_name="TEST Ikinci kopya")
    second = Site.__new__(Site)
    second.home, second._clamd, second._server = copy, None, None
    second.settings = config_settings.load(copy)
    (copy / "run").mkdir(mode=0o700)
    try:
        second.start()
        assert holds_module(token_process(second))
        check(site, send(site))
        second.stop()
    finally:
        second.close()
    check(site, send(site))


def test_doctor_finds_nothing_wrong(site: Site):
    done = kephs_process("doctor", site.home, "--json", ok=False)
    found = json.loads(done.stdout)["findings"]
    assert [one for one in found if one["level"] == "error"] == []
    (device,) = (one for one in found if one["code"] == "key-device")
    assert device["level"] == "ok"
    assert TOKEN in device["text"]
    assert done.returncode == 0


# --------------------------------------------------------------------------- it does not work, and says why


def _wrong_pin(home: Path) -> None:
    (home / "keys" / "pin").write_text("00000\n")


def _pin_for_all(home: Path) -> None:
    (home / "keys" / "pin").chmod(0o644)


def _no_pin(home: Path) -> None:
    (home / "keys" / "pin").unlink()


def _no_module(home: Path) -> None:
    set_values(home, "seal", pkcs11_module="/nowhere/libnone.so")


def _no_library(home: Path) -> None:
    set_values(home, "seal", pkcs11_module=str(home / "kephs.toml"))


def _no_token(home: Path) -> None:
    set_values(home, "seal", pkcs11_token="kephs-none")


def _no_key(home: Path) -> None:
    set_values(home, "seal", pkcs11_key="none")


def _empty_token(home: Path) -> None:
    set_values(home, "seal", pkcs11_token=EMPTY)


def _another_key(home: Path) -> None:
    set_values(home, "seal", pkcs11_key="another")


def _no_label(home: Path) -> None:
    set_values(home, "seal", pkcs11_key="")


SPOILED = [
    (_wrong_pin, "refuses the PIN"),
    (_pin_for_all, "chmod 600"),
    (_no_pin, "the PIN's file cannot be read"),
    (_no_module, "no PKCS#11 module /nowhere/libnone.so"),
    (_no_library, "kephs.toml"),
    (_no_token, "kephs-none"),
    (_no_key, "no such keys"),
    (_empty_token, "no such keys"),
    (_another_key, "the certificate is not that of the key"),
    (_no_label, "label or id"),
]
each_spoiled = pytest.mark.parametrize(
    ("spoil", "said"), SPOILED, ids=[spoil.__name__[1:] for spoil, _ in SPOILED]
)


@each_spoiled
def test_doctor_names_what_is_wrong_in_one_sentence_with_a_cure(
    site: Site, copy: Path, spoil: Callable[[Path], None], said: str
):
    spoil(copy)
    done = kephs_process("doctor", copy, "--json", "--no-network", ok=False)
    assert done.returncode == 1
    (device,) = (one for one in json.loads(done.stdout)["findings"] if one["code"] == "key-device")
    assert device["level"] == "error"
    assert said in device["text"]
    assert "\n" not in device["text"]
    assert " / " in device["cure"], "in English and Turkish"
    assert "00000" not in done.stdout + done.stderr


def test_serve_and_bundle_end_with_the_same_words(site: Site, copy: Path, tmp_path: Path):
    _no_token(copy)
    told(kephs_process("serve", copy, ok=False), "kephs-none")
    told(kephs_process("bundle", copy, "anything", tmp_path / "b.kepdelil", ok=False), "kephs-none")
    assert not (tmp_path / "b.kepdelil").exists()


def told(done: Done, said: str) -> None:
    assert done.returncode == 1
    assert said in done.stderr, done.stderr
    assert "seal in kephs.toml" in done.stderr
    assert "serve.ready" not in done.stderr
    assert "00000" not in done.stderr


def test_a_wrong_pin_is_tried_once_however_often_somebody_starts_and_the_right_one_heals(
    site: Site, copy: Path
):
    _wrong_pin(copy)
    told(kephs_process("serve", copy, ok=False), "refuses the PIN")
    told(kephs_process("serve", copy, ok=False), "refused this PIN before")
    level, text = device_of(copy)
    assert (level, "refused this PIN before" in text) == ("error", True)
    (copy / "keys" / "pin").write_text(PIN + "\n")
    assert device_of(copy)[0] == "ok"


def device_of(home: Path) -> tuple[str, str]:
    """Return level and text of what doctor says about the key's device."""
    done = kephs_process("doctor", home, "--json", "--no-network", ok=False)
    (device,) = (one for one in json.loads(done.stdout)["findings"] if one["code"] == "key-device")
    return device["level"], device["text"]
