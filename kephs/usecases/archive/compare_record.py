"""The process record held against the copies of its entries in the archive's objects.

Objects are sealed within minutes, anchors made daily: of an end that was cut off and written anew in between,
the objects know what stood there.
"""

from typing import Final

from evidence.bundle.archive_object import ObjectKind
from kephs.ports import Store, Tx
from kephs.ports.archive import ArchivedObject
from kephs.usecases.archive.audit import process_json
from kephs.usecases.archive.reading import ReadArchive

_PAGE: Final = 500


async def archived_problem(store: Store, reader: ReadArchive) -> str | None:
    """Return the first entry that is not what an object holds; None where all are.

    Args:
        store: the rows.
        reader: opens objects.

    Raises:
        kephs.ports.objects.ObjectError: a store does not answer, or an object must be restored first.
    """
    after = ""
    while page := await store.read(lambda tx, a=after: _objects(tx, a)):  # type: ignore[misc]
        for row in page:
            one = await reader.open(row)
            known = await store.read(lambda tx, r=row: _entries(tx, r))  # type: ignore[misc]
            for number, content in one.records:
                if number not in known:
                    return f"entry {number} is gone; {row.name} holds it"
                if known[number] != content:
                    return f"entry {number} is another one than {row.name} holds"
        after = page[-1].name
    return None


def _objects(tx: Tx, after: str) -> list[ArchivedObject]:
    return list(tx.archive.all(after, _PAGE, kind=ObjectKind.PROCESS))


def _entries(tx: Tx, row: ArchivedObject) -> dict[int, bytes]:
    entries = tx.audit.page(row.first - 1, row.last - row.first + 1)
    return {entry.number: process_json(entry) for entry in entries}
