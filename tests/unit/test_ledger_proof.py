"""The file that shows that an evidence stands in the ledger."""

from base64 import b64encode
from dataclasses import replace
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from evidence.ledger.merkle import MemoryTree, leaf_data, leaf_hash, root
from evidence.ledger.notes import Checkpoint, NoteError, NoteSigner, sign_checkpoint
from evidence.ledger.proof import MAX_FILE, LedgerProof, ProofError, check_proof, make_proof

LOG = NoteSigner("hs91.kep.tr/kephs-ledger", Ed25519PrivateKey.from_private_bytes(bytes(32)))
EVIDENCE = [b"<evidence %d/>" % number for number in range(11)]
SALTS = [sha256(b"salt %d" % number).digest() for number in range(11)]
DIGESTS = [sha256(data).digest() for data in EVIDENCE]
TREE = MemoryTree(leaf_hash(leaf_data(salt, digest)) for salt, digest in zip(SALTS, DIGESTS, strict=True))


def point(size: int) -> Checkpoint:
    return Checkpoint(LOG.name, size, root(size, TREE))


def proof(number: int, size: int = 11) -> LedgerProof:
    return make_proof(number, SALTS[number - 1], sign_checkpoint(point(size), LOG), TREE)


def test_the_file_is_this_one_for_ever():
    found = proof(2, 3)
    sibling, right = (b64encode(TREE.hashes(0, at, 1)[0]).decode() for at in (0, 2))
    assert found.encode().decode() == (
        "c2sp.org/tlog-proof@v1\n"
        f"extra {b64encode(SALTS[1]).decode()}\n"
        "index 1\n"
        f"{sibling}\n"
        f"{right}\n"
        "\n" + sign_checkpoint(point(3), LOG).decode()
    )
    assert LedgerProof.read(found.encode()) == found
    assert (found.index, found.size, found.checkpoint) == (1, 3, point(3))


def test_the_proof_in_a_ledger_of_one_entry_has_no_path():
    found = proof(1, 1)
    assert found.path == ()
    assert LedgerProof.read(found.encode()) == found
    assert check_proof(found, DIGESTS[0], point(1))


def test_every_entry_is_proven_at_every_size():
    for size in range(1, 12):
        for number in range(1, size + 1):
            found = LedgerProof.read(proof(number, size).encode())
            assert check_proof(found, DIGESTS[number - 1], point(size))


def test_the_proof_of_one_entry_proves_no_other():
    for number in range(1, 12):
        for other in range(1, 12):
            assert check_proof(proof(number), DIGESTS[other - 1], point(11)) == (number == other)


@pytest.mark.parametrize(
    "change",
    [
        {"number": 4},
        {"number": 0},
        {"number": 12},
        {"salt": bytes(32)},
        {"salt": b"x"},
        {"path": ()},
        {"size": 10},
    ],
    ids=lambda change: next(iter(change)) + str(len(str(change))),
)
def test_a_changed_proof_does_not_hold(change):
    assert not check_proof(replace(proof(5), **change), DIGESTS[4], point(11))


def test_a_proof_does_not_hold_against_another_root_size_or_digest():
    assert not check_proof(proof(5), DIGESTS[4], replace(point(11), root=bytes(32)))
    assert not check_proof(proof(5), DIGESTS[4], point(10))
    assert not check_proof(proof(5), DIGESTS[4][:31], point(11))


def test_no_flipped_byte_of_the_file_proves_the_evidence_against_the_held_checkpoint_unseen():
    good = proof(5)
    data = good.encode()
    text_end = data.rindex(b"\n\n") + 1
    for at in range(len(data)):
        broken = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        try:
            found = LedgerProof.read(broken)
        except ProofError:
            continue
        holds = check_proof(found, DIGESTS[4], point(11))
        inside = data.index(b"\n\n") + 2 <= at  # the checkpoint's own bytes are its signature's to guard
        assert inside or not holds
        assert not holds or found.note != good.note
        assert at > text_end or not holds or found.checkpoint != good.checkpoint


def test_an_entry_newer_than_the_checkpoint_has_no_proof_in_it():
    with pytest.raises(ValueError):
        proof(4, 3)
    with pytest.raises(ValueError):
        make_proof(1, b"short", sign_checkpoint(point(3), LOG), TREE)
    with pytest.raises(NoteError):
        make_proof(1, SALTS[0], b"no note", TREE)


GOOD = proof(5).encode()
SALT_LINE = b"extra " + b64encode(SALTS[4]) + b"\n"


@pytest.mark.parametrize(
    "data",
    [
        b"", GOOD[:-1], GOOD + b"\n", GOOD.replace(b"@v1", b"@v2"), GOOD.replace(SALT_LINE, b""),
        GOOD.replace(SALT_LINE, b"extra AAAA\n"), GOOD.replace(b"index 4", b"index 04"), GOOD.replace(b"index 4", b"index -4"),
        GOOD.replace(b"index 4\n", b""), GOOD.replace(b"index 4", b"index 4 "), GOOD.replace(b"\n", b"\r\n"),
        GOOD.replace(SALT_LINE, SALT_LINE * 2), GOOD.split(b"\n\n")[0] + b"\n\n", b"\xef\xbb\xbf" + GOOD,
        GOOD.replace(b"index 4\n", b"index 4\nAAAA\n"), GOOD.replace(b"index 4\n", b"index 4\n" + SALT_LINE[6:] * 64),
        GOOD.replace(b"index 4\n", b"index \xc2\xb2\n"), b"x" * (MAX_FILE + 1),
    ],
    ids=range(18),
)  # fmt: skip
def test_what_is_not_exactly_a_proof_is_refused(data):
    with pytest.raises(ProofError):
        LedgerProof.read(data)


@pytest.mark.parametrize(
    "change",
    [{"number": 0}, {"salt": b"x"}, {"path": (b"x",)}, {"note": b""}, {"size": 3}],
    ids=lambda c: next(iter(c)),
)
def test_what_could_not_be_read_back_is_not_written(change):
    with pytest.raises(ProofError):
        replace(proof(5), **change).encode()


@given(
    st.integers(1, 1 << 63),
    st.binary(min_size=32, max_size=32),
    st.lists(st.binary(min_size=32, max_size=32), max_size=63),
)
def test_every_proof_is_read_back(number, salt, path):
    made = LedgerProof(number, salt, tuple(path), 11, sign_checkpoint(point(11), LOG))
    assert LedgerProof.read(made.encode()) == made
