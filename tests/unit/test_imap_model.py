"""Random commands on two sessions at once: what each was told adds up to what is there (RFC 3501 7.4.1, 5.2)."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.imap_world import Client, World, build_world, notice
from tests.support.stores import open_store

FLAGS = ("\\Seen", "\\Flagged", "\\Deleted", "$x")
_LINE = re.compile(rb"^\* (\d+) (EXISTS|EXPUNGE|FETCH \((.*)\))\r$", re.MULTILINE)
_UID = re.compile(rb"UID (\d+)")
_FLAGS = re.compile(rb"FLAGS \(([^)]*)\)")
_MODSEQ = re.compile(rb"MODSEQ \((\d+)\)")
_COPYUID = re.compile(rb"COPYUID \d+ (\S+) (\S+)\]")
_APPENDUID = re.compile(rb"APPENDUID \d+ (\d+)\]")


@dataclass
class Told:
    """What a client knows of one message."""

    uid: int | None = None
    flags: frozenset[str] | None = None
    modseq: int | None = None


@dataclass
class Viewer:
    """A client that keeps count as RFC 3501 lets it."""

    client: Client
    condstore: bool
    messages: list[Told] = field(default_factory=list)

    async def say(self, command: str, *, quiet: tuple[int, ...] = ()) -> bytes:
        """Send a command and take in what is told; of the ``quiet`` UIDs the flags are known already."""
        answer = await self.client.say(command)
        by_number = command.split(maxsplit=1)[0] in ("FETCH", "STORE", "SEARCH")
        for number, kind, items in _LINE.findall(answer):
            at = int(number) - 1
            if kind == b"EXPUNGE":
                assert not by_number, "numbers changed while they were in use"
                del self.messages[at]
            elif kind == b"EXISTS":
                assert int(number) >= len(self.messages)
                self.messages += [Told() for _ in range(int(number) - len(self.messages))]
            else:
                self._fetched(self.messages[at], items)
        return answer

    def _fetched(self, message: Told, items: bytes) -> None:
        if found := _UID.search(items):
            assert message.uid in (None, int(found[1])), "a number changed its message"
            message.uid = int(found[1])
        if found := _FLAGS.search(items):
            message.flags = frozenset(found[1].decode().split())
            assert not self.condstore or _MODSEQ.search(items), "flags without their number"
        if found := _MODSEQ.search(items):
            message.modseq = int(found[1])

    async def learn(self) -> None:
        """Ask about messages that were only counted so far."""
        fresh = [number for number, told in enumerate(self.messages, 1) if told.uid is None]
        if fresh:
            extra = " MODSEQ" if self.condstore else ""
            await self.say(f"FETCH {fresh[0]}:{fresh[-1]} (UID FLAGS{extra})")


NUMBERS = st.lists(st.integers(0, 30), min_size=1, max_size=3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("store"), st.integers(0, 1), NUMBERS, st.sampled_from(["+", "-", ""]),
                  st.sampled_from(FLAGS), st.booleans(), st.booleans()),
        st.tuples(st.sampled_from(["copy", "move", "copy back", "uid move"]), st.integers(0, 1), NUMBERS),
        st.tuples(st.sampled_from(["expunge", "append", "noop", "fetch", "poke"]), st.integers(0, 1)),
    ),
    max_size=25,
)  # fmt: skip


def expanded(numbers: bytes) -> list[int]:
    found: list[int] = []
    for piece in numbers.decode().split(","):
        low, _, high = piece.partition(":")
        found += range(int(low), int(high or low) + 1)
    return found


class Play:
    """The steps, and what must be in the two folders after each."""

    def __init__(self, viewers: list[Viewer]) -> None:
        self.viewers = viewers
        self.truth: dict[str, dict[int, tuple[str, frozenset[str]]]] = {"a": {}, "b": {}}
        self.count = 0

    async def step(self, name: str, who: int, *rest) -> None:
        viewer = self.viewers[who]
        if name == "append":
            await self.append(viewer)
        elif name == "expunge":
            await viewer.say("EXPUNGE")
            self.truth["a"] = {u: m for u, m in self.truth["a"].items() if "\\Deleted" not in m[1]}
        elif name == "noop":
            await viewer.say("NOOP")
        elif name == "poke":
            viewer.client.session.changed()
        elif viewer.messages:
            numbers = sorted({pick % len(viewer.messages) + 1 for pick in rest[0]}) if rest else [1]
            await self.on_messages(name, viewer, numbers, rest[1:])
        for one in self.viewers:
            await one.learn()

    async def append(self, viewer: Viewer) -> None:
        self.count += 1
        content = notice(f"m{self.count}")
        asked = await viewer.say(f"APPEND a {{{len(content)}}}")
        assert asked.endswith(b"+ go on\r\n")
        client = viewer.client
        client.say, kept = (lambda _: client.send(content + b"\r\n")), client.say  # type: ignore[method-assign]
        answer = await viewer.say("APPEND")
        client.say = kept  # type: ignore[method-assign]
        found = _APPENDUID.search(answer)
        assert found is not None
        self.truth["a"][int(found[1])] = (f"m{self.count}", frozenset())

    async def on_messages(self, name: str, viewer: Viewer, numbers: list[int], rest) -> None:
        text = ",".join(map(str, numbers))
        uids = [viewer.messages[number - 1].uid for number in numbers]
        if name == "fetch":
            await viewer.say(f"FETCH {text} (FLAGS)")
        elif name == "store":
            await self.store(viewer, numbers, uids, *rest)
        else:
            target = "a" if name == "copy back" else "b"
            command = {"copy back": "COPY", "uid move": "UID MOVE"}.get(name, name.upper())
            if name == "uid move":
                text = ",".join(map(str, uids))
            answer = await viewer.say(f"{command} {text} {target}")
            gone = any(uid not in self.truth["a"] for uid in uids)
            if "COPY" in command:
                assert (b"NO [EXPUNGEISSUED]" in answer) is gone
            if found := _COPYUID.search(answer):
                pairs = list(zip(expanded(found[1]), expanded(found[2]), strict=True))
                assert {old for old, _ in pairs} == {uid for uid in uids if uid in self.truth["a"]}
                for old, new in pairs:
                    self.truth[target][new] = self.truth["a"][old]
                    if "MOVE" in command:
                        del self.truth["a"][old]

    async def store(self, viewer, numbers, uids, mode: str, flag: str, silent: bool, by_uid: bool) -> None:
        def change(flags: frozenset[str]) -> frozenset[str]:
            return flags | {flag} if mode == "+" else flags - {flag} if mode == "-" else frozenset({flag})

        for number in numbers:
            told = viewer.messages[number - 1]
            if silent and told.flags is not None:
                told.flags = change(told.flags)
        text = ",".join(map(str, uids if by_uid else numbers))
        command = f"{'UID ' if by_uid else ''}STORE {text} {mode}FLAGS{'.SILENT' if silent else ''} ({flag})"
        assert b" OK " in await viewer.say(command)
        for uid in uids:
            if uid in self.truth["a"]:
                content, flags = self.truth["a"][uid]
                self.truth["a"][uid] = (content, change(flags))

    async def check(self, fresh: Client) -> None:
        for folder, wanted in self.truth.items():
            assert b" OK " in await fresh.say(f"SELECT {folder}")
            answer = await fresh.say("UID FETCH 1:* (FLAGS MODSEQ BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
            rows = re.findall(
                rb"UID (\d+) FLAGS \(([^)]*)\) MODSEQ \((\d+)\) BODY\[[^]]*\] \{\d+\}\r\nSubject: (m\d+)",
                answer,
            )
            there = {int(u): (s.decode(), frozenset(f.decode().split())) for u, f, _, s in rows}
            assert there == wanted
            if folder == "a":
                for viewer in self.viewers:
                    await viewer.say("NOOP")
                    await viewer.learn()
                    assert [(m.uid, m.flags) for m in viewer.messages] == [
                        (uid, wanted[uid][1]) for uid in sorted(wanted)
                    ]
                    if viewer.condstore:
                        assert {m.uid: m.modseq for m in viewer.messages} == {
                            int(u): int(n) for u, _, n, _ in rows
                        }


async def played(world: World, steps: Sequence[tuple[Any, ...]]) -> None:
    """Play the steps and compare what both sessions know with what is there."""
    viewers = [Viewer(await world.client(None), condstore) for condstore in (False, True)]
    fresh = await world.client(None)
    for name in "ab":
        await fresh.say(f"CREATE {name}")
    await viewers[0].say("SELECT a")
    await viewers[1].say("SELECT a (CONDSTORE)")
    play = Play(viewers)
    for _ in range(3):
        await play.step("append", 0)
    for step in steps:
        await play.step(*step)
    await play.check(fresh)


@settings(max_examples=150, deadline=None)
@given(STEPS)
async def test_two_sessions_know_at_the_end_what_is_there(steps):
    await played(await build_world(), steps)


def drawn(seed: int, count: int) -> list[tuple[Any, ...]]:
    """Return steps drawn by a seed."""
    dice = random.Random(seed)
    numbers = lambda: [dice.randrange(31) for _ in range(dice.randint(1, 3))]  # noqa: E731
    makers: list[Callable[[], tuple[Any, ...]]] = [
        lambda: ("store", dice.randrange(2), numbers(), dice.choice(["+", "-", ""]), dice.choice(FLAGS),
                 dice.random() < 0.5, dice.random() < 0.5),
        lambda: (dice.choice(["copy", "move", "copy back", "uid move"]), dice.randrange(2), numbers()),
        lambda: (dice.choice(["expunge", "append", "append", "noop", "fetch", "poke"]), dice.randrange(2)),
    ]  # fmt: skip
    return [dice.choice(makers)() for _ in range(count)]


@pytest.mark.parametrize("seed", range(3))
async def test_two_sessions_know_what_is_there_on_a_real_database(seed: int, tmp_path: Path):
    async with open_store("sqlite", tmp_path) as store:
        await played(await build_world(store=store), drawn(seed, 60))
