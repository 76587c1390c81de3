"""`kephs doctor` about other providers and what waits for them, and without a network."""

import json
import shutil
import socket
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evidence.adapters.trust_folder import certificates_of
from kephs.bootstrap import read_seal
from kephs.cli.instance import free_port
from tests.functional.registered import entry, pinned_operator, publish, set_values
from tests.functional.site import DOMAIN, Site, kephs, now
from tests.support.registers import issued

PEER = "hs92.kep.tr"


@pytest.fixture
def copy(site: Site, tmp_path: Path) -> Path:
    """A copy of the running instance's folder, at rest: other ports; no service is asked but peers."""
    home = tmp_path / "copy"
    shutil.copytree(site.home, home, ignore=shutil.ignore_patterns("run", "clamd", "blobs", "peers"))
    (home / "data" / "blobs").mkdir(mode=0o700)
    set_values(home, "network", submission_port=free_port(), imap_port=free_port(), inbound_port=free_port())
    set_values(home, "scanner", clamd="")
    return home


def _doctor(home: Path, *more: str) -> SimpleNamespace:
    done = kephs("doctor", home, "--json", *more, ok=False)
    findings = json.loads(done.stdout)["findings"]
    levels: dict[str, set[str]] = {}
    for finding in findings:
        levels.setdefault(finding["code"], set()).add(finding["level"])
    return SimpleNamespace(exit=done.returncode, levels=levels, findings=findings)


class Desk:
    """The register's operator, for one copy of the instance."""

    def __init__(self, home: Path, site: Site) -> None:
        self.home = home
        self.tls = certificates_of(site.settings.network.tls_certificate.read_bytes())[0]
        self.transaction = read_seal(site.settings).certificate
        self.operator = pinned_operator(home)

    def own(self, **changed: Any) -> dict[str, Any]:
        return entry(DOMAIN, self.tls, self.transaction, **changed)

    def peer(self, **changed: Any) -> dict[str, Any]:
        return entry(PEER, self.tls, issued("seal").certificate, **changed)

    def publish(self, *entries: dict[str, Any], at: datetime | None = None, days: float = 30) -> None:
        publish(self.home, self.operator, entries, at=at or now(), days=days)


@pytest.fixture
def desk(copy: Path, site: Site) -> Desk:
    return Desk(copy, site)


def test_a_peer_that_answers_as_registered_is_well(site: Site, desk: Desk):
    port = site.settings.network.inbound_port
    desk.publish(desk.own(), desk.peer(port=port))
    found = _doctor(desk.home)
    assert found.exit == 0, found.findings
    for code in ("register", "register-own", "peer", "peer-certificate"):
        assert found.levels[code] == {"ok"}, found.findings


def _another_pin(site: Site, desk: Desk) -> None:
    port = site.settings.network.inbound_port
    desk.publish(desk.own(), desk.peer(port=port, tls_certificates=[issued("x").certificate]))


def _nobody_there(site: Site, desk: Desk) -> None:
    desk.publish(desk.own(), desk.peer(port=free_port()))


def _takes_less(site: Site, desk: Desk) -> None:
    port = site.settings.network.inbound_port
    desk.publish(
        desk.own(),
        desk.peer(port=port, max_message_mib=500),
    )


def _stale(site: Site, desk: Desk) -> None:
    desk.publish(desk.own(since=now() - timedelta(days=9)), at=now() - timedelta(days=3), days=1)


def _next_is_near(site: Site, desk: Desk) -> None:
    desk.publish(desk.own(since=now() - timedelta(days=9)), at=now() - timedelta(days=6), days=7)


def _own_missing(site: Site, desk: Desk) -> None:
    desk.publish(desk.peer(port=free_port()))


def _own_tls_is_another(site: Site, desk: Desk) -> None:
    desk.publish(desk.own(tls_certificates=[issued("x").certificate]))


def _newest_file_is_bad(site: Site, desk: Desk) -> None:
    desk.publish(desk.own())
    (desk.home / "peers" / "providers.json").write_text("{}")


def _signer_is_not_pinned(site: Site, desk: Desk) -> None:
    desk.publish(desk.own())
    set_values(desk.home, "peers", register_signers=["ab" * 32])


def _no_register(site: Site, desk: Desk) -> None:
    pass


SPOILED: list[tuple[Callable[[Site, Desk], None], str, str]] = [
    (_another_pin, "peer-pin", "error"),
    (_nobody_there, "peer-unreachable", "warning"),
    (_takes_less, "peer-size", "warning"),
    (_stale, "register-stale", "error"),
    (_next_is_near, "register-next", "warning"),
    (_own_missing, "register-own", "warning"),
    (_own_tls_is_another, "register-own", "error"),
    (_newest_file_is_bad, "register-problem", "warning"),
    (_signer_is_not_pinned, "register", "error"),
    (_no_register, "register-none", "warning"),
]


@pytest.mark.parametrize(
    ("spoil", "code", "level"), SPOILED, ids=[spoil.__name__.strip("_") for spoil, _, _ in SPOILED]
)
def test_what_is_wrong_with_peers_or_their_register_has_its_own_code(
    site: Site, desk: Desk, spoil, code: str, level: str
):
    spoil(site, desk)
    found = _doctor(desk.home)
    assert level in found.levels[code], found.findings
    assert found.exit == (1 if level == "error" else 0)


def test_without_a_network_nobody_is_asked(site: Site, desk: Desk):
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        stranger.setblocking(False)
        port = stranger.getsockname()[1]
        desk.publish(desk.own(), desk.peer(port=port))
        set_values(desk.home, "seal", tsa=[f"http://127.0.0.1:{port}/tsa"])
        found = _doctor(desk.home, "--no-network")
        with pytest.raises(BlockingIOError):
            stranger.accept()
    assert found.exit == 0, found.findings
    assert not {"tsa", "clock-tsa", "peer", "peer-unreachable", "port-imap"} & set(found.levels)
    assert found.levels["register"] == {"ok"}


def test_a_stranger_on_the_ports_for_peers_and_figures_is_an_error(desk: Desk):
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        set_values(desk.home, "network", inbound_port=free_port(), metrics_port=port)
        found = _doctor(desk.home)
    assert found.levels["port-inbound"] == {"ok"}
    assert found.levels["port-metrics"] == {"error"}
