"""The objects of a round of renewal: plain ZIPs, deterministic, before they are encrypted.

``yenileme/<round>/<hash>-<first>-<last>.kepa``, one for each span of the ledger, written first::

    aralik.json      format, hash, first, last, number of leaves
    yapraklar        the leaves, one after the other

``yenileme/<round>.kepa``, the head, written last; the round is there when it is::

    yenileme.json    the manifest, `make_manifest`; its digest is the first leaf of the round's tree
    token.tst        the token over the root (RFC 3161)
    nesneler.txt     name, SHA-256, SHA-512 of every evidence object that this round covers first
    dogrulama/<sha256>.cer|ocsp|crl    what was known of the authorities of older tokens just before

So the token proves when the revocation data was there, what the objects of the archive held, and that the
heads of all earlier rounds were what they are: each is named with both digests.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256, sha512
from io import BytesIO
from typing import Any, Final

from evidence.bundle.archive_object import from_micros, material_name, micros
from evidence.bundle.zip_store import ArchiveError, read_archive, write_archive
from evidence.ports import BytesSource
from evidence.stamps.ers_tree import HASHERS, SIZES
from evidence.stamps.renewal import MAX_SPANS, SPAN, RenewalError, Round, Span, SpanTree
from kephs.ports.objects import ObjectRef
from kephs.ports.preservation import RenewalReason

FORMAT: Final = "kephs-renewal-1"
FOLDER: Final = "yenileme/"
SUFFIX: Final = ".kepa"
MANIFEST: Final = "yenileme.json"
TOKEN: Final = "token.tst"  # noqa: S105 - a time-stamp token, no secret
OBJECTS: Final = "nesneler.txt"
MATERIAL: Final = "dogrulama/"
SPAN_HEAD: Final = "aralik.json"
LEAVES: Final = "yapraklar"
HEAD_MAX: Final = 512 << 20
"""Octets of a head; one file in it may have half: a million evidence objects, or spans, in one round."""
_MARK: Final = FORMAT.encode()


class RenewalObjectError(Exception):
    """The octets are no object of a round, or one whose parts contradict each other."""


@dataclass(frozen=True, slots=True)
class RoundHead:
    """A round as its head object has it."""

    round: Round
    reason: RenewalReason
    covered: int  # number of the last ledger entry that some round up to this one covers
    leaves: int
    begun_at: datetime
    manifest: bytes
    material: Mapping[str, bytes]  # by file name, ``dogrulama/...``
    missing: tuple[str, ...]  # SHA-256 of certificates about which nobody answered
    objects: bytes
    span_names: tuple[str, ...]


def head_name(number: int) -> str:
    """Return the name of a round's head object."""
    return f"{FOLDER}{number:06d}{SUFFIX}"


def span_name(number: int, hash_name: str, first: int, last: int) -> str:
    """Return the name of a span's object; its content follows from what the name says."""
    return f"{FOLDER}{number:06d}/{hash_name}-{first:012d}-{last:012d}{SUFFIX}"


# --------------------------------------------------------------------------- spans


def write_span(first: int, last: int, tree: SpanTree) -> bytes:
    """Return the object of a span; the same leaves give the same octets."""
    head = {
        "format": FORMAT, "kind": "span", "hash": tree.hash_name, "first": first, "last": last,
        "leaves": len(tree.leaves),
    }  # fmt: skip
    return _zip({SPAN_HEAD: _json(head), LEAVES: b"".join(tree.leaves)})


def read_span(data: bytes) -> tuple[int, int, SpanTree]:
    """Return first, last and leaves of a span.

    Raises:
        RenewalObjectError: none.
    """
    try:
        files = _unzip(data)
        head, leaves = json.loads(files[SPAN_HEAD]), files[LEAVES]
        size = SIZES[head["hash"]]
        first, last = _number(head["first"]), _number(head["last"])
        fits = head["format"] == FORMAT and len(leaves) == size * _number(head["leaves"])
        if not fits or not 0 < first <= last < first + SPAN or len(leaves) > size * SPAN:
            raise RenewalObjectError("a span that says otherwise than it holds")
        tree = SpanTree([leaves[at : at + size] for at in range(0, len(leaves), size)], head["hash"])
    except (ArchiveError, RenewalError, KeyError, TypeError, ValueError) as error:
        raise RenewalObjectError(f"not a span: {error}") from error
    if write_span(first, last, tree) != data:
        raise RenewalObjectError("not as it was written")
    return first, last, tree


# --------------------------------------------------------------------------- heads


@dataclass(frozen=True, slots=True)
class Draft:
    """A round before its token: everything that the manifest says.

    ``earlier``: head objects of all earlier rounds, plain, as they are read back. ``carried``: the token of
    the round before, where it is of the same hash.
    """

    number: int
    reason: RenewalReason
    hash_name: str
    provider: str
    begun_at: datetime
    covered: int
    leaves: int
    spans: tuple[Span, ...]
    objects: Sequence[ObjectRef]
    material: Sequence[tuple[str, bytes]]  # ending (cer, ocsp, crl) and content
    missing: Sequence[bytes]
    earlier: Sequence[bytes]
    carried: bytes | None

    def manifest(self) -> bytes:
        """Return the manifest: canonical JSON."""
        return _json(
            {
                "format": FORMAT, "kind": "round", "round": self.number, "reason": self.reason.value,
                "hash": self.hash_name, "provider": self.provider, "begun_at": micros(self.begun_at),
                "covered": self.covered, "leaves": self.leaves, "carried": self.carried is not None,
                "spans": [
                    {"first": one.first, "last": one.last, "root": one.root.hex()} for one in self.spans
                ],
                "files": [_listed(name, content) for name, content in sorted(self.files().items())],
                "missing": sorted(digest.hex() for digest in self.missing),
                "earlier": [
                    _listed(head_name(number), head) for number, head in enumerate(self.earlier, 1)
                ],
            }
        )  # fmt: skip

    def files(self) -> dict[str, bytes]:
        """Return the files beside manifest and token."""
        lines = (f"{ref.name} {ref.sha256.hex()} {ref.sha512.hex()}\n" for ref in self.objects)
        named = {material_name(content, ending): content for ending, content in self.material}
        return {OBJECTS: "".join(lines).encode(), **named}

    def round(self, manifest: bytes, token: bytes = b"") -> Round:
        """Return the round, with the token that it got or without."""
        digest = bytes(HASHERS[self.hash_name](manifest).digest())
        return Round(self.number, self.hash_name, digest, self.carried, self.spans, token)

    def write(self, manifest: bytes, token: bytes) -> bytes:
        """Return the head object."""
        return _zip({MANIFEST: manifest, TOKEN: token, **self.files()})


def read_head(data: bytes, before: Round | None) -> RoundHead:
    """Read the head of a round; its token must stamp its root, whose token it is to be judged elsewhere.

    Args:
        data: the object, plain.
        before: the round before it; None for the first.

    Raises:
        RenewalObjectError: none, or its parts contradict each other.
    """
    try:
        files = _unzip(data)
        manifest, token = files.pop(MANIFEST), files.pop(TOKEN)
        head = _checked(json.loads(manifest), files, before)
        spans = tuple(
            Span(_number(one["first"]), _number(one["last"]), bytes.fromhex(one["root"]))
            for one in head["spans"]
        )
        _check_spans(spans, head["hash"])
        digest = bytes(HASHERS[head["hash"]](manifest).digest())
        carried = before.token if before is not None and head["carried"] else None
        made = Round(_number(head["round"]), head["hash"], digest, carried, spans, token)
        if (problem := made.problem()) is not None:
            raise RenewalObjectError(problem)
        return RoundHead(
            made, RenewalReason(head["reason"]), _number(head["covered"]), _number(head["leaves"]),
            from_micros(_number(head["begun_at"])), manifest,
            {name: content for name, content in files.items() if name.startswith(MATERIAL)},
            tuple(head["missing"]), files[OBJECTS],
            tuple(span_name(made.number, made.hash_name, span.first, span.last) for span in spans),
        )  # fmt: skip
    except (ArchiveError, RenewalError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise RenewalObjectError(f"not a round: {error}") from error


def _checked(head: Any, files: Mapping[str, bytes], before: Round | None) -> dict[str, Any]:
    if not isinstance(head, dict) or head["format"] != FORMAT or head["kind"] != "round":
        raise RenewalObjectError("another format")
    number = _number(head["round"])
    if number != (1 if before is None else before.number + 1) or len(head["earlier"]) != number - 1:
        raise RenewalObjectError("a round out of its order")
    if head["carried"] and (before is None or before.hash_name != head["hash"]):
        raise RenewalObjectError("it carries a round of another hash")
    if head["files"] != [_listed(name, content) for name, content in sorted(files.items())]:
        raise RenewalObjectError("its files are not those of its manifest")
    return head


def _check_spans(spans: Sequence[Span], hash_name: str) -> None:
    if len(spans) > MAX_SPANS or any(len(one.root) != SIZES[hash_name] for one in spans):
        raise RenewalObjectError("spans that cannot be")
    after = 0
    for one in spans:
        if not after < one.first <= one.last < one.first + SPAN:
            raise RenewalObjectError("spans that overlap")
        after = one.last


def names_earlier(manifest: bytes, heads: Sequence[bytes]) -> bool:
    """Say whether a manifest names exactly these heads of earlier rounds, by both digests."""
    try:
        listed = json.loads(manifest)["earlier"]
    except (ValueError, KeyError, TypeError):
        return False
    return bool(listed == [_listed(head_name(number), head) for number, head in enumerate(heads, 1)])


def _listed(name: str, content: bytes) -> dict[str, object]:
    return {
        "name": name, "size": len(content),
        "sha256": sha256(content).hexdigest(), "sha512": sha512(content).hexdigest(),
    }  # fmt: skip


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _number(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("not a number")
    return value


def _zip(files: Mapping[str, bytes]) -> bytes:
    out = BytesIO()
    write_archive(out, [(name, BytesSource(content)) for name, content in files.items()], comment=_MARK)
    return out.getvalue()


def _unzip(data: bytes) -> dict[str, bytes]:
    if len(data) > HEAD_MAX:
        raise RenewalObjectError("too large")
    archive = read_archive(BytesSource(data))
    if not archive.exact or archive.comment != _MARK:
        raise RenewalObjectError("not as it was written")
    return {member.name: archive.source.read(member.start, member.stored_size) for member in archive.members}
