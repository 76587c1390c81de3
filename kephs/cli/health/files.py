"""What `kephs doctor` finds out from files alone."""

import os
import sqlite3
import ssl
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from config.settings import Settings, SettingsError
from evidence.adapters.trust_folder import certificates_of
from evidence.seal.seal_check import lifetime_problem
from evidence.x509.certificates import CertificateError, CertificateFacts, certificate_facts
from evidence.x509.chain import TrustStore
from kephs.bootstrap import (
    check_signer,
    open_register,
    open_tls,
    read_seal,
)
from kephs.cli.findings import Finding, error, ok, warning
from kephs.instances.databases import check_schema, in_use, unsafe_settings
from kephs.instances.keys import key_check_file, key_problem, read_keys
from storage.errors import SchemaError
from storage.postgres.errors import DatabaseRefusedError
from storage.revision import HEAD, DatabaseUnreadableError

_FIRST_YEAR: Final = 2025
_LAST_YEAR: Final = 2100  # beyond, somebody typed it wrong
_GIB: Final = 1 << 30
_DISK_LEAST: Final = 1 * _GIB
_DISK_SHARE: Final = 0.10  # of the whole
_SOON: Final = timedelta(days=60)
_URGENT: Final = timedelta(days=30)
_NOW: Final = timedelta(days=7)
_KEY_HEX: Final = 64


def check_year(now: datetime) -> Finding:
    """Say whether the clock can be right at all."""
    if not _FIRST_YEAR <= now.year < _LAST_YEAR:
        return error("clock", f"the clock says {now:%Y-%m-%d}", "set the clock and keep it by NTP")
    return ok("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC")


def check_disk(settings: Settings) -> Iterable[Finding]:
    """Say whether the store has room: bytes and, where the file system counts them, files."""
    places = {settings.storage.database.parent, settings.storage.blobs}
    for place in sorted(places):
        try:
            found = os.statvfs(place)
        except OSError as failure:
            yield error("disk", f"{place}: {failure.strerror}", "make the folder, or correct [storage]")
            continue
        yield _room(place, found.f_bavail * found.f_frsize, found.f_bavail / max(1, found.f_blocks))
        if found.f_files and found.f_favail / found.f_files < _DISK_SHARE:
            yield warning(
                "disk-files", f"room for {found.f_favail:,} more files at {place}",
                "plan a file system with more inodes: each message is a file",
            )  # fmt: skip


def _room(place: Path, free: int, share: float) -> Finding:
    text = f"{free / _GIB:.1f} GiB ({share:.0%}) free at {place}"
    if free < _DISK_LEAST:
        return error("disk", text, "make room: a full store refuses every message for the moment")
    return warning("disk", text, "plan more room") if share < _DISK_SHARE else ok("disk", text)


def check_domain(settings: Settings) -> Iterable[Finding]:
    """Say whether the configured domain can be a provider's at all."""
    try:
        open_register(settings)
    except SettingsError as failure:
        yield error("provider-domain", str(failure), "correct provider.domain in kephs.toml")


def check_folders(settings: Settings, directory: Path) -> Iterable[Finding]:
    """Say whether the instance's folders and its database belong to their owner alone."""
    storage = settings.storage
    folders = {
        directory,
        storage.master_key.parent,
        storage.database.parent,
        storage.blobs,
        directory / "run",
    }
    found = [_private(path, directory=True) for path in sorted(folders)]
    names = (storage.database.name, storage.database.name + "-wal", storage.database.name + "-shm")
    found += [_private(storage.database.with_name(name), directory=False) for name in names]
    exposed = [finding for finding in found if finding is not None]
    yield from exposed or [ok("folders", f"{directory} belongs to its owner alone")]


def _private(path: Path, *, directory: bool) -> Finding | None:
    """Return what is wrong with a path's mode; a path that is not there is looked for elsewhere."""
    try:
        mode = path.stat().st_mode & 0o777
    except OSError:
        return None
    if not mode & 0o077:
        return None
    text, cure = f"{path} has mode {mode:04o}", f"chmod {700 if directory else 600} {path}"
    if mode & 0o022:
        return error("exposed", f"{text}: others may change it", cure)
    if directory:
        return warning("folder-open", f"{text}: others may look into it", cure)
    return error("exposed", f"{text}: others may read it", cure)


# --------------------------------------------------------------------------- keys


def check_keys(settings: Settings) -> Iterable[Finding]:
    """Look at every secret file: there, readable by its owner alone, of the right form."""
    storage, seal = settings.storage, settings.seal
    for path, is_hex in (
        (storage.master_key, True),
        (storage.identity_key, True),
        (seal.pin_file if seal.pkcs11_module else seal.key, False),
        (settings.network.tls_key, False),
        (settings.ledger.key, False),
    ):
        yield _key_file(path, is_hex=is_hex)
    yield from _same_keys(settings)
    if not storage.master_key_backup:
        yield warning(
            "master-key-backup",
            "no backup of the master key is noted; without the key all content is lost",
            "keep a copy elsewhere, then set storage.master_key_backup = true",
        )


def _same_keys(settings: Settings) -> Iterable[Finding]:
    """Compare the keys with those the instance was made with; nothing is written."""
    try:
        keys = read_keys(settings)
        if not key_check_file(settings).exists():
            check_schema(settings)
            if not in_use(settings):
                return  # a start makes the check values
    except (SettingsError, SchemaError, sqlite3.DatabaseError):
        return  # said elsewhere
    problem = key_problem(settings, keys)
    if problem is not None:
        yield error("key-wrong", problem, "put the right key into its place: nothing fits another one")
    else:
        yield ok("key-right", "master and identity key are the ones this instance was made with")


def _key_file(path: Path, *, is_hex: bool) -> Finding:
    try:
        mode = path.stat().st_mode & 0o777
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as failure:
        return error("key-missing", f"{path}: {failure}", "restore the key from its backup")
    if mode & 0o077:
        return error("key-exposed", f"{path} has mode {mode:04o}: others may read it", f"chmod 600 {path}")
    if is_hex and (len(text) != _KEY_HEX or any(char not in "0123456789abcdefABCDEF" for char in text)):
        return error(
            "key-form", f"{path} does not hold 32 octets in hexadecimal", "restore it from its backup"
        )
    return ok("key", f"{path.name}, mode {mode:04o}")


# --------------------------------------------------------------------------- database and trust


def check_database(settings: Settings) -> Iterable[Finding]:
    """Say whether the database is there and its schema is this program's."""
    try:
        check_schema(settings)
    except DatabaseRefusedError as failure:
        yield error(failure.code, failure.text, failure.cure)
    except DatabaseUnreadableError as failure:
        yield error(
            "database", str(failure), "stop the server and restore database and blobs from one backup"
        )
    except SchemaError as failure:
        yield error(
            "schema", str(failure),
            "stop the server; kephs migrate DIR brings an old one up to date, and makes a missing one, empty",
        )  # fmt: skip
    else:
        yield ok("schema", f"revision {HEAD}")
        for setting in unsafe_settings(settings):
            yield error(
                "database-unsafe",
                f"the server runs with {setting}",
                "a power failure loses messages: set it to on",
            )


# --------------------------------------------------------------------------- certificates


def check_transaction(settings: Settings, trust: TrustStore, now: datetime) -> Iterable[Finding]:
    """Look at the transaction certificate as verifiers of our evidence will."""
    try:
        found = check_signer(settings, read_seal(settings), trust, now)
    except SettingsError as failure:
        yield error("transaction-certificate", str(failure), "put certificate, key and chain into keys/")
        return
    yield lifetime("transaction-certificate", found.certificate, now)
    if found.role_problem is not None:
        yield error(
            "transaction-role",
            f"this certificate may not seal for {settings.provider.domain}: {found.role_problem}",
            "order a transaction certificate for this domain; name its policy in seal.transaction_policies",
        )  # fmt: skip
    else:
        yield ok("transaction-role", f"policy and name fit {settings.provider.domain}")
    if found.chain is None:
        yield error(
            "transaction-chain", f"nobody can verify our evidence: {found.chain_problem}",
            "put the issuing certificates into seal.chain and the root into trust.roots",
        )  # fmt: skip
    else:
        yield ok("transaction-chain", f"leads to {found.chain.root.subject_text}")
    if len(settings.seal.tsa) < 2:
        yield warning(
            "tsa-single", f"{len(settings.seal.tsa)} time-stamping authority is configured",
            "name a second one in seal.tsa: without a stamp nothing is accepted",
        )  # fmt: skip


def check_tls(settings: Settings, now: datetime) -> Iterable[Finding]:
    """Look at the certificate mail clients see."""
    try:
        open_tls(settings)
        facts = certificate_facts(certificates_of(settings.network.tls_certificate.read_bytes())[0])
    except (SettingsError, CertificateError, OSError, ssl.SSLError) as failure:
        yield error("tls-certificate", str(failure), "put certificate and key where [network] says")
        return
    yield lifetime("tls-certificate", facts, now)
    names = facts.extensions.dns_names
    if not any(_covers(name, settings.provider.domain) for name in names):
        yield warning(
            "tls-name", f"the TLS certificate names {', '.join(names) or 'no host'}",
            f"clients that connect to {settings.provider.domain} will refuse it",
        )  # fmt: skip


def _covers(name: str, domain: str) -> bool:
    """Say whether a certificate name is a host of the domain: the domain itself, or one below it."""
    plain = name.lower().removeprefix("*.")
    return plain == domain or plain.endswith("." + domain)


def lifetime(code: str, facts: CertificateFacts, now: datetime, *, ours: bool = True) -> Finding:
    """Return the finding about a certificate's validity period.

    It warns 60 days ahead, urges at 30, and in the last 7 is an error, unless others must renew it.
    """
    problem = lifetime_problem(facts, now)
    if problem is not None:
        return error(code, problem, "check the clock" if now < facts.not_before else "renew it")
    until, left = f"{facts.not_after:%Y-%m-%d}", facts.not_after - now
    if left >= _SOON:
        return ok(code, f"{facts.common_name}, valid until {until}")
    text = f"expires on {until}, in {left.days} days"
    if left < _NOW and ours:
        return error(code, text, "renew it today")
    return warning(code, text, "order the new one now" if left < _URGENT else "renew it in time")


def check_scanner_setting(settings: Settings) -> Iterable[Finding]:
    """Say whether messages are scanned at all."""
    if not settings.scanner.clamd:
        yield warning(
            "scanner-none", "messages are not scanned for malware", "run clamd and set scanner.clamd"
        )
