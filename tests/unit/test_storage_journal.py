"""The journal writes each batch whole, syncs it once, and leaves a segment nobody can be sure of."""

import os
import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from storage.files.journal import RECORD_HEAD, Journal


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def bodies(journal: Journal) -> list[bytes]:
    whole = {number: journal.path(number).read_bytes() for number in journal.segments()}
    return [whole[number][at + RECORD_HEAD :][:length] for number, at, length, _ in journal.records()]


def test_a_journal_answers_only_after_its_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    real_write, real_sync = os.writev, os.fdatasync

    def write(descriptor: int, parts: Sequence[bytes]) -> int:
        events.append("write")
        return real_write(descriptor, parts)

    def sync(descriptor: int) -> None:
        events.append("sync")
        real_sync(descriptor)

    monkeypatch.setattr(os, "writev", write)
    monkeypatch.setattr(os, "fdatasync", sync)
    journal = Journal(tmp_path)
    journal.open()
    with journal.batch() as add:
        assert [add((b"a" * 20, b"b" * 20)), add((b"c" * 40,))] == [(1, 16), (1, 16 + RECORD_HEAD + 40)]
    events.append("answer")
    journal.close()
    assert events[-3:] == ["write", "sync", "answer"]
    assert events.count("sync") == 1


def test_a_disk_that_takes_a_part_at_a_time_gets_every_octet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_write, real_sync, at_sync = os.write, os.fdatasync, []
    monkeypatch.setattr(os, "writev", lambda to, parts: real_write(to, b"".join(parts)[:7]))
    monkeypatch.setattr(os, "write", lambda to, data: real_write(to, bytes(data)[:1000]))
    monkeypatch.setattr(os, "fdatasync", lambda to: at_sync.append(os.fstat(to).st_size) or real_sync(to))
    wanted = [content(size) for size in (32, 5000, 300_000, 40)]
    journal = Journal(tmp_path)
    journal.open()
    with journal.batch() as add:
        for body in wanted:
            add((body[:16], body[16:]))
    assert bodies(journal) == wanted
    assert at_sync == [16 + sum(RECORD_HEAD + len(body) for body in wanted)]
    again = Journal(tmp_path)
    again.open()
    with again.batch() as add:
        assert add((bytes(32),)) == (1, at_sync[0])
    for one in (journal, again):
        one.close()


def test_more_records_than_one_system_call_takes_are_all_written(tmp_path: Path) -> None:
    wanted = [content(32 + number % 5) for number in range(3000)]
    journal = Journal(tmp_path, segment_size=100_000)
    journal.open()
    with journal.batch() as add:
        for body in wanted:
            add((body[:16], body[16:]))
    assert bodies(journal) == wanted
    assert journal.segments() == [1, 2]
    journal.close()


def test_a_batch_that_fails_half_way_leaves_its_segment_and_what_waits(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open()
    with suppress(MemoryError), journal.batch() as add:
        add((b"a" * 40,))
        raise MemoryError
    with journal.batch() as add:
        assert add((b"b" * 40,)) == (2, 16)
    assert bodies(journal) == [b"b" * 40]
    journal.close()
