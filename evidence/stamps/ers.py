"""RFC 4998 evidence records, written by template and read strictly.

`evidence.stamps.ers_check` judges what is read here, `evidence.stamps.ers_tree` makes the trees.
(spec: RFC4998, signing.md 4 and 7)

A record of ours, DER with implicit tags, identifiers of digests without NULL (spec: RFC5754#2)::

    SEQUENCE { 1, SEQUENCE { sha256 }, SEQUENCE OF chain }     chain = SEQUENCE OF ArchiveTimeStamp
    ArchiveTimeStamp = SEQUENCE { [0] sha256, [2] SEQUENCE OF SEQUENCE OF OCTET STRING, ContentInfo }

The first list is {leaf, sibling} in ascending order (so these two have the same record, which proves both),
each further one the sibling alone; a batch of one has no [2]. In a new chain (after a hash has weakened) the
first list is the leaf alone and stands for itself. The ContentInfo of the last time stamp is always the tail
of the record: stored once a batch, joined again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from evidence.asn1.der import (
    INTEGER,
    NULL_DER,
    OCTET_STRING,
    OID,
    SEQUENCE,
    SET,
    Cursor,
    DerError,
    Node,
    children,
    expect,
    explicit,
    integer,
    octets,
    oid,
    parse,
    read,
    seq,
    to_int,
    walk,
)
from evidence.stamps.ers_tree import HASHERS, SIZES, HashTree, Path, tree_root
from evidence.stamps.messages import MAX_TOKEN, read_token
from evidence.x509.algorithms import HASH_OIDS, UnknownAlgorithmError, digest_algorithm

__all__ = [
    "MAX_RECORD", "ArchiveTimestamp", "ErsError", "ErsRecord", "ErsUnsupportedError", "HashTree", "Path",
    "chains_leaf", "encode_record", "is_canonical", "new_chain", "own_record", "read_record", "rehash_leaf",
    "renew", "renewal_leaf", "split_record", "tree_root",
]  # fmt: skip

MAX_RECORD: Final = 256 * 1024
MAX_CHAINS: Final = 16
MAX_STAMPS: Final = 64
"""ArchiveTimeStamps in all chains of a record: one a year lasts longer than anybody asks for."""
MAX_LISTS: Final = 64
MAX_ENTRIES: Final = 1024
_MAX_NODES: Final = 2_000
_MAX_DEPTH: Final = 16

_DIGEST_ALGORITHM: Final = 0xA0
_ATTRIBUTES: Final = 0xA1
_TREE: Final = 0xA2
_CRYPTO_INFOS: Final = 0xA0
_ENCRYPTION: Final = 0xA1

_VERSION: Final = integer(1)
_IDENTIFIERS: Final = MappingProxyType({name: seq(oid(dotted)) for dotted, name in HASH_OIDS.items()})
_TAGGED: Final = MappingProxyType({name: explicit(0, oid(dotted)) for dotted, name in HASH_OIDS.items()})
_NAMES: Final = MappingProxyType(
    {oid(dotted) + null: name for dotted, name in HASH_OIDS.items() for null in (b"", NULL_DER)}
)
_ALONE: Final = MappingProxyType({n: seq(octets(bytes(n)))[:-n] for n in set(SIZES.values())})
"""What stands before the only digest of a list, by its length: most lists, so they are joined, not built."""

_OWN_NAME: Final = "sha256"
_OWN_HEAD: Final = _VERSION + seq(_IDENTIFIERS[_OWN_NAME])
_LONG: Final = 256
_LONGEST: Final = 60_000  # octets of a token: with its tree it stays below 65,536
_LONG_SEQ: Final = b"\x30\x82"
"""A SEQUENCE of 256 to 65,535 octets; two octets of length follow."""
_PAIR: Final = seq(octets(bytes(32)), octets(bytes(32)))[:4]
_SECOND: Final = octets(bytes(32))[:2]
_OWN_STAMP: Final = 4 + len(_OWN_HEAD) + 4 + 4
_OWN_TREE: Final = _OWN_STAMP + 4 + len(_TAGGED[_OWN_NAME])
"""Offsets in a record of ours whose lengths all have the form 82 xx xx, which most have."""


class ErsError(Exception):
    """The bytes are not an evidence record that may be read, or the parts make none."""


class ErsUnsupportedError(ErsError):
    """A record that may be right, but holds what is not judged here: encryption, unknown digests."""


@dataclass(frozen=True, slots=True)
class ArchiveTimestamp:
    """One ArchiveTimeStamp: ``reduced`` is None where the token stamps the leaf itself, ``der`` the whole."""

    digest_name: str
    reduced: Path | None
    token: bytes
    der: bytes


@dataclass(frozen=True, slots=True)
class ErsRecord:
    """A record as read. ``digest_names`` as listed; ``notes`` name what was read past and nobody judged."""

    der: bytes
    chains: tuple[tuple[ArchiveTimestamp, ...], ...]
    digest_names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def last(self) -> ArchiveTimestamp:
        """Return the time stamp that must hold today."""
        return self.chains[-1][-1]


# --------------------------------------------------------------------------- writing


def encode_record(path: Path, token: bytes, digest_name: str = "sha256") -> bytes:
    """Return the record of one leaf, DER: one chain of one ArchiveTimeStamp.

    Args:
        path: what `HashTree.path` gave.
        token: the time-stamp token over the root, DER ContentInfo.
        digest_name: the hash of the tree.

    Raises:
        ErsError: entries that have not the length of the hash.
    """
    if digest_name == _OWN_NAME and _LONG <= len(token) <= _LONGEST and _usual(path):
        return _joined(path, token)
    stamp = _encode_stamp(path, token, digest_name)
    return seq(_VERSION, seq(_IDENTIFIERS[digest_name]), seq(seq(stamp)))


def _usual(path: Path) -> bool:
    return 0 < len(path) <= MAX_LISTS and len(path[0]) == 2 and all(len(one) == 1 for one in path[1:])


def _joined(path: Path, token: bytes) -> bytes:
    """Return the usual record, its parts joined: lengths are known, so four of its frames have one form.

    Raises:
        ErsError: entries that are no SHA-256 digests.
    """
    (left, right), *others = path
    alone = _ALONE[32]
    lists = b"".join([_PAIR, left, _SECOND, right, *[part for (one,) in others for part in (alone, one)]])
    if len(left) != 32 or len(right) != 32 or any(len(one) != 32 for (one,) in others):
        raise ErsError("entries must be sha256 digests")
    tree = explicit(2, lists)
    size = len(_TAGGED[_OWN_NAME]) + len(tree) + len(token)
    return b"".join((
        _LONG_SEQ, (size + 12 + len(_OWN_HEAD)).to_bytes(2, "big"), _OWN_HEAD,
        _LONG_SEQ, (size + 8).to_bytes(2, "big"), _LONG_SEQ, (size + 4).to_bytes(2, "big"),
        _LONG_SEQ, size.to_bytes(2, "big"), _TAGGED[_OWN_NAME], tree, token,
    ))  # fmt: skip


def split_record(ers: bytes) -> tuple[bytes, bytes]:
    """Return (head, token): the last token is the tail of the record, ``head + token`` the record.

    Only the way to the token is read; `read_record` is the strict reader.

    Raises:
        ErsError: no evidence record.
    """
    try:
        members = children(parse(ers, max_size=MAX_RECORD, tag=SEQUENCE), limit=5)
        chain = children(members[-1], limit=MAX_CHAINS, tag=SEQUENCE)[-1]
        stamp = children(chain, limit=MAX_STAMPS, tag=SEQUENCE)[-1]
        token = expect(children(stamp, limit=4, tag=SEQUENCE)[-1], SEQUENCE)
    except (DerError, IndexError) as error:
        raise ErsError(f"not an evidence record: {error}") from error
    return ers[: token.start], ers[token.start :]


def renewal_leaf(record: bytes) -> bytes:
    """Return what a newer token must cover: the digest of the last ContentInfo, by the chain's own hash.

    (spec: RFC4998#5.2 time-stamp renewal)

    Raises:
        ErsError: no evidence record.
    """
    last = read_record(record).last
    return bytes(HASHERS[last.digest_name](last.token).digest())


def renew(record: bytes, path: Path, token: bytes) -> bytes:
    """Return the record with a newer ArchiveTimeStamp in its last chain, same hash.

    Args:
        record: an evidence record, DER.
        path: `HashTree.path` of its `renewal_leaf`, in a tree of the chain's hash.
        token: the token over the root.

    Raises:
        ErsError: no evidence record, or a path that does not begin with its `renewal_leaf`.
    """
    old = read_record(record)
    last = old.last
    leaf = HASHERS[last.digest_name](last.token).digest()
    if path and leaf not in path[0]:
        raise ErsError("the path is not that of the last token")
    chains = [[stamp.der for stamp in chain] for chain in old.chains]
    chains[-1].append(_encode_stamp(path, token, last.digest_name))
    return _written(old, chains, old.digest_names)


def rehash_leaf(record: bytes, data_digest: bytes, digest_name: str) -> bytes:
    """Return the leaf of a hash-tree renewal: H(H(data) || H(all older chains)), in that order.

    Args:
        record: an evidence record, DER.
        data_digest: digest of the data by the new hash.
        digest_name: the new hash.

    Raises:
        ErsError: no evidence record.
    """
    return chains_leaf(read_record(record).chains, data_digest, digest_name)


def chains_leaf(
    chains: Iterable[tuple[ArchiveTimestamp, ...]], data_digest: bytes, digest_name: str
) -> bytes:
    """Return the leaf of the chain that follows these (spec: RFC4998#5.2, hash-tree renewal, 3 and 4)."""
    older = seq(*(seq(*(stamp.der for stamp in chain)) for chain in chains))
    hasher = HASHERS[digest_name]
    return bytes(hasher(data_digest + hasher(older).digest()).digest())


def new_chain(record: bytes, path: Path, token: bytes, digest_name: str) -> bytes:
    """Return the record with a new chain under a stronger hash.

    Args:
        record: an evidence record, DER.
        path: `HashTree.path_alone` of its `rehash_leaf`, in a tree of the new hash.
        token: the token over the root.
        digest_name: the new hash.

    Raises:
        ErsError: no evidence record, or a first list with more than the leaf.
    """
    if path and len(path[0]) != 1:
        raise ErsError("the first list of a new chain holds the leaf alone")
    old = read_record(record)
    chains = [[stamp.der for stamp in chain] for chain in old.chains]
    chains.append([_encode_stamp(path, token, digest_name)])
    return _written(old, chains, tuple(dict.fromkeys((*old.digest_names, digest_name))))


def is_canonical(record: ErsRecord) -> bool:
    """Say whether the record is, byte for byte, what the functions above write."""
    names: list[str] = []
    stamps: list[list[bytes]] = []
    for number, chain in enumerate(record.chains):
        stamps.append([])
        for position, stamp in enumerate(chain):
            if not _shaped(stamp.reduced, alone=number > 0 and position == 0):
                return False
            stamps[-1].append(_encode_stamp(stamp.reduced or (), stamp.token, stamp.digest_name))
            names.append(stamp.digest_name)
    listed = seq(*(_IDENTIFIERS[name] for name in dict.fromkeys(names)))
    return record.der == seq(_VERSION, listed, seq(*(seq(*chain) for chain in stamps)))


def _shaped(reduced: Path | None, *, alone: bool) -> bool:
    if reduced is None:
        return True
    first, *others = reduced
    if alone:
        return len(first) == 1 and bool(others) and all(len(entries) == 1 for entries in others)
    return len(first) == 2 and first[0] < first[1] and all(len(entries) == 1 for entries in others)


def _encode_stamp(path: Path, token: bytes, digest_name: str) -> bytes:
    size = SIZES[digest_name]
    head = _ALONE[size]
    if not all(path) or {len(entry) for entries in path for entry in entries} - {size}:
        raise ErsError(f"entries must be {digest_name} digests")
    lists = [head + entries[0] if len(entries) == 1 else seq(*map(octets, entries)) for entries in path]
    return seq(_TAGGED[digest_name], explicit(2, *lists) if lists else b"", token)


def _written(old: ErsRecord, chains: list[list[bytes]], names: Iterable[str]) -> bytes:
    """Return a record with these time stamps; what else the old one holds stays as it was."""
    members = children(parse(old.der, max_size=MAX_RECORD))
    infos = members[2].whole if len(members) == 4 else b""
    sequence = seq(*(seq(*stamps) for stamps in chains))
    written = seq(_VERSION, seq(*(_IDENTIFIERS[name] for name in names)), infos, sequence)
    read_record(written)
    return written


# --------------------------------------------------------------------------- reading


def read_record(der: bytes) -> ErsRecord:
    """Read an evidence record; no digest and no token is judged.

    Every entry of a tree must have exactly the length of its hash: lists have no domain separation.

    Args:
        der: untrusted bytes, at most 256 KiB.

    Raises:
        ErsError: not strict DER, not version 1, an unlisted digest, wrong lengths, or more than 16 chains,
            64 time stamps, 64 lists, 1,024 entries in one.
        ErsUnsupportedError: encryptionInfo, or a digest that is not known.
    """
    try:
        return _record(parse(der, max_size=MAX_RECORD, tag=SEQUENCE))
    except UnknownAlgorithmError as error:
        raise ErsUnsupportedError(str(error)) from error
    except DerError as error:
        raise ErsError(f"not an evidence record: {error}") from error


def own_record(der: bytes) -> ErsRecord | None:
    """Return what `read_record` would, if the bytes are a record as `encode_record` writes it; else None.

    The parts are cut out at known places, then written again: equality makes it as strict as the reader,
    at a third of its time. None also for rare lengths and all renewed records.
    """
    if len(der) <= _OWN_TREE or len(der) > MAX_RECORD:
        return None
    try:
        tree = read(der, _OWN_TREE, len(der))
        path: Path = ()
        start = _OWN_TREE
        if tree.tag == _TREE:
            path, start = _own_path(der, tree.body, tree.end), tree.end
        token = read(der, start, len(der))
        if token.tag != SEQUENCE or token.end != len(der) or token.length > MAX_TOKEN:
            return None
        content = der[start:]
        if encode_record(path, content) != der or not _shaped(path or None, alone=False):
            return None
        if len(path) > MAX_LISTS:
            return None
    except (DerError, ErsError):
        return None
    stamp = ArchiveTimestamp(_OWN_NAME, path or None, content, der[_OWN_STAMP:])
    return ErsRecord(der, ((stamp,),), (_OWN_NAME,))


def _own_path(der: bytes, start: int, end: int) -> Path:
    """Cut {leaf, sibling} and the siblings out: 70 octets, then 36 each."""
    pair = (der[start + 4 : start + 36], der[start + 38 : start + 70])
    return (pair, *[(der[at + 4 : at + 36],) for at in range(start + 70, end, 36)])


def _record(node: Node) -> ErsRecord:
    cursor = Cursor(node, limit=5)
    if to_int(cursor.take(INTEGER)) != 1:
        raise DerError("version")
    listed = children(cursor.take(SEQUENCE), limit=MAX_CHAINS)
    names = tuple(_digest_name(expect(identifier, SEQUENCE)) for identifier in listed)
    notes = []
    if (infos := cursor.optional(_CRYPTO_INFOS)) is not None:
        _well_formed(infos)
        notes.append("cryptoInfos are not looked at")
    if cursor.optional(_ENCRYPTION) is not None:
        raise ErsUnsupportedError("records over encrypted data are not judged")
    sequence = children(cursor.take(SEQUENCE), limit=MAX_CHAINS)
    cursor.finish()
    chains = tuple(_chain(chain, notes) for chain in sequence)
    if not chains or sum(map(len, chains)) > MAX_STAMPS:
        raise DerError("no time stamp, or too many")
    if not {stamp.digest_name for chain in chains for stamp in chain} <= set(names):
        raise DerError("a digest algorithm is not listed")  # spec: RFC4998#3.1 it is the union of all
    return ErsRecord(node.data, chains, names, tuple(dict.fromkeys(notes)))


def _chain(node: Node, notes: list[str]) -> tuple[ArchiveTimestamp, ...]:
    stamps = tuple(_stamp(stamp, notes) for stamp in children(node, limit=MAX_STAMPS, tag=SEQUENCE))
    if len({stamp.digest_name for stamp in stamps}) != 1:
        raise DerError("a chain has no time stamp, or several hashes")  # spec: RFC4998#5.1
    return stamps


def _stamp(node: Node, notes: list[str]) -> ArchiveTimestamp:
    cursor = Cursor(node, limit=4)
    algorithm, attributes = cursor.optional(_DIGEST_ALGORITHM), cursor.optional(_ATTRIBUTES)
    tree, token = cursor.optional(_TREE), cursor.take(SEQUENCE)
    cursor.finish()
    if token.length > MAX_TOKEN:
        raise DerError("a token is too long")
    if attributes is not None:
        _well_formed(attributes)
        notes.append("attributes of time stamps are not looked at")
    der = token.whole
    # spec: RFC4998#4.1 without the field it is the token's
    name = read_token(der).info.hash_name if algorithm is None else _digest_name(algorithm)
    return ArchiveTimestamp(name, None if tree is None else _tree(tree, SIZES[name]), der, node.whole)


def _tree(node: Node, size: int) -> Path:
    lists = tuple(_entries(entries, size) for entries in children(node, limit=MAX_LISTS))
    if not lists:
        raise DerError("an empty reduced tree")
    return lists


def _entries(node: Node, size: int) -> tuple[bytes, ...]:
    data, tag, _, body, end = node
    if tag == SEQUENCE and end - body == size + 2 and data[body] == OCTET_STRING and data[body + 1] == size:
        return (data[body + 2 : end],)  # most lists: one sibling
    found = children(node, limit=MAX_ENTRIES, tag=SEQUENCE)
    if not found or any(entry.tag != OCTET_STRING or entry.length != size for entry in found):
        raise DerError("a list holds something else than digests of its hash")
    return tuple(entry.content for entry in found)


def _digest_name(node: Node) -> str:
    """Return the name of an AlgorithmIdentifier, whatever its tag (the one in a time stamp is implicit)."""
    name = _NAMES.get(node.content) if node.length < 32 else None
    return digest_algorithm(parse(seq(node.content), max_size=1024)) if name is None else name


def _well_formed(node: Node) -> None:
    """Refuse attributes that are no strict DER, too deep or too many; what they say is not looked at."""
    for attribute in children(node, limit=64):
        cursor = Cursor(attribute, limit=2)
        cursor.take(OID)
        cursor.take(SET)
        cursor.finish()
    for _ in walk(node, max_depth=_MAX_DEPTH, max_nodes=_MAX_NODES):
        pass
