"""One object of the archive (``.kepa``), before it is encrypted: a plain ZIP, deterministic.

===============================  ==============================================================
member                           content
===============================  ==============================================================
``arsiv.json``                   what is inside: `make_head`; every other file with size, SHA-256, SHA-512
``arsiv.p7s``                    the provider's signature, with time stamp, over ``arsiv.json``
``delil/<number>.xml``           every evidence, by its number in the ledger (12 digits)
``delil/<number>.txt``           instead, where the entry is a statement: an anchor of the process record
``delil/<number>.ers``           its evidence record (RFC 4998), where its stamp is a batch's
``kayit/<number>.proof``         that it stands in the ledger (`evidence.ledger.proof`)
``kayit/checkpoint``             the signed statement about the ledger that the proofs lead to
``dogrulama/<sha256>.cer``       certificates of all paths; ``.ocsp``, ``.crl``: what issuers said of them
``dogrulama/<sha256>.json``      verdict on a sender's signature at reception, naming what it rested on
``surec/<number>.json``          entries of the process record, in objects of that kind
===============================  ==============================================================

Objects are named ``delil/YYYY/MM/DD/<first>-<last>.kepa`` (``surec/`` likewise), the day being that of the
first entry: the name follows from the entries alone. `evidence.bundle.archive_read` reads and judges them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256, sha512
from types import MappingProxyType
from typing import Any, Final

from evidence.bundle.zip_store import MEMBERS_MAX, TOTAL_MAX, ArchiveError, join_archive
from evidence.ledger.chain import LedgerEntry

FORMAT: Final = "kephs-archive-1"
MARK: Final = FORMAT.encode()  # the container's comment
SUFFIX: Final = ".kepa"
HEAD: Final = "arsiv.json"
SEAL: Final = "arsiv.p7s"
EVIDENCE_FOLDER: Final = "delil/"
LEDGER_FOLDER: Final = "kayit/"
MATERIAL_FOLDER: Final = "dogrulama/"
PROCESS_FOLDER: Final = "surec/"
CHECKPOINT: Final = "kayit/checkpoint"
DIGITS: Final = 12
FILES_MAX: Final = MEMBERS_MAX - 2
CONTENT_MAX: Final = 256 << 20
"""Octets of all files of one object together: it is held in memory."""
assert CONTENT_MAX < TOTAL_MAX
_json: Final = json.JSONEncoder(
    ensure_ascii=False, sort_keys=True, separators=(",", ":"), check_circular=False
).encode
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class ObjectKind(StrEnum):
    """What an object holds; the value is the folder of its name."""

    EVIDENCE = "delil"
    PROCESS = "surec"
    RENEWAL = "yenileme"  # made by `kephs.usecases.archive.preserve`


class ArchiveObjectError(Exception):
    """These parts make no object, or these octets are none."""


@dataclass(frozen=True, slots=True)
class ArchivedEvidence:
    """One evidence with everything that its row, its ledger entry and its proof of time need.

    ``row``: plain JSON values of the index that stand neither in the entry nor in the evidence's own bytes.
    ``material``: names of files in ``dogrulama/`` that it rests on.
    """

    entry: LedgerEntry
    xml: bytes
    ers: bytes | None
    row: Mapping[str, str | int | None]
    proof: bytes | None = None
    material: tuple[str, ...] = ()
    statement: bool = False  # ``xml`` is no evidence but the text of an anchor; there is no row

    @property
    def file(self) -> str:
        """Return the name of the file that the entry is about."""
        return f"{EVIDENCE_FOLDER}{self.entry.number:0{DIGITS}d}.{'txt' if self.statement else 'xml'}"


@dataclass(frozen=True, slots=True)
class ArchivedCheckpoint:
    """A checkpoint of the ledger as it was stored."""

    size: int
    root: bytes
    note: str
    at: datetime


@dataclass(frozen=True, slots=True)
class EvidenceContents:
    """What goes into an object of evidence: consecutive entries of one ledger.

    ``checkpoints``: all that were signed about sizes inside the range, and the one the proofs lead to.
    ``missing``: SHA-256 of certificates about which no issuer answered. ``authorities``: the paths of those
    who stamped, as names in ``material``, authority first, root last.
    """

    provider: str
    evidences: Sequence[ArchivedEvidence]
    material: Mapping[str, bytes] = field(default_factory=dict)  # by file name
    checkpoints: Sequence[ArchivedCheckpoint] = ()
    missing: Sequence[bytes] = ()
    authorities: Sequence[tuple[str, ...]] = ()


@dataclass(frozen=True, slots=True)
class ArchivePlan:
    """An object waiting for the signature over its head; sign `digest`."""

    head: bytes
    files: Mapping[str, bytes]

    @property
    def digest(self) -> bytes:
        """Return SHA-256 of the head."""
        return sha256(self.head).digest()

    def write(self, signature: bytes) -> bytes:
        """Return the container.

        Args:
            signature: CMS, DER, over the head.

        Raises:
            ArchiveObjectError: too many parts or too large.
        """
        try:
            return join_archive([(HEAD, self.head), (SEAL, signature), *self.files.items()], comment=MARK)
        except ArchiveError as error:
            raise ArchiveObjectError(str(error)) from error


def object_name(kind: ObjectKind, first: int, last: int, at: datetime) -> str:
    """Return the name of an object.

    Args:
        kind: evidence or process records.
        first: number of its first entry.
        last: of its last.
        at: time of the first entry.
    """
    return f"{name_prefix(kind, first, at)}{last:0{DIGITS}d}{SUFFIX}"


def name_prefix(kind: ObjectKind, first: int, at: datetime) -> str:
    """Return how the name of every object begins that begins with this entry."""
    return f"{kind.value}/{at.astimezone(UTC):%Y/%m/%d}/{first:0{DIGITS}d}-"


def material_name(content: bytes, ending: str) -> str:
    """Return the name of a file of validation material: ``ending`` is cer, ocsp, crl or json."""
    return f"{MATERIAL_FOLDER}{sha256(content).hexdigest()}.{ending}"


def plan_evidence(contents: EvidenceContents, *, sealed_at: datetime) -> ArchivePlan:
    """Lay out an object of evidence.

    Args:
        contents: at least one evidence, numbers consecutive.
        sealed_at: when, UTC.

    Raises:
        ArchiveObjectError: numbers with a gap, other bytes than the ledger's digest, or too much.
    """
    entries = [one.entry for one in contents.evidences]
    _check_numbers([entry.number for entry in entries])
    files: dict[str, bytes] = {}
    digests: dict[str, str] = {}
    listed: list[str] = []
    for one in contents.evidences:
        stem, name, digest = f"{one.entry.number:0{DIGITS}d}", one.file, sha256(one.xml)
        if digest.digest() != one.entry.evidence_sha256:
            raise ArchiveObjectError(f"evidence {one.entry.evidence_id} is not what the ledger says")
        files[name], digests[name] = one.xml, digest.hexdigest()
        if one.ers is not None:
            files[f"{EVIDENCE_FOLDER}{stem}.ers"] = one.ers
        if one.proof is not None:
            files[f"{LEDGER_FOLDER}{stem}.proof"] = one.proof
        listed.append(_json(_evidence_json(one)))
    if contents.checkpoints:
        files[CHECKPOINT] = max(contents.checkpoints, key=lambda one: one.size).note.encode()
    files |= contents.material
    body = {
        "checkpoints": [
            {"size": one.size, "root": one.root.hex(), "note": one.note, "at": micros(one.at)}
            for one in sorted(contents.checkpoints, key=lambda one: one.size)
        ],
        "missing": sorted(digest.hex() for digest in contents.missing),
        "authorities": sorted(list(names) for names in contents.authorities),
    }
    span = (entries[0].number, entries[-1].number)
    members = {"evidence": _array(listed), **{name: _json(value) for name, value in body.items()}}
    return _plan(ObjectKind.EVIDENCE, contents.provider, span, members, files, sealed_at, digests)


def plan_process(provider: str, records: Sequence[tuple[int, bytes]], *, sealed_at: datetime) -> ArchivePlan:
    """Lay out an object of process records.

    Args:
        provider: whose.
        records: number and canonical JSON of each, consecutive.
        sealed_at: when, UTC.

    Raises:
        ArchiveObjectError: numbers with a gap, or too much.
    """
    numbers = [number for number, _ in records]
    _check_numbers(numbers)
    files = {f"{PROCESS_FOLDER}{number:0{DIGITS}d}.json": content for number, content in records}
    return plan_object(
        ObjectKind.PROCESS, provider, (numbers[0], numbers[-1]), {}, files, sealed_at=sealed_at
    )


def plan_object(
    kind: ObjectKind, provider: str, span: tuple[int, int], body: Mapping[str, Any],
    files: Mapping[str, bytes], *, sealed_at: datetime,
) -> ArchivePlan:  # fmt: skip
    """Lay out an object of any kind.

    Args:
        kind: what it holds.
        provider: whose.
        span: first and last number.
        body: further members of the head, plain JSON.
        files: by name.
        sealed_at: when, UTC.

    Raises:
        ArchiveObjectError: too many parts or too large.
    """
    members = {name: _json(value) for name, value in body.items()}
    return _plan(kind, provider, span, members, files, sealed_at)


def _plan(
    kind: ObjectKind, provider: str, span: tuple[int, int], members: Mapping[str, str],
    files: Mapping[str, bytes], sealed_at: datetime, digests: Mapping[str, str] = _NOTHING,
) -> ArchivePlan:  # fmt: skip
    if len(files) > FILES_MAX or sum(map(len, files.values())) > CONTENT_MAX:
        raise ArchiveObjectError("too much for one object")
    ordered = {name: files[name] for name in sorted(files)}
    return ArchivePlan(make_head(kind, provider, span, members, ordered, sealed_at, digests), ordered)


def make_head(
    kind: ObjectKind, provider: str, span: tuple[int, int], members: Mapping[str, str],
    files: Mapping[str, bytes], sealed_at: datetime, digests: Mapping[str, str] = _NOTHING,
) -> bytes:  # fmt: skip
    """Return ``arsiv.json``: canonical JSON (keys in order, no spaces), times in microseconds since 1970.

    It is joined of short pieces: writing a large one in a single call would stop all other threads meanwhile.

    Args:
        kind: what the object holds.
        provider: whose.
        span: first and last number.
        members: further members, as canonical JSON.
        files: by name, in the order of the names.
        sealed_at: when, UTC.
        digests: SHA-256 of files whose content was hashed just now, hexadecimal, by name.
    """
    own = {
        "format": FORMAT,
        "kind": kind.value,
        "provider": provider,
        "first": span[0],
        "last": span[1],
        "sealed_at": micros(sealed_at),
    }
    head = {
        **members,
        **{name: _json(value) for name, value in own.items()},
        "files": _array([_file_json(name, content, digests) for name, content in files.items()]),
    }
    return "".join(("{", ",".join([f"{_json(name)}:{head[name]}" for name in sorted(head)]), "}")).encode()


def _file_json(name: str, content: bytes, digests: Mapping[str, str]) -> str:
    short, long = digests.get(name) or sha256(content).hexdigest(), sha512(content).hexdigest()
    return f'{{"name":{_json(name)},"sha256":"{short}","sha512":"{long}","size":{len(content)}}}'


def _array(texts: Sequence[str]) -> str:
    return "".join(("[", ",".join(texts), "]"))


def micros(at: datetime) -> int:
    """Return microseconds since 1970, UTC; a naive time raises `TypeError`."""
    return (at - _EPOCH) // _MICROSECOND


def from_micros(value: int) -> datetime:
    """Return the time; `OverflowError` where there is none."""
    return _EPOCH + timedelta(microseconds=value)


def _check_numbers(numbers: Sequence[int]) -> None:
    if not numbers or any(number != numbers[0] + at for at, number in enumerate(numbers)):
        raise ArchiveObjectError("an object holds consecutive entries, at least one")
    if not 0 < numbers[0] <= numbers[-1] < 10**DIGITS:
        raise ArchiveObjectError("a number that no name holds")


def _evidence_json(one: ArchivedEvidence) -> dict[str, Any]:
    entry = one.entry
    return {
        "number": entry.number,
        "evidence_id": entry.evidence_id,
        "sha256": entry.evidence_sha256.hex(),
        "at": micros(entry.at),
        "previous": entry.previous.hex(),
        "hash": entry.hash.hex(),
        "salt": entry.salt.hex(),
        "row": None if one.statement else dict(one.row),
        "material": sorted(one.material),
    }
