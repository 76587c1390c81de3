"""Figures of a running server: shown to this machine alone, on one page, naming nobody."""

import http.client
import shutil
import signal
import smtplib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from kephs.cli.instance import free_port
from tests.functional.registered import set_values
from tests.functional.site import KEPHS, Site, compose, kephs_process, sign, until

pytestmark = pytest.mark.slow


class Served:
    """A copy of the site's instance, with its own ports, that shows figures."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port, self.submission = free_port(), free_port()

    def ask(self, method: str = "GET", path: str = "/metrics") -> tuple[int, str, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.headers.get("Content-Type", ""), answer.read().decode()
        finally:
            connection.close()

    def values(self) -> dict[tuple[str, ...], float]:
        status, kind, page = self.ask()
        assert status == 200
        assert kind.startswith("text/plain; version=0.0.4")
        return {
            (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        }


@pytest.fixture(scope="module")
def served(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("metrics") / "copy"
    shutil.copytree(site.home, home, ignore=shutil.ignore_patterns("run", "clamd", "blobs"))
    made = Served(home)
    set_values(
        home, "network", submission_port=made.submission, imap_port=free_port(), inbound_port=free_port(),
        metrics_port=made.port,
    )  # fmt: skip
    set_values(home, "ledger", port=0)
    set_values(home, "test_pki", port=0)
    log_path = home.parent / "log"
    with log_path.open("wb") as log:
        child = subprocess.Popen(
            [KEPHS, "serve", str(home)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        until(lambda: b"serve.ready" in log_path.read_bytes() or child.poll() is not None, "the server")
        assert child.poll() is None, log_path.read_text()
        yield made
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def test_submissions_refusals_and_sessions_are_counted(site: Site, served: Served):
    ayse, mehmet = site.who.ayse, site.who.mehmet
    before = served.values()
    with smtplib.SMTP_SSL("localhost", served.submission, context=site.tls(), timeout=60) as client:
        client.login(ayse.address, ayse.password)
        good = sign(compose(ayse.address, mehmet.address), ayse.issued)
        client.sendmail(ayse.address, [mehmet.address], good, mail_options=["BODY=8BITMIME"])
        with pytest.raises(smtplib.SMTPDataError):
            client.sendmail(ayse.address, [mehmet.address], b"Subject: x\r\n\r\nx\r\n")
        during = served.values()
    assert during["kephs_sessions_open", "submission"] == 1
    assert during["kephs_sessions_total", "submission"] == before["kephs_sessions_total", "submission"] + 1
    assert during["kephs_messages_taken_total", "submission"] == 1
    refused = {key[1]: value for key, value in during.items() if key[0] == "kephs_messages_refused_total"}
    assert sum(refused.values()) == 1, refused
    assert during["kephs_events_total", "submission.accepted", "info"] == 1
    assert during["kephs_store_readable",] == 1
    assert during["kephs_store_writes_total",] >= during["kephs_store_batches_total",] > 0
    assert ("kephs_work_overdue_seconds", "deliver") in during


def test_no_label_holds_an_address_or_an_id(served: Served):
    _, _, page = served.ask()
    assert "@" not in page


def test_there_is_one_page_and_one_method(served: Served):
    assert served.ask(path="/")[0] == 404
    assert served.ask(path="/metrics/x")[0] == 404
    assert served.ask("POST")[0] == 405
    assert served.ask("HEAD")[0] == 405


def test_only_this_machine_is_answered(served: Served):
    listening = [
        one.laddr.ip
        for one in psutil.net_connections("tcp")
        if one.status == psutil.CONN_LISTEN and one.laddr.port == served.port
    ]
    assert listening == ["127.0.0.1"]


def test_a_port_that_is_taken_is_one_clear_line(site: Site, tmp_path: Path):
    home = tmp_path / "copy"
    shutil.copytree(site.home, home, ignore=shutil.ignore_patterns("run", "clamd", "blobs"))
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        set_values(home, "network", metrics_port=port)
        set_values(home, "test_pki", port=0)
        done = kephs_process("serve", home, ok=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"metrics cannot listen on 127.0.0.1:{port}" in line
