"""Whatever a stranger's log, witness or proof says: the parser's own error or the same bytes again."""

import contextlib
from datetime import UTC, datetime
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evidence.ledger.audit import audit, audit_checkpoint, audit_entry
from evidence.ledger.merkle import (
    MemoryTree,
    leaf_data,
    leaf_hash,
    root,
    verify_consistency,
    verify_inclusion,
)
from evidence.ledger.notes import (
    Checkpoint,
    KeyKind,
    Note,
    NoteError,
    NoteSigner,
    NoteVerifier,
    add_cosignatures,
    cosign,
    open_note,
    sign_checkpoint,
)
from evidence.ledger.proof import LedgerProof, ProofError, make_proof
from evidence.ledger.tiles import TileName, read_entries
from evidence.ledger.witness_rules import AddCheckpoint, judge, read_known_size

AT = datetime(2026, 11, 22, 9, tzinfo=UTC)
LOG = NoteSigner("hs91.kep.tr/kephs-ledger", Ed25519PrivateKey.from_private_bytes(bytes(32)))
WITNESS = NoteSigner("w", Ed25519PrivateKey.from_private_bytes(b"w" * 32), KeyKind.COSIGNATURE)
SALT, XML = bytes(range(32)), b"<x/>"
TREE = MemoryTree(leaf_hash(leaf_data(SALT, sha256(XML).digest())) for _ in range(9))
NOTE = sign_checkpoint(Checkpoint(LOG.name, 9, root(9, TREE)), LOG)
COSIGNED = add_cosignatures(NOTE, cosign(NOTE, WITNESS, AT).line, [WITNESS.verifier])
PROOF = make_proof(4, SALT, COSIGNED, TREE).encode()
REQUEST = AddCheckpoint(4, (bytes(32), SALT), COSIGNED).encode()
KEYS = [LOG.verifier, WITNESS.verifier]

PIECES = [
    b"\n", b"\n\n", b" ", b"+", b"\xe2\x80\x94 ", b"\xe2\x80\x94", b"old ", b"index ", b"extra ", b"0", b"9", b"9" * 30,
    b"c2sp.org/tlog-proof@v1\n", LOG.name.encode(), LOG.verifier.key_id.hex().encode(), b"AAAA", b"A" * 43 + b"=\n", b"=",
    b"PRIVATE+KEY+", b"\x00", b"\xff", b"\r\n", b"tile/", b"0/", b"x001/", b"entries/", b"000", b".p/", b"255",
    *NOTE.split(b"\n"), *PROOF.split(b"\n"), NOTE, PROOF,
]  # fmt: skip
HOSTILE = st.lists(st.sampled_from(PIECES) | st.binary(max_size=9), max_size=14).map(b"".join)


def damaged(good: bytes) -> st.SearchStrategy[bytes]:
    """A good one with one place cut out and something else put in."""
    return st.builds(
        lambda at, cut, junk: good[:at] + junk + good[at + cut :],
        st.integers(0, len(good)),
        st.integers(0, 60),
        st.binary(max_size=12) | st.sampled_from(PIECES),
    )


@settings(max_examples=400)
@given(HOSTILE | damaged(NOTE) | damaged(PROOF) | damaged(REQUEST))
@example(b"\n\n\xe2\x80\x94 a AAAAAAAA\n")
def test_what_a_reader_accepts_it_writes_back_byte_for_byte(data):
    for reader, error in (
        (Note.parse, NoteError),
        (Checkpoint.parse, NoteError),
        (LedgerProof.read, ProofError),
        (AddCheckpoint.parse, NoteError),
    ):
        with contextlib.suppress(error):
            assert reader(data).encode() == data


@settings(max_examples=200)
@given(HOSTILE, st.integers(0, 256))
def test_keys_paths_sizes_and_bundles_of_any_bytes_raise_their_own_error_only(data, width):
    text = data.decode("utf-8", "replace")
    with contextlib.suppress(NoteError):
        assert NoteVerifier.parse(text).vkey == text
    with contextlib.suppress(NoteError):
        assert NoteSigner.parse(text).skey == text
    with contextlib.suppress(NoteError):
        assert b"%d\n" % read_known_size(data) == data
    name = TileName.parse(text)
    assert name is None or name.path == text
    with contextlib.suppress(ValueError):
        read_entries(data, width)


@settings(max_examples=300)
@given(damaged(COSIGNED))
def test_a_damaged_checkpoint_never_says_anything_else_in_the_logs_name(data):
    with contextlib.suppress(NoteError):
        opened = open_note(data, KEYS)
        assert opened.checkpoint == Checkpoint(LOG.name, 9, root(9, TREE))
        assert set(opened.cosigned.values()) <= {AT}


@settings(max_examples=300)
@given(damaged(REQUEST))
def test_a_damaged_request_is_answered_and_never_cosigned(data):
    with contextlib.suppress(NoteError):
        judged = judge(Checkpoint(LOG.name, 4, root(4, TREE)), AddCheckpoint.parse(data), LOG.verifier)
        assert not judged.accepted  # its proof is none
        assert judged.answer()


@settings(max_examples=300)
@given(damaged(PROOF), HOSTILE)
def test_auditors_never_raise_and_never_pass_another_evidence(data, hostile):
    assert not audit_entry(data, b"<other/>", LOG.verifier, AT, held=hostile).passed
    audit_checkpoint(data, LOG.verifier, AT)
    audit(hostile, data, lambda level, number, width: hostile, LOG.verifier, AT)


HASHES = st.lists(
    st.sampled_from([bytes(32), TREE.hashes(0, 0, 1)[0], b"", bytes(33)]) | st.binary(max_size=40),
    max_size=70,
)
NUMBERS = st.integers(-2, 12) | st.integers(-(1 << 70), 1 << 70)


@settings(max_examples=300)
@given(NUMBERS, NUMBERS, HASHES)
def test_verifiers_of_proofs_never_raise_and_never_hold_for_junk(first, second, proof):
    leaf, top = TREE.hashes(0, 0, 1)[0], root(9, TREE)
    assert not verify_inclusion(bytes(32), first, second, proof, top)
    assert not verify_consistency(first, leaf, second, bytes(31), proof)
    if first != second:
        assert not verify_consistency(first, bytes(32), second, top, proof)
