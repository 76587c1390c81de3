"""The bundle: what is dropped, swapped or added shows, offline."""

import asyncio
import io
import json
import re
import zipfile
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.bundle.making import MANIFEST, MANIFEST_SIGNATURE, BundleError, RevocationFile, plan_bundle
from evidence.bundle.zip_store import ArchiveError, read_archive, write_archive
from evidence.model.records import EvidenceKind
from evidence.ports import BytesSource
from evidence.report import SubIndication, Verdict
from evidence.seal.sealing import Sealer
from evidence.verify.bundle import verify_bundle
from evidence.verify.files import exit_code
from evidence.xades.check import open_signature
from tests.support.bundles import bundle, contents, ledger_of
from tests.support.evidence_samples import AT, record
from tests.support.pki import ayse, shared_pki
from tests.support.sealed import (
    HS92,
    LATER,
    ORIGINAL,
    LocalTimestamper,
    about,
    accepted,
    delivered,
    dispatch,
    ocsp_files,
    seal,
    sealer,
    signer_of,
    trust,
)


def check(data: bytes, **options):
    return verify_bundle(BytesSource(data), options.get("trust", trust()), options.get("at", LATER))


def repacked(data: bytes, change=lambda files: files, method=zipfile.ZIP_STORED) -> bytes:
    """Return the archive made anew by another program, after a change of its files."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in change(files).items():
            archive.writestr(name, content)
    return out.getvalue()


def without(*names: str):
    return lambda files: {name: content for name, content in files.items() if name not in names}


def with_file(name: str, content: bytes):
    return lambda files: files | {name: content}


def failing(data: bytes, **options):
    report = check(data, **options)
    assert not report.passed
    return report.failing_step


# ------------------------------------------------------------------- what passes


def test_a_bundle_passes_and_says_what_is_inside():
    report = check(bundle())
    assert report.passed, report.failing_step
    assert report.facts["evidence"] == ["10-SubmissionAcceptance.xml", "40-Delivery-1.xml"]
    assert report.facts["message_id"] == accepted().record.message.kep_message_id


def test_a_bundle_still_passes_years_later():
    assert check(bundle(), at=AT + timedelta(days=365 * 8)).passed


def test_the_same_parts_give_the_same_bytes():
    made, first, second = contents(), io.BytesIO(), io.BytesIO()
    plan_bundle(made, created_at=LATER).write(b"p7s", first)
    plan_bundle(made, created_at=LATER).write(b"p7s", second)
    assert first.getvalue() == second.getvalue()


def test_common_tools_read_the_archive():
    with zipfile.ZipFile(io.BytesIO(bundle())) as archive:
        assert archive.testzip() is None
        assert archive.read("ileti/original.eml") == ORIGINAL
        assert archive.read("delil/40-Delivery-1.xml") == delivered().xml
        assert "kephs verify" in archive.read("BENIOKU.txt").decode()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_repacked_bundle_passes_with_a_warning(method):
    report = check(repacked(bundle(), method=method))
    assert report.passed, report.failing_step
    assert report.steps[0].ok is None


def test_evidence_of_both_providers_needs_revocation_data_of_both():
    read = seal(about(ORIGINAL, EvidenceKind.RETRIEVAL, issuer=HS92))
    evidences = (accepted(), delivered(), read)
    pki = shared_pki()
    both = ocsp_files([pki.transactions["hs91.kep.tr"], pki.transactions["hs92.kep.tr"]])
    made = contents(evidences=evidences, revocation=both, ledger=ledger_of(evidences))
    assert check(bundle(made)).passed
    one = contents(evidences=evidences, ledger=ledger_of(evidences))
    report = check(bundle(one))
    assert report.verdict is Verdict.INDETERMINATE
    assert report.failing_step.name == "revocation"


def test_a_providers_second_evidence_about_one_event_stands_beside_the_first():
    again = seal(about(ORIGINAL, EvidenceKind.DELIVERY, evidence_id="again.1@hs91.kep.tr"))
    evidences = (accepted(), delivered(), again)
    data = bundle(contents(evidences=evidences, ledger=ledger_of(evidences)))
    assert check(data).passed
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        both = {archive.read(f"delil/40-Delivery-1{more}.xml") for more in ("", ".2")}
    assert both == {delivered().xml, again.xml}


def test_a_crl_is_as_good_as_ocsp():
    pki = shared_pki()
    lists = [RevocationFile(f"{ca}.crl", pki.crl(ca, LATER)) for ca in ("p384", "root")]
    report = check(bundle(contents(revocation=lists)))
    assert report.passed, report.failing_step


# ------------------------------------------------------------------- what must not pass


def test_without_trust_a_bundle_is_undecided_and_roots_inside_do_not_help():
    report = check(bundle(), trust=None)
    assert report.verdict is Verdict.INDETERMINATE
    assert exit_code([report]) == 2


def test_without_revocation_data_a_bundle_is_undecided():
    report = check(bundle(contents(revocation=())))
    assert report.verdict is Verdict.INDETERMINATE
    assert report.failing_step.name == "revocation"


def test_revocation_data_of_another_certificate_does_not_help():
    other = ocsp_files([shared_pki().transactions["hs92.kep.tr"]])
    assert check(bundle(contents(revocation=other))).verdict is Verdict.INDETERMINATE


def test_revocation_data_older_than_the_seal_does_not_help():
    old = ocsp_files([shared_pki().transactions["hs91.kep.tr"]], at=AT - timedelta(hours=20))
    assert check(bundle(contents(revocation=old))).verdict is Verdict.INDETERMINATE


@pytest.mark.parametrize(("minutes", "passes"), [(-30, False), (25, True)])
def test_a_revocation_counts_only_if_it_came_before_the_stamp(minutes, passes):
    pki = shared_pki()
    issued = pki.issue_transaction("hs91.kep.tr", "TEST")
    ours = [seal(item.record, issued=issued) for item in (accepted(), delivered())]
    pki.revoke(issued.serial, AT + timedelta(minutes=minutes))
    made = contents(
        evidences=ours,
        dispatch=BytesSource(dispatch(ours[0], by=sealer(issued=issued))),
        revocation=ocsp_files([issued, pki.transactions["hs91.kep.tr"]]),
        ledger=ledger_of(ours),
    )
    report = check(bundle(made))
    assert report.passed is passes, report.failing_step
    if not passes:
        assert report.sub_indication is SubIndication.REVOKED


@pytest.mark.parametrize(("minutes", "passes"), [(-30, False), (25, True)])
def test_an_authority_revoked_before_it_stamped_proves_nothing(minutes, passes):
    pki = shared_pki()
    tsa = pki.issue_tsa()
    by = Sealer(signer_of(pki.transactions["hs91.kep.tr"]), LocalTimestamper(tsa=tsa))
    ours = [asyncio.run(by.seal(item.record)) for item in (accepted(), delivered())]
    pki.revoke(tsa.serial, AT + timedelta(minutes=minutes))
    made = contents(
        evidences=ours,
        dispatch=BytesSource(dispatch(ours[0], by=by)),
        revocation=ocsp_files([tsa, pki.transactions["hs91.kep.tr"]]),
        ledger=ledger_of(ours),
    )
    report = check(bundle(made))
    assert report.passed is passes, report.failing_step
    assert (passes, "revocation") in [(step.ok is not False, step.name) for step in report.steps]


@pytest.mark.parametrize(
    "change",
    [
        without("delil/40-Delivery-1.xml"),
        without("ileti/original.eml"),
        without("ileti/dispatch.eml"),
        without("BENIOKU.txt"),
        without(MANIFEST),
        without(MANIFEST_SIGNATURE),
        without(MANIFEST, MANIFEST_SIGNATURE),
        with_file("delil/60-Retrieval-1.xml", delivered().xml),
        with_file("ileti/note.txt", b"x"),
        with_file("ileti/original.eml", ORIGINAL + b"x"),
        with_file("delil/40-Delivery-1.xml", accepted().xml),
        with_file(MANIFEST, b"{}"),
        with_file(MANIFEST, b"[" * 100_000),
        with_file(MANIFEST_SIGNATURE, b"x"),
    ],
)
def test_dropped_added_swapped_and_changed_files_are_found(change):
    report = check(repacked(bundle(), change))
    assert report.verdict is Verdict.FAILED


def test_dropped_evidence_is_found_even_when_the_list_is_changed_too():
    def drop(files):
        manifest = json.loads(files[MANIFEST])
        manifest["files"] = [item for item in manifest["files"] if "40-" not in item["name"]]
        return without("delil/40-Delivery-1.xml")(files | {MANIFEST: json.dumps(manifest).encode()})

    assert failing(repacked(bundle(), drop)).name == "message digest"


def test_a_manifest_signed_by_anyone_else_fails():
    assert failing(bundle(by=sealer("hs92.kep.tr"))).name == "manifest role"
    assert failing(bundle(by=sealer(issued=ayse()))).name == "manifest role"


def test_evidence_of_another_message_is_found():
    other = seal(record(EvidenceKind.RETRIEVAL))  # same ids, another digest
    evidences = (accepted(), delivered(), other)
    assert failing(bundle(contents(evidences=evidences, ledger=ledger_of(evidences)))).name == "message"


def test_another_original_is_found():
    made = contents(original=BytesSource(ORIGINAL + b"PS\r\n"))
    assert failing(bundle(made)).name == "message"


def test_another_kep_message_is_found():
    other = ORIGINAL.replace(b"Merhaba", b"Elveda!")
    evidence = seal(about(other, EvidenceKind.SUBMISSION_ACCEPTANCE))
    made = contents(dispatch=BytesSource(dispatch(evidence, other)))
    assert failing(bundle(made)).name == "KEP message"


def test_evidence_that_stands_only_in_the_kep_message_is_found():
    again = seal(replace(accepted().record, evidence_id="other@hs91.kep.tr"))
    assert failing(bundle(contents(dispatch=BytesSource(dispatch(again))))).name == "KEP message"


def test_one_evidence_under_two_names_is_found():
    twice = [seal(replace(delivered().record, refers_to=n)) for n in (1, 2)]
    evidences = (accepted(), *twice)
    assert failing(bundle(contents(evidences=evidences, ledger=ledger_of(evidences)))).name == "evidence"


def test_a_bundle_without_acceptance_or_rejection_is_undecided():
    evidences = (delivered(),)
    made = contents(evidences=evidences, dispatch=None, ledger=ledger_of(evidences))
    assert check(bundle(made)).verdict is Verdict.INDETERMINATE


def test_ledger_entries_are_checked():
    entries = ledger_of((accepted(), delivered()))
    for wrong in (
        [replace(entries[0], hash=bytes(32))],
        [replace(entries[0], number=7)],
        [replace(entries[0], evidence_sha256=bytes(32))],
        [replace(entries[0], evidence_id="x@y")],
    ):
        assert failing(bundle(contents(ledger=wrong))).name == "ledger"
    assert check(bundle(contents(ledger=()))).passed


def test_parts_that_make_no_bundle_are_refused():
    with pytest.raises(BundleError):
        plan_bundle(contents(evidences=()), created_at=LATER)
    with pytest.raises(BundleError):
        plan_bundle(contents(evidences=(accepted(), accepted())), created_at=LATER)
    other = seal(replace(record(), message=replace(record().message, kep_message_id="other@hs91.kep.tr")))
    with pytest.raises(BundleError):
        plan_bundle(contents(evidences=(accepted(), other)), created_at=LATER)


def test_a_flip_of_any_sampled_byte_is_found():
    data = bundle()
    for position in range(0, len(data), 997):
        changed = bytearray(data)
        changed[position] ^= 1
        assert not check(bytes(changed)).passed, position


@pytest.mark.slow
def test_a_flip_in_the_container_is_found():
    data = bundle()
    starts = [position for position in range(len(data)) if data[position : position + 2] == b"PK"]
    near = sorted({p + n for p in starts for n in range(0, 120, 7) if p + n < len(data)})
    for position in near:
        changed = bytearray(data)
        changed[position] ^= 1
        assert not check(bytes(changed)).passed, position


# ------------------------------------------------------------------- the archive format


def archive_of(files: dict[str, bytes], method=zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/../b", "a\\b", "a//b", "C:x", "a..b", ".x", "x" * 201, "a b", "ş"]
)
def test_unusable_names_are_refused(name):
    with pytest.raises(ArchiveError):
        read_archive(BytesSource(archive_of({name: b"x"})))
    with pytest.raises(ArchiveError):
        write_archive(io.BytesIO(), [(name, BytesSource(b"x"))])


def test_names_that_differ_only_in_case_are_refused():
    with pytest.raises(ArchiveError):
        read_archive(BytesSource(archive_of({"a": b"1", "A": b"2"})))


def test_a_member_that_unpacks_to_more_than_it_says_is_refused():
    data = archive_of({"a": bytes(1 << 20)}, zipfile.ZIP_DEFLATED)
    at = data.rindex(b"PK\x01\x02") + 24
    lying = data[:at] + (100).to_bytes(4, "little") + data[at + 4 :]
    archive = read_archive(BytesSource(lying))
    with pytest.raises(ArchiveError):
        archive.open(archive.members[0])


def test_a_member_that_says_it_is_huge_is_refused_unread():
    data = archive_of({"a": b"x"}, zipfile.ZIP_DEFLATED)
    at = data.rindex(b"PK\x01\x02") + 24
    huge = data[:at] + (0xFFFFFF00).to_bytes(4, "little") + data[at + 4 :]
    with pytest.raises(ArchiveError):
        read_archive(BytesSource(huge))


def test_overlapping_members_are_refused():
    data = bytearray(archive_of({"a": b"x" * 100, "a2": b"y"}))
    first = data.index(b"PK\x01\x02")
    second = data.index(b"PK\x01\x02", first + 1)
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    with pytest.raises(ArchiveError):
        read_archive(BytesSource(bytes(data)))


@given(st.binary(max_size=300))
def test_no_bytes_make_the_reader_fail_in_another_way(data):
    for candidate in (data, b"PK\x03\x04" + data + b"PK\x05\x06" + bytes(18)):
        try:
            read_archive(BytesSource(candidate))
        except ArchiveError:
            continue


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.binary(max_size=50), max_size=5))
def test_what_is_written_reads_back_exactly(files):
    out = io.BytesIO()
    write_archive(out, [(name, BytesSource(content)) for name, content in files.items()], comment=b"m")
    archive = read_archive(BytesSource(out.getvalue()))
    assert archive.exact
    assert archive.comment == b"m"
    found = {m.name: archive.open(m).read(0, m.size) for m in archive.members}
    assert found == files
    assert sha256(out.getvalue()).digest()


def test_large_members_are_read_in_place():
    class Watched(BytesSource):
        largest = 0

        def read(self, start, length):
            Watched.largest = max(Watched.largest, length)
            return super().read(start, length)

    original = ORIGINAL + b"x" * 76 + b"\r\n" * 600_000
    evidence = seal(about(original, EvidenceKind.SUBMISSION_ACCEPTANCE))
    made = contents(
        original=BytesSource(original),
        evidences=(evidence,),
        dispatch=BytesSource(dispatch(evidence, original)),
        ledger=ledger_of((evidence,)),
    )
    assert verify_bundle(Watched(bundle(made)), trust(), LATER).passed
    assert Watched.largest <= 1 << 20


def resigned(change, made=None) -> bytes:
    """Return a bundle whose manifest was changed before it was signed."""
    plan = plan_bundle(made or contents(), created_at=LATER)
    manifest = json.loads(plan.manifest)
    change(manifest)
    plan = replace(plan, manifest=json.dumps(manifest).encode())
    out = io.BytesIO()
    plan.write(asyncio.run(sealer().sign_entity(plan.digest, AT)), out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("change", "step"),
    [
        (lambda m: m.update(format="kephs-bundle-9"), "manifest"),
        (lambda m: m["files"].append(m["files"][0]), "files"),
        (lambda m: m.update(files=None), "files"),
        (lambda m: m.update(files=[1]), "files"),
        (lambda m: m.update(message_id="other"), "message"),
        (lambda m: m.update(ledger=[{}]), "ledger"),
        (lambda m: m.update(ledger=7), "ledger"),
        (lambda m: m["ledger"][0].update(at="2026-11-21"), "ledger"),
        (lambda m: m["ledger"][0].update(number="1"), "ledger"),
        (lambda m: m["ledger"][0].update(number=1 << 70), "ledger"),
    ],
)
def test_a_manifest_that_says_odd_things_fails_without_a_crash(change, step):
    assert failing(resigned(change)).name == step


def test_unstamped_evidence_leaves_a_bundle_undecided():
    found = open_signature(delivered().xml)
    xml = re.sub(rb"<xades:UnsignedProperties>.*</xades:UnsignedProperties>", b"", found.document)
    evidences = (accepted(), replace(delivered(), xml=xml))
    report = check(bundle(contents(evidences=evidences, ledger=ledger_of(evidences))))
    assert report.verdict is Verdict.INDETERMINATE
    assert report.sub_indication is SubIndication.NO_POE


def test_a_bundle_without_evidence_fails():
    made = contents()
    plan = plan_bundle(made, created_at=LATER)
    kept = tuple(member for member in plan.members if not member[0].startswith("delil/"))
    manifest = json.loads(plan.manifest)
    manifest["files"] = [item for item in manifest["files"] if not item["name"].startswith("delil/")]
    plan = replace(plan, members=kept, manifest=json.dumps(manifest).encode())
    out = io.BytesIO()
    plan.write(asyncio.run(sealer().sign_entity(plan.digest, AT)), out)
    assert not check(out.getvalue()).passed


def test_too_many_revocation_files_fail():
    many = [RevocationFile(f"{n}.ocsp", b"x") for n in range(201)]
    assert failing(bundle(contents(revocation=many))).name == "revocation"


def test_the_stamp_of_the_manifest_is_needed():
    made = plan_bundle(contents(), created_at=LATER)
    key = sealer()
    draft = key._cms.to_be_signed(made.digest, AT)
    (signature,) = asyncio.run(key._signer.sign_many([draft.digest]))
    out = io.BytesIO()
    made.write(key._cms.assemble(draft, signature), out)
    report = check(out.getvalue())
    assert report.verdict is Verdict.INDETERMINATE
    assert report.sub_indication is SubIndication.NO_POE
