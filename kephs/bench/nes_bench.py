"""Benchmarks of verifying senders' qualified signatures, beside the raw P-256 operation in the same loop."""

import itertools
from datetime import datetime
from typing import Final, NamedTuple

from evidence.mail.mime import Part, scan
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
from kephs.testpki.hierarchy import p256_keys

LETTER_BYTES: Final = 4096  # the size the project's reference figures were taken with
KNOWN_SENDERS: Final = 200


class _Letter(NamedTuple):
    """A message and its parts, as the server has them when it comes to the signature."""

    source: BytesSource
    root: Part

    @classmethod
    def of(cls, letter: bytes) -> "_Letter":
        source = BytesSource(letter)
        return cls(source, scan(source))

    def prepared(self, trust: TrustStore, at: datetime) -> Prepared:
        return prepare(self.source, self.root, trust=trust, at=at)


async def nes(site: Site) -> list[Figure]:
    """Verify senders' qualified signatures: from known senders, and with nothing remembered."""
    stage, quick = Stage.make(site.clock), Stage.make(site.clock, p256_keys())
    warm_note = (
        f"{KNOWN_SENDERS} known senders: certificate paths and OCSP answers remembered; every message "
        f"({LETTER_BYTES} octets) and signature another; its parts were found before, as the server has them"
    )
    message_note = "the same with the search for the message's parts"
    cold_note = (
        "every sender new and nothing remembered: the path and the OCSP answers on sender and authority with "
        "their responders' certificates are checked too, seven signatures each, authorities with P-256"
    )
    slow_note = "the same under authorities with P-384, whose verification costs eight times as much"
    works = (
        ("nes", _warm(stage, scanned_anew=False), warm_note, 4000),
        ("nes-message", _warm(stage, scanned_anew=True), message_note, None),
        ("nes-cold", _cold(quick), cold_note, 800),
        ("nes-cold-p384", _cold(stage), slow_note, None),
    )
    return [_figure(name, work, site.seconds / 4, note, target) for name, work, note, target in works]


def _warm(stage: Stage, *, scanned_anew: bool) -> Work:
    trust, clock = stage.trust(), stage.clock
    holders = [stage.holder() for _ in range(KNOWN_SENDERS)]
    writers = itertools.cycle([Letters(holder, clock) for holder in holders])
    answers: dict[bytes, RevocationAnswer] = {}
    for holder in holders:
        letter = _Letter.of(Letters(holder, clock).write(holders[0].address))
        answers |= _ask(stage, trust, letter.prepared(trust, clock()))

    def letters(count: int) -> list[_Letter]:
        return [_Letter.of(next(writers).write(holders[0].address, LETTER_BYTES)) for _ in range(count)]

    def check(letter: _Letter) -> None:
        root = scan(letter.source) if scanned_anew else letter.root
        prepared = prepare(letter.source, root, trust=trust, at=clock())
        _must_pass(conclude(prepared, answers, clock()).verdict)

    return Work(letters, check)


def _cold(stage: Stage) -> Work:
    clock = stage.clock

    def letters(count: int) -> list[tuple[_Letter, TrustStore, dict[bytes, bytes]]]:
        made = []
        for _ in range(count):
            holder = stage.holder()
            letter = _Letter.of(Letters(holder, clock).write(holder.address, LETTER_BYTES))
            needs = letter.prepared(stage.trust(), clock()).needs
            responses = {
                certificate.sha256: _response(stage, ocsp_request(certificate, issuer), issuer.subject)
                for certificate, issuer in needs
            }
            made.append((letter, stage.trust(), responses))
        return made

    def check(item: tuple[_Letter, TrustStore, dict[bytes, bytes]]) -> None:
        (letter, trust, responses), at = item, clock()
        prepared = letter.prepared(trust, at)
        answers = {
            certificate.sha256: check_ocsp(
                responses[certificate.sha256], certificate, issuer, at=at, trust=trust
            )
            for certificate, issuer in prepared.needs
        }
        _must_pass(conclude(prepared, answers, at).verdict)

    return Work(letters, check)


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


def _figure(name: str, ours: Work, seconds: float, note: str, target: int | None) -> Figure:
    value, baseline = rates((ours, raw_verify()), seconds)
    more: dict[str, object] = {"note": note} if target is None else {"target": target, "note": note}
    return Figure(name, value, "messages/s", baseline, RAW_VERIFY, own_peak_rss_mb(), IN_MEMORY, more)
