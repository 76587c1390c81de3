"""Process records as the archive keeps them: one JSON file each, to the letter what their digest covers."""

import json
from collections.abc import Mapping
from typing import Any, Final

from evidence.bundle.archive_object import from_micros, micros
from kephs.domain.audit import AuditEntry

_FIELDS: Final = ("action", "actor", "at", "detail", "digest", "number", "previous", "subject")


def process_json(entry: AuditEntry) -> bytes:
    """Return the file of an entry: canonical JSON, keys in order, no spaces."""
    plain = {
        "number": entry.number, "at": micros(entry.at), "actor": entry.actor, "action": entry.action,
        "subject": entry.subject, "detail": entry.detail, "previous": entry.previous.hex(),
        "digest": entry.digest.hex(),
    }  # fmt: skip
    return json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def read_process(content: bytes) -> AuditEntry:
    """Return the entry of a file; whether its digest fits is for `kephs.domain.audit` to say.

    Raises:
        ValueError: not exactly what `process_json` makes of some entry.
    """
    try:
        plain: Mapping[str, Any] = json.loads(content)
        texts = [plain[name] for name in ("actor", "action", "subject", "detail")]
        if tuple(sorted(plain)) != _FIELDS or not all(type(text) is str for text in texts):
            raise ValueError("other members")
        entry = AuditEntry(
            int(plain["number"]), from_micros(int(plain["at"])), texts[0], texts[1], texts[2], texts[3],
            bytes.fromhex(plain["previous"]), bytes.fromhex(plain["digest"]),
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"no process record: {type(error).__name__}") from None
    if process_json(entry) != content:
        raise ValueError("no process record as it is written")
    return entry
