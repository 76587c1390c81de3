"""A range of a longer source, such as the original inside a KEP message."""

from dataclasses import dataclass

from evidence.ports import ByteSource


@dataclass(frozen=True, slots=True)
class SourceRange:
    """``size`` bytes of ``source`` from ``start``."""

    source: ByteSource
    start: int
    size: int

    def read(self, start: int, length: int) -> bytes:
        """Return at most ``length`` bytes from ``start`` of the range."""
        return self.source.read(self.start + start, max(0, min(length, self.size - start)))
