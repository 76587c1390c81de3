"""SEARCH in one folder: what is decided from flags, dates and sizes, then from headers, then from text.

spec: RFC3501#6.4.4, RFC4731, RFC7162#3.1.5
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from directory.accounts import Right
from kephs.domain.mailboxes import ItemSummary
from kephs.domain.messages import Person
from kephs.imap import render
from kephs.imap.commands import Search, SearchReturn
from kephs.imap.search import Header, Known, Matcher, text_of
from kephs.imap.view import View
from kephs.ports import BlobMissingError, Offload
from kephs.usecases.mailbox.mailbox import MailboxService, Row
from kephs.usecases.mailbox.places import Place

_BATCH: Final = 500
_HEADER_BATCH: Final = 50

_Found = tuple[int, int]  # number, UID


class Searcher:
    """Answers one SEARCH over a view. Content behind the read gate is never looked at."""

    def __init__(
        self,
        service: MailboxService,
        offload: Offload,
        person: Person,
        place: Place,
        view: View,
        rights: Right,
    ) -> None:
        self._service, self._offload, self._person = service, offload, person
        self._place, self._view, self._rights = place, view, rights

    async def answer(self, command: Search, tag: bytes) -> bytes:
        """Return the untagged answer, SEARCH or ESEARCH."""
        found = await self._find(command)
        if command.returns is not None:
            return self._extended(command, found, tag)
        numbers = [_shown(command, one) for one in found]
        modseq = b" (MODSEQ %d)" % self._highest(found) if command.modseq and found else b""
        return b"* SEARCH" + b"".join(b" %d" % number for number in numbers) + modseq + b"\r\n"

    def _extended(self, command: Search, found: Sequence[_Found], tag: bytes) -> bytes:
        assert command.returns is not None
        words = [b'* ESEARCH (TAG "%b")' % tag]
        if command.uid:
            words.append(b"UID")
        if found and SearchReturn.MIN in command.returns:
            words.append(b"MIN %d" % _shown(command, found[0]))
        if found and SearchReturn.MAX in command.returns:
            words.append(b"MAX %d" % _shown(command, found[-1]))
        if found and SearchReturn.ALL in command.returns:
            words.append(b"ALL " + render.number_set([_shown(command, one) for one in found]))
        if SearchReturn.COUNT in command.returns:
            words.append(b"COUNT %d" % len(found))
        if found and command.modseq:  # spec: RFC7162#3.1.10
            told = found
            if not command.returns & {SearchReturn.ALL, SearchReturn.COUNT}:
                ends = {SearchReturn.MIN: found[0], SearchReturn.MAX: found[-1]}
                told = [ends[end] for end in ends if end in command.returns]
            words.append(b"MODSEQ %d" % self._highest(told))
        return b" ".join(words) + b"\r\n"

    def _highest(self, found: Sequence[_Found]) -> int:
        return max(self._view.summaries[uid].modseq for _, uid in found)

    async def _find(self, command: Search) -> list[_Found]:
        """Return what matches, ascending."""
        count = len(self._view)
        uids = self._view.uids[:count]
        matcher = Matcher(command.key, last_uid=uids[-1] if uids else 0, count=count)
        found: list[_Found] = []
        for start in range(0, count, _BATCH):
            batch = [
                Known(number, self._searchable(uid))
                for number, uid in enumerate(uids[start : start + _BATCH], start + 1)
            ]
            if count > _BATCH:  # a big folder is looked through beside the loop
                verdicts = await self._offload.run(matcher.decide_all, batch)
            else:
                verdicts = matcher.decide_all(batch)
            open_ones: list[Known] = []
            for known, verdict in zip(batch, verdicts, strict=True):
                if verdict:
                    found.append((known.number, known.summary.uid))
                elif verdict is None:
                    open_ones.append(known)
            for at in range(0, len(open_ones), _HEADER_BATCH):
                found += await self._look_deeper(matcher, open_ones[at : at + _HEADER_BATCH])
        return sorted(found)

    def _searchable(self, uid: int) -> ItemSummary:
        summary = self._view.summaries[uid]
        return summary if Right.READ in self._rights else replace(summary, gated=True)

    async def _look_deeper(self, matcher: Matcher, batch: Sequence[Known]) -> list[_Found]:
        """Decide what flags, dates and sizes could not: by headers, then by text."""
        rows, _ = await self._service.rows(self._person, self._place, [known.summary.uid for known in batch])
        found: list[_Found] = []
        for known in batch:
            row = rows.get(known.summary.uid)
            if row is None:
                continue
            try:
                verdict = await self._decide_deeper(matcher, known, row)
            except BlobMissingError:
                verdict = False
            if verdict:
                found.append((known.number, known.summary.uid))
        return found

    async def _decide_deeper(self, matcher: Matcher, known: Known, row: Row) -> bool:
        block = await self._service.header(row)
        known = replace(known, header=await self._service.compute(len(block), Header.of, block))
        verdict = matcher.decide(known)
        if verdict is None and row.blob is not None:
            source = await self._service.source(row.blob)
            root = (await self._service.index(row)).root
            text = await self._offload.run(text_of, source, root)
            verdict = matcher.decide(replace(known, text=text))
        return bool(verdict)


def _shown(command: Search, found: _Found) -> int:
    return found[1] if command.uid else found[0]
