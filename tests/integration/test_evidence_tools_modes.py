"""Every way of sealing, in every form, under every kind of key: strangers accept it, and no flipped byte of it.

The matrix is mode by profile by key. Whatever proof of time an evidence has, inside or beside, is asked about;
a further mode joins `MODES` with whoever seals in it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256

import pytest
from asn1crypto import cms as asn1_cms
from lxml import etree

from evidence.mail.kep_message import parse_kep_message
from evidence.model.records import EvidenceKind, Issuer, Profile, SealedEvidence
from evidence.ports import BytesSource, Stamping
from evidence.seal.sealing import Sealer
from evidence.stamps.ers import split_record
from evidence.verify.evidence import verify_evidence
from evidence.verify.message import verify_kep_message
from evidence.xades.check import open_signature
from evidence.xades.signing import DECLARATION
from kephs.testpki import profiles
from kephs.testpki.issued import Issued
from tests.support.batches import batch_sealer, batched
from tests.support.erds_samples import full
from tests.support.evidence_samples import HS91
from tests.support.pki import shared_pki
from tests.support.sealed import (
    HS92,
    LATER,
    ORIGINAL,
    STAMPED,
    LocalTimestamper,
    dispatch,
    ocsp_files,
    receipt,
    signer_of,
    trust,
)
from tests.support.strangers import (
    Anchors,
    openssl_cms,
    openssl_ts,
    pyhanko_cms,
    pyhanko_token,
    record_stamps,
    rfc3161,
    signxml,
    xmlsec1,
)

pytestmark = pytest.mark.tools
MODES = tuple(Stamping)
PLACES = 12  # flipped bytes in each signed range


@dataclass(frozen=True)
class Key:
    """A transaction certificate and the provider it belongs to."""

    issuer: Issuer
    issued: Issued

    def sealer(self) -> Sealer:
        return batch_sealer(issued=self.issued)

    def ocsps(self) -> list[bytes]:
        return [file.content for file in ocsp_files([self.issued, shared_pki().tsa])]


@cache
def key_of(name: str) -> Key:
    pki = shared_pki()
    if name == "p256-under-p384":
        return Key(HS91, pki.transactions["hs91.kep.tr"])
    if name == "p256-under-rsa-pss":
        return Key(HS92, pki.transactions["hs92.kep.tr"])
    subject = profiles.name(common_name="TEST RSA Islem Sertifikasi", organization=HS91.name)
    extensions = profiles.transaction_extensions("hs91.kep.tr", HS91.address)
    return Key(HS91, pki.issue(subject, extensions, authority=pki.authorities["p384"], key="rsa2048"))


KEYS = ("p256-under-p384", "p256-under-rsa-pss", "rsa2048-under-p384")
CASES = [
    pytest.param(mode, profile, key, id=f"{mode.value}-{profile.value}-{key}")
    for mode in MODES
    for profile in Profile
    for key in KEYS
]
every_way = pytest.mark.parametrize(("mode", "profile", "key"), CASES)


@cache
def sealed(mode: Stamping, profile: Profile, key: str, kind: EvidenceKind) -> SealedEvidence:
    found = key_of(key)
    item = full(kind, issuer=found.issuer)
    item = replace(item, message=replace(item.message, digest_sha256=sha256(ORIGINAL).digest()))
    (made,) = batched(item, profile=profile, stamping=mode, by=found.sealer())
    return made


@pytest.fixture(scope="module")
def anchors(tmp_path_factory) -> Anchors:
    return Anchors.of(shared_pki(), tmp_path_factory.mktemp("anchors"))


def tokens_of(evidence: SealedEvidence) -> list[tuple[bytes, bytes]]:
    """Return every token that proves the time of an evidence, with the digest it must be about."""
    signature = open_signature(evidence.xml)
    inside = [(token, sha256(signature.stamped).digest()) for token in signature.tokens]
    beside = [] if evidence.ers is None else record_stamps(evidence.ers, evidence.xml)
    return [*inside, *((stamp.token, stamp.root) for stamp in beside)]


# --------------------------------------------------------------------------- evidence


@every_way
def test_xmlsec1_signxml_and_we_accept_the_signature(mode, profile, key, anchors, tmp_path):
    evidence = sealed(mode, profile, key, EvidenceKind.DELIVERY)
    assert xmlsec1(evidence.xml, anchors, tmp_path)
    assert signxml(evidence.xml, key_of(key).issued.x509)
    report = verify_evidence(evidence.xml, trust(), LATER, ers=evidence.ers)
    assert report.passed, report.failing_step


@every_way
def test_openssl_rfc3161_client_and_pyhanko_accept_every_token(mode, profile, key, anchors, tmp_path):
    evidence = sealed(mode, profile, key, EvidenceKind.DELIVERY)
    assert (evidence.ers is not None) == (mode is Stamping.BATCH)
    found = tokens_of(evidence)
    assert len(found) == 1
    for token, digest in found:
        assert openssl_ts(token, digest, anchors, tmp_path)
        assert rfc3161(token, digest, anchors)
        assert pyhanko_token(token, digest, anchors, key_of(key).ocsps())


@every_way
def test_xmlsec1_and_signxml_refuse_a_flipped_byte_in_all_that_is_signed(
    mode, profile, key, anchors, tmp_path
):
    evidence = sealed(mode, profile, key, EvidenceKind.DELIVERY)
    for changed in flipped(evidence.xml, *signed_ranges(evidence.xml), places=PLACES):
        assert not signxml(changed, key_of(key).issued.x509) or unread(changed, evidence.xml)
        assert not verify_evidence(changed, trust(), LATER, ers=evidence.ers).passed
    for changed in flipped(evidence.xml, *signed_ranges(evidence.xml), places=2):
        assert not xmlsec1(changed, anchors, tmp_path) or unread(changed, evidence.xml)


def unread(changed: bytes, xml: bytes) -> bool:
    """Say whether only a declaration was changed that canonical XML drops: to these tools it is the same."""
    forms = (etree.tostring(etree.fromstring(one), method="c14n", exclusive=True) for one in (changed, xml))
    return bool(next(forms) == next(forms))


@every_way
def test_openssl_rfc3161_client_and_pyhanko_refuse_a_flipped_byte_in_all_that_a_token_signs(
    mode, profile, key, anchors, tmp_path
):
    ((token, digest),) = tokens_of(sealed(mode, profile, key, EvidenceKind.DELIVERY))
    ranges = token_ranges(token)
    for changed in flipped(token, *ranges, places=PLACES):
        assert not rfc3161(changed, digest, anchors)
    for changed in flipped(token, *ranges, places=2):
        assert not openssl_ts(changed, digest, anchors, tmp_path)
        assert not pyhanko_token(changed, digest, anchors, key_of(key).ocsps())
    other = bytes((digest[0] ^ 1, *digest[1:]))
    assert not openssl_ts(token, other, anchors, tmp_path)
    assert not rfc3161(token, other, anchors)
    assert not pyhanko_token(token, other, anchors, key_of(key).ocsps())


# --------------------------------------------------------------------------- evidence records


@pytest.mark.parametrize("profile", Profile, ids=lambda one: one.value)
def test_a_stranger_refuses_every_flipped_bit_of_a_records_path(profile, anchors):
    evidence = sealed(Stamping.BATCH, profile, KEYS[0], EvidenceKind.DELIVERY)
    assert evidence.ers is not None
    head, _ = split_record(evidence.ers)
    for place in range(8 * len(head)):
        changed = bytearray(evidence.ers)
        changed[place // 8] ^= 1 << place % 8
        stamps = record_stamps(bytes(changed), evidence.xml)
        assert not any(rfc3161(stamp.token, stamp.root, anchors) for stamp in stamps), place


def test_a_stranger_refuses_the_record_of_another_evidence_of_the_batch(anchors):
    items = [full(EvidenceKind.DELIVERY, refers_to=number) for number in (1, 2)]
    one, two = batched(*items, by=key_of(KEYS[0]).sealer())
    assert one.xml != two.xml
    for evidence, ers in ((one, one.ers), (two, two.ers)):
        (stamp,) = record_stamps(ers, evidence.xml)
        assert rfc3161(stamp.token, stamp.root, anchors)
    third = sealed(Stamping.BATCH, Profile.KEP, KEYS[0], EvidenceKind.RETRIEVAL)
    assert record_stamps(one.ers, third.xml) == []
    assert record_stamps(third.ers, one.xml) == []


# --------------------------------------------------------------------------- KEP messages


def message_of(mode: Stamping, profile: Profile, key: str, *, whole: bool) -> bytes:
    """Return a dispatch (``whole``) or a receipt with evidence of this kind inside."""
    found = key_of(key)
    if whole:
        return dispatch(sealed(mode, profile, key, EvidenceKind.SUBMISSION_ACCEPTANCE), by=found.sealer())
    evidence = sealed(mode, profile, key, EvidenceKind.DELIVERY)
    return receipt(evidence, by=found.sealer(), service=found.issuer.address)


def taken_apart(message: bytes) -> tuple[bytes, bytes]:
    """Return the signature of a message and the digest of what it signs."""
    source = BytesSource(message)
    found = parse_kep_message(source)
    entity = source.read(found.signed_entity.start, found.signed_entity.length)
    return found.p7s, sha256(entity).digest()


@every_way
@pytest.mark.parametrize("whole", [True, False], ids=["dispatch", "receipt"])
def test_openssl_and_pyhanko_accept_a_message_and_its_stamp(mode, profile, key, whole, anchors):
    message = message_of(mode, profile, key, whole=whole)
    assert openssl_cms(message, anchors)
    p7s, digest = taken_apart(message)
    assert pyhanko_cms(p7s, digest, anchors, key_of(key).ocsps()) == STAMPED
    report = verify_kep_message(BytesSource(message), trust(), LATER)
    assert report.passed, report.failing_step


@pytest.mark.parametrize("profile", Profile, ids=lambda one: one.value)
@pytest.mark.parametrize("key", KEYS)
def test_openssl_and_pyhanko_refuse_a_flipped_byte_of_a_message(profile, key, anchors):
    message = message_of(Stamping.BATCH, profile, key, whole=True)
    found = parse_kep_message(BytesSource(message))
    for changed in flipped(message, found.signed_entity, places=PLACES):
        assert not openssl_cms(changed, anchors)
    p7s, digest = taken_apart(message)
    ocsps = key_of(key).ocsps()
    for changed in flipped(p7s, *signer_ranges(p7s), places=3):
        assert pyhanko_cms(changed, digest, anchors, ocsps) is None
    assert pyhanko_cms(p7s, sha256(digest).digest(), anchors, ocsps) is None


class Astray(LocalTimestamper):
    """Gives good tokens over other digests than it was asked for."""

    async def stamp(self, digest: bytes) -> bytes:
        return await super().stamp(sha256(digest).digest())


def test_pyhanko_refuses_to_date_a_message_by_the_stamp_of_another(anchors):
    key = key_of(KEYS[0])
    evidence = sealed(Stamping.BATCH, Profile.KEP, KEYS[0], EvidenceKind.DELIVERY)
    message = receipt(evidence, by=Sealer(signer_of(key.issued), Astray()))
    p7s, digest = taken_apart(message)
    assert openssl_cms(message, anchors)  # it does not look at stamps
    assert pyhanko_cms(p7s, digest, anchors, key.ocsps()) != STAMPED
    assert not verify_kep_message(BytesSource(message), trust(), LATER).passed


# --------------------------------------------------------------------------- where bytes are flipped


def flipped(data: bytes, *ranges: tuple[int, int], places: int) -> Iterator[bytes]:
    """Yield the data with one byte changed, at so many places spread over each range."""
    for start, end in ranges:
        for place in range(start, end, max(1, (end - start) // places)):
            changed = bytearray(data)
            changed[place] ^= 1
            yield bytes(changed)


def signed_ranges(xml: bytes) -> list[tuple[int, int]]:
    """Return what a signature covers: the body, SignedInfo, SignedProperties, and the value itself."""
    end_of_value = xml.index(b"</ds:SignatureValue>")
    return [
        (len(DECLARATION), xml.index(b"<ds:Signature")),
        (xml.index(b"<ds:SignedInfo"), xml.index(b"</ds:SignedInfo>")),
        (xml.index(b"<ds:SignatureValue") + 20, end_of_value - 4),  # the last digits have bits to spare
        (xml.index(b"<xades:SignedProperties"), xml.index(b"</xades:SignedProperties>")),
    ]


def signer_ranges(content_info: bytes) -> list[tuple[int, int]]:
    """Return the signed attributes and the signature of the one signer of a SignedData."""
    (signer,) = asn1_cms.ContentInfo.load(content_info)["content"]["signer_infos"]
    parts = signer["signed_attrs"].contents, signer["signature"].contents
    places = [content_info.rindex(part) for part in parts]
    return [(place, place + len(part)) for place, part in zip(places, parts, strict=True)]


def token_ranges(token: bytes) -> list[tuple[int, int]]:
    """Return what the signature of a token covers: TSTInfo, the signed attributes, and the value itself."""
    content = asn1_cms.ContentInfo.load(token)["content"]["encap_content_info"]["content"].contents
    start = token.index(content)
    return [(start, start + len(content)), *signer_ranges(token)]
