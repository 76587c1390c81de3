"""FETCH: what a message shows, in pieces, content only behind the read gate.

Evidence 60 of a batch is durable before the first content byte of any message in it is produced; a message
whose evidence cannot be made is left out whole (rules-in-detail "The read gate"). A message of which nothing
would be shown (no such part, an origin beyond its end) needs no evidence; the index alone decides that.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from directory.accounts import Right
from evidence.mime import HeaderField, Part, Range
from evidence.ports import ByteSource
from kephs.domain.mailboxes import ItemSummary
from kephs.domain.message_index import MessageIndex
from kephs.domain.messages import Person
from kephs.imap import render
from kephs.imap.commands import FetchItem, ItemKind, Section, SectionText
from kephs.imap.gate import shows_content, shows_octets
from kephs.imap.sections import FilteredHeader, fields_of, locate
from kephs.imap.stub import stub_message
from kephs.imap.view import View
from kephs.ports import Blob, BlobMissingError, StoreUnavailableError
from kephs.usecases.mailbox import INLINE_MAX, SEEN, MailboxService, NotPermittedError, Place, Row

BATCH: Final = 50  # messages whose evidence is made, and whose rows are read, together
PIECE: Final = 512 * 1024  # bytes of a long literal read at once
COALESCE: Final = 32 * 1024  # answers are handed on in pieces of about this size
_WHOLE: Final = Section((), SectionText.ALL)
_INDEXED: Final = frozenset({ItemKind.ENVELOPE, ItemKind.STRUCTURE, ItemKind.BODY, ItemKind.SECTION})


class ContentLostError(Exception):
    """Content could not be read in the middle of a literal: the connection must end."""


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """``imap_body`` off serves a stub instead of unread content; the places say where it can be opened."""

    imap_body: bool = True
    place: str = "KEP web arayüzünde"
    place_en: str = "the KEP web interface"


@dataclass(frozen=True, slots=True)
class _Stream:
    """A long literal's bytes, still in the store."""

    source: ByteSource
    start: int
    length: int


_Pieces = list[bytes | _Stream]


class _Message:
    """One message while its items are answered; everything is read at most once and only if needed."""

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

    async def become_stub(self, policy: FetchPolicy) -> None:
        header = await self.header()
        self._stub = True
        source, self._index = stub_message(header, place=policy.place, place_en=policy.place_en)
        self._source = source
        self._header = self._index.header
        self.size = source.size

    async def header(self) -> bytes:
        if self._header is None:
            self._header = await self._service.header(self._known())
        return self._header

    async def fields(self) -> Sequence[HeaderField]:
        if self._fields is None:
            header = await self.header()
            self._fields = await self._service.compute(len(header), fields_of, header)
        return self._fields

    async def envelope(self) -> bytes:
        fields = await self.fields()
        return await self._service.compute(len(await self.header()), render.envelope, fields)

    async def structure(self, *, extended: bool) -> bytes:
        root = await self.root()
        size = len(self._row.item.index) if self._row is not None else 0
        return await self._service.compute(size, partial(render.structure, extended=extended), root)

    async def root(self) -> Part:
        if self._index is None:
            self._index = await self._service.index(self._known())
        return self._index.root

    async def opens(self, item: FetchItem) -> bool:
        """Say whether the item shows content of this message; where the index does not tell, it does."""
        if not shows_content(item):
            return False
        if item.kind is not ItemKind.SECTION or self._row is None or not self._row.item.index:
            return True
        try:
            return shows_octets(item, await self.extent(item.section or _WHOLE))
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
        if self._source is None:
            blob: Blob | None = self._known().blob
            if blob is None:
                raise BlobMissingError("no content")
            self._source = await self._service.source(blob)
        return self._source

    async def read(self, source: ByteSource, where: Range) -> bytes:
        return await self._service.read(source, where.start, where.length)

    def _known(self) -> Row:
        if self._row is None:
            raise BlobMissingError("no item")
        return self._row


class Fetcher:
    """Answers one FETCH. Afterwards the three flags tell what was left out and why."""

    def __init__(
        self, service: MailboxService, person: Person, place: Place, view: View, policy: FetchPolicy
    ) -> None:
        self._service, self._person, self._place = service, person, place
        self._view, self._policy = view, policy
        self.withheld = False  # evidence 60 could not be made
        self.missing = False  # removed by another session meanwhile
        self.lost = False  # content cannot be read
        self.rights: Right | None = None

    async def answers(
        self,
        uids: Sequence[int],
        items: Sequence[FetchItem],
        *,
        uid: bool,
        read_only: bool,
        ahead: Sequence[int] = (),
    ) -> AsyncIterator[bytes]:
        r"""Yield the untagged answers for messages of the view.

        Args:
            uids: the messages, ascending.
            items: what is asked of each.
            uid: whether every answer carries the UID.
            read_only: whether the folder was opened by EXAMINE: ``\Seen`` stays as it is.
            ahead: messages that will probably be asked next.

        Raises:
            NotPermittedError: content is asked and the person may not read.
            ContentLostError: the answer broke off inside a literal.
        """
        marks = not read_only and any(not item.peek for item in items)  # spec: RFC3501#6.4.5
        held: list[bytes] = []
        size = 0
        for start in range(0, len(uids), BATCH):
            messages = await self._prepare(uids[start : start + BATCH], items, ahead)
            seen = await self._mark_seen(messages) if marks else frozenset()
            for message in messages:
                for piece in await self._answer(message, items, uid=uid, seen=seen):
                    if isinstance(piece, bytes):
                        held.append(piece)
                        size += len(piece)
                        continue
                    yield b"".join(held)
                    held, size = [], 0
                    async for data in self._streamed(piece):
                        yield data
                if size >= COALESCE:
                    yield b"".join(held)
                    held, size = [], 0
        if held:
            yield b"".join(held)

    async def _prepare(
        self, batch: Sequence[int], items: Sequence[FetchItem], ahead: Sequence[int]
    ) -> list[_Message]:
        """Read what the batch needs and make its evidence; what must not be shown is left out."""
        content = any(shows_content(item) for item in items)
        summaries = [self._view.summaries[uid] for uid in batch]
        stubs = not self._policy.imap_body and any(summary.gated for summary in summaries)
        rows: dict[int, Row] = {}
        if stubs or any(item.kind in _INDEXED for item in items):
            rows, rights = await self._service.rows(self._person, self._place, batch, ahead)
            self.rights = rights if rights is not None else self.rights
            if content and self.rights is not None and Right.READ not in self.rights:
                raise NotPermittedError
            self.missing |= len(rows) < len(batch)
            summaries = [summary for summary in summaries if summary.uid in rows]
        messages = [_Message(self._service, summary, rows.get(summary.uid)) for summary in summaries]
        if content and self._policy.imap_body:
            messages = await self._exposed(messages, items)
        if stubs:
            for message in messages:
                if message.summary.gated:
                    await message.become_stub(self._policy)
        return messages

    async def _exposed(self, messages: Sequence[_Message], items: Sequence[FetchItem]) -> list[_Message]:
        """Return those messages that may be answered now; those of which nothing is shown stay gated."""
        opened: dict[int, str | None] = {}
        for message in messages:
            if message.closed and await _opened_by_any(message, items):
                opened[message.summary.uid] = message.summary.delivery_id
        ids = [delivery_id for delivery_id in opened.values() if delivery_id]
        durable = await self._service.expose(self._person, ids) if ids else frozenset[str]()
        shown: list[_Message] = []
        for message in messages:
            uid = message.summary.uid
            if uid not in opened:
                shown.append(message)
            elif opened[uid] in durable:
                message.summary = replace(message.summary, gated=False)
                self._view.replace(replace(self._view.summaries[uid], gated=False))
                shown.append(message)
        self.withheld |= len(shown) < len(messages)
        return shown

    async def _mark_seen(self, messages: Sequence[_Message]) -> frozenset[int]:
        r"""Set ``\Seen`` on what is about to be shown, and return whose flags changed by that.

        A message still behind the gate keeps looking unread: only its header or a stub is shown.
        """
        unseen = {
            message.summary.uid: self._view.summaries[message.summary.uid].flags
            for message in messages
            if not message.summary.gated and SEEN not in self._view.summaries[message.summary.uid].flags
        }
        if not unseen:
            return frozenset()
        place = replace(self._place, modseq=self._view.modseq)
        try:
            delta = await self._service.change_flags(
                self._person, place, unseen, lambda flags: flags | {SEEN}
            )
        except StoreUnavailableError:
            return frozenset()  # the flag is a convenience; the evidence exists already
        self._view.learn(delta.changed, delta.expunged, delta.modseq)
        return frozenset(unseen)

    # --- one message ----------------------------------------------------------------------------------

    async def _answer(
        self, message: _Message, items: Sequence[FetchItem], *, uid: bool, seen: frozenset[int]
    ) -> _Pieces:
        asked = {item.kind for item in items}
        number = message.summary.uid
        told: list[FetchItem] = list(items)
        if uid and ItemKind.UID not in asked:
            told.insert(0, FetchItem(ItemKind.UID, label=b"UID"))
        if number in seen and ItemKind.FLAGS not in asked:
            told.insert(0, FetchItem(ItemKind.FLAGS, label=b"FLAGS"))
        pieces: _Pieces = [b"* %d FETCH (" % self._view.number(number)]
        try:
            for position, item in enumerate(told):
                if position:
                    pieces.append(b" ")
                await self._item(message, item, pieces)
        except BlobMissingError:
            self.lost = True
            return []
        if number in seen or ItemKind.FLAGS in asked:
            self._view.forget_change(number)
        pieces.append(b")\r\n")
        return pieces

    async def _item(self, message: _Message, item: FetchItem, pieces: _Pieces) -> None:
        match item.kind:
            case ItemKind.FLAGS:
                flags = self._view.summaries[message.summary.uid].flags
                pieces.append(b"FLAGS " + render.flag_list(flags))
            case ItemKind.UID:
                pieces.append(b"UID %d" % message.summary.uid)
            case ItemKind.INTERNALDATE:
                pieces.append(b"INTERNALDATE " + render.date_time(message.summary.received_at))
            case ItemKind.SIZE:
                pieces.append(b"RFC822.SIZE %d" % message.size)
            case ItemKind.ENVELOPE:
                pieces.append(b"ENVELOPE " + await message.envelope())
            case ItemKind.STRUCTURE | ItemKind.BODY:
                extended = item.kind is ItemKind.STRUCTURE
                shown = await message.structure(extended=extended)
                pieces.append((b"BODYSTRUCTURE " if extended else b"BODY ") + shown)
            case _:
                await self._section(message, item, pieces)

    async def _section(self, message: _Message, item: FetchItem, pieces: _Pieces) -> None:
        section = item.section or _WHOLE
        origin = section.partial[0] if section.partial else None
        pieces.append(item.label + (b" " if origin is None else b"<%d> " % origin))
        if message.closed and shows_content(item):  # it may be answered because there is nothing to show
            pieces.append(b"NIL" if await message.extent(section) is None else b"{0}\r\n")
            return
        found = await _place_of(message, section)
        if found is None:
            pieces.append(b"NIL")
        elif isinstance(found, bytes):
            start, length = _window(len(found), section)
            pieces.append(render.literal(found[start : start + length]))
        else:
            start, length = _window(found.length, section)
            await self._stored(message, Range(found.start + start, found.start + start + length), pieces)

    async def _stored(self, message: _Message, where: Range, pieces: _Pieces) -> None:
        """Add a literal of stored bytes: small ones now, long ones piece by piece when it is their turn."""
        if not where.length:
            pieces.append(b"{0}\r\n")
            return
        source = await message.source()
        # read before the literal is announced: what is missing altogether is found while it can be said
        ready = min(where.length, INLINE_MAX)
        first = await self._service.read(source, where.start, ready)
        if len(first) < ready:
            raise BlobMissingError("short read")
        pieces.append(b"{%d}\r\n" % where.length)
        pieces.append(first)
        if where.length > ready:
            pieces.append(_Stream(source, where.start + ready, where.length - ready))

    async def _streamed(self, stream: _Stream) -> AsyncIterator[bytes]:
        at, left = stream.start, stream.length
        while left:
            length = min(left, PIECE)
            try:
                data = await self._service.read(stream.source, at, length)
            except BlobMissingError as error:
                raise ContentLostError from error
            if len(data) != length:
                raise ContentLostError
            yield data
            at += length
            left -= length


async def _opened_by_any(message: _Message, items: Sequence[FetchItem]) -> bool:
    for item in items:
        if await message.opens(item):
            return True
    return False


async def _place_of(message: _Message, section: Section) -> Range | bytes | None:
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


def _window(size: int, section: Section) -> tuple[int, int]:
    if section.partial is None:
        return 0, size
    start = min(section.partial[0], size)
    return start, min(section.partial[1], size - start)
