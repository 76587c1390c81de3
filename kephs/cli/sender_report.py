"""The numbered report on a holder's signature, from files alone: nothing is asked of the network."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from evidence.mail.kep_message import KepMessageError, is_kep_message, parse_kep_message
from evidence.mail.mime import MimeLimitError, Part, scan
from evidence.nes.verifier import NesPolicy, conclude, prepare
from evidence.ports import ByteSource
from evidence.report import Report, Step, SubIndication, Verdict
from evidence.report import conclude as conclude_report
from evidence.x509.certificates import CertificateFacts
from evidence.x509.chain import TrustStore
from evidence.x509.crl import check_crl
from evidence.x509.revocation import (
    MAX_CRL,
    RevocationAnswer,
    RevocationError,
    check_ocsp,
)
from kephs.cli.output import usage_error

_CRL_SUFFIX: Final = ".crl"


@dataclass(frozen=True, slots=True)
class RevocationData:
    """OCSP responses and CRLs, DER, that somebody kept."""

    ocsp: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, paths: Sequence[Path]) -> "RevocationData":
        """Read files; those that end in ``.crl`` are lists, all others OCSP responses.

        Raises:
            click.UsageError: one cannot be read.
        """
        read: dict[bool, list[bytes]] = {True: [], False: []}
        for path in paths:
            try:
                with path.open("rb") as file:
                    content = file.read(MAX_CRL + 1)
            except OSError as error:
                raise usage_error(f"--revocation {path}: {error.strerror}") from None
            read[path.suffix.lower() == _CRL_SUFFIX].append(content)
        return cls(tuple(read[False]), tuple(read[True]))

    def answer(
        self, certificate: CertificateFacts, issuer: CertificateFacts, trust: TrustStore, at: datetime
    ) -> RevocationAnswer | None:
        """Return what the data say about a certificate at a time, None where they say nothing fresh."""
        for der in self.ocsp:
            try:
                return check_ocsp(der, certificate, issuer, at=at, trust=trust)
            except RevocationError:
                continue
        for der in self.crls:
            try:
                return check_crl(der, issuer, at=at, trust=trust).answer(certificate, at)
            except RevocationError:
                continue
        return None


@dataclass(frozen=True, slots=True)
class _Inner:
    """A message inside another: a range of its source."""

    source: ByteSource
    start: int
    size: int

    def read(self, start: int, length: int) -> bytes:
        """Return at most ``length`` bytes from ``start`` of the inner message."""
        return self.source.read(self.start + start, max(0, min(length, self.size - start)))


def sender_report(
    source: ByteSource, trust: TrustStore, at: datetime, data: RevocationData, policies: Iterable[str]
) -> Report:
    """Verify the holder's signature of a message, or of the original inside a KEP message.

    Where ``data`` does not tell whether the certificates were revoked, the best verdict is INDETERMINATE
    (TRY_LATER): offline nobody can know.

    Args:
        source: the message; a file whose lines end in LF cannot hold a signed message any more.
        trust: configured roots and intermediates.
        at: the time to verify for.
        data: kept OCSP responses and CRLs.
        policies: OIDs of transaction certificates, which never sign for a sender.
    """
    try:
        message, root = _message(source)
    except (MimeLimitError, KepMessageError) as error:
        step = Step(
            "0", "format", ok=False, detail=str(error),
            sub_indication=SubIndication.FORMAT_FAILURE, verdict=Verdict.FAILED,
        )  # fmt: skip
        return conclude_report("sender signature", [step], at)
    policy = NesPolicy(transaction_policies=frozenset(policies))
    prepared = prepare(message, root, trust=trust, policy=policy, at=at)
    answers = {
        certificate.sha256: data.answer(certificate, issuer, trust, at)
        for certificate, issuer in prepared.needs
    }
    return conclude(prepared, answers, at).report


def _message(source: ByteSource) -> tuple[ByteSource, Part]:
    root = scan(source)
    if not is_kep_message(root):
        return source, root
    original = parse_kep_message(source, root).original
    if original is None:
        raise KepMessageError("this KEP message carries no original, so no holder's signature")
    inner = _Inner(source, original.start, original.length)
    return inner, scan(inner)
