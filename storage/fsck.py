"""Checks that the store holds together: states, evidence, ledger, mailboxes, content.

Reads only, on one snapshot. While a server runs beside it, content that was released and erased after
the snapshot looks missing: such a finding about an item is gone when fsck runs again. Memory grows with
the number of evidence (their ids) and of contents (their places), not with their size.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from directory.accounts import Account
from evidence.ledger import GENESIS, LedgerEntry, entry_hash
from evidence.ports import ByteSource
from evidence.records import EvidenceKind
from kephs.domain.lifecycle import DeliveryState, MessageState
from kephs.domain.messages import Delivery, StoredEvidence, Submission
from kephs.ports import Blob, BlobMissingError, Mailboxes, Tx
from storage.mailboxes import SEEN, Filed

_READ_SIZE: Final = 512 * 1024
_PAGE: Final = 1000
_ABOUT_A_RECIPIENT: Final = frozenset(
    {
        EvidenceKind.DELIVERY,
        EvidenceKind.NON_DELIVERY,
        EvidenceKind.RETRIEVAL,
        EvidenceKind.NON_RETRIEVAL,
    }
)


class FindingCode(StrEnum):
    """What can be wrong. Stable: scripts and tests compare these."""

    MESSAGE_WITHOUT_EVIDENCE = "message.without_evidence"
    MESSAGE_ACCEPTED_AND_REFUSED = "message.accepted_and_refused"
    MESSAGE_COMPLETED_EARLY = "message.completed_early"
    MESSAGE_STUCK = "message.stuck"
    MESSAGE_REFUSED_WITH_DELIVERIES = "message.refused_with_deliveries"
    DELIVERY_WITHOUT_EVIDENCE = "delivery.without_evidence"
    DELIVERY_EVIDENCE_EARLY = "delivery.evidence_early"
    DELIVERY_CONTRADICTED = "delivery.contradicted"
    DELIVERY_NOT_FILED = "delivery.not_filed"
    DELIVERY_FILED_EARLY = "delivery.filed_early"
    DELIVERY_DOUBLED = "delivery.doubled"
    EVIDENCE_WITHOUT_DELIVERY = "evidence.without_delivery"
    EVIDENCE_CONTENT_MISSING = "evidence.content_missing"
    EVIDENCE_CONTENT_ALTERED = "evidence.content_altered"
    EVIDENCE_NOT_IN_LEDGER = "evidence.not_in_ledger"
    LEDGER_GAP = "ledger.gap"
    LEDGER_BROKEN = "ledger.broken"
    LEDGER_UNKNOWN_EVIDENCE = "ledger.unknown_evidence"
    LEDGER_OTHER_DIGEST = "ledger.other_digest"
    LEDGER_DOUBLED = "ledger.doubled"
    ITEM_CONTENT_MISSING = "item.content_missing"
    ITEM_CONTENT_ALTERED = "item.content_altered"
    FOLDER_COUNTERS = "folder.counters"
    ACCOUNT_USAGE = "account.usage"
    BLOBS_ORPHANED = "blobs.orphaned"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not hold. ``subject`` is the row's id; harmless ones are for information."""

    code: FindingCode
    subject: str
    detail: str = ""
    harmless: bool = False


class CheckedMailboxes(Mailboxes, Protocol):
    """What fsck asks of mailboxes beside the port."""

    def filed(self, delivery_id: str) -> Filed:
        """Return where the items of a delivery are."""
        ...

    def usage(self, account_id: str) -> int:
        """Return an account's usage, added up anew."""
        ...


class CheckedBlobs(Protocol):
    """What fsck asks of a blob store."""

    def open(self, blob: Blob) -> ByteSource:
        """Return content for reading."""
        ...

    def places(self) -> Iterator[str]:
        """Yield the place of everything that is stored."""
        ...


Progress = Callable[[str, int], None]
"""Told the name of what is being checked and how many were."""


def _silent(_what: str, _count: int) -> None:
    return


def check(
    tx: Tx, blobs: CheckedBlobs, *, deep: bool = False, progress: Progress = _silent
) -> Iterator[Finding]:
    """Yield everything that does not hold, while the transaction lasts.

    Args:
        tx: a snapshot of a store of this package.
        blobs: the blob store; it need not be started.
        deep: read every item's content too; evidence is always read in full.
        progress: called now and then.
    """
    check_ = _Check(tx, blobs, progress, deep=deep)
    yield from check_.messages()
    yield from check_.evidence()
    yield from check_.ledger()
    yield from check_.accounts()
    yield from check_.orphans()


class _Check:
    def __init__(self, tx: Tx, blobs: CheckedBlobs, progress: Progress, *, deep: bool) -> None:
        self._tx = tx
        self._mailboxes: CheckedMailboxes = tx.mailboxes  # type: ignore[assignment]  # stores here have more
        self._blobs = blobs
        self._progress = progress
        self._deep = deep

    # Messages and deliveries.

    def messages(self) -> Iterator[Finding]:
        count = 0
        for count, message in enumerate(self._tx.messages.all(), 1):
            evidence = self._tx.evidence.of_message(message.message_id)
            deliveries = self._tx.deliveries.of_message(message.message_id)
            yield from _message(message, evidence, deliveries)
            by_event = {(e.kind, e.number): e.evidence_id for e in evidence}
            for delivery in deliveries:
                yield from _delivery(delivery, by_event)
                yield from self._filing(delivery)
            if count % _PAGE == 0:
                self._progress("messages", count)
        self._progress("messages", count)

    def _filing(self, delivery: Delivery) -> Iterator[Finding]:
        filed = self._mailboxes.filed(delivery.delivery_id)
        everywhere = filed.inbox + filed.elsewhere + filed.removed
        if delivery.state in (DeliveryState.DELIVERED, DeliveryState.READ):
            if not everywhere:
                yield Finding(FindingCode.DELIVERY_NOT_FILED, delivery.delivery_id)
            if filed.inbox_times > 1:  # a client's copies keep the time of arrival
                yield Finding(FindingCode.DELIVERY_DOUBLED, delivery.delivery_id, f"{filed.inbox} in INBOX")
        elif everywhere:
            yield Finding(FindingCode.DELIVERY_FILED_EARLY, delivery.delivery_id, delivery.state.value)

    # Evidence and ledger.

    def evidence(self) -> Iterator[Finding]:
        count = 0
        for count, evidence in enumerate(self._tx.evidence.all(), 1):
            flaw = self._content(evidence.blob)
            if flaw is not None:
                code, detail = flaw
                altered = code is FindingCode.ITEM_CONTENT_ALTERED
                yield Finding(
                    FindingCode.EVIDENCE_CONTENT_ALTERED if altered else FindingCode.EVIDENCE_CONTENT_MISSING,
                    evidence.evidence_id,
                    detail,
                )
            if count % _PAGE == 0:
                self._progress("evidence", count)
        self._progress("evidence", count)

    def ledger(self) -> Iterator[Finding]:
        seen: Counter[str] = Counter()
        number, previous = 0, GENESIS
        while entries := self._tx.evidence.ledger(number, _PAGE):
            for entry in entries:
                yield from _link(entry, number + 1, previous)
                yield from self._entered(entry)
                seen[entry.evidence_id] += 1
                number, previous = entry.number, entry.hash
            self._progress("ledger", number)
        for evidence_id, times in seen.items():
            if times > 1:
                yield Finding(FindingCode.LEDGER_DOUBLED, evidence_id, f"{times} entries")
        for evidence in self._tx.evidence.all():
            if evidence.evidence_id not in seen:
                yield Finding(FindingCode.EVIDENCE_NOT_IN_LEDGER, evidence.evidence_id)

    def _entered(self, entry: LedgerEntry) -> Iterator[Finding]:
        evidence = self._tx.evidence.get(entry.evidence_id)
        if evidence is None:
            yield Finding(FindingCode.LEDGER_UNKNOWN_EVIDENCE, str(entry.number), entry.evidence_id)
        elif evidence.blob != entry.evidence_sha256:
            yield Finding(FindingCode.LEDGER_OTHER_DIGEST, str(entry.number), entry.evidence_id)

    # Mailboxes.

    def accounts(self) -> Iterator[Finding]:
        accounts = self._tx.accounts.all()
        for count, account in enumerate(accounts, 1):
            used = self._mailboxes.usage(account.account_id)
            if used != account.used_bytes:
                detail = f"counted {account.used_bytes}, holds {used}"
                yield Finding(FindingCode.ACCOUNT_USAGE, account.account_id, detail)
            yield from self._folders(account)
            if count % 100 == 0:
                self._progress("accounts", count)
        self._progress("accounts", len(accounts))

    def _folders(self, account: Account) -> Iterator[Finding]:
        for folder in self._tx.mailboxes.folders(account.account_id):
            summaries = self._tx.mailboxes.summaries(folder.folder_id)
            uids = [s.uid for s in summaries]
            unseen = sum(SEEN not in s.flags for s in summaries)
            modseq = max((s.modseq for s in summaries), default=0)
            if (
                (folder.messages, folder.unseen) != (len(uids), unseen)
                or max(uids, default=0) >= folder.uid_next
                or modseq > folder.modseq
            ):
                yield Finding(FindingCode.FOLDER_COUNTERS, str(folder.folder_id), folder.name)
            for start in range(0, len(uids), _PAGE):
                for item in self._tx.mailboxes.items(folder.folder_id, uids[start : start + _PAGE]):
                    flaw = self._content(item.sha256, read=self._deep)
                    if flaw is not None:
                        yield Finding(flaw[0], f"{folder.folder_id}:{item.summary.uid}", flaw[1])

    # Content.

    def orphans(self) -> Iterator[Finding]:
        named = {blob.place for blob in self._tx.blobs.all()}
        orphans = sum(place not in named for place in self._blobs.places())
        self._progress("blobs", len(named))
        if orphans:
            yield Finding(FindingCode.BLOBS_ORPHANED, "", f"{orphans} contents no row names", harmless=True)

    def _content(self, sha256: bytes, *, read: bool = True) -> tuple[FindingCode, str] | None:
        """Return what is wrong with content; None where it is there (and has its digest, where read)."""
        blob = self._tx.blobs.get(sha256)
        if blob is None:
            return FindingCode.ITEM_CONTENT_MISSING, "no row names it"
        try:
            source = self._blobs.open(blob)
            if read and _digest(source) != sha256:
                return FindingCode.ITEM_CONTENT_ALTERED, "another digest"
        except BlobMissingError as error:
            return FindingCode.ITEM_CONTENT_MISSING, str(error)
        return None


def _digest(source: ByteSource) -> bytes:
    digest = hashlib.sha256()
    for start in range(0, source.size, _READ_SIZE):
        digest.update(source.read(start, _READ_SIZE))
    return digest.digest()


def _message(
    message: Submission, evidence: list[StoredEvidence], deliveries: list[Delivery]
) -> Iterator[Finding]:
    """Check that a message's state has its evidence and fits its deliveries."""
    key = message.message_id
    kinds = Counter(e.kind for e in evidence)
    refused = message.state is MessageState.REFUSED
    owed = EvidenceKind.SUBMISSION_REJECTION if refused else EvidenceKind.SUBMISSION_ACCEPTANCE
    if kinds[owed] != 1:
        detail = f"{message.state.value} with {kinds[owed]} of {owed.value}"
        yield Finding(FindingCode.MESSAGE_WITHOUT_EVIDENCE, key, detail)
    if kinds[EvidenceKind.SUBMISSION_ACCEPTANCE] and kinds[EvidenceKind.SUBMISSION_REJECTION]:
        yield Finding(FindingCode.MESSAGE_ACCEPTED_AND_REFUSED, key)
    if refused and deliveries:
        yield Finding(FindingCode.MESSAGE_REFUSED_WITH_DELIVERIES, key)
    pending = any(d.state is DeliveryState.PENDING for d in deliveries)
    if message.state is MessageState.COMPLETED and pending:
        yield Finding(FindingCode.MESSAGE_COMPLETED_EARLY, key)
    if message.state is MessageState.ACCEPTED and pending and message.next_at is None:
        yield Finding(FindingCode.MESSAGE_STUCK, key, "deliveries are pending and no work is due")
    numbers = {d.number for d in deliveries}
    for row in evidence:
        if row.kind in _ABOUT_A_RECIPIENT and row.number not in numbers:
            yield Finding(FindingCode.EVIDENCE_WITHOUT_DELIVERY, row.evidence_id)


def _delivery(delivery: Delivery, by_event: dict[tuple[EvidenceKind, int | None], str]) -> Iterator[Finding]:
    """Check that a delivery's state has its evidence and no other."""

    def of(kind: EvidenceKind) -> str | None:
        return by_event.get((kind, delivery.number))

    key, state = delivery.delivery_id, delivery.state
    delivered, failed = of(EvidenceKind.DELIVERY), of(EvidenceKind.NON_DELIVERY)
    if delivered is not None and failed is not None:
        yield Finding(FindingCode.DELIVERY_CONTRADICTED, key)
    if state is DeliveryState.PENDING:
        if delivered is not None or failed is not None:
            yield Finding(FindingCode.DELIVERY_EVIDENCE_EARLY, key)
        return
    owed = failed if state is DeliveryState.FAILED else delivered
    if owed is None or owed != delivery.evidence_id:
        yield Finding(FindingCode.DELIVERY_WITHOUT_EVIDENCE, key, state.value)
    read = of(EvidenceKind.RETRIEVAL)
    if state is DeliveryState.READ:
        if read is None or read != delivery.read_evidence_id:
            yield Finding(FindingCode.DELIVERY_WITHOUT_EVIDENCE, key, state.value)
    elif read is not None:
        yield Finding(FindingCode.DELIVERY_EVIDENCE_EARLY, key, "read")


def _link(entry: LedgerEntry, number: int, previous: bytes) -> Iterator[Finding]:
    """Check one link of the chain against the one before."""
    if entry.number != number:
        yield Finding(FindingCode.LEDGER_GAP, str(number), f"entry {entry.number} follows")
    expected = entry_hash(entry.number, previous, entry.evidence_id, entry.evidence_sha256, entry.at)
    if entry.previous != previous or entry.hash != expected:
        yield Finding(FindingCode.LEDGER_BROKEN, str(entry.number), entry.evidence_id)
