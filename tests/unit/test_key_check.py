"""Check values of keys: the right keys pass, any other is named, and nothing of a key is kept."""

import sqlite3
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.crypto import wrap_key
from storage.key_check import (
    FILE_NAME,
    KeyCheckError,
    check_value,
    in_use,
    opens_content,
    write_key_check,
    wrong_keys,
)
from storage.migrate import upgrade_sqlite

KEYS = {"master": b"m" * 32, "identity": b"i" * 32}


@pytest.fixture
def noted(tmp_path: Path) -> Path:
    write_key_check(tmp_path / FILE_NAME, KEYS)
    return tmp_path / FILE_NAME


def test_the_keys_that_were_noted_pass(noted: Path):
    assert wrong_keys(noted, KEYS) == []
    assert stat.S_IMODE(noted.stat().st_mode) == 0o600


@given(bit=st.integers(0, 255), name=st.sampled_from(sorted(KEYS)))
def test_one_flipped_bit_of_a_key_is_named(tmp_path_factory, bit: int, name: str):
    path = tmp_path_factory.mktemp("keys") / FILE_NAME
    write_key_check(path, KEYS)
    flipped = (int.from_bytes(KEYS[name]) ^ (1 << bit)).to_bytes(32)
    assert wrong_keys(path, KEYS | {name: flipped}) == [name]


def test_swapped_keys_are_both_named(noted: Path):
    swapped = {"master": KEYS["identity"], "identity": KEYS["master"]}
    assert wrong_keys(noted, swapped) == ["master", "identity"]


def test_a_check_value_does_not_hold_the_key(noted: Path):
    text = noted.read_bytes()
    for key in KEYS.values():
        assert key not in text
        assert key.hex().encode() not in text
    assert check_value(KEYS["master"]) != check_value(KEYS["identity"])


@pytest.mark.parametrize(
    "content",
    [None, b"", b"\xff", b"master 00\n", b"master " + b"0" * 64 + b"\n", b"x" * 10_000],
    ids=["missing", "empty", "binary", "short", "one key only", "large"],
)
def test_a_missing_or_damaged_file_is_said_to_be_so(tmp_path: Path, content: bytes | None):
    path = tmp_path / FILE_NAME
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KeyCheckError, match=FILE_NAME):
        wrong_keys(path, KEYS)


def test_an_empty_database_is_not_in_use_and_its_content_fits_every_key(tmp_path: Path):
    database = tmp_path / "kephs.db"
    upgrade_sqlite(database)
    assert not in_use(database)
    assert opens_content(database, bytes(32))
    row = (b"1" * 32, b"2" * 64, 1, "f:" + "0" * 32, wrap_key(b"w" * 32, b"d" * 32))
    with sqlite3.connect(database) as connection:
        connection.execute(
            "INSERT INTO blobs (sha256, sha512, size, place, data_key) VALUES (?,?,?,?,?)", row
        )
    connection.close()
    assert in_use(database)
    assert opens_content(database, b"w" * 32)
    assert not opens_content(database, bytes(32))
