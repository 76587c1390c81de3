"""What `kephs doctor` says of the archive: is there a store, and does it keep what it is given?"""

from collections.abc import Iterable
from typing import Final

from config.settings import Settings, SettingsError
from kephs.bootstrap.objects import open_objects
from kephs.cli.findings import Finding, error, ok, warning
from kephs.ports.objects import ObjectError, PointState, ProbePoint, ProbeReport
from kephs.system import SystemClock

_SETTINGS_CURE: Final = "correct [archive] in kephs.toml; docs/archive.md"


async def check_archive(settings: Settings, clock: SystemClock, *, deep: bool = False) -> list[Finding]:
    """Probe the archive's store: a few small objects are written, kept for a day.

    Args:
        settings: of the instance.
        clock: the time.
        deep: all 37 points, with 100 MB; every point is told.
    """
    try:
        store = open_objects(settings, clock)
    except SettingsError as failure:
        return [error("archive-settings", str(failure), _SETTINGS_CURE)]
    try:
        report = await store.probe(deep=deep)
    except ObjectError as failure:
        return [
            error(
                "archive-silent",
                str(failure),
                "look at disk, network, key and the S3 server; nothing is lost",
            )
        ]
    finally:
        await store.close()
    return [*_kind(settings), *_told(report, deep=deep)]


def _kind(settings: Settings) -> Iterable[Finding]:
    if settings.archive.kind == "files" and not settings.test_pki.enabled:
        yield warning(
            "archive-files",
            "the archive lies in files: this program never deletes one, the disk's owner could",
            "use archive.kind s3 with object lock, or immutable snapshots; docs/archive.md",
        )


def _told(report: ProbeReport, *, deep: bool) -> Iterable[Finding]:
    passed = sum(point.state is PointState.PASSED for point in report.points)
    if report.passed:
        yield ok("archive-store", f"{report.store}: {passed} points of the probe passed")
    elif not report.failed:
        yield error("archive-store", f"{report.store}: nothing could be looked at", _SETTINGS_CURE)
    for point in report.points:
        if point.state is PointState.FAILED:
            cure = f"{point.cure} / {point.cure_turkish}"
            yield error("archive-store", _line(point), cure)
        elif deep:
            yield ok("archive-store", _line(point))


def _line(point: ProbePoint) -> str:
    return f"{point.number} {point.code}: {point.state.value}: {point.expected}: {point.seen}"
