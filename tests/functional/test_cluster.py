"""Two server processes on one PostgreSQL database and one folder: shared work, nothing lost, nothing twice."""

import json
import socket
import subprocess
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from config import settings as config_settings
from evidence.x509.chain import TrustStore
from kephs.testpki.authority import TestPki
from tests.functional.site import DOMAIN, KEPHS, Answer, Holder, Site, compose, kephs, sign, until
from tests.support.postgres import running

pytestmark = [pytest.mark.tools, pytest.mark.slow]

LEASE = 3.0
NODES = ("main", "n2")
MESSAGES = 200
SENDERS = 8


class Cluster(Site):
    """One instance of the cluster profile and its server processes."""

    def __init__(self, home: Path) -> None:
        self.home, self.url = home, running().empty()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        kephs(
            "init", home, "--domain", DOMAIN, "--test-pki", "--profile", "cluster", "--database-url", self.url
        )
        path = home / config_settings.FILE_NAME
        values = tomllib.loads(path.read_text("utf-8"))
        values["storage"]["lease_seconds"] = LEASE
        values["seal"]["tsa_seconds"] = 20.0
        config_settings.save(home, values)
        self.settings = config_settings.load(home)
        self.pki = TestPki.load(self.settings.test_pki.directory)
        self.trust = TrustStore([self.pki.root])
        self._count = 100
        self.people: dict[str, Holder] = {}

    def start_node(self, node: str) -> None:
        with (self.home / "run" / f"{node}.out").open("wb") as log:
            self._processes[node] = subprocess.Popen(
                [KEPHS, "serve", str(self.home), "--node", node],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        until(lambda: self._ready(node), f"{node} to serve", 60)

    def _ready(self, node: str) -> bool:
        assert self._processes[node].poll() is None, self.log(node)
        return "serve.ready" in self.log(node)

    def log(self, node: str) -> str:
        return (self.home / "run" / f"{node}.out").read_text()

    def kill_node(self, node: str) -> None:
        self._processes[node].kill()
        self._processes[node].wait()

    def stop_nodes(self) -> None:
        for node, process in self._processes.items():
            if process.poll() is None:
                process.terminate()
                assert process.wait(60) == 0, self.log(node)[-3000:]

    def close(self) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        running().drop(self.url)

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as link:
            return link.execute(query.replace("?", "%s"), parameters).fetchall()

    def told(self, node: str, event: str) -> int:
        """Return how often a node logged an event."""
        return self.log(node).count(event)


def attempts(site: Site, work: Callable[[int], Answer], count: int) -> list[Answer | None]:
    """Do something many times, from several clients at once; None where the connection died."""

    def one(number: int) -> Answer | None:
        try:
            return work(number)
        except (OSError, EOFError):  # smtplib's errors are OSErrors
            return None

    with ThreadPoolExecutor(SENDERS) as pool:
        return list(pool.map(one, range(count)))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("cluster") / "hs91")
    try:

        async def people(core: Any) -> None:
            for number in range(SENDERS):
                await made.open(core, f"gonderen{number}", f"Gönderen {number}")
            await made.open(core, "alici", "Alıcı")

        made.with_core(people)
        for node in NODES:
            made.start_node(node)
        yield made
        made.stop_nodes()
    finally:
        made.close()


def test_a_name_belongs_to_one_process_and_a_migration_waits_for_none(cluster: Cluster) -> None:
    again = subprocess.run(
        [KEPHS, "serve", str(cluster.home), "--node", "n2"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert again.returncode == 1
    assert "is being served already" in again.stderr
    refused = kephs("migrate", cluster.home, "--json", ok=False)
    assert json.loads(refused.stdout)["error"]["code"] == "database-served"


def test_an_embedded_instance_has_one_process(tmp_path: Path) -> None:
    home = tmp_path / "hs91"
    kephs("init", home, "--domain", DOMAIN, "--test-pki")
    refused = kephs("serve", home, "--node", "n2", ok=False)
    assert refused.returncode == 1
    assert "cluster" in refused.stderr


def test_both_processes_take_connections_and_hear_of_each_others_changes(cluster: Cluster) -> None:
    """IDLE in one process, delivery by whichever takes it: the listener hears within a moment."""
    receiver, sender = cluster.people["alici"], cluster.people["gonderen0"]
    with cluster.imap(receiver) as client:
        client.send(b"i IDLE\r\n")
        assert client.readline().startswith(b"+")
        original = sign(compose(sender.address, receiver.address), sender.issued)
        assert cluster.submit(sender, original, [receiver.address]).code == 250
        client.sock.settimeout(30)
        assert b"EXISTS" in client.readline()
        client.send(b"DONE\r\n")
        while not client.readline().startswith(b"i OK"):
            continue
    with ThreadPoolExecutor(SENDERS) as pool:
        list(pool.map(lambda _: _connects(cluster), range(40)))


def _connects(cluster: Cluster) -> None:
    with socket.create_connection(("127.0.0.1", cluster.settings.network.submission_port), 10):
        pass


@pytest.mark.timeout(400)
@pytest.mark.filterwarnings(  # a connection reset before its handshake leaves its socket open (CPython's ssl)
    "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"
)
def test_every_message_is_delivered_once_although_a_process_is_killed(cluster: Cluster) -> None:
    receiver = cluster.people["alici"]
    senders = [cluster.people[f"gonderen{n}"] for n in range(SENDERS)]
    letters = []
    for number in range(MESSAGES):
        sender = senders[number % SENDERS]
        letters.append(
            sign(compose(sender.address, receiver.address, subject=f"ihtar {number}"), sender.issued)
        )

    def send(number: int) -> Answer:
        if number == MESSAGES // 2:
            cluster.kill_node("n2")
        return cluster.submit(senders[number % SENDERS], letters[number], [receiver.address])

    answers = attempts(cluster, send, MESSAGES)
    for node in NODES:
        assert cluster.told(node, "submission.accepted"), f"{node} took part"
    again = [number for number, answer in enumerate(answers) if answer is None or answer.code != 250]
    second = attempts(
        cluster,
        lambda n: cluster.submit(senders[again[n] % SENDERS], letters[again[n]], [receiver.address]),
        len(again),
    )
    for number, answer in zip(again, second, strict=True):
        answers[number] = answer
    assert [a.code for a in answers if a is not None] == [250] * MESSAGES
    taken = [a.message_id for a in answers if a is not None]
    assert len(set(taken)) == MESSAGES, "the same message sent again is answered as the first time"
    for number in again[:3]:
        first = answers[number]
        assert first is not None
        repeated = cluster.submit(senders[number % SENDERS], letters[number], [receiver.address])
        assert (repeated.message_id, repeated.evidence_id) == (first.message_id, first.evidence_id)
    until(lambda: _delivered(cluster) >= set(taken), "every message's delivery", 120)
    until(
        lambda: not cluster.rows("SELECT 1 FROM evidence WHERE receipt_due IS NOT NULL"), "every receipt", 120
    )
    _exactly_once(cluster, taken)
    cluster.start_node("n2")
    found = kephs("fsck", cluster.home, "--json", ok=False)
    assert json.loads(found.stdout)["clean"], found.stdout


def _delivered(cluster: Cluster) -> set[str]:
    return {row[0] for row in cluster.rows("SELECT message_id FROM messages WHERE state = 'completed'")}


def _exactly_once(cluster: Cluster, taken: list[str]) -> None:
    filed = Counter(
        row[0]
        for row in cluster.rows(
            "SELECT d.message_id FROM items i JOIN deliveries d ON d.delivery_id = i.delivery_id"
        )
    )
    assert {message_id: filed[message_id] for message_id in taken} == dict.fromkeys(taken, 1)
    made = Counter(
        (message_id, kind)
        for message_id, kind in cluster.rows("SELECT message_id, kind FROM evidence WHERE kind IN (10, 40)")
    )
    assert {made[message_id, kind] for message_id in taken for kind in (10, 40)} == {1}
