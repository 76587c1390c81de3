"""How the verifier's parts write their steps."""

from collections.abc import Iterable

from evidence.report import Step, SubIndication, Verdict
from evidence.x509.certificates import CertificateError, CertificateFacts, certificate_facts


def failing(
    number: str,
    name: str,
    code: str,
    detail: str,
    sub_indication: SubIndication,
    verdict: Verdict = Verdict.INDETERMINATE,
) -> Step:
    """Return a step that fails."""
    return Step(
        number, name, ok=False, detail=detail, sub_indication=sub_indication, verdict=verdict, code=code
    )


def noted(number: str, name: str, code: str, detail: str) -> Step:
    """Return a step that could not be made, or a remark: no failure."""
    return Step(number, name, ok=None, detail=detail, code=code)


def readable(certificates: Iterable[bytes]) -> list[CertificateFacts]:
    """Return the certificates that can be read; others cannot help a path."""
    found = []
    for der in certificates:
        try:
            found.append(certificate_facts(der))
        except CertificateError:
            continue
    return found
