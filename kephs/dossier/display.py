"""Text from outside made fit for paper: what cannot be seen is named, what the fonts lack is named too.

Subjects and names come from strangers. A character without a glyph would be printed in a font of the machine
at hand, or as an empty box that PDF/A forbids; a direction mark or a zero-width character would show a reader
something else than what stands there. Both become their code point in brackets: ``[U+202E]``.
"""

from dataclasses import dataclass
from typing import Final
from unicodedata import bidirectional, category, combining

MARKS_MAX: Final = 3
"""Combining marks that may follow each other; further ones are named (they would cover other lines)."""
_HIDDEN_KINDS: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_RIGHT_TO_LEFT: Final = frozenset({"R", "AL", "AN"})
_BLANKS: Final = frozenset(" \u00a0")
_FILLERS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {
    chr(code) for code in (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10))
}
_PICTURES_FROM: Final = 0x1F000
_PICTURES: Final = frozenset(
    {
        0x231A, 0x231B, *range(0x23E9, 0x23ED), 0x23F0, 0x23F3, 0x25FD, 0x25FE, 0x2614, 0x2615,
        *range(0x2648, 0x2654), 0x267F, 0x2693, 0x26A1, 0x26AA, 0x26AB, 0x26BD, 0x26BE, 0x26C4, 0x26C5,
        0x26CE, 0x26D4, 0x26EA, 0x26F2, 0x26F3, 0x26F5, 0x26FA, 0x26FD, 0x2705, 0x270A, 0x270B, 0x2728,
        0x274C, 0x274E, 0x2753, 0x2754, 0x2755, 0x2757, 0x2795, 0x2796, 0x2797, 0x27B0, 0x27BF, 0x2B1B,
        0x2B1C, 0x2B50, 0x2B55,
    }
)  # fmt: skip
"""Emoji: for these the layout engine looks for a colour font of the machine first, whatever ours has."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """Code points that a font family has glyphs for, in every face that is used."""

    glyphs: frozenset[int]

    def shown(self, text: str) -> str:
        """Return a text of one line in which every character is visible and printable."""
        pieces, marks = [], 0
        for char in text:
            marks = marks + 1 if combining(char) else 0
            stands = ord(char) in self.glyphs and not _hidden(char) and marks <= MARKS_MAX
            pieces.append(char if stands else f"[U+{ord(char):04X}]")
        shown = "".join(pieces)
        if any(bidirectional(char) in _RIGHT_TO_LEFT for char in shown):
            return f"\u2068{shown}\u2069"  # first strong isolate: what stands beside keeps its place
        return shown


def shortened(text: str, most: int) -> str:
    """Return a text of at most ``most`` characters, with an ellipsis where it was longer."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _hidden(char: str) -> bool:
    kind = category(char)
    if ord(char) >= _PICTURES_FROM or ord(char) in _PICTURES:
        return True
    return kind in _HIDDEN_KINDS or char in _FILLERS or (kind == "Zs" and char not in _BLANKS)
