"""A witness cosigns what continues what it knows, and answers everything else with the right status."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from evidence.ledger.merkle import MemoryTree, consistency_proof, empty_root, leaf_hash, root
from evidence.ledger.notes import (
    Checkpoint,
    KeyKind,
    Note,
    NoteError,
    NoteSigner,
    add_cosignatures,
    cosign,
    open_note,
    sign_checkpoint,
)
from evidence.ledger.witness_rules import (
    MAX_REQUEST,
    SIZE_TYPE,
    AddCheckpoint,
    WitnessStatus,
    judge,
    read_known_size,
)

AT = datetime(2026, 11, 22, 9, tzinfo=UTC)
TREE = MemoryTree(leaf_hash(b"%d" % number) for number in range(60))
LOG = NoteSigner("hs91.kep.tr/kephs-ledger", Ed25519PrivateKey.from_private_bytes(bytes(32)))
WITNESS = NoteSigner("hs92.kep.tr/w", Ed25519PrivateKey.from_private_bytes(b"w" * 32), KeyKind.COSIGNATURE)


def point(size: int) -> Checkpoint:
    return Checkpoint(LOG.name, size, root(size, TREE))


def request(old: int, new: int) -> AddCheckpoint:
    note = sign_checkpoint(point(new), LOG)
    return AddCheckpoint(old, tuple(consistency_proof(old, new, TREE)), note)


def status(known: Checkpoint | None, asked: AddCheckpoint) -> int:
    return judge(known, asked, LOG.verifier).status


# --- the body --------------------------------------------------------------------------------------------------


def test_the_body_is_the_one_of_the_specification():
    asked = AddCheckpoint(20852014, (bytes(range(32)), bytes(32)), sign_checkpoint(point(3), LOG))
    assert asked.encode().split(b"\n\n", 1) == [
        b"old 20852014\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        asked.note,
    ]
    assert AddCheckpoint.parse(asked.encode()) == asked
    assert asked.origin == LOG.name


@given(st.integers(0, (1 << 63) - 1), st.lists(st.binary(min_size=32, max_size=32), max_size=63))
def test_every_request_is_read_back(old, proof):
    asked = AddCheckpoint(old, tuple(proof), sign_checkpoint(point(3), LOG))
    assert AddCheckpoint.parse(asked.encode()) == asked


def test_more_than_63_hashes_are_neither_sent_nor_read():
    asked = AddCheckpoint(1, (bytes(32),) * 63, b"x\n")
    with pytest.raises(ValueError):
        replace(asked, proof=(bytes(32),) * 64).encode()
    line = b"A" * 43 + b"=\n"
    with pytest.raises(NoteError):
        AddCheckpoint.parse(asked.encode().replace(line, line * 2, 1))


@pytest.mark.parametrize(
    "body",
    [b"", b"old 1\n", b"old 01\n\nx", b"old -1\n\nx", b"old  1\n\nx", b"new 1\n\nx", b"old 1 \n\nx", b"old 1\nAAAA\n\nx",
     b"\n\nx", b"old \xd9\xa1\n\nx", b"old 9223372036854775808\n\nx", b"old 1\r\n\r\nx", b"x" * (MAX_REQUEST + 1)],
    ids=range(13),
)  # fmt: skip
def test_what_is_not_exactly_a_request_is_refused(body):
    with pytest.raises(NoteError):
        AddCheckpoint.parse(body)


# --- the rules -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), [(0, 1), (0, 60), (1, 2), (32, 60), (59, 60), (60, 60), (0, 0)])
def test_what_continues_the_known_checkpoint_is_cosigned(old, new):
    judged = judge(point(old) if old else None, request(old, new), LOG.verifier)
    assert judged.accepted
    assert judged.checkpoint == point(new)
    line = cosign(request(old, new).note, WITNESS, AT)
    assert judged.answer(line) == line.line
    note = add_cosignatures(request(old, new).note, judged.answer(line), [WITNESS.verifier])
    assert open_note(note, [LOG.verifier, WITNESS.verifier]).cosigned == {WITNESS.name: AT}


def test_a_log_nobody_told_the_witness_of_is_not_found():
    judged = judge(None, request(0, 3), None)
    assert (judged.status, judged.checkpoint) == (404, None)


def test_a_checkpoint_the_log_did_not_sign_is_forbidden():
    asked = request(0, 3)
    parsed = Note.parse(asked.note)
    stranger = replace(LOG, key=WITNESS.key)
    unsigned = replace(parsed, signatures=(stranger.sign(parsed.text),)).encode()
    forged = replace(parsed, signatures=(replace(parsed.signatures[0], signature=bytes(64)),)).encode()
    for note in (unsigned, forged):
        assert status(None, replace(asked, note=note)) == WitnessStatus.NOT_THE_LOG


def test_what_is_no_checkpoint_is_malformed():
    for note in (b"", b"x\n", Note(b"a text\n", (LOG.sign(b"a text\n"),)).encode()):
        assert status(None, AddCheckpoint(0, (), note)) == WitnessStatus.MALFORMED


def test_an_old_size_above_the_new_one_is_malformed():
    assert status(point(9), replace(request(5, 5), old_size=9)) == WitnessStatus.MALFORMED


@pytest.mark.parametrize(
    ("known", "old", "new"), [(0, 5, 9), (5, 0, 9), (5, 4, 9), (5, 6, 9), (9, 5, 7), (9, 0, 5)]
)
def test_another_old_size_than_the_known_one_is_a_conflict_and_the_known_one_is_told(known, old, new):
    judged = judge(point(known) if known else None, request(old, new), LOG.verifier)
    assert (judged.status, judged.content_type) == (WitnessStatus.CONFLICT, SIZE_TYPE)
    assert judged.answer() == b"%d\n" % known
    assert read_known_size(judged.answer()) == known
    assert judged.checkpoint is None


def test_two_roots_at_one_size_are_a_conflict_without_a_size_to_try_again_with():
    other = replace(point(5), root=bytes(32))
    judged = judge(point(5), AddCheckpoint(5, (), sign_checkpoint(other, LOG)), LOG.verifier)
    assert (judged.status, judged.known_size) == (WitnessStatus.CONFLICT, None)
    assert judged.content_type != SIZE_TYPE


def test_a_tree_that_does_not_continue_the_known_one_is_inconsistent():
    rewritten = MemoryTree(leaf_hash(b"forged %d" % number) for number in range(60))
    note = sign_checkpoint(Checkpoint(LOG.name, 9, root(9, rewritten)), LOG)
    for source in (TREE, rewritten):
        asked = AddCheckpoint(5, tuple(consistency_proof(5, 9, source)), note)
        assert status(point(5), asked) == WitnessStatus.INCONSISTENT


@pytest.mark.parametrize(("known", "new"), [(0, 9), (5, 5), (5, 9)])
def test_a_proof_with_more_or_less_than_it_needs_is_inconsistent(known, new):
    asked, before = request(known, new), point(known) if known else None
    assert status(before, replace(asked, proof=(*asked.proof, bytes(32)))) == WitnessStatus.INCONSISTENT
    if asked.proof:
        assert status(before, replace(asked, proof=asked.proof[1:])) == WitnessStatus.INCONSISTENT


def test_an_empty_tree_has_the_empty_trees_root():
    assert empty_root() == root(0, TREE)
    wrong = sign_checkpoint(Checkpoint(LOG.name, 0, bytes(32)), LOG)
    assert not judge(None, AddCheckpoint(0, (), wrong), LOG.verifier).accepted


def test_the_memory_of_another_log_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError):
        judge(replace(point(3), origin="somebody.else"), request(3, 5), LOG.verifier)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12))
def test_whatever_is_asked_in_whatever_order_the_memory_never_goes_back(pairs):
    known = None
    for old, new in pairs:
        judged = judge(known, request(min(old, new), new), LOG.verifier)
        if judged.accepted:
            assert judged.checkpoint.size >= (known.size if known else 0)
            known = judged.checkpoint


@pytest.mark.parametrize(
    "body", [b"", b"5", b"05\n", b"5\n\n", b" 5\n", b"\xd9\xa1\n", b"9" * 20 + b"\n", b"-1\n"]
)
def test_a_told_size_that_is_none_is_refused(body):
    with pytest.raises(NoteError):
        read_known_size(body)
