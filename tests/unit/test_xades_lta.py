"""XAdES-B-LTA exports: what goes in, in which order, and that nothing else verifies."""

import asyncio
from base64 import b64decode, b64encode
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from hashlib import sha256
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from lxml import etree

from evidence.chain import TrustStore
from evidence.crl import check_crl
from evidence.ports import BytesSource, Stamping
from evidence.records import EvidenceKind, Party, Profile, SealedEvidence
from evidence.report import SubIndication, Verdict
from evidence.revocation import RevocationAnswer, RevocationStatus, check_ocsp, ocsp_request
from evidence.role import SealPolicy
from evidence.sealing import Sealer
from evidence.timestamps import read_token
from evidence.verify import verify_source
from evidence.verify_evidence import EvidenceCheck, check_evidence
from evidence.xades_lta import Values, assemble, open_archived, to_be_archived, with_stamp
from evidence.xades_verify import open_signature
from evidence.xml_canonical import XadesError
from kephs.ports import BlobMissingError
from kephs.testpki.issued import Issued
from kephs.usecases.export_evidence import Export, ExportEvidence, ExportFault, ExportUnavailableError
from tests.support.batches import LocalBatcher, batched
from tests.support.erds_samples import full
from tests.support.evidence_samples import AT, record
from tests.support.pki import make_pki, shared_pki
from tests.support.sealed import LATER, STAMPED, LocalTimestamper, foreign_xml, seal, signer_of, trust
from tests.support.world import Inline, LocalOcsp

DS = "{http://www.w3.org/2000/09/xmldsig#}"
XADES = "{http://uri.etsi.org/01903/v1.3.2#}"
XADES141 = "{http://uri.etsi.org/01903/v1.4.1#}"
YEAR = timedelta(days=365)


@dataclass
class Moving:
    """A clock that tests move."""

    at: datetime = LATER

    def now(self) -> datetime:
        return self.at


@dataclass
class Stamps:
    """Time stamps at the clock's time, by these authorities in turn; the last one goes on."""

    clock: Moving
    authorities: tuple[Issued | None, ...] = (None,)
    asked: int = 0

    async def stamp(self, digest: bytes) -> bytes:
        tsa = self.authorities[min(self.asked, len(self.authorities) - 1)]
        self.asked += 1
        return await LocalTimestamper(self.clock.now(), tsa).stamp(digest)


class Shelf:
    """A store with one evidence on it."""

    def __init__(self, evidence: SealedEvidence, **changes: object) -> None:
        self.xml = evidence.xml
        row = SimpleNamespace(unstamped=False, blob=b"x")
        vars(row).update(changes)
        evidence_id = evidence.record.evidence_id
        self.tx: Any = SimpleNamespace(
            evidence=SimpleNamespace(
                get=lambda wanted: row if wanted == evidence_id else None, ers=lambda _wanted: evidence.ers
            ),
            blobs=SimpleNamespace(get=lambda sha256: sha256),
        )

    async def read(self, work):
        return work(self.tx)

    def open(self, _blob) -> BytesSource:
        return BytesSource(self.xml)


def maker(evidence: SealedEvidence, clock: Moving | None = None, **options: Any) -> ExportEvidence:
    clock = clock or Moving()
    shelf = options.get("shelf") or Shelf(evidence)
    return ExportEvidence(
        store=shelf, blobs=shelf, timestamper=options.get("stamps") or Stamps(clock),
        revocation=options.get("revocation") or LocalOcsp(clock, trust()), trust=options.get("trust") or trust(),
        policy=SealPolicy(), offload=Inline(), clock=clock,
    )  # fmt: skip


def export(evidence: SealedEvidence, clock: Moving | None = None, **options: Any) -> Export:
    return asyncio.run(maker(evidence, clock, **options).export(evidence.record.evidence_id))


def fault(evidence: SealedEvidence, clock: Moving | None = None, **options: Any) -> ExportFault:
    with pytest.raises(ExportUnavailableError) as caught:
        export(evidence, clock, **options)
    return caught.value.fault


@cache
def small(profile: Profile = Profile.KEP, stamping: Stamping = Stamping.BATCH) -> SealedEvidence:
    item = record(EvidenceKind.SUBMISSION_ACCEPTANCE, recipients=(Party("k@hs91.kep.tr"),))
    return batched(item, profile=profile, stamping=stamping)[0]


@cache
def exported(profile: Profile = Profile.KEP, stamping: Stamping = Stamping.BATCH) -> Export:
    return export(small(profile, stamping))


def check(xml: bytes, at: datetime = LATER, ers: bytes | None = None, **options: Any) -> EvidenceCheck:
    return check_evidence(xml, options.get("trust") or trust(), at, ers=ers)


def steps(found: EvidenceCheck) -> dict[str, tuple[bool | None, str]]:
    return {step.number: (step.ok, step.detail) for step in found.report.steps}


def deciding(found: EvidenceCheck) -> tuple[Verdict, SubIndication | None, str | None]:
    step = found.report.failing_step
    return found.report.verdict, found.report.sub_indication, step.name if step else None


both = pytest.mark.parametrize("stamping", Stamping, ids=lambda one: one.value)
forms = pytest.mark.parametrize("profile", Profile, ids=lambda one: one.value)


# ------------------------------------------------------------------- what goes in


@forms
@both
def test_an_export_verifies_with_and_without_what_lies_beside_it(profile, stamping):
    made = exported(profile, stamping)
    for ers in {None, made.ers}:
        found = check(made.xml, ers=ers)
        assert found.passed, found.report.failing_step
        assert found.own
        assert found.archived_at == LATER
        assert all(step.ok for step in found.report.steps), steps(found)
        assert found.stamped_at == (STAMPED if ers or stamping is Stamping.OWN else LATER)


@forms
@both
def test_nothing_that_was_stored_changes(profile, stamping):
    stored, made = small(profile, stamping), exported(profile, stamping)
    archived = open_archived(made.xml)
    assert archived is not None
    inside = archived.stamped if stamping is Stamping.OWN else archived.unstamped
    assert inside == stored.xml
    assert (made.ers, made.evidence_id) == (stored.ers, stored.record.evidence_id)
    old, new = (open_signature(xml) for xml in (stored.xml, inside))
    assert (old.signed_info, old.value, old.body) == (new.signed_info, new.value, new.body)


@forms
@both
def test_the_imprint_is_what_the_standard_says_recomputed_from_the_parsed_document(profile, stamping):
    xml = exported(profile, stamping).xml
    assert sha256(octets(xml)).digest() == read_token(archive_token(xml)).info.imprint


def octets(xml: bytes) -> bytes:
    """Do EN 319 132-1 5.5.2.3 over the parsed document with lxml alone."""

    def c14n(element) -> bytes:
        return etree.tostring(element, method="c14n", exclusive=True)

    signature = etree.fromstring(xml).find(f"{DS}Signature")
    properties = signature.find(f".//{XADES}SignedProperties")
    without = etree.fromstring(xml)
    without.remove(without.find(f"{DS}Signature"))
    found = []
    for reference in signature.find(f"{DS}SignedInfo").findall(f"{DS}Reference"):  # step 3
        found.append({"": c14n(without), "#sp-1": c14n(properties)}[reference.get("URI")])
    found += [
        c14n(signature.find(DS + name)) for name in ("SignedInfo", "SignatureValue", "KeyInfo")
    ]  # step 4
    for element in signature.find(f".//{XADES}UnsignedSignatureProperties"):  # step 5
        if element.tag == f"{XADES141}ArchiveTimeStamp":
            break
        found.append(c14n(element))
    others = [
        one for one in signature.findall(f"{DS}Object") if one.find(f"{XADES}QualifyingProperties") is None
    ]
    return b"".join([*found, *map(c14n, others)])  # step 6


def archive_token(xml: bytes) -> bytes:
    archive = etree.fromstring(xml).find(f".//{XADES141}ArchiveTimeStamp")
    return b64decode(archive.find(f"{XADES}EncapsulatedTimeStamp").text)


def test_properties_stand_in_the_order_of_the_standard():
    found = etree.fromstring(exported().xml).find(f".//{XADES}UnsignedSignatureProperties")
    assert [one.tag for one in found] == [
        f"{XADES}SignatureTimeStamp", f"{XADES141}TimeStampValidationData", f"{XADES}CertificateValues",
        f"{XADES}RevocationValues", f"{XADES141}ArchiveTimeStamp",
    ]  # fmt: skip
    method = found[-1].find(f"{DS}CanonicalizationMethod")
    assert method.get("Algorithm") == "http://www.w3.org/2001/10/xml-exc-c14n#"


@forms
def test_values_of_the_signer_and_of_the_stamps_authority_stand_apart_and_nothing_twice(profile):
    archived = open_archived(exported(profile).xml)
    assert archived is not None
    values, others = archived.draft.values, archived.draft.stamp_values
    assert values.certificates == (shared_pki().root,)
    assert (len(values.ocsps), len(values.crls)) == (2, 0)  # the signer's and its issuer's
    assert others.certificates == ()  # token, KeyInfo and the values have all of them
    assert (len(others.ocsps), len(others.crls)) == (1, 0)  # the authority's own


@pytest.mark.parametrize("kind", list(EvidenceKind))
def test_every_kind_of_evidence_can_be_exported(kind):
    (evidence,) = batched(full(kind), profile=Profile.REM_BASELINE)
    assert check(export(evidence).xml).passed


def test_text_that_looks_like_markup_of_ours_does_no_harm():
    item = record()
    subject = 'x Id="sig-1" <xades141:ArchiveTimeStamp> </xades:UnsignedSignatureProperties> Id="a" Id="a"'
    (evidence,) = batched(replace(item, message=replace(item.message, subject=subject)))
    assert check(export(evidence).xml).passed


@pytest.mark.parametrize(("stamping", "asked"), [(Stamping.BATCH, 2), (Stamping.OWN, 1)])
def test_an_export_costs_as_few_stamps_as_it_can(stamping, asked):
    clock = Moving()
    stamps = Stamps(clock)
    export(small(stamping=stamping), clock, stamps=stamps)
    assert stamps.asked == asked


class Lists:
    """Issuers that answer with lists only."""

    def __init__(self, clock: Moving) -> None:
        self.clock = clock

    async def status(self, certificate, issuer, at):
        ca = "root" if certificate.extensions.is_ca else "p384"
        return check_crl(shared_pki().crl(ca, at), issuer, at=at, trust=trust()).answer(certificate, at)


def test_lists_go_in_as_lists_and_one_that_speaks_of_both_paths_stands_once():
    clock = Moving()
    made = export(small(), clock, revocation=Lists(clock))
    archived = open_archived(made.xml)
    assert archived is not None
    assert (len(archived.draft.values.crls), archived.draft.values.ocsps) == (2, ())
    assert archived.draft.stamp_values == Values()
    assert b"TimeStampValidationData" not in made.xml
    assert check(made.xml).passed


# ------------------------------------------------------------------- time goes on


def test_the_archive_stamp_keeps_a_stamp_alive_whose_authority_expired():
    ends = LATER + timedelta(days=1)
    clock = Moving()
    old = shared_pki().issue_tsa(not_after=ends)
    made = export(small(), clock, stamps=Stamps(clock, (old, None)))
    for late in (ends - timedelta(hours=1), ends + timedelta(hours=1), AT + 4 * YEAR):
        found = check(made.xml, late)
        assert found.passed, found.report.failing_step
    archived = open_archived(made.xml)
    assert archived is not None
    alone = check(archived.stamped, ends + timedelta(hours=1))
    assert deciding(alone) == (Verdict.INDETERMINATE, SubIndication.OUT_OF_BOUNDS_NO_POE, "time stamp")


def test_when_the_archive_stamps_authority_has_expired_too_nothing_is_proven():
    ends = LATER + timedelta(days=1)
    clock = Moving()
    made = export(small(), clock, stamps=Stamps(clock, (None, shared_pki().issue_tsa(not_after=ends))))
    assert check(made.xml, ends).passed
    gone = check(made.xml, ends + timedelta(seconds=1))
    assert deciding(gone) == (Verdict.INDETERMINATE, SubIndication.OUT_OF_BOUNDS_NO_POE, "archive time stamp")


def test_an_archive_stamp_made_after_the_first_authority_expired_proves_nothing():
    old = shared_pki().issue_tsa(not_after=STAMPED + timedelta(minutes=1))
    evidence = seal(record())
    by = Sealer(signer_of(shared_pki().transactions["hs91.kep.tr"]), LocalTimestamper(STAMPED, old))
    evidence = asyncio.run(by.seal(record()))
    assert check(evidence.xml, STAMPED).passed
    assert fault(evidence) is ExportFault.EVIDENCE_BROKEN  # it does not even verify itself now
    kept = replace(evidence, ers=asyncio.run(LocalBatcher().records([sha256(evidence.xml).digest()]))[0])
    assert check(kept.xml, ers=kept.ers).passed
    assert (
        fault(kept) is ExportFault.TOO_LATE
    )  # the record beside it covers the stamp, but nobody else reads it


def test_after_the_transaction_certificate_expired_only_the_record_proves_the_time():
    clock = Moving(AT + 4 * YEAR)
    evidence = small()
    assert check(evidence.xml, clock.at, ers=evidence.ers).passed
    revocation = Kept(LocalOcsp(Moving(), trust()))
    assert fault(evidence, clock, revocation=revocation) is ExportFault.TOO_LATE


@dataclass
class Kept:
    """Answers as of an earlier day."""

    then: LocalOcsp

    async def status(self, certificate, issuer, _at) -> RevocationAnswer | None:
        return await self.then.status(certificate, issuer, self.then.clock.now())


def test_a_later_record_over_the_whole_export_renews_it():
    ends = LATER + timedelta(days=1)
    clock = Moving()
    made = export(small(), clock, stamps=Stamps(clock, (None, shared_pki().issue_tsa(not_after=ends))))
    (ers,) = asyncio.run(LocalBatcher(LATER + timedelta(hours=1)).records([sha256(made.xml).digest()]))
    assert check(made.xml, ends + timedelta(days=1), ers=ers).passed


# ------------------------------------------------------------------- broken twins


@forms
def test_a_flip_of_any_sampled_byte_is_refused(profile):
    xml = exported(profile).xml
    for position in range(0, len(xml), 41):
        _refused(xml, position, 1)


@pytest.mark.slow
@forms
@both
def test_a_flip_of_any_byte_is_refused(profile, stamping):
    xml = exported(profile, stamping).xml
    for position in range(len(xml)):
        for flip in (0x01, 0x20):
            _refused(xml, position, flip)


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


# ------------------------------------------------------------------- what cannot be exported


def test_only_our_own_writers_evidence_is_added_to():
    xml = foreign_xml(record())
    assert fault(SealedEvidence(record(), xml)) is ExportFault.OTHER_WRITER
    with pytest.raises(XadesError):
        with_stamp(open_signature(xml), b"token")


def test_what_is_not_there_or_has_no_stamp_cannot_be_exported():
    evidence = small()
    with pytest.raises(ExportUnavailableError) as caught:
        asyncio.run(maker(evidence).export("nobody"))
    assert caught.value.fault is ExportFault.NO_SUCH_EVIDENCE
    bare = replace(evidence, ers=None)
    assert fault(bare, shelf=Shelf(bare, unstamped=True)) is ExportFault.EVIDENCE_UNSTAMPED
    with pytest.raises(BlobMissingError):
        export(evidence, shelf=Shelf(evidence, blob=None))


def test_a_broken_evidence_is_not_exported():
    evidence = small()
    broken = replace(evidence, xml=evidence.xml.replace(b"ayse", b"oyse"))
    assert fault(broken) is ExportFault.EVIDENCE_BROKEN
    assert fault(evidence, trust=TrustStore(())) is ExportFault.EVIDENCE_BROKEN


def test_without_an_issuers_word_there_is_no_export():
    clock = Moving()
    silent = LocalOcsp(clock, trust(), down=True)
    assert fault(small(), clock, revocation=silent) is ExportFault.REVOCATION_SILENT


@dataclass
class Lost(Kept):
    """Issuers that know nothing of anybody."""

    async def status(self, certificate, issuer, _at) -> RevocationAnswer | None:
        found = await super().status(certificate, issuer, _at)
        return found and replace(found, status=RevocationStatus.UNKNOWN)


def test_an_issuer_that_knows_nothing_counts_as_silent():
    assert fault(small(), revocation=Lost(LocalOcsp(Moving(), trust()))) is ExportFault.REVOCATION_SILENT


@dataclass
class Long(Kept):
    """Issuers whose answers are far too long."""

    async def status(self, certificate, issuer, _at) -> RevocationAnswer | None:
        found = await super().status(certificate, issuer, _at)
        return found and replace(found, der=found.der + bytes(1 << 20))


def test_an_export_too_long_to_be_read_is_not_made():
    assert fault(small(), revocation=Long(LocalOcsp(Moving(), trust()))) is ExportFault.TOO_LARGE


def test_a_certificate_revoked_before_the_fresh_stamp_can_only_be_proven_by_the_record():
    pki = make_pki()
    store = TrustStore((pki.root,))
    signer = pki.transactions["hs91.kep.tr"]
    by = Sealer(signer_of(signer), LocalTimestamper(STAMPED, pki.tsa), LocalBatcher(STAMPED, pki.tsa))
    (evidence,) = asyncio.run(by.seal_many((record(),)))
    pki.revoke(signer.serial, STAMPED + timedelta(minutes=5))
    clock = Moving()
    ocsp = Own(clock, pki, store)
    assert (
        fault(evidence, clock, trust=store, revocation=ocsp, stamps=Stamps(clock, (pki.tsa,)))
        is ExportFault.TOO_LATE
    )


@dataclass
class Own:
    """OCSP of a PKI of one's own."""

    clock: Moving
    pki: Any
    trust: TrustStore

    async def status(self, certificate, issuer, at) -> RevocationAnswer | None:
        ca = "root" if certificate.extensions.is_ca else "p384"
        answer = self.pki.ocsp_response(ocsp_request(certificate, issuer), at, ca=ca)
        return check_ocsp(answer, certificate, issuer, at=at, trust=self.trust)


def test_kephs_verify_reads_an_export_and_the_record_beside_it():
    made = exported()
    assert made.ers is not None
    beside = {".ers": BytesSource(made.ers)}
    report = verify_source(BytesSource(made.xml), trust(), LATER, beside=beside.get)
    assert report.passed
    assert report.facts["archived_at"] == "2026-11-21T09:30:00.000Z"
    assert [part.subject for part in report.parts] == ["time stamp", "evidence record", "time stamp"]
