"""What two providers have on their books, against what clients were told and against each other.

Both books are read as one, as if one provider had served everybody: of each recipient the serving
provider's state counts, of each evidence its maker's row. What crosses the line is compared on top: the
sender's provider knows exactly the evidence that the recipient's provider made, and has drawn the right
conclusion from it; the recipient's has evidence 10 of each message that it took.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.faults.told import DELIVERED, NOT_DELIVERED, READ, Books, Comparison, Row, Told
from tests.support.crash import Provider

ACCEPTED, RELAYED, REJECTED, UNREACHED = 10, 20, 21, 31
_IN_PLACE = {UNREACHED: "unreached", NOT_DELIVERED: "failed"}  # what we say where the peer does not


@dataclass(frozen=True)
class Elsewhere:
    """A recipient of one provider's message whom the other provider serves."""

    message_id: str
    number: int
    address: str
    state: str  # as the sender's provider has it
    sender: str  # domain
    peer: str  # domain

    def concerned(self, row: Row) -> bool:
        """Say whether an evidence is about this recipient, alone or among others."""
        return row.message_id == self.message_id and row.number in (0, self.number)


class TwoBooks:
    """The books of both, by domain, and read as one."""

    def __init__(self, of: Mapping[str, Books]) -> None:
        self.of = of
        self.elsewhere: dict[tuple[str, int], Elsewhere] = {}
        self.one = _empty()
        for domain, books in of.items():
            for name in ("submissions", "inboxes", "sent", "receipts", "owners"):
                getattr(self.one, name).update(getattr(books, name))
            self.one.evidence += [row for row in books.evidence if row.origin is None]
            for message_id, rows in books.deliveries.items():
                if message_id not in books.relayed:
                    self.one.deliveries[message_id] = [
                        (number, address, self._state(domain, message_id, number, address, state))
                        for number, address, state in rows
                    ]

    @classmethod
    def read(cls, *providers: Provider) -> "TwoBooks":
        """Read both."""
        return cls({provider.domain: Books.of(provider) for provider in providers})

    def books_of(self, domain: str) -> Books:
        """Return a provider's books; empty ones of one that is none of ours."""
        return self.of.get(domain) or _empty()

    def _state(self, domain: str, message_id: str, number: int, address: str, state: str) -> str:
        """Return a recipient's state as the serving provider has it; note those who are elsewhere."""
        peer = self.of[domain].peers.get((message_id, number))
        if peer is None:
            return state
        self.elsewhere[message_id, number] = Elsewhere(message_id, number, address, state, domain, peer)
        theirs = {n: s for n, _, s in self.books_of(peer).deliveries.get(message_id, [])}
        return theirs.get(number, state)

    def said_in_place(self, about: Elsewhere) -> list[Row]:
        """Return what the sender's provider said of a recipient because the peer did not."""
        return [
            row
            for row in self.of[about.sender].evidence
            if row.origin is None and row.kind in _IN_PLACE and about.concerned(row)
        ]


class TwoComparison(Comparison):
    """The comparison of both books; ``strict``: nobody may have been given up."""

    def __init__(self, told: Told, books: TwoBooks, *, strict: bool) -> None:
        super().__init__(told, books.one)
        self.two, self.strict = books, strict
        self.given_up = {where: books.said_in_place(about) for where, about in books.elsewhere.items()}
        for row in {row.evidence_id: row for rows in self.given_up.values() for row in rows}.values():
            self.kinds[row.message_id][row.kind, row.number] -= 1
            self.kinds[row.message_id] = +self.kinds[row.message_id]

    def differences(self) -> list[str]:
        """Return everything found, and what clients complained about before."""
        self.crossing()
        return super().differences()

    def crossing(self) -> None:
        """Check that each provider has the other's evidence about its messages, all of it, and no other."""
        for domain, books in self.two.of.items():
            for peer, theirs in self.two.of.items():
                if peer == domain:
                    continue
                made = {row for row in _own(theirs) if theirs.relayed.get(row.message_id) == domain}
                has = {
                    Row(r.evidence_id, r.message_id, r.kind, r.number)
                    for r in books.evidence
                    if r.origin == peer and r.message_id not in books.relayed
                }
                self.came_along(domain, peer)
                self.expect(f"evidence of {peer} that {domain} lacks", made - has, set())
                self.expect(f"evidence of {peer} that it did not make", has - made, set())
                accepted = {m for ids in books.submissions.values() for m in ids}
                strange = {m for m, origin in theirs.relayed.items() if origin == domain} - accepted
                self.expect(f"messages at {peer} that {domain} never accepted", strange, set())

    def came_along(self, domain: str, peer: str) -> None:
        """Check that each message a provider took has the peer's evidence 10 beside it, once, as its maker has it."""
        books = self.two.of[domain]
        came = [row for row in books.evidence if row.origin == peer and row.message_id in books.relayed]
        made = {row.evidence_id for row in _own(self.two.of[peer]) if row.kind == ACCEPTED}
        self.expect(
            f"evidence with messages of {peer} that it did not make",
            {r.evidence_id for r in came} - made,
            set(),
        )
        taken = sorted(m for m, origin in books.relayed.items() if origin == peer and books.deliveries.get(m))
        self.expect(
            f"evidence 10 at {domain} of messages of {peer}", sorted(r.message_id for r in came), taken
        )

    def taken(self, about: Elsewhere) -> bool:
        """Say whether the recipient's provider has a message."""
        return about.message_id in self.two.books_of(about.peer).relayed

    def arrives(self, message_id: str, number: int, address: str) -> bool:
        """Say whether a message has to be in a recipient's INBOX."""
        about = self.two.elsewhere.get((message_id, number))
        return (about is None or self.taken(about)) and super().arrives(message_id, number, address)

    def delivery(self, message_id: str, number: int, address: str, state: str) -> None:
        """Check the evidence about one recipient, and what the sender's provider made of it."""
        about = self.two.elsewhere.get((message_id, number))
        if about is None:
            super().delivery(message_id, number, address, state)
            return
        kinds = self.kinds[message_id]
        counts = [kinds[kind, 0] + kinds[kind, number] for kind in (RELAYED, REJECTED)]
        counts += [kinds[kind, number] for kind in (DELIVERED, NOT_DELIVERED, READ)]
        was_read = int(state == "read")
        exists = address in self.books.inboxes
        place = f"{message_id} to {address} elsewhere ({about.state}, there {state})"
        if not self.taken(about):
            due, verdict = [0, 0, 0, 0, 0], "unreached"
        elif exists:
            due, verdict = [1, 0, 1, 0, was_read], "read" if was_read else "delivered"
        else:
            due, verdict = [0, 1, 0, 0, 0], "rejected"
        self.expect(f"{place} evidence 20, 21, 40, 41, 60", counts, due)
        said = self.given_up[message_id, number]
        if said:
            verdict = _IN_PLACE[said[0].kind]
        self.expect(f"{place} said in place", len(said), 0, *([] if self.strict else [1]))
        self.expect(f"{place} state at the sender's", about.state, verdict)

    def may_be(self, kind: int, number: int, numbers: set[int]) -> bool:
        """Say whether there is such evidence at all about a message with recipients of these numbers."""
        relay = kind in (RELAYED, REJECTED) and (number == 0 or number in numbers)
        return relay or super().may_be(kind, number, numbers)


def _empty() -> Books:
    return Books({}, [], {}, {}, {}, {}, {}, {}, {})


def _own(books: Books) -> Iterator[Row]:
    return (row for row in books.evidence if row.origin is None)


def two_differences(told: Told, books: TwoBooks, *, strict: bool = True) -> list[str]:
    """Return everything in which the books differ from what clients were told, from themselves and from each other."""
    return TwoComparison(told, books, strict=strict).differences()
