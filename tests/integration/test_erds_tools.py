"""xmlsec1, signxml and the schemas accept evidence of both serialisations, and refuse it changed."""

import subprocess
from functools import cache

import pytest
from lxml import etree
from signxml.exceptions import InvalidDigest, InvalidSignature
from signxml.verifier import SignatureConfiguration
from signxml.xades.xades import XAdESVerifier

from evidence.forms import serialise
from evidence.model.events import TS_KINDS, EvidenceKind
from evidence.model.records import Profile
from evidence.xades.signing import XadesSigner
from kephs.testpki.issued import to_pem
from tests.support.erds_samples import full, schemas
from tests.support.evidence_samples import AT
from tests.support.pki import shared_pki
from tests.support.sealed import LATER, signer_of

CASES = [
    pytest.param(kind, profile, id=f"{kind.name}-{profile.name}")
    for profile in Profile
    for kind in EvidenceKind
    if profile is Profile.REM_BASELINE or kind in TS_KINDS
]
every_form = pytest.mark.parametrize(("kind", "profile"), CASES)


@cache
def signed(kind: EvidenceKind, profile: Profile) -> bytes:
    issued = shared_pki().transactions["hs91.kep.tr"]
    writer = XadesSigner(issued.certificate, issued.chain, profile=profile)
    draft = writer.to_be_signed(serialise.write(full(kind), profile), AT)
    (signature,) = signer_of(issued).sign_now([draft.digest])
    return writer.assemble(writer.with_signature(draft, signature))


@pytest.fixture(scope="module")
def pems(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trust")
    root = folder / "root.pem"
    root.write_bytes(to_pem((shared_pki().root,)))
    words = ["--trusted-pem", str(root)]
    for number, der in enumerate(shared_pki().intermediates):
        path = folder / f"{number}.pem"
        path.write_bytes(to_pem((der,)))
        words += ["--untrusted-pem", str(path)]
    return words


def xmlsec(document: bytes, pems: list[str], folder) -> int:
    path = folder / "e.xml"
    path.write_bytes(document)
    at = LATER.strftime("%Y-%m-%d %H:%M:%S")
    done = subprocess.run(
        ["xmlsec1", "--verify", "--id-attr:Id", "SignedProperties", "--verification-time", at, *pems, str(path)],
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode


@pytest.mark.tools
@every_form
def test_xmlsec1_accepts_every_kind_in_either_form(kind, profile, pems, tmp_path):
    assert xmlsec(signed(kind, profile), pems, tmp_path) == 0


CHANGES = [
    (b"Deneme", b"deneme"),
    (b"SigningTime>2026", b"SigningTime>2025"),
    (b"ayse@hs91", b"ayse@hs92"),
    (b"CertDigest><ds:DigestMethod", b"CertDigest> <ds:DigestMethod"),
]


@pytest.mark.tools
@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_xmlsec1_refuses_changed_evidence(profile, old, new, pems, tmp_path):
    document = signed(EvidenceKind.SUBMISSION_ACCEPTANCE, profile)
    assert old in document
    assert xmlsec(document.replace(old, new), pems, tmp_path) != 0


def signxml_verify(document: bytes):
    leaf = shared_pki().transactions["hs91.kep.tr"].x509
    config = SignatureConfiguration(expect_references=2)
    return XAdESVerifier().verify(etree.fromstring(document), x509_cert=leaf, expect_config=config)


@every_form
def test_signxml_accepts_every_kind_in_either_form(kind, profile):
    assert len(signxml_verify(signed(kind, profile))) == 2


@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_signxml_refuses_changed_evidence(profile, old, new):
    with pytest.raises((InvalidDigest, InvalidSignature)):
        signxml_verify(signed(EvidenceKind.SUBMISSION_ACCEPTANCE, profile).replace(old, new))


@pytest.fixture(scope="module")
def schema_of():
    load = schemas().load
    return {
        Profile.KEP: load("TS102640_v2.xsd"),
        Profile.REM_BASELINE: load("EVIDENCE19352v117-202201.xsd"),
    }


@pytest.mark.shared
@every_form
def test_signed_evidence_of_either_form_is_valid_under_its_schema(kind, profile, schema_of):
    schema = schema_of[profile]
    assert schema.validate(etree.fromstring(signed(kind, profile))), schema.error_log


@pytest.mark.shared
def test_the_schema_of_one_form_refuses_the_other(schema_of):
    for profile, other in ((Profile.KEP, Profile.REM_BASELINE), (Profile.REM_BASELINE, Profile.KEP)):
        document = signed(EvidenceKind.DELIVERY, profile)
        assert not schema_of[other].validate(etree.fromstring(document))
