"""What this process made a moment ago, so that the next step need not read and parse it again.

What is missing here is read from the store: nothing depends on it.
"""

from collections import OrderedDict
from typing import Final, Generic, TypeVar

from evidence.model.records import SealedEvidence
from evidence.ports import ByteSource

KEPT: Final = 512  # some 10 kB each
LETTERS_KEPT: Final = 256
LETTER_MAX: Final = 32 * 1024
"""Octets of a letter that is remembered: the usual ones, 8 MiB at most together."""
TREE_MAX: Final = 16 * 1024
"""Characters of a tree that is remembered: those of a letter's few parts, not of ten thousand."""

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
    """The evidence sealed last, by id; the letters accepted last and their part trees, by SHA-256."""

    def __init__(self, kept: int = KEPT) -> None:
        self._evidence: Last[SealedEvidence] = Last(kept)
        self._trees: Last[str] = Last(kept)
        self._letters: Last[bytes] = Last(LETTERS_KEPT)

    def remember(self, sealed: SealedEvidence) -> None:
        """Keep an evidence for the step that follows."""
        self._evidence.put(sealed.record.evidence_id, sealed)

    def take(self, evidence_id: str) -> SealedEvidence | None:
        """Return an evidence that is still known."""
        return self._evidence.get(evidence_id)

    def remember_tree(self, sha256: bytes, tree: str) -> None:
        """Keep a message's tree (`evidence.mail.tree`) for the step that follows, unless it is large."""
        if len(tree) <= TREE_MAX:
            self._trees.put(sha256, tree)

    def tree(self, sha256: bytes) -> str | None:
        """Return the tree of a message that is still known."""
        return self._trees.get(sha256)

    def remember_letter(self, sha256: bytes, source: ByteSource) -> None:
        """Keep the octets of a letter that was accepted, unless it is large."""
        if source.size <= LETTER_MAX:
            self._letters.put(sha256, source.read(0, source.size))

    def letter(self, sha256: bytes) -> bytes | None:
        """Return the octets of a letter that is still known."""
        return self._letters.get(sha256)
