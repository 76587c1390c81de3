"""The one XML parser of the evidence library: no DTD, no entities, no network, no comments.

Everything that reads XML from outside starts here, so that one place holds the caps
(spec: rem-formats R-16).
"""

from datetime import UTC, datetime
from typing import Final, TypeAlias

from lxml import etree

XmlElement: TypeAlias = etree._Element  # noqa: SLF001 - lxml names its element type so

XML_SIZE_MAX: Final = 1 << 20
"""Evidence larger than this is refused before it is parsed (500 recipients need about 200 kB)."""
ELEMENTS_MAX: Final = 50_000


class EvidenceFormatError(Exception):
    """The bytes are not an evidence XML this library can read."""


def parse_xml(data: bytes) -> XmlElement:
    """Parse untrusted XML and return its root element.

    Args:
        data: the whole document, UTF-8 (a declaration may say so, nothing else).

    Raises:
        EvidenceFormatError: too large, not well-formed, another encoding, a DTD or entity,
            a comment or a processing instruction, too many or too deep elements (256).
    """
    if len(data) > XML_SIZE_MAX:
        raise EvidenceFormatError(f"XML larger than {XML_SIZE_MAX} bytes")
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:  # in UTF-8, which is demanded below, they look so only
        raise EvidenceFormatError("document type declarations are not allowed")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise EvidenceFormatError("not UTF-8") from error
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=False,
        remove_pis=False,
        strip_cdata=False,
        encoding="utf-8",
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise EvidenceFormatError(f"not well-formed XML: {error}") from error
    if root.getprevious() is not None or root.getnext() is not None:
        raise EvidenceFormatError("comments or processing instructions around the root")
    _check_nodes(data, root)
    return root


def _check_nodes(data: bytes, root: XmlElement) -> None:
    """Refuse comments, processing instructions, entity references and oversized trees.

    Depth needs no count: without ``huge_tree`` the parser itself stops at 256, and nothing here recurses.
    """
    if next(root.iter(etree.Comment, etree.ProcessingInstruction, etree.Entity), None) is not None:
        raise EvidenceFormatError("comments, instructions and entity references are not allowed")
    # every element has a "<" of its own: documents of usual size need no walk
    if data.count(b"<") > ELEMENTS_MAX and sum(1 for _ in root.iter()) > ELEMENTS_MAX:
        raise EvidenceFormatError("too many elements")


def children(element: XmlElement | None, name: str) -> list[XmlElement]:
    """Return the child elements with this ``{namespace}name``; none for a missing parent."""
    return [] if element is None else element.findall(name)


def text_of(element: XmlElement | None) -> str | None:
    """Return an element's own text, ``""`` when empty, None when the element is missing."""
    if element is None:
        return None
    return str(element.text or "")


def parse_time(text: str) -> datetime:
    """Parse an ``xs:dateTime`` into UTC; a time without an offset is read as UTC.

    Raises:
        EvidenceFormatError: not a date and time.
    """
    try:
        at = datetime.fromisoformat(text.strip())
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise EvidenceFormatError(f"not a time: {text[:40]!r}") from error


def format_time(at: datetime) -> str:
    """Write a time as evidence carries it: UTC, milliseconds, ``Z`` (KEP-EC-08)."""
    return f"{at.astimezone(UTC).isoformat(timespec='milliseconds')[:-6]}Z"
