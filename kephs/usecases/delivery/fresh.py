"""What this process made a moment ago, so that the next step need not read and parse it again.

What is missing here is read from the store: nothing depends on it.
"""

from collections import OrderedDict
from typing import Final, Generic, TypeVar

from evidence.mail.mime import Part
from evidence.model.records import SealedEvidence

KEPT: Final = 512  # some 10 kB each
PARTS_MAX: Final = 32
"""Parts of a tree that is remembered: a letter's few, not a message that is made of ten thousand."""

T = TypeVar("T")


class Last(Generic[T]):
    """The entries that came last, by key."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._entries: OrderedDict[str | bytes, T] = OrderedDict()

    def put(self, key: str | bytes, entry: T) -> None:
        """Keep one; the oldest makes room."""
        self._entries[key] = entry
        if len(self._entries) > self._kept:
            self._entries.popitem(last=False)

    def get(self, key: str | bytes) -> T | None:
        """Return one that is still known."""
        return self._entries.get(key)


class FreshEvidence:
    """The evidence sealed last, by id, and the part trees of the messages accepted last, by SHA-256."""

    def __init__(self, kept: int = KEPT) -> None:
        self._evidence: Last[SealedEvidence] = Last(kept)
        self._trees: Last[Part] = Last(kept)

    def remember(self, sealed: SealedEvidence) -> None:
        """Keep an evidence for the step that follows."""
        self._evidence.put(sealed.record.evidence_id, sealed)

    def take(self, evidence_id: str) -> SealedEvidence | None:
        """Return an evidence that is still known."""
        return self._evidence.get(evidence_id)

    def remember_tree(self, sha256: bytes, root: Part) -> None:
        """Keep a message's tree for the step that follows, unless it is large."""
        if sum(1 for _ in root.walk()) <= PARTS_MAX:
            self._trees.put(sha256, root)

    def tree(self, sha256: bytes) -> Part | None:
        """Return the tree of a message that is still known."""
        return self._trees.get(sha256)
