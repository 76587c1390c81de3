"""``kephs peers``: the register of providers: take in a signed issue, show it, describe oneself for it."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import click

from config import settings as config_settings
from config.settings import Settings, SettingsError
from directory.adapters.register_folder import (
    SIGNATURE_SUFFIX,
    Imported,
    LoadedRegister,
    RegisterError,
    RegisterFault,
    RegisterFolder,
)
from directory.addresses import DEFAULT_SUFFIX
from directory.provider_changes import Change, ChangeKind
from directory.provider_file import MAX_FILE, ProviderEntry, ProviderFileError, TlsPin, parse_provider_file
from directory.providers import SealingCertificate
from evidence.adapters.soft_signer import SoftSigner
from evidence.adapters.trust_folder import certificates_of
from evidence.x509.certificates import CertificateError, certificate_facts
from kephs.cli.output import (
    ExitError,
    guarded,
    instance_argument,
    json_option,
    print_facts,
    print_json,
    print_table,
)
from kephs.register_seal import (
    register_entry,
    sign_register,
    unreadable_certificate,
)
from kephs.system import SystemClock

_ANYWHERE: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104  # recognised, not bound

_CURES: Final[Mapping[RegisterFault, str]] = MappingProxyType(
    {
        RegisterFault.UNREADABLE: "give providers.json with providers.json.p7s beside it",
        RegisterFault.SIGNATURE: "get the file again; its signer must stand in peers.register_signers",
        RegisterFault.CONTENT: "tell the register's operator: the file breaks its own format",
        RegisterFault.FALLING: "use a newer issue: kephs peers history DIR shows those accepted",
        RegisterFault.REWRITTEN: "tell the register's operator: every issue needs a new sequence number",
        RegisterFault.BACKDATED: "tell the register's operator: issue times must not fall",
        RegisterFault.FUTURE: "check this machine's clock: kephs doctor DIR",
        RegisterFault.EXPIRED: "get the current issue from the register's operator",
        RegisterFault.MISSING: "import the current issue: kephs peers import DIR FILE",
    }
)
_WORDS: Final[Mapping[ChangeKind, tuple[str, str]]] = MappingProxyType(
    {
        ChangeKind.NEW: ("new provider", "yeni sağlayıcı"),
        ChangeKind.GONE: ("provider no longer listed", "sağlayıcı artık kayıtta yok"),
        ChangeKind.PERIOD: ("registered period changed", "kayıt süresi değişti"),
        ChangeKind.NAME: ("name changed", "ad değişti"),
        ChangeKind.SERVICE_ADDRESS: ("service address changed", "hizmet adresi değişti"),
        ChangeKind.ENDPOINT: ("SMTP server changed", "SMTP sunucusu değişti"),
        ChangeKind.PIN_ADDED: ("TLS certificate added", "TLS sertifikası eklendi"),
        ChangeKind.PIN_REMOVED: ("TLS certificate removed", "TLS sertifikası kaldırıldı"),
        ChangeKind.PIN_PERIOD: ("TLS certificate's dates changed", "TLS sertifikasının tarihleri değişti"),
        ChangeKind.CERTIFICATE_ADDED: ("transaction certificate added", "işlem sertifikası eklendi"),
        ChangeKind.CERTIFICATE_REMOVED: (
            "WARNING: transaction certificate no longer listed (old evidence needs it)",
            "UYARI: işlem sertifikası artık kayıtta yok (eski deliller için gerekli)",
        ),
        ChangeKind.CERTIFICATE_PERIOD: (
            "transaction certificate's dates changed", "işlem sertifikasının tarihleri değişti",
        ),
        ChangeKind.LIMIT: ("largest message changed", "en büyük ileti boyutu değişti"),
        ChangeKind.PROFILE: ("profile changed", "profil değişti"),
        ChangeKind.STAMPS: ("time stamps agreed otherwise", "zaman damgası anlaşması değişti"),
    }
)  # fmt: skip

_file = click.Path(path_type=Path, dir_okay=False)


@click.group()
def command() -> None:
    """The register of providers (sağlayıcı kaydı): import, list, show, history; sign and describe."""


@command.command("import")
@instance_argument
@click.argument("file", metavar="FILE", type=_file)
@json_option
@guarded
def import_(directory: Path, file: Path, as_json: bool) -> None:  # noqa: FBT001  # click hands options by name
    """Check FILE and FILE.p7s, keep them for ever, make them the current register; say what changed."""
    folder = _folder(directory)
    try:
        done = folder.import_file(file)
    except RegisterError as error:
        raise _exit(error) from None
    if as_json:
        print_json(_imported(done))
        return
    word = "accepted / kabul edildi" if done.stored else "known already / zaten kayıtlı"
    click.echo(f"issue {done.file.sequence}: {word}; next by / sonraki {_time(done.file.next_update)}")
    for change in done.changes:
        click.echo(f"  {_change_line(change)}")


@command.command("list")
@instance_argument
@json_option
@guarded
def list_(directory: Path, as_json: bool) -> None:  # noqa: FBT001
    """List the peers known now."""
    loaded = _load(_folder(directory))
    if as_json:
        print_json(_loaded(loaded))
        return
    _print_state(loaded)
    rows = [
        [
            peer.domain, peer.name, f"{peer.host} {peer.port}", str(len(peer.tls_pins)),
            str(len(peer.certificates)), str(peer.max_message >> 20), peer.profile.value,
        ]
        for peer in sorted(loaded.register.peers.values(), key=lambda one: one.domain)
    ]  # fmt: skip
    if rows:
        print_table(("domain", "name", "smtp", "tls pins", "transaction", "max MiB", "profile"), rows)


@command.command()
@instance_argument
@click.argument("domain", metavar="DOMAIN")
@json_option
@guarded
def show(directory: Path, domain: str, as_json: bool) -> None:  # noqa: FBT001
    """Show what the register says of one provider, certificates included."""
    folder = _folder(directory)
    loaded = _load(folder)
    entry = folder.entry(domain.lower())
    if entry is None:
        raise ExitError("no-such-peer", f"{domain} is not in the register", "see kephs peers list DIR")
    facts = _entry(entry, SystemClock().now(), own=loaded.register.own)
    if as_json:
        print_json(facts)
        return
    print_facts((name, _cell(value)) for name, value in facts.items() if not isinstance(value, list))
    for name, title in (
        ("tls_certificates", "TLS certificates / TLS sertifikaları"),
        ("transaction_certificates", "transaction certificates / işlem sertifikaları"),
    ):
        click.echo(f"\n{title}")
        columns = ("sha256", "valid_from", "valid_until", "valid_now")
        print_table(columns, [[_cell(one[column]) for column in columns] for one in facts[name]])


@command.command()
@instance_argument
@json_option
@guarded
def history(directory: Path, as_json: bool) -> None:  # noqa: FBT001
    """List every issue ever accepted; their files lie in DIR/peers/history by default."""
    folder = _folder(directory)
    try:
        issues = folder.history()
        listed = [
            {
                "sequence": file.sequence,
                "issued_at": _time(file.issued_at),
                "next_update": _time(file.next_update),
                "providers": [entry.domain for entry in file.entries],
            }
            for file in issues
        ]
    except RegisterError as error:
        raise _exit(error) from None
    if as_json:
        print_json({"issues": listed})
        return
    columns = ("sequence", "issued_at", "next_update", "providers")
    print_table(columns, [[_cell(one[column]) for column in columns] for one in listed])


@command.command()
@click.argument("file", metavar="FILE", type=_file)
@click.option("--key", required=True, type=_file, help="PEM: the operator's private key.")
@click.option("--certificate", required=True, type=_file, help="PEM: its certificate.")
@click.option("--suffix", default=DEFAULT_SUFFIX, show_default=True, help="Ending all KEP domains share.")
@json_option
@guarded
def sign(file: Path, key: Path, certificate: Path, suffix: str, as_json: bool) -> None:  # noqa: FBT001
    """Check FILE, a register, and write its signature to FILE.p7s. For the register's operator."""
    with file.open("rb") as source:
        content = source.read(MAX_FILE + 1)
    try:
        issue = parse_provider_file(content, suffix=suffix)
    except ProviderFileError as error:
        raise ExitError("register-content", f"{file}: {error}", "correct the file, then sign it") from None
    problem = unreadable_certificate(content)
    if problem is not None:
        raise ExitError("register-content", f"{file}: {problem}", "put the certificate's DER in base64 there")
    signer, now = SoftSigner.from_pem(certificate, key), SystemClock().now()
    facts = certificate_facts(signer.certificate)
    if not facts.valid_at(now):
        raise ExitError(
            "key-unusable",
            f"{certificate}: the certificate is not valid now",
            "sign with a valid certificate",
        )
    target = file.with_name(file.name + SIGNATURE_SUFFIX)
    target.write_bytes(sign_register(content, signer, now))
    told = {
        "file": str(target),
        "sequence": issue.sequence,
        "signer": facts.subject_text,
        "signer_sha256": facts.sha256.hex(),
    }
    _print(told, as_json=as_json)


@command.command()
@instance_argument
@click.option(
    "--host", help="Where peers reach the SMTP server. Default: network.host, unless it is a wildcard."
)
@click.option(
    "--port", type=click.IntRange(1, config_settings.PORT_MAX), help="Default: network.inbound_port."
)
@json_option
@guarded
def describe(directory: Path, host: str | None, port: int | None, as_json: bool) -> None:  # noqa: ARG001, FBT001  # always JSON
    """Print this provider's own entry as JSON, ready for the register's operator."""
    settings = config_settings.load(directory)
    print_json(describe_instance(settings, host=host, port=port))


# --------------------------------------------------------------------------- for the demo and tests too


def describe_instance(
    settings: Settings, *, host: str | None = None, port: int | None = None, since: datetime | None = None
) -> dict[str, Any]:
    """Return an instance's own register entry.

    Args:
        settings: of the instance.
        host: where peers reach it; by default where it binds, if that is one address.
        port: of its inbound SMTP; by default ``network.inbound_port``.
        since: from when it is a provider; by default from when both certificates are valid.

    Raises:
        ExitError: host or port is not known.
        SettingsError: a certificate cannot be read.
    """
    network, provider = settings.network, settings.provider
    port = port or network.inbound_port
    if not port:
        raise ExitError("no-inbound-port", "network.inbound_port is 0", "set it in kephs.toml, or --port")
    host = host or network.host
    if host in _ANYWHERE:
        raise ExitError("no-host", f"network.host is {host}, which is no address to call", "give --host")
    tls = _first_certificate(network.tls_certificate)
    transaction = _first_certificate(settings.seal.certificate)
    starts = [certificate_facts(der).not_before for der in (tls, transaction)]
    return register_entry(
        domain=provider.domain,
        name=provider.legal_name,
        service_address=provider.service_address,
        host=host,
        port=port,
        tls_certificates=[tls],
        transaction_certificates=[transaction],
        max_message_mib=settings.limits.max_elsewhere_mib,
        since=since or max(starts),
    )


# --------------------------------------------------------------------------- shared


def _period(listed: TlsPin | SealingCertificate, now: datetime) -> dict[str, Any]:
    return {
        "sha256": listed.sha256.hex(),
        "valid_from": _time(listed.valid_from),
        "valid_until": _time(listed.valid_until),
        "valid_now": listed.valid_at(now),
    }


def _folder(directory: Path) -> RegisterFolder:
    from kephs.bootstrap import (
        open_register_folder,
    )  # `sign` and `describe` start without the server's weight

    return open_register_folder(config_settings.load(directory), SystemClock().now)


def _load(folder: RegisterFolder) -> LoadedRegister:
    try:
        return folder.load()
    except RegisterError as error:
        raise _exit(error) from None


def _exit(error: RegisterError) -> ExitError:
    return ExitError(error.fault.value, str(error), _CURES[error.fault])


def _first_certificate(path: Path) -> bytes:
    try:
        return certificates_of(path.read_bytes())[0]
    except (OSError, CertificateError) as error:
        raise SettingsError(f"{path}: {error}") from None


def _print_state(loaded: LoadedRegister) -> None:
    if loaded.issued_at is None or loaded.next_update is None:
        click.echo("no register yet: no peers are known / kayıt yok: hiçbir sağlayıcı tanınmıyor")
    else:
        click.echo(
            f"issue {loaded.sequence} of / tarihi {_time(loaded.issued_at)}, "
            f"next by / sonraki {_time(loaded.next_update)}"
        )
    if loaded.stale:
        click.echo(
            "WARNING: next_update has passed: nothing is relayed / UYARI: süresi geçti, ileti aktarılmıyor"
        )
    if loaded.problem is not None:
        click.echo(f"WARNING / UYARI: {loaded.problem}")
    if loaded.own_listed:
        click.echo(f"{loaded.register.own}: own entry, ignored / kendi kaydımız, dikkate alınmaz")


def _loaded(loaded: LoadedRegister) -> dict[str, Any]:
    return {
        "sequence": loaded.sequence,
        "issued_at": None if loaded.issued_at is None else _time(loaded.issued_at),
        "next_update": None if loaded.next_update is None else _time(loaded.next_update),
        "stale": loaded.stale,
        "problem": loaded.problem,
        "own_listed": loaded.own_listed,
        "peers": [
            {
                "domain": peer.domain,
                "name": peer.name,
                "service_address": peer.service_address,
                "smtp": {"host": peer.host, "port": peer.port},
                "tls_pins": sorted(pin.hex() for pin in peer.tls_pins),
                "transaction_certificates": [one.sha256.hex() for one in peer.certificates],
                "max_message_mib": peer.max_message >> 20,
                "profile": peer.profile.value,
                "stamps": peer.stamps.value,
            }
            for peer in sorted(loaded.register.peers.values(), key=lambda one: one.domain)
        ],
    }


def _entry(entry: ProviderEntry, now: datetime, *, own: str) -> dict[str, Any]:
    return {
        "domain": entry.domain,
        "name": entry.name,
        "own": entry.domain == own,
        "registered_now": entry.listed_at(now),
        "service_address": entry.service_address,
        "host": entry.host,
        "port": entry.port,
        "max_message_mib": entry.max_message >> 20,
        "profile": entry.profile.value,
        "stamps": entry.stamps.value,
        "since": _time(entry.since),
        "until": None if entry.until is None else _time(entry.until),
        "tls_certificates": [_period(one, now) for one in entry.tls],
        "transaction_certificates": [_period(one, now) for one in entry.certificates],
    }


def _imported(done: Imported) -> dict[str, Any]:
    return {
        "sequence": done.file.sequence,
        "stored": done.stored,
        "issued_at": _time(done.file.issued_at),
        "next_update": _time(done.file.next_update),
        "changes": [
            {"kind": one.kind.value, "domain": one.domain, "before": one.before, "after": one.after}
            for one in done.changes
        ],
    }


def _change_line(change: Change) -> str:
    english, turkish = _WORDS[change.kind]
    values = " -> ".join(value for value in (change.before, change.after) if value is not None)
    return f"{change.domain}: {english} / {turkish}: {values}"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes / evet" if value else "no / hayır"
    if isinstance(value, list):
        return ",".join(str(one) for one in value)
    return "-" if value is None else str(value)


def _print(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(facts)
    else:
        print_facts((name, _cell(value)) for name, value in facts.items())
