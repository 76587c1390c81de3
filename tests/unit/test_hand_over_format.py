"""The frame of a hand-over: manifest and lists are read exactly as they are written, and nothing else is."""

from datetime import UTC, datetime
from hashlib import sha512
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.bundle.hand_over import (
    LIST_OF,
    MANIFEST_MAX,
    HandedBy,
    HandOverError,
    LedgerEnd,
    Listed,
    Manifest,
    RecordEnd,
    check_name,
    is_sealed,
    judge_manifest,
    list_name,
    make_lists,
    make_manifest,
    read_list,
    read_manifest,
)
from evidence.report import Verdict
from kephs.ports.hand_over import PartMissingError, PartsError
from storage.hand_over_parts import FolderParts, KeyCipher

AT = datetime(2026, 11, 22, 9, 30, 15, 123456, tzinfo=UTC)
NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}(/[a-z0-9][a-z0-9._-]{0,20}){0,3}", fullmatch=True)


async def at_once(function, *arguments):
    return function(*arguments)


def manifest(**changes) -> Manifest:
    lists = (Listed.of(list_name(1), b"x"),)
    values = {
        "by": HandedBy("hs91.kep.tr", "Örnek A.Ş.", "kephizmet@hs91.kep.tr", "Derya Devir"),
        "made_at": AT, "ledger": LedgerEnd("hs91.kep.tr/l", "l+00+AA", 3, bytes(32)),
        "record": RecordEnd(7, bytes(32)), "counts": {"entries": 3}, "key_check": bytes(32),
        "lists": lists, "notes": ("bir",),
    }  # fmt: skip
    return Manifest(**{**values, **changes})


def test_a_manifest_is_read_back_as_it_was_written():
    assert read_manifest(make_manifest(manifest())) == manifest()


@given(st.data())
def test_any_other_octet_makes_it_no_manifest_or_another_one(data):
    content = bytearray(make_manifest(manifest()))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    try:
        found = read_manifest(bytes(content))
    except HandOverError:
        return
    assert found != manifest()
    assert make_manifest(found) == bytes(content)


@given(st.binary(max_size=300))
def test_octets_from_anywhere_are_refused_in_one_way(content):
    with pytest.raises(HandOverError):
        read_manifest(content)


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b'{"format":"kephs-hand-over-1"}', b"x" * (MANIFEST_MAX + 1)],
    ids=["nested", "empty", "large"],
)
def test_a_manifest_that_would_cost_too_much_or_lacks_parts_is_refused(content):
    with pytest.raises(HandOverError):
        read_manifest(content)


@given(st.dictionaries(NAMES, st.binary(max_size=30), min_size=1, max_size=30))
def test_lists_name_every_file_with_both_digests(files):
    listed = [Listed.of(name, files[name]) for name in sorted(files)]
    ((name, content),) = make_lists(listed)
    assert name == "liste/000001.txt"
    assert list(read_list(content)) == listed
    assert all(one.sha512 == sha512(files[one.name]).digest() for one in listed)


def test_files_beyond_one_list_go_into_the_next():
    files = [Listed.of(f"a/{number:06d}", b"") for number in range(LIST_OF + 1)]
    lists = list(make_lists(files))
    assert [name for name, _ in lists] == ["liste/000001.txt", "liste/000002.txt"]
    first = read_list(lists[0][1])
    assert len(first) == LIST_OF
    assert read_list(lists[1][1], after=first[-1].name) == (files[-1],)


def test_a_name_twice_or_out_of_order_is_refused():
    one, two = Listed.of("a", b""), Listed.of("b", b"")
    for files in ([one, one], [two, one]):
        with pytest.raises(HandOverError):
            list(make_lists(files))
    ((_, content),) = make_lists([one, two])
    with pytest.raises(HandOverError):
        read_list(content, after="a")


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a//b", ".x", "a/.x", "a\\b", "a b", "ç", "", "a/", "x" * 401]
)
def test_names_that_could_leave_the_folder_are_none(name):
    with pytest.raises(HandOverError):
        check_name(name)


@pytest.mark.parametrize("name", ["devir.json", "devir.p7s", "liste/000001.txt"])
def test_the_frame_itself_cannot_be_listed(name):
    line = f"{'0' * 64} {'0' * 128} 0 {name}\n".encode()
    with pytest.raises(HandOverError):
        read_list(line)


def test_what_is_open_is_said_by_the_name_alone():
    assert is_sealed("hesap/000001.jsonl")
    assert not is_sealed("acik/BENIOKU.txt")


def test_a_manifest_without_a_seal_is_not_believed():
    report = judge_manifest(make_manifest(manifest()), b"", None, AT)
    assert report.verdict is Verdict.FAILED


async def test_a_sealed_file_opens_under_its_own_name_and_key_alone():
    cipher = KeyCipher(bytes(32))
    sealed = cipher.seal("a/b", b"content")
    assert cipher.open("a/b", sealed) == b"content"
    assert cipher.seal("a/b", b"content") == sealed
    assert KeyCipher(bytes(31) + b"1").check != cipher.check
    for name, key, octets in (
        ("a/c", bytes(32), sealed),
        ("a/b", bytes(31) + b"1", sealed),
        ("a/b", bytes(32), sealed[:-1]),
        ("a/b", bytes(32), sealed[:-1] + bytes([sealed[-1] ^ 1])),
    ):
        with pytest.raises(PartsError):
            KeyCipher(key).open(name, octets)


async def test_a_folder_gives_back_what_was_put_and_never_follows_links(tmp_path: Path):
    parts = FolderParts(tmp_path / "out", at_once)
    await parts.put("a/b.txt", b"1")
    await parts.put("a/b.txt", b"22")
    assert await parts.get("a/b.txt", 2) == b"22"
    assert [name async for name in parts.names()] == ["a/b.txt"]
    (tmp_path / "out" / "link").symlink_to("/etc/hostname")
    with pytest.raises(PartsError):
        await parts.get("link", 100)
    with pytest.raises(PartsError):
        await parts.get("a/b.txt", 1)
    with pytest.raises(PartMissingError):
        await parts.get("a/c.txt", 1)
    with pytest.raises(PartsError):
        await parts.put("../x", b"")
    with pytest.raises(PartsError):
        await FolderParts(tmp_path / "out", at_once, writable=False).put("x", b"")
    await parts.drop("link")
    assert [name async for name in parts.names()] == ["a/b.txt"]


async def test_what_a_kill_left_half_written_is_no_file(tmp_path: Path):
    (tmp_path / ".0123456789abcdef.new").write_bytes(b"half")
    assert [name async for name in FolderParts(tmp_path, at_once).names()] == []


async def test_many_names_are_listed_once_each(tmp_path: Path):
    parts = FolderParts(tmp_path, at_once)
    for number in range(1_203):
        (tmp_path / f"{number}.txt").write_bytes(b"")
    names = [name async for name in parts.names()]
    assert len(names) == len(set(names)) == 1_203
