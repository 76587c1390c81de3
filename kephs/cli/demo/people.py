"""The demo's provider and its people: made once, found again in an existing folder."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from config.settings import FILE_NAME, Settings, load
from directory.accounts import AccountKind, ServiceType
from kephs.bootstrap.core import Core, open_core
from kephs.cli.instance import Ports, make_instance
from kephs.cli.people.account import new_app_password
from kephs.instances.schema import make_database
from kephs.testpki.authority import TestPki
from kephs.usecases.people.accounts import Opening


@dataclass(frozen=True, slots=True)
class Figure:
    """One invented person with an account."""

    local: str
    holder: str
    person: str
    tckn: str
    kind: AccountKind


CAST: Final[Mapping[str, Sequence[Figure]]] = {
    "hs91.kep.tr": (
        Figure("ayse.yilmaz", "Ayşe Yılmaz", "Ayşe Yılmaz", "10000000146", AccountKind.REAL_PERSON),
        Figure("mehmet.demir", "Mehmet Demir", "Mehmet Demir", "10000000214", AccountKind.REAL_PERSON),
        Figure("ornekkurum", "Örnek Kurum A.Ş.", "Zeynep Işık", "10000000382", AccountKind.LEGAL_PERSON),
    ),
    "hs92.kep.tr": (
        Figure("fatma.kaya", "Fatma Kaya", "Fatma Kaya", "10000000450", AccountKind.REAL_PERSON),
        Figure("can.ozturk", "Can Öztürk", "Can Öztürk", "10000000528", AccountKind.REAL_PERSON),
    ),
}


@dataclass(frozen=True, slots=True)
class Stage:
    """One provider of the demo."""

    settings: Settings
    home: Path


@dataclass(frozen=True, slots=True)
class DemoAccount:
    """What somebody needs to use an account of the demo; ``password`` and ``sifre`` come with the web."""

    address: str
    provider: str
    tckn: str
    kind: str
    password: str | None
    sifre: str | None
    app_password: str
    p12: str
    p12_password: str
    name: str


@dataclass(frozen=True, slots=True)
class Wish:
    """How a provider of the demo is to be made, where it is not there yet."""

    domain: str
    ports: Ports
    pki_of: Path | None = None  # the instance whose TEST PKI it uses
    register_signer: str = ""  # SHA-256 of the register operator's certificate
    database_url: str = ""


def prepare_provider(directory: Path, wish: Wish, now: datetime) -> Stage:
    """Return a provider of the demo, made if it is not there.

    Raises:
        InstanceError, SettingsError, SchemaError: it cannot be made or used.
    """
    home = directory / wish.domain.partition(".")[0]
    if (home / FILE_NAME).exists():
        settings = load(home)
    else:
        settings = make_instance(
            home, wish.domain, now=now, test_pki=True, ports=wish.ports, pki_of=wish.pki_of,
            values={
                "peers": {"register_signers": [wish.register_signer]},
                "storage": {"database_url": wish.database_url} if wish.database_url else {},
            },
        )  # fmt: skip
    make_database(settings, now)
    return Stage(settings, home)


async def prepare_people(directory: Path, stage: Stage, pki_folder: Path) -> list[DemoAccount]:
    """Return the accounts of a provider of the demo, opened if they are not there."""
    domain, settings = stage.settings.provider.domain, stage.settings
    kept = directory / "people" / f"{domain}.json"
    if kept.exists():
        return [DemoAccount(**one) for one in json.loads(kept.read_text(encoding="utf-8"))]
    kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    pki = TestPki.load(pki_folder)
    async with open_core(settings) as core:
        people = [await _open(core, pki, figure, domain, kept.parent) for figure in CAST[domain]]
    write_private(kept, json.dumps([asdict(one) for one in people], ensure_ascii=False, indent=1))
    return people


def write_private(path: Path, text: str) -> None:
    """Write a file that holds passwords: for its owner alone."""
    path.unlink(missing_ok=True)  # whatever mode an older one has
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


async def _open(core: Core, pki: TestPki, figure: Figure, domain: str, folder: Path) -> DemoAccount:
    address = f"{figure.local}@{domain}"
    await core.accounts.open(Opening(
        address, figure.kind, ServiceType.SEND_AND_RECEIVE, figure.holder, figure.person, figure.tckn
    ))  # fmt: skip
    app_password = new_app_password()
    await core.accounts.add_password(address, app_password, label="demo")
    p12, p12_password = folder / f"{figure.local}.p12", secrets.token_hex(8)
    pki.write_p12(pki.issue_user(figure.person, figure.tckn), p12, p12_password)
    return DemoAccount(
        address, domain, figure.tckn, figure.kind.value, None, None,
        app_password, str(p12.resolve()), p12_password, figure.holder,
    )  # fmt: skip
