"""What clients were told and shown, and whether the server can stand by it.

The promise: whoever heard 250 finds the message once in Giden, once in each INBOX, its evidence once in
Deliller; whoever heard nothing finds it once or not at all; nothing was shown without evidence 60, and
nothing exists that nobody caused.
"""

import imaplib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256

from tests.faults.letters import Letter
from tests.support.crash import PATIENCE, Holder, Provider

_FIELDS = "MESSAGE-ID X-REM-MESSAGE-IDENTIFIER X-REM-EVIDENCE-IDENTIFIER"
ACCEPTED, REFUSED, DELIVERED, NOT_DELIVERED, READ = 10, 11, 40, 41, 60
Item = tuple[str, str, int]  # address, UIDVALIDITY, UID of something in INBOX


@dataclass
class Told:
    """What clients know."""

    letters: dict[str, Letter] = field(default_factory=dict)  # those that were tried, by Message-ID
    accepted: dict[str, tuple[str, str]] = field(default_factory=dict)  # -> evidence id, KEP message id
    refused: dict[str, list[str]] = field(default_factory=dict)  # -> evidence ids
    unknown: Counter[str] = field(default_factory=Counter)  # all was sent, no answer came
    names: dict[Item, str] = field(default_factory=dict)  # -> KEP message id, as the header says
    asked: set[Item] = field(default_factory=set)  # content was asked for
    shown: set[Item] = field(default_factory=set)  # a byte of content came
    contents: dict[Item, bytes] = field(default_factory=dict)  # -> digest of the whole content
    complaints: list[str] = field(default_factory=list)
    later: int = 0  # 4xx: nothing happened

    def answered(self, letter: Letter, code: int, evidence_id: str, message_id: str) -> None:
        """Note an answer; a letter that was accepted keeps its evidence id for ever."""
        if letter.refused:
            if code != 550:
                self.complaints.append(f"{letter.user_id}: {code} instead of a refusal")
            self.refused.setdefault(letter.user_id, []).append(evidence_id)
            return
        if code != 250:
            self.complaints.append(f"{letter.user_id}: {code} instead of 250")
            return
        before = self.accepted.setdefault(letter.user_id, (evidence_id, message_id))
        if before != (evidence_id, message_id):
            self.complaints.append(f"{letter.user_id}: told {before}, then {(evidence_id, message_id)}")

    def named(self, item: Item, message_id: str) -> None:
        """Note which message lies under a UID: always the same."""
        before = self.names.setdefault(item, message_id)
        if before != message_id:
            self.complaints.append(f"{item}: was {before}, is {message_id}")

    def read(self, item: Item, content: bytes) -> None:
        """Note content that came whole: always the same."""
        digest = sha256(content).digest()
        if self.contents.setdefault(item, digest) != digest:
            self.complaints.append(f"{item}: the content has changed")

    def summary(self) -> str:
        """Say how much happened."""
        refused = sum(map(len, self.refused.values()))
        return (
            f"{len(self.letters)} letters: {len(self.accepted)} accepted, {refused} times refused,"
            f" {sum(self.unknown.values())} answers lost, {self.later} times later;"
            f" {len(self.names)} seen in INBOX, {len(self.asked)} asked for, {len(self.shown)} shown"
        )


@dataclass(frozen=True)
class Row:
    """An evidence row."""

    evidence_id: str
    message_id: str
    kind: int
    number: int
    origin: str | None = None  # the peer that made it; none: the provider itself


@dataclass
class Books:
    """What the server has: the database's rows and the mailboxes as a stranger's IMAP client sees them."""

    submissions: dict[str, list[str]]  # Message-ID -> KEP message ids of accepted ones
    evidence: list[Row]
    deliveries: dict[str, list[tuple[int, str, str]]]  # KEP message id -> number, address, state
    inboxes: dict[str, dict[tuple[str, int], str]]  # address -> UIDVALIDITY, UID -> KEP message id
    sent: dict[str, Counter[str]]  # address -> Message-IDs in Giden
    receipts: dict[str, Counter[str]]  # address -> evidence ids in Deliller
    owners: dict[str, str]  # evidence id -> address of the account it belongs to
    peers: dict[tuple[str, int], str]  # KEP message id, number of a recipient elsewhere -> their provider
    relayed: dict[str, str]  # KEP message id -> the peer that relayed it here

    @classmethod
    def of(cls, provider: Provider) -> "Books":
        """Read the database beside the running server, and every mailbox through it."""
        submissions: dict[str, list[str]] = {}
        query = "SELECT user_message_id, message_id FROM messages WHERE state <> 'refused' AND origin IS NULL"
        for user_id, message_id in provider.rows(query):
            submissions.setdefault(user_id, []).append(message_id)
        deliveries: dict[str, list[tuple[int, str, str]]] = {}
        peers = {}
        query = "SELECT message_id, number, address, state, peer FROM deliveries"
        for message_id, number, address, state, peer in provider.rows(query):
            deliveries.setdefault(message_id, []).append((number, address, state))
            if peer is not None:
                peers[message_id, number] = peer
        rows = provider.rows("SELECT evidence_id, message_id, kind, number, origin FROM evidence")
        owners = provider.rows("SELECT evidence_id, address FROM evidence JOIN accounts USING (account_id)")
        relayed = provider.rows("SELECT message_id, origin FROM messages WHERE origin IS NOT NULL")
        books = cls(
            submissions,
            [Row(*row) for row in rows],
            deliveries,
            {},
            {},
            {},
            dict(owners),
            peers,
            dict(relayed),
        )
        for holder in provider.people.values():
            books._look_into(provider, holder)
        return books

    def _look_into(self, provider: Provider, holder: Holder) -> None:
        port = provider.settings.network.imap_port
        with imaplib.IMAP4_SSL("127.0.0.1", port, ssl_context=provider.tls(), timeout=PATIENCE) as client:
            client.login(holder.address, holder.password)
            inbox = {(validity, uid): names[0] for validity, uid, names in _list(client, "INBOX")}
            self.inboxes[holder.address] = inbox
            self.sent[holder.address] = Counter(names[0] for _, _, names in _list(client, "Giden"))
            self.receipts[holder.address] = Counter(names[2] for _, _, names in _list(client, "Deliller"))


def _list(client: imaplib.IMAP4_SSL, folder: str) -> Iterator[tuple[str, int, tuple[str, str, str]]]:
    """Yield UIDVALIDITY, UID and the three header fields of each message; no content is touched."""
    assert client.select(folder, readonly=True)[0] == "OK"
    validity = (client.response("UIDVALIDITY")[1][0] or b"").decode()
    kind, parts = client.uid("FETCH", "1:*", f"(BODY.PEEK[HEADER.FIELDS ({_FIELDS})])")
    assert kind == "OK"
    for part in parts:
        if not isinstance(part, tuple):
            continue
        (uid,) = re.findall(rb"UID (\d+)", part[0])
        fields = dict(re.findall(r"(?m)^([\w-]+):\s*(\S+)\s*$", part[1].decode()))
        fields = {name.upper(): value for name, value in fields.items()}
        message_id = fields.get("MESSAGE-ID", "")
        if folder == "INBOX":
            message_id = message_id.strip("<>")
        yield validity, int(uid), (message_id, *(fields.get(name, "") for name in _FIELDS.split()[1:]))


def differences(told: Told, books: Books) -> list[str]:
    """Return everything in which the server's books differ from what clients were told, and from itself."""
    return Comparison(told, books).differences()


class Comparison:
    """The comparison, one subject after the other."""

    def __init__(self, told: Told, books: Books) -> None:
        self.told, self.books = told, books
        self.found: list[str] = []
        self.kinds: dict[str, Counter[tuple[int, int]]] = {}
        for row in books.evidence:
            self.kinds.setdefault(row.message_id, Counter())[row.kind, row.number] += 1

    def differences(self) -> list[str]:
        """Return everything found, and what clients complained about before."""
        self.letters()
        self.mailboxes()
        self.receipts()
        self.readings()
        return [*self.told.complaints, *self.found]

    def expect(self, what: str, found: object, *allowed: object) -> None:
        """Note what is not as it must be."""
        if found not in allowed:
            self.found.append(f"{what}: {found!r}, must be {' or '.join(map(repr, allowed))}")

    def letters(self) -> None:
        """Check that letters were accepted exactly as their senders were told."""
        told, books = self.told, self.books
        for user_id, letter in told.letters.items():
            accepted = books.submissions.get(user_id, [])
            if letter.refused:
                self.expect(f"{user_id} accepted", len(accepted), 0)
                continue
            if user_id in told.accepted:
                evidence_id, message_id = told.accepted[user_id]
                self.expect(f"{user_id} accepted as", accepted, [message_id])
                mine = [
                    row.evidence_id
                    for row in books.evidence
                    if row.message_id == message_id and row.kind == ACCEPTED
                ]
                self.expect(f"{user_id} evidence 10", mine, [evidence_id])
            else:
                self.expect(f"{user_id} accepted", len(accepted), 0, *([1] if told.unknown[user_id] else []))
            self.expect(f"{user_id} in Giden", books.sent[letter.sender.address][user_id], len(accepted))
        self.expect("accepted letters nobody sent", set(books.submissions) - set(told.letters), set())
        for address, sent in books.sent.items():
            theirs = {u for u, letter in told.letters.items() if letter.sender.address == address}
            self.expect(f"letters of others in Giden of {address}", set(sent) - theirs, set())
        self._refusals()

    def _refusals(self) -> None:
        rows = {row.evidence_id for row in self.books.evidence if row.kind == REFUSED}
        told = [evidence_id for ids in self.told.refused.values() for evidence_id in ids]
        self.expect("evidence 11 told twice", len(told) - len(set(told)), 0)
        self.expect("evidence 11 told and lost", set(told) - rows, set())
        unknown = sum(n for user_id, n in self.told.unknown.items() if self.told.letters[user_id].refused)
        if len(rows) - len(set(told)) > unknown:
            self.found.append(f"{len(rows)} refusals, {len(set(told))} told, {unknown} unknown")

    def mailboxes(self) -> None:
        """Check that each delivery stands in its INBOX once, with its evidence, and nothing else does."""
        due: dict[str, Counter[str]] = {address: Counter() for address in self.books.inboxes}
        for user_id, accepted in self.books.submissions.items():
            letter = self.told.letters.get(user_id)
            for message_id in accepted:
                rows = self.books.deliveries.get(message_id, [])
                if letter:
                    addresses = tuple(address for _, address, _ in sorted(rows))
                    self.expect(f"{user_id} recipients", addresses, letter.recipients)
                for number, address, state in rows:
                    self.delivery(message_id, number, address, state)
                    if self.arrives(message_id, number, address):
                        due[address][message_id] += 1
                self.expect(f"{message_id} evidence 10", self.kinds[message_id][ACCEPTED, 0], 1)
        for address, inbox in self.books.inboxes.items():
            self.expect(
                f"INBOX of {address} beyond deliveries", Counter(inbox.values()) - due[address], Counter()
            )
            self.expect(f"deliveries missing in {address}", due[address] - Counter(inbox.values()), Counter())

    def delivery(self, message_id: str, number: int, address: str, state: str) -> None:
        """Check the evidence about one recipient."""
        counts = [
            self.kinds.get(message_id, Counter())[kind, number] for kind in (DELIVERED, NOT_DELIVERED, READ)
        ]
        place = f"{message_id} to {address} ({state}) evidence 40, 41, 60"
        if address in self.books.inboxes:
            self.expect(place, counts, [1, 0, int(state == "read")])
        else:
            self.expect(place, counts, [0, 1, 0])

    def arrives(self, message_id: str, number: int, address: str) -> bool:
        """Say whether a message has to be in a recipient's INBOX."""
        del message_id, number
        return address in self.books.inboxes

    def receipts(self) -> None:
        """Check that every evidence lies once in its owner's Deliller, and nothing else does."""
        due: dict[str, Counter[str]] = {address: Counter() for address in self.books.receipts}
        for row in self.books.evidence:
            owner = self.books.owners.get(row.evidence_id)
            self.expect(f"evidence {row.evidence_id} belongs to", owner, *due)
            if owner is not None:
                due[owner][row.evidence_id] += 1
        for address, receipts in self.books.receipts.items():
            self.expect(f"Deliller of {address} beyond evidence", receipts - due[address], Counter())
            self.expect(f"evidence missing in Deliller of {address}", due[address] - receipts, Counter())
        for message_id, kinds in self.kinds.items():
            numbers = {number for number, _, _ in self.books.deliveries.get(message_id, [])}
            strange = {(kind, number) for kind, number in kinds if not self.may_be(kind, number, numbers)}
            self.expect(f"{message_id} other evidence", strange, set())

    def may_be(self, kind: int, number: int, numbers: set[int]) -> bool:
        """Say whether there is such evidence at all about a message with recipients of these numbers."""
        if kind in (ACCEPTED, REFUSED):
            return number == 0
        return kind in (DELIVERED, NOT_DELIVERED, READ) and number in numbers

    def readings(self) -> None:
        """Check that whatever was shown has evidence 60, and what was never asked for has none."""
        told, books = self.told, self.books
        for (address, validity, uid), message_id in told.names.items():
            self.expect(f"INBOX of {address}, {uid}", books.inboxes[address].get((validity, uid)), message_id)
        shown = {(told.names[item], item[0]) for item in told.shown}
        asked = {(told.names[item], item[0]) for item in told.asked}
        for message_id, rows in books.deliveries.items():
            for number, address, _ in rows:
                count = self.kinds.get(message_id, Counter())[READ, number]
                place = f"{message_id} evidence 60 of {address}"
                if (message_id, address) in shown:
                    self.expect(place + " (shown)", count, 1)
                elif (message_id, address) in asked:
                    self.expect(place + " (asked for)", count, 0, 1)
                else:
                    self.expect(place + " (never asked for)", count, 0)
