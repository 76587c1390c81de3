"""One message while a FETCH is answered: everything is read at most once, and only where it is needed."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from evidence.mail.mime import HeaderField, Part, Range
from evidence.ports import ByteSource
from kephs.domain.mailboxes import ItemSummary
from kephs.domain.message_index import MessageIndex
from kephs.imap import render
from kephs.imap.binary import UnknownEncodingError, encoded_part
from kephs.imap.commands import FetchItem, ItemKind, Section, SectionText
from kephs.imap.gate import shows_content, shows_octets
from kephs.imap.sections import FilteredHeader, fields_of, locate
from kephs.imap.stub import stub_message
from kephs.ports import Blob, BlobMissingError
from kephs.usecases.mailbox.mailbox import MailboxService, Row

WHOLE: Final = Section((), SectionText.ALL)


class Message:
    """One message while its items are answered.

    Methods that read raise `BlobMissingError` where what they need is gone or altered.
    """

    def __init__(self, service: MailboxService, summary: ItemSummary, row: Row | None) -> None:
        self._service = service
        self._row = row
        self.summary = summary
        self.size = summary.size
        self._stub = False
        self._index: MessageIndex | None = None
        self._header: bytes | None = None
        self._fields: Sequence[HeaderField] | None = None
        self._source: ByteSource | None = None

    @property
    def closed(self) -> bool:
        """Say whether the message is still behind the gate: no content of it may be read for an answer."""
        return self.summary.gated and not self._stub

    async def become_stub(self, *, place: str, place_en: str) -> None:
        """Turn into the stub that is served instead of unread content; the places say where to open it."""
        header = await self.header()
        self._stub = True
        source, self._index = stub_message(header, place=place, place_en=place_en)
        self._source = source
        self._header = self._index.header
        self.size = source.size

    async def header(self) -> bytes:
        """Return the header block."""
        if self._header is None:
            self._header = await self._service.header(self._known())
        return self._header

    async def fields(self) -> Sequence[HeaderField]:
        """Return the header fields."""
        if self._fields is None:
            header = await self.header()
            self._fields = await self._service.compute(len(header), fields_of, header)
        return self._fields

    async def envelope(self) -> bytes:
        """Return the envelope as clients read it."""
        fields = await self.fields()
        return await self._service.compute(len(await self.header()), render.envelope, fields)

    async def structure(self, *, extended: bool) -> bytes:
        """Return the body structure as clients read it."""
        root = await self.root()
        size = len(self._row.item.index) if self._row is not None else 0
        return await self._service.compute(size, partial(render.structure, extended=extended), root)

    async def root(self) -> Part:
        """Return the part tree."""
        if self._index is None:
            self._index = await self._service.index(self._known())
        return self._index.root

    async def opens(self, item: FetchItem) -> bool:
        """Say whether the item shows content of this message; where the index does not tell, it does."""
        if not shows_content(item) or item.lazy:
            return False
        if item.kind is ItemKind.PREVIEW or self._row is None or not self._row.item.index:
            return True
        section = item.section or WHOLE
        try:
            if item.kind is ItemKind.BINARY:
                encoded_part(await self.root(), section)
            return shows_octets(item, await self.extent(section))
        except UnknownEncodingError:
            return False  # it is refused, not shown
        except BlobMissingError:
            return True

    async def extent(self, section: Section) -> int | None:
        """Return how many octets a gated section has at most, None where there is no such part."""
        if not section.parts:
            return self.size - (len(await self.header()) if section.text is SectionText.TEXT else 0)
        found = locate(await self.root(), section)
        if isinstance(found, FilteredHeader):
            return found.most
        return None if found is None else found.length

    async def source(self) -> ByteSource:
        """Return the content."""
        if self._source is None:
            blob: Blob | None = self._known().blob
            if blob is None:
                raise BlobMissingError("no content")
            self._source = await self._service.source(blob)
        return self._source

    async def read(self, source: ByteSource, where: Range) -> bytes:
        """Return a range of the content."""
        return await self._service.read(source, where.start, where.length)

    def _known(self) -> Row:
        if self._row is None:
            raise BlobMissingError("no item")
        return self._row


async def place_of(message: Message, section: Section) -> Range | bytes | None:
    """Return where a section's bytes are, or the bytes; the part tree is read only where it is needed."""
    if not section.parts:
        match section.text:
            case SectionText.ALL:
                return Range(0, message.size)
            case SectionText.HEADER:
                return await message.header()
            case SectionText.TEXT:
                return Range(len(await message.header()), message.size)
            case _:
                header = await message.header()
                return FilteredHeader.of(Range(0, len(header)), await message.fields(), section).choose(
                    header
                )
    found = locate(await message.root(), section)
    if isinstance(found, FilteredHeader):
        source = await message.source()
        return found.choose(await message.read(source, found.range))
    return found
