"""Evidence that this process sealed a moment ago, so that the next step need not read and parse it again.

What is missing here is read from the store: nothing depends on it.
"""

from collections import OrderedDict
from typing import Final

from evidence.model.records import SealedEvidence

KEPT: Final = 512  # some 10 kB each


class FreshEvidence:
    """The evidence sealed last, by id."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._entries: OrderedDict[str, SealedEvidence] = OrderedDict()

    def remember(self, sealed: SealedEvidence) -> None:
        """Keep one for the step that follows."""
        self._entries[sealed.record.evidence_id] = sealed
        if len(self._entries) > self._kept:
            self._entries.popitem(last=False)

    def take(self, evidence_id: str) -> SealedEvidence | None:
        """Return one that is still known."""
        return self._entries.get(evidence_id)
