"""Reading a provider that was taken over: its messages, evidence and content, as they were handed over.

Nothing is written. Every file is compared with the signed list before it is opened.
"""

import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from directory.accounts import Account, Operator
from evidence.bundle.archive_object import DIGITS
from evidence.bundle.archive_read import read_object
from evidence.bundle.hand_over import (
    LIST_MAX,
    MANIFEST,
    MANIFEST_MAX,
    HandOverError,
    Listed,
    Manifest,
    is_sealed,
    read_list,
    read_manifest,
)
from evidence.ledger.chain import LedgerEntry
from kephs.domain.audit import AuditEntry
from kephs.domain.erasure import Destroyed
from kephs.domain.messages import Delivery, StoredEvidence, Submission, Transfer
from kephs.ports import Offload
from kephs.ports.hand_over import PartCipher, Parts
from kephs.usecases.archive.audit import read_process
from kephs.usecases.ending.foreign_rounds import ForeignRounds
from kephs.usecases.ending.hand_over import PART_MAX
from kephs.usecases.ending.hand_over_contents import read_entry
from kephs.usecases.ending.hand_over_packs import pack_holding, read_pack
from kephs.usecases.ending.hand_over_reading import restored
from kephs.usecases.ending.hand_over_rows import read_lines

_SPAN: Final = re.compile(rf"(?:.*/)?([0-9]{{{DIGITS}}})-([0-9]{{{DIGITS}}})\.(?:kepa|jsonl)\Z")
_ROOT: Final = "acik/guven/kok-"
_INTERMEDIATE: Final = "acik/guven/ara-"


@dataclass(frozen=True, slots=True)
class ForeignEvidence:
    """One evidence with its entry. ``material``: what lay beside it in the archive, by file name."""

    row: StoredEvidence
    entry: LedgerEntry
    xml: bytes
    ers: bytes | None
    proof: bytes | None
    material: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class ForeignMessage:
    """Everything that was handed over about one message. ``contents`` by SHA-256, as far as kept."""

    domain: str
    message: Submission
    deliveries: tuple[Delivery, ...]
    transfers: tuple[Transfer, ...]
    destroyed: tuple[Destroyed, ...]
    evidences: tuple[ForeignEvidence, ...]
    contents: Mapping[bytes, bytes]
    appendix: tuple[bytes, bytes] | None  # what its own provider sealed its bundle with


class ForeignReader:
    """Reads one provider's hand-over; make it with `open_foreign`.

    Args:
        parts: the folder.
        cipher: under its key.
        offload: for decrypting and reading.
        manifest: what the hand-over says of itself.
        files: what it lists, by name.
    """

    def __init__(
        self, parts: Parts, cipher: PartCipher, offload: Offload, manifest: Manifest,
        files: Mapping[str, Listed],
    ) -> None:  # fmt: skip
        self._parts, self._cipher, self._offload = parts, cipher, offload
        self.manifest, self._files = manifest, files
        self._names = sorted(files)
        self._packs = [name for name in self._names if name.startswith("icerik/")]
        self._messages = [name for name in self._names if name.startswith("ileti/")]
        self._evidence = [*self._spans("arsiv/delil/"), *self._spans("delil/")]
        self.rounds = ForeignRounds(self.read, self._names)
        self._entries, self._records = self._spans("defter/"), self._spans("surec/")

    @property
    def domain(self) -> str:
        """Return whose it is."""
        return self.manifest.by.domain

    def names(self, folder: str) -> list[str]:
        """Return the names of files that begin so, ascending."""
        return [name for name in self._names if name.startswith(folder)]

    async def read(self, name: str) -> bytes:
        """Return a file, opened where it is sealed.

        Raises:
            HandOverError: it is not what the list says.
            kephs.ports.hand_over.PartsError: it cannot be read or opened.
        """
        one = self._files.get(name)
        if one is None:
            raise HandOverError(f"{name} was not handed over")
        stored = await self._parts.get(name, min(one.size, PART_MAX + (1 << 24)))

        def work() -> bytes:
            if not one.holds(stored):
                raise HandOverError(f"{name} is not what was taken over")
            return self._cipher.open(name, stored) if is_sealed(name) else stored

        return await self._offload.run(work)

    async def roots(self) -> tuple[list[bytes], list[bytes]]:
        """Return roots and intermediates that the provider trusted, DER."""
        roots = [await self.read(name) for name in self._names if name.startswith(_ROOT)]
        return roots, [await self.read(name) for name in self._names if name.startswith(_INTERMEDIATE)]

    async def find(self, wanted: str) -> ForeignMessage | None:
        """Return a message by its KEP id, or by the Message-ID of its sender's client; None: unknown.

        A Message-ID is looked for in all messages: that takes long in a large hand-over.
        """
        row = await self._row_of(self._messages, lambda row: str(row["message"]["message_id"]), wanted)
        if row is None:
            row = await self._by_message_id(wanted)
        return None if row is None else await self._message(row)

    async def account(self, account_id: str) -> tuple[Account, tuple[Operator, ...]] | None:
        """Return an account as it was, and who acted for it; None: unknown."""
        row = await self._row_of(
            self.names("hesap/"), lambda row: str(row["account"]["account_id"]), account_id
        )
        if row is None:
            return None
        return restored(Account, row["account"]), restored(tuple[Operator, ...], row["operators"])

    async def record(self, upto: int) -> list[AuditEntry]:
        """Return the process record up to an entry."""
        found: list[AuditEntry] = []
        for first, _, name in self._records:
            if first > upto:
                break
            lines = (await self.read(name)).split(b"\n")[:-1]
            found += [read_process(one) for one in lines]
        return found[:upto]

    # --- messages -----------------------------------------------------------------------------

    async def _row_of(
        self, files: Sequence[str], key: Callable[[Mapping[str, Any]], str], wanted: str
    ) -> dict[str, Any] | None:
        """Return a row by its key, from files whose rows ascend by it through all of them."""
        low, high = 0, len(files)
        while low < high:
            middle = (low + high) // 2
            rows = list(read_lines(await self.read(files[middle])))
            if not rows or wanted > key(rows[-1]):
                low = middle + 1
            elif wanted < key(rows[0]):
                high = middle
            else:
                return next((row for row in rows if key(row) == wanted), None)
        return None

    async def _by_message_id(self, wanted: str) -> dict[str, Any] | None:
        known = {wanted, f"<{wanted}>"}
        for name in self._messages:
            for row in read_lines(await self.read(name)):
                if row["message"]["user_message_id"] in known:
                    return row
        return None

    async def _message(self, row: Mapping[str, Any]) -> ForeignMessage:
        evidences = [
            await self._one_evidence(restored(StoredEvidence, one["row"]), int(one["ledger_number"]))
            for one in row["evidence"]
        ]
        contents = {}
        for digest in map(bytes.fromhex, row["kept"]):
            contents[digest] = await self.content(digest)
        appendix = None
        if row["appendix"] is not None:
            inputs, made = row["appendix"]
            appendix = bytes.fromhex(inputs), b64decode(made, validate=True)
        return ForeignMessage(
            self.domain, restored(Submission, row["message"]),
            restored(tuple[Delivery, ...], row["deliveries"]),
            restored(tuple[Transfer, ...], row["transfers"]),
            restored(tuple[Destroyed, ...], row["destroyed"]),
            tuple(evidences), contents, appendix,
        )  # fmt: skip

    async def content(self, digest: bytes) -> bytes:
        """Return content by its SHA-256.

        Raises:
            HandOverError: it was not handed over.
        """
        name = pack_holding(self._packs, digest)
        inside = {} if name is None else await self._offload.run(read_pack, await self.read(name))
        found = inside.get(digest)
        if found is None:
            raise HandOverError(f"content {digest.hex()} was not handed over")
        return found

    # --- evidence -----------------------------------------------------------------------------

    async def _one_evidence(self, row: StoredEvidence, number: int) -> ForeignEvidence:
        for _, _, name in _holding(self._evidence, number):
            content = await self.read(name)
            if name.startswith("arsiv/"):
                one = await self._offload.run(read_object, content)
                item = next(item for item in one.evidences if item.entry.number == number)
                material = {file: one.files[file] for file in item.material}
                return ForeignEvidence(row, item.entry, item.xml, item.ers, item.proof, material)
            for line in read_lines(content):
                if line["number"] == number:
                    ers = None if line["ers"] is None else b64decode(line["ers"], validate=True)
                    xml = b64decode(line["xml"], validate=True)
                    return ForeignEvidence(row, await self._entry(number), xml, ers, None, {})
        raise HandOverError(f"the evidence of ledger entry {number} was not handed over")

    async def _entry(self, number: int) -> LedgerEntry:
        for first, _, name in _holding(self._entries, number):
            rows = list(read_lines(await self.read(name)))
            return read_entry(rows[number - first])
        raise HandOverError(f"ledger entry {number} was not handed over")

    def _spans(self, folder: str) -> list[tuple[int, int, str]]:
        found = ((name, _SPAN.match(name)) for name in self._names if name.startswith(folder))
        return sorted((int(span[1]), int(span[2]), name) for name, span in found if span is not None)


async def open_foreign(parts: Parts, cipher: PartCipher, offload: Offload) -> ForeignReader:
    """Open a hand-over that was taken over: manifest and lists are read and compared.

    Raises:
        HandOverError: it is not complete, or was changed.
        kephs.ports.hand_over.PartsError: it cannot be read.
    """
    manifest = read_manifest(await parts.get(MANIFEST, MANIFEST_MAX))
    files: dict[str, Listed] = {}
    after = ""
    for one in manifest.lists:
        content = await parts.get(one.name, min(one.size, LIST_MAX))
        if not one.holds(content):
            raise HandOverError(f"{one.name} is not what the manifest says")
        for listed in read_list(content, after=after):
            files[listed.name] = listed
            after = listed.name
    return ForeignReader(parts, cipher, offload, manifest, files)


def _holding(spans: list[tuple[int, int, str]], number: int) -> Iterator[tuple[int, int, str]]:
    """Yield the spans that hold a number; archive and tail may both be about it."""
    return (one for one in spans if one[0] <= number <= one[1])
