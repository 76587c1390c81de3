"""The verification material of a sender's signature, kept beside the message for twenty years.

The stored form is one JSON object; members are only ever added:

================  ==============================================================================
member            content
================  ==============================================================================
``report``        our verdict at reception: `evidence.report.Report.to_json`, with a Turkish and an
                  English sentence for what was found wanting (`evidence.verify.telling.described`)
``certificates``  of all paths, DER in base64
``ocsp``,         the issuers' answers of that moment, DER in base64
``crls``
``record``        our evidence record (RFC 4998) over SHA-256 of the sender's SignedData, base64;
                  absent where the grace let evidence out unstamped, and in what was stored before
                  there were records (`kephs.usecases.submission.reception`)
================  ==============================================================================

spec: KEP-SG-09: later checks use what was known at reception, not "now".
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from evidence.nes.verifier import SenderReport
from evidence.report import Report, Step
from evidence.verify.telling import described, described_step

_MEMO_MOST: Final = 16 << 10  # octets of DER
_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


@dataclass(frozen=True, slots=True)
class Material:
    """Our verdict at reception and what it rested on, all DER as received."""

    report: dict[str, object]
    certificates: tuple[bytes, ...]
    ocsp: tuple[bytes, ...]
    crls: tuple[bytes, ...]
    record: bytes | None = None


def encode_material(report: SenderReport, record: bytes | None = None) -> bytes:
    """Return the stored form: JSON, DER in base64.

    Args:
        report: the verdict at reception and what it rests on.
        record: the evidence record over the signature, made at the same moment.
    """
    material = report.material
    members = [
        b'"report":' + _report(report.report),
        b'"certificates":' + _listed(material.certificates),
        b'"ocsp":' + _listed(material.ocsp),
        b'"crls":' + _array(material.crls),  # may be megabytes: nothing for a memo
    ]
    if record is not None:
        members.append(b'"record":"%b"' % b64encode(record))
    return b"{" + b",".join(members) + b"}"


def report_file(material: Material) -> bytes:
    """Return the verdict as a file for people and programs: JSON, one layout."""
    return json.dumps(material.report, ensure_ascii=False, sort_keys=True, indent=1).encode() + b"\n"


def decode_material(stored: bytes) -> Material:
    """Read the stored form."""
    plain = json.loads(stored)
    record = plain.get("record")
    return Material(
        plain["report"],
        _ders(plain["certificates"]),
        _ders(plain["ocsp"]),
        _ders(plain["crls"]),
        None if record is None else b64decode(record),
    )


def _report(report: Report) -> bytes:
    """Return `described` as JSON; its steps come from a memo, they are the same for message after message."""
    bare = Report(report.subject, report.verdict, report.sub_indication, (), report.at, report.facts)
    plain = described(bare)
    del plain["steps"], plain["parts"]  # the last two
    steps = b",".join([_step(step) for step in report.steps])
    parts = _json([described(part) for part in report.parts]) if report.parts else b"[]"
    return b'%b,"steps":[%b],"parts":%b}' % (_json(plain)[:-1], steps, parts)


@lru_cache(maxsize=4096)
def _step(step: Step) -> bytes:
    return _json(described_step(step))


def _json(plain: object) -> bytes:
    return _ENCODE(plain).encode()


def _listed(ders: tuple[bytes, ...]) -> bytes:
    return _known_array(ders) if sum(map(len, ders)) <= _MEMO_MOST else _array(ders)


def _array(ders: Sequence[bytes]) -> bytes:
    """Return a JSON array of DER in base64, which needs no escapes."""
    return b"[" + b",".join([b'"%b"' % b64encode(der) for der in ders]) + b"]"


_known_array: Final = lru_cache(maxsize=256)(_array)
"""A pure memo: a sender's path and its issuers' answers are the same in message after message."""


def _ders(texts: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(b64decode(text) for text in texts)
