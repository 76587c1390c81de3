"""``kephs account certificates|challenge|bind|withdraw|seals``: what may sign for an account."""

import base64
import binascii
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

import aiohttp
import click

from config import settings
from config.settings import Settings
from directory.accounts import Account
from directory.certificates import BoundCertificate
from evidence.nes.sentences import sentence
from kephs.bootstrap.opening import open_trust
from kephs.bootstrap.sealing import open_nes_policy, open_revocation
from kephs.cli.beside import open_beside
from kephs.cli.output import (
    ExitError,
    guarded,
    instance_argument,
    json_option,
    print_facts,
    print_json,
    print_table,
    run,
)
from kephs.instances.keys import open_keys
from kephs.system import HmacIdentity, TimeOrderedIds
from kephs.usecases.people.binding_challenge import CHALLENGE_MAX
from kephs.usecases.people.certificates import (
    SIGNATURE_MAX,
    BindingError,
    BindingFault,
    CertificateState,
    CertificateWork,
    ListedCertificate,
)
from storage.errors import ConflictError

T = TypeVar("T")

_PEM: Final = re.compile(rb"\s*-----BEGIN (PKCS7|CMS)-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END \1-----\s*\Z")
_PREFIX_MIN: Final = 16
_DIGEST_HEX: Final = 64
_NAME_MAX: Final = 200
_COLUMNS: Final = (
    "fingerprint", "subject", "person", "issuer", "serial", "not_after", "days_left", "state", "durum", "how",
)  # fmt: skip
_STATES: Final[Mapping[CertificateState, str]] = MappingProxyType(
    {
        CertificateState.NOT_YET_VALID: "Henüz geçerli değil",
        CertificateState.VALID: "Geçerli",
        CertificateState.EXPIRED: "Süresi dolmuş",
        CertificateState.WITHDRAWN: "Geri alınmış",
    }
)
BINDING_CURES: Final[Mapping[BindingFault, tuple[str, str]]] = MappingProxyType(
    {
        BindingFault.CHALLENGE_INVALID: (
            "make a new text and sign it unchanged: kephs account challenge DIR ADDRESS OUT.txt",
            "yeni bir metin üretin ve değiştirmeden imzalayın",
        ),
        BindingFault.CHALLENGE_EXPIRED: (
            "a text is good for ten minutes: make a new one and sign it at once",
            "metin on dakika geçerlidir: yenisini üretip hemen imzalayın",
        ),
        BindingFault.CHALLENGE_ELSEWHERE: (
            "give the address the text names, or make a text for this account",
            "metinde yazan adresi verin ya da bu hesap için metin üretin",
        ),
        BindingFault.OTHER_CONTENT: (
            "sign exactly the file that was written, byte by byte",
            "yazılan dosyayı olduğu gibi, baytı baytına imzalayın",
        ),
        BindingFault.SIGNATURE_NOT_VALID: (
            "sign as CAdES with a qualified certificate: kephs sign --p7s TEXT OUT.p7s",
            "nitelikli sertifikayla CAdES olarak imzalayın",
        ),
        BindingFault.REVOCATION_UNKNOWN: (
            "OCSP and CRL do not answer: try again within the ten minutes",
            "OCSP ve CRL yanıt vermiyor: on dakika içinde yeniden deneyin",
        ),
        BindingFault.SEVERAL_SIGNERS: (
            "exactly one certificate signs the text, the one to be bound",
            "metni yalnız bağlanacak sertifika imzalar",
        ),
        BindingFault.OTHER_PERSON: (
            "make the text for the person whose certificate it is: --operator ID",
            "metni sertifikanın sahibi olan kişi için üretin: --operator ID",
        ),
        BindingFault.NO_SUCH_OPERATOR: (
            "see who acts for the account: kephs account show DIR ADDRESS",
            "hesap adına kimin işlem yaptığına bakın: kephs account show DIR ADDRESS",
        ),
        BindingFault.SEALS_OFF: (
            "set trust.allow_qualified_seals = true in kephs.toml and start the server again",
            "kephs.toml içinde trust.allow_qualified_seals = true yapın ve sunucuyu yeniden başlatın",
        ),
        BindingFault.SEALS_NOT_ALLOWED: (
            "allow them first: kephs account seals DIR ADDRESS on --by NAME",
            "önce mühre izin verin: kephs account seals DIR ADDRESS on --by NAME",
        ),
        BindingFault.SEAL_NEEDS_MANAGER: (
            "make the text for an operator with the right manage: --operator ID",
            "metni yetkili yönetimi hakkı olan bir işlem yetkilisi için üretin: --operator ID",
        ),
        BindingFault.SEALS_NOT_FOR_PERSONS: (
            "persons sign with their own qualified certificate",
            "kişiler kendi nitelikli sertifikalarıyla imzalar",
        ),
        BindingFault.ALREADY_BOUND: (
            "nothing needs to be done: kephs account certificates DIR ADDRESS",
            "yapılacak bir şey yok: kephs account certificates DIR ADDRESS",
        ),
        BindingFault.WITHDRAWN: (
            "a withdrawn certificate never signs here again: use another one",
            "geri alınan sertifika bu hesapta bir daha imzalayamaz: başka sertifika kullanın",
        ),
        BindingFault.NO_SUCH_CERTIFICATE: (
            "see the fingerprints: kephs account certificates DIR ADDRESS",
            "parmak izlerine bakın: kephs account certificates DIR ADDRESS",
        ),
        BindingFault.ACCOUNT_CLOSED: (
            "a closed account is never used again",
            "kapalı hesap bir daha kullanılmaz",
        ),
    }
)
"""What helps, English and Turkish."""

address_argument = click.argument("address", metavar="ADDRESS")
by_option = click.option("--by", required=True, help="Who does it: kept with it and in the process record.")
_file = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("certificates")
@instance_argument
@address_argument
@json_option
@guarded
def certificates(directory: Path, address: str, as_json: bool) -> None:  # noqa: FBT001
    """List the certificates bound to an account, also expired and withdrawn ones (bağlı sertifikalar)."""
    found = [_listed(one) for one in _with_work(directory, lambda work: work.list(address))]
    if as_json:
        print_json({"certificates": found})
    elif not found:
        click.echo("no certificate is bound / bağlı sertifika yok")
    else:
        short = [{**one, "fingerprint": one["fingerprint"][:_PREFIX_MIN]} for one in found]
        print_table(_COLUMNS, [[_cell(one[column]) for column in _COLUMNS] for one in short])


@click.command("challenge")
@instance_argument
@address_argument
@click.argument("out", metavar="OUT.txt", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--operator", "operator_id", help="Id of the operator whose certificate it is. Default: the holder."
)
@json_option
@guarded
def challenge(directory: Path, address: str, out: Path, operator_id: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Write the text that a certificate signs to be bound; it is good for ten minutes (bağlama metni)."""
    text = _with_work(directory, lambda work: work.challenge(address, operator_id))
    out.write_bytes(text)
    until = re.search(rb"valid-until: (\S+)", text)
    assert until is not None
    facts = {
        "file": str(out),
        "valid_until": until[1].decode(),
        "next": f"sign exactly this file, then: kephs account bind {directory} {address} {out} SIGNATURE.p7s",
        "sonraki": "bu dosyayı olduğu gibi imzalayın, sonra bind komutunu verin",
    }
    _print(facts, as_json=as_json)


@click.command("bind")
@instance_argument
@address_argument
@click.argument("text", metavar="CHALLENGE.txt", type=_file)
@click.argument("signature", metavar="SIGNATURE.p7s", type=_file)
@click.option("--by", default="shell", show_default=True, help="Who does it, for the process record.")
@json_option
@guarded
def bind(directory: Path, address: str, text: Path, signature: Path, by: str, as_json: bool) -> None:  # noqa: FBT001
    """Bind the certificate that signed a challenge to the account (sertifika bağlama)."""
    actor, signed = _name(by), _der(_read(signature, SIGNATURE_MAX * 2))
    content = _read(text, CHALLENGE_MAX + 1)
    bound = _with_work(directory, lambda work: work.bind(address, content, signed, actor=actor))
    _print(_bound(bound) | {"durum": "Bağlandı"}, as_json=as_json)


@click.command("withdraw")
@instance_argument
@address_argument
@click.argument("fingerprint", metavar="FINGERPRINT")
@by_option
@json_option
@guarded
def withdraw(directory: Path, address: str, fingerprint: str, by: str, as_json: bool) -> None:  # noqa: FBT001
    """Withdraw a certificate: it signs for this account never again (geri al).

    FINGERPRINT is its SHA-256 in hexadecimal, or at least the first 16 digits of it.
    """
    actor, wanted = _name(by), fingerprint.replace(":", "").lower()
    if not re.fullmatch(rf"[0-9a-f]{{{_PREFIX_MIN},{_DIGEST_HEX}}}", wanted):
        raise click.UsageError(f"FINGERPRINT has {_PREFIX_MIN} to {_DIGEST_HEX} hexadecimal digits")

    async def by_prefix(work: CertificateWork) -> BoundCertificate:
        listed = {one.bound.sha256 for one in await work.list(address)}
        same = [sha256 for sha256 in listed if sha256.hex().startswith(wanted)]
        if len(same) != 1:
            what = "several certificates have" if same else "no certificate has"
            raise BindingError(BindingFault.NO_SUCH_CERTIFICATE, f"{what} this fingerprint")
        return await work.withdraw(address, same[0], by=actor)

    _print(_bound(_with_work(directory, by_prefix)) | {"durum": "Geri alındı"}, as_json=as_json)


@click.command("seals")
@instance_argument
@address_argument
@click.argument("wanted", metavar="on|off", type=click.Choice(["on", "off"]))
@by_option
@json_option
@guarded
def seals(directory: Path, address: str, wanted: str, by: str, as_json: bool) -> None:  # noqa: FBT001
    """Say whether a qualified e-seal may sign for an organisation's account (e-mühür izni).

    A seal must be bound by challenge besides.
    """
    actor, allowed = _name(by), wanted == "on"

    async def allow(work: CertificateWork) -> Account:
        return await work.allow_seals(address, allowed=allowed, by=actor)

    account = _with_work(directory, allow)
    _print({"address": str(account.address), "seals_allowed": account.seals_allowed}, as_json=as_json)


certificate_commands: Final = (certificates, challenge, bind, withdraw, seals)


# --------------------------------------------------------------------------- shared


@asynccontextmanager
async def _open(loaded: Settings) -> AsyncIterator[CertificateWork]:
    """Open what binding needs beside a running server; the network is asked by `bind` alone."""
    trust = open_trust(loaded)
    async with open_beside(loaded) as core, aiohttp.ClientSession(auto_decompress=False) as session:
        yield CertificateWork(
            accounts=core.accounts, store=core.store, identity=HmacIdentity(open_keys(loaded).identity),
            revocation=open_revocation(loaded, session, trust), trust=trust, policy=open_nes_policy(loaded),
            offload=core.offload, clock=core.clock, ids=TimeOrderedIds(core.clock),
        )  # fmt: skip


def _with_work(directory: Path, use: Callable[[CertificateWork], Awaitable[T]]) -> T:
    async def inside() -> T:
        async with _open(settings.load(directory)) as work:
            try:
                return await use(work)
            except BindingError as error:
                raise _exit(error.fault, _told(error)) from None
            except ConflictError:  # another command bound it at the same moment
                raise _exit(BindingFault.ALREADY_BOUND, "this certificate was bound meanwhile") from None

    return run(inside())


def _exit(fault: BindingFault, text: str) -> ExitError:
    english, turkish = BINDING_CURES[fault]
    return ExitError(fault.value, text, f"{english} / {turkish}")


def _told(error: BindingError) -> str:
    """Return what happened; where the verifier found it, in its words, English and Turkish."""
    failing = error.report.report.failing_step if error.report is not None else None
    if failing is None:
        return str(error)
    turkish, english = sentence(failing)
    return f"{english} / {turkish} ({error})"


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ExitError("file-too-big", f"{path} has more than {limit} octets", "give the right file")
    return data


def _der(data: bytes) -> bytes:
    """Return DER; PEM, which some tools write, is decoded."""
    if not data.lstrip().startswith(b"-----BEGIN"):
        return data
    found = _PEM.match(data)
    try:
        return base64.b64decode(b"".join(found[2].split()) if found else b"?", validate=True)
    except binascii.Error:
        raise _exit(BindingFault.SIGNATURE_NOT_VALID, "the signature file is no DER and no PEM") from None


def _name(by: str) -> str:
    name = " ".join(by.split())
    if not name or not name.isprintable() or len(name) > _NAME_MAX:
        raise click.UsageError("--by must be a readable name")
    return name


def _listed(one: ListedCertificate) -> dict[str, Any]:
    facts = one.facts
    return _bound(one.bound) | {
        "subject": facts.common_name,
        "issuer": facts.issuer_text,
        "serial": f"{facts.serial:x}",
        "not_before": facts.not_before.isoformat(),
        "not_after": facts.not_after.isoformat(),
        "days_left": one.days_left,
        "person": one.operator_name,
        "state": one.state.value,
        "durum": _STATES[one.state],
    }


def _bound(one: BoundCertificate) -> dict[str, Any]:
    return {
        "fingerprint": one.sha256.hex(),
        "operator_id": one.operator_id,
        "how": one.how,
        "bound_at": one.bound_at.isoformat(),
        "withdrawn_at": one.withdrawn_at.isoformat() if one.withdrawn_at else None,
        "withdrawn_by": one.withdrawn_by,
        "state": one.state.value,
    }


def _cell(value: object) -> str:
    return "-" if value is None else str(value)


def _print(facts: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(dict(facts))
    else:
        print_facts((name, _cell(value)) for name, value in facts.items())
