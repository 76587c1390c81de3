"""``kephs fsck``: proof that every state has its evidence, every evidence its bytes, the ledger its chain."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

import click

from config import settings
from kephs.bootstrap.archive import ObjectCipher, open_places
from kephs.cli.beside import Beside, open_beside
from kephs.cli.output import (
    FAILED,
    OK,
    guarded,
    instance_argument,
    json_option,
    print_json,
    progress_to_terminal,
    run,
)
from kephs.cli.providers.foreign import FOLDER, open_key
from kephs.instances.keys import open_keys
from kephs.ledger.keys import open_ledger_key
from kephs.ports.archive import ArchivedObject
from kephs.system import SystemClock
from kephs.usecases.archive.reading import ReadArchive
from storage.fsck.archive import archived_rows, check_objects
from storage.fsck.archived_entries import check_archived_entries, newest_objects
from storage.fsck.check import Finding, FindingCode, check
from storage.fsck.foreign import check_foreign

_SHOWN: Final = 1_000  # lines of one run; --json lists all

_RESTORE: Final = "restore the database and the blobs from one backup; keep the damaged copy for inspection"
_TELL: Final = "this is a defect or tampering: keep a copy, then report it"
_REBUILD: Final = "kephs archive rebuild DIR puts back what objects hold; if that does not help, report it"
_COPY: Final = "bring a copy back under the same name (docs/archive.md), then kephs archive verify DIR"
_TAKE_AGAIN: Final = (
    "from the hand-over's folder, a copy of foreign/DOMAIN or a backup: kephs take-over DIR FOLDER --trust"
    " ROOTS --key KEYFILE --by NAME puts back what is lost or changed (first delete a changed devir.json)"
)
_COUNT: Final = "only a count is wrong, nothing is lost; report it"

SENTENCES: Final[Mapping[FindingCode, tuple[str, str]]] = MappingProxyType(
    {
        FindingCode.MESSAGE_WITHOUT_EVIDENCE: ("a message has not the evidence of its answer", _TELL),
        FindingCode.MESSAGE_WITHOUT_ACCOUNT: ("a message's sender has no account", _RESTORE),
        FindingCode.MESSAGE_WITHOUT_DISPATCH: ("a delivered message has no KEP message", _TELL),
        FindingCode.MESSAGE_ACCEPTED_AND_REFUSED: (
            "a message has evidence of being accepted and of being refused",
            _TELL,
        ),
        FindingCode.MESSAGE_COMPLETED_EARLY: ("a message is completed while deliveries are pending", _TELL),
        FindingCode.MESSAGE_STUCK: ("a message is not completed and nobody works on it", _TELL),
        FindingCode.MESSAGE_REFUSED_WITH_DELIVERIES: ("a refused message has deliveries", _TELL),
        FindingCode.MESSAGE_WITHOUT_DELIVERY: ("a recipient of an accepted message was left out", _TELL),
        FindingCode.MESSAGE_CONTENT_MISSING: ("content that a message needs is missing or altered", _RESTORE),
        FindingCode.DELIVERY_WITHOUT_MESSAGE: ("the message of a delivery is gone", _RESTORE),
        FindingCode.DELIVERY_WITHOUT_EVIDENCE: ("a delivery lacks the evidence of its state", _TELL),
        FindingCode.DELIVERY_EVIDENCE_EARLY: ("a delivery has evidence of a state it is not in", _TELL),
        FindingCode.DELIVERY_CONTRADICTED: ("a delivery has evidence of ours of two end states", _TELL),
        FindingCode.DELIVERY_OTHER_RECIPIENT: (
            "a delivery is not for the recipient its message names",
            _TELL,
        ),
        FindingCode.DELIVERY_OTHER_ACCOUNT: ("a delivery is for the account of another address", _TELL),
        FindingCode.DELIVERY_OTHER_PEER: ("a delivery is with a provider that does not serve it", _TELL),
        FindingCode.DELIVERY_OTHER_TIME: ("a delivery was decided at another time than its evidence", _TELL),
        FindingCode.DELIVERY_NOT_FILED: ("a delivered message is in no mailbox", _RESTORE),
        FindingCode.DELIVERY_FILED_EARLY: (
            "a message lies in a mailbox without having been delivered",
            _TELL,
        ),
        FindingCode.DELIVERY_DOUBLED: ("a message was delivered twice", _TELL),
        FindingCode.EVIDENCE_WITHOUT_MESSAGE: ("the message of an evidence is gone", _RESTORE),
        FindingCode.EVIDENCE_WITHOUT_DELIVERY: ("an evidence is about a delivery that does not exist", _TELL),
        FindingCode.EVIDENCE_CONTENT_MISSING: ("the bytes of an evidence are missing", _RESTORE),
        FindingCode.EVIDENCE_CONTENT_ALTERED: ("the bytes of an evidence were altered", _RESTORE),
        FindingCode.EVIDENCE_NOT_XML: ("the bytes of an evidence are no evidence", _TELL),
        FindingCode.EVIDENCE_OTHER_FACTS: (
            "an evidence says otherwise than the database; the signed evidence counts",
            _TELL,
        ),
        FindingCode.EVIDENCE_OTHER_MAKER: (
            "an evidence was made by a provider whose business it is not",
            _TELL,
        ),
        FindingCode.EVIDENCE_WITHOUT_RECEIPT: (
            "an evidence was never on its way to the sender's provider",
            _TELL,
        ),
        FindingCode.EVIDENCE_UNSTAMPED: (
            "an evidence waits for its time stamp",
            "released in the grace of seal.unstamped_grace; it is stamped before its receipt leaves",
        ),
        FindingCode.EVIDENCE_WITHOUT_PROOF: ("an evidence has no time stamp", _RESTORE),
        FindingCode.EVIDENCE_PROOF_BROKEN: ("an evidence's time stamp is not about it", _RESTORE),
        FindingCode.EVIDENCE_NOT_IN_LEDGER: ("an evidence is not in the ledger", _TELL),
        FindingCode.TRANSFER_WITHOUT_MESSAGE: ("the message of a transfer is gone", _RESTORE),
        FindingCode.TRANSFER_WITHOUT_EVIDENCE: ("a receipt on its way is about no evidence of ours", _TELL),
        FindingCode.TRANSFER_MISSING: ("a provider that serves recipients has no transfer", _TELL),
        FindingCode.TRANSFER_OTHER_PEER: ("a transfer goes to a provider it does not concern", _TELL),
        FindingCode.TRANSFER_OTHER_STATE: ("a transfer's state is not that of its recipients", _TELL),
        FindingCode.TRANSFER_STUCK: ("a transfer is not done and nobody works on it", _TELL),
        FindingCode.TRANSFER_CONTENT_MISSING: ("the content of a receipt on its way is missing", _RESTORE),
        FindingCode.LEDGER_GAP: ("the ledger has a gap", _TELL),
        FindingCode.LEDGER_BROKEN: ("the ledger's chain is broken", _TELL),
        FindingCode.LEDGER_UNKNOWN_EVIDENCE: (
            "the ledger names an evidence that is not stored",
            f"{_RESTORE}; kephs archive evidence DIR ID FOLDER reads what an object holds of it",
        ),
        FindingCode.LEDGER_OTHER_DIGEST: ("the ledger has another digest of an evidence", _RESTORE),
        FindingCode.LEDGER_OTHER_TIME: ("the ledger has another time of an evidence", _RESTORE),
        FindingCode.LEDGER_DOUBLED: ("an evidence is in the ledger twice", _TELL),
        FindingCode.LEDGER_SALT: ("an entry's salt is none", _RESTORE),
        FindingCode.LEDGER_SHORT: ("entries that were published are gone", _TELL),
        FindingCode.LEDGER_ENTERED_LATE: ("an evidence was entered long after the time it claims", _TELL),
        FindingCode.TREE_OTHER_LEAF: ("an entry is not the one that was published", _TELL),
        FindingCode.TREE_TILE_MISSING: ("a tile of the tree is missing or too short", _RESTORE),
        FindingCode.TREE_TILE_EXTRA: ("there are tiles no checkpoint covers", _TELL),
        FindingCode.TREE_OTHER_TILE: ("a tile is not what the tiles below it give", _RESTORE),
        FindingCode.TREE_OTHER_ROOT: ("the tree has not the root that was signed", _TELL),
        FindingCode.CHECKPOINT_UNSIGNED: ("a checkpoint is not signed by the ledger's key", _TELL),
        FindingCode.CHECKPOINT_OTHER_FACTS: ("a checkpoint's row says otherwise than what was signed", _TELL),
        FindingCode.CHECKPOINT_OTHER_TIME: ("a checkpoint is earlier than the one before it", _TELL),
        FindingCode.ITEM_CONTENT_MISSING: ("the content of a mailbox item is missing", _RESTORE),
        FindingCode.ITEM_CONTENT_ALTERED: ("the content of a mailbox item was altered", _RESTORE),
        FindingCode.ITEM_WITHOUT_DELIVERY: ("a mailbox item names a delivery that does not exist", _TELL),
        FindingCode.ITEM_OTHER_ACCOUNT: ("a KEP message lies in another account than its delivery's", _TELL),
        FindingCode.ITEM_OTHER_CONTENT: (
            "a mailbox item is not the KEP message its delivery is about",
            _TELL,
        ),
        FindingCode.ITEM_UNGATED: ("a KEP message lies in a mailbox outside the read gate", _TELL),
        FindingCode.FOLDER_COUNTERS: ("a folder's counters are wrong", _COUNT),
        FindingCode.ACCOUNT_USAGE: ("an account's used space is counted wrongly", _COUNT),
        FindingCode.ACCOUNT_WITHOUT_HOLDER: ("an account has no holder among its operators", _RESTORE),
        FindingCode.ACCOUNT_WITHOUT_FOLDER: ("an account lacks one of its standard folders", _RESTORE),
        FindingCode.AUDIT_BROKEN: ("the process record's chain is broken", _TELL),
        FindingCode.AUDIT_OTHER_ANCHOR: ("the process record is not the one that the ledger anchors", _TELL),
        FindingCode.AUDIT_BACK_DATED: (
            "an entry of the process record claims another time than its place beside the ledger's anchors",
            _TELL,
        ),
        FindingCode.ANCHOR_UNRECORDED: (
            "the trust list says of a certificate what the process record does not",
            "retire it at once: kephs trust retire; then find out who put it there, and report it",
        ),
        FindingCode.ANCHOR_UNCONFIRMED: (
            "a certificate is active on the trust list without two confirmations",
            "retire it at once: kephs trust retire; then find out who put it there, and report it",
        ),
        FindingCode.CERTIFICATE_OTHER_OPERATOR: (
            "a bound certificate is of nobody who acts for the account",
            _TELL,
        ),
        FindingCode.CERTIFICATE_OTHER_DIGEST: ("a bound certificate is not the one its row names", _RESTORE),
        FindingCode.CERTIFICATE_OTHER_TIME: ("the times of a bound certificate contradict each other", _TELL),
        FindingCode.HOLD_UNRECORDED: ("a legal hold says otherwise than the process record", _TELL),
        FindingCode.HOLD_MISSING: ("a legal hold of the process record is not there", _TELL),
        FindingCode.HOLD_CONTENT_GONE: ("content under a legal hold is not there", _RESTORE),
        FindingCode.ERASURE_UNRECORDED: (
            "what was destroyed is not what the process record tells of",
            _TELL,
        ),
        FindingCode.ERASURE_DESPITE_HOLD: ("content was destroyed while a legal hold kept it", _TELL),
        FindingCode.ARCHIVE_GAP: ("archived entries lie in no object", _REBUILD),
        FindingCode.ARCHIVE_DOUBLED: ("archived entries lie in two objects", _TELL),
        FindingCode.ARCHIVE_AHEAD: ("objects hold entries that are not here", _REBUILD),
        FindingCode.ARCHIVE_OTHER_ENTRY: ("an entry is not the one that was archived", _TELL),
        FindingCode.ARCHIVE_DAMAGED: ("an object of the archive is quarantined", _COPY),
        FindingCode.ARCHIVE_RETENTION_SHORT: ("an object is kept for less than 20 years", _TELL),
        FindingCode.ARCHIVE_ROUND_MISSING: ("a round of renewal is missing", _RESTORE),
        FindingCode.ARCHIVE_UNREACHABLE: (
            "a store of the archive cannot be looked at",
            "see archive in kephs.toml and kephs doctor DIR; then run fsck again",
        ),
        FindingCode.ARCHIVE_OBJECT_MISSING: ("an object is not in its store", _COPY),
        FindingCode.ARCHIVE_OBJECT_ALTERED: ("an object is not what its row says", _COPY),
        FindingCode.ARCHIVE_OBJECT_UNKNOWN: (
            "the archive's store holds objects that no row names",
            "harmless: a kill between object and row, or two processes at once; stores are write-once",
        ),
        FindingCode.FOREIGN_MISSING: ("a file of a provider taken over is lost", _TAKE_AGAIN),
        FindingCode.FOREIGN_ALTERED: ("a file of a provider taken over was changed", _TAKE_AGAIN),
        FindingCode.FOREIGN_UNLISTED: (
            "a file lies among those of a provider taken over that its manifest does not name",
            "move it away: it is not part of the hand-over",
        ),
        FindingCode.FOREIGN_UNFINISHED: (
            "a provider was not taken over to its end",
            "harmless: run kephs take-over again, it goes on; or delete the folder",
        ),
        FindingCode.ROW_UNREADABLE: ("a row of the database cannot be read", _RESTORE),
        FindingCode.BLOBS_ORPHANED: (
            "content is stored that no row names",
            "harmless noise: refused messages, tries answered 4xx and crashes leave it; its key is not kept",
        ),
    }
)


@click.command()
@instance_argument
@click.option(
    "--deep", is_flag=True, help="Read every mailbox item, archived object and file taken over too."
)
@json_option
@guarded
def command(directory: Path, deep: bool, as_json: bool) -> None:  # noqa: FBT001  # click's way
    """Check the store of DIR. Reads one snapshot and changes nothing; the server may go on running.

    Exit status: 0 everything holds, 1 something does not.
    """
    counts: Counter[str] = Counter()
    findings = run(_check(directory, counts, deep=deep))
    clean = all(finding.harmless for finding in findings)
    if as_json:
        print_json(_plain(findings, counts, clean=clean))
    else:
        _print(findings, counts, clean=clean)
    raise click.exceptions.Exit(OK if clean else FAILED)


async def _check(directory: Path, counts: Counter[str], *, deep: bool) -> list[Finding]:
    report, loaded = _reporter(counts), settings.load(directory)
    log = open_ledger_key(loaded).verifier
    async with open_beside(loaded) as beside:
        findings, rows, archives = await beside.store.read(
            lambda tx: (
                list(check(tx, beside.blobs, deep=deep, progress=report, log=log)),
                list(archived_rows(tx)),
                list(tx.foreign.archives()),
            )
        )
        if rows:
            findings += await _objects(beside, rows, report, deep=deep)
        key = partial(open_key, loaded)
        findings += check_foreign(archives, directory / FOLDER, key, deep=deep, progress=report)
    if progress_to_terminal():
        click.echo("\r\033[K", nl=False, err=True)
    return findings


async def _objects(
    beside: Beside,
    rows: Sequence[ArchivedObject],
    report: Callable[[str, int], None],
    *,
    deep: bool,
) -> list[Finding]:
    """Look for the archive's objects where their rows say; hold what is in them against the rows."""
    places = open_places(beside.settings, SystemClock())
    try:
        findings = [one async for one in check_objects(rows, places, deep=deep, progress=report)]
        told = {one.subject for one in findings}  # lost or altered: nothing in them can be compared
        reader = ReadArchive(
            beside.store, places, ObjectCipher(open_keys(beside.settings).objects), beside.offload
        )
        opened = [row for row in (rows if deep else newest_objects(rows)) if row.name not in told]
        found = check_archived_entries(opened, reader, beside.store, report)
        return findings + [one async for one in found]
    finally:
        for place in places.values():
            await place.close()


def _reporter(counts: Counter[str]) -> Callable[[str, int], None]:
    shown = progress_to_terminal()

    def report(what: str, count: int) -> None:
        counts[what] = count
        if shown:
            click.echo(f"\r\033[Kchecked {what}: {count}", nl=False, err=True)

    return report


def _plain(findings: Sequence[Finding], counts: Counter[str], *, clean: bool) -> dict[str, object]:
    return {
        "clean": clean,
        "checked": dict(counts),
        "findings": [
            {
                "code": finding.code.value,
                "subject": str(finding.subject),  # SQLite keeps whatever type it was given
                "text": SENTENCES[finding.code][0],
                "detail": finding.detail,
                "harmless": finding.harmless,
                "cure": SENTENCES[finding.code][1],
            }
            for finding in findings
        ],
    }


def _print(findings: Sequence[Finding], counts: Counter[str], *, clean: bool) -> None:
    for finding in findings[:_SHOWN]:
        sentence, cure = SENTENCES[finding.code]
        detail = f" ({finding.detail})" if finding.detail else ""
        mark = "note" if finding.harmless else "ERROR"
        line = f"{mark:<5} {finding.code.value}: {sentence}: {finding.subject or '-'}{detail}"
        click.echo("".join(c if c.isprintable() else "?" for c in line))  # a tampered id may move the cursor
        click.echo(f"      -> {cure}")
    if len(findings) > _SHOWN:
        click.echo(f"... and {len(findings) - _SHOWN} more: see --json")
    checked = ", ".join(f"{count} {what}" for what, count in counts.items())
    click.echo(f"checked {checked}: {'everything holds' if clean else 'NOT everything holds'}")
