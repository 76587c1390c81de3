"""The store: transactions as plain functions (ADR 0019)."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from kephs.ports.archive import Archive
from kephs.ports.content import Blobs
from kephs.ports.erasure import Erasures, Holds
from kephs.ports.hand_over import Foreign
from kephs.ports.preservation import Preservation
from kephs.ports.rows import Accounts, Deliveries, Evidences, Mailboxes, Messages, Transfers, Tree
from kephs.ports.trust import Anchors, Audit

T = TypeVar("T")


class StoreUnavailableError(Exception):
    """The store cannot take work now (full, locked out, closing). Nothing was written."""


class Tx(Protocol):
    """One transaction's view of the store."""

    @property
    def accounts(self) -> Accounts: ...
    @property
    def blobs(self) -> Blobs: ...
    @property
    def messages(self) -> Messages: ...
    @property
    def deliveries(self) -> Deliveries: ...
    @property
    def evidence(self) -> Evidences: ...
    @property
    def tree(self) -> Tree: ...
    @property
    def transfers(self) -> Transfers: ...
    @property
    def mailboxes(self) -> Mailboxes: ...
    @property
    def anchors(self) -> Anchors: ...
    @property
    def audit(self) -> Audit: ...
    @property
    def archive(self) -> Archive: ...
    @property
    def preservation(self) -> Preservation: ...
    @property
    def erasures(self) -> Erasures: ...
    @property
    def holds(self) -> Holds: ...
    @property
    def foreign(self) -> Foreign: ...


class Store(Protocol):
    """The store: all writes pass one writer, which commits what arrived together."""

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run work in the next batch; durable when this returns.

        An exception from the work undoes that work alone and is raised here. Work may run more than once, so
        it does nothing but what ``tx`` can undo (ADR 0019).

        Raises:
            StoreUnavailableError: nothing was written.
        """
        ...

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run work on a consistent snapshot; it must not write."""
        ...
