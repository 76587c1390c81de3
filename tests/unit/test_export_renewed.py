"""An export after rounds of renewal: the renewed record goes along, and what issuers said while they still did."""

import asyncio
from datetime import timedelta
from hashlib import sha256
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from evidence.ports import Stamping
from evidence.stamps.ers import HashTree, encode_record
from evidence.x509.certificates import certificate_facts
from evidence.x509.role import SealPolicy
from kephs.ports.objects import ObjectUnavailableError
from kephs.usecases.archive.archived_proof import ArchivedProof, RenewedProofs
from kephs.usecases.proof.export_evidence import Export, ExportEvidence, ExportFault, ExportUnavailableError
from tests.support.exports import Moving, Shelf, Stamps, check, small
from tests.support.pki import shared_pki
from tests.support.sealed import LATER, trust
from tests.support.world import Inline, LocalOcsp

NUMBER = 7


class Rounds:
    """What the archive has about the one evidence."""

    def __init__(self, proof: ArchivedProof | Exception) -> None:
        self._proof = proof

    async def of(self, number: int, xml: bytes, ers: bytes | None) -> ArchivedProof:
        assert number == NUMBER
        assert xml
        if isinstance(self._proof, Exception):
            raise self._proof
        return self._proof


class Silent:
    """Issuers that are gone."""

    async def status(self, certificate: Any, issuer: Any, at: Any) -> None:
        return None


async def collected() -> dict[str, bytes]:
    """Return what issuers said of the provider's certificate, the authority's and their issuers a minute later."""
    pki, ocsp = shared_pki(), LocalOcsp(Moving(LATER), trust())  # type: ignore[arg-type]
    found = {}
    for issued in (pki.transactions["hs91.kep.tr"], pki.tsa):
        path = [certificate_facts(der) for der in (issued.certificate, *issued.chain, pki.root)]
        for certificate, issuer in pairwise(path):
            answer = await ocsp.status(certificate, issuer, LATER)
            found[f"{certificate.sha256.hex()[:16]}.ocsp"] = answer.der
    return found


def exporting(
    stamping: Stamping, renewed: RenewedProofs | None, *, clock: Moving | None = None, silent: bool = False
) -> Export:
    clock = clock or Moving()
    evidence = small(stamping=stamping)
    shelf: Any = Shelf(evidence)
    shelf.tx.evidence.ledger_of = lambda _wanted: SimpleNamespace(number=NUMBER)
    work = ExportEvidence(
        store=shelf, blobs=shelf, timestamper=Stamps(clock),
        revocation=Silent() if silent else LocalOcsp(clock, trust()),  # type: ignore[arg-type]
        trust=trust(), policy=SealPolicy(), offload=Inline(), clock=clock, renewed=renewed,
    )  # fmt: skip
    return asyncio.run(work.export(evidence.record.evidence_id))


def fault(*arguments: Any, **options: Any) -> ExportFault:
    with pytest.raises(ExportUnavailableError) as caught:
        exporting(*arguments, **options)
    return caught.value.fault


def test_the_record_that_goes_along_is_the_one_of_today() -> None:
    evidence = small(stamping=Stamping.OWN)
    tree = HashTree([sha256(evidence.xml).digest(), bytes(32)])
    record = encode_record(tree.path(0), asyncio.run(Stamps(Moving()).stamp(tree.root)))
    made = exporting(Stamping.OWN, Rounds(ArchivedProof(record, rounds=1)))
    assert made.ers == record
    assert check(made.xml, ers=made.ers).passed
    assert exporting(Stamping.OWN, None).ers is None


def test_what_the_archive_heard_goes_in_where_issuers_are_silent_by_now() -> None:
    heard = Rounds(ArchivedProof(None, asyncio.run(collected()), rounds=1))
    made = exporting(Stamping.OWN, heard, silent=True)
    assert check(made.xml).passed
    nothing = Rounds(ArchivedProof(None, rounds=1))
    assert fault(Stamping.OWN, nothing, silent=True) is ExportFault.REVOCATION_SILENT


def test_what_was_heard_before_a_fresh_stamp_does_not_do() -> None:
    heard = Rounds(ArchivedProof(small(stamping=Stamping.BATCH).ers, asyncio.run(collected()), rounds=1))
    later = Moving(LATER + timedelta(days=100))
    assert fault(Stamping.BATCH, heard, silent=True, clock=later) is ExportFault.REVOCATION_SILENT


def test_an_archive_that_does_not_answer_makes_no_export() -> None:
    silent = Rounds(ObjectUnavailableError("503"))
    assert fault(Stamping.BATCH, silent) is ExportFault.ARCHIVE_SILENT
