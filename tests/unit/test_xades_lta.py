"""XAdES-B-LTA exports: what goes in, in which order, how long it holds, and what cannot be exported."""

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from lxml import etree

from evidence.model.records import EvidenceKind, Profile, SealedEvidence
from evidence.ports import BytesSource, Stamping
from evidence.report import SubIndication, Verdict
from evidence.seal.sealing import Sealer
from evidence.stamps.timestamps import read_token
from evidence.verify.files import verify_source
from evidence.x509.chain import TrustStore
from evidence.x509.crl import check_crl
from evidence.x509.revocation import RevocationAnswer, RevocationStatus, check_ocsp, ocsp_request
from evidence.xades.check import open_signature
from evidence.xades.lta import Values, open_archived, with_stamp
from evidence.xml.canonical import XadesError
from kephs.ports import BlobMissingError
from kephs.usecases.proof.export_evidence import ExportFault, ExportUnavailableError
from tests.support.batches import LocalBatcher, batched
from tests.support.erds_samples import full
from tests.support.evidence_samples import AT, record
from tests.support.exports import (
    DS,
    XADES,
    XADES141,
    YEAR,
    Kept,
    Moving,
    Shelf,
    Stamps,
    archive_token,
    both,
    check,
    deciding,
    export,
    exported,
    fault,
    forms,
    maker,
    octets,
    small,
    steps,
)
from tests.support.pki import make_pki, shared_pki
from tests.support.sealed import LATER, STAMPED, LocalTimestamper, foreign_xml, seal, signer_of, trust
from tests.support.world import LocalOcsp

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


def test_a_later_record_over_the_whole_export_renews_it():
    ends = LATER + timedelta(days=1)
    clock = Moving()
    made = export(small(), clock, stamps=Stamps(clock, (None, shared_pki().issue_tsa(not_after=ends))))
    (ers,) = asyncio.run(LocalBatcher(LATER + timedelta(hours=1)).records([sha256(made.xml).digest()]))
    assert check(made.xml, ends + timedelta(days=1), ers=ers).passed


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
