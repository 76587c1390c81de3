"""Records that are complete enough for both serialisations of evidence."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from evidence.model.events import NAMES, EvidenceKind
from evidence.model.reasons import ERDS_FAILURE, ERDS_REASONS, Reason, ReasonCode
from evidence.model.records import EvidenceRecord, Party
from tests.support.evidence_samples import record

SHARED = Path(__file__).resolve().parents[3] / "shared"
OTHER = Party("kep-hizmet@hs92.kep.tr", "TEST İkinci KEPHS A.Ş.")
SMARTCARD = "urn:oasis:names:tc:SAML:2.0:ac:classes:SmartcardPKI"


def usual_reason(kind: EvidenceKind) -> ReasonCode:
    """Return a reason this event has a word of its own for; Other where it has none."""
    return min((code for other, code in ERDS_FAILURE if other is kind), default=ReasonCode.OTHER)


def full(kind: EvidenceKind, **changes: object) -> EvidenceRecord:
    """Return a record of this kind that has all a REM baseline evidence needs."""
    family = NAMES[kind].family
    fields: dict[str, Any] = {
        "reasons": (Reason(usual_reason(kind), "metin: ayrıntı"),) if NAMES[kind].negative else (),
        "other_party": OTHER if family == "B" else None,
        "forwarded_to": "mx1.mail.example" if family == "F" else None,
    }
    if kind is EvidenceKind.RECEIVED_FROM_NON_REM:
        fields["sender_authentication"] = None
    return record(kind, **(fields | changes))


def portable(item: EvidenceRecord) -> EvidenceRecord:
    """Return what the EN serialisation keeps of a record of `full`.

    Not who logged in where that is the person named anyway, and no difference between two handovers.
    """

    login = item.sender_authentication
    if login is not None and login.person == item.sender.name:
        item = replace(item, sender_authentication=replace(login, person=None))
    merged = {
        EvidenceKind.DOWNLOAD: EvidenceKind.RETRIEVAL,
        EvidenceKind.NON_DOWNLOAD: EvidenceKind.NON_RETRIEVAL,
    }
    return replace(item, kind=merged.get(item.kind, item.kind))


def schemas() -> ModuleType:
    """Return the loader of the offline schemas: ``load(name)``."""
    script = SHARED / "schemas" / "rem" / "check_schemas.py"
    spec = importlib.util.spec_from_file_location("check_schemas", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def known_reasons(kind: EvidenceKind) -> list[str]:
    """Return the EN codes whose family letter is this event's."""
    return [code for code in ERDS_REASONS if code[1] == NAMES[kind].family]
