"""Hostile evidence records: a verdict or the reader's own error, never another exception, never a pass."""

import contextlib
import random
from functools import cache
from hashlib import new as new_hash

from hypothesis import given
from hypothesis import strategies as st

from evidence.asn1 import der
from evidence.stamps.ers import ErsError, own_record, read_record, renewal_leaf, split_record
from tests.support.pki import NOW
from tests.unit.test_verify_ers import DATA, OIDS, YEAR, authority, check, made, rehashed, renewed

ROUNDS = 3_000
_ENTRIES = st.one_of(
    st.binary(max_size=70), st.integers(0, 3).map(lambda n: new_hash("sha256", b"%d" % n).digest())
)
_LISTS = st.lists(
    st.lists(_ENTRIES.map(der.octets), max_size=4).map(lambda entries: der.seq(*entries)), max_size=4
)
_IDENTIFIERS = st.sampled_from(
    [der.oid(each) + null for each in OIDS.values() for null in (b"", der.NULL_DER)]
)
_TOKENS = st.one_of(
    st.binary(max_size=40).map(der.seq),
    st.sampled_from([1, 2, 3]).map(lambda count: split_record(made(count, 0))[1]),
)
_STAMPS = st.builds(
    der.seq,
    st.one_of(st.just(b""), _IDENTIFIERS.map(lambda each: der.explicit(0, each))),
    st.one_of(st.just(b""), st.binary(max_size=20).map(lambda data: der.explicit(1, data))),
    st.one_of(st.just(b""), _LISTS.map(lambda lists: der.explicit(2, *lists))),
    _TOKENS,
)
_RECORDS = st.builds(
    lambda names, infos, chains: der.seq(
        der.integer(1), der.seq(*map(der.seq, names)), infos, der.seq(*(der.seq(*chain) for chain in chains))
    ),
    st.lists(_IDENTIFIERS, max_size=3),
    st.one_of(st.just(b""), st.binary(max_size=20).map(lambda data: der.explicit(0, data))),
    st.lists(st.lists(_STAMPS, max_size=3), max_size=3),
)


@cache
def samples() -> tuple[bytes, ...]:
    old = renewed(made(3, 1), NOW, authority())
    return (made(1, 0), made(2, 0), made(40, 7), old, rehashed(old, NOW, authority()))


@given(st.one_of(st.binary(max_size=300), _RECORDS))
def test_records_of_any_make_are_judged_or_refused_and_prove_nothing_by_chance(data):
    for reader in (read_record, split_record, renewal_leaf):
        with contextlib.suppress(ErsError):
            reader(data)
    own_record(data)
    assert not check(data, data=b"nothing that was ever stamped").passed


@given(
    sample=st.integers(0, 4),
    position=st.integers(0, 20_000),
    junk=st.binary(max_size=6),
    cut=st.integers(0, 6),
)
def test_a_damaged_record_never_passes(sample, position, junk, cut):
    good = samples()[sample]
    at = position % len(good)
    bad = good[:at] + junk + good[at + cut :]
    assert bad == good or not check(bad).passed


def mutated(good: bytes, chance: random.Random) -> bytes:
    """Return a record changed as fuzzers do: flips, cuts, pieces copied elsewhere, lengths off by one."""
    data = bytearray(good)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data))
        kind = chance.randrange(5)
        if kind == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del data[at : at + chance.randint(1, 40)]
        elif kind == 2:
            start = chance.randrange(len(data))
            data[at:at] = data[start : start + chance.randint(1, 80)]
        elif kind == 3:
            data[at] = chance.choice((0x00, 0x04, 0x30, 0x31, 0x7F, 0x80, 0x82, 0xA0, 0xA2, 0xFF))
        else:
            data[at] = (data[at] + chance.choice((-1, 1))) % 256
    return bytes(data)


def test_a_fixed_number_of_mutated_records_never_passes_and_never_raises():
    chance = random.Random(20261121)
    for number in range(ROUNDS):
        good = samples()[number % len(samples())]
        bad = mutated(good, chance)
        assert bad == good or not check(bad, NOW + YEAR * (number % 2)).passed, bad.hex()
    assert all(check(good, data=DATA).passed for good in samples())
