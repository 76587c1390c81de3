"""The evidence ledger: whatever is changed, dropped or moved shows."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.ledger.chain import GENESIS, LedgerEntry, append, check_run, entry_hash

AT = datetime(2026, 11, 21, 9, 0, 0, 123456, tzinfo=UTC)


def run(length: int = 5) -> list[LedgerEntry]:
    entries: list[LedgerEntry] = []
    for number in range(length):
        entries.append(
            append(
                entries[-1] if entries else None,
                evidence_id=f"{number}@hs91.kep.tr",
                evidence_sha256=sha256(b"%d" % number).digest(),
                at=AT + timedelta(seconds=number),
                salt=bytes([number]) * 32,
            )
        )
    return entries


def test_the_encoding_is_this_one_for_ever():
    expected = sha256(
        b"kephs-ledger-1\x00"
        + (1).to_bytes(8, "big")
        + GENESIS
        + (13).to_bytes(4, "big")
        + b"0@hs91.kep.tr"
        + sha256(b"0").digest()
        + (int(AT.timestamp()) * 1_000_000 + 123456).to_bytes(8, "big", signed=True)
    ).digest()
    assert run(1)[0].hash == expected
    assert GENESIS.hex() == "615824c9113a97245450a45bb09ee45cd9fc3910ad5146339e78664a38a1c342"


def test_a_whole_run_holds_and_so_does_its_tail_after_a_trusted_entry():
    entries = run()
    assert check_run(entries) is None
    assert check_run(entries[2:], after=entries[1]) is None
    assert check_run([]) is None


def test_a_tail_without_its_head_does_not_hold():
    assert check_run(run()[1:]).number == 1


def test_a_dropped_entry_is_found():
    entries = run()
    del entries[2]
    assert check_run(entries).number == 3


def test_two_swapped_entries_are_found():
    entries = run()
    entries[1], entries[2] = entries[2], entries[1]
    assert check_run(entries).number == 2


@pytest.mark.parametrize(
    "change",
    [
        {"evidence_id": "x@hs91.kep.tr"},
        {"evidence_sha256": bytes(32)},
        {"at": AT},
        {"hash": bytes(32)},
        {"previous": bytes(32)},
    ],
)
def test_a_changed_entry_is_found(change):
    entries = run()
    entries[3] = replace(entries[3], **change)
    assert check_run(entries).number in {4, 5}


def test_a_rewritten_entry_breaks_the_next_one():
    entries = run()
    forged = append(entries[2], evidence_id="x", evidence_sha256=bytes(32), at=AT, salt=bytes(32))
    entries[3] = forged
    assert check_run(entries).number == 5


def test_the_zone_does_not_matter_but_must_be_there():
    there = AT.astimezone(timezone(timedelta(hours=3)))
    assert entry_hash(1, GENESIS, "a", bytes(32), there) == entry_hash(1, GENESIS, "a", bytes(32), AT)
    with pytest.raises(ValueError):
        entry_hash(1, GENESIS, "a", bytes(32), AT.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("number", "previous", "digest"), [(0, GENESIS, GENESIS), (1, b"", GENESIS), (1, GENESIS, b"x")]
)
def test_values_that_would_be_ambiguous_are_refused(number, previous, digest):
    with pytest.raises(ValueError):
        entry_hash(number, previous, "a", digest, AT)


@given(a=st.text(max_size=20), b=st.text(max_size=20))
def test_different_ids_never_share_a_hash(a, b):
    same = entry_hash(1, GENESIS, a.encode("utf-8", "replace").decode(), bytes(32), AT) == entry_hash(
        1, GENESIS, b.encode("utf-8", "replace").decode(), bytes(32), AT
    )
    assert same == (a.encode("utf-8", "replace") == b.encode("utf-8", "replace"))
