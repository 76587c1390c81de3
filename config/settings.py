"""Settings of one instance: typed, frozen, described. Read here and nowhere else.

An instance is a directory with ``kephs.toml``; relative paths in it start there. Values that the file does
not give come from ``config/defaults.toml``.
"""

import os
import tomllib
from pathlib import Path
from typing import Any, Final, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

FILE_NAME: Final = "kephs.toml"
FAILPOINT_VARIABLE: Final = "KEPHS_FAILPOINT"


class SettingsError(Exception):
    """The settings cannot be used; the text names the place and the cure."""


PORT_MAX: Final = 65_535


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ProviderSettings(_Section):
    """Who this provider is: what evidence says of its issuer (KEP-EC-05, KEP-EC-06)."""

    domain: str = Field(description="Domain every address here ends in, such as hs91.kep.tr")
    suffix: str = Field(description="Ending all KEP domains share")
    legal_name: str = Field(description="Legal name, as in the transaction certificate")
    service_address: str = Field(description="Address evidence and KEP messages come from")
    policy_id: str = Field(description="URL or OID URN of the practice statement (KEPUE)")
    street: str = Field(description="Street address of the provider")
    locality: str = Field(description="Town")
    postal_code: str = Field(description="Postal code")
    country: str = Field(description="ISO 3166 country code")


class NetworkSettings(_Section):
    """Where the edges listen. TLS is implicit for submission and IMAP."""

    host: str = Field(description="Address the edges bind to")
    submission_port: int = Field(
        ge=0, le=PORT_MAX, description="Submission over implicit TLS (465 in production)"
    )
    inbound_port: int = Field(
        ge=0, le=PORT_MAX, description="Where other providers hand over, with STARTTLS (25 in production)"
    )
    imap_port: int = Field(ge=0, le=PORT_MAX, description="IMAP over implicit TLS (993 in production)")
    metrics_port: int = Field(
        ge=0, le=PORT_MAX, description="Prometheus metrics at /metrics, on 127.0.0.1 only; 0: none"
    )
    tls_certificate: Path = Field(description="PEM: server certificate and its chain")
    tls_key: Path = Field(description="PEM: private key of the server certificate")
    max_connections: int = Field(ge=1, description="Connections per edge; more are told to come back")
    idle_seconds: int = Field(
        ge=1, description="Seconds without a command before a submission connection is closed"
    )
    data_seconds: int = Field(ge=1, description="Longest time for the content of one message")


class ProcessSettings(_Section):
    """How a server process runs."""

    processor: Literal["own", "any"] = Field(
        description="own: a server's threads keep to one processor that no other server of this machine has, "
        "its children use the others; any: the system moves them (one processor, or containers sharing some)"
    )


class PeerSettings(_Section):
    """The register of providers (R-09)."""

    directory: Path = Field(description="Folder of the register's file and its history")
    register_signers: tuple[str, ...] = Field(
        description="SHA-256, hexadecimal, of certificates that may sign the register; two in a roll-over"
    )


class RelaySettings(_Section):
    """Handing over to other providers, and how long to wait for their evidence (KEP-MS-12). Seconds."""

    give_up_seconds: float = Field(gt=0, description="Tries to hand a message over end after this: 31")
    no_answer_seconds: float = Field(gt=0, description="Wait for 20 or 21 after the hand-over: 31, reason 9")
    no_delivery_info_seconds: float = Field(gt=0, description="Wait for 40 or 41 after 20: 41, reason 9")
    receipts_seconds: float = Field(gt=0, description="Tries to hand a receipt over end after this")
    first_retry_seconds: float = Field(gt=0, description="First wait after a failed try; it doubles")
    longest_retry_seconds: float = Field(gt=0, description="Longest wait between two tries")
    connections: int = Field(ge=1, description="Connections to one provider at the same time")
    connect_seconds: float = Field(gt=0, description="Longest wait for a connection")
    reply_seconds: float = Field(gt=0, description="Longest wait for one reply")
    final_reply_seconds: float = Field(gt=0, description="Longest wait for the reply to a message's content")


class StorageSettings(_Section):
    """Where rows and content lie."""

    database_url: str = Field(
        description="postgresql://... of the cluster profile; empty: SQLite in storage.database"
    )
    lease_seconds: float = Field(
        gt=0, description="Work a process took and did not finish is free after this"
    )
    database: Path = Field(description="SQLite file")
    blobs: Path = Field(description="Folder of the encrypted content")
    master_key: Path = Field(
        description="File with the 32-byte master key, hexadecimal; keep a backup elsewhere"
    )
    master_key_backup: bool = Field(
        description="Say true once a backup of the master key exists; doctor warns until then"
    )
    identity_key: Path = Field(description="File with the key under which identity numbers are hashed")


class TsaAccount(_Section):
    """How an authority knows us, and how many time stamps were bought."""

    url: str = Field(description="One of seal.tsa")
    auth: Literal["none", "basic", "kamusm"] = Field(
        default="none", description="How it wants to be told who asks"
    )
    user: str = Field(default="", description="User name or number at the authority")
    password_file: Path | None = Field(default=None, description="File whose first line is the password")
    credits: int | None = Field(
        default=None, ge=0, description="Time stamps ever bought; doctor warns before they end"
    )
    policy: str = Field(default="", description="OID of the policy its time stamps must have; empty: any")


class SealSettings(_Section):
    """Key and time stamps of evidence."""

    stamping: Literal["batch", "per_evidence"] = Field(
        description="batch: one token for many, a record (RFC 4998) beside each; per_evidence: one in each"
    )
    batch_seconds: float = Field(
        ge=0, le=5, description="Longest wait of a batch for company; 0: what came during the last one"
    )
    batch_most: int = Field(ge=1, le=100_000, description="Most evidence under one token")
    unstamped_grace: bool = Field(
        description="While no authority answers, accept and release evidence whose record follows (D16)"
    )
    tsa_accounts: tuple[TsaAccount, ...] = Field(description="Credentials and credits at authorities")
    pkcs11_module: str = Field(description="PKCS#11 library of the key's device; empty: the key is a file")
    pkcs11_token: str = Field(description="Label of the token")
    pkcs11_key: str = Field(description="Label of the private key on it")
    pin_file: Path = Field(description="File whose first line is the token's PIN")
    certificate: Path = Field(description="PEM: transaction certificate (işlem sertifikası)")
    key: Path = Field(description="PEM: its private key (software keys are for tests, KEP-SG-07)")
    chain: Path = Field(description="PEM: intermediate certificates")
    tsa: tuple[str, ...] = Field(
        description="URLs of time-stamping authorities, in order of use (two advised)"
    )
    tsa_seconds: float = Field(gt=0, description="Longest wait for one time stamp")
    transaction_policies: tuple[str, ...] = Field(
        description="Policy OIDs that mark transaction certificates"
    )


class LogKey(_Section):
    """Another party of the ledger: where it is, and its verifier key (C2SP signed-note)."""

    vkey: str = Field(description="Verifier key: name+hash+base64")
    url: str = Field(default="", description="A witness's address; unused for logs we cosign")


class LedgerSettings(_Section):
    """The public side of the evidence ledger: signed checkpoints and tiles."""

    key: Path = Field(description="PEM: Ed25519 key that signs checkpoints, apart from the transaction key")
    origin: str = Field(description="Name of the log; empty: DOMAIN/kephs-ledger")
    host: str = Field(description="Address the read-only HTTP server binds to")
    port: int = Field(ge=0, le=PORT_MAX, description="Its port; 0: none")
    checkpoint_seconds: float = Field(
        gt=0, description="A checkpoint is signed this often while evidence comes"
    )
    witnesses: tuple[LogKey, ...] = Field(description="Who cosigns our checkpoints")
    witnessed: tuple[LogKey, ...] = Field(description="Logs whose checkpoints we cosign")


class ArchiveSettings(_Section):
    """The archive: evidence and process records for twenty years and more, written once (KEP-RT-01)."""

    kind: Literal["files", "s3"] = Field(
        description="files: a folder, write-once by this program alone; s3: a bucket with object lock"
    )
    folder: Path = Field(description="Folder of the archive, for kind files; better on a disk of its own")
    endpoint: str = Field(description="host:port of the S3 server, for kind s3")
    bucket: str = Field(description="Bucket made with object lock, for kind s3")
    region: str = Field(min_length=1, description="Region of the bucket")
    access_key_file: Path = Field(description="File whose first line is the access key")
    secret_key_file: Path = Field(description="File whose first line is the secret key")
    tls: bool = Field(description="Speak TLS with the S3 server; off in tests only")
    ca_file: Path | None = Field(
        default=None, description="PEM: authorities of the S3 server's certificate; without it the system's"
    )
    seconds: float = Field(gt=0, description="Longest wait for the S3 server's next octets")
    threads: int = Field(ge=1, le=64, description="Calls to the archive at the same time")
    retention_years: int = Field(
        ge=20, le=100, description="Objects are kept this long after the event; the law asks for 20 at least"
    )
    objects_of: int = Field(ge=1, le=1000, description="Most evidence in one object; 1: each in its own")
    seal_after_seconds: float = Field(gt=0, description="Evidence waits this long for company in an object")
    alarm_after_seconds: float = Field(
        gt=0, description="Evidence outside the archive for longer than this raises the alarm"
    )


class TrustSettings(_Section):
    """Whom we believe."""

    roots: Path = Field(
        description="Folder of roots, PEM, for verifiers outside; the server goes by `kephs trust list`"
    )
    intermediates: Path = Field(
        description="Folder of issuing certificates, PEM, for signatures that bring none; never trusted"
    )
    list_signers: tuple[str, ...] = Field(
        description="SHA-256, hexadecimal, of certificates that may sign lists for `kephs trust import`"
    )
    revocation_seconds: float = Field(gt=0, description="Longest wait for one OCSP or CRL answer")
    revocation_refresh_seconds: float = Field(
        ge=0, description="A good answer is asked again after this long, so a revocation is seen no later"
    )
    allow_qualified_seals: bool = Field(description="Accept qualified e-seals as senders' signatures")
    certificate_binding: Literal["first-use", "challenge"] = Field(
        description="first-use: an authorised person's new certificate is bound when it is first sent with; "
        "challenge: only certificates bound by a signed challenge send"
    )
    grace: Literal["annotate", "hold"] = Field(
        description="While what a signature needs is still to come (revocation after its time): "
        "annotate: accept and say so; hold: tell the sender to try again later"
    )
    client_signatures: Literal["strict", "mail-programs"] = Field(
        description="strict: CAdES in DER, as the communiqué asks; mail-programs: also what Thunderbird, "
        "Outlook and Apple Mail sign by themselves (indefinite lengths, certificate not named)"
    )
    proxy: str = Field(description="URL of the HTTP proxy for OCSP, CRL and time stamps; empty: none")


class TestPkiSettings(_Section):
    """The TEST PKI. Never in production."""

    enabled: bool = Field(description="This instance was made with --test-pki and may trust TEST roots")
    directory: Path = Field(description="Folder of the TEST PKI; empty where another instance runs it")
    host: str = Field(description="Address it listens on")
    port: int = Field(ge=0, le=PORT_MAX, description="Port it listens on; 0 where another instance runs it")


class LimitSettings(_Section):
    """Sizes and numbers (KEP-MS-02, D15)."""

    max_local_mib: int = Field(ge=1, description="Decoded content in MiB where all recipients are here")
    max_elsewhere_mib: int = Field(ge=1, description="Decoded content in MiB where a recipient is elsewhere")
    wire_factor: float = Field(ge=1, description="The wire may carry this many times the decoded limit")
    max_recipients: int = Field(ge=1, description="Recipients per message")
    opaque_mib: int = Field(
        ge=1, description="Largest opaque (application/pkcs7-mime) message, held in memory"
    )


class ScannerSettings(_Section):
    """Malware scanner."""

    clamd: str = Field(description="unix:/path or tcp:host:port of clamd; empty: no scanning, doctor warns")
    seconds: float = Field(gt=0, description="Longest wait for a verdict")


class ReadSettings(_Section):
    """What counts as reading (KEP-LM-05)."""

    trigger_imap_body: bool = Field(
        description="Content fetched over IMAP is a reading; off: a stub is served"
    )


class Settings(_Section):
    """All settings of one instance."""

    provider: ProviderSettings
    network: NetworkSettings
    process: ProcessSettings
    peers: PeerSettings
    relay: RelaySettings
    storage: StorageSettings
    seal: SealSettings
    ledger: LedgerSettings
    archive: ArchiveSettings
    trust: TrustSettings
    test_pki: TestPkiSettings
    limits: LimitSettings
    scanner: ScannerSettings
    read: ReadSettings


def load(directory: Path) -> Settings:
    """Read an instance's settings; relative paths become absolute.

    Raises:
        SettingsError: no instance there, or a value is wrong.
    """
    path = directory / FILE_NAME
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"no instance in {directory}: make one with kephs init") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None
    merged = _merged(defaults(), given)
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{path}: {place}: {first['msg']}") from None
    return _absolute(settings, directory.resolve())


def save(directory: Path, values: dict[str, Any]) -> None:
    """Write an instance's own values (those that differ from the defaults), for its owner alone."""
    path = directory / FILE_NAME
    path.touch(mode=0o600)
    path.chmod(0o600)  # it may hold the database's password
    path.write_text(tomli_w.dumps(values), encoding="utf-8")


def defaults() -> dict[str, Any]:
    """Return the shipped defaults as plain data."""
    return tomllib.loads((Path(__file__).parent / "defaults.toml").read_text(encoding="utf-8"))


def failpoint() -> str:
    """Return the name of the failpoint to die at (fault tests only), or an empty string."""
    return os.environ.get(FAILPOINT_VARIABLE, "")  # noqa: TID251  # the one place


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        inside = merged.get(key)
        merged[key] = (
            _merged(inside, value) if isinstance(inside, dict) and isinstance(value, dict) else value
        )
    return merged


def _absolute(settings: Settings, directory: Path) -> Settings:
    """Return the settings with every relative path starting in the instance's folder."""
    sections = {name: _placed(getattr(settings, name), directory) for name in Settings.model_fields}
    return settings.model_copy(update=sections)


def _placed(section: _Section, directory: Path) -> _Section:
    changed: dict[str, Any] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Path):
            changed[name] = directory / value
        elif isinstance(value, tuple) and value and isinstance(value[0], _Section):
            changed[name] = tuple(_placed(one, directory) for one in value)
    return section.model_copy(update=changed)
