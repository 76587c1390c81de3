"""The read gate: which items of a FETCH show content, so that evidence 60 must be durable before.

spec: rules-in-detail "The read gate", KEP-LM-05, KEP-LM-06
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from kephs.imap.commands import FetchItem, ItemKind, Section, SectionText

# None: the section decides
GATE: Final[Mapping[ItemKind, bool | None]] = MappingProxyType(
    {
        ItemKind.FLAGS: False,
        ItemKind.UID: False,
        ItemKind.INTERNALDATE: False,
        ItemKind.SIZE: False,
        ItemKind.MODSEQ: False,
        ItemKind.ENVELOPE: False,
        ItemKind.STRUCTURE: False,
        ItemKind.BODY: False,
        ItemKind.SECTION: None,
        ItemKind.BINARY: True,
        ItemKind.BINARY_SIZE: False,
        ItemKind.PREVIEW: True,
    }
)

# (word inside the brackets, of a numbered part) -> content?
SECTION_GATE: Final[Mapping[tuple[SectionText, bool], bool]] = MappingProxyType(
    {
        (SectionText.ALL, False): True,
        (SectionText.ALL, True): True,
        (SectionText.TEXT, False): True,
        (SectionText.TEXT, True): True,
        (SectionText.HEADER, False): False,
        (SectionText.HEADER_FIELDS, False): False,
        (SectionText.HEADER_FIELDS_NOT, False): False,
        # the header of the embedded original is content
        (SectionText.HEADER, True): True,
        (SectionText.HEADER_FIELDS, True): True,
        (SectionText.HEADER_FIELDS_NOT, True): True,
        (SectionText.MIME, True): False,
    }
)


def shows_content(item: FetchItem) -> bool:
    """Say whether the item shows content of a message. Partials and PEEK make no difference."""
    decided = GATE[item.kind]
    if decided is not None:
        return decided
    section = item.section or Section((), SectionText.ALL)
    return SECTION_GATE[section.text, bool(section.parts)]


def shows_octets(item: FetchItem, length: int | None) -> bool:
    """Say whether the item shows at least one octet of content of one message (KEP-LM-05).

    Args:
        item: what is asked.
        length: how many octets the item's section has in this message, or an upper bound (decoded content is
            never longer than encoded), its partial disregarded; None where the message has no such part.
            A preview shows something wherever there is content.
    """
    if not shows_content(item):
        return False
    if item.kind not in (ItemKind.SECTION, ItemKind.BINARY):
        return True
    origin = item.section.partial[0] if item.section and item.section.partial else 0
    return length is not None and origin < length
