"""What the process record says of a hand-over, and when the transaction key may be destroyed (KEP-TM-04)."""

from datetime import datetime
from hashlib import sha256
from typing import Final

from evidence.bundle.hand_over import HandedBy, Manifest, make_manifest
from kephs.ports import Tx

HANDING: Final = "provider.handing-over"
HANDED: Final = "provider.handed-over"
KEY_DESTROYING: Final = "provider.key-destroying"
KEY_DESTROYED: Final = "provider.key-destroyed"
_LOOKED_BACK: Final = 1_000  # entries of the process record


class KeyStillNeededError(Exception):
    """The transaction key must not be destroyed yet; the text says why."""


def note_key(tx: Tx, at: datetime, persons: tuple[str, str], domain: str, detail: str, *, gone: bool) -> None:
    """Enter that two persons destroy the transaction key, and again that it is gone (KEP-TM-04).

    Raises:
        KeyStillNeededError: nothing was handed over, or something happened since that the key answers for.
    """
    if not gone:
        _check_handed(tx)
    action = KEY_DESTROYED if gone else KEY_DESTROYING
    witness = f"witness {persons[1]}; {detail}"
    tx.audit.add(at=at, actor=persons[0], action=action, subject=domain, detail=witness)


def _check_handed(tx: Tx) -> None:
    head = tx.audit.head()
    after = 0 if head is None else max(0, head.number - _LOOKED_BACK)
    recent = tx.audit.page(after, _LOOKED_BACK)
    at = next((one.at for one in reversed(recent) if one.action == HANDED), None)
    if at is None:
        raise KeyStillNeededError(
            "the provider was not handed over lately: kephs hand-over DIR OUT comes first"
        )
    newest = tx.archive.newest_entry()
    entries = tx.evidence.ledger(newest - 1, 1) if newest else []
    if entries and entries[0].at > at:
        raise KeyStillNeededError("evidence was made since the hand-over: hand over again")


def note_handing(tx: Tx, at: datetime, by: HandedBy) -> None:
    """Enter into the process record that a hand-over begins, and that into the ledger: both go along."""
    tx.audit.add(at=at, actor=by.person, action=HANDING, subject=by.domain)
    tx.audit.anchor(at)


def note_handed(tx: Tx, at: datetime, manifest: Manifest) -> None:
    """Enter that a hand-over was made, and which."""
    digest = sha256(make_manifest(manifest)).hexdigest()
    tx.audit.add(
        at=at, actor=manifest.by.person, action=HANDED, subject=manifest.by.domain, detail=f"sha256={digest}"
    )
