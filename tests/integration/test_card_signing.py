"""`kephs sign --pkcs11`: a holder's card, driven through SoftHSM's own module."""

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pkcs11
import pytest
from pkcs11 import TokenFlag

from evidence.adapters.card_signer import CardSigner
from evidence.adapters.pkcs11_card import CardError, CardFault, certificates_of, find_token, load_module
from evidence.mail.mime import scan
from evidence.mail.smime import locate, read_signed
from evidence.nes.verifier import conclude, prepare
from evidence.ports import BytesSource, SignerUnavailableError
from evidence.x509.chain import TrustStore
from kephs.cli.sign import card as sign_card
from kephs.system import SystemClock
from kephs.testpki.issued import to_pem
from kephs.testpki.profiles import make_tckn
from tests.support.cards import PLAIN, WRONG, Cards, CountingToken, holder, pki, run_sign, with_card
from tests.support.softhsm import MODULE, PIN

pytestmark = pytest.mark.tools


@pytest.fixture(scope="module")
def cards() -> Iterator[Cards]:
    """Cards of one certificate each, of several, of none, without a key."""
    made = Cards()
    for kind in ("p256", "p384", "p521", "rsa2048", "pss"):
        made.add(f"card-{kind}")
        made.put(f"card-{kind}", holder(kind), b"\x01", issuers=True)
    made.add("card-empty")
    made.add("card-keyless")
    made.put("card-keyless", holder("p256"), b"\x01", key=False)
    made.add("card-full")
    made.put("card-full", pki().issue_user("Giris", make_tckn(50), qualified=False), b"\x01")
    made.put("card-full", holder("p256"), b"\x02", issuers=True)
    made.put("card-full", holder("rsa2048"), b"\x03")
    made.add("card-always")
    made.put("card-always", holder("p384"), b"\x01", always=True)
    yield made
    made.restart()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in.eml").write_text(PLAIN)
    for name, text in (("pin", PIN), ("wrong", WRONG)):
        (tmp_path / name).write_text(text + "\n")
        (tmp_path / name).chmod(0o600)
    return tmp_path


def in_out(folder: Path) -> tuple[Path, Path]:
    return folder / "in.eml", folder / "out.eml"


def count_logins(monkeypatch: pytest.MonkeyPatch) -> list[CountingToken]:
    """Let the command work with a token that counts."""
    used: list[CountingToken] = []

    def counted(*arguments, **named):
        used.append(CountingToken(find_token(*arguments, **named)))
        return used[-1]

    monkeypatch.setattr(sign_card, "find_token", counted)
    return used


def steps_of(message: bytes) -> dict[str, bool | None]:
    at = SystemClock().now()
    trust = TrustStore([pki().root], intermediates=pki().intermediates)
    source = BytesSource(message)
    report = conclude(prepare(source, scan(source), trust=trust, at=at), {}, at)
    return {step.number: step.ok for step in report.report.steps}


# --------------------------------------------------------------------------- signing


@pytest.mark.parametrize("kind", ["p256", "p384", "p521", "rsa2048", "pss"])
def test_a_message_signed_with_a_card_holds(cards: Cards, folder: Path, kind: str):
    result = with_card(f"card-{kind}", *in_out(folder))
    assert result.exit_code == 0, result.output
    message = (folder / "out.eml").read_bytes()
    steps = steps_of(message)
    assert steps["1"]
    assert [number for number, ok in steps.items() if number.startswith("3.") and ok is False] == []
    source = BytesSource(message)
    embedded = set(read_signed(locate(source, scan(source))).certificates)
    assert embedded == {holder(kind).certificate, *holder(kind).chain}


def test_the_chain_can_come_from_a_file(cards: Cards, folder: Path):
    (folder / "chain.pem").write_bytes(to_pem((*holder("p384").chain, pki().root)))
    done = with_card("card-always", *in_out(folder), "--chain", folder / "chain.pem")
    assert done.exit_code == 0, done.output
    source = BytesSource((folder / "out.eml").read_bytes())
    embedded = set(read_signed(locate(source, scan(source))).certificates)
    assert embedded == {holder("p384").certificate, *holder("p384").chain}, "the root stays out"


def test_a_key_that_wants_the_pin_at_each_signature_asks_the_person_once(
    cards: Cards, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    used = count_logins(monkeypatch)
    files = [folder / f"{number}.eml" for number in range(5)]
    for file in files:
        file.write_text(PLAIN)
    done = with_card("card-always", "--out-dir", folder / "out", *files)
    assert done.exit_code == 0, done.output
    assert used[0].logins == 1
    assert all(steps_of((folder / "out" / file.name).read_bytes())["3.1.4"] for file in files)


def test_of_several_certificates_the_one_to_use_is_named(cards: Cards, folder: Path):
    refused = with_card("card-full", *in_out(folder), typed=None)
    assert refused.exit_code == 1
    assert "[certificates-several]" in refused.stderr
    assert "TEST Giris" not in refused.stderr, "what is not qualified is no choice"
    prints = re.findall(r"fingerprint ([0-9a-f]{16})", refused.stderr)
    assert len(prints) == 2
    assert not (folder / "out.eml").exists()
    assert with_card("card-full", *in_out(folder), "--certificate", prints[0]).exit_code == 0
    assert with_card("card-full", *in_out(folder), "--force", "--certificate", "kart RSA2048").exit_code == 0
    source = BytesSource((folder / "out.eml").read_bytes())
    assert holder("rsa2048").certificate in read_signed(locate(source, scan(source))).certificates
    unknown = with_card("card-full", *in_out(folder), "--certificate", "Kart nobody", typed=None)
    assert "[certificate-unknown]" in unknown.stderr


def test_the_qualified_certificate_comes_before_another(cards: Cards, folder: Path):
    cards.add("card-two")
    cards.put("card-two", pki().issue_user("Giris", make_tckn(51), non_repudiation=False), b"\x01")
    now = SystemClock().now()
    past = pki().issue_user(
        "Eski", make_tckn(52), not_before=now - timedelta(days=9), not_after=now - timedelta(days=1)
    )
    cards.put("card-two", past, b"\x02")
    assert "[certificate-expired]" in with_card("card-two", *in_out(folder), typed=None).stderr
    cards.put("card-two", holder("p256"), b"\x03")
    assert with_card("card-two", *in_out(folder)).exit_code == 0
    source = BytesSource((folder / "out.eml").read_bytes())
    assert holder("p256").certificate in read_signed(locate(source, scan(source))).certificates


def test_a_seal_is_taken_only_where_there_is_no_persons_certificate(cards: Cards, folder: Path):
    cards.add("card-seal")
    seal = pki().issue_user("Kurum", make_tckn(53), seal=True, organization="Kurum AS")
    cards.put("card-seal", seal, b"\x01")
    assert with_card("card-seal", *in_out(folder)).exit_code == 0
    source = BytesSource((folder / "out.eml").read_bytes())
    assert read_signed(locate(source, scan(source))).certificates == (seal.certificate,)
    cards.put("card-seal", holder("p256"), b"\x02")
    assert with_card("card-seal", "--force", *in_out(folder)).exit_code == 0
    source = BytesSource((folder / "out.eml").read_bytes())
    assert holder("p256").certificate in read_signed(locate(source, scan(source))).certificates


def test_many_files_need_one_pin_and_a_bad_one_stops_no_other(
    cards: Cards, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    used = count_logins(monkeypatch)
    files = [folder / f"{number}.eml" for number in range(12)]
    for file in files:
        file.write_text(PLAIN)
    files[5].write_bytes(b"no header at all")
    done = with_card("card-p256", "--json", "--out-dir", folder / "out", *files)
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert (told["signed"], told["failed"]) == (11, 1)
    assert [one["ok"] for one in told["files"]] == [number != 5 for number in range(12)]
    assert told["files"][5]["code"] == "unsignable"
    assert sorted(path.name for path in (folder / "out").iterdir()) == sorted(
        file.name for file in files if file is not files[5]
    )
    assert [token.logins for token in used] == [1]


# --------------------------------------------------------------------------- the PIN


def test_a_wrong_pin_is_entered_once_and_what_is_left_is_told(
    cards: Cards, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    used = count_logins(monkeypatch)
    files = [folder / "in.eml", folder / "pin"]
    done = with_card("card-p384", "--out-dir", folder / "out", *files, typed=f"{WRONG}\n{WRONG}\n{PIN}\n")
    assert done.exit_code == 1
    assert "[pin-wrong]" in done.stderr
    assert "at least two tries are left" in done.stderr
    assert "PIN yanlış" in done.stderr
    assert [token.logins for token in used] == [1]
    right = with_card("card-p384", *in_out(folder))
    assert right.exit_code == 0
    assert "entered before" in right.stderr, "the person is warned that a wrong PIN was entered"


def test_a_pin_from_a_file_that_was_refused_is_not_tried_by_the_next_run(
    cards: Cards, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    used = count_logins(monkeypatch)
    first = with_card("card-p256", *in_out(folder), "--pin-file", folder / "wrong", typed=None)
    assert "[pin-wrong]" in first.stderr
    for _ in range(2):
        next_run = with_card("card-p256", *in_out(folder), "--pin-file", folder / "wrong", typed=None)
        assert "[pin-refused-before]" in next_run.stderr
    assert [token.logins for token in used] == [1, 0, 0]
    (folder / "wrong").write_text(PIN + "\n")
    assert with_card("card-p256", *in_out(folder), "--pin-file", folder / "wrong", typed=None).exit_code == 0
    assert not (folder / "wrong.refused").exists()


def test_without_a_terminal_and_a_pin_file_nothing_is_tried(
    cards: Cards, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    used = count_logins(monkeypatch)
    done = with_card("card-p256", *in_out(folder), typed="")
    assert (done.exit_code, "[pin-needed]" in done.stderr) == (1, True)
    assert [token.logins for token in used] == [0]


def test_a_pin_file_that_all_may_read_is_refused(cards: Cards, folder: Path):
    (folder / "pin").chmod(0o644)
    done = with_card("card-p256", *in_out(folder), "--pin-file", folder / "pin", typed=None)
    assert "[pin-file]" in done.stderr
    assert "chmod 600" in done.stderr


def test_a_locked_card_is_not_asked_at_all(cards: Cards, folder: Path, monkeypatch: pytest.MonkeyPatch):
    cards.add("card-locked")
    cards.put("card-locked", holder("p256"), b"\x01")
    cards.claim("card-locked", TokenFlag.USER_PIN_LOCKED)
    used = count_logins(monkeypatch)
    done = with_card(
        "card-locked", *in_out(folder), "--pin-file", folder / "pin", "--use-last-try", typed=None
    )
    assert done.exit_code == 1
    assert "[pin-locked]" in done.stderr
    assert "PUK" in done.stderr
    assert used[0].logins == 0


def test_the_last_try_is_used_only_where_the_person_says_so(
    cards: Cards, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    cards.add("card-last")
    cards.put("card-last", holder("p256"), b"\x01")
    cards.claim("card-last", TokenFlag.USER_PIN_COUNT_LOW, TokenFlag.USER_PIN_FINAL_TRY)
    used = count_logins(monkeypatch)
    for more in ((), ("--pin-file", folder / "pin")):
        done = with_card("card-last", *in_out(folder), *more)
        assert "[pin-last-try]" in done.stderr
    assert [token.logins for token in used] == [0, 0]
    done = with_card("card-last", *in_out(folder), "--use-last-try")
    assert done.exit_code == 0, done.output
    assert "Son deneme" in done.stderr
    assert used[2].logins == 1


def test_the_pin_is_typed_once_without_echo_and_the_terminal_sees_how_far_it_is(cards: Cards, folder: Path):
    master, slave = pty.openpty()
    (folder / "second.eml").write_text(PLAIN)
    program = [Path(sys.executable).parent / "kephs", "sign", "--out-dir", folder / "out"]
    child = subprocess.Popen(
        [
            *map(str, program), "--pkcs11", str(MODULE), "--token", "card-p256",
            str(folder / "in.eml"), str(folder / "second.eml"),
        ],
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    shown = b""
    while b"PIN (card-p256)" not in shown:
        shown += os.read(master, 1024)
    os.write(master, PIN.encode() + b"\n")
    while b"[2/2]" not in shown:
        shown += os.read(master, 1024)
    assert child.wait(60) == 0
    os.close(master)
    assert PIN.encode() not in shown
    assert shown.count(b"PIN (") == 1
    assert b"[1/2] in.eml: ok" in shown
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["in.eml", "second.eml"]


# --------------------------------------------------------------------------- the card


@pytest.mark.parametrize(
    ("label", "code"),
    [("card-empty", "no-certificate"), ("card-keyless", "key-missing"), ("card-none", "card-unknown")],
)
def test_what_the_card_lacks_is_named_with_a_cure_in_both_languages(
    cards: Cards, folder: Path, label: str, code: str
):
    done = with_card(label, *in_out(folder))
    assert done.exit_code == 1
    assert f"[{code}]" in done.stderr
    assert " / " in done.stderr.splitlines()[-1]
    assert not (folder / "out.eml").exists()


def test_of_several_cards_one_is_named_by_label_or_slot(cards: Cards, folder: Path):
    several = run_sign("--pkcs11", MODULE, *in_out(folder))
    assert "[cards-several]" in several.stderr
    slot = cards.token("card-p256").slot.slot_id
    assert run_sign("--pkcs11", MODULE, "--slot", slot, *in_out(folder), typed=PIN + "\n").exit_code == 0
    nowhere = run_sign("--pkcs11", MODULE, "--slot", 4_000_000_000, *in_out(folder))
    assert "[card-unknown]" in nowhere.stderr


async def test_after_a_failure_nothing_more_is_asked_of_the_card(cards: Cards):
    token = cards.token("card-p256")
    one = next(each for each in certificates_of(token) if not each.facts.extensions.is_ca)
    signer = CardSigner(token, one, (), PIN)
    signer._session.close()
    for _ in range(2):
        with pytest.raises(SignerUnavailableError, match="does not sign"):
            await signer.sign_many([b"x" * 32])
    with pytest.raises(ValueError, match="32"):
        await signer.sign_many([b"x"])
    signer.close()


async def test_a_key_of_another_certificate_signs_nothing(cards: Cards):
    cards.add("card-mixed")
    cards.put("card-mixed", holder("p256"), b"\x01", key=False)
    cards.put("card-mixed", pki().issue_user("Baska", make_tckn(60)), b"\x01", certificate=False)
    token = cards.token("card-mixed")
    (one,) = certificates_of(token)
    signer = CardSigner(token, one, (), PIN)
    with pytest.raises(SignerUnavailableError, match="not that of the certificate"):
        await signer.sign_many([b"x" * 32])
    signer.close()


def test_a_certificate_of_several_keys_is_not_guessed(cards: Cards):
    cards.add("card-twins")
    cards.put("card-twins", holder("p256"), b"\x01")
    cards.put("card-twins", pki().issue_user("Baska", make_tckn(61)), b"\x01", certificate=False)
    token = cards.token("card-twins")
    (one,) = certificates_of(token)
    with pytest.raises(CardError, match="2 keys") as caught:
        CardSigner(token, one, (), PIN)
    assert caught.value.fault is CardFault.KEY_MISSING


# --------------------------------------------------------------------------- the driver


def _elf(machine: int) -> bytes:
    return b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00" + machine.to_bytes(2, "little") + bytes(100)


@pytest.mark.parametrize(
    ("content", "code", "word"),
    [
        (None, "module-missing", "no PKCS#11 module"),
        (b"just text", "module-foreign", "no program library"),
        (_elf(0x03), "module-foreign", "x86, 32 bit"),
        (b"MZ" + bytes(200), "module-foreign", "Windows"),
        (bytes.fromhex("cffaedfe") + bytes(200), "module-foreign", "macOS"),
    ],
    ids=["missing", "text", "32 bit", "Windows", "macOS"],
)
def test_a_driver_that_cannot_be_loaded_is_told_as_what_it_is(
    folder: Path, content: bytes | None, code: str, word: str
):
    module = folder / "driver.so"
    if content is not None:
        module.write_bytes(content)
    for more in ((*in_out(folder),), ("--diagnose",)):
        done = with_card("any", *more, module=module)
        assert done.exit_code == 1
        assert code in done.output
        assert word in done.output
        assert "Traceback" not in done.output


def test_a_library_that_is_no_driver_is_told_as_such():
    with pytest.raises(CardError, match="cannot be used as a PKCS#11 module") as caught:
        load_module(Path(pkcs11._pkcs11.__file__))
    assert caught.value.fault is CardFault.MODULE_INVALID


# --------------------------------------------------------------------------- --diagnose


def diagnose(label: str, *more: object) -> tuple[int, dict[str, str]]:
    done = with_card(label, "--diagnose", "--json", *more, typed=None)
    found = json.loads(done.stdout)["findings"]
    assert all(bool(one["cure"]) == (one["level"] != "ok") for one in found)
    assert all(" / " in one["cure"] for one in found if one["cure"])
    return done.exit_code, {one["code"]: one["level"] for one in found}


def test_a_good_card_is_looked_at_without_its_pin(cards: Cards, monkeypatch: pytest.MonkeyPatch):
    code, levels = diagnose("card-p521")
    assert code == 0
    assert {name for name, level in levels.items() if level != "ok"} == {"revocation", "clock", "key-hidden"}
    assert {"driver", "card", "pin", "certificate", "validity", "qualified", "chain"} <= set(levels)
    assert "pin-tried" not in levels


def test_with_a_pin_file_the_pin_is_tried_once(cards: Cards, folder: Path):
    code, levels = diagnose("card-p521", "--pin-file", folder / "pin")
    assert (code, levels["pin-tried"], levels["key"]) == (0, "ok", "ok")
    assert diagnose("card-keyless", "--pin-file", folder / "pin")[1]["key-missing"] == "error"
    code, levels = diagnose("card-p521", "--pin-file", folder / "wrong")
    assert (code, levels["pin-wrong"]) == (1, "error")
    code, levels = diagnose("card-p521", "--pin-file", folder / "wrong")
    assert (levels["pin-low"], levels["pin-refused-before"]) == ("warning", "error")
    assert diagnose("card-p521", "--pin-file", folder / "pin")[1]["pin-low"] == "warning"
    assert diagnose("card-p521")[1]["pin"] == "ok", "the right PIN has reset the card's count"


@pytest.mark.parametrize(
    ("flags", "code", "level"),
    [
        ((TokenFlag.USER_PIN_COUNT_LOW,), "pin-low", "warning"),
        ((TokenFlag.USER_PIN_COUNT_LOW, TokenFlag.USER_PIN_FINAL_TRY), "pin-last-try", "warning"),
        ((TokenFlag.USER_PIN_LOCKED,), "pin-locked", "error"),
        ((TokenFlag.USER_PIN_TO_BE_CHANGED,), "pin-to-be-changed", "warning"),
    ],
    ids=["low", "last", "locked", "first"],
)
def test_what_the_card_tells_of_its_pin_is_told(cards: Cards, flags, code: str, level: str):
    cards.add("card-flags")
    cards.claim("card-flags", *flags)
    _, levels = diagnose("card-flags")
    assert levels[code] == level
    assert levels["no-certificate"] == "error"


def test_the_last_try_is_not_spent_on_a_diagnosis(cards: Cards, folder: Path):
    cards.add("card-flags")
    cards.claim("card-flags", TokenFlag.USER_PIN_FINAL_TRY)
    _, levels = diagnose("card-flags", "--pin-file", folder / "pin")
    assert levels["pin-last-try"] == "error", "refused"
    assert diagnose("card-flags", "--pin-file", folder / "pin", "--use-last-try")[1]["pin-tried"] == "ok"
