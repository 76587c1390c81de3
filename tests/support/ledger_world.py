"""A ledger of real evidence XML in a store, its publisher, and a provider that cheats beneath the ports."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidence.forms.rem_xml import write as write_record
from evidence.ledger.chain import GENESIS, LedgerEntry, entry_hash
from evidence.ledger.notes import Checkpoint, KeyKind, NoteSigner, sign_checkpoint
from evidence.ledger.tiles import GrowingTree
from evidence.model.records import EvidenceKind
from kephs.domain.messages import StoredEvidence
from kephs.ports import Blob, StoredCheckpoint, Tx
from kephs.usecases.proof.prove import Prove
from kephs.usecases.proof.publish_ledger import PublishLedger, entry_leaf
from storage.fsck.findings import Finding
from storage.fsck.ledger import check_ledger
from storage.fsck.scope import Scope
from storage.memory.store import MemoryBlobStore
from storage.rows.evidences import _link
from storage.rows.values import to_micros
from tests.support.fsck_world import record_of, written
from tests.support.stores import T0, account, blob, evidence, operator

ORIGIN = "hs91.kep.tr/kephs-ledger"
DAY = timedelta(days=1)


def signer(number: int = 1, name: str = ORIGIN, kind: KeyKind = KeyKind.NOTE) -> NoteSigner:
    """Return a key made from a number."""
    return NoteSigner(name, Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32), kind)


@dataclass
class HandClock:
    """A clock that is set by hand."""

    time: datetime = T0

    def now(self) -> datetime:
        return self.time

    def forward(self, by: timedelta = timedelta(seconds=10)) -> None:
        self.time += by


@dataclass
class LedgerWorld:
    """A store with one message, evidence about it, and the ledger's publisher."""

    store: Any
    clock: HandClock = field(default_factory=HandClock)
    key: NoteSigner = field(default_factory=signer)
    alarms: list[str] = field(default_factory=list)
    xml: dict[str, bytes] = field(default_factory=dict)  # by evidence id
    entered: int = 0

    def __post_init__(self) -> None:
        self.message = written("m1")
        self.publisher = PublishLedger(
            self.store, self.key, self.clock, alarm=self.alarms.append, every=timedelta(seconds=10)
        )
        self.prove = Prove(self.store, self.publisher)

    async def build(self) -> "LedgerWorld":
        """Store the message."""

        def fill(tx: Tx) -> None:
            tx.accounts.add(account("a1", "ayse.yilmaz@hs91.kep.tr"))
            tx.accounts.add_operator(operator("o1", "a1"))
            tx.messages.add(self.message)

        await self.store.write(fill)
        return self

    def made(self, number: int, at: datetime | None = None) -> tuple[StoredEvidence, bytes]:
        """Return an evidence of ours and its bytes."""
        row = evidence(f"e{number}", EvidenceKind.DELIVERY, "m1", 1, event_time=at or self.clock.now())
        content = write_record(record_of(row, self.message))
        return replace(row, number=number, blob=sha256(content).digest()), content

    async def enter(
        self, count: int = 1, *, at: datetime | None = None, origin: str | None = None
    ) -> list[str]:
        """Enter evidence; return their ids."""
        rows = [self.made(self.entered + n + 1, at) for n in range(count)]

        def add(tx: Tx) -> None:
            for row, content in rows:
                tx.blobs.add(_blob(content))
                tx.evidence.add(replace(row, origin=origin))

        await self.store.write(add)
        self.entered += count
        self.xml |= {row.evidence_id: content for row, content in rows}
        return [row.evidence_id for row, _ in rows]

    async def grow(self, *counts: int) -> list[StoredCheckpoint]:
        """Enter and publish, again and again; return the checkpoints."""
        made = []
        for count in counts:
            await self.enter(count)
            self.clock.forward()
            made.append(await self.publisher.publish())
        return [one for one in made if one is not None]

    async def newest(self) -> StoredCheckpoint | None:
        """Return the newest checkpoint."""
        found: StoredCheckpoint | None = await self.store.read(lambda tx: tx.tree.checkpoint())
        return found

    async def last(self) -> StoredCheckpoint:
        """Return the newest checkpoint, which there is."""
        found = await self.newest()
        assert found is not None
        return found

    async def findings(self, log: NoteSigner | None = None) -> list[Finding]:
        """Return what fsck finds of ledger and tree."""
        verifier = (log or self.key).verifier

        def check(tx: Any) -> list[Finding]:
            scope = Scope(tx, MemoryBlobStore(), lambda _what, _count: None, deep=False)
            return list(check_ledger(scope, verifier))

        found: list[Finding] = await self.store.read(check)
        return found

    async def found(self) -> set[tuple[str, str]]:
        """Return codes and subjects of what fsck finds."""
        return {(finding.code.value, finding.subject) for finding in await self.findings()}


@dataclass(frozen=True)
class Cheat:
    """A provider with the database, and its own key, in hand: SQL beside a SQLite store."""

    path: Path
    key: NoteSigner

    def sql(self, statement: str, *values: Any) -> list[Any]:
        """Run SQL, foreign keys unchecked."""
        connection = sqlite3.connect(self.path)
        try:
            with connection:
                return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def entries(self) -> list[LedgerEntry]:
        """Return the ledger."""
        rows = self.sql("SELECT seq, evidence_id, digest, at, previous, hash, salt FROM ledger ORDER BY seq")
        return [_link(row) for row in rows]

    def rewrite(self, change: Callable[[list[LedgerEntry]], list[LedgerEntry]]) -> list[LedgerEntry]:
        """Write the whole ledger anew, numbered and chained without a flaw."""
        fresh, previous = [], GENESIS
        for number, entry in enumerate(change(self.entries()), 1):
            link = entry_hash(number, previous, entry.evidence_id, entry.evidence_sha256, entry.at)
            fresh.append(replace(entry, number=number, previous=previous, hash=link))
            previous = link
        self.sql("DELETE FROM ledger")
        for one in fresh:
            values = (
                one.number,
                one.evidence_id,
                one.evidence_sha256,
                to_micros(one.at),
                one.previous,
                one.hash,
            )
            columns = "seq, evidence_id, digest, at, previous, hash, salt"
            self.sql(f"INSERT INTO ledger ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", *values, one.salt)
        return fresh

    def publish_anew(self, *, keep_older: bool) -> None:
        """Make the tree anew over the ledger as it is, and sign the newest checkpoint (or all) about it."""
        old = self.sql("SELECT size, at FROM checkpoints ORDER BY size")
        entries, tree = self.entries(), GrowingTree()
        signed = {}
        sizes = {min(size, len(entries)): at for size, at in old}
        for number, entry in enumerate(entries, 1):
            tree.append([entry_leaf(entry)])
            if number in sizes:
                signed[number] = tree.root(), sizes[number]
        whole = GrowingTree()
        tiles = whole.append([entry_leaf(entry) for entry in entries])
        self.sql("DELETE FROM ledger_tiles")
        for tile in tiles:
            row = tile.level, tile.number, tile.hashes
            self.sql("INSERT INTO ledger_tiles (level, number, hashes) VALUES (?, ?, ?)", *row)
        replaced = [max(signed)] if keep_older else sorted(signed)
        self.sql("DELETE FROM checkpoints WHERE size >= ?", replaced[0])
        for size in replaced:
            root, at = signed[size]
            note = sign_checkpoint(Checkpoint(self.key.name, size, root), self.key).decode()
            columns = "size, root, note, at"
            self.sql(f"INSERT INTO checkpoints ({columns}) VALUES (?, ?, ?, ?)", size, root, note, at)

    # The ways to cheat; each leaves the evidence rows as they would have to be.

    def drop(self, number: int) -> None:
        """Take one evidence out, as if it had never been."""
        entry = self.entries()[number - 1]
        self.rewrite(lambda all_: [one for one in all_ if one.number != number])
        self.sql("DELETE FROM evidence WHERE evidence_id = ?", entry.evidence_id)

    def alter(self, number: int, content: bytes) -> None:
        """Put other bytes, sealed anew, in the place of one evidence."""
        digest = sha256(content).digest()
        entry = self.entries()[number - 1]
        self._blob(content)
        self.rewrite(
            lambda all_: [
                replace(one, evidence_sha256=digest) if one.number == number else one for one in all_
            ]
        )
        self.sql("UPDATE evidence SET blob = ? WHERE evidence_id = ?", digest, entry.evidence_id)

    def swap(self, first: int, second: int) -> None:
        """Let two evidence change places."""

        def swapped(all_: list[LedgerEntry]) -> list[LedgerEntry]:
            all_[first - 1], all_[second - 1] = all_[second - 1], all_[first - 1]
            return all_

        self.rewrite(swapped)

    def back_date(self, number: int, row: StoredEvidence, content: bytes) -> None:
        """Put a new evidence with an old time among the old ones."""
        self._blob(content)
        self.sql("DELETE FROM evidence WHERE evidence_id = ?", row.evidence_id)
        self.sql(
            "INSERT INTO evidence (evidence_id, message_id, kind, number, account_id, blob, event_time, attempts,"
            " unstamped) VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0)",
            row.evidence_id, row.message_id, int(row.kind), row.number, row.account_id, row.blob,
            to_micros(row.event_time),
        )  # fmt: skip
        entry = LedgerEntry(0, b"", row.evidence_id, row.blob, row.event_time, b"", sha256(row.blob).digest())
        self.rewrite(lambda all_: [*all_[: number - 1], entry, *all_[number - 1 :]])

    def _blob(self, content: bytes) -> None:
        row = _blob(content)
        values = row.sha256, row.sha512, row.size, row.place, row.key
        columns = "sha256, sha512, size, place, data_key"
        self.sql(f"INSERT INTO blobs ({columns}) VALUES (?, ?, ?, ?, ?)", *values)


def _blob(content: bytes) -> Blob:
    return blob(content, "m:" + sha256(content).hexdigest())
