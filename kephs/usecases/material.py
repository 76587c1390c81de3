"""The verification material of a sender's signature, kept beside the message for twenty years.

spec: KEP-SG-09: later checks use what was known at reception, not "now".
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from evidence.nes.verifier import SenderReport


@dataclass(frozen=True, slots=True)
class Material:
    """Our verdict at reception and what it rested on, all DER as received."""

    report: dict[str, object]
    certificates: tuple[bytes, ...]
    ocsp: tuple[bytes, ...]
    crls: tuple[bytes, ...]


def encode_material(report: SenderReport) -> bytes:
    """Return the stored form: JSON, DER in base64."""
    material = report.material
    plain = {
        "report": report.report.to_json(),
        "certificates": _texts(material.certificates),
        "ocsp": _texts(material.ocsp),
        "crls": _texts(material.crls),
    }
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()


def report_file(material: Material) -> bytes:
    """Return the verdict as a file for people and programs: JSON, one layout."""
    return json.dumps(material.report, ensure_ascii=False, sort_keys=True, indent=1).encode() + b"\n"


def decode_material(stored: bytes) -> Material:
    """Read the stored form."""
    plain = json.loads(stored)
    return Material(plain["report"], _ders(plain["certificates"]), _ders(plain["ocsp"]), _ders(plain["crls"]))


def _texts(ders: Sequence[bytes]) -> list[str]:
    return [b64encode(der).decode() for der in ders]


def _ders(texts: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(b64decode(text) for text in texts)
