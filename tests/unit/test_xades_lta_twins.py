"""Broken twins of XAdES-B-LTA exports: nothing but what the writer makes verifies."""

import asyncio
from base64 import b64encode
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from evidence.model.records import Profile
from evidence.report import SubIndication, Verdict
from evidence.stamps.timestamps import read_token
from evidence.verify.evidence import check_evidence
from evidence.x509.chain import TrustStore
from evidence.xades.lta import Values, assemble, open_archived, to_be_archived
from kephs.testpki.issued import Issued
from tests.support.batches import batched
from tests.support.evidence_samples import record
from tests.support.exports import (
    archive_token,
    both,
    check,
    deciding,
    export,
    exported,
    forms,
    small,
    steps,
)
from tests.support.pki import make_pki, shared_pki
from tests.support.sealed import LATER, LocalTimestamper

# ------------------------------------------------------------------- broken twins


@forms
def test_a_flip_of_any_sampled_byte_is_refused(profile):
    xml = exported(profile).xml
    for position in range(0, len(xml), 41):
        _refused(xml, position, 1)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_a_flip_of_any_byte_is_refused(part):
    xml = exported().xml
    for position in range(part, len(xml), 4):
        _refused(xml, position, (0x01, 0x20)[position // 4 % 2])


@both
def test_a_flip_of_any_byte_of_the_archive_stamps_frame_is_refused(stamping):
    """What the archive stamp does not cover: its own element, and the first and last bytes of its token."""
    xml = exported(Profile.REM_BASELINE, stamping).xml
    start = xml.index(b"<xades141:ArchiveTimeStamp")
    end = xml.index(b"</xades141:ArchiveTimeStamp")
    for position in (*range(start, start + 320), *range(end - 120, len(xml))):
        _refused(xml, position, 1)


def _refused(xml: bytes, position: int, flip: int) -> None:
    changed = bytearray(xml)
    changed[position] ^= flip
    assert not check(bytes(changed)).passed, (position, flip)


def element(xml: bytes, name: str) -> bytes:
    start, end = xml.rindex(f"<{name}".encode()), xml.rindex(f"</{name}>".encode()) + len(name) + 3
    return xml[start:end]


PROPERTIES = (
    "xades:SignatureTimeStamp", "xades141:TimeStampValidationData", "xades:CertificateValues",
    "xades:RevocationValues", "xades141:ArchiveTimeStamp",
)  # fmt: skip


@pytest.mark.parametrize("sealed", [small, exported], ids=["stored", "exported"])
def test_a_certificate_of_no_version_put_before_the_signers_is_refused(sealed):
    xml = sealed().xml
    broken = bytearray(shared_pki().transactions["hs91.kep.tr"].certificate)
    broken[broken.index(b"\xa0\x03\x02\x01\x02") + 4] = 9
    more = b"<ds:X509Certificate>" + b64encode(broken) + b"</ds:X509Certificate>"
    assert not check(xml.replace(b"<ds:X509Data>", b"<ds:X509Data>" + more)).passed


@pytest.mark.parametrize("name", PROPERTIES)
def test_without_one_of_the_properties_it_is_refused(name):
    xml = exported().xml
    start = xml.index(b"<xades:UnsignedSignatureProperties>")
    removed = xml[:start] + xml[start:].replace(element(xml, name), b"")
    assert len(removed) < len(xml)
    assert not check(removed).passed


@pytest.mark.parametrize("name", PROPERTIES)
def test_with_one_of_the_properties_twice_it_is_refused(name):
    xml = exported().xml
    found = element(xml, name)
    assert not check(xml.replace(found, found + found)).passed


@pytest.mark.parametrize(("first", "second"), list(pairwise(PROPERTIES)))
def test_in_another_order_it_is_refused(first, second):
    xml = exported().xml
    one, two = element(xml, first), element(xml, second)
    assert one + two in xml
    assert not check(xml.replace(one + two, two + one)).passed


def again(xml: bytes, *, at: datetime = LATER, tsa: Issued | None = None, **changes: Any) -> bytes:
    """Stamp an export anew, with other values in it: what somebody with a time stamp of his own can make."""
    archived = open_archived(xml)
    assert archived is not None
    draft = archived.draft
    draft = to_be_archived(
        changes.get("signature", draft.signature), changes.get("values", draft.values),
        changes.get("stamp_values", draft.stamp_values),
    )  # fmt: skip
    return assemble(draft, asyncio.run(LocalTimestamper(at, tsa).stamp(draft.imprint)))


def parts(xml: bytes) -> tuple[Values, Values]:
    archived = open_archived(xml)
    assert archived is not None
    return archived.draft.values, archived.draft.stamp_values


def test_the_same_values_stamped_anew_pass():
    assert check(again(exported().xml)).passed


TWINS = (
    "no root", "another certificate", "one certificate more", "a certificate for the stamp",
    "junk for revocation", "a list of nobody's", "the stamp's among the signer's",
    "the signer's among the stamp's", "one answer twice",
)  # fmt: skip


def value_twin(which: str) -> dict[str, Values]:
    values, others = parts(exported().xml)
    stranger = shared_pki().transactions["hs92.kep.tr"].certificate
    return {
        "no root": {"values": replace(values, certificates=())},
        "another certificate": {"values": replace(values, certificates=(stranger,))},
        "one certificate more": {"values": replace(values, certificates=(*values.certificates, stranger))},
        "a certificate for the stamp": {"stamp_values": replace(others, certificates=(stranger,))},
        "junk for revocation": {"values": replace(values, ocsps=(*values.ocsps, b"junk"))},
        "a list of nobody's": {"values": replace(values, crls=(shared_pki().crl("pss", LATER),))},
        "the stamp's among the signer's": {"values": replace(values, ocsps=(*values.ocsps, *others.ocsps))},
        "the signer's among the stamp's": {"stamp_values": replace(others, ocsps=values.ocsps[:1])},
        "one answer twice": {"values": replace(values, ocsps=(*values.ocsps, values.ocsps[0]))},
    }[which]


@pytest.mark.parametrize("twin", TWINS)
def test_values_that_do_not_belong_there_are_refused_though_an_archive_stamp_covers_them(twin):
    found = check(again(exported().xml, **value_twin(twin)))
    assert deciding(found)[0::2] == (Verdict.FAILED, "archived material")


def test_without_an_answer_on_the_signer_it_is_undecided():
    values, _ = parts(exported().xml)
    found = check(again(exported().xml, values=replace(values, ocsps=values.ocsps[1:])))
    assert deciding(found) == (Verdict.INDETERMINATE, SubIndication.TRY_LATER, "revocation")


def test_without_an_answer_on_the_stamps_authority_it_is_undecided():
    found = check(again(exported().xml, stamp_values=Values()))
    assert deciding(found) == (Verdict.INDETERMINATE, SubIndication.TRY_LATER, "revocation")


def test_without_an_answer_on_the_issuer_that_is_noted():
    values, _ = parts(exported().xml)
    found = check(again(exported().xml, values=replace(values, ocsps=values.ocsps[:1])))
    assert found.passed
    assert steps(found)["8.3"][0] is None


def test_the_archive_stamp_of_another_export_is_refused():
    xml = exported().xml
    other = export(batched(record(evidence_id="other@hs91.kep.tr"))[0]).xml
    swapped = xml.replace(b64encode(archive_token(xml)), b64encode(archive_token(other)))
    assert deciding(check(swapped)) == (Verdict.FAILED, SubIndication.HASH_FAILURE, "archive time stamp")


def test_the_stamp_over_the_signature_is_no_archive_stamp():
    xml = exported().xml
    archived = open_archived(xml)
    assert archived is not None
    swapped = xml.replace(b64encode(archived.token), b64encode(archived.signature.tokens[0]))
    assert deciding(check(swapped)) == (Verdict.FAILED, SubIndication.HASH_FAILURE, "archive time stamp")


def test_an_archive_stamp_of_an_authority_nobody_trusts_is_undecided():
    found = check(again(exported().xml, tsa=make_pki().tsa))
    assert deciding(found)[0::2] == (Verdict.INDETERMINATE, "archive time stamp")
    assert found.archived_at is None


def test_an_archive_stamp_older_than_the_stamp_it_covers_contradicts_it():
    found = check(again(exported().xml, at=LATER - timedelta(minutes=5)))
    assert deciding(found) == (Verdict.INDETERMINATE, SubIndication.TIMESTAMP_ORDER_FAILURE, "time stamp")


def test_a_certificate_put_into_the_archive_token_is_refused():
    xml = exported().xml
    token = archive_token(xml)
    other = shared_pki().transactions["hs92.kep.tr"].certificate
    read = read_token(token)
    assert other not in read.signed.certificates
    first = read.signed.certificates[0]
    assert not check(xml.replace(b64encode(token), b64encode(token.replace(first, other)))).passed


@pytest.mark.parametrize("store", [None, TrustStore(())])
def test_without_trust_nothing_is_proven(store):
    assert check_evidence(exported().xml, store, LATER).report.verdict is Verdict.INDETERMINATE


def test_a_record_of_another_evidence_beside_an_export_fails_it():
    other = batched(record(evidence_id="other@hs91.kep.tr"))[0]
    found = check(exported().xml, ers=other.ers)
    assert deciding(found)[0::2] == (Verdict.FAILED, "time stamp")


def test_what_another_writer_archived_is_not_taken_for_ours():
    xml = exported().xml
    foreign = xml.replace(b"kephs-evidence-1", b"somebody's own 1")
    assert open_archived(foreign) is None
    assert not check(foreign).passed


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<xades:CertificateValues>", b'<xades:CertificateValues Id="a">'),
        (b"</xades:CertificateValues>", b"<xades:OtherCertificate></xades:OtherCertificate></xades:CertificateValues>"),
        (b"</xades:RevocationValues>", b"<xades:OtherValues></xades:OtherValues></xades:RevocationValues>"),
        (b"<xades141:ArchiveTimeStamp", b"\n<xades141:ArchiveTimeStamp"),
        (b"<xades141:ArchiveTimeStamp", b"<xades141:RenewedDigestsV2/><xades141:ArchiveTimeStamp"),
        (b"</xades141:ArchiveTimeStamp>", b"</xades141:ArchiveTimeStamp><!-- -->"),
        (b"</ds:Object>", b"</ds:Object><ds:Object></ds:Object>"),
        (b"</xades:UnsignedProperties>", b"<xades:UnsignedDataObjectProperties/></xades:UnsignedProperties>"),
    ],
)  # fmt: skip
def test_anything_beside_the_one_shape_is_refused(old, new):
    xml = exported().xml
    changed = xml.replace(old, new, 1)
    assert changed != xml
    assert open_archived(changed) is None
    assert not check(changed).passed


def test_more_values_than_anybody_needs_are_not_read():
    values, _ = parts(exported().xml)
    many = replace(values, ocsps=tuple(b"%d" % number for number in range(65)))
    assert not check(again(exported().xml, values=many)).passed
