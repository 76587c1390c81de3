"""Figures: every port that is metered does what it did, is counted, and no label names a person."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from evidence.model.records import EvidenceKind
from evidence.ports import BytesSource, TimestampUnavailableError
from kephs.domain.relay import Handed, Letter, NotHanded, RelayTrouble
from kephs.observability.metered import MeteredCourier, MeteredSealing
from kephs.observability.metrics import Metrics
from kephs.ports import StoreUnavailableError
from tests.support.pair import Pair, new_pair, peer_of
from tests.support.world import AYSE, PEER, Clock, new_world


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(version="1", schema="0002")


async def values(metrics: Metrics, clock=None, monotonic: float = 0.0) -> dict[tuple[str, ...], float]:
    """Return each sample by its name and sorted label values."""
    page = (await metrics.page(clock or Clock(), monotonic)).decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


class Timer:
    """Advances half a second at each look."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        self.at += 0.5
        return self.at


@dataclass
class Edge:
    open_sessions: int = 2
    counters: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(sessions=7, taken=3, refused=Counter({"too-big": 2}))
    )


async def test_an_edge_shows_its_own_counters(metrics: Metrics):
    metrics.watch_edge("submission", Edge())
    metrics.watch_sessions("imap", lambda: 5)
    found = await values(metrics)
    assert found["kephs_sessions_open", "submission"] == 2
    assert found["kephs_sessions_open", "imap"] == 5
    assert found["kephs_sessions_total", "submission"] == 7
    assert found["kephs_messages_taken_total", "submission"] == 3
    assert found["kephs_messages_refused_total", "too-big", "submission"] == 2
    build = next(set(key) for key in found if key[0] == "kephs_build_info")
    assert build >= {"1", "0002"}


async def test_events_are_counted_and_pass_unchanged(metrics: Metrics):
    event = {"event": "inbound.taken", "level": "info", "x": object()}
    assert metrics.count_event(None, "info", event) is event
    for name in ("somebody@hs91.kep.tr said", "A", 5, None):
        metrics.count_event(None, "info", {"event": name})
    found = await values(metrics)
    assert found["kephs_events_total", "inbound.taken", "info"] == 1
    assert found["kephs_events_total", "other", "other"] == 4


async def test_event_names_cannot_fill_the_memory(metrics: Metrics):
    for number in range(1000):
        metrics.count_event(None, "info", {"event": f"made.up{number}", "level": "info"})
    names = {key[1] for key in await values(metrics) if key[0] == "kephs_events_total"}
    assert len(names) == 301


async def test_sealing_is_counted_by_kind_and_timed(metrics: Metrics):
    pair = await new_pair()
    world = pair.here
    sealer = MeteredSealing(world.sealer, metrics, world.clock, timer=Timer())
    message = await pair.message(await pair.send())
    records = [
        world.records.make(kind, message, number=1)
        for kind in (EvidenceKind.DELIVERY, EvidenceKind.NON_DELIVERY)
    ]
    sealed = await sealer.seal_many(records)
    assert [one.record for one in sealed] == records
    assert await sealer.sign_entity(b"d" * 32, world.clock.now())
    found = await values(metrics)
    assert found["kephs_evidence_sealed_total", "40"] == found["kephs_evidence_sealed_total", "41"] == 1
    assert found["kephs_deliveries_total", "delivered"] == found["kephs_deliveries_total", "failed"] == 1
    assert found["kephs_seal_seconds_sum", "evidence"] == 0.5
    assert found["kephs_seal_seconds_count", "message"] == 1


async def test_a_missing_stamp_is_counted_and_raised(metrics: Metrics):
    pair = await new_pair()
    pair.here.tsa.down = True
    sealing = MeteredSealing(pair.here.sealer, metrics, Clock())
    for ask in (sealing.records([b"d" * 32]), sealing.sign_entity(b"d" * 32, pair.here.clock.now())):
        with structlog.testing.capture_logs() as logs, pytest.raises(TimestampUnavailableError):
            await ask
        assert [one["event"] for one in logs] == ["stamp.unavailable"]
    assert (await values(metrics))["kephs_stamp_failures_total",] == 2


async def test_evidence_let_out_in_the_grace_is_counted_as_a_missing_stamp(metrics: Metrics):
    world = await new_world(grace=True)
    world.tsa.down = True
    sealing = MeteredSealing(world.sealer, metrics, world.clock)
    pair = await new_pair()
    message = await pair.message(await pair.send())
    with structlog.testing.capture_logs() as logs:
        await sealing.seal_many([world.records.make(EvidenceKind.DELIVERY, message, number=1)])
    assert [one["event"] for one in logs] == ["stamp.unavailable"]
    assert (await values(metrics))["kephs_stamp_failures_total",] == 1


async def test_a_batch_tells_how_far_our_clock_is_off(metrics: Metrics):
    pair = await new_pair()
    ours = Clock()
    ours.at += timedelta(seconds=2)
    sealing = MeteredSealing(pair.here.sealer, metrics, ours)
    assert "kephs_clock_offset_seconds" not in str(await values(metrics))
    message = await pair.message(await pair.send())
    await sealing.seal_many([pair.here.records.make(EvidenceKind.DELIVERY, message, number=1)])
    assert (await values(metrics))["kephs_clock_offset_seconds",] == pytest.approx(2, abs=0.51)


@pytest.mark.parametrize(
    "outcome", [Handed("2.0.0"), NotHanded(RelayTrouble.SILENT, "banner")], ids=["yes", "no"]
)
async def test_a_courier_is_counted_by_peer_and_trouble(metrics: Metrics, outcome):
    class Inner:
        async def hand_over(self, peer, letter):
            return outcome

    courier = MeteredCourier(Inner(), metrics, timer=Timer())
    with structlog.testing.capture_logs() as logs:
        assert await courier.hand_over(peer_of(PEER), Letter("", (AYSE,), BytesSource(b"x\r\n"))) is outcome
    found = await values(metrics)
    if isinstance(outcome, Handed):
        assert found["kephs_relay_handed_total", PEER] == 1
        assert found["kephs_relay_seconds_count", PEER] == 1
    else:
        assert found["kephs_relay_troubles_total", PEER, "silent"] == 1
    (line,) = logs
    assert line["peer"] == PEER
    assert AYSE not in str(line)


async def queued(pair: Pair) -> str:
    pair.out.trouble = NotHanded(RelayTrouble.NO_CONNECTION)
    message_id = await pair.send()
    await pair.work()
    return message_id


async def test_the_queue_and_the_lanes_are_shown_with_their_ages(metrics: Metrics):
    pair = await new_pair()
    await queued(pair)
    metrics.watch_store(pair.here.store)
    pair.clock.at += timedelta(minutes=10)
    found = await values(metrics, pair.clock)
    assert found["kephs_store_readable",] == 1
    assert found["kephs_queue_length", PEER, "queued"] == 1
    assert found["kephs_queue_oldest_seconds", PEER, "queued"] == pytest.approx(600, abs=1)
    assert 500 < found["kephs_work_overdue_seconds", f"relay {PEER}"] < 600
    assert found["kephs_work_overdue_seconds", "deliver"] == 0


async def test_the_store_is_asked_at_most_every_five_seconds(metrics: Metrics):
    pair = await new_pair()
    metrics.watch_store(pair.here.store)
    assert ("kephs_queue_length", PEER, "queued") not in await values(metrics, pair.clock, 100.0)
    await queued(pair)
    assert ("kephs_queue_length", PEER, "queued") not in await values(metrics, pair.clock, 104.9)
    assert ("kephs_queue_length", PEER, "queued") in await values(metrics, pair.clock, 105.0)


async def test_a_store_that_fails_is_a_figure_and_no_failure(metrics: Metrics):
    class Broken:
        counters = SimpleNamespace(batches=2, items=9, failed=1)

        async def read(self, work):
            raise StoreUnavailableError("closed")

    metrics.watch_store(Broken())
    with structlog.testing.capture_logs():
        found = await values(metrics)
    assert found["kephs_store_readable",] == 0
    assert found["kephs_store_writes_total",] == 9


async def test_no_label_names_a_person_or_a_message(metrics: Metrics):
    pair = await new_pair()
    message_id = await queued(pair)
    metrics.watch_store(pair.here.store)
    page = (await metrics.page(pair.clock, 0.0)).decode()
    assert "@" not in page
    assert message_id.partition("@")[0] not in page
