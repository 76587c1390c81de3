"""XAdES emission by template, and the strict reader."""

import base64
import re
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, utils
from lxml import etree

from evidence.forms import erds_xml, rem_xml
from evidence.model.events import TS_KINDS, EvidenceKind
from evidence.model.records import Profile
from evidence.report import SubIndication
from evidence.x509.certificates import certificate_facts
from evidence.xades.check import open_signature
from evidence.xades.signing import DECLARATION, WRITER_MARK, XadesKeyError, XadesSigner
from evidence.xml.canonical import XadesError
from kephs.testpki import profiles
from kephs.testpki.issued import Issued
from tests.support.erds_samples import full
from tests.support.evidence_samples import AT, record
from tests.support.pki import shared_pki
from tests.support.sealed import delivered, foreign_xml, signer_of

XML = delivered().xml


def hs91() -> Issued:
    return shared_pki().transactions["hs91.kep.tr"]


def sign(body: bytes, issued=None, token: bytes | None = None) -> bytes:
    issued = issued or hs91()
    writer = XadesSigner(issued.certificate, issued.chain)
    draft = writer.to_be_signed(body, AT)
    (signature,) = signer_of(issued).sign_now([draft.digest])
    return writer.assemble(writer.with_signature(draft, signature), token)


def holds(xml: bytes) -> bool:
    found = open_signature(xml)
    return all(r.holds for r in found.references) and found.value_holds(found.signing_certificate())


def test_the_document_is_in_canonical_form_after_its_declaration():
    document = XML.removeprefix(DECLARATION)
    assert document != XML
    assert etree.tostring(etree.fromstring(XML), method="c14n", exclusive=True) == _with_all_prefixes(
        document
    )


def _with_all_prefixes(document: bytes) -> bytes:
    """Exclusive C14N drops declarations repeated for children; drop them likewise."""
    head, signature = document.split(b"<ds:Signature ", 1)
    signature, tail = signature.split(b"</ds:Signature>")
    first, rest = signature.split(b">", 1)
    rest = rest.replace(b' xmlns:ds="http://www.w3.org/2000/09/xmldsig#"', b"")
    return head + b"<ds:Signature " + first + b">" + rest + b"</ds:Signature>" + tail


@pytest.mark.parametrize("kind", sorted(TS_KINDS))
def test_every_digest_and_the_signature_hold(kind):
    body = rem_xml.write(record(kind))
    found = open_signature(sign(body))
    assert found.body == body
    assert holds(sign(body))
    assert found.own
    assert found.rewritten() == found.document
    assert found.signing_time == AT


def test_what_the_stamp_covers_is_the_canonical_signature_value():
    writer = XadesSigner(hs91().certificate, hs91().chain)
    draft = writer.to_be_signed(rem_xml.write(record()), AT)
    (signature,) = signer_of(hs91()).sign_now([draft.digest])
    signed = writer.with_signature(draft, signature)
    found = open_signature(writer.assemble(signed, b"0\x00"))
    assert sha256(found.stamped).digest() == signed.imprint
    assert found.tokens == (b"0\x00",)
    assert writer.assemble(signed).count(b"SignatureTimeStamp") == 0


def test_a_stamp_without_canonicalization_method_covers_the_inclusive_form():
    method = re.search(rb"<ds:CanonicalizationMethod xmlns:ds=[^>]*></ds:CanonicalizationMethod>", XML)
    found = open_signature(XML.replace(method[0], b""))
    assert found.stamped.startswith(
        b'<ds:SignatureValue xmlns="http://uri.etsi.org/02640/v2#" xmlns:ds="http://www.w3.org/2000/09/xmldsig#">'
    )
    other = method[0].replace(b"2001/10/xml-exc-c14n#", b"2006/12/xml-c14n11")
    with pytest.raises(XadesError):
        open_signature(XML.replace(method[0], other))


def test_the_embedded_chain_has_leaf_and_intermediates_but_no_root():
    found = open_signature(XML)
    assert found.certificates == (hs91().certificate, *hs91().chain)
    assert shared_pki().root not in found.certificates


def test_ecdsa_values_have_fixed_length_and_serials_are_decimal():
    found = open_signature(XML)
    assert len(found.value) == 64
    assert found.issuer_serial == ("CN=TEST kephs ESHS CA P384,C=TR", str(hs91().serial))


@pytest.mark.parametrize("key", ["rsa2048", "p384"])
def test_other_keys_sign_too(key):
    pki = shared_pki()
    issued = pki.issue_user("TEST key", profiles.make_tckn(7), key=key)
    if key == "p384":
        assert holds(sign(rem_xml.write(record()), issued))
        return
    writer = XadesSigner(issued.certificate, issued.chain)
    draft = writer.to_be_signed(rem_xml.write(record()), AT)
    raw = issued.key.sign(draft.digest, padding.PKCS1v15(), utils.Prehashed(hashes.SHA256()))
    assert holds(writer.assemble(writer.with_signature(draft, raw)))


def test_a_key_that_makes_no_xml_signatures_is_refused():
    issued = shared_pki().issue(
        profiles.name(common_name="TEST ed"),
        profiles.tls_extensions(("x.kep.tr",)),
        authority=shared_pki().authorities["p384"],
        key=ed25519.Ed25519PrivateKey.generate(),
    )
    with pytest.raises(XadesKeyError):
        XadesSigner(issued.certificate)


def test_another_writers_form_is_read_and_marked_as_not_ours():
    xml = foreign_xml(record())
    assert holds(xml)
    assert not open_signature(xml).own
    assert open_signature(xml).rewritten() != xml
    assert open_signature(foreign_xml(record(), mark=WRITER_MARK)).own


# ------------------------------------------------------------------- refusals


def refused(xml: bytes) -> XadesError:
    with pytest.raises(XadesError) as caught:
        open_signature(xml)
    return caught.value


def signature_of(xml):
    return re.search(rb"<ds:Signature .*</ds:Signature>", xml, re.DOTALL)[0]


def test_two_signatures_are_refused():
    refused(XML.replace(b"<ds:Signature ", signature_of(XML) + b"<ds:Signature ", 1))


def test_a_signature_that_is_not_the_last_child_is_refused():
    refused(XML.replace(b"</ds:Signature>", b"</ds:Signature><Extensions></Extensions>"))


def test_a_signed_element_moved_under_a_forged_root_is_refused():
    document = XML.removeprefix(DECLARATION)
    forged = rem_xml.write(record(evidence_id="forged@hs91.kep.tr"))
    cut = forged.rindex(b"</")
    refused(forged[:cut] + b"<Extensions>" + document + b"</Extensions>" + forged[cut:])
    refused(b"<x>" + document + b"</x>")


def test_a_reference_to_part_of_the_document_is_refused():
    refused(XML.replace(b'URI=""', b'URI="#ev-00040.20261121"'))
    refused(XML.replace(b'URI=""', b'URI="http://example.com/"'))
    refused(XML.replace(b' URI=""', b""))


def test_further_or_missing_references_are_refused():
    reference = re.search(rb"<ds:Reference Type.*?</ds:Reference>", XML)[0]
    refused(XML.replace(reference, reference + reference))
    refused(XML.replace(reference, b""))
    refused(XML.replace(reference, reference.replace(b"#sp-1", b"#ref-1")))
    refused(XML.replace(b'Type="http://uri.etsi.org/01903#SignedProperties" ', b""))


def test_a_repeated_id_is_refused():
    assert "Id" in str(refused(XML.replace(b"<EventCode>", b'<EventCode Id="sp-1">')))
    assert "Id" in str(refused(XML.replace(b"<EventCode>", b'<EventCode xml:id="sp-1">')))


def test_signed_properties_elsewhere_are_refused():
    properties = re.search(rb"<xades:SignedProperties .*</xades:SignedProperties>", XML)[0]
    refused(XML.replace(properties, b"<ds:Object>" + properties + b"</ds:Object>"))
    refused(XML.replace(b'Target="#sig-1"', b'Target="#sig-2"'))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"xmldsig#enveloped-signature", b"xmldsig#base64"),
        (b"2001/04/xmldsig-more#ecdsa-sha256", b"2001/04/xmldsig-more#ecdsa-sha1"),
        (b"2001/04/xmlenc#sha256", b"2000/09/xmldsig#sha1"),
        (
            b'<ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"></ds:Transform>',
            b'<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xslt-19991116"></ds:Transform>',
        ),
        (
            b'<ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"></ds:Transform>',
            b'<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xpath-19991116"></ds:Transform>',
        ),
        (
            b'<ds:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#">',
            b'<ds:CanonicalizationMethod Algorithm="http://www.w3.org/TR/2001/REC-xml-c14n-20010315">',
        ),
    ],
)
def test_algorithms_and_transforms_outside_the_list_are_refused(old, new):
    assert old in XML
    refused(XML.replace(old, new))


@pytest.mark.parametrize(
    "prologue",
    [
        b"<!DOCTYPE a>",
        b'<!DOCTYPE a [<!ENTITY x "y">]>',
        b"<!-- c -->",
        b"<?p i?>",
    ],
)
def test_dtd_comments_and_instructions_are_refused(prologue):
    assert refused(XML.replace(DECLARATION, DECLARATION + prologue)).sub is SubIndication.FORMAT_FAILURE


def test_a_comment_inside_signed_text_is_refused():
    refused(XML.replace(b"ayse@hs91.kep.tr", b"ayse@hs91.kep.tr<!-- -->.evil.tr"))


def test_relative_namespaces_do_not_break_the_reader():
    refused(XML.replace(b"http://uri.etsi.org/02640/v2#", b"//v2#"))


def test_filter2_subtract_is_read_as_enveloped():
    old = b'<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"></ds:Transform>'
    good = (
        b'<ds:Transform Algorithm="http://www.w3.org/2002/06/xmldsig-filter2"><f:XPath '
        b'xmlns:f="http://www.w3.org/2002/06/xmldsig-filter2" Filter="subtract">/descendant::ds:Signature'
        b"</f:XPath></ds:Transform>"
    )
    assert open_signature(XML.replace(old, good)).body == open_signature(XML).body
    refused(XML.replace(old, good.replace(b'"subtract"', b'"union"')))
    refused(XML.replace(old, good.replace(b"ds:Signature", b"ds:Object")))
    refused(XML.replace(old, good.replace(b"ds:Signature", b"f:Signature")))


# ------------------------------------------------------------------- the signing certificate


def test_a_swapped_certificate_is_found_by_its_digest():
    mine, other = (
        base64.b64encode(shared_pki().transactions[d].certificate) for d in ("hs91.kep.tr", "hs92.kep.tr")
    )
    found = open_signature(XML.replace(mine, other))
    with pytest.raises(XadesError) as caught:
        found.signing_certificate()
    assert caught.value.sub is SubIndication.NO_SIGNING_CERTIFICATE_FOUND


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"CN=TEST kephs ESHS", b"CN=TEST kephs eshs"), (str(hs91().serial).encode(), b"12")],
    ids=["issuer", "serial"],
)
def test_another_issuer_or_serial_is_found(old, new):
    found = open_signature(XML.replace(old, new))
    with pytest.raises(XadesError):
        found.signing_certificate()


def test_an_issuer_spelt_otherwise_is_the_same_issuer():
    other = XML.replace(b"CN=TEST kephs ESHS CA P384,C=TR", b"CN=TEST kephs ESHS CA P384, C=TR")
    assert open_signature(other).signing_certificate() == certificate_facts(hs91().certificate)


def test_a_signature_of_another_key_or_of_wrong_length_does_not_hold():
    found = open_signature(XML)
    other = certificate_facts(shared_pki().transactions["hs92.kep.tr"].certificate)
    assert found.value_holds(certificate_facts(hs91().certificate))
    assert not found.value_holds(other)
    cut = re.sub(rb"(<ds:SignatureValue>)[^<]{4}", rb"\1", XML)
    assert not open_signature(cut).value_holds(certificate_facts(hs91().certificate))


def test_emission_takes_the_time_it_is_given():
    body = rem_xml.write(record())
    writer = XadesSigner(hs91().certificate, hs91().chain)
    assert writer.to_be_signed(body, AT).digest == writer.to_be_signed(body, AT).digest
    assert writer.to_be_signed(body, AT).digest != writer.to_be_signed(body, AT + timedelta(seconds=1)).digest


# ------------------------------------------------------------------- the European form


@pytest.mark.parametrize("kind", list(EvidenceKind))
def test_the_european_form_is_signed_with_the_second_version_and_holds(kind):
    body = erds_xml.write(full(kind))
    document = sign(body)
    found = open_signature(document)
    assert found.body == body
    assert holds(document)
    assert found.own
    assert found.rewritten() == document
    assert b"<xades:SigningCertificateV2>" in document
    assert found.issuer_serial is None
    assert b' xmlns:elp="http://eidas.europa.eu/attributes/legalperson" ' in document
    assert document.startswith(DECLARATION + erds_xml.ROOT_START)


def test_a_body_picks_its_form_unless_told_otherwise():
    kep, baseline = rem_xml.write(record()), erds_xml.write(full(EvidenceKind.DELIVERY))
    for profile, body, wanted in (
        (None, kep, b"<xades:SigningCertificate>"),
        (None, baseline, b"<xades:SigningCertificateV2>"),
        (Profile.KEP, kep, b"<xades:SigningCertificate>"),
        (Profile.REM_BASELINE, baseline, b"<xades:SigningCertificateV2>"),
        (Profile.KEP, baseline, b"<xades:SigningCertificate>"),
        (Profile.REM_BASELINE, kep, b"<xades:SigningCertificateV2>"),
    ):
        writer = XadesSigner(hs91().certificate, hs91().chain, profile=profile)
        draft = writer.to_be_signed(body, AT)
        assert wanted in draft.signed_properties
        assert draft.to_sign.decode() == draft.signed_info
        assert sha256(draft.to_sign).digest() == draft.digest


def _broken(document: bytes) -> bool:
    """Say whether anything a verifier of our own evidence looks at finds the change."""
    try:
        found = open_signature(document)
        good = holds(document) and found.own and found.rewritten() == document
    except XadesError:
        return True
    return not good


@pytest.mark.parametrize("kind", [EvidenceKind.SUBMISSION_ACCEPTANCE, EvidenceKind.RELAY_FAILURE])
def test_no_declaration_of_a_prefix_can_be_changed_although_no_digest_covers_it(kind):
    document = sign(erds_xml.write(full(kind)))
    assert not _broken(document)
    for found in re.finditer(rb'xmlns:elp="[^"]*"', document):
        for at in range(found.start(), found.end()):
            flipped = bytearray(document)
            flipped[at] ^= 1
            assert _broken(bytes(flipped)), at
    without = re.sub(rb' xmlns:elp="[^"]*"', b"", document)
    assert holds(without)  # exclusive C14N does not see it ...
    assert _broken(without)  # ... and byte identity does


@pytest.mark.slow
def test_every_flipped_byte_of_a_european_evidence_is_found():
    document = sign(erds_xml.write(full(EvidenceKind.SUBMISSION_ACCEPTANCE)))
    # The intermediates are no part of the signature; whoever builds the chain judges them.
    first = document.index(b"</ds:X509Certificate>")
    intermediates = range(first + len(b"</ds:X509Certificate>"), document.index(b"</ds:X509Data>"))
    for at in range(len(document)):
        if at in intermediates:
            continue
        flipped = bytearray(document)
        flipped[at] ^= 1 << (at % 7)
        assert _broken(bytes(flipped)), at


# ------------------------------------------------------------------- other writers

EXAMPLES = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "evidence"


@pytest.mark.shared
@pytest.mark.parametrize("folder", ["ts102640", "en319522"])
def test_example_signatures_of_another_writer_hold_and_break_with_the_subject(folder):
    """RSA, XAdES v1 and V2, Ids on SignatureValue, QNames in attribute values."""
    found = sorted((EXAMPLES / folder).glob("*.xml"))
    assert len(found) > 15
    for path in found:
        xml = path.read_bytes()
        assert holds(xml), path.name
        assert not open_signature(xml).own
        changed = xml.replace(b"Deneme iletisi", b"deneme iletisi")
        if changed != xml:
            assert not holds(changed), path.name


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (rb"<xades:SigningCertificate>.*</xades:SigningCertificate>", b""),
        (rb"<xades:Cert>.*</xades:Cert>", b""),
        (rb"<ds:X509Certificate>.*</ds:X509Certificate>", b""),
        (rb"<ds:Object>(<xades:Q.*</xades:QualifyingProperties>)</ds:Object>", rb"<ds:X>\1</ds:X>"),
        (rb"(<xades:SignatureTimeStamp>.*</xades:SignatureTimeStamp>)", rb"\1\1\1\1\1"),
        (
            rb"<xades:SignatureTimeStamp>(<ds:C.*</ds:C[^>]*>)(.*)</xades:SignatureTimeStamp>",
            rb"<xades:SignatureTimeStamp>\1\2</xades:SignatureTimeStamp><xades:SignatureTimeStamp>\2</xades:SignatureTimeStamp>",
        ),
        (rb"<ds:SignatureValue>", rb"<ds:SignatureValue><b></b>"),
        (rb"<ds:SignatureValue>", rb"<ds:SignatureValue>!"),
        (rb"<xades:CertDigest><ds:DigestMethod([^>]*)sha256", rb"<xades:CertDigest><ds:DigestMethod\1md5"),
        (rb"<xades:SigningTime>[^<]*", b"<xades:SigningTime>0001-01-01T00:00:00+14:00"),
    ],
)
def test_signatures_with_missing_or_doubled_parts_are_refused(old, new):
    changed = re.sub(old, new, XML, count=1, flags=re.DOTALL)
    assert changed != XML
    refused(changed)


def test_a_certificate_that_cannot_be_read_gives_no_signer():
    mine = base64.b64encode(hs91().certificate)
    junk = b"0\x03\x02\x01\x01"
    digest = base64.b64encode(sha256(hs91().certificate).digest())
    xml = XML.replace(mine, base64.b64encode(junk)).replace(digest, base64.b64encode(sha256(junk).digest()))
    found = open_signature(xml)
    with pytest.raises(XadesError):
        found.signing_certificate()
    assert found.rewritten() is None
    assert open_signature(re.sub(rb"<xades:SigningTime>.*</xades:SigningTime>", b"", XML)).rewritten() is None


def test_white_space_after_the_signature_belongs_to_the_document():
    end = b"</ds:Signature>"
    assert open_signature(XML.replace(end, end + b"\n ")).body.endswith(
        b"</SenderMessageDetails>\n </Delivery" + b"NonDeliveryToRecipient>"
    )
