"""Independent programs and libraries accept what we emit, and refuse it when a byte is changed."""

import asyncio
import subprocess
from pathlib import Path

import pytest
from asn1crypto import cms as asn1_cms
from lxml import etree
from pyhanko.keys import load_certs_from_pemder_data
from pyhanko.sign.validation import async_validate_detached_cms
from pyhanko_certvalidator import ValidationContext
from signxml.exceptions import InvalidDigest, InvalidSignature
from signxml.verifier import SignatureConfiguration
from signxml.xades.xades import XAdESVerifier

from evidence.mail.kep_message import parse_kep_message
from evidence.model.records import TS_KINDS, EvidenceKind
from evidence.ports import BytesSource
from evidence.verify.files import verify_source
from kephs.testpki.issued import to_pem
from tests.support.evidence_samples import record
from tests.support.pki import shared_pki
from tests.support.sealed import (
    HS92,
    LATER,
    ORIGINAL,
    about,
    bundle,
    delivered,
    dispatch,
    receipt,
    seal,
    sealer,
    trust,
)

SHARED = Path(__file__).resolve().parents[3] / "shared"
KINDS = sorted(TS_KINDS)


def run(*command: object, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [str(part) for part in command], input=data, capture_output=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("trust") / "root.pem"
    path.write_bytes(to_pem((shared_pki().root,)))
    return path


@pytest.fixture(scope="module")
def intermediates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ca")
    paths = []
    for number, der in enumerate(shared_pki().intermediates):
        paths.append(folder / f"{number}.pem")
        paths[-1].write_bytes(to_pem((der,)))
    return paths


def xmlsec(xml: Path, root: Path, intermediates):
    more = [word for path in intermediates for word in ("--untrusted-pem", path)]
    at = LATER.strftime("%Y-%m-%d %H:%M:%S")
    return run(
        "xmlsec1", "--verify", "--id-attr:Id", "SignedProperties", "--verification-time", at,
        "--trusted-pem", root, *more, xml,
    )  # fmt: skip


@pytest.mark.tools
@pytest.mark.parametrize("kind", KINDS)
def test_xmlsec1_accepts_evidence_of_every_kind(kind, root, intermediates, tmp_path):
    xml = tmp_path / "e.xml"
    xml.write_bytes(seal(record(kind)).xml)
    done = xmlsec(xml, root, intermediates)
    assert done.returncode == 0, done.stderr


@pytest.mark.tools
def test_xmlsec1_accepts_evidence_under_the_pss_authority(root, intermediates, tmp_path):
    xml = tmp_path / "e.xml"
    xml.write_bytes(seal(record(issuer=HS92)).xml)
    done = xmlsec(xml, root, intermediates)
    assert done.returncode == 0, done.stderr


@pytest.mark.tools
@pytest.mark.parametrize(("old", "new"), [(b"Deneme", b"deneme"), (b"SigningTime>2026", b"SigningTime>2025")])
def test_xmlsec1_refuses_changed_evidence(old, new, root, intermediates, tmp_path):
    xml = tmp_path / "e.xml"
    xml.write_bytes(delivered().xml.replace(old, new))
    assert xmlsec(xml, root, intermediates).returncode != 0


@pytest.mark.shared
@pytest.mark.parametrize("kind", KINDS)
def test_sealed_evidence_is_valid_under_the_schema(kind, schema):
    assert schema.validate(etree.fromstring(seal(record(kind)).xml)), schema.error_log


@pytest.fixture(scope="module")
def schema():
    import importlib.util  # noqa: PLC0415 - the script lives outside the checkout

    script = SHARED / "schemas" / "rem" / "check_schemas.py"
    spec = importlib.util.spec_from_file_location("check_schemas", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load("TS102640_v2.xsd")


def signxml_verify(xml: bytes):
    leaf = shared_pki().transactions["hs91.kep.tr"].x509
    config = SignatureConfiguration(expect_references=2)
    return XAdESVerifier().verify(etree.fromstring(xml), x509_cert=leaf, expect_config=config)


@pytest.mark.parametrize("kind", KINDS)
def test_signxml_accepts_evidence_of_every_kind(kind):
    results = signxml_verify(seal(record(kind)).xml)
    assert len(results) == 2


def test_signxml_refuses_changed_evidence():
    with pytest.raises((InvalidDigest, InvalidSignature)):
        signxml_verify(delivered().xml.replace(b"Deneme", b"deneme"))


# ------------------------------------------------------------------- messages


def openssl(message: bytes, root: Path, *more: str):
    return run(
        "openssl", "cms", "-verify", "-cades", "-purpose", "any", "-CAfile", root,
        "-attime", int(LATER.timestamp()), *more, data=message,
    )  # fmt: skip


@pytest.mark.tools
@pytest.mark.parametrize(
    "original",
    [
        ORIGINAL,
        "Subject: ş\r\n\r\nşğı\r\n".encode(),
        b"Subject: x\r\n\r\nno final line end",
        b"a: b\r\n\r\n \r\n.\r\n",
    ],
)
def test_openssl_accepts_a_dispatch(original, root):
    evidence = seal(about(original, EvidenceKind.SUBMISSION_ACCEPTANCE))
    done = openssl(dispatch(evidence, original), root)
    assert done.returncode == 0, done.stderr
    assert original.rstrip() in done.stdout


@pytest.mark.tools
def test_openssl_accepts_messages_of_both_providers(root):
    assert openssl(receipt(), root).returncode == 0
    evidence = seal(about(ORIGINAL, EvidenceKind.SUBMISSION_ACCEPTANCE, issuer=HS92))
    assert openssl(dispatch(evidence, by=sealer("hs92.kep.tr")), root).returncode == 0


@pytest.mark.tools
def test_openssl_refuses_a_changed_dispatch(root):
    assert openssl(dispatch().replace(b"Merhaba", b"merhaba"), root).returncode != 0


@pytest.mark.tools
def test_the_commands_in_the_bundle_work(root, tmp_path):
    archive = tmp_path / "x.kepdelil"
    archive.write_bytes(bundle())
    assert run("python3", "-m", "zipfile", "-e", archive, tmp_path).returncode == 0
    done = run(
        "openssl", "cms", "-verify", "-cades", "-purpose", "any", "-inform", "DER", "-in",
        tmp_path / "kayit/manifest.p7s", "-content", tmp_path / "kayit/manifest.json", "-CAfile", root,
        "-binary", "-attime", int(LATER.timestamp()), "-out", "/dev/null",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    listed = run("sha256sum", tmp_path / "ileti/original.eml").stdout.split()[0]
    assert listed in (tmp_path / "kayit/manifest.json").read_bytes()


@pytest.mark.tools
def test_the_stamps_are_accepted_by_openssl(root, tmp_path):
    from evidence.xades.check import open_signature  # noqa: PLC0415 - only here

    found = open_signature(delivered().xml)
    (tmp_path / "token").write_bytes(found.tokens[0])
    (tmp_path / "data").write_bytes(found.stamped)
    done = run(
        "openssl", "ts", "-verify", "-token_in", "-in", tmp_path / "token", "-data", tmp_path / "data",
        "-CAfile", root, "-attime", int(LATER.timestamp()),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_pyhanko_accepts_signature_and_stamp_of_a_dispatch(root):
    message = dispatch()
    source = BytesSource(message)
    found = parse_kep_message(source)
    entity = source.read(found.signed_entity.start, found.signed_entity.length)
    roots = list(load_certs_from_pemder_data(root.read_bytes()))
    context = ValidationContext(trust_roots=roots, moment=LATER, allow_fetching=False)
    signed = asn1_cms.ContentInfo.load(found.p7s)["content"]
    status = asyncio.run(
        async_validate_detached_cms(
            entity, signed, signer_validation_context=context, ts_validation_context=context
        )
    )
    assert status.intact
    assert status.valid
    assert status.timestamp_validity.intact
    assert status.timestamp_validity.valid
    changed = asyncio.run(
        async_validate_detached_cms(entity + b" ", signed, signer_validation_context=context)
    )
    assert not changed.intact


def test_python_reads_the_message_and_our_verifier_the_bundle():
    assert verify_source(BytesSource(bundle()), trust(), LATER).passed
