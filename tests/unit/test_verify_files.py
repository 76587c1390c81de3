"""`kephs verify` on files: records beside their evidence, proofs from the ledger, files of odd kinds."""

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidence.ledger.merkle import MemoryTree, leaf_data, leaf_hash, root
from evidence.ledger.notes import Checkpoint, NoteSigner, sign_checkpoint
from evidence.ledger.proof import make_proof
from evidence.ports import BytesSource
from evidence.report import SubIndication, Verdict
from evidence.verify.files import Kind, detect, verify_source
from kephs.cli.main import main
from kephs.testpki.issued import to_pem
from tests.support.batches import accepted_in_batch, delivered_in_batch
from tests.support.pki import shared_pki
from tests.support.sealed import LATER, trust

E = delivered_in_batch()
ERS = E.ers or b""
ORIGIN = "hs91.kep.tr/kephs-ledger"
SALT = bytes(range(32))


def signer(seed: int = 1) -> NoteSigner:
    return NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


def ledger(*, by: NoteSigner | None = None, xml: bytes = E.xml) -> tuple[bytes, bytes]:
    """Return a checkpoint over five entries and the proof of the third."""
    leaves = [leaf_hash(leaf_data(SALT, bytes([n]) * 32)) for n in range(5)]
    leaves[2] = leaf_hash(leaf_data(SALT, sha256(xml).digest()))
    tree = MemoryTree(leaves)
    note = sign_checkpoint(Checkpoint(ORIGIN, 5, root(5, tree)), by or signer())
    return note, make_proof(3, SALT, note, tree).encode()


NOTE, PROOF = ledger()
KEY = signer().verifier


def front(data: bytes, *, log_key=KEY, **files: bytes):
    def beside(ending: str) -> BytesSource | None:
        return BytesSource(files[ending[1:]]) if ending[1:] in files else None

    return verify_source(BytesSource(data), trust(), LATER, beside=beside, log_key=log_key)


# ------------------------------------------------------------------- proofs and checkpoints


def test_kinds_of_proofs_are_told_apart():
    for data, kind in (
        (E.ers, Kind.RECORD),
        (PROOF, Kind.PROOF),
        (NOTE, Kind.CHECKPOINT),
        (E.xml, Kind.EVIDENCE),
    ):
        assert detect(BytesSource(data)) is kind


def test_a_proof_leads_from_the_evidence_beside_it_to_the_signed_checkpoint():
    report = front(PROOF, xml=E.xml)
    assert report.passed, report.failing_step
    assert report.facts["number"] == 3


def test_a_proof_for_another_evidence_fails():
    assert front(PROOF, xml=accepted_in_batch().xml).verdict is Verdict.FAILED
    assert front(PROOF, log_key=None, xml=accepted_in_batch().xml).verdict is Verdict.FAILED


def test_a_proof_under_another_key_is_undecided():
    assert front(PROOF, log_key=signer(2).verifier, xml=E.xml).verdict is Verdict.INDETERMINATE


def test_a_proof_without_the_ledgers_key_is_undecided():
    report = front(PROOF, log_key=None, xml=E.xml)
    assert report.verdict is Verdict.INDETERMINATE
    assert "--log-key" in report.failing_step.detail
    assert [step.name for step in report.steps if step.ok] == ["form", "inclusion"]


def test_a_proof_or_record_without_its_evidence_is_undecided_and_a_broken_one_fails():
    for data in (PROOF, E.ers):
        alone = front(data)
        assert (alone.verdict, alone.sub_indication) == (
            Verdict.INDETERMINATE,
            SubIndication.SIGNED_DATA_NOT_FOUND,
        )
    assert front(PROOF.replace(b"\nindex", b"\nIndex")).verdict is Verdict.FAILED
    assert front(E.ers + b"\0").verdict is Verdict.FAILED


def test_a_flip_of_any_byte_of_a_proof_is_no_pass():
    for position in range(len(PROOF)):
        changed = bytearray(PROOF)
        changed[position] ^= 1
        assert not front(bytes(changed), xml=E.xml).passed, position


def test_a_checkpoint_is_verified_with_the_ledgers_key():
    assert front(NOTE).passed
    assert front(NOTE, log_key=None).verdict is Verdict.INDETERMINATE
    assert front(NOTE, log_key=signer(2).verifier).verdict is Verdict.INDETERMINATE
    assert front(NOTE.replace(b"\n5\n", b"\n6\n")).verdict is Verdict.FAILED
    assert front(NOTE + b"x", log_key=None).verdict is Verdict.FAILED


# ------------------------------------------------------------------- the command


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust" / "root.pem").write_bytes(to_pem((shared_pki().root,)))
    for name in ("delil", "kayit"):
        (tmp_path / name).mkdir()
    (tmp_path / "delil" / "40-Delivery-1.xml").write_bytes(E.xml)
    (tmp_path / "delil" / "40-Delivery-1.ers").write_bytes(ERS)
    (tmp_path / "kayit" / "40-Delivery-1.proof").write_bytes(PROOF)
    (tmp_path / "kayit" / "checkpoint").write_bytes(NOTE)
    return tmp_path


def command(files: Path, *names: object, key: bool = False) -> tuple[int, list[dict[str, Any]]]:
    words = ["verify", "--json", "--trust", str(files / "trust"), "--at", LATER.isoformat()]
    words += ["--log-key", KEY.vkey] if key else []
    paths = [str(files / str(name)) for name in names]
    done = CliRunner().invoke(main, [*words, *paths])
    return done.exit_code, json.loads(done.stdout)["reports"]


def test_the_command_finds_the_record_beside_the_evidence(files: Path):
    code, (report,) = command(files, "delil/40-Delivery-1.xml")
    assert (code, report["facts"]["stamped_at"]) == (0, "2026-11-21T09:07:00.000Z")
    (files / "delil" / "40-Delivery-1.ers").unlink()
    code, (report,) = command(files, "delil/40-Delivery-1.xml")
    assert (code, report["facts"]["stamped_at"]) == (0, None)
    assert [s["detail"] for s in report["steps"] if s["number"] == "6"] == ["no proof of time"]


def test_the_command_refuses_evidence_with_the_record_of_another_beside_it(files: Path):
    (files / "delil" / "40-Delivery-1.ers").write_bytes(accepted_in_batch().ers or b"")
    assert command(files, "delil/40-Delivery-1.xml")[0] == 1


def test_the_command_refuses_evidence_whose_record_cannot_be_read(files: Path):
    record = files / "delil" / "40-Delivery-1.ers"
    record.unlink()
    record.mkdir()
    code, (report,) = command(files, "delil/40-Delivery-1.xml")
    assert (code, report["steps"][0]["detail"]) == (1, "no regular file")


def test_the_command_verifies_a_record_against_the_evidence_beside_it(files: Path):
    assert command(files, "delil/40-Delivery-1.ers")[0] == 0
    (files / "delil" / "40-Delivery-1.xml").unlink()
    assert command(files, "delil/40-Delivery-1.ers")[0] == 2


def test_the_command_finds_the_evidence_of_a_proof_beside_it_and_in_an_unpacked_bundle(files: Path):
    assert command(files, "kayit/40-Delivery-1.proof", "kayit/checkpoint", key=True)[0] == 0
    assert command(files, "kayit/40-Delivery-1.proof")[0] == 2
    (files / "delil" / "40-Delivery-1.proof").write_bytes(PROOF)
    assert command(files, "delil/40-Delivery-1.proof", key=True)[0] == 0


def test_a_key_that_is_none_is_wrong_usage(files: Path):
    done = CliRunner().invoke(main, ["verify", "--log-key", "x+y", str(files / "kayit" / "checkpoint")])
    assert done.exit_code == 64


def test_a_pipe_or_folder_is_refused_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.xml")
    for name in ("pipe.xml", ""):
        done = CliRunner().invoke(main, ["verify", "--json", str(tmp_path / name)])
        assert done.exit_code == 1
        assert json.loads(done.stdout)["reports"][0]["steps"][0]["detail"] == "no regular file"


def test_steps_have_stable_numbers_in_the_json_report(files: Path):
    _, (report,) = command(files, "delil/40-Delivery-1.xml")
    assert [step["number"] for step in report["steps"]] == [
        "1", "2", "3", "4", "5", "6", "7", "8", "8.1", "9", "10", "11",
    ]  # fmt: skip
    record = report["parts"][0]
    assert [step["number"] for step in record["steps"]] == ["1", "2", "3.1", "4.1", "5", "6", "7"]
    assert set(report) >= {"path", "subject", "verdict", "sub_indication", "at", "facts", "steps", "parts"}
