"""Rounds of renewal inside a hand-over: records of old evidence as they stood when it was handed over."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from hashlib import new as new_hash
from typing import Final

from evidence.stamps.renewal import SpanTree, grown_by
from kephs.usecases.archive.archived_proof import ArchivedProof
from kephs.usecases.archive.preserve_object import (
    FOLDER,
    SUFFIX,
    RenewalObjectError,
    RoundHead,
    names_earlier,
    read_head,
    read_span,
)

PLACE: Final = "arsiv/"
_SPANS_KEPT: Final = 8


class ForeignRounds:
    """Joins records with the rounds that were handed over.

    Args:
        read: opens a file of the hand-over.
        names: of its files.
    """

    def __init__(self, read: Callable[[str], Awaitable[bytes]], names: Iterable[str]) -> None:
        self._read = read
        folder = f"{PLACE}{FOLDER}"
        inside = (name for name in names if name.startswith(folder) and name.endswith(SUFFIX))
        self._names = sorted(name for name in inside if "/" not in name.removeprefix(folder))
        self._heads: list[RoundHead] | None = None
        self._spans: OrderedDict[str, SpanTree] = OrderedDict()

    async def heads(self) -> list[RoundHead]:
        """Return all rounds, ascending.

        Raises:
            RenewalObjectError: they contradict each other.
        """
        if self._heads is None:
            found: list[RoundHead] = []
            earlier: list[bytes] = []
            for name in self._names:
                content = await self._read(name)
                head = read_head(content, found[-1].round if found else None)
                if not names_earlier(head.manifest, earlier):
                    raise RenewalObjectError(f"{name} names other rounds before it")
                found.append(head)
                earlier.append(content)
            self._heads = found
        return self._heads

    async def joined(
        self, number: int, xml: bytes, ers: bytes | None, *, upto: int | None = None
    ) -> bytes | None:
        """Return the record of an evidence with all that rounds added; None where it has none.

        Args:
            number: in the ledger.
            xml: the evidence, all its bytes.
            ers: its record as stored.
            upto: the last round that is joined; None: all.

        Raises:
            RenewalObjectError, evidence.stamps.renewal.RenewalError: a round does not cover what it should.
        """
        heads = (await self.heads())[:upto]
        if not any(head.covered >= number for head in heads):
            return ers
        spans: dict[int, SpanTree] = {}
        for head in heads:
            position = head.round.span_of(number)
            if position is not None:
                spans[head.round.number] = await self._span(head.span_names[position])
        grown = grown_by(
            number, ers, lambda name: new_hash(name, xml).digest(), [head.round for head in heads],
            lambda one, _position: spans[one.number],
        )  # fmt: skip
        return grown.encode()

    async def material_of(self, number: int) -> dict[str, bytes]:
        """Return the revocation data that rounds collected about what covers an evidence, by file name."""
        found: dict[str, bytes] = {}
        for head in await self.heads():
            if head.covered >= number:
                found |= head.material
        return found

    async def as_of(self, upto: int) -> "RoundsAsOf":
        """Return the rounds as they were when so many had been made."""
        return RoundsAsOf(self, min(upto, len(await self.heads())))

    async def _span(self, name: str) -> SpanTree:
        tree = self._spans.get(name)
        if tree is None:
            _, _, tree = read_span(await self._read(f"{PLACE}{name}"))
            self._spans[name] = tree
            if len(self._spans) > _SPANS_KEPT:
                self._spans.popitem(last=False)
        return tree


@dataclass(frozen=True, slots=True)
class RoundsAsOf:
    """Rounds up to one of them: what a provider's own bundle was sealed with.

    It is a `kephs.usecases.archive.archived_proof.RenewedProofs`. What had been collected lies with the
    bundle's seal already.
    """

    inner: ForeignRounds
    upto: int

    async def of(self, number: int, xml: bytes, ers: bytes | None) -> ArchivedProof:
        """Return the record as it went into the bundle.

        Raises:
            As `ForeignRounds.joined`.
        """
        joined = await self.inner.joined(number, xml, ers, upto=self.upto)
        return ArchivedProof(joined, rounds=self.upto)
