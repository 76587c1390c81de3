"""`kephs verify` on what a real instance made: exit codes, flipped bytes, wrong roles, missing parts."""

import json
import secrets
import zipfile
from datetime import timedelta
from hashlib import sha256
from types import SimpleNamespace

import pytest

from evidence.forms import rem_xml
from evidence.mail.kep_message import parse_kep_message
from evidence.ports import BytesSource
from evidence.xades.signing import XadesSigner
from kephs.testpki.issued import to_pem
from tests.functional.site import Site, compose, kephs, now, sign
from tests.support.pki import shared_pki
from tests.support.signers import raw_sign


def verify(*arguments: object) -> int:
    return kephs("verify", *arguments, ok=False).returncode


@pytest.fixture(scope="module")
def parts(site: Site, who, tmp_path_factory) -> SimpleNamespace:
    """One message with everything it left: original, KEP message, evidence 10, 40, 60, receipt, bundle."""
    out = tmp_path_factory.mktemp("parts")
    original = sign(compose(who.ayse.address, who.mehmet.address), who.ayse.issued)
    answer = site.submit(who.ayse, original, [who.mehmet.address])
    site.wait_evidence(answer.message_id, 40)
    with site.imap(who.mehmet) as client:
        uid = site.find(client, "X-REM-Message-Identifier", answer.message_id)
        (out / "dispatch.eml").write_bytes(site.fetch(client, uid, "BODY[]"))
    (out / "original.eml").write_bytes(original)
    for kind in (10, 40, 60):
        (evidence_id,) = site.wait_evidence(answer.message_id, kind)
        message, _ = site.receipt(who.ayse, evidence_id)
        (out / f"{kind}.eml").write_bytes(message)
        (out / f"{kind}.xml").write_bytes(parse_kep_message(BytesSource(message)).evidences[0].content)
    kephs("bundle", site.home, answer.message_id, out / "all.kepdelil")
    return SimpleNamespace(out=out, trust=site.home / "trust", answer=answer)


ALL = ("10.xml", "40.xml", "60.xml", "10.eml", "60.eml", "dispatch.eml", "all.kepdelil")


def test_everything_a_message_left_is_valid_with_the_right_roots(parts):
    assert verify("--trust", parts.trust, *(parts.out / name for name in ALL)) == 0


def test_nothing_passes_without_roots(parts):
    _none_passes(parts, [parts.out / name for name in ALL], trust=None, code=2)


def test_nothing_passes_with_another_pki_of_the_same_names(parts, tmp_path):
    (tmp_path / "root.pem").write_bytes(to_pem((shared_pki().root,)))
    _none_passes(parts, [parts.out / name for name in ALL], trust=tmp_path)


def test_json_names_each_file_with_its_verdict_and_numbered_steps(parts):
    done = kephs("verify", "--json", "--trust", parts.trust, parts.out / "10.xml", parts.out / "dispatch.eml")
    result = json.loads(done.stdout)
    assert (result["exit"], result["verdict"]) == (0, "TOTAL-PASSED")
    first = result["reports"][0]
    assert first["path"].endswith("10.xml")
    assert first["facts"]["code"] == 10
    assert [step["number"] for step in first["steps"]][:3] == ["1", "2", "3"]


def test_the_worst_of_several_files_decides(parts, tmp_path):
    bad = _flipped(parts.out / "10.xml", 400, tmp_path)
    good, undecided = parts.out / "10.xml", parts.out / "original.eml"
    assert verify("--trust", parts.trust, good, bad) == 1
    assert verify("--trust", parts.trust, good, "--sender", undecided) == 2
    assert verify("--trust", parts.trust, bad, "--sender", undecided) == 1


@pytest.mark.parametrize(
    "arguments", [(), ("--nonsense",), ("--at", "gestern", "x"), ("--at", "2026-01-01T00:00:00", "x")]
)
def test_wrong_usage_exits_64(arguments):
    assert verify(*arguments) == 64


def test_a_trust_folder_that_is_not_there_is_wrong_usage_not_a_verdict(parts, tmp_path):
    assert verify("--trust", tmp_path / "nothing", parts.out / "10.xml") == 64


def test_what_cannot_be_read_is_not_valid(parts, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "noise").write_bytes(secrets.token_bytes(4_000))
    paths = [tmp_path / "missing.xml", tmp_path / "empty", tmp_path / "noise", tmp_path]
    done = kephs("verify", "--json", "--trust", parts.trust, *paths, ok=False)
    assert [one["verdict"] for one in json.loads(done.stdout)["reports"]] == ["TOTAL-FAILED"] * 4
    assert done.returncode == 1


def test_evidence_is_not_valid_before_it_was_made(parts):
    early = (now() - timedelta(days=800)).isoformat()
    assert verify("--trust", parts.trust, "--at", early, parts.out / "10.xml") != 0


# --------------------------------------------------------------------------- flipped bytes


def _flipped(path, position: int, folder, bit: int = 1):
    data = bytearray(path.read_bytes())
    data[position] ^= bit
    target = folder / f"{position}-{bit}-{path.name}"
    target.write_bytes(bytes(data))
    return target


@pytest.mark.parametrize("name", ["10.xml", "60.xml"])
def test_no_flipped_byte_of_an_evidence_passes(parts, tmp_path, name: str):
    path = parts.out / name
    size = path.stat().st_size
    spread = sorted({0, 1, 20, size - 1, size - 2, *range(0, size, max(1, size // 150))})
    broken = [_flipped(path, position, tmp_path, bit) for position in spread for bit in (1, 0x20)]
    _none_passes(parts, broken)


def test_no_flipped_byte_of_a_bundle_passes(parts, tmp_path):
    path = parts.out / "all.kepdelil"
    size = path.stat().st_size
    spread = sorted({0, size - 1, *range(0, size, max(1, size // 100))})
    _none_passes(parts, [_flipped(path, position, tmp_path) for position in spread])


def test_no_flipped_byte_of_the_signed_entity_or_signature_of_a_kep_message_passes(parts, tmp_path):
    path = parts.out / "dispatch.eml"
    message = parse_kep_message(BytesSource(path.read_bytes()))
    begin, end = message.signed_entity
    signature = message.root.children[1].body
    spread = [
        *range(begin, end, max(1, (end - begin) // 100)),
        *range(signature.start, signature.end, max(1, signature.length // 40)),
    ]
    _none_passes(parts, [_flipped(path, position, tmp_path) for position in spread])


def _none_passes(parts, files, *, trust="the site's", code: int | None = None) -> None:
    folder = parts.trust if trust == "the site's" else trust
    trusted = ("--trust", folder) if folder else ()
    done = kephs("verify", "--json", *trusted, *files, ok=False)
    verdicts = {one["path"]: one["verdict"] for one in json.loads(done.stdout)["reports"]}
    assert len(verdicts) == len(files)
    assert [path for path, verdict in verdicts.items() if verdict == "TOTAL-PASSED"] == []
    assert done.returncode in ((1, 2) if code is None else (code,))


# --------------------------------------------------------------------------- roles


def _resealed(xml: bytes, issued) -> bytes:
    """Return an evidence's content, sealed anew under another certificate."""
    record = rem_xml.read(xml)
    signer = XadesSigner(issued.certificate, issued.chain)
    draft = signer.to_be_signed(rem_xml.write(record), record.event_time)
    return signer.assemble(signer.with_signature(draft, raw_sign(issued, draft.digest)), None)


def test_an_evidence_sealed_by_the_transaction_certificate_itself_passes_so_the_next_tests_mean_something(
    site, parts, tmp_path
):
    xml = _resealed((parts.out / "10.xml").read_bytes(), site.pki.transactions["hs91.kep.tr"])
    (tmp_path / "good.xml").write_bytes(xml)
    assert verify("--trust", parts.trust, tmp_path / "good.xml") == 0


@pytest.mark.parametrize("who_seals", ["holder", "other provider", "tsa", "ocsp", "tls"])
def test_evidence_under_any_other_certificate_never_passes(site, who, parts, tmp_path, who_seals: str):
    issued = {
        "holder": who.ayse.issued,
        "other provider": site.pki.transactions["hs92.kep.tr"],
        "tsa": site.pki.tsa,
        "ocsp": site.pki.responders["p384"],
        "tls": site.pki.issue_tls("hs91.kep.tr"),
    }[who_seals]
    (tmp_path / "bad.xml").write_bytes(_resealed((parts.out / "10.xml").read_bytes(), issued))
    assert verify("--trust", parts.trust, tmp_path / "bad.xml") != 0


def test_a_holders_message_is_no_kep_message(parts):
    assert verify("--trust", parts.trust, parts.out / "original.eml") == 1


def test_a_transaction_certificate_never_passes_as_a_sender(site, who, parts, tmp_path):
    message = sign(compose(who.ayse.address, who.mehmet.address), site.pki.transactions["hs91.kep.tr"])
    (tmp_path / "t.eml").write_bytes(message)
    done = kephs("verify", "--json", "--trust", parts.trust, "--sender", tmp_path / "t.eml", ok=False)
    (report,) = json.loads(done.stdout)["reports"]
    assert done.returncode != 0
    failed = next(step for step in report["steps"] if step["ok"] is False)
    assert failed["name"] in ("qualified certificate statements", "certificate policies")


# --------------------------------------------------------------------------- the sender's signature


def test_the_senders_report_is_numbered_and_undecided_without_revocation_data(parts):
    done = kephs("verify", "--json", "--trust", parts.trust, "--sender", parts.out / "original.eml", ok=False)
    (report,) = json.loads(done.stdout)["reports"]
    assert (done.returncode, report["verdict"], report["sub_indication"]) == (2, "INDETERMINATE", "TRY_LATER")
    assert all(step["ok"] is not False for step in report["steps"] if not step["number"].startswith("5"))
    assert all(step["number"] for step in report["steps"])


def test_with_the_revocation_data_of_the_bundle_the_senders_signature_passes(parts, tmp_path):
    with zipfile.ZipFile(parts.out / "all.kepdelil") as archive:
        names = [name for name in archive.namelist() if name.startswith("dogrulama/")]
        assert any("gonderici" in name for name in names)
        archive.extractall(tmp_path, names)
    kept = [argument for name in names for argument in ("--revocation", tmp_path / name)]
    for message in ("original.eml", "dispatch.eml"):  # in the KEP message the original is looked at
        assert verify("--trust", parts.trust, "--sender", parts.out / message, *kept) == 0


def test_a_broken_senders_signature_is_not_valid(parts, tmp_path):
    data = (parts.out / "original.eml").read_bytes().replace(b"yenilenmeyecektir", b"yenilenecektir!!!", 1)
    (tmp_path / "broken.eml").write_bytes(data)
    assert verify("--trust", parts.trust, "--sender", tmp_path / "broken.eml") == 1


# --------------------------------------------------------------------------- the bundle's parts


def _repacked(parts, folder, change) -> int:
    """Write the bundle anew with `change` made to its files, and verify it."""
    with zipfile.ZipFile(parts.out / "all.kepdelil") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    target = folder / "changed.kepdelil"
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return verify("--trust", parts.trust, target)


def _evidence_names(files) -> list[str]:
    return sorted(name for name in files if name.startswith("delil/"))


def test_a_repacked_bundle_with_the_same_files_still_passes(parts, tmp_path):
    assert _repacked(parts, tmp_path, lambda files: None) == 0


def test_a_dropped_evidence_is_found(parts, tmp_path):
    assert _repacked(parts, tmp_path, lambda files: files.pop(_evidence_names(files)[-1])) != 0


def test_swapped_evidence_is_found(parts, tmp_path):
    def swap(files):
        first, *_, last = _evidence_names(files)
        files[first], files[last] = files[last], files[first]

    assert _repacked(parts, tmp_path, swap) != 0


def test_an_added_evidence_is_found(site, who, parts, tmp_path):
    other = site.submit(
        who.ayse, sign(compose(who.ayse.address, who.mehmet.address), who.ayse.issued), [who.mehmet.address]
    )
    message, _ = site.receipt(who.ayse, other.evidence_id)
    xml = parse_kep_message(BytesSource(message)).evidences[0].content

    def add(files):
        files["delil/40-Delivery-2.xml"] = xml

    assert _repacked(parts, tmp_path, add) != 0


def test_another_original_is_found(parts, tmp_path):
    def change(files):
        files["ileti/original.eml"] += b"\r\n"

    assert _repacked(parts, tmp_path, change) != 0


def test_a_bundle_without_revocation_data_does_not_pass(parts, tmp_path):
    def drop(files):
        for name in [name for name in files if name.startswith("dogrulama/")]:
            del files[name]

    assert _repacked(parts, tmp_path, drop) != 0


def test_roots_inside_a_bundle_are_never_trust(parts):
    with zipfile.ZipFile(parts.out / "all.kepdelil") as archive:
        assert any(name.startswith("kokler/") for name in archive.namelist())
    assert verify(parts.out / "all.kepdelil") == 2


def test_the_digest_in_every_evidence_is_that_of_the_original(parts):
    digest = sha256((parts.out / "original.eml").read_bytes()).digest()
    for kind in (10, 40, 60):
        record = rem_xml.read((parts.out / f"{kind}.xml").read_bytes())
        assert record.message.digest_sha256 == digest
