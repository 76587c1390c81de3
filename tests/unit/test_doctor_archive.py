"""`kephs doctor` on the archive: wrong settings, a silent store, a bucket without lock, each with its code."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from config.settings import ArchiveSettings, Settings, defaults
from kephs.bootstrap.objects import open_objects, prove_objects
from kephs.cli.findings import Finding, Level
from kephs.cli.health.archive import check_archive
from kephs.system import SystemClock
from tests.support import seaweed

CLOCK = SystemClock()


def settings_of(home: Path, *, test: bool = True, **archive: Any) -> Settings:
    """Return settings of which only [archive] and [test_pki] are looked at."""
    values: dict[str, Any] = defaults()
    names = {
        "folder": home / "archive",
        "access_key_file": home / "access",
        "secret_key_file": home / "secret",
    }
    section = ArchiveSettings.model_validate(values["archive"] | names | archive)
    pki = Settings.model_fields["test_pki"].annotation
    assert pki is not None
    return Settings.model_construct(
        archive=section, test_pki=pki.model_validate(values["test_pki"] | {"enabled": test})
    )  # fmt: skip


def on_s3(folder: Path, name: str, **more: Any) -> Settings:
    server = seaweed.running()
    (folder / "access").write_text("archive\n")
    (folder / "secret").write_text(server.secrets["archive"] + "\n")
    given: dict[str, Any] = {
        "kind": "s3",
        "endpoint": f"127.0.0.1:{server.port}",
        "bucket": name,
        "region": "tr-test-1",
        "tls": False,
    }
    return settings_of(folder, **given | more)


async def codes(settings: Settings, *, deep: bool = False) -> list[tuple[str, str]]:
    return [(one.level.value, one.code) for one in await check_archive(settings, CLOCK, deep=deep)]


async def test_files_pass_and_a_provider_is_warned_that_the_disk_s_owner_could_delete(tmp_path: Path) -> None:
    assert await codes(settings_of(tmp_path)) == [("ok", "archive-store")]
    assert await codes(settings_of(tmp_path, test=False)) == [
        ("warning", "archive-files"),
        ("ok", "archive-store"),
    ]


async def test_a_folder_that_cannot_be_made_is_a_silent_store(tmp_path: Path) -> None:
    assert await codes(settings_of(tmp_path, folder=tmp_path / "none" / "archive")) == [
        ("error", "archive-silent")
    ]


async def test_a_bucket_with_lock_passes_and_deep_tells_every_point(tmp_path: Path) -> None:
    settings = on_s3(tmp_path, seaweed.running().bucket())
    assert await codes(settings) == [("ok", "archive-store")]
    found = await check_archive(settings, CLOCK, deep=True)
    assert [one.level for one in found] == [Level.OK] * 38
    await prove(settings)


async def prove(settings: Settings) -> None:
    store = open_objects(settings, CLOCK)
    try:
        await prove_objects(store)
    finally:
        await store.close()


async def test_a_bucket_without_lock_is_an_error_with_a_cure_in_both_languages(tmp_path: Path) -> None:
    settings = on_s3(tmp_path, seaweed.running().bucket(lock=False))
    found: list[Finding] = await check_archive(settings, CLOCK)
    assert {(one.level, one.code) for one in found} == {(Level.ERROR, "archive-store")}
    assert "lock-on" in found[0].text
    assert "nesne kilidi" in found[0].cure
    with pytest.raises(Exception, match="lock-on"):
        await prove(settings)


async def test_a_server_that_is_not_there_is_silence(tmp_path: Path) -> None:
    settings = on_s3(tmp_path, "kephs-x", endpoint="127.0.0.1:1")
    assert await codes(settings) == [("error", "archive-silent")]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"endpoint": ""}, "archive.endpoint"),
        ({"bucket": ""}, "archive.bucket"),
        ({"access_key_file": Path("/nonexistent/key")}, "nonexistent"),
        ({"ca_file": Path("/nonexistent/ca.pem"), "tls": True}, "No such file"),
        ({"endpoint": "http://x/y?z"}, "archive"),
    ],
    ids=["endpoint", "bucket", "key", "authorities", "url"],
)
async def test_settings_that_lack_something_are_named(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    (found,) = await check_archive(on_s3(tmp_path, "kephs-x", **change), CLOCK)
    assert (found.level, found.code) == (Level.ERROR, "archive-settings")
    assert says in found.text


async def test_without_tls_no_provider_archives(tmp_path: Path) -> None:
    (found,) = await check_archive(on_s3(tmp_path, "kephs-x", test=False), CLOCK)
    assert (found.code, "archive.tls" in found.text) == ("archive-settings", True)


async def test_an_empty_or_broken_key_file_is_named_without_its_content(tmp_path: Path) -> None:
    settings = on_s3(tmp_path, "kephs-x")
    for octets in (b"", b"\n", b"\xff\xfe secret"):
        (tmp_path / "secret").write_bytes(octets)
        (found,) = await check_archive(settings, CLOCK)
        assert found.code == "archive-settings"
        assert "secret" not in found.text.replace(str(tmp_path / "secret"), "")


@pytest.mark.parametrize("years", [19, 0, -1, 101])
def test_less_than_twenty_years_is_refused(years: int) -> None:
    with pytest.raises(ValidationError):
        ArchiveSettings.model_validate(defaults()["archive"] | {"retention_years": years})


@pytest.mark.parametrize("count", [0, 1001])
def test_objects_hold_one_to_a_thousand_evidences(count: int) -> None:
    with pytest.raises(ValidationError):
        ArchiveSettings.model_validate(defaults()["archive"] | {"objects_of": count})
