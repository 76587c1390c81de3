"""``kephs trust``: whom the server believes. Two persons let a certificate in, one takes it out."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import click

from config import settings as config_settings
from config.settings import Settings
from directory.adapters.register_folder import SIGNATURE_SUFFIX
from directory.provider_file import RegisterSignatureError
from evidence.adapters.soft_signer import SoftSigner
from evidence.adapters.trust_folder import ders_of
from evidence.x509.certificates import CertificateError, certificate_facts
from kephs.bootstrap.opening import open_door
from kephs.cli.output import ExitError, guarded, instance_argument, json_option, print_facts, print_json, run
from kephs.cli.trust.keys import limit_facts
from kephs.cli.trust.text import anchor_facts, print_anchor, print_proposals, proposal_facts, shown
from kephs.cli.trust.words import cure_of
from kephs.domain.trust_list import AnchorState, TrustAnchor
from kephs.instances.databases import InstanceStore, check_schema, open_database
from kephs.instances.keys import open_keys
from kephs.register_seal import read_pins, register_verifier, sign_register
from kephs.system import SystemClock
from kephs.usecases.governance.trust_file import MAX_FILE, TrustFileError, parse_trust_file
from kephs.usecases.governance.trust_list import Proposal, TrustFault, TrustList, TrustRefusedError
from storage.files.survey import UNREADABLE

_by = click.option("--by", required=True, metavar="NAME", help="The person who does it; kept in the record.")
_file = click.Path(path_type=Path, dir_okay=False)
_fingerprint = click.argument("fingerprint", metavar="FINGERPRINT")


@click.group()
def command() -> None:
    """Whom the server believes (güven listesi): list, import, approve, retire."""


@command.command("list")
@instance_argument
@click.option("--all", "everything", is_flag=True, help="Retired ones too.")
@json_option
@guarded
def list_(directory: Path, everything: bool, as_json: bool) -> None:  # noqa: FBT001  # click hands options by name
    """List what is trusted and what waits for confirmation. Retired ones are never deleted: --all."""
    anchors = run(_anchors(directory))
    shown = [one for one in anchors if everything or one.state is not AnchorState.RETIRED]
    shown.sort(key=lambda one: (list(AnchorState).index(one.state), one.label))
    now = SystemClock().now()
    if as_json:
        active = sum(one.trusted for one in anchors)
        print_json({"active": active, "anchors": [anchor_facts(one, now) for one in shown]})
        return
    if not shown:
        click.echo("nothing is trusted / hiçbir sertifikaya güvenilmiyor: kephs trust import DIR FILE")
    for anchor in shown:
        print_anchor(anchor, now)


@command.command("import")
@instance_argument
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False)
)
@_by
@json_option
@guarded
def import_(directory: Path, files: tuple[Path, ...], by: str, as_json: bool) -> None:  # noqa: FBT001
    """Propose the certificates of FILE...: PEM, DER, or a signed list with its .p7s beside it.

    Nothing is trusted yet: two persons confirm each with kephs trust approve. Exit status 1: some refused.
    """
    proposals = run(_import(directory, files, by))
    refused = any(one.anchor is None for one in proposals)
    if as_json:
        told = [proposal_facts(one, SystemClock().now()) for one in proposals]
        print_json({"proposals": told, "limits": limit_facts()})
    else:
        print_proposals(proposals, SystemClock().now())
    raise click.exceptions.Exit(1 if refused else 0)


@command.command()
@instance_argument
@_fingerprint
@_by
@json_option
@guarded
def approve(directory: Path, fingerprint: str, by: str, as_json: bool) -> None:  # noqa: FBT001
    """Confirm a proposed certificate by its whole SHA-256 fingerprint.

    It is trusted once two persons of different names did so, each with the provider's own publication.
    """
    anchor = run(_step(directory, lambda work: work.confirm(fingerprint, by)))
    _tell(anchor, as_json=as_json)


@command.command()
@instance_argument
@_fingerprint
@_by
@click.option("--reason", required=True, metavar="TEXT", help="Why; kept in the record.")
@json_option
@guarded
def retire(directory: Path, fingerprint: str, by: str, reason: str, as_json: bool) -> None:  # noqa: FBT001
    """Take trust from a certificate at once; one person is enough. It stays on record."""
    anchor = run(_step(directory, lambda work: work.retire(fingerprint, by, reason)))
    _tell(anchor, as_json=as_json)


@command.command()
@click.argument("file", metavar="FILE", type=_file)
@click.option("--key", required=True, type=_file, help="PEM: the list operator's private key.")
@click.option("--certificate", required=True, type=_file, help="PEM: its certificate.")
@json_option
@guarded
def sign(file: Path, key: Path, certificate: Path, as_json: bool) -> None:  # noqa: FBT001
    """Check FILE, a list of certificates, and write its signature to FILE.p7s. For the list's operator."""
    content, now = _read(file), SystemClock().now()
    try:
        count = len(parse_trust_file(content).certificates)
    except TrustFileError as error:
        raise _exit("list-content", f"{file}: {error}") from None
    signer = SoftSigner.from_pem(certificate, key)
    facts = certificate_facts(signer.certificate)
    if not facts.valid_at(now):
        raise _exit("key-unusable", f"{certificate} is not valid now")
    target = file.with_name(file.name + SIGNATURE_SUFFIX)
    target.write_bytes(sign_register(content, signer, now))
    told = {"file": str(target), "certificates": count, "signer_sha256": facts.sha256.hex()}
    if as_json:
        print_json(told)
    else:
        print_facts((name, shown(str(value))) for name, value in told.items())


def _tell(anchor: TrustAnchor, *, as_json: bool) -> None:
    now = SystemClock().now()
    if as_json:
        print_json(anchor_facts(anchor, now))
        return
    print_anchor(anchor, now)
    if anchor.state is AnchorState.PROPOSED:
        click.echo("one more person must confirm it / bir kişinin daha onaylaması gerekiyor")
    else:
        click.echo("running servers follow within half a minute / çalışan sunucular yarım dakikada uygular")


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[tuple[Settings, InstanceStore]]:
    """Open an instance's database beside its server, and nothing else: the rest may be broken.

    Raises:
        ExitError: a row was changed by somebody without the instance's key.
    """
    settings = config_settings.load(directory)
    check_schema(settings)
    store = open_database(settings, column_key=open_keys(settings).columns)
    await store.start()
    try:
        yield settings, store
    except UNREADABLE as error:
        raise _exit("row-unreadable", f"a row was not written by kephs ({type(error).__name__})") from None
    finally:
        await store.close()


async def _anchors(directory: Path) -> list[TrustAnchor]:
    async with opened(directory) as (settings, store):
        return list(await _list_of(settings, store).anchors())


async def _step(directory: Path, step: Callable[[TrustList], Awaitable[TrustAnchor]]) -> TrustAnchor:
    async with opened(directory) as (settings, store):
        try:
            return await step(_list_of(settings, store))
        except TrustRefusedError as error:
            raise _exit(error.fault.value, str(error)) from None


async def _import(directory: Path, files: Sequence[Path], by: str) -> list[Proposal]:
    settings = config_settings.load(directory)
    found = [(path, _certificates(settings, path)) for path in files]
    proposals: list[Proposal] = []
    async with opened(directory) as (_, store):
        for path, ders in found:
            try:
                proposals += await _list_of(settings, store).propose(ders, by, f"file {path.name[:200]}")
            except TrustRefusedError as error:
                raise _exit(error.fault.value, str(error)) from None
    return proposals


def _list_of(settings: Settings, store: InstanceStore) -> TrustList:
    return TrustList(store, SystemClock(), open_door(settings))


def _certificates(settings: Settings, path: Path) -> list[bytes]:
    """Return the certificates of a file, whatever they are worth."""
    content = _read(path)
    if path.suffix.lower() == ".json":
        return list(_signed(settings, path, content))
    try:
        return ders_of(content)
    except CertificateError as error:
        raise _exit(TrustFault.UNREADABLE.value, f"{path}: {error}") from None


def _signed(settings: Settings, path: Path, content: bytes) -> tuple[bytes, ...]:
    """Return what a signed list holds, once its signature is that of a pinned signer."""
    pins = _pins(settings)
    try:
        register_verifier(pins)(content, _read(path.with_name(path.name + SIGNATURE_SUFFIX)))
        return parse_trust_file(content).certificates
    except RegisterSignatureError as error:
        raise _exit("list-signature", f"{path}: {error}") from None
    except TrustFileError as error:
        raise _exit("list-content", f"{path}: {error}") from None


def _pins(settings: Settings) -> frozenset[bytes]:
    try:
        pins = read_pins(settings.trust.list_signers)
    except ValueError as error:
        raise _exit("list-signer", f"trust.list_signers: {error}") from None
    if not pins:
        text = "nobody may sign lists here: trust.list_signers is empty"
        raise ExitError("list-signer", text, cure_of("list-signer-none"))
    return pins


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise _exit("file-too-large", f"{path}: larger than {MAX_FILE >> 20} MiB")
    return content


def _exit(code: str, text: str) -> ExitError:
    return ExitError(code, text, cure_of(code))
