"""BENIOKU.txt is followed literally: bash, openssl and xmlsec1 alone, with roots from outside."""

import io
import os
import subprocess
import zipfile
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidence.bundle.destroyed import DestroyedContent, DestroyedPart
from evidence.bundle.making import RevocationFile, first_token, path_file, token_name
from evidence.bundle.readme import INDENT, ReadmeFacts, commands, readme
from evidence.ledger.notes import NoteSigner
from evidence.stamps.messages import granted
from kephs.testpki.issued import to_pem
from kephs.testpki.profiles import make_tckn
from tests.support.bundles import (
    LOG_KEY,
    about_holder,
    bundle,
    contents,
    everything,
    proofs_of,
    sender_record,
    sender_signature,
)
from tests.support.pki import ayse, make_pki, mehmet, shared_pki
from tests.support.sealed import LATER
from tests.support.signers import signed_message
from tests.unit.test_bundle_sender import with_final_line_end

pytestmark = [pytest.mark.tools, pytest.mark.slow]


def roots(folder: Path, der: bytes | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "root.pem").write_bytes(to_pem((der or shared_pki().root,)))
    return folder


def follow(data: bytes, folder: Path, *, trusted: Path, vkey: str = "", change=None):
    """Unpack, change, and run exactly the commands that the text gives."""
    unpacked = folder / "paket"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(unpacked)
    text = (unpacked / "BENIOKU.txt").read_text()
    if change is not None:
        change(unpacked)
    return subprocess.run(
        ["bash", "-c", commands(text)],
        cwd=unpacked, capture_output=True, timeout=300, check=False, text=True,
        env={
            "PATH": os.environ["PATH"], "KOKLER": str(trusted), "ZAMAN": str(int(LATER.timestamp())),
            "KAYIT_ANAHTARI": vkey,
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole() -> bytes:
    return bundle(everything())


@pytest.fixture
def trusted(tmp_path) -> Path:
    return roots(tmp_path / "kokler")


def test_every_step_holds_for_a_bundle_in_batch_mode(whole, tmp_path, trusted):
    done = follow(whole, tmp_path, trusted=trusted, vkey=LOG_KEY.verifier.vkey)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("TAMAM / ALL HOLDS\n")
    assert (
        done.stdout.count("Time stamp: Nov 21 09:07:00 2026 GMT") == 5
    )  # three beside (two evidence, the holder's signature), one inside, one of the KEP message
    assert "nobody vouches" not in done.stdout
    assert done.stdout.count("  good\n") == 7


def test_every_step_holds_for_a_bundle_with_stamps_inside(tmp_path, trusted):
    done = follow(bundle(contents()), tmp_path, trusted=trusted)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Time stamp: Nov 21 09:07:00 2026 GMT") == 3  # of two evidence, and the message
    assert done.stdout.count("not its certificate here") == 2, "named otherwise than the product names them"


def test_the_log_key_is_not_needed_but_its_absence_is_said(whole, tmp_path, trusted):
    done = follow(whole, tmp_path, trusted=trusted)
    assert done.returncode == 0, done.stderr
    assert "nobody vouches for the root" in done.stdout


def flip(name: str, old: bytes | None = None, new: bytes = b""):
    """Change a file: replace bytes, or flip the middle one."""

    def change(folder: Path) -> None:
        path = folder / name
        content = bytearray(path.read_bytes())
        if old is None:
            content[len(content) // 2] ^= 1
        else:
            assert old in content
            content = content.replace(old, new)
        path.write_bytes(bytes(content))

    return change


@pytest.mark.parametrize(
    "name",
    [
        "delil/10-SubmissionAcceptance.xml", "delil/10-SubmissionAcceptance.ers", "ileti/original.eml",
        "ileti/dispatch.eml", "kayit/manifest.json", "kayit/manifest.p7s", "kayit/40-Delivery-1.proof",
        "kayit/checkpoint", "mimetype", "imza.p7s", "imza.ers", "imza.yol.txt",
    ],
)  # fmt: skip
def test_a_changed_file_makes_a_command_fail(name, whole, tmp_path, trusted):
    done = follow(whole, tmp_path, trusted=trusted, change=flip(name))
    assert done.returncode != 0
    assert "ALL HOLDS" not in done.stdout


def test_a_missing_and_an_added_file_make_a_command_fail(whole, tmp_path, trusted):
    def drop(folder: Path) -> None:
        (folder / "delil/40-Delivery-1.xml").unlink()

    def add(folder: Path) -> None:
        (folder / "delil/41-NonDelivery-1.xml").write_bytes(b"<x/>")

    for number, change in enumerate((drop, add)):
        (tmp_path / str(number)).mkdir()
        assert follow(whole, tmp_path / str(number), trusted=trusted, change=change).returncode != 0


def test_another_root_makes_a_command_fail(whole, tmp_path):
    other = shared_pki().authorities["pss"].certificate
    assert follow(whole, tmp_path, trusted=roots(tmp_path / "kokler", other)).returncode != 0


def skipping(data: bytes, folder: Path, trusted: Path, change):
    """Follow the text without the steps about the list of files: what do the other steps find?"""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        text = archive.read("BENIOKU.txt").decode()
    kept = [
        line for line in text.splitlines()
        if not line.startswith((f"{INDENT}sha256sum --strict", f"{INDENT}find .", f"{INDENT}imza -inform"))
    ]  # fmt: skip

    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(out, "w") as again:
        for name in archive.namelist():
            content = archive.read(name)
            again.writestr(name, "\n".join(kept).encode() if name == "BENIOKU.txt" else content)
    return follow(out.getvalue(), folder, trusted=trusted, change=change)


def copy_over(source: str, target: str):
    def change(folder: Path) -> None:
        (folder / target).write_bytes((folder / source).read_bytes())

    return change


def replaced_signature(folder: Path) -> None:
    """Put another signature with a record of its own into the place of the holder's."""
    other = sender_signature(signed_message(mehmet()))
    ers = sender_record(other)
    (folder / "imza.p7s").write_bytes(other)
    (folder / "imza.ers").write_bytes(ers)
    (folder / "imza.yol.txt").write_bytes(path_file(sha256(other).digest(), ers))
    (folder / "dogrulama" / token_name(first_token(ers))).write_bytes(granted(first_token(ers)))


@pytest.mark.parametrize(
    ("change", "finds"),
    [
        (flip("delil/10-SubmissionAcceptance.xml", b">Deneme", b">deneme"), "10-SubmissionAcceptance.xml"),
        (copy_over("delil/60-Retrieval-1.xml", "delil/10-SubmissionAcceptance.xml"), "time stamp"),
        (flip("delil/10-SubmissionAcceptance.yol.txt"), "yol / path"),
        (copy_over("kayit/40-Delivery-1.proof", "kayit/10-SubmissionAcceptance.proof"), "10-Sub"),
        (flip("ileti/original.eml", b"Ihtar", b"ihtar"), "another message"),
        (flip("kayit/10-SubmissionAcceptance.proof", b"index 0", b"index 1"), "10-Sub"),
        (flip("imza.p7s"), "time stamp"),
        (flip("imza.yol.txt"), "yol / path"),
        (replaced_signature, "imza.p7s"),
    ],
    ids=[
        "evidence",
        "swapped-evidence",
        "path",
        "swapped-proof",
        "original",
        "place",
        "signature",
        "signature-path",
        "another-signature",
    ],
)
def test_each_step_finds_its_own_fault_even_without_the_list(change, finds, whole, tmp_path, trusted):
    done = skipping(whole, tmp_path, trusted, change)
    assert done.returncode != 0
    assert finds in done.stderr


def test_a_checkpoint_by_another_key_fails_where_the_key_was_given(tmp_path, trusted):
    stranger = NoteSigner(LOG_KEY.name, Ed25519PrivateKey.generate())
    made = everything()
    note, proofs = proofs_of(made.evidences, signer=stranger)
    forged = replace(made, checkpoint=note, proofs={key: one.encode() for key, one in proofs.items()})
    done = follow(bundle(forged), tmp_path, trusted=trusted, vkey=LOG_KEY.verifier.vkey)
    assert done.returncode != 0
    assert "kayit/checkpoint" in done.stderr


@pytest.mark.parametrize("others", [0, 1, 4, 13])
def test_proofs_are_followed_in_trees_of_every_shape(others, tmp_path, trusted):
    made = everything()
    note, proofs = proofs_of(made.evidences, others=others)
    shaped = replace(made, checkpoint=note, proofs={key: one.encode() for key, one in proofs.items()})
    done = follow(bundle(shaped), tmp_path, trusted=trusted, vkey=LOG_KEY.verifier.vkey)
    assert done.returncode == 0, done.stderr


def test_a_crl_is_looked_at_and_names_who_was_revoked(tmp_path, trusted):
    pki = shared_pki()
    lists = [RevocationFile(f"{name}.crl", pki.crl(name, LATER)) for name in ("p384", "pss", "root")]
    done = follow(bundle(everything(revocation=lists)), tmp_path, trusted=trusted)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("issuer=") == 3


def test_the_text_speaks_only_of_what_is_there():
    little = readme(ReadmeFacts("x@y", dispatch=False, sender_signed=False, ocsp=False))
    for word in ("dispatch.eml\n", ".ers;", "dogrulama/*.ocsp; do", "KAYIT_ANAHTARI="):
        assert word not in commands(little)


def test_a_holders_certificate_that_expired_after_the_stamp_does_no_harm(tmp_path, trusted):
    soon = shared_pki().issue_user("Kısa Ömürlü", make_tckn(71), not_after=LATER - timedelta(minutes=1))
    done = follow(bundle(about_holder(soon, signed_message(soon))), tmp_path, trusted=trusted)
    assert done.returncode == 0, done.stderr


def test_a_holders_signature_without_its_intermediates_finds_them_beside(tmp_path, trusted):
    alone = about_holder(ayse(), signed_message(ayse(), chain=False))
    done = follow(bundle(alone), tmp_path, trusted=trusted)
    assert done.returncode == 0, done.stderr
    (tmp_path / "2").mkdir()
    lost = replace(alone, sender_certificates=())
    assert follow(bundle(lost), tmp_path / "2", trusted=trusted).returncode != 0


def test_a_root_among_the_certificates_beside_is_not_trusted(tmp_path, trusted):
    strange = make_pki()
    holder = strange.issue_user("Yabancı Kök", make_tckn(72))
    original = signed_message(holder)
    beside = about_holder(
        ayse(), original, sender_certificates=(*holder.chain, strange.root),
    )  # fmt: skip
    done = follow(bundle(beside), tmp_path, trusted=trusted)
    assert done.returncode != 0
    assert "certificate verify error" in done.stderr


def test_what_its_producer_signed_in_another_form_is_left_to_kephs(tmp_path, trusted):
    made = about_holder(ayse(), with_final_line_end(), sender_exact=False)
    done = follow(bundle(made), tmp_path, trusted=trusted)
    assert done.returncode == 0, done.stderr
    (tmp_path / "2").mkdir()
    done = follow(bundle(replace(made, sender_exact=True)), tmp_path / "2", trusted=trusted)
    assert done.returncode != 0, "openssl knows exact octets alone"


def test_every_step_holds_for_a_bundle_whose_content_is_destroyed_and_another_digest_is_found(
    tmp_path, trusted
):
    parts = everything()
    assert parts.original is not None
    data = parts.original.read(0, parts.original.size)
    gone = DestroyedPart("original", sha256(data).digest(), LATER, "owner", 7, bytes(32))
    message_id = parts.evidences[0].record.message.kep_message_id
    statement = DestroyedContent(message_id, sha256(data).digest(), bytes(64), (gone,))
    without = replace(
        parts, original=None, destroyed=statement, dispatch=None, sender_signature=None, sender_record=None,
        sender_certificates=(),
    )  # fmt: skip
    done = follow(bundle(without), tmp_path / "1", trusted=trusted, vkey=LOG_KEY.verifier.vkey)
    assert done.returncode == 0, done.stderr
    other = replace(without, destroyed=replace(statement, sha256=bytes(32)))
    done = follow(bundle(other), tmp_path / "2", trusted=trusted, vkey=LOG_KEY.verifier.vkey)
    assert done.returncode != 0
    assert "başka ileti" in done.stderr
