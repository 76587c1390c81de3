"""The archive's object store: which one the settings name, and the proof that it keeps what it is given."""

import secrets
from pathlib import Path
from typing import Final

from config.settings import ArchiveSettings, Settings, SettingsError
from kephs.ports.objects import ObjectStore, ObjectUnavailableError
from kephs.system import SystemClock
from storage.objects.file import FileObjectStore

_KEY_MAX: Final = 4096


def open_objects(settings: Settings, clock: SystemClock) -> ObjectStore:
    """Return the archive's store; nothing is written and nobody asked yet.

    Raises:
        SettingsError: [archive] lacks something, or a key file cannot be read.
    """
    archive = settings.archive
    if archive.kind == "files":
        return FileObjectStore(archive.folder, clock=clock.now, threads=archive.threads)
    return _open_s3(settings, clock)


async def prove_objects(store: ObjectStore) -> None:
    """Look at the store's short probe; the archive writes nothing before this has passed.

    Raises:
        SettingsError: the store lets go of what it should keep; the text names the first point.
        ObjectUnavailableError: it does not answer: nothing is proved, try again later.
    """
    report = await store.probe()
    if not report.passed:
        first = next(iter(report.failed), None)
        point = "" if first is None else f": {first.number} {first.code}: {first.seen}: {first.cure}"
        raise SettingsError(f"the archive may not use {report.store}{point}")


def _open_s3(settings: Settings, clock: SystemClock) -> ObjectStore:
    from storage.objects.s3 import S3ObjectStore  # noqa: PLC0415
    from storage.objects.s3_link import S3Place  # noqa: PLC0415  # without S3 nobody loads its client

    archive = settings.archive
    if not archive.endpoint or not archive.bucket:
        raise SettingsError("archive.endpoint and archive.bucket are needed for archive.kind s3")
    if not archive.tls and not settings.test_pki.enabled:
        raise SettingsError("archive.tls may be off in TEST instances only")
    place = S3Place(
        archive.endpoint, archive.bucket, archive.region, *_keys(archive), tls=archive.tls,
        ca_file=archive.ca_file, seconds=archive.seconds, threads=archive.threads,
    )  # fmt: skip
    try:
        return S3ObjectStore(place, clock=clock.now, random=secrets.token_hex)
    except ObjectUnavailableError as error:
        raise SettingsError(f"archive: {error}") from None


def _keys(archive: ArchiveSettings) -> tuple[str, str]:
    return _first_line(archive.access_key_file), _first_line(archive.secret_key_file)


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="ascii") as file:
            line = file.readline(_KEY_MAX).strip()
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: {error}") from None
    if not line:
        raise SettingsError(f"{path}: is empty")
    return line
