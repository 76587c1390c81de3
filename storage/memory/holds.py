"""Legal holds and destroyed content of the in-memory twin."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from kephs.domain.erasure import Destroyed, PendingErasure, Removal
from kephs.domain.legal_hold import HoldKind, LegalHold
from kephs.domain.messages import Submission
from storage.errors import ConflictError
from storage.memory.tables import Tables
from storage.rows.holds import stood


class MemoryErasures:
    """`kephs.ports.Erasures` in memory."""

    def __init__(self, tables: Tables) -> None:
        self._t = tables

    def removing(self, folder_id: int, uids: Sequence[int] | None, removal: Removal) -> None:
        """Note who removes items; where a hold stands on the account, keep their content."""
        wanted = None if uids is None else set(uids)
        for folder, uid in list(self._t.items):
            if folder != folder_id or (wanted is not None and uid not in wanted):
                continue
            sha256 = self._t.items[folder, uid].item.sha256
            self._t.removals.put(sha256, (*(self._t.removals.get(sha256) or ()), removal))
            for hold in self._t.holds.values():
                if hold.keeps and (hold.kind, hold.subject) == (HoldKind.ACCOUNT, removal.account_id):
                    self._t.held.put((sha256, hold.number), hold)

    def removals(self, sha256: bytes) -> list[Removal]:
        """Return who removed items with this content, oldest first."""
        return list(self._t.removals.get(sha256) or ())

    def forget(self, sha256: bytes) -> None:
        """Forget who removed items with this content."""
        if sha256 in self._t.removals:
            self._t.removals.drop(sha256)

    def messages_with(self, sha256: bytes) -> list[Submission]:
        """Return the messages whose original or KEP message this is."""
        found = (m for m in self._t.messages.values() if sha256 in (m.digest_sha256, m.dispatch))
        return sorted(found, key=lambda m: m.message_id)

    def add_destroyed(self, one: Destroyed) -> None:
        """Note that content was destroyed."""
        self._t.destroyed.put(one.number, one)

    def destroyed(self, message_id: str) -> list[Destroyed]:
        """Return what was destroyed of a message."""
        return [one for one in self.survey() if one.message_id == message_id]

    def later(self, account: PendingErasure) -> None:
        """Note that a closed account's mailbox is to be emptied."""
        if account.account_id not in self._t.erasures:
            self._t.erasures.put(account.account_id, account)

    def pending(self) -> PendingErasure | None:
        """Return the account that was closed first of those still to be emptied."""
        order = sorted(self._t.erasures.values(), key=lambda one: (one.closed_at, one.account_id))
        return order[0] if order else None

    def first_uids(self, folder_id: int, limit: int) -> list[int]:
        """Return the lowest UIDs in a folder."""
        return sorted(uid for folder, uid in self._t.items if folder == folder_id)[:limit]

    def done(self, account_id: str) -> None:
        """Note that an account's mailbox is empty."""
        if account_id in self._t.erasures:
            self._t.erasures.drop(account_id)

    def survey(self) -> Iterator[Destroyed]:
        """Yield all that was destroyed (asked by fsck)."""
        yield from sorted(self._t.destroyed.values(), key=lambda one: one.number)


class MemoryHolds:
    """`kephs.ports.Holds` in memory."""

    def __init__(self, tables: Tables) -> None:
        self._t = tables

    def add(self, hold: LegalHold) -> LegalHold:
        """Store a hold and return it with its number."""
        subjects = self._t.messages if hold.kind is HoldKind.MESSAGE else self._t.accounts
        if hold.subject not in subjects:
            raise ConflictError("the hold's message or account does not exist")
        stored = replace(hold, number=len(self._t.holds) + 1)
        self._t.holds.put(stored.number, stored)
        return stored

    def get(self, number: int) -> LegalHold | None:
        """Return a hold."""
        return self._t.holds.get(number)

    def all(self) -> list[LegalHold]:
        """Return every hold, by number."""
        return sorted(self._t.holds.values(), key=lambda one: one.number)

    def put(self, hold: LegalHold) -> None:
        """Store a hold's new state; one that is lifted lets its content go."""
        if hold.number not in self._t.holds:
            raise KeyError(hold.number)
        self._t.holds.put(hold.number, hold)
        if not hold.keeps:
            for key in [key for key in self._t.held if key[1] == hold.number]:
                self._t.held.drop(key)

    def keeping(self, message_id: str, at: datetime | None = None) -> list[LegalHold]:
        """Return the holds that keep a message's content, or kept it at a time."""
        return [one for one in self.all() if stood(one, at) and keeps_message(self._t, one, message_id)]

    def survey(self) -> Iterator[LegalHold]:
        """Yield every hold (asked by fsck)."""
        yield from self.all()

    def held(self, number: int) -> Iterator[bytes]:
        """Yield the digests of content that a hold keeps by itself (asked by fsck)."""
        yield from sorted(sha256 for sha256, hold in self._t.held if hold == number)


def held_digests(tables: Tables) -> set[bytes]:
    """Return the digests of all content that a hold keeps."""
    found = {sha256 for sha256, _ in tables.held}
    standing = [one for one in tables.holds.values() if one.keeps]
    for message in tables.messages.values() if standing else ():
        if any(keeps_message(tables, hold, message.message_id) for hold in standing):
            found.update((message.digest_sha256, message.dispatch or b""))
    return found


def keeps_message(tables: Tables, hold: LegalHold, message_id: str) -> bool:
    """Say whether a hold is about a message, or about its sender's or a recipient's account."""
    if hold.kind is HoldKind.MESSAGE:
        return hold.subject == message_id
    message = tables.messages.get(message_id)
    if message is not None and message.account_id == hold.subject:
        return True
    found = (d for d in tables.deliveries.values() if d.message_id == message_id)
    return any(delivery.account_id == hold.subject for delivery in found)
