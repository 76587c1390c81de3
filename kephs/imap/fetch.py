"""FETCH: what a message shows, in pieces, content only behind the read gate.

Evidence 60 of a batch is durable before the first content byte of any message in it is produced; a message
whose evidence cannot be made is left out whole (rules-in-detail "The read gate"). A message of which nothing
would be shown (no such part, an origin beyond its end) needs no evidence; the index alone decides that.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from directory.accounts import Right
from evidence.mail.mime import Range
from evidence.ports import ByteSource
from kephs.domain.messages import Person
from kephs.imap import binary, render
from kephs.imap.commands import FetchItem, ItemKind, Section
from kephs.imap.gate import shows_content
from kephs.imap.message import WHOLE, Message, place_of
from kephs.imap.preview import preview_of
from kephs.imap.view import View
from kephs.ports import BlobMissingError, StoreUnavailableError
from kephs.usecases.mailbox.mailbox import INLINE_MAX, SEEN, MailboxService, Row
from kephs.usecases.mailbox.places import Place
from kephs.usecases.submission.rights import NotPermittedError

BATCH: Final = 50  # messages whose evidence is made, and whose rows are read, together
PIECE: Final = 512 * 1024  # bytes of a long literal read at once
COALESCE: Final = 32 * 1024  # answers are handed on in pieces of about this size
_INDEXED: Final = frozenset(ItemKind) - {
    ItemKind.FLAGS, ItemKind.UID, ItemKind.INTERNALDATE, ItemKind.SIZE, ItemKind.MODSEQ,
}  # fmt: skip


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


@dataclass(frozen=True, slots=True)
class _Decoding:
    """A long literal's bytes, still encoded; ``length`` is what must come."""

    pieces: Iterator[bytes]
    length: int


_Pieces = list[bytes | _Stream | _Decoding]


class Fetcher:
    """Answers one FETCH. Afterwards the flags tell what was left out and why."""

    def __init__(
        self, service: MailboxService, person: Person, place: Place, view: View, policy: FetchPolicy
    ) -> None:
        self._service, self._person, self._place = service, person, place
        self._view, self._policy = view, policy
        self.withheld = False  # evidence 60 could not be made
        self.missing = False  # removed by another session meanwhile
        self.lost = False  # content cannot be read
        self.undecodable = False  # BINARY of a part whose encoding is not known
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
                    stream = self._streamed(piece) if isinstance(piece, _Stream) else self._decoded(piece)
                    async for data in stream:
                        yield data
                if size >= COALESCE:
                    yield b"".join(held)
                    held, size = [], 0
        if held:
            yield b"".join(held)

    async def _prepare(
        self, batch: Sequence[int], items: Sequence[FetchItem], ahead: Sequence[int]
    ) -> list[Message]:
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
        messages = [Message(self._service, summary, rows.get(summary.uid)) for summary in summaries]
        if content and self._policy.imap_body:
            messages = await self._exposed(messages, items)
        if stubs:
            for message in messages:
                if message.summary.gated:
                    await message.become_stub(place=self._policy.place, place_en=self._policy.place_en)
        return messages

    async def _exposed(self, messages: Sequence[Message], items: Sequence[FetchItem]) -> list[Message]:
        """Return those messages that may be answered now; those of which nothing is shown stay gated."""
        opened: dict[int, str | None] = {}
        for message in messages:
            if message.closed and await _opened_by_any(message, items):
                opened[message.summary.uid] = message.summary.delivery_id
        ids = [delivery_id for delivery_id in opened.values() if delivery_id]
        durable = await self._service.expose(self._person, ids) if ids else frozenset[str]()
        shown: list[Message] = []
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

    async def _mark_seen(self, messages: Sequence[Message]) -> frozenset[int]:
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
        self, message: Message, items: Sequence[FetchItem], *, uid: bool, seen: frozenset[int]
    ) -> _Pieces:
        asked = {item.kind for item in items}
        number = message.summary.uid
        told: list[FetchItem] = list(items)
        if uid and ItemKind.UID not in asked:
            told.insert(0, FetchItem(ItemKind.UID, label=b"UID"))
        if number in seen and ItemKind.FLAGS not in asked:
            told.insert(0, FetchItem(ItemKind.FLAGS, label=b"FLAGS"))
        with_flags = number in seen or ItemKind.FLAGS in asked
        if self._view.condstore and with_flags and ItemKind.MODSEQ not in asked:
            told.append(FetchItem(ItemKind.MODSEQ, label=b"MODSEQ"))
        pieces: _Pieces = [b"* %d FETCH (" % self._view.number(number)]
        try:
            for position, item in enumerate(told):
                if position:
                    pieces.append(b" ")
                await self._item(message, item, pieces)
        except BlobMissingError:
            self.lost = True
            return []
        except binary.UnknownEncodingError:
            self.undecodable = True
            return []
        if with_flags:
            self._view.forget_change(number)
        pieces.append(b")\r\n")
        return pieces

    async def _item(self, message: Message, item: FetchItem, pieces: _Pieces) -> None:
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
            case ItemKind.MODSEQ:
                pieces.append(b"MODSEQ (%d)" % self._view.summaries[message.summary.uid].modseq)
            case ItemKind.ENVELOPE:
                pieces.append(b"ENVELOPE " + await message.envelope())
            case ItemKind.STRUCTURE | ItemKind.BODY:
                extended = item.kind is ItemKind.STRUCTURE
                shown = await message.structure(extended=extended)
                pieces.append((b"BODYSTRUCTURE " if extended else b"BODY ") + shown)
            case ItemKind.SECTION:
                await self._section(message, item, pieces)
            case _:
                await self._extension(message, item, pieces)

    async def _extension(self, message: Message, item: FetchItem, pieces: _Pieces) -> None:
        match item.kind:
            case ItemKind.PREVIEW:
                pieces.append(b"PREVIEW ")
                pieces.append(await self._preview(message))
            case ItemKind.BINARY_SIZE:
                pieces.append(b"%b %d" % (item.label, await self._binary_size(message, item)))
            case _:
                await self._binary(message, item, pieces)

    async def _section(self, message: Message, item: FetchItem, pieces: _Pieces) -> None:
        section = item.section or WHOLE
        origin = section.partial[0] if section.partial else None
        pieces.append(item.label + (b" " if origin is None else b"<%d> " % origin))
        if message.closed and shows_content(item):  # it may be answered because there is nothing to show
            pieces.append(b"NIL" if await message.extent(section) is None else b"{0}\r\n")
            return
        found = await place_of(message, section)
        if found is None:
            pieces.append(b"NIL")
        elif isinstance(found, bytes):
            start, length = _window(len(found), section)
            pieces.append(render.literal(found[start : start + length]))
        else:
            start, length = _window(found.length, section)
            await self._stored(message, Range(found.start + start, found.start + start + length), pieces)

    async def _preview(self, message: Message) -> bytes:
        """Return the beginning of the text; NIL where it may not be shown now (RFC 8970 4.1)."""
        if message.closed:
            return b"NIL"
        root, source = await message.root(), await message.source()
        return render.text_string(await self._service.run(source, preview_of, source, root))

    async def _binary_size(self, message: Message, item: FetchItem) -> int:
        found = binary.encoded_part(await message.root(), item.section or WHOLE)
        if found is None:
            return 0
        where, encoding = found
        if not encoding:
            return where.length
        source = await message.source()
        return await self._service.run(source, binary.decoded_size, source, where, encoding)

    async def _binary(self, message: Message, item: FetchItem, pieces: _Pieces) -> None:
        section = item.section or WHOLE
        origin = section.partial[0] if section.partial else None
        pieces.append(item.label + (b" " if origin is None else b"<%d> " % origin))
        found = binary.encoded_part(await message.root(), section)
        if found is None or message.closed:  # closed: it may be answered because there is nothing to show
            pieces.append(b"NIL" if found is None else b"{0}\r\n")
            return
        where, encoding = found
        if not encoding:
            start, length = _window(where.length, section)
            await self._stored(message, Range(where.start + start, where.start + start + length), pieces)
            return
        source = await message.source()
        size = await self._service.run(source, binary.decoded_size, source, where, encoding)
        start, length = _window(size, section)
        chosen = binary.window(binary.decoded(source, where, encoding), start, length)
        pieces.append(b"~{%d}\r\n" % length)  # spec: RFC3516#4.3 (what is decoded may hold NUL)
        if where.length <= INLINE_MAX:
            pieces.append(b"".join(chosen))
        else:
            pieces.append(_Decoding(chosen, length))

    async def _decoded(self, decoding: _Decoding) -> AsyncIterator[bytes]:
        left = decoding.length
        while left:
            try:
                data = await self._service.beside(next, decoding.pieces, None)
            except BlobMissingError as error:
                raise ContentLostError from error
            if data is None:
                raise ContentLostError
            left -= len(data)
            if data:
                yield data

    async def _stored(self, message: Message, where: Range, pieces: _Pieces) -> None:
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


async def _opened_by_any(message: Message, items: Sequence[FetchItem]) -> bool:
    for item in items:
        if await message.opens(item):
            return True
    return False


def _window(size: int, section: Section) -> tuple[int, int]:
    if section.partial is None:
        return 0, size
    start = min(section.partial[0], size)
    return start, min(section.partial[1], size - start)
