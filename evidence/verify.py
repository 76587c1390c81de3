"""Verify whatever is handed in: evidence XML, a KEP message or a bundle, told apart by content.

This is what `kephs verify` calls; it reads no file and no clock. The checks themselves stand in
`evidence.verify_evidence`, `evidence.verify_message` and `evidence.verify_bundle`.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from evidence.chain import TrustStore
from evidence.kep_message import is_sender_message
from evidence.mime import MimeLimitError, scan
from evidence.ports import ByteSource, BytesSource
from evidence.report import Report, Verdict, conclude
from evidence.role import DEFAULT_SEAL_POLICY, SealPolicy
from evidence.verify_bundle import verify_bundle
from evidence.verify_evidence import failed, verify_evidence
from evidence.verify_message import check_kep_message, verify_kep_message
from evidence.xml_reader import XML_SIZE_MAX

__all__ = [
    "Kind",
    "detect",
    "exit_code",
    "verify_bundle",
    "verify_evidence",
    "verify_kep_message",
    "verify_source",
]

HEAD_SIZE: Final = 64 * 1024
LF_MESSAGE_MAX: Final = 256 << 20
SENDER_MESSAGE: Final = "sender's message"
"""The fact ``type`` of a report on a message that only its holder signed."""
_HEADER_LINE: Final = re.compile(rb"[!-9;-~]+[ \t]*:")


class Kind(StrEnum):
    """What can be verified."""

    EVIDENCE = "evidence"
    MESSAGE = "message"
    BUNDLE = "bundle"


def detect(source: ByteSource) -> Kind | None:
    """Say what a source holds by its first bytes, None where it is nothing we verify."""
    head = source.read(0, HEAD_SIZE)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return Kind.BUNDLE
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        return Kind.EVIDENCE
    return Kind.MESSAGE if _HEADER_LINE.match(head) else None


def verify_source(
    source: ByteSource,
    trust: TrustStore | None,
    at: datetime,
    policy: SealPolicy = DEFAULT_SEAL_POLICY,
    *,
    subject: str | None = None,
) -> Report:
    """Verify a source of any kind; unknown content is TOTAL-FAILED.

    A message that only its holder signed is TOTAL-FAILED too, as no provider's seal is on it, and is named as
    such: it has a check of its own (`evidence.nes`).

    Args:
        source: untrusted bytes. A message whose lines end in LF alone (a file saved on Unix) is read with
            CRLF, as it was signed.
        trust: configured roots; None or empty: at best INDETERMINATE.
        at: the verification time, UTC.
        policy: which certificates seal.
        subject: what the report is called, a file name for instance.
    """
    kind = detect(source)
    if kind is Kind.BUNDLE:
        report = verify_bundle(source, trust, at, policy)
    elif kind is Kind.EVIDENCE:
        report = verify_evidence(source.read(0, XML_SIZE_MAX + 1), trust, at, policy)
    elif kind is Kind.MESSAGE:
        report = _message(_with_crlf(source), trust, at, policy)
    else:
        steps = [failed("1", "format", "neither evidence, KEP message nor bundle")]
        report = conclude("unknown", steps, at)
    return report if subject is None else replace(report, subject=subject)


def _message(source: ByteSource, trust: TrustStore | None, at: datetime, policy: SealPolicy) -> Report:
    try:
        root = scan(source)
    except MimeLimitError:
        return verify_kep_message(source, trust, at, policy)  # says what is too much
    if not is_sender_message(root):
        return check_kep_message(source, trust, at, policy, root=root).report
    text = "a sender's message, signed by its holder only, not a KEP message: kephs verify --sender checks it"
    return conclude(SENDER_MESSAGE, [failed("1", "format", text)], at, facts={"type": SENDER_MESSAGE})


def exit_code(reports: Iterable[Report]) -> int:
    """Return the exit status of `kephs verify`: 0 all passed, 1 a failure, 2 something undecided."""
    verdicts = {report.verdict for report in reports}
    if Verdict.FAILED in verdicts:
        return 1
    return 2 if Verdict.INDETERMINATE in verdicts else 0


def _with_crlf(source: ByteSource) -> ByteSource:
    head = source.read(0, HEAD_SIZE)
    if b"\r\n" in head or b"\n" not in head or source.size > LF_MESSAGE_MAX:
        return source
    return BytesSource(source.read(0, source.size).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
