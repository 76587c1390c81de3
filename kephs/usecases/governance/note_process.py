"""Process records of what staff read and of the server itself (KEP-RT-01, KEP-RT-03).

Reading a message with the machine's own commands leaves an entry before anything is shown: who has the shell
has the keys, but not unseen. Settings are recorded by digest: they name secrets' files and addresses.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from kephs.ports import Clock, Store, Tx
from kephs.usecases.people.accounts import SHELL

MESSAGE_SHOWN: Final = "message.shown"
MESSAGE_BUNDLED: Final = "message.bundled"
MESSAGE_PRINTED: Final = "message.printed"  # as a dossier
EVIDENCE_EXPORTED: Final = "evidence.exported"
SERVE_STARTED: Final = "serve.started"
SERVE_STOPPED: Final = "serve.stopped"
_USER_MAX: Final = 100


async def note_reading(store: Store, clock: Clock, action: str, subject: str, user: str) -> None:
    """Record that somebody with the shell read something; call it before it is handed out.

    Args:
        store: of the instance.
        clock: the time.
        action: one of the names above.
        subject: the message's or the evidence's id.
        user: the machine's account that ran the command.

    Raises:
        StoreUnavailableError: it is not recorded, so nothing may be shown.
    """
    now = clock.now()
    await store.write(
        lambda tx: tx.audit.add(
            at=now, actor=SHELL, action=action, subject=subject[:1_000], detail=f"user {user[:_USER_MAX]}"
        )
    )


def note_started(
    tx: Tx, at: datetime, *, node: str, roles: Sequence[str], version: str, settings: Mapping[str, Any]
) -> None:
    """Record that a server process runs now, and the digest of the settings it runs with."""
    detail = f"kephs {version}; {','.join(roles)}; settings sha256={settings_digest(settings)}"
    tx.audit.add(at=at, actor=SHELL, action=SERVE_STARTED, subject=f"node {node}", detail=detail)


def note_stopped(tx: Tx, at: datetime, *, node: str) -> None:
    """Record that a server process drained and ended; one that was killed leaves no entry."""
    tx.audit.add(at=at, actor=SHELL, action=SERVE_STOPPED, subject=f"node {node}")


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Return the SHA-256, hexadecimal, of settings as JSON with keys in order."""
    text = json.dumps(settings, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    return sha256(text.encode()).hexdigest()
