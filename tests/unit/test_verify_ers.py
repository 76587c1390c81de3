"""Evidence records against their data: the way through, renewals on a moving clock, and every broken twin."""

from datetime import datetime, timedelta
from functools import cache
from hashlib import new as new_hash
from hashlib import sha256
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.asn1.der import (
    NULL_DER,
    SEQUENCE,
    SET,
    children,
    explicit,
    inside,
    integer,
    octets,
    oid,
    parse,
    seq,
    tlv,
)
from evidence.report import SubIndication, Verdict
from evidence.stamps.ers import (
    MAX_RECORD,
    HashTree,
    encode_record,
    new_chain,
    read_record,
    rehash_leaf,
    renew,
    renewal_leaf,
    split_record,
)
from evidence.stamps.ers_check import RecordCheck, check_record
from evidence.stamps.timestamps import TokenIssuer, read_request
from evidence.x509.chain import TrustStore
from kephs.testpki.issued import Issued
from kephs.testpki.keys import sign_digest
from tests.support.pki import NOW, ayse, make_pki, shared_pki

YEAR = timedelta(days=365)
DATA = b"<evidence/>"
OIDS = {
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
    "sha3_256": "2.16.840.1.101.3.4.2.8",
}


@cache
def trust() -> TrustStore:
    return TrustStore([shared_pki().root])


@cache
def authority(first_year: int = 0, last_year: int = 10) -> Issued:
    """Return a TSA certificate with a life counted in years from NOW."""
    start = NOW + first_year * YEAR - timedelta(days=1)
    return shared_pki().issue_tsa(not_before=start, not_after=NOW + last_year * YEAR)


def stamped(
    digest: bytes, at: datetime = NOW, *, name: str = "sha256", tsa: Issued | None = None, extra: bytes = b""
) -> bytes:
    signer = tsa or shared_pki().tsa
    issuer = TokenIssuer(signer.certificate, signer.chain, "1.2.3")
    request = read_request(seq(integer(1), seq(seq(oid(OIDS[name])), octets(digest)), extra))
    draft = issuer.to_be_signed(request, at, int.from_bytes(digest[:8], "big"))
    return issuer.assemble(draft, sign_digest(signer.key, draft.digest))


def batch_of(data: bytes, count: int, index: int, name: str = "sha256") -> HashTree:
    leaves = [new_hash(name, b"%d" % number).digest() for number in range(count)]
    leaves[index] = new_hash(name, data).digest()
    return HashTree(leaves, name)


def made(count: int = 3, index: int = 1, *, data: bytes = DATA, name: str = "sha256", **stamp: Any) -> bytes:
    tree = batch_of(data, count, index, name)
    return encode_record(tree.path(index), stamped(tree.root, name=name, **stamp), name)


@cache
def small() -> bytes:
    return made(2, 0)


def check(
    ers: bytes, at: datetime = NOW, *, data: bytes = DATA, store: TrustStore | None = None, **options: Any
) -> RecordCheck:
    return check_record(ers, lambda name: new_hash(name, data).digest(), store or trust(), at, **options)


def verdict(ers: bytes, at: datetime = NOW, **options: Any):
    """Return verdict, sub-indication and number of the deciding step."""
    report = check(ers, at, **options).report
    step = report.failing_step
    return report.verdict, report.sub_indication, step.number if step else None


PASSED = (Verdict.PASSED, None, None)
NOT_ITS_DATA = (Verdict.FAILED, SubIndication.HASH_FAILURE, "3.1")


def renewed(
    ers: bytes, at: datetime, tsa: Issued, *, others: int = 4, stamp_at: datetime | None = None
) -> bytes:
    """Renew as an archive would: one tree over many last tokens."""
    name = read_record(ers).last.digest_name
    leaves = [new_hash(name, b"other %d" % number).digest() for number in range(others)]
    tree = HashTree([*leaves, renewal_leaf(ers)], name)
    return renew(ers, tree.path(others), stamped(tree.root, stamp_at or at, name=name, tsa=tsa))


def rehashed(
    ers: bytes, at: datetime, tsa: Issued, *, data: bytes = DATA, name: str = "sha512", others: int = 4
):
    digest = new_hash(name, data).digest()
    leaves = [new_hash(name, b"other %d" % number).digest() for number in range(others)]
    tree = HashTree([*leaves, rehash_leaf(ers, digest, name)], name)
    return new_chain(ers, tree.path_alone(others), stamped(tree.root, at, name=name, tsa=tsa), name)


def stamp_of(leaf: bytes, at: datetime, name: str = "sha256") -> bytes:
    return seq(explicit(0, oid(OIDS[name])), stamped(leaf, at, name=name))


def framed(ers: bytes, *, digests: bytes = b"", crls: bytes = b"") -> bytes:
    """Return the record with other bytes in its token where no signature covers them."""
    token = split_record(ers)[1]
    kind, data = children(parse(token, max_size=9_999))
    version, listed, content, certificates, signers = children(inside(data, SEQUENCE))
    members = (version.whole, tlv(SET, listed.content + digests), content.whole, certificates.whole, crls)
    token = seq(kind.whole, explicit(0, seq(*members, signers.whole)))
    return encode_record(read_record(ers).last.reduced or (), token)


# ------------------------------------------------------------------ the way through


@pytest.mark.parametrize(("count", "index"), [(1, 0), (2, 0), (2, 1), (3, 2), (7, 3), (100, 99), (1000, 512)])
def test_a_record_proves_its_data_at_the_time_of_the_token(count, index):
    found = check(made(count, index))
    assert found.passed
    assert found.own
    assert found.proven_at == NOW
    assert [token.gen_time for token in found.tokens] == [NOW]
    assert [step.number for step in found.report.steps] == ["1", "2", "3.1", "4.1", "5", "6", "7"]
    assert all(step.ok for step in found.report.steps)
    assert found.report.subject == "evidence record"
    assert found.report.parts == (found.tokens[0].report,)
    assert found.report.to_json()["facts"] == {
        "proven_at": "2026-11-21T09:00:00.000Z",
        "renewed_at": [],
        "hashes": ["sha256"],
        "tsa": found.tokens[0].certificate.subject_text,
    }


@given(st.integers(1, 60).flatmap(lambda count: st.tuples(st.just(count), st.integers(0, count - 1))))
def test_any_leaf_of_any_batch_is_proven_and_no_other_data(place):
    ers = made(*place)
    assert check(ers).passed
    alone = (Verdict.FAILED, SubIndication.HASH_FAILURE, "4.1")  # without a tree the imprint is the digest
    assert verdict(ers, data=DATA + b" ") == (alone if place[0] == 1 else NOT_ITS_DATA)


@pytest.mark.parametrize("name", ["sha384", "sha512", "sha3_256"])
def test_other_hashes_count_as_well(name):
    assert check(made(5, 2, name=name)).passed
    assert check(made(1, 0, name=name)).own


def test_the_proven_time_is_the_tokens_not_todays():
    found = check(made(), NOW + YEAR)
    assert found.proven_at == NOW
    assert found.report.at == NOW + YEAR


def test_the_same_data_twice_in_a_batch_is_proven_by_one_record():
    leaf = sha256(DATA).digest()
    tree = HashTree([leaf, leaf, bytes(32), leaf])
    ers = encode_record(tree.path(3), stamped(tree.root))
    assert tree.path(0) == tree.path(3)
    assert check(ers).passed


# ------------------------------------------------------------------ broken twins


@pytest.mark.slow
@pytest.mark.parametrize("mask", [0x01, 0x02, 0x20, 0x80, 0xFF])
@pytest.mark.parametrize("count", [1, 3])
def test_any_flipped_byte_is_refused(mask, count):
    ers = made(count, 0)
    assert check(ers).passed
    passed = []
    for index in range(len(ers)):
        broken = ers[:index] + bytes((ers[index] ^ mask,)) + ers[index + 1 :]
        if check(broken).passed:
            passed.append((index, ers[index]))
    assert passed == []


@pytest.mark.slow
def test_any_flipped_byte_of_a_renewed_record_is_refused():
    ers = renewed(small(), NOW + YEAR, authority(1, 4), others=1)
    ers = rehashed(ers, NOW + 2 * YEAR, authority(2, 6), others=1)
    at = NOW + 2 * YEAR
    assert check(ers, at).passed
    passed = [
        index
        for index in range(len(ers))
        if check(ers[:index] + bytes((ers[index] ^ 0x01,)) + ers[index + 1 :], at).passed
    ]
    assert passed == []


def test_no_byte_may_be_missing_or_added():
    ers = small()
    for at in range(len(ers)):
        assert not check(ers[:at]).passed
        assert not check(ers[:at] + ers[at + 1 :]).passed
    for at in range(0, len(ers), 7):
        assert not check(ers[:at] + b"\0" + ers[at:]).passed
    assert verdict(ers + b"\0") == (Verdict.FAILED, SubIndication.FORMAT_FAILURE, "1")


def test_other_data_is_refused():
    assert verdict(made(), data=b"<evidence />") == NOT_ITS_DATA
    found = check(made(), data=b"")
    assert found.proven_at is None
    assert found.tokens == ()


def test_another_items_record_of_the_same_batch_is_refused():
    tree = batch_of(DATA, 5, 2)
    token = stamped(tree.root)
    for index in (0, 1, 4):
        assert verdict(encode_record(tree.path(index), token)) == NOT_ITS_DATA
    mine = encode_record(tree.path(2), token)
    assert verdict(mine) == PASSED
    assert encode_record(tree.path(3), token) == mine  # leaf and sibling: one list, one record for both


def test_an_inner_node_is_no_leaf():
    """Somebody shows the 64 octets below a node as a file: its record would need the node in the first list."""
    tree = batch_of(DATA, 4, 0)
    path = tree.path(0)
    data = b"".join(path[0])
    assert verdict(made(4, 0), data=data) == NOT_ITS_DATA
    node = sha256(data).digest()
    forged = encode_record((tuple(sorted((node, path[1][0]))),), stamped(tree.root))
    assert verdict(forged) == NOT_ITS_DATA


def test_a_swapped_token_is_refused():
    mine, other = made(3, 1), made(3, 1, data=b"other")
    swapped = encode_record(read_record(mine).last.reduced, read_record(other).last.token)
    assert verdict(swapped) == (Verdict.FAILED, SubIndication.HASH_FAILURE, "4.1")


def test_a_token_by_another_hash_than_the_trees_is_refused():
    tree = batch_of(DATA, 3, 1, "sha3_256")
    ers = encode_record(tree.path(1), stamped(tree.root), "sha3_256")
    assert verdict(ers) == (Verdict.FAILED, SubIndication.HASH_FAILURE, "4.1")


def test_the_leaf_must_stand_in_the_first_list():
    tree = batch_of(DATA, 8, 3)
    first, second, third = tree.path(3)
    leaf = sha256(DATA).digest()
    sibling = next(entry for entry in first if entry != leaf)
    up = ((sibling,), (leaf,), second, third)
    assert verdict(encode_record(up, stamped(tree.root))) == NOT_ITS_DATA


def test_a_batch_of_one_brings_no_tree_and_a_bigger_one_must():
    tree = batch_of(DATA, 3, 1)
    assert verdict(encode_record((), stamped(tree.root)))[1] is SubIndication.HASH_FAILURE
    lonely = encode_record(((sha256(DATA).digest(),),), stamped(sha256(DATA).digest()))
    found = check(lonely)  # another writer may spell it so
    assert found.passed
    assert not found.own


def wrong_length(size: int) -> bytes:
    def entries(*values: bytes) -> bytes:
        return seq(*map(octets, values))

    leaf, other = sha256(DATA).digest(), bytes(size)
    root = sha256(b"".join(sorted((leaf, other)))).digest()
    stamp = seq(explicit(0, oid(OIDS["sha256"])), explicit(2, entries(leaf, other)), stamped(root))
    return seq(integer(1), seq(seq(oid(OIDS["sha256"]))), seq(seq(stamp)))


@pytest.mark.parametrize("size", [0, 1, 31, 33, 48, 64])
def test_entries_of_another_length_are_refused_though_the_root_is_right(size):
    """Lists have no separators: octets could move from one entry to the next."""
    assert verdict(wrong_length(size)) == (Verdict.FAILED, SubIndication.FORMAT_FAILURE, "1")
    assert verdict(wrong_length(32)) == PASSED


def test_a_token_of_an_unknown_authority_is_refused():
    other = make_pki()
    ers = made(tsa=other.tsa)
    wanted = (Verdict.INDETERMINATE, SubIndication.NO_CERTIFICATE_CHAIN_FOUND, "4.1")
    assert verdict(ers)[:3:2] == wanted[::2]
    assert verdict(ers, store=TrustStore([other.root])) == PASSED
    assert verdict(made(), store=TrustStore([])) == wanted


@pytest.mark.parametrize("who", ["holder", "transaction", "responder"])
def test_no_certificate_of_another_role_stamps(who):
    pki = shared_pki()
    issued = {
        "holder": ayse(),
        "transaction": pki.transactions["hs91.kep.tr"],
        "responder": pki.responders["p384"],
    }[who]
    assert verdict(made(tsa=issued)) == (
        Verdict.INDETERMINATE,
        SubIndication.CHAIN_CONSTRAINTS_FAILURE,
        "4.1",
    )


def test_a_stamp_from_the_future_proves_nothing():
    ers = made(at=NOW + timedelta(minutes=2))
    assert verdict(ers) == (Verdict.INDETERMINATE, SubIndication.TIMESTAMP_ORDER_FAILURE, "4.1")


def test_a_weak_hash_is_refused_and_nobody_is_asked_for_it():
    leaf = bytes(20)
    stamp = seq(
        explicit(0, oid(OIDS["sha1"])), explicit(2, seq(octets(leaf))), stamped(sha256(DATA).digest())
    )
    ers = seq(integer(1), seq(seq(oid(OIDS["sha1"]))), seq(seq(stamp)))

    def digest_of(name: str) -> bytes:
        raise AssertionError(name)

    found = check_record(ers, digest_of, trust(), NOW)
    assert found.report.sub_indication is SubIndication.CRYPTO_CONSTRAINTS_FAILURE
    assert found.report.failing_step.number == "2"


def test_junk_is_a_verdict_not_an_exception():
    for junk in (b"", b"\x30\x00", b"junk", bytes(1000), b"\x30\x84\xff\xff\xff\xff", small()[5:]):
        assert verdict(junk) == (Verdict.FAILED, SubIndication.FORMAT_FAILURE, "1")
    empty = seq(explicit(0, oid(OIDS["sha256"])), seq())
    ers = seq(integer(1), seq(seq(oid(OIDS["sha256"]))), seq(seq(empty)))
    assert verdict(ers) == (Verdict.FAILED, SubIndication.FORMAT_FAILURE, "4.1")


@given(st.integers(0, 2_500), st.binary(max_size=8), st.integers(0, 8))
def test_damage_never_raises_and_never_passes(position, junk, cut):
    ers = small()
    position %= len(ers)
    broken = ers[:position] + junk + ers[position + cut :]
    if broken != ers:
        assert not check(broken).passed


# ------------------------------------------------------------------ other writers, and bytes nothing covers


def rewritten(
    ers: bytes, *, null: bool = False, named: bool = True, infos: bytes = b"", attributes: bytes = b""
):
    """Return the record of one stamp as another writer might spell it."""
    stamp = read_record(ers).last
    identifier = oid(OIDS["sha256"]) + (NULL_DER if null else b"")
    lists = explicit(2, *(seq(*map(octets, reversed(entries))) for entries in stamp.reduced or ()))
    tagged = explicit(0, identifier) if named else b""
    return seq(integer(1), seq(seq(identifier)), infos, seq(seq(seq(tagged, attributes, lists, stamp.token))))


@pytest.mark.parametrize(
    "spelling", [{}, {"null": True}, {"named": False}, {"named": False, "null": True}], ids=str
)
def test_another_writers_spelling_is_accepted_and_said_so(spelling):
    found = check(rewritten(made(), **spelling))
    assert found.passed
    assert not found.own
    assert [step.number for step in found.report.steps if step.ok is None] == ["6"]


def test_what_nobody_looked_at_is_noted():
    attribute = seq(oid("1.2.3"), tlv(SET, octets(b"x")))
    found = check(rewritten(made(), infos=explicit(0, attribute), attributes=explicit(1, attribute)))
    assert found.passed
    assert [step.number for step in found.report.steps if step.ok is None] == ["1.1", "1.1", "6"]


def test_encryption_is_not_judged():
    ers = rewritten(made(), infos=explicit(1, seq(oid("1.2.3"), NULL_DER)))
    assert verdict(ers) == (Verdict.INDETERMINATE, SubIndication.GENERIC, "1")


@pytest.mark.parametrize(
    "frame",
    [{"digests": seq(oid(OIDS["sha512"]))}, {"crls": tlv(0xA1, seq(integer(1)))}, {"crls": tlv(0xA1)}],
    ids=["another hash", "CRL", "no CRL"],
)
def test_a_record_in_our_form_holds_nothing_that_could_change_unseen(frame):
    ers = framed(made(), **frame)
    assert verdict(ers) == (Verdict.FAILED, SubIndication.FORMAT_FAILURE, "7")
    told = check(ers, ours=False)
    assert told.passed
    assert [step.number for step in told.report.steps if step.ok is None] == ["7"]


# ------------------------------------------------------------------ bounded work


def test_hostile_sizes_are_answered_quickly():
    stamp = read_record(small()).last
    names = seq(seq(oid(OIDS["sha256"])))
    lists = explicit(2, *(seq(octets(sha256(DATA).digest()) * 1000) for _ in range(7)))
    wide = seq(integer(1), names, seq(seq(seq(explicit(0, oid(OIDS["sha256"])), lists, stamp.token))))
    long = seq(integer(1), names, seq(seq(stamp.der, *[stamp_of(sha256(stamp.token).digest(), NOW)] * 63)))
    nested = b"".join(b"\x30\x84" + (MAX_RECORD - 6 * depth).to_bytes(4, "big") for depth in range(1, 40_000))
    for data in (
        wide,
        long,
        nested[:MAX_RECORD],
        bytes(50_000_000),
        b"\x30\x80" * 100_000,
        b"\x30" * MAX_RECORD,
    ):
        started = perf_counter()
        assert not check(data).passed
        assert perf_counter() - started < 1
