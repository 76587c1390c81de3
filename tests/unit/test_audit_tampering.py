"""Dropping, altering, back-dating an entry of the process record is found by fsck, by us, and by an outsider.

The cheat has database, column key and ledger key in hand and makes every chain anew without a flaw.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from evidence.ledger.audit import audit
from evidence.report import Verdict
from kephs.cli.record.audit_files import RECORD, check, export
from kephs.domain.audit import AuditEntry, next_entry
from kephs.domain.audit_anchor import Statement
from kephs.usecases.governance.anchor_audit import AnchorAudit, published_anchors
from storage.crypto import Vault
from storage.fsck import check as fsck
from storage.memory.store import MemoryBlobStore
from storage.rows.values import seal_json, to_micros
from storage.unit_of_work import SqliteStore
from tests.support.ledger_world import DAY, Cheat, LedgerWorld
from tests.support.stores import COLUMN_KEY, new_database

Change = Callable[[list[AuditEntry]], list[AuditEntry]]


class Site:
    """A provider over four days: entries, anchors, checkpoints; and the checkpoint that a stranger kept."""

    def __init__(self, world: LedgerWorld, path: Path) -> None:
        self.world, self.cheat, self.path = world, Cheat(path, world.key), path
        self.kept = b""
        self.known: list[AuditEntry] = []
        self.kept_at = world.clock.now()

    async def live(self) -> "Site":
        for day in range(4):
            await self.world.enter(1)
            for number in range(2):
                await self.world.store.write(
                    lambda tx, day=day, number=number: tx.audit.add(
                        at=self.world.clock.now(), actor="Ayşe Yılmaz", action="account.opened",
                        subject=f"hesap {day}.{number}",
                    )
                )  # fmt: skip
            await AnchorAudit(self.world.store, self.world.clock).anchor()
            await self.world.publisher.publish()
            if day == 2:
                self.kept, self.kept_at = (await self.world.last()).note.encode(), self.world.clock.now()
            self.world.clock.forward(DAY)
        return self

    def rewrite(self, change: Change) -> None:
        """Make the record anew, numbered and chained without a flaw."""
        vault, made = Vault(COLUMN_KEY), list[AuditEntry]()
        for one in change(self.entries()):
            last = made[-1] if made else None
            made.append(
                next_entry(
                    last,
                    at=one.at,
                    actor=one.actor,
                    action=one.action,
                    subject=one.subject,
                    detail=one.detail,
                )
            )
        for name in ("audit_only_appended", "audit_no_update", "audit_no_delete"):
            self.cheat.sql(f"DROP TRIGGER IF EXISTS {name}")
        self.cheat.sql("DELETE FROM audit")
        for one in made:
            texts = [one.actor, one.action, one.subject, one.detail]
            sealed = seal_json(vault, texts, f"audit:{one.number}")
            self.cheat.sql(
                "INSERT INTO audit (number, at, personal, previous, digest) VALUES (?, ?, ?, ?, ?)",
                one.number, to_micros(one.at), sealed, one.previous, one.digest,
            )  # fmt: skip
        self.made = made

    def entries(self) -> list[AuditEntry]:
        return self.known

    def anchor_anew(self) -> None:
        """Make the ledger's anchors fit the record, and sign tree and checkpoints anew."""
        digests = {one.number: one.digest for one in self.made}

        def fitted(entry: Any) -> Any:
            name = entry.evidence_id
            number = int(name[6:]) if name.startswith("audit:") else 0
            if number not in digests:
                return entry
            return replace(entry, evidence_sha256=Statement(number, digests[number], entry.at).sha256)

        self.cheat.rewrite(lambda entries: [fitted(one) for one in entries])
        self.cheat.publish_anew(keep_older=False)

    async def read(self, work: Callable[[Any], Any]) -> Any:
        """Read as a process that starts now."""
        store = SqliteStore(self.path, column_key=COLUMN_KEY)
        await store.start()
        try:
            return await store.read(work)
        finally:
            await store.close()

    async def found(self) -> set[str]:
        def run(tx: Any) -> set[str]:
            findings = fsck.check(tx, MemoryBlobStore(), log=self.world.key.verifier)
            kinds = ("audit.", "ledger.", "tree.", "checkpoint.")
            return {one.code.value for one in findings if one.code.value.startswith(kinds)}

        found: set[str] = await self.read(run)
        return found

    async def handed_over(self, folder: Path) -> Any:
        """Export the record and let the stranger check it."""
        store = SqliteStore(self.path, column_key=COLUMN_KEY)
        await store.start()
        try:
            await export(store, self.world.prove, folder, self.world.clock, "deneme")
        finally:
            await store.close()
        return self.checked(folder)

    def checked(self, folder: Path) -> Any:
        old = folder.parent / "kept"
        old.write_bytes(self.kept)
        return check(folder, self.world.key.verifier, old, self.kept_at, self.world.clock.now())


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    path = new_database(tmp_path)
    store = SqliteStore(path, column_key=COLUMN_KEY)
    await store.start()
    world = await LedgerWorld(store).build()
    made = await Site(world, path).live()
    made.known = await store.read(lambda tx: list(tx.audit.page(0, 100)))
    yield made
    await store.close()


def dropped(entries: list[AuditEntry]) -> list[AuditEntry]:
    return entries[:2] + entries[3:]


def altered(entries: list[AuditEntry]) -> list[AuditEntry]:
    return [replace(one, actor="Veli Demir") if one.number == 3 else one for one in entries]


def back_dated(entries: list[AuditEntry]) -> list[AuditEntry]:
    return [*entries[:3], replace(entries[3], subject="sonradan"), *entries[3:]]


def cut_off(entries: list[AuditEntry]) -> list[AuditEntry]:
    return entries[:-1]


CHANGES = [dropped, altered, back_dated, cut_off]


async def test_an_honest_record_passes_everywhere(site: Site, tmp_path: Path) -> None:
    assert await site.found() == set()
    report = await site.handed_over(tmp_path / "out")
    assert report.verdict is Verdict.PASSED, report.failing_step
    assert [step.ok for step in report.steps] == [True] * 7
    assert report.facts["anchors"] == 5  # with that of the export itself


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_a_record_made_anew_contradicts_the_ledgers_anchors(
    site: Site, tmp_path: Path, change: Change
) -> None:
    site.rewrite(change)
    assert "audit.other_anchor" in await site.found()
    report = await site.handed_over(tmp_path / "out")
    assert report.verdict is Verdict.FAILED


@pytest.mark.parametrize("change", [dropped, altered, back_dated], ids=lambda change: change.__name__)
async def test_with_the_ledger_made_anew_too_a_stranger_finds_it_with_two_checkpoints(
    site: Site, change: Change
) -> None:
    site.rewrite(change)
    site.anchor_anew()
    assert not {one for one in await site.found() if not one.startswith("audit.")}  # the ledger is flawless
    new = await site.read(lambda tx: tx.tree.checkpoint())

    def compared(tx: Any) -> Any:
        def tile(level: int, number: int, width: int) -> bytes | None:
            return (tx.tree.tile(level, number) or b"")[: width * 32]

        return audit(site.kept, new.note.encode(), tile, site.world.key.verifier, site.world.clock.now())

    assert (await site.read(compared)).verdict is Verdict.FAILED


async def test_an_entry_behind_the_last_anchor_that_claims_an_old_time_is_found(
    site: Site, tmp_path: Path
) -> None:
    old = site.known[1].at
    await site.world.store.write(
        lambda tx: tx.audit.add(at=old, actor="Ali", action="account.closed", subject="x")
    )
    assert await site.found() == {"audit.back_dated"}
    report = await site.handed_over(tmp_path / "out")
    assert report.failing_step.name == "times"


async def test_an_anchor_that_claims_to_be_older_than_a_checkpoint_it_is_not_in_is_found(
    site: Site, tmp_path: Path
) -> None:
    await site.handed_over(tmp_path / "out")
    site.kept_at += timedelta(days=3)  # as if the checkpoint had been the newest for longer
    assert site.checked(tmp_path / "out").failing_step.name == "older checkpoint"


@pytest.mark.parametrize("line", [0, 3, 7])
async def test_one_flipped_byte_of_an_export_is_found(site: Site, tmp_path: Path, line: int) -> None:
    await site.handed_over(tmp_path / "out")
    path = tmp_path / "out" / RECORD
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b"hesap", b"hesab")
    path.write_bytes(b"".join(lines))
    assert site.checked(tmp_path / "out").verdict is Verdict.FAILED


async def test_a_leaf_published_for_an_anchor_is_the_anchor(site: Site) -> None:
    anchors = await site.read(lambda tx: list(tx.audit.anchors(0, 10)))
    wrong = [replace(anchors[0], statement_sha256=bytes(32)), *anchors[1:]]
    log = site.world.key.verifier
    assert await site.read(lambda tx: published_anchors(tx, anchors, log)) == (4, None)
    count, cause = await site.read(lambda tx: published_anchors(tx, wrong, log))
    assert count == 0
    assert "is not the one" in cause
