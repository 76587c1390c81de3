"""fsck on the archive: every archived entry lies in exactly one object, and the objects are there."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final, Protocol, cast

from evidence.bundle.archive_object import ObjectKind
from kephs.ports import Tx
from kephs.ports.archive import ArchivedObject, ObjectState
from kephs.ports.objects import ObjectDamagedError, ObjectError, ObjectRef, ObjectStore
from kephs.ports.preservation import RenewalRow
from storage.files.survey import UnreadableRow
from storage.fsck.findings import Finding, FindingCode, unreadable
from storage.fsck.scope import PAGE, Progress, Scope

RETENTION_LEAST: Final = timedelta(days=20 * 365)
"""KEP-RT-01; leap days apart."""


class CheckedArchive(Protocol):
    """What fsck asks of the archive's rows."""

    def survey(self) -> Iterable[ArchivedObject | UnreadableRow]:
        """Yield every object by name."""
        ...

    def newest_entry(self) -> int:
        """Return the number of the newest entry of the ledger."""
        ...


class _Rounds(Protocol):
    def rounds(self) -> Sequence[RenewalRow]: ...


class _WithArchive(Protocol):
    @property
    def archive(self) -> CheckedArchive: ...
    @property
    def preservation(self) -> _Rounds: ...


def check_archive(scope: Scope) -> Iterator[Finding]:
    """Yield what does not hold of the rows about objects; the objects are for `check_objects`."""
    tx = cast("_WithArchive", scope.tx)
    rows: list[ArchivedObject] = []
    for row in tx.archive.survey():
        if isinstance(row, UnreadableRow):
            yield unreadable(row)
        else:
            rows.append(row)
    head = scope.tx.audit.head()
    newest = {
        ObjectKind.EVIDENCE: tx.archive.newest_entry(),
        ObjectKind.PROCESS: 0 if head is None else head.number,
    }
    for kind, last in newest.items():
        yield from _ranges(kind, [row for row in rows if row.kind is kind], last)
    for row in rows:
        if row.state is ObjectState.DAMAGED:
            yield Finding(FindingCode.ARCHIVE_DAMAGED, row.name)
        if row.retain_until - row.sealed_at < RETENTION_LEAST:
            yield Finding(FindingCode.ARCHIVE_RETENTION_SHORT, row.name, f"{row.retain_until:%Y-%m-%d}")
    for number, made in enumerate(tx.preservation.rounds(), 1):
        if made.number != number:
            yield Finding(FindingCode.ARCHIVE_ROUND_MISSING, str(number), f"round {made.number} follows")
            break
    scope.progress("objects", len(rows))


def _ranges(kind: ObjectKind, rows: Iterable[ArchivedObject], newest: int) -> Iterator[Finding]:
    """Check that ranges follow each other from 1 on and end where there are entries."""
    end = 0
    for row in sorted(rows, key=lambda one: (one.first, one.last)):
        if row.first > end + 1:
            detail = f"entries {end + 1} to {row.first - 1}"
            yield Finding(FindingCode.ARCHIVE_GAP, f"{kind.value}:{end + 1}", detail)
        elif row.first <= end:
            detail = f"entries {row.first} to {min(end, row.last)} lie in another object too"
            yield Finding(FindingCode.ARCHIVE_DOUBLED, row.name, detail)
        end = max(end, row.last)
    if end > newest:
        detail = f"the newest here is {newest}"
        yield Finding(FindingCode.ARCHIVE_AHEAD, f"{kind.value}:{end}", detail)


def archived_rows(tx: Tx) -> Iterator[ArchivedObject]:
    """Yield the rows about objects that can be read."""
    for row in cast("_WithArchive", tx).archive.survey():
        if isinstance(row, ArchivedObject):
            yield row


async def check_objects(
    rows: Sequence[ArchivedObject], places: Mapping[str, ObjectStore], *, deep: bool, progress: Progress
) -> AsyncIterator[Finding]:
    """Yield which objects are not where their rows say, or not what they say.

    Args:
        rows: all of the snapshot.
        places: the stores that the settings name.
        deep: read every object and compare its digests; otherwise what the store says of it is compared.
        progress: called now and then.
    """
    for place in sorted({row.place for row in rows}):
        here = [row for row in rows if row.place == place]
        objects = places.get(place)
        if objects is None:
            yield Finding(FindingCode.ARCHIVE_UNREACHABLE, place, "the settings name no such store")
            continue
        try:
            async for finding in _place(here, objects, deep=deep, progress=progress):
                yield finding
        except ObjectError as error:
            yield Finding(FindingCode.ARCHIVE_UNREACHABLE, place, str(error))


async def _place(
    rows: Sequence[ArchivedObject], objects: ObjectStore, *, deep: bool, progress: Progress
) -> AsyncIterator[Finding]:
    there: dict[str, ObjectRef] = {}
    for kind in ObjectKind:
        async for ref in objects.list(f"{kind.value}/"):
            there[ref.name] = ref
    for count, row in enumerate(rows, 1):
        found = there.pop(row.name, None)
        if found is None:
            yield Finding(FindingCode.ARCHIVE_OBJECT_MISSING, row.name)
        elif (found.size, found.sha256, found.sha512) != (row.size, row.sha256, row.sha512):
            yield Finding(FindingCode.ARCHIVE_OBJECT_ALTERED, row.name, "other digests than its row has")
        elif deep:
            try:
                await objects.check(row.ref)
            except ObjectDamagedError as error:
                yield Finding(FindingCode.ARCHIVE_OBJECT_ALTERED, row.name, str(error))
        if count % PAGE == 0:
            progress("archive", count)
    progress("archive", len(rows))
    if there:
        detail = f"{len(there)} objects no row names"
        yield Finding(FindingCode.ARCHIVE_OBJECT_UNKNOWN, "", detail, harmless=True)
