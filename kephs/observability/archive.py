"""Figures of the archive: what waits, how long, how far it reaches, what is quarantined."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric

from evidence.bundle.archive_object import ObjectKind
from kephs.ports import Tx
from kephs.usecases.archive.seal import backlog

DAMAGED_MOST: Final = 1_000
_KINDS: Final = (ObjectKind.EVIDENCE, ObjectKind.PROCESS)


@dataclass(frozen=True, slots=True)
class ArchiveFigures:
    """The archive at a moment, by kind of object. Ages in seconds."""

    waiting: Mapping[str, int] = field(default_factory=dict)
    age: Mapping[str, float] = field(default_factory=dict)
    last: Mapping[str, int] = field(default_factory=dict)
    damaged: int = 0


def archive_figures(tx: Tx, now: datetime) -> ArchiveFigures:
    """Return what the store says; a handful of look-ups, however large the archive is."""
    found = {kind.value: backlog(tx, kind) for kind in _KINDS}
    return ArchiveFigures(
        {kind: one.entries for kind, one in found.items()},
        {kind: one.age(now).total_seconds() for kind, one in found.items()},
        {kind.value: tx.archive.watermark(kind) for kind in _KINDS},
        len(tx.archive.damaged(DAMAGED_MOST)),
    )


def archive_gauges(figures: ArchiveFigures) -> Iterator[Metric]:
    """Yield the figures as Prometheus wants them."""
    for name, text, values in (
        ("kephs_archive_backlog_entries", "Entries that are in no object yet.", figures.waiting),
        ("kephs_archive_backlog_seconds", "Age of the oldest of them.", figures.age),
        ("kephs_archive_last_entry", "Number of the last entry that lies in an object.", figures.last),
    ):
        family = GaugeMetricFamily(name, text, labels=("kind",))
        for kind, value in values.items():
            family.add_metric((kind,), float(value))
        yield family
    damaged = GaugeMetricFamily("kephs_archive_damaged", "Objects in quarantine, 1000 at most.")
    damaged.add_metric((), float(figures.damaged))
    yield damaged
