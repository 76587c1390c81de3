"""`kephs ledger` and a provider that cheats in every way: an outsider with two checkpoints finds it over HTTP."""

import asyncio
import json
import shutil
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from config import settings as config_settings
from evidence.ledger.notes import KeyKind, NoteVerifier, cosign, open_note
from evidence.ledger.proof import LedgerProof
from kephs.instances.keys import open_keys
from kephs.ledger.keys import open_ledger_key, open_witness_key
from kephs.ledger.server import serve_ledger
from storage.unit_of_work import SqliteStore
from tests.functional.site import Done, kephs
from tests.support.ledger_world import Cheat, LedgerWorld, signer
from tests.support.stores import T0

PLAY = Callable[["Ledger"], None]


@dataclass
class Ledger:
    """An instance with evidence, and what an outsider has of it."""

    home: Path
    folder: Path  # the outsider's
    world: LedgerWorld
    cheat: Cheat
    vkey: str

    def do(self, work: Callable[[LedgerWorld], Any]) -> Any:
        """Do something with the open store."""

        async def inside() -> Any:
            store = SqliteStore(
                config_settings.load(self.home).storage.database,
                column_key=open_keys(config_settings.load(self.home)).columns,
            )
            await store.start()
            self.world.store = self.world.publisher._store = self.world.prove._store = store
            try:
                return await work(self.world)
            finally:
                await store.close()

        return asyncio.run(inside())

    def keep(self, name: str) -> Path:
        """Keep the newest checkpoint, as an outsider does."""
        path = self.folder / name
        path.write_text(kephs("ledger", "checkpoint", self.home).stdout, encoding="utf-8")
        return path

    def prove(self, evidence_id: str) -> tuple[Path, Path]:
        """Return an evidence's proof and bytes as files."""
        proof, xml = self.folder / f"{evidence_id}.proof", self.folder / f"{evidence_id}.xml"
        kephs("ledger", "prove", self.home, evidence_id, proof)
        xml.write_bytes(self.world.xml[evidence_id])
        return proof, xml

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve the instance's ledger from another thread."""
        ready, stop = threading.Event(), threading.Event()
        ports: list[int] = []

        async def serve() -> None:
            settings = config_settings.load(self.home)
            store = SqliteStore(settings.storage.database, column_key=open_keys(settings).columns)
            await store.start()
            try:
                async with serve_ledger(store, NoteVerifier.parse(self.vkey), port=0) as port:
                    ports.append(port)
                    ready.set()
                    await asyncio.to_thread(stop.wait)
            finally:
                await store.close()

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        try:
            assert ready.wait(30)
            yield f"http://127.0.0.1:{ports[0]}"
        finally:
            stop.set()
            thread.join(30)

    def audit(self, *arguments: object, ok: bool = False) -> Done:
        return kephs("ledger", "audit", "--log-key", self.vkey, *arguments, ok=ok)

    def audited(self, *arguments: object) -> tuple[int, Any]:
        """Return exit code and JSON of an audit."""
        done = self.audit(*arguments, "--json")
        return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("ledger") / "hs91"
    kephs("init", home, "--domain", "hs91.kep.tr")
    return home


@pytest.fixture
def ledger(instance: Path, tmp_path: Path) -> Ledger:
    home, folder = tmp_path / "hs91", tmp_path / "outsider"
    shutil.copytree(instance, home)
    folder.mkdir()
    settings = config_settings.load(home)
    key = open_ledger_key(settings)
    world = LedgerWorld(None, key=key)
    made = Ledger(home, folder, world, Cheat(settings.storage.database, key), key.verifier.vkey)

    async def fill(world: LedgerWorld) -> None:
        await world.build()
        await world.grow(5)

    made.do(fill)
    return made


# Every way to cheat: rows, hash chain, tree, and every checkpoint made anew and signed by the provider itself.


def drop(ledger: Ledger) -> None:
    ledger.cheat.drop(3)


def drop_last(ledger: Ledger) -> None:
    ledger.cheat.drop(5)


def alter(ledger: Ledger) -> None:
    ledger.cheat.alter(3, ledger.world.xml["e3"].replace(b"Demir", b"Kaya."))


def swap(ledger: Ledger) -> None:
    ledger.cheat.swap(2, 4)


def back_date(ledger: Ledger) -> None:
    row, content = ledger.world.made(99, T0)
    ledger.cheat.back_date(3, row, content)


def cheated(ledger: Ledger, play: PLAY) -> None:
    """Cheat, then publish as if nothing had happened, and go on as if it had always been so."""
    play(ledger)
    ledger.cheat.publish_anew(keep_older=False)

    async def go_on(world: LedgerWorld) -> None:
        await world.grow(3)
        assert await world.found() == set()  # inside, nothing is left to be seen

    ledger.do(go_on)


def found_out(ledger: Ledger, play: PLAY) -> list[str]:
    """Return the names of the steps by which an outsider finds it out over HTTP."""
    old = ledger.keep("old")
    cheated(ledger, play)
    with ledger.served() as url:
        code, told = ledger.audited("--old", old, "--url", url)
        fast, _ = ledger.audited("--old", old, "--url", url, "--fast")
    assert (code, fast) == (1, 1)
    return [step["name"] for step in told["reports"][0]["steps"] if step["ok"] is False]


def test_an_outsider_finds_that_an_evidence_was_dropped(ledger: Ledger):
    assert "consistency" in found_out(ledger, drop)


def test_an_outsider_finds_that_the_newest_evidence_was_dropped(ledger: Ledger):
    assert "consistency" in found_out(ledger, drop_last)


def test_an_outsider_finds_that_an_evidence_was_altered(ledger: Ledger):
    assert "consistency" in found_out(ledger, alter)


def test_an_outsider_finds_that_two_evidence_changed_places(ledger: Ledger):
    assert "consistency" in found_out(ledger, swap)


def test_an_outsider_finds_that_an_evidence_was_put_in_among_older_ones(ledger: Ledger):
    assert "consistency" in found_out(ledger, back_date)


def test_an_outsider_finds_that_the_ledger_shrank(ledger: Ledger):
    old = ledger.keep("old")
    drop_last(ledger)
    ledger.cheat.publish_anew(keep_older=False)
    with ledger.served() as url:
        code, told = ledger.audited("--old", old, "--url", url)
    assert code == 1
    assert [s["name"] for s in told["reports"][0]["steps"] if s["ok"] is False] == ["sizes"]


def test_an_outsider_finds_two_trees_of_one_size(ledger: Ledger):
    old = ledger.keep("old")
    alter(ledger)
    ledger.cheat.publish_anew(keep_older=False)
    with ledger.served() as url:
        code, told = ledger.audited("--old", old, "--url", url)
    assert code == 1
    assert [s["name"] for s in told["reports"][0]["steps"] if s["ok"] is False] == ["one root for one size"]


def test_an_outsider_finds_that_an_evidence_was_entered_late_with_an_old_time(ledger: Ledger):
    """Somebody who got a checkpoint on a day knows that what claims an earlier time must be in it."""
    old = ledger.keep("old")
    got = datetime(2026, 3, 4, tzinfo=UTC)

    async def late(world: LedgerWorld) -> None:
        world.clock.forward(timedelta(days=3))
        await world.enter(1, at=T0)
        await world.grow(1)

    ledger.do(late)
    proof, xml = ledger.prove("e6")
    entry = ("--old", old, "--proof", proof, "--evidence", xml)
    with ledger.served() as url:
        code, told = ledger.audited("--url", url, *entry, "--old-at", got.isoformat())
        undecided, _ = ledger.audited("--url", url, *entry)
        honest = ledger.audit("--url", url, "--old", old, "--proof", *ledger.prove("e7")[:1], "--evidence",
                              ledger.folder / "e7.xml", "--old-at", got.isoformat(), ok=True)  # fmt: skip
    assert code == 1
    assert told["reports"][-1]["sub_indication"] == "TIMESTAMP_ORDER_FAILURE"
    assert undecided == 0
    assert "order of entry: TOTAL-PASSED" in honest.stdout


# An honest one.


def test_an_honest_ledger_passes_with_an_evidence_and_its_proof(ledger: Ledger):
    old = ledger.keep("old")
    proof, xml = ledger.prove("e2")
    ledger.do(lambda world: world.grow(300, 20))
    with ledger.served() as url:
        done = ledger.audit("--old", old, "--url", url, "--proof", proof, "--evidence", xml, ok=True)
    assert "ledger: TOTAL-PASSED: GEÇERLİ / valid" in done.stdout
    assert "ok   7   consistency / tutarlılık" in done.stdout
    assert "ledger proof: TOTAL-PASSED" in done.stdout
    assert "entered before the older checkpoint" in done.stdout


def test_another_evidence_than_the_proof_is_about_fails(ledger: Ledger):
    old = ledger.keep("old")
    proof, _ = ledger.prove("e2")
    _, other = ledger.prove("e3")
    with ledger.served() as url:
        code, told = ledger.audited("--old", old, "--url", url, "--proof", proof, "--evidence", other)
    assert code == 1
    assert told["reports"][1]["verdict"] == "TOTAL-FAILED"


def test_another_key_and_a_silent_server_leave_it_undecided(ledger: Ledger, tmp_path: Path):
    old = ledger.keep("old")
    other = tmp_path / "other"
    kephs("init", other, "--domain", "hs91.kep.tr")
    key = open_ledger_key(config_settings.load(other)).verifier.vkey
    with ledger.served() as url:
        done = kephs("ledger", "audit", "--old", old, "--url", url, "--log-key", key, ok=False)
        assert done.returncode == 2
    assert ledger.audited("--old", old, "--url", url)[0] == 2
    assert ledger.audited("--old", old, "--new", old, "--url", url)[0] == 2


def test_an_altered_checkpoint_fails(ledger: Ledger):
    old = ledger.keep("old")
    old.write_text(old.read_text(encoding="utf-8").replace("\n5\n", "\n4\n"), encoding="utf-8")
    with ledger.served() as url:
        assert ledger.audited("--old", old, "--url", url)[0] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        (), ("--url", "x", "--tiles", "y"), ("--url", "ftp://x"), ("--url", "http://x", "--proof", "OLD"),
        ("--url", "http://x", "--old-at", "yesterday"), ("--url", "http://x", "--witness-key", "VKEY"),
        ("--url", "http://x", "--log-key", "nonsense"), ("--url", "http://x", "--old", "missing"),
    ],
    ids=["neither", "both", "scheme", "proof-alone", "time", "wrong-kind", "no-key", "no-file"],
)  # fmt: skip
def test_wrong_usage_cannot_be_taken_for_a_verdict(ledger: Ledger, arguments: tuple[str, ...]):
    old = ledger.keep("old")
    given = [{"OLD": str(old), "VKEY": ledger.vkey}.get(one, one) for one in arguments]
    done = ledger.audit("--old", old, *given)
    assert done.returncode == (1 if "missing" in arguments else 64), done


def test_known_witnesses_are_counted_up_to_the_quorum(ledger: Ledger):
    old = ledger.keep("old")
    witness = signer(7, "hs92.kep.tr/kephs-witness", KeyKind.COSIGNATURE)
    new = ledger.folder / "new"
    new.write_bytes(old.read_bytes() + cosign(old.read_bytes(), witness, T0).line)
    asked = ("--old", old, "--quorum", 1, "--witness-key", witness.verifier.vkey)
    with ledger.served() as url:
        assert ledger.audited("--url", url, "--new", new, *asked)[0] == 0
        code, told = ledger.audited("--url", url, "--new", old, *asked)
    assert code == 2
    assert told["reports"][0]["sub_indication"] == "SIG_CONSTRAINTS_FAILURE"


# The other commands.


def test_the_key_is_shown_and_is_not_the_key_that_cosigns(ledger: Ledger):
    shown = json.loads(kephs("ledger", "key", ledger.home, "--json").stdout)
    log, witness = NoteVerifier.parse(shown["vkey"]), NoteVerifier.parse(shown["witness_vkey"])
    assert (log.name, witness.name) == ("hs91.kep.tr/kephs-ledger", "hs91.kep.tr/kephs-witness")
    assert (log.kind, witness.kind) == (KeyKind.NOTE, KeyKind.COSIGNATURE)
    assert log.public_key != witness.public_key
    assert witness == open_witness_key(config_settings.load(ledger.home)).verifier
    assert shown["vkey"] in kephs("ledger", "key", ledger.home).stdout


def test_a_key_is_made_once_and_never_replaced(ledger: Ledger):
    path = config_settings.load(ledger.home).ledger.key
    before = path.read_bytes()
    again = kephs("ledger", "key", ledger.home, "--make", ok=False)
    assert (again.returncode, path.read_bytes()) == (1, before)
    assert "key-exists" in again.stderr
    path.unlink()
    missing = kephs("ledger", "key", ledger.home, ok=False)
    assert "restore" in missing.stderr
    kephs("ledger", "key", ledger.home, "--make")
    assert path.stat().st_mode & 0o777 == 0o600
    assert kephs("ledger", "key", ledger.home).stdout


def test_a_checkpoint_is_signed_on_demand(ledger: Ledger):
    ledger.do(lambda world: world.enter(2))
    assert json.loads(kephs("ledger", "checkpoint", ledger.home, "--json").stdout)["size"] == 5
    done = kephs("ledger", "checkpoint", ledger.home, "--publish")
    key = open_ledger_key(config_settings.load(ledger.home)).verifier
    assert open_note(done.stdout.encode(), [key]).checkpoint.size == 7


def test_an_empty_ledger_has_no_checkpoint(instance: Path, tmp_path: Path):
    home = tmp_path / "empty"
    shutil.copytree(instance, home)
    done = kephs("ledger", "checkpoint", home, "--publish", ok=False)
    assert done.returncode == 1
    assert "nothing-published" in done.stderr
    assert "nothing-published" in kephs("ledger", "export", home, tmp_path / "out", ok=False).stderr


def test_what_is_not_published_yet_is_published_to_be_proved(ledger: Ledger):
    ledger.do(lambda world: world.enter(1))
    proof, _ = ledger.prove("e6")
    read = LedgerProof.read(proof.read_bytes())
    assert (read.number, read.size) == (6, 6)
    assert kephs("ledger", "prove", ledger.home, "e6").stdout.encode() == proof.read_bytes()
    missing = kephs("ledger", "prove", ledger.home, "nobody", ok=False)
    assert "not-in-ledger" in missing.stderr


def test_nothing_is_signed_or_proved_over_a_store_that_contradicts_what_was_published(ledger: Ledger):
    alter(ledger)
    ledger.do(lambda world: world.enter(1))
    refused = kephs("ledger", "prove", ledger.home, "e3", ok=False)
    assert refused.returncode == 1
    assert "ledger-contradiction" in refused.stderr
    kephs("ledger", "prove", ledger.home, "e4")
    ledger.cheat.alter(5, b"<x/>")
    done = kephs("ledger", "checkpoint", ledger.home, "--publish", ok=False)
    assert done.returncode == 1
    assert "ledger-contradiction" in done.stderr


def test_an_export_is_audited_like_the_server_and_grows(ledger: Ledger):
    old, out = ledger.keep("old"), ledger.folder / "static"
    ledger.do(lambda world: world.grow(300))
    first = json.loads(kephs("ledger", "export", ledger.home, out, "--json").stdout)
    assert (first["size"], first["files"]) == (305, 5)
    ledger.audit("--old", old, "--tiles", out, ok=True)
    ledger.do(lambda world: world.grow(1))
    assert json.loads(kephs("ledger", "export", ledger.home, out, "--json").stdout)["files"] == 3
    ledger.audit("--old", old, "--tiles", out, ok=True)
    with ledger.served() as url:
        for path in (
            "checkpoint",
            "log.vkey",
            "tile/0/000",
            "tile/0/001.p/50",
            "tile/1/000.p/1",
            "tile/entries/000",
        ):
            with urllib.request.urlopen(f"{url}/{path}", timeout=10) as page:
                assert page.read() == (out / path).read_bytes()
    (out / "tile/0/000").write_bytes(bytes(8192))
    assert ledger.audited("--old", old, "--tiles", out)[0] == 1
    (out / "tile/0/000").unlink()
    assert ledger.audited("--old", old, "--tiles", out)[0] == 2


def test_an_export_never_shows_less_than_before(ledger: Ledger):
    out = ledger.folder / "static"
    kephs("ledger", "export", ledger.home, out)
    drop_last(ledger)
    ledger.cheat.publish_anew(keep_older=False)
    done = kephs("ledger", "export", ledger.home, out, ok=False)
    assert "ledger-contradiction" in done.stderr


def test_a_proof_is_given_even_where_the_evidence_itself_cannot_be_read(ledger: Ledger) -> None:
    out = ledger.folder / "e3.proof"
    done = kephs("ledger", "prove", ledger.home, "e3", out)
    assert LedgerProof.read(out.read_bytes()).number == 3
    assert "its record was not written: kephs fsck DIR" in done.stderr
    assert not out.with_suffix(".ers").exists()
    done = kephs("ledger", "prove", ledger.home, "e3", ledger.folder / "e3.ers", ok=False)
    assert "[file-name]" in done.stderr
