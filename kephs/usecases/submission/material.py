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

from evidence.nes.verifier import SenderReport
from evidence.verify.telling import described


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
    plain: dict[str, object] = {
        "report": described(report.report),
        "certificates": _texts(material.certificates),
        "ocsp": _texts(material.ocsp),
        "crls": _texts(material.crls),
    }
    if record is not None:
        plain["record"] = b64encode(record).decode()
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()


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


def _texts(ders: Sequence[bytes]) -> list[str]:
    return [b64encode(der).decode() for der in ders]


def _ders(texts: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(b64decode(text) for text in texts)
