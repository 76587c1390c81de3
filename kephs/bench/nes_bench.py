"""Benchmarks of verifying senders' qualified signatures, beside the raw P-256 operation in the same loop."""

import itertools
from typing import Final

from evidence.mail.mime import scan
from evidence.nes.verifier import Prepared, conclude, prepare
from evidence.ports import BytesSource
from evidence.report import Verdict
from evidence.x509.chain import TrustStore
from evidence.x509.revocation import RevocationAnswer, check_ocsp, ocsp_request
from kephs.bench.figures import IN_MEMORY, BenchError, Figure, own_peak_rss_mb
from kephs.bench.interleave import Work, rates
from kephs.bench.letters import Letters
from kephs.bench.site import Site
from kephs.bench.stage import RAW_VERIFY, Stage, raw_verify

LETTER_BYTES: Final = 4096  # the size the project's reference figures were taken with
KNOWN_SENDERS: Final = 200


async def nes(site: Site) -> list[Figure]:
    """Verify senders' qualified signatures: from known senders, and with nothing remembered."""
    stage = Stage.make(site.clock)
    warm_note = (
        f"{KNOWN_SENDERS} known senders: certificate paths and OCSP answers remembered; every message "
        f"({LETTER_BYTES} octets) and signature another"
    )
    cold_note = (
        "every sender new and nothing remembered: paths under P-384 and the OCSP answers on sender and "
        "authority are checked too, seven signatures each"
    )
    half = site.seconds / 2
    warm, cold = _warm(stage), _cold(stage)
    return [_figure("nes", warm, half, warm_note), _figure("nes-cold", cold, half, cold_note)]


def _warm(stage: Stage) -> Work:
    trust, clock = stage.trust(), stage.clock
    holders = [stage.holder() for _ in range(KNOWN_SENDERS)]
    writers = itertools.cycle([Letters(holder, clock) for holder in holders])
    answers: dict[bytes, RevocationAnswer] = {}
    for holder in holders:
        letter = Letters(holder, clock).write(holders[0].address)
        answers |= _ask(stage, trust, _prepare(letter, trust, stage))

    def letters(count: int) -> list[bytes]:
        return [next(writers).write(holders[0].address, LETTER_BYTES) for _ in range(count)]

    def check(letter: bytes) -> None:
        _must_pass(conclude(_prepare(letter, trust, stage), answers, clock()).verdict)

    return Work(letters, check)


def _cold(stage: Stage) -> Work:
    clock = stage.clock

    def letters(count: int) -> list[tuple[bytes, TrustStore, dict[bytes, bytes]]]:
        made = []
        for _ in range(count):
            holder = stage.holder()
            letter = Letters(holder, clock).write(holder.address, LETTER_BYTES)
            needs = _prepare(letter, stage.trust(), stage).needs
            responses = {
                certificate.sha256: _response(stage, ocsp_request(certificate, issuer), issuer.subject)
                for certificate, issuer in needs
            }
            made.append((letter, stage.trust(), responses))
        return made

    def check(item: tuple[bytes, TrustStore, dict[bytes, bytes]]) -> None:
        letter, trust, responses = item
        prepared, at = _prepare(letter, trust, stage), clock()
        answers = {
            certificate.sha256: check_ocsp(
                responses[certificate.sha256], certificate, issuer, at=at, trust=trust
            )
            for certificate, issuer in prepared.needs
        }
        _must_pass(conclude(prepared, answers, at).verdict)

    return Work(letters, check)


def _prepare(letter: bytes, trust: TrustStore, stage: Stage) -> Prepared:
    source = BytesSource(letter)
    return prepare(source, scan(source), trust=trust, at=stage.clock())


def _ask(stage: Stage, trust: TrustStore, prepared: Prepared) -> dict[bytes, RevocationAnswer]:
    at = stage.clock()
    return {
        certificate.sha256: check_ocsp(
            _response(stage, ocsp_request(certificate, issuer), issuer.subject),
            certificate, issuer, at=at, trust=trust,
        )
        for certificate, issuer in prepared.needs
    }  # fmt: skip


def _response(stage: Stage, request: bytes, issuer_subject: bytes) -> bytes:
    authorities = stage.pki.authorities
    named = {authorities[name].issued.x509.subject.public_bytes(): name for name in ("root", "p384")}
    return stage.pki.ocsp_response(request, stage.clock(), ca=named[issuer_subject])


def _must_pass(verdict: Verdict) -> None:
    if verdict is not Verdict.PASSED:
        raise BenchError("a sender's signature did not pass")


def _figure(name: str, ours: Work, seconds: float, note: str) -> Figure:
    value, baseline = rates((ours, raw_verify()), seconds)
    return Figure(
        name, value, "messages/s", baseline, RAW_VERIFY, own_peak_rss_mb(), IN_MEMORY, {"note": note}
    )
