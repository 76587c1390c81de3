"""Handing over: everything another provider needs, as a folder under a signed manifest (KEP-TM-02, -03).

======================================  ============================================================
file                                    content, sealed under the hand-over's key but for ``acik/``
======================================  ============================================================
``arsiv/<name of the object>``          objects of the archive, opened: evidence, process records,
                                        renewals, with proofs and validation material
``delil/<first>-<last>.jsonl``          evidence that no sound object holds: XML, record, row
``defter/<first>-<last>.jsonl``         every ledger entry with its salt
``nokta/<n>.jsonl``                     every checkpoint that was signed, with its cosignatures
``surec/<first>-<last>.jsonl``          the process record, to the letter what its digests cover
``hesap/<n>.jsonl``                     accounts, who acts for them with which rights, certificates
``kapali/<n>.jsonl``                    addresses that nobody may ever have again (KEP-CL-05)
``ileti/<n>.jsonl``                     messages by id: states, deliveries, evidence, transfers
``posta/<account>/<folder>-<n>.jsonl``  what lies in mailboxes: digest, UID, flags, gate
``icerik/<first>-<digest>.pak``         the content that messages and mailboxes name, by SHA-256
``guven/000001.jsonl``                  the trust list with the names behind it
``saklama/000001.jsonl``                legal holds, which go on
``yabanci/000001.jsonl``                providers taken over before: their folders are handed on as they are
``acik/defter/``                        the published ledger as any web server shows it
``acik/...``                            certificates, roots, register of providers, how to check
======================================  ============================================================

Every file follows from the store alone: made again, after a kill, it has the same octets and is left as it
is. The manifest comes last; without it nothing was handed over. The store must stand still meanwhile: ledger
and process record are compared at both ends.
"""

from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from evidence.bundle.archive_object import DIGITS
from evidence.bundle.hand_over import (
    LIST_MAX,
    MANIFEST,
    SEAL,
    HandedBy,
    HandOverError,
    LedgerEnd,
    Listed,
    Manifest,
    RecordEnd,
    check_name,
    is_sealed,
    make_lists,
    make_manifest,
)
from evidence.ledger.chain import GENESIS as LEDGER_GENESIS
from evidence.ledger.tiles import ENTRIES, TileName, tiles_of
from evidence.ports import Sealing
from kephs.domain.audit import GENESIS as AUDIT_GENESIS
from kephs.ports import Blob, BlobStore, Clock, Offload, Store, Tx
from kephs.ports.archive import ArchivedObject
from kephs.ports.hand_over import PartCipher, PartMissingError, Parts, PartsError
from kephs.ports.objects import ObjectDamagedError
from kephs.usecases.archive.audit import process_json
from kephs.usecases.ending.hand_over_packs import pack_name, packs_of, write_pack
from kephs.usecases.ending.hand_over_rows import (
    ITEMS_OF,
    ROWS_OF,
    ContentGoneError,
    account_rows,
    closed_addresses,
    folder_items,
    line,
    lines,
    message_contents,
    message_rows,
    tail_rows,
)

FOLDERS: Final = frozenset(
    {
        "arsiv", "delil", "defter", "nokta", "surec", "hesap", "kapali", "ileti", "posta", "icerik",
        "guven", "saklama", "yabanci", "acik", "liste",
    }
)  # fmt: skip
PUBLIC_LEDGER: Final = "acik/defter/"
PART_MAX: Final = 640 << 20
"""Octets of a file at most, before it is sealed: it is held in memory."""
TAIL_OCTETS: Final = 32 << 20
"""Evidence outside the archive: a file is closed when it has so many octets."""
RECORDS_OF: Final = 1_000
_IDENTITY: Final = (
    "Identity numbers are kept as hashes under a key that stays with the provider handing over; another "
    "provider cannot compare them and identifies each holder anew."
)
_PASSWORDS: Final = "App passwords, private keys and PINs are not handed over."


class StoreMovedError(Exception):
    """The instance went on working while it was handed over: stop it and begin again."""


@dataclass(frozen=True, slots=True)
class Handing:
    """What a hand-over is told.

    ``public``: files for ``acik/``, by name without that folder: roots, certificates, register, guide.
    ``origin`` and ``vkey`` are the ledger's.
    """

    by: HandedBy
    origin: str
    vkey: str
    public: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class _Mark:
    """How far the store's two chains reach."""

    ledger: int
    ledger_hash: bytes
    record: int
    record_digest: bytes


@dataclass(slots=True)
class _Listing:
    """What was written so far."""

    files: dict[str, Listed] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, subject: str, more: int) -> None:
        self.counts[subject] = self.counts.get(subject, 0) + more


class HandOver:
    """Writes a hand-over; see the module's docstring.

    Args:
        store: the rows.
        blobs: content.
        read_object: opens an object of the archive.
        published: what the public ledger shows under a name.
        parts: the folder it goes to.
        cipher: seals it.
        sealer: signs the manifest.
        offload: for reading, hashing, encrypting.
        clock: the time.
        progress: told what is under way and how many files there are.
    """

    def __init__(
        self, *, store: Store, blobs: BlobStore,
        read_object: Callable[[ArchivedObject], Awaitable[bytes]],
        published: Callable[[Tx, TileName], bytes | None], parts: Parts, cipher: PartCipher, sealer: Sealing,
        offload: Offload, clock: Clock, progress: Callable[[str, int], object] = lambda _what, _count: None,
    ) -> None:  # fmt: skip
        self._store, self._blobs, self._read_object = store, blobs, read_object
        self._published, self._parts, self._cipher, self._sealer = published, parts, cipher, sealer
        self._offload, self._clock, self._progress = offload, clock, progress

    async def make(self, handing: Handing) -> Manifest:
        """Write everything and return the manifest; what an earlier try wrote is used.

        Raises:
            HandOverError: the folder holds other things.
            StoreMovedError: the instance works meanwhile.
            ContentGoneError, kephs.ports.BlobMissingError: the store is not sound.
            PartsError: a file cannot be written.
            SignerUnavailableError, TimestampUnavailableError: try again later, nothing is lost.
        """
        await self._check_folder()
        for name in (SEAL, MANIFEST):
            await self._parts.drop(name)
        mark = await self._store.read(_mark)
        listing = _Listing()
        async for name, content in self._everything(handing, mark, listing):
            await self._keep(listing, name, content)
        lists = await self._write_lists(listing)
        manifest = Manifest(
            handing.by, self._clock.now(),
            LedgerEnd(handing.origin, handing.vkey, mark.ledger, mark.ledger_hash),
            RecordEnd(mark.record, mark.record_digest),
            dict(sorted(listing.counts.items())), self._cipher.check, lists, (_IDENTITY, _PASSWORDS),
        )  # fmt: skip
        content = make_manifest(manifest)
        seal = await self._sealer.sign_entity(sha256(content).digest(), manifest.made_at)
        if await self._store.read(_mark) != mark:
            raise StoreMovedError("the instance worked while it was handed over: stop it and begin again")
        await self._drop_strays({*listing.files, *(one.name for one in lists)})
        await self._parts.put(SEAL, seal)
        await self._parts.put(MANIFEST, content)
        return manifest

    # --- the folder ---------------------------------------------------------------------------

    async def _check_folder(self) -> None:
        async for name in self._parts.names():
            if name not in {MANIFEST, SEAL} and name.split("/", 1)[0] not in FOLDERS:
                raise HandOverError(f"the folder holds {name[:80]}, which is no part of a hand-over")

    async def _keep(self, listing: _Listing, name: str, content: bytes) -> None:
        if len(content) > PART_MAX:
            raise HandOverError(f"{check_name(name)} would be larger than {PART_MAX} octets")
        check_name(name)
        stored = await self._offload.run(self._cipher.seal, name, content) if is_sealed(name) else content
        if await self._there(name, len(stored)) != stored:
            await self._parts.put(name, stored)
        self._enter(listing, await self._offload.run(Listed.of, name, stored))

    def _enter(self, listing: _Listing, one: Listed) -> None:
        if one.name in listing.files:
            raise HandOverError(f"{one.name} was to be written twice")
        listing.files[one.name] = one
        listing.count("files", 1)
        listing.count("octets", one.size)
        self._progress(one.name.split("/", 1)[0], len(listing.files))

    async def _there(self, name: str, most: int) -> bytes | None:
        try:
            return await self._parts.get(name, most)
        except PartMissingError:
            return None
        except PartsError:  # longer than it should be, or no file: it is written anew
            return b""

    async def _kept_before(self, listing: _Listing, name: str) -> bool:
        """Enter a file that an earlier try wrote whole and whose content follows from its name."""
        stored = await self._there(name, PART_MAX)
        if not stored:
            return False
        try:
            await self._offload.run(self._cipher.open, name, stored)
        except PartsError:  # another key, or damaged
            return False
        self._enter(listing, await self._offload.run(Listed.of, name, stored))
        return True

    async def _write_lists(self, listing: _Listing) -> tuple[Listed, ...]:
        found = []
        for name, content in make_lists(listing.files[name] for name in sorted(listing.files)):
            if await self._there(name, LIST_MAX) != content:
                await self._parts.put(name, content)
            found.append(Listed.of(name, content))
        return tuple(found)

    async def _drop_strays(self, known: set[str]) -> None:
        """Remove what an earlier try wrote and nothing lists any more."""
        stale = [name async for name in self._parts.names() if name not in known]
        for name in stale:
            await self._parts.drop(name)

    # --- the contents -------------------------------------------------------------------------

    async def _everything(
        self, handing: Handing, mark: _Mark, listing: _Listing
    ) -> AsyncIterator[tuple[str, bytes]]:
        for name in sorted(handing.public):
            yield f"acik/{name}", handing.public[name]
        async for part in self._public_ledger(mark):
            yield part
        async for part in self._evidence(mark, listing):
            yield part
        async for part in self._ledger(mark, listing):
            yield part
        async for part in self._record(mark, listing):
            yield part
        wanted: set[bytes] = set()
        async for part in self._accounts(listing, wanted):
            yield part
        async for part in self._messages(listing, wanted):
            yield part
        async for part in self._contents(sorted(wanted), listing):
            yield part
        anchors, holds, foreign = await self._store.read(
            lambda tx: (list(tx.anchors.all()), list(tx.holds.all()), list(tx.foreign.archives()))
        )
        listing.count("foreign_archives", len(foreign))
        listing.count("anchors", len(anchors))
        listing.count("holds", len(holds))
        yield "guven/000001.jsonl", lines(anchors)
        yield "saklama/000001.jsonl", lines(holds)
        yield "yabanci/000001.jsonl", lines(foreign)

    async def _public_ledger(self, mark: _Mark) -> AsyncIterator[tuple[str, bytes]]:
        newest = await self._store.read(lambda tx: tx.tree.checkpoint())
        size = 0 if newest is None else newest.size
        if size != mark.ledger:
            raise StoreMovedError(f"{mark.ledger - size} entries of the ledger are not published yet")
        if newest is None:
            return
        tiles = list(tiles_of(size))
        for name in [*tiles, *(TileName(ENTRIES, one.number, one.width) for one in tiles if one.level == 0)]:
            body = await self._store.read(lambda tx, name=name: self._published(tx, name))  # type: ignore[misc]
            if body is None:
                raise ContentGoneError(f"the ledger's {name.path}")
            yield f"{PUBLIC_LEDGER}{name.path}", body
        yield f"{PUBLIC_LEDGER}checkpoint", newest.note.encode()

    async def _evidence(self, mark: _Mark, listing: _Listing) -> AsyncIterator[tuple[str, bytes]]:
        held: list[tuple[int, int]] = []
        after = ""
        while page := await self._store.read(lambda tx, after=after: list(tx.archive.all(after))):  # type: ignore[misc]
            for row in page:
                name = f"arsiv/{row.name}"
                if not await self._kept_before(listing, name):
                    try:
                        yield name, await self._read_object(row)
                    except ObjectDamagedError:
                        listing.count("damaged_objects", 1)
                        continue
                listing.count("objects", 1)
                if row.kind.value == "delil":
                    held.append((row.first, row.last))
            after = page[-1].name
        for first, last in _gaps(held, mark.ledger):
            async for part in self._tail(first, last):
                yield part

    async def _tail(self, first: int, last: int) -> AsyncIterator[tuple[str, bytes]]:
        """Yield evidence that no sound object holds."""
        for start in range(first, last + 1, ROWS_OF):
            count = min(ROWS_OF, last + 1 - start)
            rows = await self._store.read(
                lambda tx, start=start, count=count: tail_rows(tx, tx.evidence.ledger(start - 1, count))  # type: ignore[misc]
            )
            page: list[tuple[int, bytes]] = []
            for entry, facts, blob in rows:
                if page and sum(len(one) for _, one in page) + blob.size * 2 > TAIL_OCTETS:
                    yield _tail_file(page)
                    page = []
                xml = b64encode(await self._read(blob)).decode()
                page.append((entry.number, line({**facts, "xml": xml})))
            if page:
                yield _tail_file(page)

    async def _ledger(self, mark: _Mark, listing: _Listing) -> AsyncIterator[tuple[str, bytes]]:
        for after in range(0, mark.ledger, ITEMS_OF):
            entries = await self._store.read(
                lambda tx, after=after: tx.evidence.ledger(after, min(ITEMS_OF, mark.ledger - after))  # type: ignore[misc]
            )
            listing.count("entries", len(entries))
            yield f"defter/{_span(after + 1, after + len(entries))}.jsonl", lines(entries)
        after, number = 0, 0
        while page := await self._store.read(lambda tx, after=after: tx.tree.checkpoints(after, ITEMS_OF)):  # type: ignore[misc]
            number, after = number + 1, page[-1].size
            listing.count("checkpoints", len(page))
            yield f"nokta/{number:06d}.jsonl", lines(page)

    async def _record(self, mark: _Mark, listing: _Listing) -> AsyncIterator[tuple[str, bytes]]:
        for after in range(0, mark.record, RECORDS_OF):
            count = min(RECORDS_OF, mark.record - after)
            entries = await self._store.read(lambda tx, a=after, c=count: list(tx.audit.page(a, c)))  # type: ignore[misc]
            listing.count("records", len(entries))
            content = b"".join(process_json(entry) + b"\n" for entry in entries)
            yield f"surec/{_span(after + 1, after + len(entries))}.jsonl", content

    async def _accounts(self, listing: _Listing, wanted: set[bytes]) -> AsyncIterator[tuple[str, bytes]]:
        ids = await self._store.read(lambda tx: sorted(one.account_id for one in tx.accounts.all()))
        for number, page in enumerate(_pages(ids, ROWS_OF), 1):
            rows = await self._store.read(lambda tx, page=page: account_rows(tx, page))  # type: ignore[misc]
            listing.count("accounts", len(rows))
            listing.count("operators", sum(len(row["operators"]) for row in rows))
            yield f"hesap/{number:06d}.jsonl", await self._offload.run(lines, rows)
            for row in rows:
                for place, folder in enumerate(row["folders"], 1):
                    stem = f"posta/{row['account'].account_id}/{place:04d}"
                    async for part in self._folder(stem, folder.folder_id, listing, wanted):
                        yield part
        closed = await self._store.read(closed_addresses)
        listing.count("closed_addresses", len(closed))
        for number, gone in enumerate(_pages(closed, ITEMS_OF), 1):
            yield f"kapali/{number:06d}.jsonl", lines(gone)

    async def _folder(
        self, stem: str, folder_id: int, listing: _Listing, wanted: set[bytes]
    ) -> AsyncIterator[tuple[str, bytes]]:
        after = number = 0
        while rows := await self._store.read(
            lambda tx, after=after: folder_items(tx, folder_id, after)  # type: ignore[misc]
        ):
            number, after = number + 1, rows[-1]["item"].uid
            wanted |= {row["sha256"] for row in rows}
            listing.count("items", len(rows))
            yield f"{stem}-{number:06d}.jsonl", lines(rows)

    async def _messages(self, listing: _Listing, wanted: set[bytes]) -> AsyncIterator[tuple[str, bytes]]:
        ids = await self._store.read(lambda tx: sorted(one.message_id for one in tx.messages.all()))
        for number, page in enumerate(_pages(ids, ROWS_OF), 1):
            rows, named = await self._store.read(
                lambda tx, page=page: (message_rows(tx, page), message_contents(tx, page))  # type: ignore[misc]
            )
            wanted |= named
            listing.count("messages", len(rows))
            yield f"ileti/{number:06d}.jsonl", await self._offload.run(lines, rows)

    async def _contents(self, digests: list[bytes], listing: _Listing) -> AsyncIterator[tuple[str, bytes]]:
        blobs: list[Blob] = []
        for page in _pages(digests, ITEMS_OF):
            found = await self._store.read(lambda tx, page=page: [tx.blobs.get(one) for one in page])  # type: ignore[misc]
            for digest, blob in zip(page, found, strict=True):
                if blob is None:
                    raise ContentGoneError(f"content {digest.hex()}")
                blobs.append(blob)
        listing.count("contents", len(blobs))
        for pack in packs_of(blobs):
            name = pack_name([blob.sha256 for blob in pack])
            if not await self._kept_before(listing, name):
                contents = {blob.sha256: await self._read(blob) for blob in pack}
                yield name, await self._offload.run(write_pack, contents)

    async def _read(self, blob: Blob) -> bytes:
        source = self._blobs.open(blob)
        return await self._offload.run(source.read, 0, source.size)


def _pages(values: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def _gaps(held: Iterable[tuple[int, int]], last: int) -> Iterable[tuple[int, int]]:
    """Return the ranges of 1 to ``last`` that no range covers."""
    after = 0
    for first, end in sorted(held):
        if first > after + 1:
            yield after + 1, first - 1
        after = max(after, end)
    if after < last:
        yield after + 1, last


def _tail_file(page: Sequence[tuple[int, bytes]]) -> tuple[str, bytes]:
    return f"delil/{_span(page[0][0], page[-1][0])}.jsonl", b"".join(one for _, one in page)


def _span(first: int, last: int) -> str:
    return f"{first:0{DIGITS}d}-{last:0{DIGITS}d}"


def _mark(tx: Tx) -> _Mark:
    number = tx.archive.newest_entry()
    entries = tx.evidence.ledger(number - 1, 1) if number else []
    head = tx.audit.head()
    return _Mark(
        number, entries[0].hash if entries else LEDGER_GENESIS,
        0 if head is None else head.number, AUDIT_GENESIS if head is None else head.digest,
    )  # fmt: skip
