"""XAdES-B-LTA exports before strangers: signature, both stamps, embedded answers, and the schema."""

import asyncio
import subprocess
from base64 import b64decode
from functools import cache
from hashlib import sha256

import pytest
from asn1crypto import ocsp as asn1_ocsp
from lxml import etree

from evidence.model.records import EvidenceKind, Profile
from evidence.ports import Stamping
from evidence.verify.evidence import check_evidence
from kephs.testpki.issued import to_pem
from kephs.usecases.proof.export_evidence import Export
from tests.support.batches import batched
from tests.support.erds_samples import full, schemas
from tests.support.evidence_samples import record
from tests.support.exports import DS, XADES, XADES141, maker, octets
from tests.support.pki import shared_pki
from tests.support.sealed import LATER, trust
from tests.support.strangers import Anchors, openssl_ts, pyhanko_token, rfc3161, signxml, xmlsec1

pytestmark = pytest.mark.tools
FORMS = [pytest.param(p, s, id=f"{p.value}-{s.value}") for p in Profile for s in Stamping]
every_form = pytest.mark.parametrize(("profile", "stamping"), FORMS)


@cache
def exported(profile: Profile, stamping: Stamping) -> Export:
    item = record() if profile is Profile.KEP else full(EvidenceKind.DELIVERY)
    (evidence,) = batched(item, profile=profile, stamping=stamping)
    return asyncio.run(maker(evidence).export(evidence.record.evidence_id))


@pytest.fixture(scope="module")
def anchors(tmp_path_factory) -> Anchors:
    return Anchors.of(shared_pki(), tmp_path_factory.mktemp("anchors"))


def encapsulated(xml: bytes, inside: str, name: str) -> list[bytes]:
    """Return what stands base64-encoded in elements of this name below another, as a stranger reads it."""
    path = f".//{inside}//{XADES}{name}"
    return [b64decode(found.text) for found in etree.fromstring(xml).iterfind(path)]


@every_form
def test_xmlsec1_and_signxml_still_accept_the_signature(profile, stamping, anchors, tmp_path):
    xml = exported(profile, stamping).xml
    assert xmlsec1(xml, anchors, tmp_path)
    assert signxml(xml, shared_pki().transactions["hs91.kep.tr"].x509)
    assert check_evidence(xml, trust(), LATER).passed


@every_form
def test_xmlsec1_refuses_an_export_whose_body_was_changed(profile, stamping, anchors, tmp_path):
    changed = exported(profile, stamping).xml.replace(b"ayse@", b"oyse@")
    assert not xmlsec1(changed, anchors, tmp_path)
    assert not check_evidence(changed, trust(), LATER).passed


@every_form
def test_openssl_rfc3161_client_and_pyhanko_accept_both_stamps_over_what_the_standard_names(
    profile, stamping, anchors, tmp_path
):
    xml = exported(profile, stamping).xml
    value = etree.fromstring(xml).find(f"{DS}Signature/{DS}SignatureValue")
    signature_digest = sha256(etree.tostring(value, method="c14n", exclusive=True)).digest()
    (first,) = encapsulated(xml, f"{XADES}SignatureTimeStamp", "EncapsulatedTimeStamp")
    (archive,) = encapsulated(xml, f"{XADES141}ArchiveTimeStamp", "EncapsulatedTimeStamp")
    answers = encapsulated(xml, f"{XADES}OCSPValues", "EncapsulatedOCSPValue")
    for token, digest in ((first, signature_digest), (archive, sha256(octets(xml)).digest())):
        assert openssl_ts(token, digest, anchors, tmp_path)
        assert rfc3161(token, digest, anchors)
        assert pyhanko_token(token, digest, anchors, answers)
        assert not openssl_ts(token, sha256(digest).digest(), anchors, tmp_path)


@every_form
def test_the_paths_and_answers_inside_are_all_that_openssl_needs(profile, stamping, tmp_path):
    """With one trusted root, everything else comes out of the export: path and status of the signer."""
    xml = exported(profile, stamping).xml
    signer, *intermediates = encapsulated_certificates(xml)
    (root,) = encapsulated(xml, f"{XADES}CertificateValues", "EncapsulatedX509Certificate")
    assert root == shared_pki().root
    for name, ders in (("signer", (signer,)), ("between", intermediates), ("root", (root,))):
        (tmp_path / f"{name}.pem").write_bytes(to_pem(ders))
    at = str(int(LATER.timestamp()))
    verified = subprocess.run(
        ["openssl", "verify", "-CAfile", "root.pem", "-untrusted", "between.pem", "-attime", at, "signer.pem"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert verified.returncode == 0, verified.stderr
    serials = set()
    for number, der in enumerate(encapsulated(xml, f"{XADES}OCSPValues", "EncapsulatedOCSPValue")):
        path = tmp_path / f"{number}.ocsp"
        path.write_bytes(der)
        said = subprocess.run(
            ["openssl", "ocsp", "-respin", path, "-CAfile", "root.pem", "-verify_other", "between.pem",
             "-attime", at, "-resp_text"],
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert "Response verify OK" in said.stderr + said.stdout
        answer = asn1_ocsp.OCSPResponse.load(der).response_data["responses"][0]
        assert answer["cert_status"].name == "good"
        serials.add(answer["cert_id"]["serial_number"].native)
    pki = shared_pki()
    assert {pki.transactions["hs91.kep.tr"].serial, pki.tsa.serial} <= serials
    assert len(serials) == 3  # both leaves and their issuer


def encapsulated_certificates(xml: bytes) -> list[bytes]:
    found = etree.fromstring(xml).iterfind(f".//{DS}KeyInfo//{DS}X509Certificate")
    return [b64decode(one.text) for one in found]


NEWER = """<xsd:schema xmlns:xsd="http://www.w3.org/2001/XMLSchema" elementFormDefault="qualified"
    xmlns="http://uri.etsi.org/01903/v1.4.1#" targetNamespace="http://uri.etsi.org/01903/v1.4.1#"
    xmlns:xades="http://uri.etsi.org/01903/v1.3.2#">
  <xsd:import namespace="http://uri.etsi.org/01903/v1.3.2#" schemaLocation="XAdES132.xsd"/>
  <xsd:element name="TimeStampValidationData" type="ValidationDataType"/>
  <xsd:complexType name="ValidationDataType">
    <xsd:sequence>
      <xsd:element ref="xades:CertificateValues" minOccurs="0"/>
      <xsd:element ref="xades:RevocationValues" minOccurs="0"/>
    </xsd:sequence>
    <xsd:attribute name="Id" type="xsd:ID" use="optional"/>
    <xsd:attribute name="URI" type="xsd:anyURI" use="optional"/>
  </xsd:complexType>
  <xsd:element name="ArchiveTimeStamp" type="xades:XAdESTimeStampType"/>
</xsd:schema>"""
"""The two elements of EN 319 132-1, 5.5.1.1 and 5.5.2.1, as printed there."""


@pytest.mark.shared
@pytest.mark.parametrize("stamping", Stamping, ids=lambda one: one.value)
def test_an_export_keeps_to_the_schema(stamping):
    schema = both_schemas()
    schema.assertValid(etree.fromstring(exported(Profile.KEP, stamping).xml))
    wrong = exported(Profile.KEP, stamping).xml.replace(b"xades:CRLValues", b"xades:OCSPs")
    wrong = wrong.replace(b"xades:EncapsulatedOCSPValue", b"xades:EncapsulatedCRLValue")
    assert not schema.validate(etree.fromstring(wrong))


def both_schemas() -> etree.XMLSchema:
    """Return the schema of an evidence together with that of the newer properties."""
    offline = schemas().OfflineResolver()

    class Newer(etree.Resolver):
        def resolve(self, url, public, context):
            newer = url.endswith("newer.xsd")
            return self.resolve_string(NEWER, context) if newer else offline.resolve(url, public, context)

    parser = etree.XMLParser(no_network=True)
    parser.resolvers.add(Newer())
    text = """<xsd:schema xmlns:xsd="http://www.w3.org/2001/XMLSchema">
        <xsd:import namespace="http://uri.etsi.org/02640/v2#" schemaLocation="TS102640_v2.xsd"/>
        <xsd:import namespace="http://uri.etsi.org/01903/v1.4.1#" schemaLocation="newer.xsd"/></xsd:schema>"""
    return etree.XMLSchema(etree.fromstring(text, parser))
