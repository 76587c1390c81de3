"""One session's view of a folder: sequence numbers, what the client was told, what it has still to hear.

spec: RFC3501#2.3.1.2, RFC3501#7.4.1, RFC3501#5.2
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence

from kephs.domain.mailboxes import ItemSummary
from kephs.imap import render
from kephs.imap.search_keys import STAR, NumberSet


class NoSuchNumberError(ValueError):
    """A sequence number beyond the folder's messages."""


class View:
    """Sequence numbers and summaries. Changes come in at once; the client hears of them when it may."""

    def __init__(self, summaries: Sequence[ItemSummary], modseq: int) -> None:
        self.uids = [summary.uid for summary in summaries]
        self.summaries = {summary.uid: summary for summary in summaries}
        self.modseq = modseq
        self._told = len(self.uids)  # messages the client knows of; later ones are appended
        self._changed: set[int] = set()
        self._gone: set[int] = set()
        self.condstore = False  # whether the client hears of modification numbers (RFC 7162)

    def __len__(self) -> int:
        return self._told

    def number(self, uid: int) -> int:
        """Return the sequence number of a message that is in the view."""
        return bisect_left(self.uids, uid) + 1

    def chosen(self, numbers: NumberSet, *, uid: bool) -> list[int]:
        """Return the UIDs that a number set names, ascending, each once.

        Raises:
            NoSuchNumberError: a sequence number that no message has.
        """
        spans = sorted(self._by_uid(numbers) if uid else self._by_number(numbers))
        found: list[int] = []
        reached = 0
        for low, high in spans:
            start = max(low, reached)
            if high > start:
                found += self.uids[start:high]
                reached = high
        return found

    def _by_uid(self, numbers: NumberSet) -> Iterator[tuple[int, int]]:
        if not self._told:
            return
        last = self.uids[self._told - 1]
        for first, second in numbers:
            low, high = sorted((first if first != STAR else last, second if second != STAR else last))
            yield bisect_left(self.uids, low, 0, self._told), bisect_right(self.uids, high, 0, self._told)

    def _by_number(self, numbers: NumberSet) -> Iterator[tuple[int, int]]:
        count = self._told
        for first, second in numbers:
            low, high = sorted((first if first != STAR else count, second if second != STAR else count))
            if high > count and not (count == 0 and STAR in (first, second)):
                raise NoSuchNumberError
            if low:
                yield low - 1, min(high, count)

    # --- changes ------------------------------------------------------------------------------------

    def learn(self, changed: Sequence[ItemSummary], expunged: Sequence[int], modseq: int) -> None:
        """Take in what happened in the folder since `modseq`."""
        for summary in changed:
            known = self.summaries.get(summary.uid)
            if known is None:
                if not self.uids or summary.uid > self.uids[-1]:
                    self.uids.append(summary.uid)
                    self.summaries[summary.uid] = summary
                continue
            # who keeps modification numbers hears of them also where flags are what they were before
            if known.flags != summary.flags or (self.condstore and known.modseq != summary.modseq):
                self._changed.add(summary.uid)
            self.summaries[summary.uid] = summary
        self._gone.update(uid for uid in expunged if uid in self.summaries)
        self.modseq = max(self.modseq, modseq)

    def lose_all(self) -> None:
        """Take in that the folder was removed: every message is gone."""
        self._gone.update(self.uids)

    def replace(self, summary: ItemSummary) -> None:
        """Take in a change the client need not hear of."""
        self.summaries[summary.uid] = summary

    def untold(self, uids: Iterable[int]) -> set[int]:
        """Return those messages whose flags changed and whose client did not hear of it yet."""
        return self._changed.intersection(uids)

    def forget_change(self, uid: int) -> None:
        """Note that the client was told the flags of a message."""
        self._changed.discard(uid)

    def is_gone(self, uid: int) -> bool:
        """Say whether the message was removed, though its number still stands."""
        return uid in self._gone

    def news(self, *, expunges: bool, uids: bool, flags: bool = True) -> bytes:
        """Return the untagged answers that are due.

        Args:
            expunges: whether numbers may change now (not during FETCH, STORE, SEARCH by number).
            uids: whether FETCH answers carry the UID (they must during UID commands).
            flags: whether changes of flags are told now.
        """
        lines: list[bytes] = []
        if expunges and self._gone:
            lines += self._expunge()
        if len(self.uids) > self._told:
            self._told = len(self.uids)
            lines.append(b"* %d EXISTS\r\n" % self._told)
        if flags and self._changed:
            for uid in sorted(self._changed - self._gone):
                lines.append(self.flags_line(uid, with_uid=uids))
            self._changed.clear()
        return b"".join(lines)

    def flags_line(self, uid: int, *, with_uid: bool) -> bytes:
        """Return the FETCH answer that tells a message's flags."""
        flags = render.flag_list(self.summaries[uid].flags)
        extra = b" UID %d" % uid if with_uid else b""
        if self.condstore:
            extra += b" MODSEQ (%d)" % self.summaries[uid].modseq
        return b"* %d FETCH (FLAGS %b%b)\r\n" % (self.number(uid), flags, extra)

    def modseq_line(self, uid: int, *, with_uid: bool) -> bytes:
        """Return the FETCH answer that tells a message's modification number alone."""
        extra = b"UID %d " % uid if with_uid else b""
        modseq = self.summaries[uid].modseq
        return b"* %d FETCH (%bMODSEQ (%d))\r\n" % (self.number(uid), extra, modseq)

    def _expunge(self) -> list[bytes]:
        lines: list[bytes] = []
        told = self._told
        for uid in sorted(self._gone, reverse=True):
            index = bisect_left(self.uids, uid)
            if index < told:  # what was never announced goes in silence
                lines.append(b"* %d EXPUNGE\r\n" % (index + 1))
                self._told -= 1
            del self.summaries[uid]
        gone = self._gone
        self.uids = [uid for uid in self.uids if uid not in gone]
        self._changed -= gone
        self._gone = set()
        return lines

    def first(self, wanted: Callable[[ItemSummary], bool]) -> int | None:
        """Return the number of the first message that is wanted."""
        for number, uid in enumerate(self.uids, 1):
            if wanted(self.summaries[uid]):
                return number
        return None
