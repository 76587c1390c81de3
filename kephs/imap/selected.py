"""The selected folder of a session: FETCH, STORE, SEARCH, EXPUNGE over its view.

spec: RFC3501#6.4
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Final

from directory.accounts import Right
from kephs.domain.mailboxes import ItemSummary
from kephs.domain.messages import Person
from kephs.imap import commands as c
from kephs.imap.fetch import Fetcher, FetchPolicy
from kephs.imap.search import Header, Known, Matcher, text_of
from kephs.imap.view import View
from kephs.ports import BlobMissingError, Offload
from kephs.usecases.mailbox import DELETED, SEEN, Flags, MailboxService, OpenFolder, Place, Row

SYSTEM_FLAGS: Final = ("\\Answered", DELETED, "\\Draft", "\\Flagged", SEEN)
KEYWORDS_MAX: Final = 100  # flags and keywords of one message
_STORE_BATCH: Final = 500  # messages of one transaction: others write in between
_SEARCH_BATCH: Final = 500
_HEADER_BATCH: Final = 50
_AHEAD: Final = 16


class TooManyKeywordsError(Exception):
    """A message would have more flags than `KEYWORDS_MAX`."""


class Selected:
    """One folder that a session has open, and what its client was told of it."""

    def __init__(
        self,
        service: MailboxService,
        offload: Offload,
        person: Person,
        opened: OpenFolder,
        policy: FetchPolicy,
        *,
        read_only: bool,
    ) -> None:
        self._service, self._offload, self._person = service, offload, person
        self._policy = policy
        self.folder = opened.folder
        self.rights = opened.rights
        self.read_only = read_only
        self.view = View(opened.summaries, opened.folder.modseq)
        self._last_fetched = 0

    def greeting(self) -> bytes:
        """Return the untagged answers of SELECT and EXAMINE."""
        flags = sorted({*SYSTEM_FLAGS, *(flag for s in self.view.summaries.values() for flag in s.flags)})
        lines = [
            b"* FLAGS (%b)" % " ".join(flags).encode("ascii"),
            b"* OK [PERMANENTFLAGS (%b)] kept" % self._permanent(flags),
            b"* %d EXISTS" % len(self.view),
            b"* 0 RECENT",
        ]
        unseen = self.view.first(lambda summary: SEEN not in summary.flags)
        if unseen is not None:
            lines.append(b"* OK [UNSEEN %d] first unseen" % unseen)
        lines += [
            b"* OK [UIDVALIDITY %d] valid" % self.folder.uid_validity,
            b"* OK [UIDNEXT %d] next" % self.folder.uid_next,
        ]
        return b"\r\n".join(lines) + b"\r\n"

    def _permanent(self, flags: Sequence[str]) -> bytes:
        if self.read_only or Right.READ not in self.rights:
            return b""
        kept = [flag for flag in flags if flag != DELETED or Right.DELETE in self.rights]
        return " ".join([*kept, "\\*"]).encode("ascii")

    def _place(self) -> Place:
        return Place(self.folder.folder_id, self.folder.name, self.view.modseq)

    async def refresh(self) -> None:
        """Learn what others did; the client hears of it through `news`.

        Raises:
            FolderGoneError: the folder is not there any more.
        """
        delta = await self._service.refresh(self._person, self._place())
        self.rights = delta.rights
        self.view.learn(delta.changed, delta.expunged, delta.modseq)

    # --- FETCH ----------------------------------------------------------------------------------------

    async def fetch(self, command: c.Fetch, outcome: list[bytes]) -> AsyncIterator[bytes]:
        """Yield the answers to FETCH; ``outcome`` gets the tagged answer's text where it is a NO."""
        uids = self.view.chosen(command.numbers, uid=command.uid)
        fetcher = Fetcher(self._service, self._person, self._place(), self.view, self._policy)
        fetcher.rights = self.rights
        ahead: Sequence[int] = ()
        if len(uids) == 1:  # one by one: what follows is likely to be asked next
            number = self.view.number(uids[0])
            if self._last_fetched == number - 1:
                ahead = self.view.uids[number : number + _AHEAD]
            self._last_fetched = number
        async for piece in fetcher.answers(
            uids, command.items, uid=command.uid, read_only=self.read_only, ahead=ahead
        ):
            yield piece
        if fetcher.rights is not None:
            self.rights = fetcher.rights
        if fetcher.withheld:
            outcome.append(b"[UNAVAILABLE] Evidence of reading cannot be made now; some content was withheld")
        elif fetcher.lost:
            outcome.append(b"[SERVERBUG] Some content cannot be read")
        elif fetcher.missing:
            outcome.append(b"[EXPUNGEISSUED] Some messages were removed meanwhile")

    # --- STORE, EXPUNGE -------------------------------------------------------------------------------

    async def store(self, command: c.Store) -> bytes:
        """Change flags and return the untagged answers.

        Raises:
            NotPermittedError: the person may not.
            TooManyKeywordsError: a message would have too many flags.
        """
        uids = [u for u in self.view.chosen(command.numbers, uid=command.uid) if not self.view.is_gone(u)]
        change = _changer(command)
        lines: list[bytes] = []
        for start in range(0, len(uids), _STORE_BATCH):
            batch = uids[start : start + _STORE_BATCH]
            known = {uid: self.view.summaries[uid].flags for uid in batch}
            delta = await self._service.change_flags(self._person, self._place(), known, change)
            self.rights = delta.rights
            self.view.learn(delta.changed, delta.expunged, delta.modseq)
            for uid, flags in known.items():
                if not command.silent:
                    lines.append(self.view.flags_line(uid, with_uid=command.uid))
                    self.view.forget_change(uid)
                elif self.view.summaries[uid].flags == change(flags):
                    self.view.forget_change(uid)  # else somebody else changed it too: the client must hear
        return b"".join(lines)

    async def expunge(self, only: c.NumberSet | None = None) -> None:
        r"""Remove what is marked ``\Deleted``.

        Raises:
            NotPermittedError: the person may not delete.
        """
        await self.refresh()
        chosen = None if only is None else set(self.view.chosen(only, uid=True))
        known: dict[int, Flags] = {
            uid: summary.flags for uid, summary in self.view.summaries.items() if DELETED in summary.flags
        }
        delta = await self._service.expunge(self._person, self._place(), known, chosen)
        self.rights = delta.rights
        self.view.learn(delta.changed, delta.expunged, delta.modseq)

    # --- SEARCH ---------------------------------------------------------------------------------------

    async def search(self, command: c.Search) -> bytes:
        """Return the untagged answer to SEARCH."""
        count = len(self.view)
        uids = self.view.uids[:count]
        matcher = Matcher(command.key, last_uid=uids[-1] if uids else 0, count=count)
        found: list[tuple[int, int]] = []
        for start in range(0, count, _SEARCH_BATCH):
            batch = [
                Known(number, self._searchable(uid))
                for number, uid in enumerate(uids[start : start + _SEARCH_BATCH], start + 1)
            ]
            if count > _SEARCH_BATCH:  # a big folder is looked through beside the loop
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
                found += await self._search_deeper(matcher, open_ones[at : at + _HEADER_BATCH])
        numbers = sorted(uid if command.uid else number for number, uid in found)
        return b"* SEARCH" + b"".join(b" %d" % number for number in numbers) + b"\r\n"

    def _searchable(self, uid: int) -> ItemSummary:
        summary = self.view.summaries[uid]
        return summary if Right.READ in self.rights else replace(summary, gated=True)

    async def _search_deeper(self, matcher: Matcher, batch: Sequence[Known]) -> list[tuple[int, int]]:
        """Decide what flags, dates and sizes could not: by headers, then by text."""
        rows, _ = await self._service.rows(
            self._person, self._place(), [known.summary.uid for known in batch]
        )
        found: list[tuple[int, int]] = []
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


def _changer(command: c.Store) -> Callable[[Flags], Flags]:
    """Return what the command makes of a message's flags; keywords compare without case."""
    given = {flag.lower(): flag for flag in command.flags}

    def change(flags: Flags) -> Flags:
        before = {flag.lower(): flag for flag in flags}
        if command.mode is c.StoreMode.REMOVE:
            after = {low: flag for low, flag in before.items() if low not in given}
        elif command.mode is c.StoreMode.ADD:
            after = given | before
        else:
            after = {low: before.get(low, flag) for low, flag in given.items()}
        if len(after) > KEYWORDS_MAX:
            raise TooManyKeywordsError
        return frozenset(after.values())

    return change
