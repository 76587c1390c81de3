"""Figures of the process record: how far the ledger holds it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily, Metric

from kephs.ports import Tx
from kephs.usecases.governance.anchor_audit import read_anchoring


@dataclass(frozen=True, slots=True)
class AuditFigures:
    """The process record at a moment. The age in seconds."""

    open: int = 0
    age: float = 0.0
    late: bool = False
    missing: int = 0


def audit_figures(tx: Tx, now: datetime) -> AuditFigures:
    """Return what the store says; a handful of look-ups, however long the record is."""
    found = read_anchoring(tx)
    return AuditFigures(found.open, found.age(now).total_seconds(), found.late(now), found.missing)


def audit_gauges(figures: AuditFigures) -> Iterator[Metric]:
    """Yield the figures as Prometheus wants them."""
    for name, text, value in (
        ("kephs_audit_unanchored_entries", "Process records behind the last anchor.", figures.open),
        ("kephs_audit_unanchored_seconds", "Age of the oldest of them.", figures.age),
        ("kephs_audit_anchor_late", "1: some wait for more than two days.", figures.late),
        (
            "kephs_audit_missing_entries",
            "Anchored or archived process records that are not there.",
            figures.missing,
        ),
    ):
        family = GaugeMetricFamily(name, text)
        family.add_metric((), float(value))
        yield family
