"""`kephs bench`: what it prints, that its clients read answers right, and that nothing stays behind."""

import asyncio
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import Settings
from evidence.ports import BytesSource
from evidence.verify.message import check_kep_message
from kephs.bench.fetch import content_of
from kephs.bench.figures import BenchError, Figure, disk_kind, machine
from kephs.bench.inbound import Provider
from kephs.bench.instance import Instance, make
from kephs.bench.interleave import Work, rates
from kephs.bench.proofs_bench import LEAVES
from kephs.bench.sealing_bench import GROUP
from kephs.bench.site import open_site
from kephs.bench.stage import Supply, share_ms
from kephs.bench.submit import Load
from kephs.bench.token_bench import pkcs11
from kephs.bench.turns import Runner, take_turns
from kephs.bench.wire import ImapClient, SmtpClient, last_line
from kephs.bootstrap import open_seal_policy, open_trust
from kephs.system import SystemClock

KEYS = {"name", "value", "unit", "baseline", "baseline_name", "ratio", "peak_rss_mb", "disk"}
COMMAND = [sys.executable, "-P", "-c", "from kephs.cli.main import main; main()", "bench"]
NO_INSTANCE = Instance(Path("/nonexistent"), Settings.model_construct(), ())
_NEVER = threading.Event()


def bench(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"TMPDIR": str(folder)}
    return subprocess.run(
        [*COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=110, check=False
    )


def figures_of(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, object]]:
    assert done.returncode == 0, done.stderr + done.stdout
    figures = [json.loads(line) for line in done.stdout.splitlines()]
    for figure in figures:
        assert figure.keys() >= KEYS
        assert figure["value"] > 0
        if figure["baseline"] is None:
            assert figure["ratio"] is None
        else:
            assert figure["ratio"] == pytest.approx(figure["value"] / figure["baseline"], rel=0.01)
    return {figure["name"]: figure for figure in figures}


@pytest.fixture
def folder():
    """A folder with a short name that the peers' users can enter, unlike pytest's own."""
    made = Path(tempfile.mkdtemp(prefix="kb", dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_an_unknown_name_is_a_usage_error_that_names_those_there_are(tmp_path):
    done = bench("soak", folder=tmp_path)
    assert done.returncode == 2
    assert "soak" in done.stderr
    assert all(
        name in done.stderr
        for name in (
            "submit", "life", "inbound", "fetch", "first-read", "idle", "seal", "seal-memory", "pkcs11",
            "verify", "ers", "proof", "nes", "bundle", "big-in", "big-out", "archive", "archive-put", "archive-s3",
        )
    )  # fmt: skip


@pytest.mark.slow
def test_crypto_benchmarks_print_one_line_for_each_form_beside_the_raw_operation(tmp_path):
    figures = figures_of(bench("seal", "verify", "ers", "nes", "--json", "--seconds", "1", folder=tmp_path))
    assert list(figures) == [
        "seal", "seal-single", "seal-own", "verify", "verify-batch", "verify-own", "ers", "ers-alone",
        "nes", "nes-message", "nes-cold", "nes-cold-p384",
    ]  # fmt: skip
    assert all(figure["baseline_name"].startswith("raw P-256") for figure in figures.values())
    assert figures["nes"]["value"] > figures["nes-cold"]["value"]
    assert figures["seal"]["mean_batch"] > 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_memory_of_sealing_is_looked_at_on_the_way(tmp_path):
    figure = figures_of(bench("seal-memory", "--json", "--seconds", "1", folder=tmp_path))["seal-memory"]
    assert figure["value"] >= 4 * GROUP
    assert isinstance(figure["rss_growth_mb_per_100k"], float)
    assert figure["rss_end_mb"] <= figure["peak_rss_mb"] + 1


@pytest.mark.slow
@pytest.mark.tools
def test_a_token_is_measured_beside_its_own_signatures_and_leaves_nothing(tmp_path):
    figure = figures_of(bench("pkcs11", "--json", "--seconds", "1", folder=tmp_path))["pkcs11"]
    assert figure["baseline_name"].startswith("SoftHSM")
    assert figure["value"] < figure["raw_soft_sign"]
    assert list(tmp_path.iterdir()) == []


async def test_without_a_token_library_there_is_no_figure_but_its_cause(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with open_site(1, SystemClock().now) as site:
        (figure,) = await pkcs11(site)
    line = json.loads(figure.line())
    assert (line["value"], line["baseline"], line["ratio"]) == (0, None, None)
    assert "SoftHSM is not installed" in line["baseline_name"]


@pytest.mark.slow
def test_proofs_come_from_a_ledger_on_the_disk_and_the_figure_says_how_large_it_got(tmp_path):
    figure = figures_of(bench("proof", "--json", "--seconds", "1", folder=tmp_path))["proof"]
    assert figure["p50_ms"] <= figure["p99_ms"] <= figure["max_ms"]
    assert figure["leaves"] == LEAVES or "the time was over" in figure["note"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_bundles_of_large_messages_are_made_and_verified_and_leave_nothing(tmp_path):
    figures = figures_of(bench("bundle", "--json", "--seconds", "0.1", folder=tmp_path))
    assert list(figures) == ["bundle", "bundle-verify"]
    assert all(figure["bundle_mb"] > 2 * 24 for figure in figures.values())
    assert list(tmp_path.iterdir()) == []


async def test_without_a_peer_the_baseline_name_says_what_is_missing(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with open_site(1, SystemClock().now) as site:
        async with site.postfix(NO_INSTANCE) as postfix, site.dovecot(NO_INSTANCE) as dovecot:
            assert "Postfix is not installed" in postfix
            assert "Dovecot is not installed" in dovecot


@pytest.mark.slow
@pytest.mark.tools
def test_submission_is_measured_beside_postfix_and_leaves_nothing(folder):
    figures = figures_of(bench("submit", "--json", "--seconds", "1", folder=folder))
    assert figures["submit"]["baseline_name"].startswith("Postfix")
    assert figures["submit"]["baseline"] > 0
    assert list(folder.iterdir()) == []


@pytest.mark.slow
@pytest.mark.tools
def test_fetching_is_measured_beside_dovecot_and_leaves_nothing(folder):
    figures = figures_of(bench("fetch", "--json", "--seconds", "1", folder=folder))
    assert list(figures) == ["fetch", "fetch-1", "fetch-sent"]
    assert figures["fetch"]["baseline_name"].startswith("Dovecot")
    assert list(folder.iterdir()) == []


@pytest.mark.slow
@pytest.mark.tools
def test_whole_lives_are_measured_to_their_end_also_those_of_strangers(folder):
    figures = figures_of(bench("life", "--json", "--seconds", "1", folder=folder))
    assert list(figures) == ["life", "life-cold"]
    assert all(figure["messages"] > 0 for figure in figures.values())
    assert list(folder.iterdir()) == []


@pytest.mark.slow
@pytest.mark.tools
def test_another_providers_dispatches_are_measured_at_the_inbound_port(folder):
    figures = figures_of(bench("inbound", "--json", "--seconds", "1", folder=folder))
    assert figures["inbound"]["baseline_name"].startswith("Postfix")
    assert figures["inbound"]["message_bytes"] > figures["inbound"]["letter_bytes"]
    assert list(folder.iterdir()) == []


@pytest.mark.slow
@pytest.mark.tools
def test_first_readings_are_measured_on_ten_connections_and_on_one(folder):
    figures = figures_of(bench("first-read", "--json", "--seconds", "0.1", folder=folder))
    assert [figure["connections"] for figure in figures.values()] == [10, 1]
    assert all(figure["p50_ms"] <= figure["p99_ms"] for figure in figures.values())
    assert list(folder.iterdir()) == []


@pytest.mark.slow
@pytest.mark.tools
def test_a_thousand_clients_wait_and_one_of_them_is_told(folder):
    figures = figures_of(bench("idle", "--json", "--seconds", "1", folder=folder))
    assert figures["idle"]["clients"] == 1000
    assert figures["idle-push"]["p50_ms"] > 0
    assert list(folder.iterdir()) == []


@pytest.mark.slow
async def test_the_other_providers_dispatches_verify_and_hold_no_bare_dot(tmp_path):
    clock = SystemClock().now
    ours = await make(tmp_path / "i", 1, clock)
    wire = await Provider(ours, clock).dispatches(ours.people[0].address, 3)
    trust, policy = open_trust(ours.settings), open_seal_policy(ours.settings)
    for text in wire:
        lines = text.split(b"\r\n")
        assert not [line for line in lines if line.startswith(b".") and not line.startswith(b"..")]
        plain = b"\r\n".join(line.removeprefix(b".") if line.startswith(b"..") else line for line in lines)
        assert check_kep_message(BytesSource(plain), trust, clock(), policy).report.passed
    assert len(set(wire)) == 3


@pytest.mark.slow
@pytest.mark.tools
def test_an_interrupted_run_stops_all_servers_and_removes_their_folders(folder):
    # a shell's background jobs ignore SIGINT, and their children inherit that
    hearing = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {COMMAND[3]}"
    running = subprocess.Popen(
        [*COMMAND[:3], hearing, *COMMAND[4:], "submit", "--seconds", "60"], env=os.environ | {"TMPDIR": str(folder)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        started = _until(lambda: _pids(running.pid, folder))
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 1
    finally:
        running.kill()
        running.wait()
    assert list(folder.iterdir()) == []
    assert not [pid for pid in started if _runs(pid)]


def _pids(bench_pid: int, folder: Path) -> list[int]:
    """Return our server, its TEST PKI and Postfix's master once all three run."""
    masters = []
    for file in folder.glob("**/queue/pid/master.pid"):
        with suppress(ValueError):
            masters.append(int(file.read_text()))
    servers = []
    for child in psutil.Process(bench_pid).children(recursive=True):
        with suppress(psutil.Error):  # it may be gone again
            servers += [child.pid] if {"serve", "test-pki"} & set(child.cmdline()) else []
    return [*masters, *servers] if masters and len(servers) == 2 else []


def _runs(pid: int) -> bool:
    """Say whether a process runs; one that only waits to be reaped by its parent does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _until(look):
    deadline = time.monotonic() + 60
    while not (found := look()):
        assert time.monotonic() < deadline
        _NEVER.wait(0.05)
    return found


# ------------------------------------------------------------------ the parts


class Clock:
    """A clock that advances when somebody works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_rates_count_only_the_work_and_take_turns():
    clock = Clock()
    order = []

    def work(name: str, cost: float) -> Work:
        def run(_item: int) -> None:
            clock.now += cost
            order.append(name)

        def prepare(count: int) -> list[int]:
            clock.now += 0.5
            return list(range(count))

        return Work(prepare, run)

    slow, quick = rates([work("slow", 0.02), work("quick", 0.01)], 20, clock)
    assert slow == pytest.approx(50)
    assert quick == pytest.approx(100)
    changes = sum(one != other for one, other in pairwise(order))
    assert changes > 10


async def test_the_first_turn_of_a_server_warms_up_and_is_not_counted():
    clock = Clock()

    async def turn(deadline: float) -> int:
        first = clock.now == 0
        clock.now = deadline
        return 1000 if first else 7

    runner = Runner(turn)
    await take_turns([runner], 4, slice_seconds=1, clock=clock)
    assert runner.rate == pytest.approx(7)


async def test_a_supply_gives_each_item_to_one_caller_once():
    made, taken = itertools.count(), []

    async def work(item: int) -> None:
        await asyncio.sleep(0)
        taken.append(item)

    supply = Supply(lambda count: [next(made) for _ in range(count)], work, callers=7)
    await take_turns([supply.runner], 0.2, slice_seconds=0.02)
    await supply.all(25)
    assert sorted(taken) == list(range(len(taken)))
    assert 25 <= supply.done < len(taken)  # the first turn warms up
    assert supply.cpu_rate > 0


async def test_a_supply_that_runs_out_ends_its_turn():
    async def work(_item: int) -> None:
        """Take no time."""

    supply = Supply(range, work)
    runner = supply.runner
    await runner.before()
    assert await runner.turn(float("inf")) == 1000
    await runner.before()
    assert await runner.turn(float("inf")) == 2000


def test_shares_of_times_are_the_nearest_rank():
    times = [n / 1000 for n in range(100, 0, -1)]
    assert [share_ms(times, share) for share in (0.01, 0.5, 0.99, 1)] == [1, 50, 99, 100]
    assert share_ms([0.25], 0.5) == 250


def test_a_figure_without_baseline_has_no_ratio():
    figure = Figure("submit", 12.3456, "messages/s", None, "Postfix is not installed", 10, "ext4")
    line = json.loads(figure.line())
    assert line.keys() == KEYS
    assert line["ratio"] is None
    assert line["value"] == 12.35


def test_the_machine_and_its_disk_are_named(tmp_path):
    assert "cores" in machine()
    assert disk_kind(tmp_path)


class Unconnected:
    """A transport that only notes what is written."""

    def write(self, data: bytes) -> None:
        self.last = data


async def _feed(client, pieces):
    client.connection_made(Unconnected())
    waiting = asyncio.ensure_future(client.answer())
    await asyncio.sleep(0)
    for piece in pieces:
        client.data_received(piece)
    return await waiting


@given(cuts=st.lists(st.integers(0, 60), max_size=5))
def test_where_the_network_cuts_an_smtp_answer_does_not_matter(cuts):
    answer = b"250-bench.test\r\n250-SIZE 100\r\n250 AUTH PLAIN\r\n"
    edges = [0, *sorted(min(cut, len(answer)) for cut in cuts), len(answer)]
    pieces = [answer[a:b] for a, b in pairwise(edges)]
    assert asyncio.run(_feed(SmtpClient(), pieces)) == answer


async def test_an_imap_answer_ends_with_its_own_tag_only():
    client = ImapClient()
    client.connection_made(Unconnected())
    working = asyncio.ensure_future(client.command(b"FETCH 1 BODY.PEEK[]"))
    await asyncio.sleep(0)
    literal = b"A1 OK no end\r\n"
    client.data_received(b"* 1 FETCH (BODY[] {14}\r\n" + literal[:5])
    client.data_received(literal[5:12])
    assert not working.done()
    client.data_received(literal[12:] + b")\r\nA1 OK Done\r\n")
    answer = await working
    assert content_of(answer) == literal


@given(cuts=st.lists(st.integers(0, 40), max_size=4))
def test_news_end_with_the_line_that_is_waited_for(cuts):
    told = b"* OK still here\r\n* FLAGS ()\r\n* 12 EXISTS\r\n"
    edges = [0, *sorted(min(cut, len(told)) for cut in cuts), len(told)]

    async def run():
        client = ImapClient()
        client.connection_made(Unconnected())
        waiting = asyncio.ensure_future(client.idle())
        await asyncio.sleep(0)
        client.data_received(b"+ idling\r\n")
        await waiting
        news = asyncio.ensure_future(client.news(b" EXISTS"))
        await asyncio.sleep(0)
        for a, b in pairwise(edges):
            client.data_received(told[a:b])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return await news

    assert asyncio.run(run()).endswith(b"* 12 EXISTS\r\n")


async def test_everybody_writes_to_the_next_so_each_receives_what_the_one_before_sent():
    load = Load([])
    load.sent = [3, 1, 2]
    assert load.received == [2, 3, 1]


async def test_a_refusal_ends_the_benchmark_with_the_servers_words():
    client = ImapClient()
    client.connection_made(Unconnected())
    working = asyncio.ensure_future(client.command(b"SELECT INBOX"))
    await asyncio.sleep(0)
    client.data_received(b"A1 NO [UNAVAILABLE] later\r\n")
    with pytest.raises(BenchError, match="UNAVAILABLE"):
        await working


async def test_a_lost_connection_ends_the_benchmark():
    client = SmtpClient()
    client.connection_made(Unconnected())
    waiting = asyncio.ensure_future(client.answer())
    await asyncio.sleep(0)
    client.connection_lost(None)
    with pytest.raises(BenchError, match="hung up"):
        await waiting


@pytest.mark.parametrize(
    ("buffer", "place"), [(b"", -1), (b"a", -1), (b"a\r\n", 0), (b"a\r\nb", -1), (b"a\r\nb\r\n", 3)]
)
def test_the_last_line_is_found_only_when_it_is_complete(buffer, place):
    assert last_line(buffer) == place
