"""Rounds of renewal: one token over everything that must be carried on, and the records that come of it.

A round makes one hash tree and gets one token over its root (spec: RFC4998#5, signing.md 7). Its leaves::

    upper tree    manifest    H(what the round says of itself: ranges, old revocation data, earlier rounds)
                  carried     H(whole token of the round before), where that round had the same hash
                  span roots  one for each range of the ledger that this round covers by itself
    span tree     a leaf for each distinct last token, or for each evidence, of up to `SPAN` entries

Evidence is covered by itself once for each hash, in the first round after it was made. From then on its last
token is a round's token, and the one leaf "carried" of the next round renews all of it: a yearly round costs
one token, and work for the evidence of that year alone.

What a leaf is follows from the record so far (`next_leaf`):

- no record (the time stamp is inside the evidence): H(data); the round opens the first chain
- last chain of the round's hash: H(last token ContentInfo), the same chain goes on
- last chain of another hash: H(H(data) || H(all chains)), in that order: hash-tree renewal, a new chain

Both trees are of the kind of `evidence.stamps.ers_tree`, so a path through them is one reduced hash tree.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Final

from evidence.asn1.der import SEQUENCE, DerError, children, explicit, integer, octets, oid, parse, seq
from evidence.stamps.ers import (
    MAX_CHAINS,
    MAX_RECORD,
    MAX_STAMPS,
    ErsError,
    HashTree,
    own_record,
    read_record,
)
from evidence.stamps.ers_tree import HASHERS, SIZES, Path
from evidence.stamps.messages import read_token
from evidence.x509.algorithms import HASH_OIDS

SPAN: Final = 65_536
"""Ledger entries of one span at most; spans begin at multiples of it, or where the round before ended."""
MAX_SPANS: Final = 1 << 20
_VERSION: Final = integer(1)
_OIDS: Final = MappingProxyType({name: oid(dotted) for dotted, name in HASH_OIDS.items()})

DigestOf = Callable[[str], bytes]
"""Gives the digest of the data, all its bytes, by hashlib's name of the hash."""


class RenewalError(Exception):
    """Parts that do not belong together: another token, another evidence, a tree without the leaf."""


@dataclass(frozen=True, slots=True)
class Link:
    """What one round adds to one record: the way from a leaf to the root that the token stamps.

    ``siblings`` from the leaf upwards; none where the leaf is the root.
    """

    hash_name: str
    leaf: bytes
    siblings: tuple[bytes, ...]
    token: bytes

    def path(self, *, alone: bool) -> Path:
        """Return the partial hash trees.

        Args:
            alone: the first list is the leaf by itself, as a new chain wants it; otherwise {leaf, sibling}.
        """
        if not self.siblings:
            return ()
        if alone:
            return ((self.leaf,), *[(one,) for one in self.siblings])
        first, *others = self.siblings
        pair = (self.leaf, first) if self.leaf < first else (first, self.leaf)
        return (pair, *[(one,) for one in others])


@dataclass(frozen=True, slots=True)
class Span:
    """A range of the ledger, both ends included, and the root over its leaves."""

    first: int
    last: int
    root: bytes


class SpanTree:
    """The leaves of one span. What evidences share (a batch's token) stands once.

    Args:
        leaves: in the order of the ledger, at least one, digests of the hash.
        hash_name: of the round.

    Raises:
        RenewalError: no leaf, or one of another length.
    """

    __slots__ = ("_places", "_tree", "hash_name", "leaves")

    def __init__(self, leaves: Iterable[bytes], hash_name: str) -> None:
        self.leaves = tuple(dict.fromkeys(leaves))
        self.hash_name = hash_name
        try:
            self._tree = HashTree(self.leaves, hash_name)
        except ValueError as error:
            raise RenewalError(str(error)) from error
        self._places = {leaf: index for index, leaf in enumerate(self.leaves)}

    @property
    def root(self) -> bytes:
        """Return the root."""
        return self._tree.root

    def __contains__(self, leaf: bytes) -> bool:
        """Say whether a leaf stands here."""
        return leaf in self._places

    def siblings(self, leaf: bytes) -> tuple[bytes, ...]:
        """Return the way up from a leaf.

        Raises:
            RenewalError: it stands not here.
        """
        place = self._places.get(leaf)
        if place is None:
            raise RenewalError("the span has not this leaf")
        return _siblings(self._tree, place)


@dataclass(frozen=True)
class Round:
    """A round of renewal as it is kept.

    Attributes:
        number: from 1, without gaps.
        hash_name: of both trees and of the token's imprint.
        manifest: digest, by that hash, of what the round says of itself.
        carried: the token of the round before, None where it had another hash or there was none.
        spans: ascending, without overlaps.
        token: over the root; None while it is not there.
    """

    number: int
    hash_name: str
    manifest: bytes
    carried: bytes | None
    spans: tuple[Span, ...]
    token: bytes = b""

    @cached_property
    def _tree(self) -> HashTree:
        carried = () if self.carried is None else (_digest(self.hash_name, self.carried),)
        try:
            leaves = (self.manifest, *carried, *(span.root for span in self.spans))
            return HashTree(leaves, self.hash_name)
        except ValueError as error:
            raise RenewalError(str(error)) from error

    @property
    def root(self) -> bytes:
        """Return what the token stamps."""
        return self._tree.root

    def span_of(self, number: int) -> int | None:
        """Return the position of the span that covers a ledger entry, None where none does."""
        low, high = 0, len(self.spans)
        while low < high:
            middle = (low + high) // 2
            if self.spans[middle].last < number:
                low = middle + 1
            else:
                high = middle
        return low if low < len(self.spans) and self.spans[low].first <= number else None

    def manifest_link(self) -> Link:
        """Return the way of the round's own manifest, which proves when its revocation data was there."""
        return Link(self.hash_name, self.manifest, _siblings(self._tree, 0), self.token)

    @cached_property
    def carried_link(self) -> Link | None:
        """Return the way of the token of the round before: the same for all evidence that it had covered."""
        if self.carried is None:
            return None
        leaf = _digest(self.hash_name, self.carried)
        return Link(self.hash_name, leaf, _siblings(self._tree, 1), self.token)

    def link(self, position: int, span: SpanTree, leaf: bytes) -> Link:
        """Return the way of a leaf.

        Args:
            position: of the span, from `span_of`.
            span: its leaves.
            leaf: from `next_leaf`.

        Raises:
            RenewalError: the leaves are not those of the span, or it is not among them.
        """
        if span.root != self.spans[position].root or span.hash_name != self.hash_name:
            raise RenewalError("other leaves than those of the span")
        above = _siblings(self._tree, position + (1 if self.carried is None else 2))
        return Link(self.hash_name, leaf, span.siblings(leaf) + above, self.token)

    def problem(self) -> str | None:
        """Return why the token is not one over the root; whether it is to be believed is another matter."""
        try:
            info = read_token(self.token).info
        except DerError as error:
            return f"the token cannot be read: {error}"
        if info.hash_name != self.hash_name or info.imprint != self.root:
            return "the token stamps another root"
        return None

    @property
    def at(self) -> datetime:
        """Return the token's time.

        Raises:
            RenewalError: there is no token, or it cannot be read.
        """
        try:
            return read_token(self.token).info.gen_time
        except DerError as error:
            raise RenewalError(str(error)) from error


class Growing:
    """A record that grows by links; what is read once is not read again.

    Args:
        record: the evidence record as stored, DER; None for evidence with its time stamp inside.

    Raises:
        evidence.stamps.ers.ErsError: no evidence record.
    """

    __slots__ = ("_chains", "_infos", "_listed", "_names", "_token")

    def __init__(self, record: bytes | None) -> None:
        self._chains: list[list[bytes]] = []
        self._names: list[str] = []
        self._listed: tuple[str, ...] = ()
        self._infos = self._token = b""
        if record is None:
            return
        found = own_record(record) or read_record(record)
        self._chains = [[stamp.der for stamp in chain] for chain in found.chains]
        self._names = [chain[0].digest_name for chain in found.chains]
        self._listed = found.digest_names
        self._token = found.last.token
        if found.notes:
            members = children(parse(record, max_size=MAX_RECORD, tag=SEQUENCE), limit=5)
            self._infos = members[2].whole if len(members) == 4 else b""

    @property
    def hash_name(self) -> str | None:
        """Return the hash of the last chain, None while there is none."""
        return self._names[-1] if self._names else None

    @property
    def last_token(self) -> bytes:
        """Return the token that must hold today; empty while there is none."""
        return self._token

    def leaf(self, digest_of: DigestOf, hash_name: str) -> bytes:
        """Return what a round under a hash must cover; see `next_leaf`."""
        if not self._chains:
            return digest_of(hash_name)
        if self._names[-1] == hash_name:
            return _digest(hash_name, self._token)
        return _digest(hash_name, digest_of(hash_name) + _digest(hash_name, self._sequence()))

    def add(self, link: Link) -> None:
        """Take in what a round adds.

        Raises:
            RenewalError: the link is that of another token, or the record grows beyond what readers take.
        """
        opens = not self._chains or self._names[-1] != link.hash_name
        if not opens and link.leaf != _digest(link.hash_name, self._token):
            raise RenewalError("the round covers another token")
        alone = opens and bool(self._chains)
        stamp = _stamp(link.hash_name, link.path(alone=alone), link.token)
        if opens:
            self._chains.append([])
            self._names.append(link.hash_name)
            self._listed = tuple(dict.fromkeys((*self._listed, link.hash_name)))
        self._chains[-1].append(stamp)
        self._token = link.token
        if len(self._chains) > MAX_CHAINS or sum(map(len, self._chains)) > MAX_STAMPS:
            raise RenewalError("more time stamps than a record may have")

    def encode(self) -> bytes | None:
        """Return the record, DER; None where there is none yet.

        Raises:
            RenewalError: it is longer than readers take.
        """
        if not self._chains:
            return None
        names = seq(*(seq(_OIDS[name]) for name in self._listed))
        written = seq(_VERSION, names, self._infos, self._sequence())
        if len(written) > MAX_RECORD:
            raise RenewalError("longer than a record may be")
        return written

    def _sequence(self) -> bytes:
        return seq(*(seq(*chain) for chain in self._chains))


def next_leaf(record: bytes | None, digest_of: DigestOf, hash_name: str) -> bytes:
    """Return the leaf by which a round covers an evidence.

    Args:
        record: the record so far, joined with all earlier rounds; None where there is none.
        digest_of: digests of the evidence's bytes.
        hash_name: of the round.

    Raises:
        evidence.stamps.ers.ErsError: no evidence record.
    """
    return Growing(record).leaf(digest_of, hash_name)


def joined_record(record: bytes | None, links: Iterable[Link]) -> bytes | None:
    """Return the record with all that rounds added to it: what travels beside an evidence on export.

    Args:
        record: as stored (head and token joined), None for evidence with its time stamp inside.
        links: in the order of the rounds.

    Raises:
        evidence.stamps.ers.ErsError: no evidence record.
        RenewalError: a link that does not follow.
    """
    grown = Growing(record)
    for link in links:
        grown.add(link)
    return grown.encode()


def links_of(
    number: int,
    record: bytes | None,
    digest_of: DigestOf,
    rounds: Sequence[Round],
    span_at: Callable[[Round, int], SpanTree],
) -> list[Link]:
    """Return what all rounds add to the record of one evidence; see `grown_by`."""
    links: list[Link] = []
    _grow(Growing(record), number, digest_of, rounds, span_at, links)
    return links


def grown_by(
    number: int,
    record: bytes | None,
    digest_of: DigestOf,
    rounds: Sequence[Round],
    span_at: Callable[[Round, int], SpanTree],
) -> Growing:
    """Return the record of one evidence with all that rounds added to it.

    Args:
        number: of the evidence in the ledger.
        record: as stored.
        digest_of: digests of the evidence's bytes.
        rounds: all, ascending.
        span_at: reads the leaves of a round's span, by its position.

    Raises:
        evidence.stamps.ers.ErsError: no evidence record.
        RenewalError: a span has not the evidence that it should cover.
    """
    grown = Growing(record)
    _grow(grown, number, digest_of, rounds, span_at, [])
    return grown


def _grow(
    grown: Growing,
    number: int,
    digest_of: DigestOf,
    rounds: Sequence[Round],
    span_at: Callable[[Round, int], SpanTree],
    links: list[Link],
) -> None:
    for one in rounds:
        position = one.span_of(number)
        carried = one.carried_link
        if position is not None:
            link = one.link(position, span_at(one, position), grown.leaf(digest_of, one.hash_name))
        elif carried is not None and grown.hash_name == one.hash_name and grown.last_token == one.carried:
            link = carried
        else:
            continue
        grown.add(link)
        links.append(link)


def ranges(after: int, upto: int, size: int = SPAN) -> list[tuple[int, int]]:
    """Return the spans of a round over the entries above ``after`` up to ``upto``, both ends included."""
    found = []
    first = after + 1
    while first <= upto:
        last = min(upto, ((first - 1) // size + 1) * size)
        found.append((first, last))
        first = last + 1
    return found


@lru_cache(maxsize=256)  # a pure memo: a round's carried link is the same for all evidence before it
def _stamp(hash_name: str, path: Path, token: bytes) -> bytes:
    size = SIZES[hash_name]
    if any(len(entry) != size for entries in path for entry in entries):
        raise ErsError(f"entries must be {hash_name} digests")
    lists = [seq(*map(octets, entries)) for entries in path]
    return seq(explicit(0, _OIDS[hash_name]), explicit(2, *lists) if lists else b"", token)


def _siblings(tree: HashTree, place: int) -> tuple[bytes, ...]:
    return tuple(entry for (entry,) in tree.path_alone(place)[1:])


def _digest(hash_name: str, data: bytes) -> bytes:
    return bytes(HASHERS[hash_name](data).digest())
