"""What the use cases ask of the outside. Edges and storage implement these; `kephs.bootstrap` picks.

Store work is a plain function of a transaction: it runs where the database is, together with whatever
else arrived while the last batch was committing (D2). It must be quick, pure of I/O and repeatable.
"""

from kephs.ports.content import Blob, BlobMissingError, Blobs, BlobStore, Spool
from kephs.ports.erasure import Erasures, Holds
from kephs.ports.outside import (
    Changes,
    Clock,
    Courier,
    IdentityKeeper,
    Ids,
    Offload,
    Passwords,
    Revocation,
    Scanner,
    ScannerUnavailableError,
    ScanVerdict,
    Subscription,
)
from kephs.ports.rows import (
    Accounts,
    Deliveries,
    DuplicateEvidenceError,
    Ending,
    Entered,
    Evidences,
    Filing,
    FolderExistsError,
    Mailboxes,
    Messages,
    StoredCheckpoint,
    Transfers,
    Tree,
)
from kephs.ports.store import Store, StoreUnavailableError, Tx
from kephs.ports.trust import Anchors, Audit

__all__ = [
    "Accounts",
    "Anchors",
    "Audit",
    "Blob",
    "BlobMissingError",
    "BlobStore",
    "Blobs",
    "Changes",
    "Clock",
    "Courier",
    "Deliveries",
    "DuplicateEvidenceError",
    "Ending",
    "Entered",
    "Erasures",
    "Evidences",
    "Filing",
    "FolderExistsError",
    "Holds",
    "IdentityKeeper",
    "Ids",
    "Mailboxes",
    "Messages",
    "Offload",
    "Passwords",
    "Revocation",
    "ScanVerdict",
    "Scanner",
    "ScannerUnavailableError",
    "Spool",
    "Store",
    "StoreUnavailableError",
    "StoredCheckpoint",
    "Subscription",
    "Transfers",
    "Tree",
    "Tx",
]
