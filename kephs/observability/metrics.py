"""Figures for Prometheus: what happened since the start, and what waits now. Labels never name people.

Label values come from closed lists in the code (codes, kinds, states, edges, lanes, event names) and from the
register of providers (their domains); no address, subject or id ever is one.
"""

import asyncio
import platform
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, lru_cache
from typing import Any, Final, Protocol

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from evidence.model.records import EvidenceKind
from kephs.domain.lifecycle import TransferState
from kephs.observability.archive import ArchiveFigures, archive_figures, archive_gauges
from kephs.observability.audit import AuditFigures, audit_figures, audit_gauges
from kephs.ports import Clock, Store, StoreUnavailableError, Tx

log = structlog.get_logger()

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
LOOK_EVERY: Final = 5.0  # seconds between looks into the store, however often somebody asks
_LOOK_MOST: Final = 5.0  # seconds a look may take
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_RELAY_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0)
_WAITING: Final = (
    TransferState.QUEUED,
    TransferState.HELD,
    TransferState.HANDED,
    TransferState.ANSWERED,
    TransferState.FAILED,
)
_EVENT: Final = re.compile(r"[a-z][a-z0-9_.]{0,63}\Z")
_EVENTS_MOST: Final = 300
_OTHER: Final = "other"


class EdgeFigures(Protocol):
    """What a listener has counted (`smtp_gateway.listener.EdgeCounters`)."""

    @property
    def sessions(self) -> int:
        """Return how many connections came."""
        ...

    @property
    def taken(self) -> int:
        """Return how many messages were taken."""
        ...

    @property
    def refused(self) -> Mapping[Any, int]:
        """Return how many refusals there were, by code."""
        ...


class Edge(Protocol):
    """A listener (`smtp_gateway.listener.Listener`)."""

    @property
    def open_sessions(self) -> int:
        """Return how many connections are open."""
        ...

    @property
    def counters(self) -> EdgeFigures:
        """Return figures since the start."""
        ...


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """What waits in the store at a moment. Ages and delays in seconds."""

    queue: Mapping[tuple[str, TransferState], int] = field(default_factory=dict)
    oldest: Mapping[tuple[str, TransferState], float] = field(default_factory=dict)
    overdue: Mapping[str, float] = field(default_factory=dict)  # by lane
    archive: ArchiveFigures = field(default_factory=ArchiveFigures)
    audit: AuditFigures = field(default_factory=AuditFigures)
    readable: bool = False


class Metrics:
    """All figures of one process: a `Meter` (`kephs.observability.metered`) and a structlog processor."""

    def __init__(self, *, version: str, schema: str) -> None:
        """Make an empty registry, our own: nothing of the process's default one is shown.

        Args:
            version: of this program.
            schema: revision of the database that it needs.
        """
        self.registry = CollectorRegistry(auto_describe=False)
        self._edges: dict[str, Edge] = {}
        self._sessions: dict[str, Callable[[], int]] = {}
        self._store: Store | None = None
        self._figures = StoreFigures()
        self._looked: float | None = None
        self._looking = asyncio.Lock()
        self._event_names: set[str] = set()
        self._make_counters()
        self._find_children()
        Gauge(
            "kephs_build_info", "This program.", ("version", "schema", "python"), registry=self.registry
        ).labels(version, schema, platform.python_version()).set(1)
        self.registry.register(_Snapshot(self))

    def _make_counters(self) -> None:
        registry = self.registry
        self._events = Counter("kephs_events", "Events logged.", ("event", "level"), registry=registry)
        self._evidence = Counter(
            "kephs_evidence_sealed", "Evidence signed and stamped.", ("kind",), registry=registry
        )
        self._deliveries = Counter(
            "kephs_deliveries", "Recipients decided by us: 40, or 41.", ("outcome",), registry=registry
        )
        self._sealing = Histogram(
            "kephs_seal_seconds", "Signing and stamping, by what was sealed.", ("what",),
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._not_stamped = Counter(
            "kephs_stamp_failures", "Times no authority gave a time stamp.", registry=registry
        )
        self._handed = Counter(
            "kephs_relay_handed", "Messages a provider took.", ("peer",), registry=registry
        )
        self._troubles = Counter(
            "kephs_relay_troubles", "Tries in vain to hand a message over.", ("peer", "trouble"),
            registry=registry,
        )  # fmt: skip
        self._relaying = Histogram(
            "kephs_relay_seconds", "Handing one message over.", ("peer",),
            buckets=_RELAY_SECONDS, registry=registry,
        )  # fmt: skip
        self._offset: float | None = None

    def _find_children(self) -> None:
        """Look up each counter of a family once, not for every message: labels come from closed lists."""
        self._events_of = lru_cache(2 * _EVENTS_MOST)(self._event_counter)
        self._evidence_of = cache(lambda kind: self._evidence.labels(str(kind.value)))
        self._deliveries_of = cache(self._deliveries.labels)
        self._sealing_of = cache(self._sealing.labels)

    # ------------------------------------------------------------------ what is counted as it happens

    def count_event(
        self, _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> Mapping[str, Any]:
        """Count an event by its name and level, as a structlog processor; it passes unchanged."""
        name = event.get("event")
        self._events_of(name if isinstance(name, str) else _OTHER, str(event.get("level", _OTHER))).inc()
        return event

    def _event_counter(self, name: str, level: str) -> Counter:
        return self._events.labels(self._event_name(name), level)

    def _event_name(self, name: str) -> str:
        if not _EVENT.match(name):
            return _OTHER
        if name not in self._event_names and len(self._event_names) >= _EVENTS_MOST:
            return _OTHER
        self._event_names.add(name)
        return name

    def sealed(self, kinds: Sequence[EvidenceKind], seconds: float) -> None:
        """Note evidence that was signed and stamped together."""
        self._sealing_of("evidence").observe(seconds)
        for kind in kinds:
            self._evidence_of(kind).inc()
            if kind is EvidenceKind.DELIVERY:
                self._deliveries_of("delivered").inc()
            elif kind is EvidenceKind.NON_DELIVERY:
                self._deliveries_of("failed").inc()

    def signed(self, seconds: float) -> None:
        """Note a KEP message that was signed and stamped."""
        self._sealing_of("message").observe(seconds)

    def not_stamped(self) -> None:
        """Note that no authority gave a time stamp."""
        self._not_stamped.inc()

    def clock_offset(self, seconds: float) -> None:
        """Note how far our clock is ahead of the time-stamping authority's."""
        self._offset = seconds

    def handed(self, peer: str, seconds: float) -> None:
        """Note a message that a peer took."""
        self._handed.labels(peer).inc()
        self._relaying.labels(peer).observe(seconds)

    def not_handed(self, peer: str, trouble: str) -> None:
        """Note a message that a peer did not take, and the stable code of why."""
        self._troubles.labels(peer, trouble).inc()

    # ------------------------------------------------------------------ what is asked for when shown

    def watch_edge(self, name: str, edge: Edge) -> None:
        """Show a listener's figures under a name: ``submission`` or ``inbound``."""
        self._edges[name] = edge
        self._sessions[name] = lambda: edge.open_sessions

    def watch_sessions(self, name: str, count: Callable[[], int]) -> None:
        """Show how many sessions an edge has open, where it counts nothing else."""
        self._sessions[name] = count

    def watch_store(self, store: Store) -> None:
        """Show what waits in a store."""
        self._store = store

    async def page(self, clock: Clock, monotonic: float) -> bytes:
        """Return all figures in Prometheus's text format.

        Args:
            clock: the time.
            monotonic: seconds of a clock that only goes forward; the store is asked every `LOOK_EVERY`.
        """
        async with self._looking:
            if self._looked is None or monotonic - self._looked >= LOOK_EVERY:
                self._looked = monotonic
                self._figures = await self._look(clock)
        return generate_latest(self.registry)

    async def _look(self, clock: Clock) -> StoreFigures:
        if self._store is None:
            return StoreFigures()
        now = clock.now()
        try:
            async with asyncio.timeout(_LOOK_MOST):
                return await self._store.read(lambda tx: _store_figures(tx, now))
        except (StoreUnavailableError, TimeoutError) as error:
            log.warning("metrics.store_unreadable", cause=type(error).__name__)
            return StoreFigures()

    def snapshot(self) -> Iterator[Metric]:
        """Yield what is known of this moment."""
        yield from self._edge_figures()
        yield from self._store_state()
        if self._offset is not None:
            yield _gauge(
                "kephs_clock_offset_seconds", "Our clock ahead of the TSA's, at the last comparison.", (),
                [((), self._offset)],
            )  # fmt: skip

    def _edge_figures(self) -> Iterator[Metric]:
        sessions = [((name,), float(count())) for name, count in self._sessions.items()]
        yield _gauge("kephs_sessions_open", "Connections open now.", ("edge",), sessions)
        came = CounterMetricFamily("kephs_sessions", "Connections since the start.", labels=("edge",))
        taken = CounterMetricFamily("kephs_messages_taken", "Messages accepted.", labels=("edge",))
        refused = CounterMetricFamily("kephs_messages_refused", "Refusals.", labels=("edge", "code"))
        for name, edge in self._edges.items():
            came.add_metric((name,), edge.counters.sessions)
            taken.add_metric((name,), edge.counters.taken)
            for code, count in list(edge.counters.refused.items()):
                refused.add_metric((name, str(code)), count)
        yield from (came, taken, refused)

    def _store_state(self) -> Iterator[Metric]:
        figures = self._figures
        if self._store is None:
            return
        yield _gauge("kephs_store_readable", "1: the store answered.", (), [((), float(figures.readable))])
        yield _gauge(
            "kephs_queue_length", "Transfers per provider and state.", ("peer", "state"),
            [((peer, state.value), float(count)) for (peer, state), count in figures.queue.items()],
        )  # fmt: skip
        yield _gauge(
            "kephs_queue_oldest_seconds", "Age of the oldest transfer.", ("peer", "state"),
            [((peer, state.value), age) for (peer, state), age in figures.oldest.items()],
        )  # fmt: skip
        yield _gauge(
            "kephs_work_overdue_seconds", "How long the oldest work due waits for its lane.", ("lane",),
            [((lane,), age) for lane, age in figures.overdue.items()],
        )  # fmt: skip
        yield from archive_gauges(figures.archive)
        yield from audit_gauges(figures.audit)
        counters = getattr(self._store, "counters", None)
        if counters is not None:
            for name, help_text, value in (
                ("kephs_store_batches", "Transactions committed.", counters.batches),
                (
                    "kephs_store_writes",
                    "Pieces of work in them; the quotient is the batch size.",
                    counters.items,
                ),
                ("kephs_store_failures", "Pieces of work that raised.", counters.failed),
            ):
                family = CounterMetricFamily(name, help_text)
                family.add_metric((), value)
                yield family


class _Snapshot(Collector):
    """Hands the figures of the moment to the registry."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """Return them; see `Metrics.snapshot`."""
        return self._metrics.snapshot()


def _gauge(
    name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for value_labels, value in values:
        family.add_metric(value_labels, value)
    return family


def _store_figures(tx: Tx, now: datetime) -> StoreFigures:
    counts = tx.transfers.counts()
    oldest: dict[tuple[str, TransferState], float] = {}
    for peer, state in counts:
        if state in _WAITING:
            found = tx.transfers.list(peer=peer, state=state, after="", limit=1)
            if found:
                oldest[peer, state] = max(0.0, (now - found[0].created_at).total_seconds())
    due = {
        "deliver": tx.messages.next_due(),
        "receipt": tx.evidence.next_due(),
        "wait": tx.transfers.next_due(None),
    }
    for peer in sorted({peer for peer, state in counts if state is TransferState.QUEUED}):
        due[f"relay {peer}"] = tx.transfers.next_due(peer)
    overdue = {lane: 0.0 if at is None else max(0.0, (now - at).total_seconds()) for lane, at in due.items()}
    return StoreFigures(
        counts, oldest, overdue, archive_figures(tx, now), audit_figures(tx, now), readable=True
    )
