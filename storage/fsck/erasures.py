"""fsck on legal holds and destroyed content: what is held is there, what is gone is on record.

The process record is what counts: the rows must say the same. Content that was destroyed while a hold stood
is a defect or tampering, whoever deleted it.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

from kephs.domain.audit import AuditEntry
from kephs.domain.erasure import CONTENT_DESTROYED, Destroyed
from kephs.domain.legal_hold import ACTIONS, HoldKind, HoldState, LegalHold, hold_number
from kephs.domain.lifecycle import MessageState
from storage.files.survey import UNREADABLE, UnreadableRow
from storage.fsck.findings import Finding, FindingCode, unreadable
from storage.fsck.scope import Scope

T = TypeVar("T")


class ErasureTold:
    """What the process record says of holds and of destroyed content; memory grows with both."""

    def __init__(self) -> None:
        self.holds: dict[int, HoldState] = {}
        self.destroyed: dict[int, str] = {}  # message by number of the entry

    def take(self, entry: AuditEntry) -> None:
        """Follow one entry."""
        if entry.action == CONTENT_DESTROYED:
            self.destroyed[entry.number] = entry.subject
        elif entry.action in ACTIONS:
            number = hold_number(entry.detail)
            if number is not None:
                self.holds[number] = ACTIONS[entry.action]


def check_erasures(scope: Scope, told: ErasureTold) -> Iterator[Finding]:
    """Yield what does not hold of holds and destroyed content; call it once the record was read."""
    yield from _holds(scope, told)
    yield from _destroyed(scope, told)


def _holds(scope: Scope, told: ErasureTold) -> Iterator[Finding]:
    seen: set[int] = set()
    for hold in scope.tx.holds.survey():
        if isinstance(hold, UnreadableRow):
            yield unreadable(hold)
            seen.add(int(hold.key) if hold.key.isdecimal() else 0)
            continue
        seen.add(hold.number)
        said = told.holds.get(hold.number)
        if said is not hold.state or not hold.sound:
            detail = f"{hold.state} in its row, {said or 'nothing'} in the record"
            yield Finding(FindingCode.HOLD_UNRECORDED, str(hold.number), detail)
        if hold.keeps:
            yield from _kept(scope, hold)
    for number in sorted(set(told.holds) - seen):
        yield Finding(FindingCode.HOLD_MISSING, str(number), "the record tells of it")
    scope.progress("holds", len(seen))


def _kept(scope: Scope, hold: LegalHold) -> Iterator[Finding]:
    """Check that the content is there that a hold keeps by itself, or that it was gone before."""
    for sha256 in scope.tx.holds.held(hold.number):
        if scope.tx.blobs.get(sha256) is None:
            yield Finding(FindingCode.HOLD_CONTENT_GONE, str(hold.number), sha256.hex())
    if hold.kind is not HoldKind.MESSAGE:
        return
    message = _readable(lambda: scope.tx.messages.get(hold.subject))
    if message is None:
        return  # found where messages are read
    rows = _readable(lambda: scope.tx.erasures.destroyed(hold.subject)) or ()
    gone = {one.sha256 for one in rows if one.at < hold.set_at}
    parts = {message.dispatch}
    if message.origin is None and message.state is not MessageState.REFUSED:
        parts.add(message.digest_sha256)
    for part in parts - gone - {None}:
        if scope.tx.blobs.get(part or b"") is None:
            yield Finding(FindingCode.HOLD_CONTENT_GONE, str(hold.number), (part or b"").hex())


def _destroyed(scope: Scope, told: ErasureTold) -> Iterator[Finding]:
    left, count = dict(told.destroyed), 0
    for one in scope.tx.erasures.survey():
        count += 1
        if isinstance(one, UnreadableRow):
            yield unreadable(one)
            left.pop(int(one.key) if one.key.isdecimal() else 0, None)
            continue
        if left.pop(one.number, None) != one.message_id:
            yield Finding(FindingCode.ERASURE_UNRECORDED, str(one.number), one.message_id)
        yield from _despite_hold(scope, one)
    for number, message_id in left.items():
        yield Finding(
            FindingCode.ERASURE_UNRECORDED, str(number), f"{message_id}: the record alone tells of it"
        )
    scope.progress("destroyed", count)


def _despite_hold(scope: Scope, one: Destroyed) -> Iterator[Finding]:
    for hold in _readable(lambda: scope.tx.holds.keeping(one.message_id, one.at)) or ():
        if hold.set_at < one.at:  # of the same moment, nobody knows which came first
            yield Finding(FindingCode.ERASURE_DESPITE_HOLD, str(one.number), f"hold {hold.number}")


def _readable(look: Callable[[], T]) -> T | None:
    try:
        return look()
    except UNREADABLE:
        return None  # found where such rows are read
