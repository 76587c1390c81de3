"""The main job: signed in, evidenced, delivered, read, proved; checked with programs that are not ours."""

import subprocess
from email import policy
from email.parser import BytesParser
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest
from lxml import etree

from evidence.cms.signed_data import CmsSigner
from evidence.forms.rem_xml import read as read_record
from evidence.mail.kep_message import parse_kep_message
from evidence.model.records import EvidenceKind
from evidence.ports import BytesSource
from kephs.testpki.issued import to_pem
from tests.functional.site import Site, compose, kephs, kephs_process, now, sign
from tests.support.signers import opaque_around, raw_sign

XAD = "{http://uri.etsi.org/01903/v1.3.2#}SignedProperties"


@pytest.fixture(scope="module")
def story(site: Site, who, tmp_path_factory) -> SimpleNamespace:
    """One notice from Ayşe to Mehmet (Cc: Fatma), submitted, delivered, read by Mehmet; all parts as files."""
    out = tmp_path_factory.mktemp("story")
    unsigned = compose(
        f"=?utf-8?q?Ay=C5=9Fe_Y=C4=B1lmaz?= <{who.ayse.address}>",
        who.mehmet.address,
        cc=who.fatma.address,
        subject="İhtarname: ödeme",
    )
    original = sign(unsigned, who.ayse.issued)
    recipients = [who.mehmet.address, who.fatma.address]
    answer = site.submit(who.ayse, original, recipients)
    assert answer.code == 250, answer
    site.wait_evidence(answer.message_id, 40, 2)
    before = site.evidence_ids(answer.message_id, 60)
    with site.imap(who.mehmet) as client:
        uid = site.find(client, "X-REM-Message-Identifier", answer.message_id)
        dispatch = site.fetch(client, uid, "BODY[]")
    kinds = {
        "10": site.evidence_ids(answer.message_id, 10)[0],
        "40-1": site.evidence_ids(answer.message_id, 40)[0],
        "40-2": site.evidence_ids(answer.message_id, 40)[1],
        "60": site.wait_evidence(answer.message_id, 60)[0],
    }
    files = {}
    receipts: dict[str, bytes] = {}
    for name, evidence_id in kinds.items():
        receipts[name], check = site.receipt(who.ayse, evidence_id)
        parsed = parse_kep_message(BytesSource(receipts[name]))
        files[name] = out / f"{name}.xml"
        files[name].write_bytes(parsed.evidences[0].content)
        files[name].with_suffix(".ers").write_bytes(parsed.extensions[0].content)
        (out / f"{name}.eml").write_bytes(receipts[name])
        assert check.stamped_at is not None, "every evidence carries a time stamp"
    (out / "original.eml").write_bytes(original)
    (out / "dispatch.eml").write_bytes(dispatch)
    (out / "root.pem").write_bytes(to_pem((site.pki.root,)))
    (out / "intermediates.pem").write_bytes(to_pem(site.pki.intermediates))
    bundle = out / "one.kepdelil"
    kephs("bundle", site.home, answer.message_id, bundle)
    return SimpleNamespace(
        out=out, answer=answer, original=original, dispatch=dispatch, evidence=files, before=before,
        receipts=receipts, bundle=bundle, trust=site.home / "trust",
    )  # fmt: skip


def test_nobody_is_said_to_have_read_before_somebody_did(story):
    assert story.before == []


def test_the_recipient_gets_the_original_byte_for_byte_inside_the_kep_message(story):
    message = parse_kep_message(BytesSource(story.dispatch))
    assert story.dispatch[message.original.start : message.original.end] == story.original
    assert message.has_introduction


def test_people_see_who_wrote_what_about(story, who):
    seen = BytesParser(policy=policy.default).parsebytes(story.dispatch)
    assert seen["Subject"].endswith("İhtarname: ödeme")
    assert seen["From"].addresses[0].addr_spec == "kep-hizmet@hs91.kep.tr"
    assert seen["Reply-To"].addresses[0].addr_spec == who.ayse.address
    assert [one.addr_spec for one in seen["To"].addresses] == [who.mehmet.address]
    assert [one.addr_spec for one in seen["Cc"].addresses] == [who.fatma.address]
    introduction = seen.get_body(("plain",)).get_content()
    assert "Gönderildi" not in introduction
    assert "Kanıt" not in introduction


def test_each_recipient_has_an_evidence_of_their_own_and_only_the_reader_one_of_reading(site, story, who):
    records = {name: site.receipt(who.ayse, _id(path))[1].record for name, path in story.evidence.items()}
    assert [records[name].kind for name in ("10", "40-1", "40-2", "60")] == [
        EvidenceKind.SUBMISSION_ACCEPTANCE, EvidenceKind.DELIVERY, EvidenceKind.DELIVERY, EvidenceKind.RETRIEVAL,
    ]  # fmt: skip
    for record in records.values():
        assert record.message.digest_sha256 == sha256(story.original).digest()
        assert [party.address for party in record.recipients] == [who.mehmet.address, who.fatma.address]
    assert (records["40-1"].refers_to, records["40-2"].refers_to, records["60"].refers_to) == (1, 2, 1)
    assert records["60"].recipient_authentication.person == "Mehmet Demir"


def _id(path: Path) -> str:
    return read_record(path.read_bytes()).evidence_id


def test_the_sender_finds_the_message_in_giden_as_it_was_signed(site, story, who):
    with site.imap(who.ayse, "Giden") as client:
        kind, (found,) = client.uid("SEARCH", "ALL")
        assert kind == "OK"
        bodies = [site.fetch(client, uid, "BODY.PEEK[]") for uid in found.split()[-8:]]
    assert story.original in bodies


@pytest.mark.tools
def test_openssl_accepts_the_original_and_the_kep_message(story):
    for name in ("original.eml", "dispatch.eml", "10.eml", "60.eml"):
        done = subprocess.run(
            ["openssl", "cms", "-verify", "-cades", "-purpose", "any", "-in", name, "-CAfile", "root.pem",
             "-out", "/dev/null"],
            cwd=story.out, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (name, done.stderr)


@pytest.mark.tools
@pytest.mark.parametrize("name", ["10", "40-1", "40-2", "60"])
def test_xmlsec_accepts_each_evidence(story, name: str):
    done = subprocess.run(
        ["xmlsec1", "--verify", "--id-attr:Id", "SignedProperties", "--trusted-pem", "root.pem",
         "--untrusted-pem", "intermediates.pem", f"{name}.xml"],
        cwd=story.out, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.shared
@pytest.mark.parametrize("name", ["10", "40-1", "40-2", "60"])
def test_each_evidence_is_valid_against_the_schema(story, shared: Path, name: str):
    schema = _schema(shared / "schemas" / "rem" / "xsd")
    schema.assertValid(etree.fromstring(story.evidence[name].read_bytes()))


class _ByName(etree.Resolver):  # type: ignore[misc]  # lxml has no types
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def resolve(self, url, _public_id, context):
        name = {"XAdES.xsd": "XAdES132.xsd", "tsl.xsd": "ts_119612v020201_201601xsd.xsd"}.get(
            url.rsplit("/", 1)[-1], url.rsplit("/", 1)[-1]
        )
        return self.resolve_filename(str(self._folder / name), context)


def _schema(folder: Path) -> etree.XMLSchema:
    parser = etree.XMLParser(no_network=True, resolve_entities=False)
    parser.resolvers.add(_ByName(folder))
    return etree.XMLSchema(etree.parse(str(folder / "TS102640_v2.xsd"), parser))


# --------------------------------------------------------------------------- other ways to sign


def test_an_opaque_signature_is_as_good_as_a_detached_one(site, who):
    unsigned = compose(who.ayse.address, who.mehmet.address)
    head, _, _ = unsigned.partition(b"Content-Type:")
    entity = unsigned[len(head) :]
    signer = CmsSigner(who.ayse.issued.certificate, who.ayse.issued.chain)
    draft = signer.to_be_signed(sha256(entity).digest(), now())
    cms = signer.assemble(draft, raw_sign(who.ayse.issued, draft.digest), content=entity)
    opaque = opaque_around(cms)
    message = head.replace(b"MIME-Version: 1.0\r\n", b"") + opaque[opaque.index(b"MIME-Version") :]
    answer = site.submit(who.ayse, message, [who.mehmet.address])
    assert answer.code == 250, answer


@pytest.mark.parametrize("key", ["rsa2048", "p384", "p521"])
def test_every_common_kind_of_key_is_accepted(site, who, key: str):
    card = site.issue("Ayşe Yılmaz", who.ayse.tckn, key=key)
    message = sign(compose(who.ayse.address, who.mehmet.address), card)
    assert site.submit(who.ayse, message, [who.mehmet.address]).code == 250


def test_a_signature_without_its_chain_is_accepted(site, who):
    message = sign(compose(who.ayse.address, who.mehmet.address), who.ayse.issued, chain=False)
    assert site.submit(who.ayse, message, [who.mehmet.address]).code == 250


def test_an_operator_with_the_right_sends_for_the_account_and_is_named(site, who):
    message = sign(compose(who.ayse.address, who.mehmet.address), who.deputy.issued)
    answer = site.submit(who.deputy, message, [who.mehmet.address])
    assert answer.code == 250, answer
    record = site.receipt(who.ayse, answer.evidence_id)[1].record
    assert record.sender.address == who.ayse.address
    assert record.sender_authentication.person == "Vekil Gönderici"


def test_one_may_write_to_oneself(site, who):
    message = sign(compose(who.ayse.address, who.ayse.address), who.ayse.issued)
    answer = site.submit(who.ayse, message, [who.ayse.address])
    assert answer.code == 250
    site.wait_evidence(answer.message_id, 40)


def test_addresses_are_one_whatever_their_case_and_turkish_letters(site, who):
    message = sign(compose("AYSE@HS91.KEP.TR", "Mehmet@hs91.kep.tr"), who.ayse.issued)
    answer = site.submit(who.ayse, message, ["MEHMET@hs91.kep.tr"])
    assert answer.code == 250, answer
    site.wait_evidence(answer.message_id, 40)


# --------------------------------------------------------------------------- the bundle and fsck


def test_the_bundle_verifies_offline_with_nothing_but_the_roots(story):
    kephs_process("verify", story.bundle, "--trust", story.trust)


def test_the_bundle_is_found_by_the_clients_message_id_too(site, story, tmp_path):
    message_id = BytesParser(policy=policy.default).parsebytes(story.original)["Message-ID"]
    kephs("bundle", site.home, message_id, tmp_path / "b.kepdelil")
    assert kephs("verify", tmp_path / "b.kepdelil", "--trust", story.trust, ok=False).returncode == 0


def test_there_is_no_bundle_of_a_message_nobody_sent(site, tmp_path):
    done = kephs("bundle", site.home, "nothing@hs91.kep.tr", tmp_path / "b.kepdelil", ok=False)
    assert done.returncode == 1
    assert "[no-such-message]" in done.stderr
    assert not (tmp_path / "b.kepdelil").exists()


def test_fsck_finds_every_state_proved_while_the_server_runs(site, story):
    done = kephs("fsck", site.home, "--json", ok=False)
    assert done.returncode == 0, done.stdout


def test_doctor_finds_nothing_wrong_with_a_running_instance(site):
    done = kephs("doctor", site.home, ok=False)
    assert done.returncode == 0, done.stdout
