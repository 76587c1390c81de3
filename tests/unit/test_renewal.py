"""Rounds of renewal: what joins their parts gives the very records that `evidence.stamps.ers` makes."""

import shutil
import subprocess
from datetime import timedelta
from hashlib import new as new_hash
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyasn1.codec.der.decoder import decode  # type: ignore[import-untyped]
from pyasn1.codec.der.encoder import encode  # type: ignore[import-untyped]
from pyasn1_alt_modules import rfc4998  # type: ignore[import-untyped]

from evidence.report import SubIndication, Verdict
from evidence.stamps.ers import (
    MAX_STAMPS,
    ErsError,
    HashTree,
    encode_record,
    new_chain,
    read_record,
    rehash_leaf,
    renew,
    renewal_leaf,
)
from evidence.stamps.ers_check import check_record
from evidence.stamps.messages import read_token
from evidence.stamps.renewal import (
    Growing,
    Link,
    RenewalError,
    Round,
    Span,
    SpanTree,
    joined_record,
    links_of,
    next_leaf,
    ranges,
)
from kephs.testpki.issued import to_pem
from tests.support.pki import NOW, shared_pki
from tests.unit.test_verify_ers import YEAR, authority, stamped, trust

BATCH = 3
SMALL = 4
"""Entries of a span in these tests."""


def data_of(number: int) -> bytes:
    return b"<evidence number='%d'/>" % number


def digests(data: bytes):
    return lambda name: new_hash(name, data).digest()


class Archive:
    """A ledger in memory: every fifth entry has its stamp inside, the others come in batches of three."""

    def __init__(self) -> None:
        self.records: dict[int, bytes | None] = {}
        self.rounds: list[Round] = []
        self.trees: dict[tuple[int, int], SpanTree] = {}

    def enter(self, count: int, at=NOW, tsa=None) -> None:
        start = len(self.records) + 1
        numbers = range(start, start + count)
        alone = [number for number in numbers if number % 5 == 0]
        others = [number for number in numbers if number % 5]
        self.records |= dict.fromkeys(alone)
        for first in range(0, len(others), BATCH):
            batch = others[first : first + BATCH]
            tree = HashTree([sha256(data_of(number)).digest() for number in batch])
            token = stamped(tree.root, at, tsa=tsa)
            for index, number in enumerate(batch):
                self.records[number] = encode_record(tree.path(index), token)
        self.records = dict(sorted(self.records.items()))

    def renew(self, at, tsa, name: str = "sha256") -> Round:
        before = self.rounds[-1] if self.rounds else None
        same = before is not None and before.hash_name == name
        after = before.spans[-1].last if same and before.spans else 0
        if same and not before.spans:
            after = max((span.last for one in self.rounds for span in one.spans), default=0)
        made = []
        number = len(self.rounds) + 1
        for first, last in ranges(after, len(self.records), SMALL):
            leaves = [
                next_leaf(self.joined(entry), digests(data_of(entry)), name)
                for entry in range(first, last + 1)
            ]
            tree = SpanTree(leaves, name)
            self.trees[number, len(made)] = tree
            made.append(Span(first, last, tree.root))
        manifest = new_hash(name, b"manifest %d" % number).digest()
        draft = Round(number, name, manifest, before.token if same else None, tuple(made))
        token = stamped(draft.root, at, name=name, tsa=tsa)
        done = Round(number, name, manifest, draft.carried, draft.spans, token)
        self.rounds.append(done)
        return done

    def links(self, number: int, rounds=None) -> list[Link]:
        return links_of(
            number, self.records[number], digests(data_of(number)),
            self.rounds if rounds is None else rounds,
            lambda one, position: self.trees[one.number, position],
        )  # fmt: skip

    def joined(self, number: int, rounds=None) -> bytes | None:
        return joined_record(self.records[number], self.links(number, rounds))

    def check(self, number: int, at, rounds=None):
        ers = self.joined(number, rounds)
        assert ers is not None
        return check_record(ers, digests(data_of(number)), trust(), at)


def by_hand(archive: Archive, number: int) -> bytes | None:
    """Grow a record with nothing but the functions of `evidence.stamps.ers`."""
    record = archive.records[number]
    for link in archive.links(number):
        if record is None:
            record = encode_record(link.path(alone=False), link.token, link.hash_name)
        elif read_record(record).last.digest_name == link.hash_name:
            assert link.leaf == renewal_leaf(record)
            record = renew(record, link.path(alone=False), link.token)
        else:
            digest = new_hash(link.hash_name, data_of(number)).digest()
            assert link.leaf == rehash_leaf(record, digest, link.hash_name)
            record = new_chain(record, link.path(alone=True), link.token, link.hash_name)
    return record


def years(count: float) -> timedelta:
    return YEAR * count


def long_life() -> Archive:
    """Eight years: yearly rounds under short-lived authorities, a stronger hash in year four."""
    archive = Archive()
    archive.enter(7, tsa=authority(0, 2))
    archive.renew(NOW + years(1), authority(1, 3))
    archive.enter(6, NOW + years(1.5), authority(1, 3))
    archive.renew(NOW + years(2), authority(2, 5))
    archive.renew(NOW + years(3), authority(2, 5))
    archive.enter(5, NOW + years(3.5), authority(2, 5))
    archive.renew(NOW + years(4), authority(3, 6), "sha512")
    archive.enter(3, NOW + years(4.5), authority(3, 6))
    archive.renew(NOW + years(5), authority(4, 7), "sha512")
    archive.renew(NOW + years(6), authority(5, 9), "sha512")
    return archive


@pytest.fixture(scope="module")
def archive() -> Archive:
    return long_life()


def test_every_evidence_holds_long_after_all_its_first_authorities_expired(archive):
    for number in archive.records:
        found = archive.check(number, NOW + years(8))
        assert found.passed, (number, found.report.failing_step)
        assert found.own
        alone = number % 5 == 0
        entered = 0 if number <= 7 else 1.5 if number <= 13 else 3.5 if number <= 18 else 4.5
        first = {0: 1, 1.5: 2, 3.5: 4, 4.5: 5}[entered] if alone else entered
        assert found.proven_at == NOW + years(first)


def test_one_token_is_spent_per_round(archive):
    tokens = {
        token.token.der
        for number in archive.records
        for token in archive.check(number, NOW + years(8)).tokens
        if token.token
    }
    assert {one.token for one in archive.rounds} <= tokens
    assert len({one.token for one in archive.rounds}) == 6


def test_a_round_without_new_evidence_has_no_span_and_carries_all(archive):
    third = archive.rounds[2]
    assert third.spans == ()
    assert third.carried == archive.rounds[1].token


def test_joined_records_are_those_that_the_writer_of_records_makes(archive):
    for number in archive.records:
        assert archive.joined(number) == by_hand(archive, number)


def test_an_independent_asn1_library_reads_and_writes_the_same(archive):
    for number in (1, 5, 10, 18, 20, 21):
        der = archive.joined(number)
        decoded, rest = decode(der, asn1Spec=rfc4998.EvidenceRecord())
        assert not rest
        assert encode(decoded) == der
        tokens = [stamp.token for chain in read_record(der).chains for stamp in chain]
        found = [
            encode(stamp["timeStamp"]) for chain in decoded["archiveTimeStampSequence"] for stamp in chain
        ]
        assert found == tokens


def test_without_the_round_in_time_nothing_is_proven(archive):
    """Whoever stops renewing: the last token is past its authority's life."""
    for kept in range(1, len(archive.rounds)):
        for number in (1, 2, 6):
            found = archive.check(number, NOW + years(9.5), archive.rounds[:kept])
            assert found.report.verdict is Verdict.INDETERMINATE
            assert found.report.sub_indication is SubIndication.OUT_OF_BOUNDS_NO_POE
            assert found.proven_at is None


def test_a_round_left_out_breaks_the_record(archive):
    for missing in (0, 1, 4):
        links = archive.links(1)
        del links[missing]
        with pytest.raises(RenewalError):
            joined_record(archive.records[1], links)
    links = archive.links(1)
    del links[2]  # the last of its chain: what follows covers data and chains, which the verifier compares
    ers = joined_record(archive.records[1], links)
    found = check_record(ers, digests(data_of(1)), trust(), NOW + years(8))
    assert (found.report.verdict, found.report.sub_indication) == (Verdict.FAILED, SubIndication.HASH_FAILURE)


def test_links_of_another_evidence_are_refused(archive):
    with pytest.raises(RenewalError):
        joined_record(archive.records[1], archive.links(8))
    with pytest.raises(RenewalError):
        joined_record(archive.records[1], archive.links(1)[1:])


def test_a_rehash_of_other_data_is_found_by_the_reader(archive):
    """The leaf of a new chain cannot be compared with anything but the data: the verifier does that."""
    links = archive.links(1)
    foreign = archive.links(2)[3]
    assert foreign.hash_name == "sha512"
    ers = joined_record(archive.records[1], [*links[:3], foreign])
    found = check_record(ers, digests(data_of(1)), trust(), NOW + years(4))
    assert (found.report.verdict, found.report.sub_indication) == (Verdict.FAILED, SubIndication.HASH_FAILURE)


def test_a_span_of_other_leaves_is_refused(archive):
    one = archive.rounds[0]
    tree = archive.trees[1, 0]
    other = SpanTree(tree.leaves[:-1], "sha256")
    with pytest.raises(RenewalError, match="other leaves"):
        one.link(0, other, tree.leaves[0])
    with pytest.raises(RenewalError, match="not this leaf"):
        one.link(0, tree, bytes(32))
    with pytest.raises(RenewalError):
        SpanTree([], "sha256")
    with pytest.raises(RenewalError):
        SpanTree([bytes(31)], "sha256")
    with pytest.raises(RenewalError):
        _ = Round(1, "sha256", bytes(31), None, ()).root


def test_the_token_must_stamp_the_root(archive):
    for one in archive.rounds:
        assert one.problem() is None
        assert one.at == read_time(one)
    first, second = archive.rounds[:2]
    swapped = Round(1, "sha256", first.manifest, None, first.spans, second.token)
    assert swapped.problem() == "the token stamps another root"
    assert (Round(1, "sha256", first.manifest, None, first.spans).problem() or "").startswith(
        "the token cannot"
    )
    with pytest.raises(RenewalError):
        _ = Round(1, "sha256", first.manifest, None, first.spans).at


def read_time(one: Round):
    expected = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6}[one.number]
    return NOW + years(expected)


def test_the_manifest_of_a_round_is_proven_by_its_token(archive):
    for one in archive.rounds:
        link = one.manifest_link()
        record = joined_record(None, [link])
        found = check_record(
            record, digests(b"manifest %d" % one.number), trust(), one.at + timedelta(days=1)
        )
        assert found.passed
        assert found.proven_at == one.at


def test_no_more_stamps_than_a_reader_takes():
    links = [Link("sha256", bytes(32), (), encode_token(0))]
    for number in range(MAX_STAMPS):
        leaf = sha256(links[-1].token).digest()
        links.append(Link("sha256", leaf, (), encode_token(number + 1)))
    assert joined_record(None, links[:MAX_STAMPS]) is not None
    with pytest.raises(RenewalError, match="more time stamps"):
        joined_record(None, links)


def encode_token(number: int) -> bytes:
    return read_record(encode_record((), stamped(sha256(b"%d" % number).digest()))).last.token


def test_only_records_grow():
    with pytest.raises(ErsError):
        joined_record(b"junk", [])
    assert joined_record(None, []) is None


@given(after=st.integers(0, 40), count=st.integers(0, 60), size=st.integers(1, 16))
def test_spans_cover_every_entry_once_and_keep_their_places(after, count, size):
    found = ranges(after, after + count, size)
    assert [n for first, last in found for n in range(first, last + 1)] == list(
        range(after + 1, after + count + 1)
    )
    assert all((first - 1) // size == (last - 1) // size for first, last in found)


@settings(max_examples=25, deadline=None)
@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    rehash_at=st.integers(1, 6),
    picked=st.integers(0, 10_000),
)
def test_whatever_the_years_brought_every_record_is_the_writers_and_holds(counts, rehash_at, picked):
    archive = Archive()
    archive.enter(1, tsa=authority(0, 10))
    for year, count in enumerate(counts, 1):
        archive.enter(count, NOW + years(year - 0.5), authority(0, 10))
        archive.renew(NOW + years(year), authority(0, 10), "sha512" if year >= rehash_at else "sha256")
    number = picked % len(archive.records) + 1
    ers = archive.joined(number)
    assert ers == by_hand(archive, number)
    at = NOW + years(len(counts) + 1)
    assert archive.check(number, at).passed
    assert not check_record(ers, digests(b"other"), trust(), at).passed
    broken = bytearray(ers)
    broken[picked % len(ers)] ^= 1
    assert not check_record(bytes(broken), digests(data_of(number)), trust(), at).passed


@pytest.mark.tools
def test_openssl_verifies_every_token_of_a_joined_record(archive, tmp_path):
    assert shutil.which("openssl")
    root = tmp_path / "root.pem"
    root.write_bytes(pem(shared_pki().root))
    checked = 0
    for number in (1, 10):
        record = read_record(archive.joined(number))
        leaf = new_hash("sha256", data_of(number)).digest()
        for index, chain in enumerate(record.chains):
            name = chain[0].digest_name
            if index:
                leaf = rehash_leaf(prefix(record, index), new_hash(name, data_of(number)).digest(), name)
            elif number % 5 == 0:
                leaf = new_hash(name, data_of(number)).digest()
            for stamp in chain:
                imprint = root_by_hand(stamp.reduced, leaf, name)
                token = tmp_path / "token.der"
                token.write_bytes(stamp.token)
                done = subprocess.run(
                    ["openssl", "ts", "-verify", "-token_in", "-in", str(token), "-digest", imprint.hex(),
                     "-CAfile", str(root), "-attime", str(int(read_token(stamp.token).info.gen_time.timestamp()))],
                    capture_output=True, text=True, check=False,
                )  # fmt: skip
                assert "Verification: OK" in done.stdout + done.stderr, done.stderr
                leaf = new_hash(name, stamp.token).digest()
                checked += 1
    assert checked >= 10


def prefix(record, count: int) -> bytes:
    """Return the record as it was with its first chains only."""
    grown = Growing(None)
    for chain in record.chains[:count]:
        for stamp in chain:
            first, *others = stamp.reduced or ((bytes(32),),)
            leaf = sha256(grown.last_token).digest() if grown.last_token else first[0]
            sibling = [entry for entry in first if entry != leaf]
            siblings = (*sibling, *(entry for (entry,) in others)) if stamp.reduced else ()
            grown.add(Link(stamp.digest_name, leaf, siblings, stamp.token))
    found = grown.encode()
    assert found is not None
    return found


def root_by_hand(reduced, leaf: bytes, name: str) -> bytes:
    """Say it as the standard does, without our tree."""
    if reduced is None:
        return leaf
    value = b""
    for entries in reduced:
        group = sorted([*entries, value] if value else entries)
        value = group[0] if len(group) == 1 else new_hash(name, b"".join(group)).digest()
    return value


def pem(der: bytes) -> bytes:
    return to_pem((der,))
