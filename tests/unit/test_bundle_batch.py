"""Bundles in batch mode: evidence records, ledger proofs and the files for common tools are all checked."""

import asyncio
import io
import json
import zipfile
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence.bundle.making import (
    CHECKPOINT,
    FINGERPRINTS,
    MEDIA_TYPE,
    OLD_FORMAT,
    BundleContents,
    BundleError,
    BundlePlan,
    path_file,
    plan_bundle,
)
from evidence.bundle.zip_store import ArchiveError, join_archive, write_archive
from evidence.ledger.notes import NoteSigner
from evidence.ledger.proof import LedgerProof
from evidence.model.records import EvidenceKind
from evidence.ports import BytesSource
from evidence.report import SubIndication, Verdict
from evidence.stamps.ers import HashTree, encode_record
from evidence.stamps.messages import granted
from evidence.verify.bundle import verify_bundle
from tests.support.bundles import (
    LOG_KEY,
    LocalBatcher,
    batch_sealed,
    bundle,
    everything,
    ledger_of,
    proofs_of,
    signed_original,
    written,
)
from tests.support.evidence_samples import AT
from tests.support.sealed import LATER, LocalTimestamper, trust

ACCEPTED = "delil/10-SubmissionAcceptance"


def check(data: bytes, **options):
    options = {"log_key": LOG_KEY.verifier} | options
    return verify_bundle(BytesSource(data), trust(), options.pop("at", LATER), **options)


def failing(data: bytes, **options):
    report = check(data, **options)
    assert not report.passed
    return report.failing_step


def step(report, name: str):
    return next(one for one in report.steps if one.name == name)


def planned(change, made: BundleContents | None = None) -> bytes:
    """Return a bundle whose files were changed before its manifest was made: a provider that cheats."""
    plan = plan_bundle(made or everything(), created_at=LATER)
    files = {name: source.read(0, source.size) for name, source in plan.members}
    changed = change(dict(files))
    manifest = json.loads(plan.manifest)
    manifest["files"] = [
        {"name": name, "size": len(content), "sha256": sha256(content).hexdigest()}
        for name, content in changed.items()
    ]
    members = tuple((name, BytesSource(content)) for name, content in changed.items())
    return written(BundlePlan(members, json.dumps(manifest).encode()))


def with_file(name: str, content: bytes):
    return lambda files: files | {name: content}


def without(*names: str):
    return lambda files: {name: content for name, content in files.items() if name not in names}


@pytest.fixture(scope="module")
def whole() -> bytes:
    return bundle(everything())


# ------------------------------------------------------------------- what passes


def test_a_bundle_with_everything_passes_and_nothing_is_left_unchecked(whole):
    report = check(whole)
    assert report.passed, report.failing_step
    assert [one.name for one in report.steps if one.ok is None] == []
    assert step(report, "checkpoint").detail == "signed by hs91.kep.tr/kephs-ledger"


def test_the_media_type_stands_first_and_unpacked_where_programs_look(whole):
    assert whole[30 : 30 + 8] == b"mimetype"
    assert whole[38 : 38 + len(MEDIA_TYPE)] == MEDIA_TYPE
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        assert archive.namelist()[0] == "mimetype"


def test_without_the_logs_key_the_report_says_that_nobody_vouches_for_the_root(whole):
    report = check(whole, log_key=None)
    assert report.passed
    assert "nobody vouches" in step(report, "checkpoint").detail
    assert step(report, "checkpoint").ok is None


def test_a_batch_bundle_still_passes_years_later_as_its_stamp_is_still_good(whole):
    assert check(whole, at=AT + timedelta(days=365 * 8)).passed


def test_the_order_in_which_the_parts_were_handed_in_does_not_matter():
    made = everything()
    turned = replace(
        made,
        evidences=tuple(reversed(made.evidences)),
        revocation=tuple(reversed(made.revocation)),
        proofs=dict(reversed(list(made.proofs.items()))),
    )
    plans = [plan_bundle(one, created_at=LATER) for one in (made, turned)]
    assert plans[0].manifest == plans[1].manifest


def test_a_batch_of_one_has_no_path():
    only = batch_sealed(
        signed_original(), (EvidenceKind.SUBMISSION_ACCEPTANCE,), batcher=LocalBatcher(others=0)
    )
    path = path_file(sha256(only[0].xml).digest(), only[0].ers)
    assert path.count(b"\n") == 1
    assert path.endswith(b".tsr\n")


def test_a_bundle_of_the_old_format_is_still_read():
    def older(files):
        return {
            name: content
            for name, content in files.items()
            if name not in {"mimetype", CHECKPOINT, FINGERPRINTS}
            and not name.endswith((".proof", ".tsr", ".yol.txt"))
        }

    made = everything()
    plan = plan_bundle(made, created_at=LATER)
    files = older({name: source.read(0, source.size) for name, source in plan.members})
    manifest = json.loads(plan.manifest) | {"format": OLD_FORMAT}
    manifest["files"] = [one for one in manifest["files"] if one["name"] in files]
    old = replace(
        plan,
        members=tuple((name, BytesSource(content)) for name, content in files.items()),
        manifest=json.dumps(manifest).encode(),
    )
    report = check(written(old))  # its archive bears the new mark
    assert report.failing_step.name == "container"
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(written(old))) as archive, zipfile.ZipFile(out, "w") as again:
        for name in archive.namelist():
            again.writestr(name, archive.read(name))
    report = check(out.getvalue())
    assert report.passed, report.failing_step
    assert "ledger proofs" not in {one.name for one in report.steps}


# ------------------------------------------------------------------- what must not pass


def test_an_evidence_record_of_another_evidence_fails():
    kinds = (EvidenceKind.SUBMISSION_ACCEPTANCE, EvidenceKind.DELIVERY, EvidenceKind.RETRIEVAL)
    first, second, third = batch_sealed(signed_original(), kinds)  # the first two are siblings in the tree
    made = everything(evidences=(first, second), ledger=(), checkpoint=None, proofs={})
    with pytest.raises(BundleError):
        plan_bundle(replace(made, evidences=(replace(first, ers=third.ers), second)), created_at=LATER)
    assert failing(planned(with_file(f"{ACCEPTED}.ers", third.ers), made)).name == "evidence"


def test_an_evidence_record_of_another_message_fails():
    other = batch_sealed(signed_original() + b"\r\n", (EvidenceKind.SUBMISSION_ACCEPTANCE,))[0]
    assert failing(planned(with_file(f"{ACCEPTED}.ers", other.ers))).name == "evidence"


def test_without_its_evidence_record_a_batch_evidence_has_no_proof_of_time():
    report = check(planned(without(f"{ACCEPTED}.ers", f"{ACCEPTED}.yol.txt")))
    assert report.verdict is Verdict.INDETERMINATE
    assert report.sub_indication is SubIndication.NO_POE


def test_a_record_or_path_without_its_evidence_fails():
    assert "belongs to no evidence" in failing(planned(with_file("delil/99-X.ers", b"x"))).detail
    assert "belongs to no evidence" in failing(planned(with_file("delil/99-X.yol.txt", b"x"))).detail


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (with_file(f"{ACCEPTED}.yol.txt", b"x.tsr\n"), "files for common tools"),
        (with_file("dogrulama/0000000000000000.tsr", b"x"), "files for common tools"),
        (with_file(FINGERPRINTS, b"00  CN=Kok\n"), "roots inside"),
        (with_file("kokler/other.pem", b"x"), "roots inside"),
        (with_file("imza.p7s", b"x"), "files for common tools"),  # its record's path is another's
        (with_file("imza.yol.txt", b"x.tsr\n"), "files for common tools"),
        (with_file("imza-rapor.json", b"[]"), "holder's signature"),
        (with_file("imza-rapor.json", b"{"), "holder's signature"),
        (with_file("mimetype", b"application/zip"), "container"),
        (without("mimetype"), "container"),
        (without(CHECKPOINT), "ledger proofs"),
        (without("kayit/40-Delivery-1.proof"), "ledger proofs"),
        (with_file("kayit/41-NonDelivery-1.proof", b"x"), "ledger proofs"),
        (with_file("kayit/40-Delivery-1.proof", b"x"), "ledger proofs"),
        (with_file(CHECKPOINT, b"x"), "ledger proofs"),
    ],
    ids=range(15),
)
def test_what_does_not_belong_is_found_even_if_the_provider_listed_it(change, name):
    assert failing(planned(change)).name == name


def test_a_token_that_no_evidence_record_holds_fails():
    stranger = asyncio.run(LocalTimestamper().stamp(sha256(b"x").digest()))
    step = failing(planned(with_file("dogrulama/0000000000000000.tsr", granted(stranger))))
    assert "token of no evidence record" in step.detail


def test_a_proof_of_another_evidence_fails():
    made = everything()
    first, second, _ = (item.record.evidence_id for item in made.evidences)
    swapped = dict(made.proofs) | {first: made.proofs[second], second: made.proofs[first]}
    assert failing(bundle(replace(made, proofs=swapped))).name == "ledger proofs"


def test_proofs_of_another_tree_fail():
    made = everything()
    note, _ = proofs_of(made.evidences, others=9)
    assert "another checkpoint" in failing(bundle(replace(made, checkpoint=note))).detail


def test_a_proof_of_another_place_than_the_entrys_fails():
    made = everything()
    shuffled = ledger_of((made.evidences[1], made.evidences[0], made.evidences[2]))
    assert "another place" in failing(bundle(replace(made, ledger=shuffled))).detail


def test_a_checkpoint_signed_by_another_key_fails_where_the_key_is_known():
    stranger = NoteSigner(LOG_KEY.name, Ed25519PrivateKey.generate())
    made = everything()
    note, proofs = proofs_of(made.evidences, signer=stranger)
    forged = bundle(replace(made, checkpoint=note, proofs={key: one.encode() for key, one in proofs.items()}))
    assert failing(forged).name == "checkpoint"
    assert check(forged, log_key=None).passed


def test_a_salt_that_was_changed_leads_nowhere():
    made = everything()
    evidence_id, file = next(iter(made.proofs.items()))
    changed = replace(LedgerProof.read(file), salt=bytes(32)).encode()
    spoiled = replace(made, proofs=dict(made.proofs) | {evidence_id: changed})
    assert failing(bundle(spoiled)).name == "ledger proofs"


def test_every_file_of_a_whole_bundle_is_covered(whole):
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    for name, content in files.items():
        spoiled = bytearray(content)
        spoiled[len(content) // 2] ^= 1
        out = io.BytesIO()
        write_archive(
            out,
            [(n, BytesSource(bytes(spoiled) if n == name else c)) for n, c in files.items()],
            comment=whole[-15:],
        )
        assert check(out.getvalue()).verdict is Verdict.FAILED, name


@pytest.mark.slow
def test_a_flip_of_any_sampled_byte_of_a_whole_bundle_is_found(whole):
    for position in range(0, len(whole), 499):
        changed = bytearray(whole)
        changed[position] ^= 4
        assert not check(bytes(changed)).passed, position


# ------------------------------------------------------------------- paths and the archive


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.data())
def test_the_path_file_leads_from_any_leaf_to_the_root(count, data):
    leaves = [sha256(b"%d" % number).digest() for number in range(count)]
    index = data.draw(st.integers(0, count - 1))
    tree = HashTree(leaves)
    token = asyncio.run(LocalTimestamper().stamp(tree.root))
    first, *lines = path_file(leaves[index], encode_record(tree.path(index), token)).decode().splitlines()
    assert first == f"{sha256(token).hexdigest()[:16]}.tsr"
    node = leaves[index]
    for line in lines:
        node = sha256(b"".join(sorted([node, *map(bytes.fromhex, line.split())]))).digest()
    assert node == tree.root


def test_no_record_gives_no_path():
    with pytest.raises(BundleError):
        path_file(bytes(32), b"x")


@given(st.lists(st.binary(max_size=40), max_size=6), st.binary(max_size=20))
def test_an_archive_of_contents_in_memory_has_the_octets_of_one_that_is_written(contents, comment):
    members = [(f"a/{n}.xml", content) for n, content in enumerate(contents)]
    written = io.BytesIO()
    write_archive(written, [(name, BytesSource(content)) for name, content in members], comment=comment)
    assert join_archive(members, comment=comment) == written.getvalue()


@pytest.mark.parametrize("names", [("../a",), ("a", "A"), ("",)])
def test_no_archive_of_contents_in_memory_has_names_that_readers_refuse(names):
    with pytest.raises(ArchiveError):
        join_archive([(name, b"") for name in names])


def test_a_content_that_changes_while_it_is_written_is_noticed():
    with pytest.raises(ArchiveError):
        write_archive(io.BytesIO(), [("a", BytesSource(b"x"))], crcs={"a": 1})


def test_a_bundle_without_any_one_of_its_files_fails_and_never_breaks_the_verifier():
    whole = bundle(everything())
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    for dropped in files:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, content in files.items():
                if name != dropped:
                    archive.writestr(name, content)
        report = verify_bundle(BytesSource(out.getvalue()), trust(), LATER)
        assert report.verdict is Verdict.FAILED, dropped
