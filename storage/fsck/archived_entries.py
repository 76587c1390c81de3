"""fsck on what the archive holds: its write-once entries are those of the ledger and the process record.

Whoever has the database and all keys can write ledger, tree and checkpoints anew so that they fit each
other, and nothing here but an object tells: it cannot be written anew before its retention ends.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, Protocol

from evidence.bundle.archive_object import ObjectKind
from evidence.bundle.archive_read import ArchiveObject
from kephs.ports import Store, Tx
from kephs.ports.archive import ArchivedObject
from kephs.ports.objects import ObjectDamagedError, ObjectError
from kephs.usecases.archive.audit import process_json
from storage.files.survey import UNREADABLE
from storage.fsck.findings import Finding, FindingCode
from storage.fsck.scope import Progress

_PAGE: Final = 1_000  # entries of one transaction


class OpensObjects(Protocol):
    """Whoever decrypts and reads objects (`kephs.usecases.archive.reading.ReadArchive`)."""

    async def open(self, row: ArchivedObject) -> ArchiveObject:
        """Return an object, its digests and form checked."""
        ...


async def check_archived_entries(
    rows: Sequence[ArchivedObject], reader: OpensObjects, store: Store, progress: Progress
) -> AsyncIterator[Finding]:
    """Yield objects that hold other entries than the database has under their numbers.

    Entries that the database lacks at the end are `check_archive`'s to find, objects that are not what their
    rows say `check_objects`'s.

    Args:
        rows: of the snapshot; entries never change, so later transactions show the same. Rounds of renewal
            hold no entries and are passed by: their octets are `check_objects`'s.
        reader: of the objects.
        store: ledger and process record.
        progress: called now and then.
    """
    for count, row in enumerate(_with_entries(rows), 1):
        try:
            held = _held(await reader.open(row))
        except ObjectDamagedError as error:
            yield Finding(FindingCode.ARCHIVE_OBJECT_ALTERED, row.name, str(error))
            continue
        except ObjectError:
            continue  # unreachable: told where objects are looked for
        try:
            here = await _here(store, row)
        except UNREADABLE:
            continue  # told where rows are read
        other = sorted(number for number, entry in held.items() if here.get(number, entry) != entry)
        if other:
            detail = f"{len(other)} of {len(held)} entries in {row.name}"
            yield Finding(FindingCode.ARCHIVE_OTHER_ENTRY, f"{row.kind.value}:{other[0]}", detail)
        progress("opened", count)


def newest_objects(rows: Sequence[ArchivedObject]) -> list[ArchivedObject]:
    """Return the last object of each kind: in a chain its hashes tell of every entry before them."""
    last: dict[ObjectKind, ArchivedObject] = {}
    for row in _with_entries(rows):
        if row.kind not in last or row.last > last[row.kind].last:
            last[row.kind] = row
    return list(last.values())


def _with_entries(rows: Sequence[ArchivedObject]) -> list[ArchivedObject]:
    return [row for row in rows if row.kind is not ObjectKind.RENEWAL]


def _held(one: ArchiveObject) -> Mapping[int, object]:
    """Return the entries of an object by number."""
    if one.kind is ObjectKind.EVIDENCE:
        return {item.entry.number: item.entry for item in one.evidences}
    return dict(one.records)


async def _here(store: Store, row: ArchivedObject) -> Mapping[int, object]:
    """Return the database's entries of a range by number, in the form of `_held`."""
    found: dict[int, object] = {}
    for after in range(row.first - 1, row.last, _PAGE):
        most = min(_PAGE, row.last - after)

        def page(tx: Tx, after: int = after, most: int = most) -> Mapping[int, object]:
            if row.kind is ObjectKind.EVIDENCE:
                return {entry.number: entry for entry in tx.evidence.ledger(after, most)}
            return {entry.number: process_json(entry) for entry in tx.audit.page(after, most)}

        found |= await store.read(page)
    return {number: entry for number, entry in found.items() if number <= row.last}
