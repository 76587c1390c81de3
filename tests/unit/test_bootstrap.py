"""Opening an instance: a seal that nobody could verify, or nobody to trust, stops it before it starts."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.settings import Settings, load
from config.settings import SettingsError as Refusal
from kephs.bootstrap import open_register, open_signer
from kephs.bootstrap.core import open_core
from kephs.cli.instance import make_instance
from kephs.instances.databases import upgrade_database
from kephs.instances.schema import make_database
from kephs.testpki.authority import TestPki
from storage.errors import SchemaError
from tests.support.pki import make_pki

DOMAIN = "hs91.kep.tr"


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("bootstrap") / "hs91"
    settings = make_instance(home, DOMAIN, now=now(), test_pki=True)
    make_database(settings, now())
    return settings


@pytest.fixture(scope="module")
def pki(made: Settings) -> TestPki:
    return TestPki.load(made.test_pki.directory)


def _with(settings: Settings, section: str, **values: object) -> Settings:
    changed = getattr(settings, section).model_copy(update=values)
    return settings.model_copy(update={section: changed})


def _sealing_with(settings: Settings, issued, folder: Path) -> Settings:
    files = issued.write(folder, "other")
    return _with(settings, "seal", certificate=files.certificate, key=files.key, chain=files.chain)


def _expired(pki: TestPki):
    return pki.issue_transaction(DOMAIN, "TEST", not_after=now() - timedelta(minutes=1))


def _not_yet(pki: TestPki):
    return pki.issue_transaction(
        DOMAIN, "TEST", not_before=now() + timedelta(hours=1), not_after=now() + timedelta(days=9)
    )


def _of_another(pki: TestPki):
    return pki.transactions["hs92.kep.tr"]


def _of_a_holder(pki: TestPki):
    return pki.issue_user("Ayşe Yılmaz", "10000000146")


def _of_a_stranger(_pki: TestPki):
    return make_pki(now=now()).transactions[DOMAIN]


@pytest.mark.parametrize(
    ("issue", "why"),
    [
        (_expired, "expired on"),
        (_not_yet, "valid only from"),
        (_of_another, "hs92.kep.tr's"),
        (_of_a_holder, "transaction policy"),
        (_of_a_stranger, "cannot be used"),
    ],
)
def test_an_unfit_transaction_certificate_stops_the_start(made, pki, tmp_path: Path, issue, why: str):
    settings = _sealing_with(made, issue(pki), tmp_path)
    with pytest.raises(Refusal, match=why):
        open_signer(settings)
    with pytest.raises(Refusal, match=why):
        _open(settings)


def test_the_instances_own_transaction_certificate_is_fit(made):
    assert open_signer(made).certificate
    _open(made)


def test_a_key_of_another_certificate_stops_the_start(made, pki, tmp_path: Path):
    files = pki.transactions["hs92.kep.tr"].write(tmp_path, "other")
    with pytest.raises(Refusal, match="not this key's"):
        open_signer(_with(made, "seal", key=files.key))


def test_without_active_roots_nothing_starts_whatever_lies_in_the_folder(made, tmp_path: Path):
    settings = _with(made, "storage", database=tmp_path / "kephs.db")
    upgrade_database(settings)
    assert list(made.trust.roots.glob("*.pem"))
    with pytest.raises(Refusal, match="holds no root that is active"):
        _open(settings)


def test_without_a_database_nothing_starts_and_none_is_made(made, tmp_path: Path):
    settings = _with(made, "storage", database=tmp_path / "kephs.db")
    with pytest.raises(SchemaError, match="restore it from its backup"):
        _open(settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("domain", ["HS91.KEP.TR", "mail.example", "a.hs91.kep.tr", "x y"])
def test_a_domain_that_is_no_providers_stops_the_start(made, domain: str):
    with pytest.raises(Refusal, match=r"provider\.domain"):
        open_register(_with(made, "provider", domain=domain))
    assert open_register(load(made.storage.database.parents[1])).own == DOMAIN


def _open(settings: Settings) -> None:
    async def look() -> None:
        async with open_core(settings):
            pass

    asyncio.run(look())
