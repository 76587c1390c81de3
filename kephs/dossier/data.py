"""``dosya.json``: what the pages say, as plain data. Keys are stable, times UTC."""

import json
from collections.abc import Mapping
from typing import Any, Final

from evidence.model.records import NAMES, REASON_NAMES
from kephs.dossier.facts import DossierFacts
from kephs.usecases.proof.timeline import RecipientTimeline, TimelineEvent

FORMAT: Final = "kephs-dossier-1"


def data_file(facts: DossierFacts, attached: Mapping[str, bytes]) -> bytes:
    """Return the file; the same facts give the same bytes.

    Args:
        facts: what the dossier says.
        attached: SHA-256 of further files beside the original.
    """
    line = facts.timeline
    plain = {
        "format": FORMAT,
        "message_id": line.message_id,
        "user_message_id": line.user_message_id,
        "subject": line.subject,
        "sender": {"address": line.sender.address, "name": line.sender.name,
                   "provider": line.sender_provider},
        "submitted_at": line.submitted_at.isoformat(),
        "sealed_at": facts.created_at.isoformat(),
        "size": line.size,
        "digest_sha256": line.digest_sha256.hex(),
        "state": line.state.value,
        "made_by": {"name": facts.provider_name, "domain": facts.provider_domain},
        "test_certificates": facts.test,
        "evidence": [_event(event) for event in line.events],
        "recipients": [_recipient(one) for one in line.recipients],
        "parts": [
            {"number": one.number, "type": one.content_type, "filename": one.filename, "size": one.size,
             "sha256": one.sha256.hex(), "signature": one.signature}
            for one in facts.content.parts
        ],
        "evidence_files": [
            {"name": one.name, "sha256": one.sha256.hex(), "evidence_id": one.evidence_id,
             "ledger_number": one.number}
            for one in facts.evidence_files
        ],
        "attached": {name: digest.hex() for name, digest in sorted(attached.items())},
    }  # fmt: skip
    return json.dumps(plain, ensure_ascii=False, indent=1, sort_keys=True).encode() + b"\n"


def _recipient(one: RecipientTimeline) -> dict[str, Any]:
    return {
        "number": one.number,
        "address": one.address,
        "name": one.name,
        "provider": one.provider,
        "state": one.state.value if one.state is not None else None,
        "evidence": [_event(event) for event in one.events],
        "awaited": [] if one.awaited is None else [kind.kep_code for kind in one.awaited.kinds],
    }


def _event(event: TimelineEvent) -> dict[str, Any]:
    return {
        "id": event.evidence_id,
        "code": event.kind.kep_code,
        "event": NAMES[event.kind].event,
        "at": event.at.isoformat(),
        "provider": event.issuer_domain,
        "provider_name": event.issuer_name,
        "person": event.person,
        "reasons": [{"name": REASON_NAMES[one.code], "details": one.details} for one in event.reasons],
        "stamp": event.stamp.value,
        "ledger_number": event.ledger_number,
        "standing": event.standing,
    }
