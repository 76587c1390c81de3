"""`kephs probe` on two real providers, and what their logs say about all that: no address, subject or secret."""

import json
import shutil
import signal
import smtplib
import socket
import sqlite3
import ssl
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from config.settings import FILE_NAME
from kephs.cli.instance import free_port
from tests.functional.site import KEPHS, Done, kephs, until

pytestmark = pytest.mark.slow


class Demo:
    """Two running providers, as `kephs demo` leaves them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.described = home / "demo.json"

    @property
    def facts(self) -> dict[str, Any]:
        return json.loads(self.described.read_text("utf-8"))

    def account(self, address: str) -> dict[str, Any]:
        return next(one for one in self.facts["accounts"] if one["address"] == address)

    def probe(self, *more: object, home: Path | None = None, ok: bool = True) -> tuple[Done, dict[str, Any]]:
        done = kephs("probe", home or self.home / "hs91", "--json", *more, ok=ok)
        return done, json.loads(done.stdout)

    def as_options(self, folder: Path, address: str, **changed: str) -> list[object]:
        account = self.account(address) | changed
        (folder / "password").write_text(account["app_password"])
        (folder / "p12-password").write_text(account["p12_password"])
        return [
            "--account", address, "--p12", account["p12"], "--password-file", folder / "password",
            "--p12-password-file", folder / "p12-password",
        ]  # fmt: skip

    def log(self, name: str) -> str:
        return (self.home / name / "run" / "serve.log").read_text("utf-8")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    made = Demo(tmp_path_factory.mktemp("demo"))
    child = subprocess.Popen(
        [KEPHS, "demo", "--dir", str(made.home), "--json"], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        until(lambda: made.described.exists() or child.poll() is not None, "the demo", 100)
        assert child.poll() is None, child.stdout.read() if child.stdout else ""
        yield made
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 0
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        if child.stdout:
            child.stdout.close()


AYSE, FATMA = "ayse.yilmaz@hs91.kep.tr", "fatma.kaya@hs92.kep.tr"
STEPS = ["sign", "connect", "login", "mailbox", "submit", "deliver", "fetch", "evidence"]


def test_a_probe_times_every_step_and_verifies_the_evidence(demo: Demo):
    _, told = demo.probe("--demo", demo.described)
    assert told["passed"] is True
    assert [step["name"] for step in told["steps"]] == STEPS
    assert all(step["ok"] and step["seconds"] >= 0 for step in told["steps"])
    assert told["message_id"].endswith("@hs91.kep.tr")
    assert told["steps"][-1]["detail"] == "10, 40, 60 verified"


def test_a_probe_crosses_to_another_provider_and_back(demo: Demo):
    _, told = demo.probe("--demo", demo.described, "--to", FATMA)
    assert told["passed"] is True
    assert told["steps"][-1]["detail"] == "10, 20, 40, 60 verified"


def test_an_account_alone_is_enough_the_message_comes_back_to_it(demo: Demo, tmp_path: Path):
    _, told = demo.probe(*demo.as_options(tmp_path, AYSE))
    assert told["passed"] is True
    assert [step["name"] for step in told["steps"]] == STEPS


def test_to_a_mailbox_that_is_not_known_evidence_40_must_come(demo: Demo, tmp_path: Path):
    _, told = demo.probe(*demo.as_options(tmp_path, AYSE), "--to", "mehmet.demir@hs91.kep.tr")
    assert told["passed"] is True
    assert "fetch" not in [step["name"] for step in told["steps"]]
    assert told["steps"][-1]["detail"] == "10, 40 verified"


def _failed(done: Done, told: dict[str, Any], step: str, words: str) -> None:
    assert done.returncode == 1
    assert told["passed"] is False
    last = told["steps"][-1]
    assert (last["name"], last["ok"]) == (step, False)
    assert words in last["detail"]


def test_a_recipient_who_does_not_exist_fails_the_delivery(demo: Demo, tmp_path: Path):
    done, told = demo.probe(*demo.as_options(tmp_path, AYSE), "--to", "kimse.yok@hs91.kep.tr", ok=False)
    _failed(done, told, "deliver", "evidence 41")


def test_a_wrong_app_password_fails_the_login(demo: Demo, tmp_path: Path):
    wrong = "aaaaaa-bbbbb-ccccc-ddddd-eeeee"
    done, told = demo.probe(*demo.as_options(tmp_path, AYSE, app_password=wrong), ok=False)
    _failed(done, told, "login", "535")


@pytest.fixture
def elsewhere(demo: Demo, tmp_path: Path) -> Path:
    """Settings of the instance whose submission port leads elsewhere."""
    home = tmp_path / "elsewhere"
    home.mkdir()
    shutil.copy(demo.home / "hs91" / "tls-ca.pem", home)
    settings = tomllib.loads((demo.home / "hs91" / FILE_NAME).read_text("utf-8"))
    settings["network"]["submission_port"] = free_port()
    (home / FILE_NAME).write_text(tomli_w.dumps(settings), "utf-8")
    return home


def test_a_server_that_is_down_fails_the_connection(demo: Demo, tmp_path: Path, elsewhere: Path):
    done, told = demo.probe(*demo.as_options(tmp_path, AYSE), home=elsewhere, ok=False)
    _failed(done, told, "connect", "onnect")
    text = kephs("probe", elsewhere, *demo.as_options(tmp_path, AYSE), ok=False)
    assert "the step connect failed / adım başarısız" in text.stderr


def test_a_step_that_takes_longer_than_the_limit_fails(demo: Demo, tmp_path: Path, elsewhere: Path):
    settings = tomllib.loads((elsewhere / FILE_NAME).read_text("utf-8"))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", settings["network"]["submission_port"]))
        silent.listen()
        done, told = demo.probe(*demo.as_options(tmp_path, AYSE), "--limit", "0.3", home=elsewhere, ok=False)
    _failed(done, told, "connect", "longer than 0.3 s")


def test_what_is_missing_is_named(demo: Demo, tmp_path: Path):
    done = kephs("probe", demo.home / "hs91", "--account", AYSE, ok=False)
    assert done.returncode == 2
    assert "--p12-password-file" in done.stderr
    (tmp_path / "demo.json").write_text("{}")
    done = kephs("probe", demo.home / "hs91", "--demo", tmp_path / "demo.json", ok=False)
    assert "demo-unreadable" in done.stderr


# --------------------------------------------------------------------------- what the logs say


def _refused(demo: Demo, subject: str, body: str) -> None:
    """Be refused in every way a stranger and a holder can: sign-in, recipient, signature."""
    provider = demo.facts["providers"][0]
    tls = ssl.create_default_context(cafile=provider["ca_file"])
    ayse = demo.account(AYSE)
    with smtplib.SMTP_SSL(
        provider["submission"]["host"], provider["submission"]["port"], context=tls
    ) as client:
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login(AYSE, "falsch-geheim-falsch-geheim-falsc")
        client.login(AYSE, ayse["app_password"])
        unsigned = f"From: {AYSE}\r\nTo: {FATMA}\r\nSubject: {subject}\r\n\r\n{body}\r\n"
        with pytest.raises(smtplib.SMTPDataError):
            client.sendmail(AYSE, [FATMA], unsigned)
        with pytest.raises(smtplib.SMTPException):
            client.sendmail(AYSE, ["x@example.org"], unsigned)
    inbound = provider["inbound"]
    with smtplib.SMTP(inbound["host"], inbound["port"]) as stranger:
        stranger.starttls(context=tls)
        with pytest.raises(smtplib.SMTPException):
            stranger.sendmail("kotu.niyet@hs92.kep.tr", [AYSE], unsigned)


def test_no_log_names_an_address_a_subject_a_body_or_a_password(demo: Demo):
    subject, body = "Gizli-Konu-4711", "Gizli-Metin-4712"
    demo.probe("--demo", demo.described, "--to", FATMA)
    _refused(demo, subject, body)
    logs = {name: demo.log(name) for name in ("hs91", "hs92")}
    never = {subject, body, "kephs probe", "htarname", "kotu.niyet", "example.org", "falsch"}
    for account in demo.facts["accounts"]:
        local = account["address"].partition("@")[0]
        never |= {local, account["app_password"], account["p12_password"], account["tckn"], account["name"]}
    for name, log in logs.items():
        found = {word for word in never if word.casefold() in log.casefold()}
        assert not found, (name, found)
        events = [json.loads(line) for line in log.splitlines()]
        assert all(isinstance(one["event"], str) and one["level"] and one["timestamp"] for one in events)
    told = {json.loads(line)["event"] for line in logs["hs91"].splitlines()}
    assert {
        "serve.ready",
        "submission.accepted",
        "submission.refused",
        "inbound.taken",
        "inbound.refused",
    } <= told


def writes(demo: Demo, profile: str) -> None:
    """Issue the register anew, with this profile for both providers."""
    folder = demo.home / "register"
    issue = json.loads((folder / "providers.json").read_text("utf-8"))
    for one in issue["providers"]:
        one["profile"] = profile
        one["stamps"] = "batch" if profile == "kep-ts102640" else "per_evidence"
    issue["sequence"] += 1
    (folder / "providers.json").write_text(json.dumps(issue), "utf-8")
    kephs(
        "peers", "sign", folder / "providers.json",
        "--key", folder / "operator.key", "--certificate", folder / "operator.crt",
    )  # fmt: skip
    for name in ("hs91", "hs92"):
        kephs("peers", "import", demo.home / name, folder / "providers.json")


def test_evidence_that_a_peer_writes_in_the_other_profile_is_found_too(demo: Demo):
    writes(demo, "rem-baseline")
    tried: list[dict[str, Any]] = []

    def in_the_other_profile() -> bool:  # the servers see the register within a second
        tried.append(demo.probe("--demo", demo.described, "--to", FATMA, "--limit", "10", ok=False)[1])
        rows = sqlite3.connect(demo.home / "hs91" / "data" / "kephs.db")
        query = "SELECT profile FROM evidence WHERE message_id = ? AND kind = 40"
        profiles = rows.execute(query, (tried[-1]["message_id"],)).fetchall()
        rows.close()
        return profiles == [("rem-baseline",)]

    try:
        until(in_the_other_profile, "a receipt in the other profile", 40)
        assert tried[-1]["passed"] is True, tried[-1]
        assert tried[-1]["steps"][-1]["detail"] == "10, 20, 40, 60 verified"
    finally:
        writes(demo, "kep-ts102640")
