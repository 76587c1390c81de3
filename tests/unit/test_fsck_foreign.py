"""fsck and doctor look at what providers handed over: a lost, changed or strange file is told, with its cure."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evidence.bundle.hand_over import MANIFEST, SEAL
from kephs.cli.health import backlog as doctor_backlog
from kephs.cli.health.fsck import SENTENCES
from kephs.cli.health.turkish import TURKISH
from kephs.ports.hand_over import ForeignArchive, PartsError
from kephs.usecases.ending.take_over import KEY_FILE, TakeOver
from storage.fsck.findings import FindingCode
from storage.fsck.foreign import check_foreign
from storage.hand_over_parts import FolderParts, KeyCipher
from storage.memory.store import MemoryStore
from tests.support.hand_over import KEY, Ending, MemoryParts, Successor, ending
from tests.support.world import DOMAIN, Inline

LOST, CHANGED = FindingCode.FOREIGN_MISSING, FindingCode.FOREIGN_ALTERED


class Taken:
    """A provider's folder as take-over leaves it, and its row."""

    def __init__(self, old: Ending, source: MemoryParts, root: Path) -> None:
        self.old, self.source, self.root = old, source, root
        self.folder, self.store = root / DOMAIN, MemoryStore()
        self.archives: list[ForeignArchive] = []
        self.progress: dict[str, int] = {}

    async def take(self) -> "Taken":
        work = TakeOver(
            store=self.store, register=Successor(self.old).register, source=self.source,
            check=self.old.checker(self.source).run, cipher=KeyCipher(KEY), offload=Inline(),
            target=lambda _: FolderParts(self.folder, Inline().run, mode=0o600),
            key_file=lambda domain: domain.encode() + KEY, clock=self.old.world.clock,
        )  # fmt: skip
        await work.run("Yeni Yetkili")
        self.archives = await self.store.read(lambda tx: list(tx.foreign.archives()))
        return self

    def open_key(self, domain: str, sealed: bytes) -> bytes:
        if sealed != domain.encode() + KEY:
            raise PartsError("another key")
        return KEY

    def found(self, *, deep: bool = True) -> list[tuple[FindingCode, str]]:
        findings = check_foreign(
            self.archives, self.root, self.open_key, deep=deep, progress=self.progress.__setitem__
        )
        return [(one.code, one.subject.removeprefix(f"{DOMAIN}/")) for one in findings]

    def names(self) -> list[str]:
        return sorted(
            path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()
        )


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {"folder": tmp_path_factory.mktemp("foreign")}


@pytest.fixture
async def taken(kept: dict[str, Any], tmp_path: Path) -> Taken:
    if "old" not in kept:
        kept["old"], kept["parts"] = await ending(), MemoryParts()
        await kept["old"].hand(kept["parts"])
        made = await Taken(kept["old"], kept["parts"], kept["folder"]).take()
        kept["archives"] = made.archives
    shutil.copytree(kept["folder"], tmp_path / "foreign")
    one = Taken(kept["old"], kept["parts"], tmp_path / "foreign")
    one.archives = kept["archives"]
    return one


def flip(path: Path, at: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 1
    path.write_bytes(content)


async def test_what_was_taken_over_is_sound_at_both_depths(taken: Taken) -> None:
    assert taken.found() == []
    assert taken.found(deep=False) == []
    assert taken.progress["foreign"] > 10


async def test_nothing_taken_over_is_nothing_to_find(tmp_path: Path) -> None:
    assert list(check_foreign([], tmp_path / "foreign", lambda _d, k: k, deep=True, progress=print)) == []


async def test_every_file_lost_is_told_by_its_name(taken: Taken) -> None:
    for name in taken.names():
        path = taken.folder / name
        content = path.read_bytes()
        path.unlink()
        assert taken.found(deep=False) == [(LOST, name)]
        path.write_bytes(content)
    assert taken.found() == []


async def test_one_flipped_octet_in_any_file_is_told_by_its_name(taken: Taken) -> None:
    for name in taken.names():
        path = taken.folder / name
        content = path.read_bytes()
        flip(path)
        assert taken.found() == [(CHANGED, name)], name
        path.write_bytes(content)


async def test_without_deep_a_file_of_another_size_is_told_and_a_flipped_octet_is_not(taken: Taken) -> None:
    pack = next(name for name in taken.names() if name.startswith("icerik/"))
    flip(taken.folder / pack)
    assert taken.found(deep=False) == []
    with (taken.folder / pack).open("ab") as file:
        file.write(b"x")
    assert taken.found(deep=False) == [(CHANGED, pack)]


@pytest.mark.parametrize("name", [MANIFEST, SEAL, KEY_FILE, "liste/000001.txt"])
async def test_the_frame_is_compared_at_either_depth(taken: Taken, name: str) -> None:
    flip(taken.folder / name)
    assert taken.found(deep=False) == [(CHANGED, name)]
    (taken.folder / name).write_bytes(b"x" * (17 << 20))
    assert taken.found(deep=False) == [(CHANGED, name)]


async def test_a_manifest_of_another_hand_over_is_not_the_one_that_was_taken(taken: Taken) -> None:
    """Broken twin: manifest, seal and lists fit each other, and the row says what was verified."""
    taken.archives = [replace(taken.archives[0], manifest_sha256=bytes(32))]
    assert taken.found() == [(CHANGED, MANIFEST)]


async def test_a_list_that_the_manifest_names_and_that_is_none_is_told(
    taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.fsck.foreign.Listed.holds", lambda _self, _content: True)
    (taken.folder / "liste" / "000001.txt").write_bytes(b"x\n")
    assert taken.found() == [(CHANGED, "liste/000001.txt")]


async def test_a_key_that_opens_another_hand_over_does_not_fit(taken: Taken) -> None:
    taken.open_key = lambda _domain, _sealed: bytes(32)  # type: ignore[method-assign,assignment]
    assert taken.found() == [(CHANGED, KEY_FILE)]


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [link, folder], ids=["symbolic link", "folder"])
async def test_what_is_no_plain_file_is_not_the_file(taken: Taken, change: Callable[[Path], None]) -> None:
    pack = next(name for name in taken.names() if name.startswith("icerik/"))
    change(taken.folder / pack)
    assert (CHANGED, pack) in taken.found()


async def test_a_file_that_nobody_listed_is_strange_but_for_what_a_kill_left(taken: Taken) -> None:
    (taken.folder / "icerik" / "extra.pak").write_bytes(b"x")
    (taken.folder / "icerik" / ".0123456789abcdef.new").write_bytes(b"x")
    assert taken.found() == [(FindingCode.FOREIGN_UNLISTED, "icerik/extra.pak")]


async def test_a_lost_folder_is_told_and_one_without_a_row_is_a_note(taken: Taken) -> None:
    taken.folder.rename(taken.root / "hs99.kep.tr")
    found = check_foreign(taken.archives, taken.root, taken.open_key, deep=False, progress=lambda *_: None)
    told = [(one.code, one.subject, one.harmless) for one in found]
    assert told == [
        (LOST, DOMAIN, False),
        (FindingCode.FOREIGN_UNFINISHED, "hs99.kep.tr", True),
    ]


async def test_taking_over_again_is_the_cure(taken: Taken) -> None:
    pack = next(name for name in taken.names() if name.startswith("icerik/"))
    flip(taken.folder / pack)
    (taken.folder / KEY_FILE).unlink()
    (taken.folder / "liste" / "000001.txt").write_bytes(b"")
    assert len(taken.found()) == 2
    await taken.take()
    assert taken.found() == []
    flip(taken.folder / MANIFEST)
    (taken.folder / MANIFEST).unlink()
    await taken.take()
    assert taken.found() == []


def test_every_finding_has_a_sentence_and_a_cure() -> None:
    codes = {one for one in FindingCode if one.value.startswith("foreign.")}
    assert codes <= set(SENTENCES)
    assert "kephs take-over" in SENTENCES[LOST][1]


async def test_the_doctor_looks_for_the_files_too(taken: Taken, monkeypatch: pytest.MonkeyPatch) -> None:
    async def rows(_settings: Any, _work: Any) -> list[ForeignArchive]:
        return taken.archives

    async def look() -> list[tuple[str, str]]:
        found = await doctor_backlog.check_foreign(None, taken.root.parent)  # type: ignore[arg-type]
        return [(one.level.value, one.code) for one in found]

    monkeypatch.setattr(doctor_backlog, "read_rows", rows)
    monkeypatch.setattr(doctor_backlog, "open_key", lambda _settings, *key: taken.open_key(*key))
    assert await look() == [("ok", "foreign")]
    (taken.folder / SEAL).unlink()
    assert await look() == [("error", "foreign-damaged")]
    assert "foreign-damaged" in TURKISH
    taken.archives = []
    assert await look() == []
