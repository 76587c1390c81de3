"""RFC 4998 records: the tree, writing, strict reading; what the verifier says stands in test_verify_ers."""

from hashlib import new as new_hash
from hashlib import sha256, sha512

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyasn1.codec.der.decoder import decode  # type: ignore[import-untyped]
from pyasn1.codec.der.encoder import encode  # type: ignore[import-untyped]
from pyasn1_alt_modules import rfc4998  # type: ignore[import-untyped]

from evidence.asn1.der import NULL_DER, explicit, integer, octets, oid, seq, tlv
from evidence.stamps import ers
from evidence.stamps.ers import (
    ErsError,
    ErsUnsupportedError,
    HashTree,
    encode_record,
    is_canonical,
    new_chain,
    own_record,
    read_record,
    rehash_leaf,
    renew,
    renewal_leaf,
    split_record,
    tree_root,
)
from evidence.stamps.timestamps import MAX_TOKEN


def content_info(text: bytes) -> bytes:
    return seq(oid("1.2.840.113549.1.7.2"), explicit(0, octets(text * 40)))


TOKEN, NEWER, NEWEST = map(content_info, (b"no token, but a ContentInfo", b"newer", b"newest"))
SHA256 = oid("2.16.840.1.101.3.4.2.1")
SHA512 = oid("2.16.840.1.101.3.4.2.3")


def leaf(number: int, name: str = "sha256") -> bytes:
    return new_hash(name, b"%d" % number).digest()


def leaves(count: int, name: str = "sha256") -> list[bytes]:
    return [leaf(number, name) for number in range(count)]


def of(count: int, index: int = 0) -> bytes:
    return encode_record(HashTree(leaves(count)).path(index), TOKEN)


def naive_root(level: list[bytes], name: str) -> bytes:
    """Say it as the standard does: pair, sort, hash; the last of an odd level moves up."""
    while len(level) > 1:
        groups = [level[start : start + 2] for start in range(0, len(level), 2)]
        level = [
            new_hash(name, b"".join(sorted(group))).digest() if len(group) == 2 else group[0]
            for group in groups
        ]
    return level[0]


# ------------------------------------------------------------------ the tree


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512", "sha3_256"])
@pytest.mark.parametrize("count", [*range(1, 18), 31, 33, 100])
def test_every_leaf_leads_to_the_root_of_any_batch(count, name):
    tree = HashTree(leaves(count, name), name)
    assert tree.root == naive_root(leaves(count, name), name)
    for index, each in enumerate(leaves(count, name)):
        assert tree_root(tree.path(index) or None, each, name) == tree.root
        assert tree_root(tree.path_alone(index) or None, each, name) == tree.root


@given(st.lists(st.integers(0, 40), min_size=1, max_size=70))
def test_any_batch_even_with_equal_leaves_proves_each_of_them_and_nothing_else(numbers):
    batch = [leaf(number) for number in numbers]
    tree = HashTree(batch)
    for index, each in enumerate(batch):
        path = tree.path(index)
        assert tree_root(path or None, each, "sha256") == tree.root
        assert path == tree.path(batch.index(each))
        record = encode_record(path, TOKEN)
        assert own_record(record) == read_record(record)
    assert tree_root(tree.path(0) or None, leaf(41), "sha256") != tree.root


def test_equal_leaves_are_one_leaf():
    assert HashTree([leaf(1)] * 7).root == leaf(1)
    assert HashTree([leaf(1)] * 7).path(6) == ()
    assert HashTree([leaf(1), leaf(2), leaf(1), leaf(2)]).root == HashTree([leaf(1), leaf(2)]).root


def test_no_list_holds_a_value_twice():
    tree = HashTree([leaf(number % 5) for number in range(40)])
    for index in range(40):
        flat = [entry for entries in tree.path(index) for entry in entries]
        assert len(set(flat)) == len(flat)


def test_lists_are_sorted_and_later_ones_hold_the_sibling_alone():
    tree = HashTree(leaves(9))
    for index in range(9):
        first, *others = tree.path(index)
        assert list(first) == sorted(first)
        assert leaf(index) in first
        assert all(len(entries) == 1 for entries in others)
        alone, *more = tree.path_alone(index)
        assert alone == (leaf(index),)
        assert len(more) == 1 + len(others)


def test_the_odd_leaf_moves_up():
    tree = HashTree(leaves(3))
    below = sha256(b"".join(sorted(leaves(2)))).digest()
    assert tree.path(2) == (tuple(sorted((leaf(2), below))),)
    assert tree.root == sha256(b"".join(sorted((leaf(2), below)))).digest()


@pytest.mark.parametrize("batch", [[], [b""], [bytes(31)], [bytes(32), bytes(33)], [bytes(64)]])
def test_leaves_are_digests(batch):
    with pytest.raises(ValueError, match="digests"):
        HashTree(batch)


def test_a_leaf_must_stand_in_the_first_list():
    tree = HashTree(leaves(8))
    path = tree.path(3)
    assert tree_root(path, path[1][0], "sha256") is None
    assert tree_root((path[1], path[0], path[2]), leaf(3), "sha256") is None
    assert tree_root(None, leaf(3), "sha256") == leaf(3)


def test_lists_of_any_length_are_hashed_in_ascending_order():
    group = leaves(5)
    wanted = sha256(b"".join(sorted((sha256(b"".join(sorted(group))).digest(), *leaves(3)[::-1])))).digest()
    assert tree_root((tuple(group), tuple(leaves(3)[::-1])), leaf(2), "sha256") == wanted


# ------------------------------------------------------------------ writing and reading


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512", "sha3_512"])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 33, 1000])
def test_what_is_written_is_read(count, name):
    tree = HashTree(leaves(count, name), name)
    der = encode_record(tree.path(count // 2), TOKEN, name)
    record = read_record(der)
    assert record.digest_names == (name,)
    assert len(record.chains) == len(record.chains[0]) == 1
    stamp = record.last
    assert (stamp.digest_name, stamp.token) == (name, TOKEN)
    assert (stamp.reduced or ()) == tree.path(count // 2)
    assert (stamp.reduced is None) == (count == 1)
    assert is_canonical(record)
    assert own_record(der) == (record if name == "sha256" else None)


@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_an_independent_asn1_library_reads_and_writes_the_same(count):
    der = of(count, count // 2)
    decoded, rest = decode(der, asn1Spec=rfc4998.EvidenceRecord())
    assert not rest
    assert encode(decoded) == der
    stamp = decoded["archiveTimeStampSequence"][0][0]
    assert encode(stamp["timeStamp"]) == TOKEN
    assert str(decoded["digestAlgorithms"][0]["algorithm"]) == "2.16.840.1.101.3.4.2.1"
    lists = tuple(tuple(bytes(entry) for entry in entries) for entries in stamp["reducedHashtree"])
    assert lists == HashTree(leaves(count)).path(count // 2)
    assert stamp["reducedHashtree"].isValue == (count > 1)


@pytest.mark.parametrize("count", [1, 2, 1000])
def test_the_last_token_is_the_tail(count):
    der = of(count)
    assert split_record(der) == (der[: -len(TOKEN)], TOKEN)
    renewed = renew(der, HashTree([renewal_leaf(der), leaf(1)]).path(0), NEWER)
    assert split_record(renewed)[1] == NEWER
    rehashed = new_chain(renewed, (), NEWEST, "sha512")
    assert split_record(rehashed)[1] == NEWEST
    assert b"".join(split_record(rehashed)) == rehashed


@pytest.mark.parametrize(
    "data", [b"", b"\x30\x00", b"junk", of(2) + b"\0", of(2)[:-1], seq(seq()), seq(*[NULL_DER] * 6)]
)
def test_only_records_are_split(data):
    with pytest.raises(ErsError):
        split_record(data)
    with pytest.raises(ErsError):
        read_record(data)


def test_a_small_batch_costs_little_and_a_big_one_not_much_more():
    assert len(of(1)) - len(TOKEN) < 60
    assert len(of(1000)) - len(TOKEN) < 460
    assert len(of(10_000)) - len(TOKEN) < 600


@pytest.mark.parametrize(
    "path", [((b"x", b"y"),), ((leaf(1), leaf(2)), (bytes(31),)), ((leaf(1),), ()), ((),)]
)
def test_only_digests_are_written(path):
    with pytest.raises(ErsError, match="digests"):
        encode_record(path, TOKEN)


# ------------------------------------------------------------------ renewals


def test_a_newer_stamp_covers_the_whole_token_by_the_chains_hash():
    der = of(5, 2)
    assert renewal_leaf(der) == sha256(TOKEN).digest()
    tree = HashTree([leaf(100), renewal_leaf(der), leaf(101)])
    newer = NEWER
    record = read_record(renew(der, tree.path(1), newer))
    assert [len(chain) for chain in record.chains] == [2]
    first, second = record.chains[0]
    assert first == read_record(der).last
    assert second.token == newer
    assert tree_root(second.reduced, sha256(TOKEN).digest(), "sha256") == tree.root
    assert is_canonical(record)
    assert own_record(record.der) is None
    assert renewal_leaf(record.der) == sha256(newer).digest()


def test_a_path_of_something_else_does_not_renew():
    with pytest.raises(ErsError, match="last token"):
        renew(of(2), HashTree([leaf(1), leaf(2)]).path(0), TOKEN)


def test_a_new_chain_covers_data_and_older_chains_in_this_order_under_its_own_hash():
    der = renew(of(5, 2), (), NEWER)
    data = sha512(b"data").digest()
    older = read_record(der).chains[0]
    sequence = seq(seq(older[0].der, older[1].der))
    wanted = sha512(data + sha512(sequence).digest()).digest()
    assert rehash_leaf(der, data, "sha512") == wanted
    tree = HashTree([leaf(1, "sha512"), wanted], "sha512")
    record = read_record(new_chain(der, tree.path_alone(1), NEWER, "sha512"))
    assert record.digest_names == ("sha256", "sha512")
    assert record.chains[0] == older
    assert record.chains[1][0].reduced == ((wanted,), (leaf(1, "sha512"),))
    assert record.chains[1][0].digest_name == "sha512"
    assert is_canonical(record)
    with pytest.raises(ErsError, match="alone"):
        new_chain(der, tree.path(1), TOKEN, "sha512")
    decoded, rest = decode(record.der, asn1Spec=rfc4998.EvidenceRecord())
    assert not rest
    assert encode(decoded) == record.der


def test_renewals_stop_at_the_readers_caps():
    der = of(1)
    for _ in range(ers.MAX_STAMPS - 1):
        der = renew(der, (), TOKEN)
    with pytest.raises(ErsError):
        renew(der, (), TOKEN)


# ------------------------------------------------------------------ other writers' records


def record(
    *stamps: bytes,
    version: int = 1,
    listed: tuple[bytes, ...] = (SHA256,),
    extra: bytes = b"",
    tail: bytes = b"",
) -> bytes:
    names = seq(*(seq(name) for name in listed))
    return seq(integer(version), names, extra, seq(seq(*stamps)), tail)


def stamp(
    tree: bytes | None = None,
    *,
    algorithm: bytes | None = SHA256,
    attributes: bytes = b"",
    token: bytes = TOKEN,
) -> bytes:
    named = b"" if algorithm is None else explicit(0, algorithm)
    lists = seq(octets(leaf(1)), octets(leaf(0))) if tree is None else tree
    return seq(named, attributes, explicit(2, lists), token)


def test_identifiers_with_null_and_unsorted_lists_are_read_and_are_not_ours():
    for der in (
        record(stamp(algorithm=SHA256 + NULL_DER)),
        record(stamp(), listed=(SHA256 + NULL_DER,)),
        record(stamp(seq(*(octets(each) for each in sorted(leaves(2), reverse=True))))),
        record(stamp(), listed=(SHA256, SHA512)),
        record(stamp(seq(*map(octets, sorted(leaves(3)))))),
        record(stamp(seq(octets(leaf(1))))),
    ):
        read = read_record(der)
        assert read.last.digest_name == "sha256"
        assert not is_canonical(read)
        assert own_record(der) is None


def test_what_is_not_looked_at_is_noted():
    attribute = seq(oid("1.2.3"), tlv(0x31, octets(b"x")))
    read = read_record(record(stamp(attributes=explicit(1, attribute)), extra=explicit(0, attribute)))
    assert read.notes == ("cryptoInfos are not looked at", "attributes of time stamps are not looked at")
    assert not is_canonical(read)
    renewed = renew(read.der, (), TOKEN)
    assert read_record(renewed).notes == read.notes
    assert explicit(0, attribute) in renewed
    assert read_record(renewed).chains[0][0] == read.last


@pytest.mark.parametrize(
    "der",
    [
        record(stamp(), extra=explicit(1, seq(oid("1.2.3"), NULL_DER))),
        record(stamp(algorithm=oid("1.2.3.4")), listed=(oid("1.2.3.4"),)),
        record(stamp(), listed=(SHA256, oid("1.2.3.4"))),
    ],
    ids=["encrypted", "unknown hash", "unknown hash listed"],
)
def test_what_cannot_be_judged_is_said_to_be_so(der):
    with pytest.raises(ErsUnsupportedError):
        read_record(der)


def nested(depth: int) -> bytes:
    value = NULL_DER
    for _ in range(depth):
        value = seq(value)
    return value


BAD = {
    "version": record(stamp(), version=2),
    "no stamp": seq(integer(1), seq(seq(SHA256)), seq(seq())),
    "no chain": seq(integer(1), seq(seq(SHA256)), seq()),
    "not listed": record(stamp(), listed=(SHA512,)),
    "nothing listed": record(stamp(), listed=()),
    "two hashes in a chain": record(
        stamp(), stamp(seq(octets(leaf(1, "sha512"))), algorithm=SHA512), listed=(SHA256, SHA512)
    ),
    "short entry": record(stamp(seq(octets(leaf(0)), octets(bytes(31))))),
    "long entry": record(stamp(seq(octets(leaf(0)), octets(bytes(33))))),
    "longer hash's entry": record(stamp(seq(octets(leaf(0)), octets(bytes(64))))),
    "empty entry": record(stamp(seq(octets(leaf(0)), octets(b"")))),
    "bit string": record(stamp(seq(octets(leaf(0)), tlv(3, bytes(32))))),
    "empty list": record(stamp(seq())),
    "empty second list": record(stamp(seq(octets(leaf(0))) + seq())),
    "empty tree": record(stamp(b"")),
    "a set for a list": record(stamp(tlv(0x31, octets(leaf(0))))),
    "no token": record(seq(explicit(0, SHA256))),
    "token of another tag": record(stamp(token=octets(b"x"))),
    "two tokens": record(stamp(token=TOKEN + TOKEN)),
    "parameters": record(stamp(algorithm=SHA256 + octets(b""))),
    "NULL with content": record(stamp(algorithm=SHA256 + tlv(5, b"x"))),
    "explicit tag": record(stamp(algorithm=seq(SHA256))),
    "no hash and no token to take it from": record(stamp(algorithm=None)),
    "unknown member": record(stamp(), tail=integer(1)),
    "trailing bytes": record(stamp()) + b"\0",
    "indefinite length": b"\x30\x80" + record(stamp())[4:] + b"\0\0",
    "too many lists": record(stamp(seq(octets(leaf(0))) * (ers.MAX_LISTS + 1))),
    "too many entries": record(stamp(seq(octets(leaf(0)) * (ers.MAX_ENTRIES + 1)))),
    "too many stamps": record(*[stamp(token=seq())] * (ers.MAX_STAMPS + 1)),
    "too many chains": seq(integer(1), seq(seq(SHA256)), seq(*[seq(stamp(token=seq()))] * (ers.MAX_CHAINS + 1))),
    "too many stamps in all chains": seq(
        integer(1), seq(seq(SHA256)), seq(*[seq(*[stamp(token=seq())] * 8)] * 9)
    ),
    "a long token": record(stamp(token=seq(octets(bytes(MAX_TOKEN))))),
    "a huge record": record(stamp(token=seq(octets(bytes(ers.MAX_RECORD))))),
    "a bomb in cryptoInfos": record(stamp(), extra=explicit(0, seq(oid("1.2.3"), tlv(0x31, nested(2_000))))),
    "many values in cryptoInfos": record(
        stamp(), extra=explicit(0, seq(oid("1.2.3"), tlv(0x31, NULL_DER * 5_000)))
    ),
    "cryptoInfos that are none": record(stamp(), extra=explicit(0, octets(b""))),
    "attributes that are none": record(stamp(attributes=explicit(1, seq(integer(1), tlv(0x31))))),
    "attributes cut": record(stamp(attributes=explicit(1, seq(oid("1.2.3"))))),
    "nested sequences": nested(10_000),
}  # fmt: skip


@pytest.mark.parametrize("der", BAD.values(), ids=BAD)
def test_what_is_no_strict_record_is_refused(der):
    with pytest.raises(ErsError) as caught:
        read_record(der)
    assert not isinstance(caught.value, ErsUnsupportedError)
    assert own_record(der) is None


def test_a_great_many_lists_in_our_form_are_refused_by_both_readers():
    path = ((leaf(0), leaf(1)) if leaf(0) < leaf(1) else (leaf(1), leaf(0)), *[(leaf(2),)] * ers.MAX_LISTS)
    der = encode_record(path, TOKEN)
    assert own_record(der) is None
    with pytest.raises(ErsError):
        read_record(der)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_readers(data):
    for reader in (read_record, split_record):
        with pytest.raises(ErsError):
            reader(data)
    assert own_record(data) is None


@given(
    count=st.sampled_from([1, 2, 3, 7, 40, 1000]),
    at=st.integers(0, 3_000),
    cut=st.integers(0, 5),
    junk=st.binary(max_size=5),
)
def test_the_quick_reader_never_reads_what_the_strict_one_would_not(count, at, cut, junk):
    der = of(count)
    at %= len(der)
    damaged = der[:at] + junk + der[at + cut :]
    quick = own_record(damaged)
    try:
        strict = read_record(damaged)
    except ErsError:
        strict = None
    assert quick is None or quick == strict
    assert (quick is not None) == (strict is not None and is_canonical(strict) and len(damaged) > 256)
