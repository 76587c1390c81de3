"""Evidence records over the years, on a moving clock: newer time stamps, and new chains under stronger hashes."""

from datetime import timedelta
from hashlib import new as new_hash
from hashlib import sha256

import pytest

from evidence.asn1.der import SEQUENCE, children, inside, integer, oid, parse, seq
from evidence.report import SubIndication, Verdict
from evidence.stamps.ers import HashTree, encode_record, read_record, rehash_leaf
from evidence.x509.algorithms import AlgorithmPolicy, HashRule
from tests.support.pki import NOW, make_pki
from tests.unit.test_verify_ers import (
    DATA,
    NOT_ITS_DATA,
    OIDS,
    PASSED,
    YEAR,
    authority,
    check,
    framed,
    made,
    rehashed,
    renewed,
    stamp_of,
    stamped,
    verdict,
)

# ------------------------------------------------------------------ renewal


def test_an_expired_stamp_holds_where_a_newer_one_covers_it():
    ers = made(3, 1, tsa=authority(0, 2))
    late = NOW + 3 * YEAR
    assert verdict(ers, NOW + YEAR) == PASSED
    assert verdict(ers, late) == (Verdict.INDETERMINATE, SubIndication.OUT_OF_BOUNDS_NO_POE, "4.1")
    newer = renewed(ers, NOW + YEAR, authority(1, 5))
    found = check(newer, late)
    assert found.passed
    assert found.own
    assert found.proven_at == NOW
    assert [token.gen_time for token in found.tokens] == [NOW, NOW + YEAR]
    assert found.report.facts["renewed_at"] == ["2027-11-21T09:00:00.000Z"]
    assert [step.number for step in found.report.steps][2:6] == ["3.1", "3.2", "4.1", "4.2"]


def test_a_stamp_that_came_after_the_expiry_is_too_late():
    ers = renewed(made(tsa=authority(0, 2)), NOW + 3 * YEAR, authority(1, 5))
    assert verdict(ers, NOW + 3 * YEAR) == (
        Verdict.INDETERMINATE,
        SubIndication.OUT_OF_BOUNDS_NO_POE,
        "4.1",
    )


def test_the_newest_stamp_must_hold_today():
    ers = renewed(made(tsa=authority(0, 2)), NOW + YEAR, authority(1, 5))
    assert verdict(ers, NOW + 6 * YEAR) == (
        Verdict.INDETERMINATE,
        SubIndication.OUT_OF_BOUNDS_NO_POE,
        "4.2",
    )


def test_yearly_renewal_holds_as_long_as_it_goes_on():
    ers, year = made(3, 1, tsa=authority(0, 1)), 0
    for year in range(1, 9):  # the TEST authorities above live ten years
        ers = renewed(ers, NOW + year * YEAR - timedelta(days=30), authority(year - 1, year + 1))
    found = check(ers, NOW + year * YEAR)
    assert found.passed
    assert found.proven_at == NOW
    assert len(found.tokens) == 9


def test_a_newer_stamp_must_cover_the_whole_token_before():
    ers = made(3, 1)
    last = read_record(ers).last
    inner = inside(children(parse(last.token, max_size=9_999))[1], SEQUENCE).whole
    for wrong in (last.der, inner, last.token[1:], DATA, ers):
        leaf = sha256(wrong).digest()
        chain = seq(last.der, stamp_of(leaf, NOW + YEAR))
        forged = seq(integer(1), seq(seq(oid(OIDS["sha256"]))), seq(chain))
        assert verdict(forged, NOW + YEAR) == (Verdict.FAILED, SubIndication.HASH_FAILURE, "4.2")
    right = seq(last.der, stamp_of(sha256(last.token).digest(), NOW + YEAR))
    assert verdict(seq(integer(1), seq(seq(oid(OIDS["sha256"]))), seq(right)), NOW + YEAR) == PASSED
    tree = HashTree([sha256(b"another").digest(), sha256(b"token").digest()])
    foreign = seq(last.der, read_record(encode_record(tree.path(0), stamped(tree.root))).last.der)
    assert verdict(seq(integer(1), seq(seq(oid(OIDS["sha256"]))), seq(foreign)), NOW + YEAR) == (
        Verdict.FAILED,
        SubIndication.HASH_FAILURE,
        "3.2",
    )


def test_a_newer_stamp_that_is_older_is_refused():
    ers = renewed(made(), NOW, authority(), stamp_at=NOW - timedelta(hours=1))
    found = check(ers)
    assert found.report.sub_indication is SubIndication.TIMESTAMP_ORDER_FAILURE
    assert {step.number for step in found.report.steps if step.ok is False} == {"4.1", "5"}
    close = renewed(made(), NOW, authority(), stamp_at=NOW - timedelta(seconds=1))
    assert verdict(close) == (Verdict.INDETERMINATE, SubIndication.TIMESTAMP_ORDER_FAILURE, "5")


def test_a_newer_stamp_by_nobody_we_know_saves_nothing():
    ers = renewed(made(tsa=authority(0, 2)), NOW + YEAR, make_pki().tsa)
    assert verdict(ers, NOW + 3 * YEAR)[2] == "4.2"


def test_a_newer_stamp_shows_that_nothing_can_change_in_the_older_token():
    """Also where no signature covers it: the newer one hashes all of it."""
    ers = framed(made(), digests=seq(oid(OIDS["sha512"])))
    ers = renewed(ers, NOW + YEAR, authority(1, 5))
    assert verdict(ers, NOW + YEAR) == PASSED
    sha384 = ers.replace(oid(OIDS["sha512"]), oid(OIDS["sha384"]))
    assert sha384 != ers
    assert verdict(sha384, NOW + YEAR) == (Verdict.FAILED, SubIndication.HASH_FAILURE, "3.2")


# ------------------------------------------------------------------ new chains


def test_a_new_chain_under_a_stronger_hash_carries_the_proof_on():
    ers = renewed(made(3, 1, tsa=authority(0, 2)), NOW + YEAR, authority(1, 3))
    ers = rehashed(ers, NOW + 2 * YEAR, authority(2, 6))
    ers = renewed(ers, NOW + 4 * YEAR, authority(4, 9))
    found = check(ers, NOW + 8 * YEAR)
    assert found.passed
    assert found.own
    assert found.proven_at == NOW
    assert found.report.facts["hashes"] == ["sha256", "sha512"]
    assert len(found.tokens) == 4
    assert verdict(ers, NOW + 8 * YEAR, data=b"other") == NOT_ITS_DATA


def test_a_weakened_hash_counts_only_until_the_next_chain():
    ended = AlgorithmPolicy(
        hashes=(HashRule("sha256", NOW + 3 * YEAR), HashRule("sha512", None)), keys=AlgorithmPolicy().keys
    )
    strict = AlgorithmPolicy(hashes=ended.hashes, keys=ended.keys, enforce_end=True)
    ers = made(3, 1)
    late = NOW + 4 * YEAR
    assert verdict(ers, late, algorithms=ended) == PASSED
    assert verdict(ers, late, algorithms=strict) == (
        Verdict.INDETERMINATE,
        SubIndication.CRYPTO_CONSTRAINTS_FAILURE,
        "2",
    )
    in_time = rehashed(ers, NOW + 2 * YEAR, authority(2, 6))
    too_late = rehashed(ers, late, authority(2, 6))
    assert "2" not in {
        step.number for step in check(in_time, late, algorithms=strict).report.steps if not step.ok
    }
    assert verdict(too_late, late, algorithms=strict)[2] == "2"


@pytest.mark.parametrize("others", [0, 1, 6])
def test_the_first_list_of_a_new_chain_is_the_leaf_alone(others):
    at = NOW + YEAR
    ers = made(3, 1)
    assert verdict(rehashed(ers, at, authority(1, 5), others=others), at) == PASSED
    leaf = rehash_leaf(ers, new_hash("sha512", DATA).digest(), "sha512")
    tree = HashTree([leaf, bytes(64)], "sha512")
    stamp = read_record(encode_record(tree.path(0), stamped(tree.root, at, name="sha512"), "sha512")).last
    old = read_record(ers).last.der
    names = seq(seq(oid(OIDS["sha256"])), seq(oid(OIDS["sha512"])))
    crowded = seq(integer(1), names, seq(seq(old), seq(stamp.der)))
    assert verdict(crowded, at) == (Verdict.FAILED, SubIndication.HASH_FAILURE, "3.2")


def test_a_new_chain_covers_data_first_and_all_older_chains_after_it():
    at, ers = NOW + YEAR, made(3, 1)
    digest, old = new_hash("sha512", DATA).digest(), read_record(ers).last
    names = seq(seq(oid(OIDS["sha256"])), seq(oid(OIDS["sha512"])))

    def h(data: bytes) -> bytes:
        return new_hash("sha512", data).digest()

    def with_leaf(leaf: bytes) -> bytes:
        return seq(integer(1), names, seq(seq(old.der), seq(stamp_of(leaf, at, "sha512"))))

    sequence = seq(seq(old.der))
    assert verdict(with_leaf(h(digest + h(sequence))), at) == PASSED
    for wrong in (
        h(h(sequence) + digest),
        h(digest + h(seq(old.der))),
        h(digest + h(old.token)),
        h(h(sequence)),
        h(digest),
        digest,
        h(h(b"other") + h(sequence)),
    ):
        assert verdict(with_leaf(wrong), at) == (Verdict.FAILED, SubIndication.HASH_FAILURE, "4.2")
    both = b"".join(sorted((digest, h(sequence))))
    assert (verdict(with_leaf(h(both)), at) == PASSED) == (both == digest + h(sequence))


def test_an_older_chain_cannot_be_taken_out_or_put_elsewhere():
    at = NOW + 3 * YEAR
    ers = rehashed(made(3, 1), NOW + YEAR, authority(1, 5))
    ers = rehashed(ers, NOW + 2 * YEAR, authority(2, 6), name="sha384")
    assert verdict(ers, at) == PASSED
    record = read_record(ers)
    chains = [seq(*(stamp.der for stamp in chain)) for chain in record.chains]
    names = seq(*(seq(oid(OIDS[name])) for name in record.digest_names))
    for kept in ([0, 2], [1, 2], [2], [1], [0, 2, 1], [1, 0, 2], [0, 1, 1, 2]):
        forged = seq(integer(1), names, seq(*(chains[index] for index in kept)))
        assert verdict(forged, at)[1] is SubIndication.HASH_FAILURE
    assert check(seq(integer(1), names, seq(*chains[:2])), at).passed
