"""Making an instance: its folder, its settings, its keys; with --test-pki also TEST certificates."""

import secrets
import socket
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from config import settings as config_settings
from directory.addresses import AddressError, KepAddress
from kephs.testpki.authority import TestPki
from kephs.testpki.issued import to_pem

_LEGAL_NAME: Final = "TEST {label} KEP Hizmet Sağlayıcısı A.Ş."


class InstanceError(Exception):
    """The instance cannot be made; the text names the cure."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports of one instance; 0 picks a free one."""

    submission: int = 0
    imap: int = 0
    test_pki: int = 0


def make_instance(
    directory: Path, domain: str, *, now: datetime, test_pki: bool, ports: Ports | None = None
) -> config_settings.Settings:
    """Make an instance and return its settings.

    Raises:
        InstanceError: the folder holds one already, or the domain is no provider's.
    """
    _check(directory, domain)
    wanted = ports or Ports()
    for name in ("keys", "trust/intermediates", "data/blobs", "run"):
        (directory / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in ("master.key", "identity.key"):
        _write_secret(directory / "keys" / name, secrets.token_hex(32) + "\n")
    values = _values(domain, wanted, test_pki=test_pki)
    if test_pki:
        _add_test_pki(directory, domain, values, now, wanted.test_pki)
    config_settings.save(directory, values)
    return config_settings.load(directory)


def free_port() -> int:
    """Return a port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _check(directory: Path, domain: str) -> None:
    if (directory / config_settings.FILE_NAME).exists():
        raise InstanceError(f"{directory} holds an instance already; choose another folder")
    try:
        address = KepAddress.parse(f"kephizmet@{domain}")
    except AddressError:
        raise InstanceError(f"{domain} is no provider domain; it looks like hs91.kep.tr") from None
    if address.domain != address.provider:
        raise InstanceError(f"{domain} is a domain below a provider's; use {address.provider}")


def _values(domain: str, ports: Ports, *, test_pki: bool) -> dict[str, Any]:
    network = {"submission_port": ports.submission or 465, "imap_port": ports.imap or 993}
    if test_pki:
        network = {
            "submission_port": ports.submission or free_port(),
            "imap_port": ports.imap or free_port(),
        }
    label = domain.partition(".")[0]
    legal_name = _LEGAL_NAME.format(label=label) if test_pki else ""
    return {
        "provider": {
            "domain": domain,
            "legal_name": legal_name,
            "service_address": f"kep-hizmet@{domain}",
        },
        "network": network,
    }


def _add_test_pki(
    directory: Path, domain: str, values: dict[str, Any], now: datetime, wanted_port: int
) -> None:
    port = wanted_port or free_port()
    base_url = f"http://127.0.0.1:{port}"
    providers = [
        (f"hs91.{_suffix(domain)}", _LEGAL_NAME.format(label="hs91"), "p384"),
        (f"hs92.{_suffix(domain)}", _LEGAL_NAME.format(label="hs92"), "pss"),
    ]
    if domain not in {name for name, _, _ in providers}:
        providers.append((domain, values["provider"]["legal_name"], "p384"))
    pki = TestPki.create(directory / "test-pki", base_url=base_url, now=now, providers=providers)  # type: ignore[arg-type]
    keys = directory / "keys"
    transaction = pki.transactions[domain].write(keys, "transaction")
    tls = pki.issue_tls(domain).write(keys, "tls")
    (keys / "tls-full.pem").write_bytes(tls.certificate.read_bytes() + tls.chain.read_bytes())
    (directory / "tls-ca.pem").write_bytes(to_pem((pki.tls_root,)))
    (directory / "trust" / "test-root.pem").write_bytes(to_pem((pki.root,)))
    (directory / "trust" / "intermediates" / "test-issuers.pem").write_bytes(to_pem(pki.intermediates))
    values["network"] |= {"tls_certificate": "keys/tls-full.pem", "tls_key": f"keys/{tls.key.name}"}
    values["seal"] = {
        "certificate": f"keys/{transaction.certificate.name}",
        "key": f"keys/{transaction.key.name}",
        "chain": f"keys/{transaction.chain.name}",
        "tsa": [f"{base_url}/tsa"],
    }
    values["test_pki"] = {"enabled": True, "port": port}
    # A TEST instance's keys are worth nothing, so doctor need not ask for their backup.
    values["storage"] = {"master_key_backup": True}


def _suffix(domain: str) -> str:
    return domain.partition(".")[2]


def _write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="ascii")
