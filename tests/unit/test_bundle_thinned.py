"""Of hundreds of answers on the same certificates a bundle brings some: the newest always, and never too many."""

from datetime import datetime, timedelta

import pytest

from evidence.bundle.making import RevocationFile
from evidence.x509.certificates import certificate_facts
from evidence.x509.offline import OfflineRevocation
from evidence.x509.revocation import parse_ocsp
from kephs.testpki.issued import Issued
from kephs.usecases.proof.thinned import MOST, thinned
from tests.support.pki import NOW, shared_pki
from tests.support.sealed import trust
from tests.support.world import Clock, LocalOcsp

DAY = timedelta(days=1)


async def answers(issued: Issued, count: int) -> list[RevocationFile]:
    """Return what was said of a certificate day after day."""
    clock = Clock()
    ocsp = LocalOcsp(clock, trust())
    certificate, issuer = certificate_facts(issued.certificate), certificate_facts(issued.chain[0])
    found = []
    for day in range(count):
        clock.at = NOW + day * DAY
        answer = await ocsp.status(certificate, issuer, clock.at)
        found.append(RevocationFile(f"{certificate.sha256.hex()[:8]}-{day:03d}.ocsp", answer.der))
    return found


def made(files: list[RevocationFile]) -> list[datetime]:
    return sorted(parse_ocsp(file.content).produced_at for file in files)


@pytest.fixture
async def two() -> tuple[list[RevocationFile], list[RevocationFile]]:
    pki = shared_pki()
    return await answers(pki.transactions["hs91.kep.tr"], 90), await answers(pki.tsa, 60)


async def test_few_are_all_kept(two: tuple[list[RevocationFile], list[RevocationFile]]) -> None:
    files = [*two[0][:MOST], *two[1][: MOST - len(two[0][:MOST])]]
    assert len(files) == MOST
    assert thinned(files) == files


async def test_of_many_the_newest_and_the_first_about_each_certificate_are_kept(
    two: tuple[list[RevocationFile], list[RevocationFile]],
) -> None:
    kept = thinned([*two[0], *two[1]])
    assert len(kept) == 32
    for files in two:
        mine = [file for file in kept if file in files]
        assert made(mine)[0] == made(files)[0]
        assert made(mine)[-1] == made(files)[-1]
        steps = {(later - earlier).days for earlier, later in zip(made(mine), made(mine)[1:], strict=False)}
        assert max(steps) - min(steps) <= 1, "spread evenly"


async def test_what_is_left_still_speaks_of_every_day(
    two: tuple[list[RevocationFile], list[RevocationFile]],
) -> None:
    issued = shared_pki().transactions["hs91.kep.tr"]
    certificate, issuer = certificate_facts(issued.certificate), certificate_facts(issued.chain[0])
    known = OfflineRevocation([file.content for file in thinned([*two[0], *two[1]], most=2)], [])
    for day in range(90):
        assert known.answer(certificate, issuer, trust(), NOW + day * DAY) is not None


@pytest.mark.parametrize("most", [1, 2, 3, 31, 33])
async def test_there_are_never_more_than_asked_for(
    two: tuple[list[RevocationFile], list[RevocationFile]], most: int
) -> None:
    assert len(thinned([*two[0], *two[1]], most=most)) <= most


async def test_what_cannot_be_read_goes_first(
    two: tuple[list[RevocationFile], list[RevocationFile]],
) -> None:
    odd = [RevocationFile("odd.ocsp", b"odd"), RevocationFile("odd.crl", b"odd")]
    assert not set(odd) & set(thinned([*odd, *two[0], *two[1]]))
    assert thinned(odd) == odd
