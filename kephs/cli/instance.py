"""Making an instance: its folder, its settings, its keys; with --test-pki also TEST certificates."""

import os
import secrets
import socket
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from config import settings as config_settings
from directory.addresses import AddressError, KepAddress
from kephs.instances.keys import key_check_file, read_keys
from kephs.ledger.keys import write_ledger_key
from kephs.testpki.authority import TestPki
from kephs.testpki.issued import to_pem
from storage.files.journal import sync_directory
from storage.key_check import write_key_check

_FOLDERS: Final = ("keys", "peers", "trust", "trust/intermediates", "data", "data/blobs", "run")
_LEGAL_NAME: Final = "TEST {label} KEP Hizmet Sağlayıcısı A.Ş."


class InstanceError(Exception):
    """The instance cannot be made; the text names the cure."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports of one instance; 0 picks a free one."""

    submission: int = 0
    imap: int = 0
    test_pki: int = 0
    inbound: int = 0
    ledger: int = 0


def make_instance(
    directory: Path, domain: str, *, now: datetime, test_pki: bool, ports: Ports | None = None,
    pki_of: Path | None = None, values: dict[str, Any] | None = None,
) -> config_settings.Settings:  # fmt: skip
    """Make an instance and return its settings; its folders belong to their owner alone.

    Args:
        directory: a new or empty folder.
        domain: the provider's, in any case; it is folded as addresses are.
        now: UTC.
        test_pki: make TEST certificates too.
        ports: those wanted.
        pki_of: another instance whose TEST PKI certifies this one; that instance runs it.
        values: further settings of its own, by section.

    Raises:
        InstanceError: the folder holds an instance or something else, or the domain is no provider's.
        OSError: something cannot be written.
    """
    domain = _checked(directory, domain)
    wanted = ports or Ports()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory.chmod(0o700)  # it may have been there, empty and open to all
    for name in _FOLDERS:
        (directory / name).mkdir(mode=0o700)
    for name in ("master.key", "identity.key"):
        _write_secret(directory / "keys" / name, secrets.token_hex(32) + "\n")
    write_ledger_key(directory / "keys" / "ledger.key")
    made = _values(domain, wanted, test_pki=test_pki)
    if test_pki:
        _add_test_pki(directory, domain, made, _test_pki(directory, domain, made, now, wanted, pki_of))
    for section, more in (values or {}).items():
        made.setdefault(section, {}).update(more)
    config_settings.save(directory, made)
    settings = config_settings.load(directory)
    write_key_check(key_check_file(settings), read_keys(settings).by_name())
    return settings


def free_port() -> int:
    """Return a port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _checked(directory: Path, domain: str) -> str:
    """Return the domain as it is stored."""
    if (directory / config_settings.FILE_NAME).exists():
        raise InstanceError(f"{directory} holds an instance already; choose another folder")
    if directory.is_dir() and any(directory.iterdir()):
        raise InstanceError(f"{directory} is not empty and holds no instance; choose a new or empty folder")
    try:
        address = KepAddress.parse(f"kephizmet@{domain}")
    except AddressError:
        raise InstanceError(f"{domain} is no provider domain; it looks like hs91.kep.tr") from None
    if address.domain != address.provider:
        raise InstanceError(f"{domain} is a domain below a provider's; use {address.provider}")
    return address.domain


def _values(domain: str, ports: Ports, *, test_pki: bool) -> dict[str, Any]:
    wanted = {
        "submission_port": (ports.submission, 465),
        "inbound_port": (ports.inbound, 25),
        "imap_port": (ports.imap, 993),
    }
    network = {name: port or (free_port() if test_pki else usual) for name, (port, usual) in wanted.items()}
    label = domain.partition(".")[0]
    legal_name = _LEGAL_NAME.format(label=label) if test_pki else ""
    return {
        "provider": {
            "domain": domain,
            "legal_name": legal_name,
            "service_address": f"kep-hizmet@{domain}",
        },
        "network": network,
        "ledger": {"port": ports.ledger or (free_port() if test_pki else 0)},
    }


@dataclass(frozen=True, slots=True)
class _Pki:
    """A TEST PKI, where it is reached, and whether this instance runs it."""

    pki: TestPki
    url: str
    port: int  # 0 where another instance runs it


def _test_pki(
    directory: Path, domain: str, values: dict[str, Any], now: datetime, wanted: Ports, of: Path | None
) -> _Pki:
    if of is not None:
        owner = config_settings.load(of)
        if not owner.test_pki.enabled or not owner.test_pki.port:
            raise InstanceError(f"{of} runs no TEST PKI")
        pki = TestPki.load(owner.test_pki.directory)
        if domain not in pki.transactions:
            pki.add_provider(domain, values["provider"]["legal_name"])
        return _Pki(pki, f"http://127.0.0.1:{owner.test_pki.port}", 0)
    port = wanted.test_pki or free_port()
    url = f"http://127.0.0.1:{port}"
    providers = [
        (f"hs91.{_suffix(domain)}", _LEGAL_NAME.format(label="hs91"), "p384"),
        (f"hs92.{_suffix(domain)}", _LEGAL_NAME.format(label="hs92"), "pss"),
    ]
    if domain not in {name for name, _, _ in providers}:
        providers.append((domain, values["provider"]["legal_name"], "p384"))
    pki = TestPki.create(directory / "test-pki", base_url=url, now=now, providers=providers)  # type: ignore[arg-type]
    return _Pki(pki, url, port)


def _add_test_pki(directory: Path, domain: str, values: dict[str, Any], made: _Pki) -> None:
    pki = made.pki
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
        "tsa": [f"{made.url}/tsa"],
    }
    values["test_pki"] = {"enabled": True, "port": made.port}
    # A TEST instance's keys are worth nothing, so doctor need not ask for their backup.
    values["storage"] = {"master_key_backup": True}


def _suffix(domain: str) -> str:
    return domain.partition(".")[2]


def _write_secret(path: Path, text: str) -> None:
    """Write a key, on disk before anything is encrypted under it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123  # a descriptor, no path
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(path.parent)
