"""The selected folder of a session: FETCH, STORE, SEARCH, EXPUNGE, COPY, MOVE over its view.

A folder that another session removes stays selected, and its messages go away like any that are expunged
(RFC 2180 3.3): nobody is thrown out.

spec: RFC3501#6.4, RFC4315, RFC6851, RFC7162
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Final

from directory.accounts import Right
from kephs.domain.mailboxes import ItemSummary
from kephs.domain.messages import Person
from kephs.imap import commands as c
from kephs.imap import render
from kephs.imap.fetch import Fetcher, FetchPolicy
from kephs.imap.search_keys import NumberSet
from kephs.imap.searching import Searcher
from kephs.imap.states import Answer, RefusedError
from kephs.imap.view import View
from kephs.ports import Offload, StoreUnavailableError
from kephs.usecases.mailbox.folders import DELETED
from kephs.usecases.mailbox.mailbox import SEEN, Flags, MailboxService, OpenFolder
from kephs.usecases.mailbox.places import Delta, Place
from kephs.usecases.submission.rights import FolderGoneError, MailboxRefusedError

SYSTEM_FLAGS: Final = ("\\Answered", DELETED, "\\Draft", "\\Flagged", SEEN)
KEYWORDS_MAX: Final = 100  # flags and keywords of one message
_STORE_BATCH: Final = 500  # messages of one transaction: others write in between
_AHEAD: Final = 16
_MODSEQ: Final = c.FetchItem(c.ItemKind.MODSEQ, label=b"MODSEQ")


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
        self._gone = False  # the folder was removed

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
            b"* OK [HIGHESTMODSEQ %d] highest" % self.view.modseq,
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
        """Learn what others did; the client hears of it through `news`."""
        if self._gone:
            return
        try:
            self._learn(await self._service.refresh(self._person, self._place()))
        except FolderGoneError:
            self.vanish()

    def vanish(self) -> None:
        """Take in that the folder was removed."""
        self._gone = True
        self.view.lose_all()

    def _learn(self, delta: Delta) -> None:
        self.rights = delta.rights
        self.folder = replace(self.folder, name=delta.name)  # it may have been renamed
        self.view.learn(delta.changed, delta.expunged, delta.modseq)

    # --- FETCH ----------------------------------------------------------------------------------------

    async def fetch(self, command: c.Fetch, outcome: list[bytes]) -> AsyncIterator[bytes]:
        """Yield the answers to FETCH; ``outcome`` gets the tagged answer's text where it is a NO."""
        uids = self.view.chosen(command.numbers, uid=command.uid)
        items = command.items
        if command.changed_since is not None:
            uids = [uid for uid in uids if self.view.summaries[uid].modseq > command.changed_since]
            if all(item.kind is not c.ItemKind.MODSEQ for item in items):
                items = (*items, _MODSEQ)  # spec: RFC7162#3.1.4.1
        fetcher = Fetcher(self._service, self._person, self._place(), self.view, self._policy)
        fetcher.rights = self.rights
        ahead = self._ahead(uids)
        async for piece in fetcher.answers(
            uids, items, uid=command.uid, read_only=self.read_only, ahead=ahead
        ):
            yield piece
        if fetcher.rights is not None:
            self.rights = fetcher.rights
        if (text := _left_out(fetcher)) is not None:
            outcome.append(text)

    def _ahead(self, uids: Sequence[int]) -> Sequence[int]:
        """Return what is likely to be asked next where messages are fetched one by one."""
        if len(uids) != 1:
            return ()
        number = self.view.number(uids[0])
        follows, self._last_fetched = self._last_fetched == number - 1, number
        return self.view.uids[number : number + _AHEAD] if follows else ()

    # --- STORE, EXPUNGE -------------------------------------------------------------------------------

    async def store(self, command: c.Store) -> Answer:
        """Change flags; where a condition was given, messages changed since are named in the answer.

        Raises:
            NotPermittedError: the person may not.
            TooManyKeywordsError: a message would have too many flags.
        """
        uids = [u for u in self.view.chosen(command.numbers, uid=command.uid) if not self.view.is_gone(u)]
        since = command.unchanged_since
        refused = {u for u in uids if since is not None and self.view.summaries[u].modseq > since}
        uids = [uid for uid in uids if uid not in refused]
        change = _changer(command)
        lines: list[bytes] = []
        for start in range(0, len(uids), _STORE_BATCH):
            batch = uids[start : start + _STORE_BATCH]
            known = {uid: self.view.summaries[uid] for uid in batch}
            untold = self.view.untold(batch)
            delta = await self._service.change_flags(
                self._person,
                self._place(),
                {uid: summary.flags for uid, summary in known.items()},
                change,
                unchanged_since=since,
            )
            self._learn(delta)
            refused.update(delta.refused)
            for uid, before in known.items():
                if uid in refused or (command.silent and uid in untold):
                    continue  # what the client does not know yet it hears in `View.news`, silence or not
                lines.append(self._stored(command, uid, before, change))
        if not refused:
            return Answer(b"".join(lines))
        lines += [self._told(uid, command) for uid in sorted(refused)]  # spec: RFC7162#3.1.3
        numbers = sorted(refused) if command.uid else [self.view.number(uid) for uid in sorted(refused)]
        return Answer(b"".join(lines), b"[MODIFIED %b] Some were changed before" % render.number_set(numbers))

    def _stored(
        self, command: c.Store, uid: int, before: ItemSummary, change: Callable[[Flags], Flags]
    ) -> bytes:
        """Return what is told of a message whose flags were set."""
        if not command.silent:
            return self._told(uid, command)
        after = self.view.summaries[uid]
        if after.flags != change(before.flags):
            return b""  # somebody else changed it too: the client must hear, in `View.news`
        self.view.forget_change(uid)
        if self.view.condstore and after.modseq != before.modseq:
            return self.view.modseq_line(uid, with_uid=command.uid)
        return b""

    def _told(self, uid: int, command: c.Store) -> bytes:
        self.view.forget_change(uid)
        return self.view.flags_line(uid, with_uid=command.uid)

    async def expunge(self, only: NumberSet | None = None) -> None:
        r"""Remove what is marked ``\Deleted``.

        Raises:
            NotPermittedError: the person may not delete.
        """
        await self.refresh()
        if self._gone:
            return
        chosen = None if only is None else set(self.view.chosen(only, uid=True))
        known: dict[int, Flags] = {
            uid: summary.flags for uid, summary in self.view.summaries.items() if DELETED in summary.flags
        }
        self._learn(await self._service.expunge(self._person, self._place(), known, chosen))

    # --- COPY, MOVE, SEARCH ---------------------------------------------------------------------------

    async def copy(self, command: c.Copy) -> Answer:
        """Copy messages, all or none; the answer names the new UIDs (RFC 4315).

        Raises:
            MailboxRefusedError, NotPermittedError: nothing was copied.
        """
        uids = self.view.chosen(command.numbers, uid=command.uid)
        if not uids:
            return Answer(text=b"Nothing to copy")
        exact = not command.uid  # spec: RFC3501#6.4.8 (UIDs that are gone are no error)
        filed = await self._service.filing.copy(
            self._person, self._place(), uids, command.mailbox, exact=exact
        )
        return Answer(text=_copy_uid(filed.uid_validity, filed.pairs) + b"Copied")

    async def move(self, command: c.Copy) -> Answer:
        """Move messages batch by batch; those that are gone already are left out (RFC 6851).

        Raises:
            MailboxRefusedError, NotPermittedError, StoreUnavailableError: nothing was moved.
            RefusedError: the rest was not moved, and what was is told in `View.news` alone.
        """
        uids = self.view.chosen(command.numbers, uid=command.uid)
        pairs: list[tuple[int, int]] = []
        validity = 0
        for start in range(0, len(uids), _STORE_BATCH):
            batch = uids[start : start + _STORE_BATCH]
            try:
                filed, delta = await self._service.filing.move(
                    self._person, self._place(), batch, command.mailbox
                )
            except (MailboxRefusedError, StoreUnavailableError) as error:
                if not pairs:
                    raise
                raise RefusedError("[UNAVAILABLE] Only a part was moved; try again") from error
            self._learn(delta)
            validity = filed.uid_validity
            pairs += filed.pairs
        if not pairs:
            return Answer(text=b"Nothing to move")
        # spec: RFC6851#4.3 (COPYUID comes before the EXPUNGE answers)
        return Answer(b"* OK %bmoved\r\n" % _copy_uid(validity, pairs), b"Moved")

    async def search(self, command: c.Search, tag: bytes) -> bytes:
        """Return the untagged answer to SEARCH."""
        searcher = Searcher(self._service, self._offload, self._person, self._place(), self.view, self.rights)
        return await searcher.answer(command, tag)


def _left_out(fetcher: Fetcher) -> bytes | None:
    if fetcher.withheld:
        return b"[UNAVAILABLE] Evidence of reading cannot be made now; some content was withheld"
    if fetcher.lost:
        return b"[SERVERBUG] Some content cannot be read"
    if fetcher.undecodable:
        return b"[UNKNOWN-CTE] Some content has an encoding that is not known"
    return b"[EXPUNGEISSUED] Some messages were removed meanwhile" if fetcher.missing else None


def _copy_uid(validity: int, pairs: Sequence[tuple[int, int]]) -> bytes:
    if not pairs:
        return b""
    old, new = zip(*pairs, strict=True)
    return b"[COPYUID %d %b %b] " % (validity, render.number_set(old), render.number_set(new))


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
