"""Rounds of renewal read back: the record of an evidence joined with all that happened to it since.

This is what goes out wherever an evidence record goes out (bundle, ledger proof, rebuild, dossier).
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import new as new_hash
from hashlib import sha256
from typing import Final

from evidence.stamps.renewal import DigestOf, Growing, Round, SpanTree, grown_by
from kephs.ports.archive import ArchiveCipher
from kephs.ports.objects import ObjectRef, ObjectStore
from kephs.ports.preservation import ArchivedRecord, PreservationStore, RenewalRow
from kephs.usecases.archive.preserve_object import (
    RenewalObjectError,
    RoundHead,
    head_name,
    names_earlier,
    read_head,
    read_span,
)

SPANS_KEPT: Final = 8
"""Spans held in memory: some 20 MB each at most, most of them far smaller."""


@dataclass(frozen=True, slots=True)
class KnownRound:
    """A finished round with the octets of its head."""

    head: RoundHead
    plain: bytes


@dataclass(frozen=True, slots=True)
class FoundRound:
    """A round as the objects alone have it: what its row says, and every object it wrote."""

    known: KnownRound
    row: RenewalRow
    objects: tuple[ObjectRef, ...]


class RenewedRecords:
    """Reads rounds and joins records. Rounds already read are remembered; they never change.

    Args:
        store: the rows.
        objects: where the rounds' objects lie.
        cipher: opens them.
        spans_kept: how many spans are remembered.
    """

    def __init__(
        self,
        store: PreservationStore,
        objects: ObjectStore,
        cipher: ArchiveCipher,
        *,
        spans_kept: int = SPANS_KEPT,
    ) -> None:
        self._store, self._objects, self._cipher = store, objects, cipher
        self._kept = spans_kept
        self._rounds: list[KnownRound] = []
        self._spans: OrderedDict[str, SpanTree] = OrderedDict()

    @property
    def newest(self) -> KnownRound | None:
        """Return the newest round that was read so far; `rounds` reads what is new."""
        return self._rounds[-1] if self._rounds else None

    async def rounds(self) -> list[KnownRound]:
        """Return all rounds, ascending.

        Raises:
            RenewalObjectError: a head is not the one that its row, or a later round, names.
            kephs.ports.objects.ObjectError: an object cannot be read.
        """
        rows = await self._store.read(lambda tx: tuple(tx.preservation.rounds()))
        for row in rows[len(self._rounds) :]:
            self._rounds.append(await self._read(row))
        return list(self._rounds)

    async def _read(self, row: RenewalRow) -> KnownRound:
        plain = self._cipher.open(row.head.name, await self._objects.get(row.head))
        head = read_head(plain, None if self.newest is None else self.newest.head.round)
        if head.round.number != row.number or head.round.hash_name != row.hash_name:
            raise RenewalObjectError(f"{row.head.name} is another round than its row says")
        if not names_earlier(head.manifest, [one.plain for one in self._rounds]):
            raise RenewalObjectError(f"{row.head.name} names other rounds before it")
        return KnownRound(head, plain)

    async def record_of(self, number: int, xml: bytes, record: bytes | None) -> bytes | None:
        """Return the record of an archived evidence as it stands today; None where none covers it yet.

        Args:
            number: in the ledger.
            xml: the evidence, all its bytes.
            record: as stored beside it; None where its time stamp is inside.

        Raises:
            evidence.stamps.renewal.RenewalError: a round does not cover what it should.
            RenewalObjectError: an object of a round contradicts itself.
            kephs.ports.objects.ObjectError: an object cannot be read.
        """
        await self.rounds()
        return (await self._grown(ArchivedRecord(number, xml, record))).encode()

    async def leaf_of(self, one: ArchivedRecord, hash_name: str) -> bytes:
        """Return the leaf by which the next round covers an archived evidence, under a hash.

        What rounds there are is what `rounds` told last: whoever makes a round asks for millions of leaves.

        Raises:
            As `record_of`.
        """
        return (await self._grown(one)).leaf(_digests(one.xml), hash_name)

    async def _grown(self, one: ArchivedRecord) -> Growing:
        rounds = [known.head.round for known in self._rounds]
        spans = await self._spans_of(one.number, rounds)
        return grown_by(
            one.number, one.ers, _digests(one.xml), rounds, lambda which, _position: spans[which.number]
        )

    async def _spans_of(self, number: int, rounds: list[Round]) -> dict[int, SpanTree]:
        found = {}
        for one, known in zip(rounds, self._rounds, strict=False):
            position = one.span_of(number)
            if position is not None:
                found[one.number] = await self.span(known.head.span_names[position])
        return found

    async def span(self, name: str) -> SpanTree:
        """Return the leaves of a span, by the name of its object.

        Raises:
            RenewalObjectError: it is not there, or none.
            kephs.ports.objects.ObjectError: it cannot be read.
        """
        tree = self._spans.get(name)
        if tree is None:
            ref = await find_object(self._objects, name)
            if ref is None:
                raise RenewalObjectError(f"{name} is not there")
            _, _, tree = read_span(self._cipher.open(name, await self._objects.get(ref)))
            self._spans[name] = tree
            if len(self._spans) > self._kept:
                self._spans.popitem(last=False)
        self._spans.move_to_end(name)
        return tree

    async def material_of(self, number: int) -> Mapping[str, bytes]:
        """Return the revocation data and certificates that rounds collected about authorities, by file name.

        Those of every round that renewed what covers this evidence: a court needs them beside its record.
        """
        found: dict[str, bytes] = {}
        for one in await self.rounds():
            if one.head.covered >= number:
                found |= one.head.material
        return found


def _digests(xml: bytes) -> DigestOf:
    return lambda name: new_hash(name, xml).digest()


async def find_object(objects: ObjectStore, name: str) -> ObjectRef | None:
    """Return the object of a name, None where the store has none."""
    async for ref in objects.list(name):
        if ref.name == name:
            return ref
    return None


def row_of(head: RoundHead, ref: ObjectRef) -> RenewalRow:
    """Return the row of a round."""
    one = head.round
    return RenewalRow(
        one.number, one.at, head.reason, one.hash_name, sha256(one.token).digest(), head.leaves,
        head.covered, ref,
    )  # fmt: skip


async def found_round(
    objects: ObjectStore, cipher: ArchiveCipher, number: int, before: KnownRound | None
) -> FoundRound | None:
    """Return a round by what lies in the store; None where its head was never written.

    Args:
        objects: the store.
        cipher: opens its objects.
        number: of the round.
        before: the round before it; None for the first.

    Raises:
        RenewalObjectError: head or spans contradict each other, or a span is not there.
        kephs.ports.objects.ObjectError: an object cannot be read.
    """
    ref = await find_object(objects, head_name(number))
    if ref is None:
        return None
    plain = cipher.open(ref.name, await objects.get(ref))
    head = read_head(plain, None if before is None else before.head.round)
    refs = [ref]
    for name in head.span_names:
        span = await find_object(objects, name)
        if span is None:
            raise RenewalObjectError(f"{name} is not there")
        refs.append(span)
    return FoundRound(KnownRound(head, plain), row_of(head, ref), tuple(refs))


async def rebuilt_rounds(objects: ObjectStore, cipher: ArchiveCipher) -> list[FoundRound]:
    """Return all rounds from the objects alone, ascending: add their rows to rebuild the index.

    Raises:
        As `found_round`; RenewalObjectError also where a round names other heads before it.
    """
    found: list[FoundRound] = []
    while True:
        before = found[-1].known if found else None
        one = await found_round(objects, cipher, len(found) + 1, before)
        if one is None:
            return found
        if not names_earlier(one.known.head.manifest, [each.known.plain for each in found]):
            raise RenewalObjectError(f"{one.row.head.name} names other rounds before it")
        found.append(one)
