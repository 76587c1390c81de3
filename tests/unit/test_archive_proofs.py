"""Proofs of neighbours that share what they can are those that the format's own writer makes one by one."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from evidence.ledger.chain import LedgerEntry
from evidence.ledger.merkle import MissingNodeError, NodeSource
from evidence.ledger.notes import Checkpoint, sign_checkpoint
from evidence.ledger.proof import make_proof
from evidence.ledger.tiles import GrowingTree, TileSource
from kephs.ports import StoredCheckpoint
from kephs.usecases.archive.proofs import Proofs
from kephs.usecases.proof.publish_ledger import LedgerContradictionError, entry_leaf
from tests.support.ledger_world import ORIGIN, signer

AT = datetime(2026, 11, 21, 9, tzinfo=UTC)
SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 64, 255, 256, 257, 300, 511, 512, 513, 769, 1025)


def entry(number: int) -> LedgerEntry:
    """Return an entry of the test's ledger."""
    salt, digest = (sha256(f"{kind} {number}".encode()).digest() for kind in ("salt", "evidence"))
    return LedgerEntry(number, bytes(32), f"e{number}", digest, AT, bytes(32), salt)


def tree(size: int) -> tuple[StoredCheckpoint, TileSource]:
    """Return a tree's signed checkpoint and its nodes."""
    grown = GrowingTree()
    tiles = {
        (one.level, one.number): one.hashes
        for one in grown.append(map(entry_leaf, map(entry, range(1, size + 1))))
    }
    note = sign_checkpoint(Checkpoint(ORIGIN, size, grown.root()), signer()).decode()
    source = TileSource(lambda level, number, _width: tiles.get((level, number)), size)
    return StoredCheckpoint(size, grown.root(), note, AT), source


class Altered:
    """Nodes of which one is another."""

    def __init__(self, inner: NodeSource, level: int, number: int) -> None:
        self.inner, self.node = inner, (level, number)

    def hashes(self, level: int, start: int, count: int) -> Sequence[bytes]:
        """Return hashes, one of them wrong."""
        found = list(self.inner.hashes(level, start, count))
        if level == self.node[0] and start <= self.node[1] < start + count:
            found[self.node[1] - start] = bytes(32)
        return found


@pytest.mark.parametrize("size", SIZES)
def test_every_proof_is_the_one_its_format_writes(size: int) -> None:
    newest, source = tree(size)
    proofs = Proofs(newest, source)
    for number in range(1, size + 1):
        one = entry(number)
        assert proofs.file(one) == make_proof(number, one.salt, newest.note.encode(), source).encode()


def test_the_order_in_which_proofs_are_asked_for_does_not_matter() -> None:
    newest, source = tree(300)
    asked = [entry(number) for number in (300, 1, 257, 2, 256, 299, 3, 300)]
    assert [Proofs(newest, source).file(one) for one in asked] == list(
        map(Proofs(newest, source).file, asked)
    )


@pytest.mark.parametrize("number", [1, 6, 300])
@pytest.mark.parametrize("member", ["salt", "evidence_sha256"])
def test_an_entry_that_was_not_published_has_no_proof(number: int, member: str) -> None:
    proofs = Proofs(*tree(300))
    proofs.file(entry(5))
    with pytest.raises(LedgerContradictionError, match="not the one that was published"):
        proofs.file(replace(entry(number), **{member: bytes(32)}))


@pytest.mark.parametrize("number", [0, 6])
def test_an_entry_beyond_the_checkpoint_has_no_proof(number: int) -> None:
    with pytest.raises(LedgerContradictionError, match="older"):
        Proofs(*tree(5)).file(entry(number))


def test_an_entry_whose_salt_is_cut_has_no_proof() -> None:
    with pytest.raises(LedgerContradictionError, match="32 octets"):
        Proofs(*tree(5)).file(replace(entry(1), salt=b"short"))


@pytest.mark.parametrize(("level", "number"), [(0, 0), (0, 1), (1, 1), (3, 1), (7, 1), (8, 0)])
def test_a_node_that_is_not_the_trees_is_found_whosever_path_it_is_on(level: int, number: int) -> None:
    newest, source = tree(300)
    proofs = Proofs(newest, Altered(source, level, number))
    with pytest.raises(LedgerContradictionError):
        list(map(proofs.file, map(entry, range(1, 301))))


def test_a_tile_that_is_gone_is_told_as_a_contradiction() -> None:
    class Gone:
        def hashes(self, level: int, start: int, count: int) -> Sequence[bytes]:
            raise MissingNodeError(f"{level} {start} {count}")

    with pytest.raises(LedgerContradictionError, match="entry 1"):
        Proofs(tree(5)[0], Gone()).file(entry(1))


def test_a_row_that_says_otherwise_than_its_checkpoint_is_refused() -> None:
    newest, source = tree(5)
    with pytest.raises(LedgerContradictionError, match="otherwise"):
        Proofs(replace(newest, root=bytes(32)), source)
