"""`kephs serve` where something is wrong: one clear line and exit 1, never a trace, never half a server."""

import json
import shutil
import signal
import socket
import subprocess
import tomllib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
import tomli_w

from config.settings import FILE_NAME
from kephs.cli.instance import free_port
from tests.functional.site import KEPHS, Done, Site, compose, kephs, kephs_process, now, sign, until


def _set(home: Path, section: str, **values: object) -> None:
    path = home / FILE_NAME
    settings = tomllib.loads(path.read_text("utf-8"))
    settings.setdefault(section, {}).update(values)
    path.write_text(tomli_w.dumps(settings), "utf-8")


@pytest.fixture
def copy(site: Site, tmp_path: Path) -> Path:
    """A copy of the running instance that could start beside it: its own ports, the other's TEST PKI."""
    home = tmp_path / "copy"
    shutil.copytree(site.home, home, ignore=shutil.ignore_patterns("run", "clamd", "blobs"))
    _set(home, "network", submission_port=free_port(), inbound_port=free_port(), imap_port=free_port())
    _set(home, "ledger", port=free_port())
    _set(home, "test_pki", port=0)
    return home


def _refused(home: Path, *more: object) -> str:
    """Return the one line with which serve ends."""
    done = kephs_process("serve", home, *more, ok=False)
    return _one_line(done)


def _one_line(done: Done) -> str:
    assert done.returncode == 1, done
    assert "serve.ready" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: "), line
    return line


def test_an_instance_is_not_served_twice(site: Site):
    line = _refused(site.home)
    assert f"{site.home} is being served already" in line


@pytest.mark.parametrize(
    ("role", "setting"),
    [("submission", "submission_port"), ("inbound", "inbound_port"), ("imap", "imap_port")],
    ids=["smtp", "inbound", "imap"],
)
def test_a_taken_port_is_named_and_the_server_never_says_it_is_ready(copy: Path, role: str, setting: str):
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        _set(copy, "network", **{setting: port})
        line = _refused(copy)
    assert f"{role} cannot listen on 127.0.0.1:{port}" in line
    assert "address already in use" in line


def _port_too_high(home: Path, site: Site) -> None:
    _set(home, "network", imap_port=99_999)


def _host_unknown(home: Path, site: Site) -> None:
    _set(home, "network", host="999.1.1.1")


def _database_is_text(home: Path, site: Site) -> None:
    for path in (home / "data").glob("kephs.db*"):
        path.unlink()
    (home / "data" / "kephs.db").write_bytes(b"This is no database, but a text. " * 100)


def _database_damaged(home: Path, site: Site) -> None:
    for path in (home / "data").glob("kephs.db-*"):
        path.unlink()
    path = home / "data" / "kephs.db"
    data = path.read_bytes()
    path.write_bytes(data[:100] + b"\x55" * (len(data) - 100))


def _database_gone(home: Path, site: Site) -> None:
    for path in (home / "data").glob("kephs.db*"):
        path.unlink()


def _no_root(home: Path, site: Site) -> None:
    (root,) = json.loads(kephs("trust", "list", home, "--json").stdout)["anchors"]
    kephs("trust", "retire", home, root["fingerprint"], "--by", "Ayşe Yılmaz", "--reason", "test")


def _wrong_master_key(home: Path, site: Site) -> None:
    (home / "keys" / "master.key").write_text("ab" * 32)


def _wrong_identity_key(home: Path, site: Site) -> None:
    (home / "keys" / "identity.key").write_text("ab" * 32)


def _transaction_expired(home: Path, site: Site) -> None:
    issued = site.pki.issue_transaction("hs91.kep.tr", "TEST", not_after=now() - timedelta(minutes=1))
    files = issued.write(home / "keys", "changed")
    _set(home, "seal", certificate=str(files.certificate), key=str(files.key), chain=str(files.chain))


def _tls_gone(home: Path, site: Site) -> None:
    (home / "keys" / "tls-full.pem").unlink()


SPOILED: list[tuple[Callable[[Path, Site], None], str]] = [
    (_port_too_high, "network.imap_port"),
    (_host_unknown, "cannot listen on 999.1.1.1"),
    (_database_is_text, "is no readable database"),
    (_database_damaged, "kephs.db"),
    (_database_gone, "restore it from its backup"),
    (_no_root, "holds no root"),
    (_wrong_master_key, "this is not the master key of this instance; restore it from its backup"),
    (_wrong_identity_key, "this is not the identity key of this instance; restore it from its backup"),
    (_transaction_expired, "the transaction certificate cannot be used: expired on"),
    (_tls_gone, "TLS certificate"),
]


@pytest.mark.parametrize(("spoil", "text"), SPOILED, ids=[one.__name__.strip("_") for one, _ in SPOILED])
def test_what_an_operator_can_set_right_is_one_line_and_no_trace(site: Site, copy: Path, spoil, text: str):
    spoil(copy, site)
    assert text in _refused(copy)


def test_the_copy_that_the_tests_above_spoil_is_served_and_stops_cleanly(copy: Path):
    log = copy / "log"
    with log.open("wb") as file:
        server = subprocess.Popen([KEPHS, "serve", str(copy)], stdin=subprocess.DEVNULL, stderr=file)
    try:
        until(lambda: b"serve.ready" in log.read_bytes() or server.poll() is not None, "the server")
        network = tomllib.loads((copy / FILE_NAME).read_text("utf-8"))["network"]
        for name in ("submission_port", "inbound_port", "imap_port"):  # ready means: all are bound
            socket.create_connection(("127.0.0.1", network[name]), 5).close()
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0, log.read_text()
    assert (copy / "run" / "serve.lock").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("roles", ["smtp,web", ",", ""])
def test_roles_that_do_not_exist_are_a_usage_error(copy: Path, roles: str):
    done = kephs_process("serve", copy, "--roles", roles, ok=False)
    assert done.returncode == 2
    assert "there are smtp, inbound, imap, worker" in done.stderr


# --------------------------------------------------------------------------- the TEST PKI


def test_a_test_pki_whose_port_is_taken_is_said_by_child_and_server(site: Site, copy: Path):
    _set(copy, "test_pki", port=site.settings.test_pki.port)
    done = kephs_process("serve", copy, ok=False)
    assert done.returncode == 1
    child, server = done.stderr.splitlines()
    assert "the TEST PKI cannot start" in child
    assert "address already in use" in child
    assert "the TEST PKI did not start" in server


def test_a_test_pki_whose_folder_is_gone_is_said_so(copy: Path):
    shutil.rmtree(copy / "test-pki")
    _set(copy, "test_pki", port=free_port())
    done = kephs_process("test-pki", copy, ok=False)
    assert "the TEST PKI cannot start" in _one_line(done)


def test_a_damaged_test_pki_is_said_so(copy: Path):
    (copy / "test-pki" / "pki.json").write_text("{")
    _set(copy, "test_pki", port=free_port())
    done = kephs_process("test-pki", copy, ok=False)
    assert "holds no usable TEST PKI" in _one_line(done)


def test_the_test_pki_stops_when_its_parent_lets_go(copy: Path):
    _set(copy, "test_pki", port=free_port())
    child = subprocess.Popen(
        [KEPHS, "test-pki", str(copy), "--with-parent"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    out, _ = child.communicate(timeout=30)  # closes its standard input
    assert (child.returncode, out) == (0, b"")


def test_a_test_pki_that_dies_is_logged_and_started_again(site: Site, who):
    def children() -> list[psutil.Process]:
        return [one for one in site.server.children() if "test-pki" in one.cmdline()]

    def events() -> list[str]:
        lines = (site.home / "run" / "serve.log").read_text("utf-8").splitlines()
        return [json.loads(line)["event"] for line in lines if line.startswith("{")]

    (child,) = children()
    child.kill()
    until(lambda: "test_pki.restarted" in events(), "the TEST PKI's return")
    assert events().count("test_pki.died") == 1
    (again,) = children()
    assert again.pid != child.pid
    answer = site.submit(
        who.ayse, sign(compose(who.ayse.address, who.mehmet.address), who.ayse.issued), [who.mehmet.address]
    )
    assert answer.code == 250, answer
