"""The rows about destroyed content and about legal holds."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from kephs.domain.erasure import Destroyed, PendingErasure, Removal
from kephs.domain.legal_hold import LegalHold
from kephs.domain.messages import Submission


class Erasures(Protocol):
    """Who removed what, what was destroyed, and which closed accounts are still to be emptied."""

    def removing(self, folder_id: int, uids: Sequence[int] | None, removal: Removal) -> None:
        """Note who removes these items (None: all of the folder); call it before they are removed.

        Where a hold stands on the account, the items' content is kept from now on.
        """
        ...

    def removals(self, sha256: bytes) -> Sequence[Removal]:
        """Return who removed items with this content since it was last destroyed, oldest first."""
        ...

    def forget(self, sha256: bytes) -> None:
        """Forget who removed items with this content."""
        ...

    def messages_with(self, sha256: bytes) -> Sequence[Submission]:
        """Return the messages whose original or KEP message this is."""
        ...

    def add_destroyed(self, one: Destroyed) -> None:
        """Note that content was destroyed, beside its entry in the process record."""
        ...

    def destroyed(self, message_id: str) -> Sequence[Destroyed]:
        """Return what was destroyed of a message, in the order of the process record."""
        ...

    def later(self, account: PendingErasure) -> None:
        """Note that a closed account's mailbox is to be emptied."""
        ...

    def pending(self) -> PendingErasure | None:
        """Return the account that was closed first of those still to be emptied."""
        ...

    def first_uids(self, folder_id: int, limit: int) -> Sequence[int]:
        """Return the lowest UIDs in a folder."""
        ...

    def done(self, account_id: str) -> None:
        """Note that an account's mailbox is empty."""
        ...


class Holds(Protocol):
    """Legal holds. They change state and are never deleted."""

    def add(self, hold: LegalHold) -> LegalHold:
        """Store a hold and return it with its number.

        Raises:
            ConflictError: its message or account does not exist.
        """
        ...

    def get(self, number: int) -> LegalHold | None:
        """Return a hold."""
        ...

    def all(self) -> Sequence[LegalHold]:
        """Return every hold, also lifted ones, by number."""
        ...

    def put(self, hold: LegalHold) -> None:
        """Store a hold's new state. One that is lifted lets its content go: what nobody else keeps goes."""
        ...

    def keeping(self, message_id: str, at: datetime | None = None) -> Sequence[LegalHold]:
        """Return the holds that keep a message's content, by its own or by an account's.

        Args:
            message_id: whose.
            at: those that stood then; None: those that stand.
        """
        ...
