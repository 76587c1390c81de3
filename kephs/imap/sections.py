"""Which bytes a ``BODY[...]`` section means: ranges of the stored message, or lines of a header.

spec: RFC3501#6.4.5
"""

from collections.abc import Iterable, Sequence
from typing import Final

from evidence.mail.mime import HeaderField, Part, Range
from evidence.mail.parts import read_head
from kephs.imap.commands import Section, SectionText

_FIELDS_MAX: Final = 100_000  # stored headers passed the scanner's caps


def locate(root: Part, section: Section) -> "Range | FilteredHeader | None":
    """Return where a section's bytes lie.

    Args:
        root: the message.
        section: what is asked; its partial is not applied here.

    Returns:
        A range of the message, a header whose lines must still be chosen, or None where the message has
        no such part.
    """
    if not section.parts:
        return _of_message(root, section)
    part, container = _numbered(root, section.parts)
    if part is None:
        return None
    if section.text is SectionText.ALL:
        return part.body
    if section.text is SectionText.MIME:
        # a message that is not multipart is its own part 1: its header is not the part's MIME header
        # and, inside an embedded original, it is content
        return FilteredHeader(part.header, part.fields, mime_only=True) if part is container else part.header
    return _of_message(part.message, section) if part.message is not None else None


def _of_message(message: Part, section: Section) -> "Range | FilteredHeader":
    match section.text:
        case SectionText.HEADER:
            return message.header
        case SectionText.TEXT:
            return message.body
        case SectionText.HEADER_FIELDS | SectionText.HEADER_FIELDS_NOT:
            return FilteredHeader.of(message.header, message.fields, section)
        case _:
            return Range(message.header.start, message.body.end)


def part_at(root: Part, numbers: Sequence[int]) -> Part | None:
    """Return the part with that number, None where the message has none."""
    return _numbered(root, numbers)[0]


def fields_of(header: bytes) -> Sequence[HeaderField]:
    """Return the fields of a stored header block; their ranges count from its beginning."""
    return read_head(header, 0, "text/plain", _FIELDS_MAX).fields


class FilteredHeader:
    """A header of which some fields are asked; ``range`` is its own, in the source the fields' refer to."""

    __slots__ = ("_fields", "_mime_only", "_names", "_without", "range")

    def __init__(
        self,
        header: Range,
        fields: Sequence[HeaderField],
        names: Sequence[str] = (),
        *,
        without: bool = False,
        mime_only: bool = False,
    ) -> None:
        self.range = header
        self._fields = fields
        self._names = frozenset(names)
        self._without = without
        self._mime_only = mime_only

    @classmethod
    def of(cls, header: Range, fields: Sequence[HeaderField], section: Section) -> "FilteredHeader":
        """Return what ``HEADER.FIELDS`` or ``HEADER.FIELDS.NOT`` asks."""
        return cls(header, fields, section.fields, without=section.text is SectionText.HEADER_FIELDS_NOT)

    @property
    def most(self) -> int:
        """Return how many octets `choose` gives at most: line ends are added where they are missing."""
        return sum(field.range.length + 2 for field in self._fields if self._wants(field.name)) + 2

    def choose(self, header: bytes) -> bytes:
        """Return the chosen fields, as received and in order, and the blank line."""
        start = self.range.start
        kept = [
            header[field.range.start - start : field.range.end - start]
            for field in self._fields
            if self._wants(field.name)
        ]
        return b"".join(_ended(kept)) + b"\r\n"

    def _wants(self, name: str) -> bool:
        if self._mime_only:
            return name.startswith("content-") or name == "mime-version"
        return (name in self._names) is not self._without


def _ended(fields: Iterable[bytes]) -> Iterable[bytes]:
    return (field if field.endswith(b"\r\n") else field + b"\r\n" for field in fields)


def _numbered(root: Part, numbers: Sequence[int]) -> tuple[Part | None, Part]:
    """Return the part with that number, and the message whose numbering it belongs to.

    A message that is not multipart has exactly one part, number 1: itself.
    """
    message = root  # whose parts are being counted
    part: Part | None = None
    for number in numbers:
        if part is not None:
            if part.message is not None:
                message = part.message
                part = None
            elif part.type != "multipart" or part is message:
                return None, message
        around = message if part is None else part
        if around.type == "multipart" and around.children:
            if number > len(around.children):
                return None, message
            part = around.children[number - 1]
        elif part is None and number == 1:
            part = message
        else:
            return None, message
    return part, message
