"""What every part of fsck works on: one snapshot, the content behind it, what was learnt on the way."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from directory.accounts import Account, AppPassword, Operator
from directory.certificates import BoundCertificate
from evidence.ledger.chain import LedgerEntry
from evidence.ports import ByteSource
from kephs.domain.audit import AuditEntry
from kephs.domain.audit_anchor import Anchored
from kephs.domain.erasure import Destroyed
from kephs.domain.legal_hold import LegalHold
from kephs.domain.messages import Delivery, StoredEvidence, Submission, Transfer
from kephs.domain.trust_list import TrustAnchor
from kephs.ports import (
    Accounts,
    Anchors,
    Audit,
    Blob,
    BlobMissingError,
    Blobs,
    Deliveries,
    Erasures,
    Evidences,
    Holds,
    Mailboxes,
    Messages,
    Transfers,
)
from storage.files.survey import UNREADABLE, UnreadableRow
from storage.rows.mailboxes import Filed

PAGE: Final = 256  # rows between two progress reports, and asked for in one statement
_READ_SIZE: Final = 512 * 1024


class CheckedAccounts(Accounts, Protocol):
    """What fsck asks of accounts beside the port."""

    def survey(self) -> Iterable[Account | UnreadableRow]:
        """Yield every account."""
        ...

    def survey_persons(self) -> Iterable[Operator | AppPassword | UnreadableRow]:
        """Yield every operator and app password."""
        ...

    def survey_certificates(self) -> Iterable[BoundCertificate | UnreadableRow]:
        """Yield every bound certificate."""
        ...


class CheckedMessages(Messages, Protocol):
    """What fsck asks of messages beside the port."""

    def survey(self) -> Iterable[Submission | UnreadableRow]:
        """Yield every submission."""
        ...


class CheckedDeliveries(Deliveries, Protocol):
    """What fsck asks of deliveries beside the port."""

    def survey(self, message_ids: Sequence[str]) -> Iterable[Delivery | UnreadableRow]:
        """Yield the deliveries of some messages."""
        ...

    def strays(self) -> Iterable[Delivery | UnreadableRow]:
        """Yield the deliveries whose message is gone."""
        ...


class CheckedEvidences(Evidences, Protocol):
    """What fsck asks of evidence beside the port."""

    def survey(self, message_ids: Sequence[str]) -> Iterable[StoredEvidence | UnreadableRow]:
        """Yield the evidence of some messages."""
        ...

    def strays(self) -> Iterable[StoredEvidence | UnreadableRow]:
        """Yield the evidence whose message is gone."""
        ...

    def survey_ledger(self) -> Iterable[LedgerEntry | UnreadableRow]:
        """Yield every entry of the ledger, ascending."""
        ...


class CheckedTransfers(Transfers, Protocol):
    """What fsck asks of transfers beside the port."""

    def survey(self, message_ids: Sequence[str]) -> Iterable[Transfer | UnreadableRow]:
        """Yield the transfers of some messages."""
        ...

    def strays(self) -> Iterable[Transfer | UnreadableRow]:
        """Yield the transfers whose message is gone."""
        ...


class CheckedMailboxes(Mailboxes, Protocol):
    """What fsck asks of mailboxes beside the port."""

    def filed(self, delivery_id: str) -> Filed:
        """Return where the items of a delivery are."""
        ...

    def usage(self, account_id: str) -> int:
        """Return an account's usage, added up anew."""
        ...


class CheckedAnchors(Anchors, Protocol):
    """What fsck asks of the trust list beside the port."""

    def survey(self) -> Iterable[TrustAnchor | UnreadableRow]:
        """Yield every anchor."""
        ...


class CheckedAudit(Audit, Protocol):
    """What fsck asks of the process record beside the port."""

    def survey(self) -> Iterable[AuditEntry | UnreadableRow]:
        """Yield every entry, ascending."""
        ...


class CheckedHolds(Holds, Protocol):
    """What fsck asks of legal holds beside the port."""

    def survey(self) -> Iterable[LegalHold | UnreadableRow]:
        """Yield every hold."""
        ...

    def held(self, number: int) -> Iterable[bytes]:
        """Yield the digests of content that a hold keeps by itself."""
        ...


class CheckedErasures(Erasures, Protocol):
    """What fsck asks of destroyed content beside the port."""

    def survey(self) -> Iterable[Destroyed | UnreadableRow]:
        """Yield all that was destroyed, ascending."""
        ...


class CheckedTx(Protocol):
    """A snapshot of a store of this package."""

    @property
    def accounts(self) -> CheckedAccounts:
        """Return the rows of this subject."""
        ...

    @property
    def blobs(self) -> Blobs:
        """Return the rows of this subject."""
        ...

    @property
    def messages(self) -> CheckedMessages:
        """Return the rows of this subject."""
        ...

    @property
    def deliveries(self) -> CheckedDeliveries:
        """Return the rows of this subject."""
        ...

    @property
    def evidence(self) -> CheckedEvidences:
        """Return the rows of this subject."""
        ...

    @property
    def transfers(self) -> CheckedTransfers:
        """Return the rows of this subject."""
        ...

    @property
    def anchors(self) -> CheckedAnchors:
        """Return the rows of this subject."""
        ...

    @property
    def audit(self) -> CheckedAudit:
        """Return the rows of this subject."""
        ...

    @property
    def holds(self) -> CheckedHolds:
        """Return the rows of this subject."""
        ...

    @property
    def erasures(self) -> CheckedErasures:
        """Return the rows of this subject."""
        ...

    @property
    def mailboxes(self) -> CheckedMailboxes:
        """Return the rows of this subject."""
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


class ContentGoneError(Exception):
    """Content cannot be read; the text says why."""


class ContentAlteredError(Exception):
    """Content does not have its digest."""


@dataclass(frozen=True, slots=True)
class Scope:
    """One run of fsck.

    ``accounts`` maps ids to addresses (None where the row is unreadable) and is filled first, as is
    ``own``, the provider's domain that they show (one, or none where there are no accounts); ``entered``
    counts the ledger's entries by evidence id and is filled before messages are checked; ``unread`` holds
    (digest of a KEP message, account) where that account has not read it yet, filled while messages are
    checked; ``anchors`` are those of the process record, filled with the ledger.
    """

    tx: CheckedTx
    blobs: CheckedBlobs
    progress: Progress
    deep: bool
    accounts: dict[str, str | None] = field(default_factory=dict)
    entered: Counter[str] = field(default_factory=Counter)
    own: set[str] = field(default_factory=set)
    unread: set[tuple[bytes, str | None]] = field(default_factory=set)
    anchors: list[Anchored] = field(default_factory=list)

    def look(self, sha256: bytes, *, read: bool = True, keep: int = 0) -> bytes:
        """Look for content, and where asked read it and compare its digest.

        Args:
            sha256: the digest of the content.
            read: whether it is read.
            keep: return content of up to so many bytes; larger content is only read.

        Raises:
            ContentGoneError, ContentAlteredError: it is not there, or is not what it was.
        """
        blob = self.tx.blobs.get(sha256)
        if blob is None:
            raise ContentGoneError("no row names it")
        try:
            source = self.blobs.open(blob)
            if not read:
                return b""
            digest = hashlib.sha256()
            kept = b""
            for start in range(0, source.size, _READ_SIZE):
                piece = source.read(start, _READ_SIZE)
                digest.update(piece)
                if source.size <= keep:
                    kept += piece
        except (BlobMissingError, *UNREADABLE) as error:
            raise ContentGoneError(str(error)) from error
        if digest.digest() != sha256:
            raise ContentAlteredError("another digest")
        return kept
