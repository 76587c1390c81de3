"""Read an object of the archive (`evidence.bundle.archive_object`) and judge it offline.

`read_object` believes nothing: form, list of files, both digests of each, the run of the ledger. Whether the
provider sealed it, and when, is `judge_object`'s question:

1. container: as `write` makes it, byte for byte
2. head and files: nothing dropped, swapped, added; evidence is what its ledger entry says
3. seal: value, stamp, chain, algorithms (as in `evidence.verify.bundle`)
4. role: a transaction certificate of the provider the head names
"""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256, sha512
from typing import Any, Final

from evidence.asn1.der import DerError
from evidence.bundle.archive_object import (
    CHECKPOINT,
    CONTENT_MAX,
    DIGITS,
    EVIDENCE_FOLDER,
    FORMAT,
    HEAD,
    LEDGER_FOLDER,
    MARK,
    MATERIAL_FOLDER,
    PROCESS_FOLDER,
    SEAL,
    ArchivedCheckpoint,
    ArchivedEvidence,
    ArchiveObjectError,
    ObjectKind,
    from_micros,
    object_name,
)
from evidence.bundle.zip_store import Archive, ArchiveError, read_archive
from evidence.cms.signed_data import parse_signed_data
from evidence.ledger.chain import LedgerEntry, check_run
from evidence.ports import BytesSource
from evidence.report import Report, Step, SubIndication, Verdict, conclude
from evidence.seal.seal import check_seal, uncovered_problem
from evidence.stamps.stamp_check import failed
from evidence.x509.chain import TrustStore
from evidence.x509.role import DEFAULT_SEAL_POLICY, SealPolicy, transaction_problem

HEAD_MAX: Final = 64 << 20
SEAL_MAX: Final = 1 << 20
_FREE: Final = 1 << 20  # what the container's own frames may add
_ROW_TYPES: Final = (str, int, type(None))


@dataclass(frozen=True, slots=True)
class ArchiveObject:
    """An object as read: files are those listed, with their digests; the seal is not judged yet."""

    kind: ObjectKind
    provider: str
    first: int
    last: int
    sealed_at: datetime
    head: bytes
    seal: bytes
    body: Mapping[str, Any]
    files: Mapping[str, bytes]
    evidences: tuple[ArchivedEvidence, ...]
    checkpoints: tuple[ArchivedCheckpoint, ...]
    authorities: tuple[tuple[str, ...], ...] = ()  # paths of those who stamped, as names in ``files``

    @property
    def records(self) -> tuple[tuple[int, bytes], ...]:
        """Return number and bytes of the process records inside."""
        ending = len(".json")
        return tuple(
            (int(name[len(PROCESS_FOLDER) : -ending]), content)
            for name, content in self.files.items()
            if name.startswith(PROCESS_FOLDER)
        )

    @property
    def first_at(self) -> datetime | None:
        """Return the time of the first ledger entry; None in objects without."""
        return self.evidences[0].entry.at if self.evidences else None


def read_object(data: bytes, *, name: str | None = None) -> ArchiveObject:
    """Read an object.

    Args:
        data: untrusted octets of the container.
        name: the name it was stored under; evidence must belong under it.

    Raises:
        ArchiveObjectError: not exactly what our writer makes of some contents.
    """
    try:
        return _read(data, name)
    except ArchiveError as error:
        raise ArchiveObjectError(f"not an object: {error}") from error
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ArchiveObjectError(f"the head is not readable: {type(error).__name__}") from error


def judge_object(
    one: ArchiveObject, trust: TrustStore | None, at: datetime, policy: SealPolicy = DEFAULT_SEAL_POLICY
) -> Report:
    """Judge the seal of an object that was read (steps 1 and 2 held by then).

    Args:
        one: the object.
        trust: configured roots; None or empty: at best INDETERMINATE.
        at: the verification time, UTC.
        policy: which certificates seal.
    """
    subject = f"{one.kind.value} {one.first}-{one.last}"
    steps = [Step("1", "container", ok=True), Step("2", "files", ok=True, detail=str(len(one.files)))]
    try:
        signed = parse_signed_data(one.seal)
    except DerError as error:
        steps.append(failed("3", "seal", str(error), SubIndication.SIGNED_DATA_NOT_FOUND))
        return conclude(subject, steps, at)
    seal = check_seal(
        signed, lambda digest: hashlib.new(digest, one.head).digest(),
        TrustStore(()) if trust is None else trust, at, policy, prefix="3.",
    )  # fmt: skip
    steps += seal.steps
    if seal.intact and seal.stamps.best is None:
        detail = "the seal has no stamp"
        steps.append(failed("3.6", "proof of time", detail, SubIndication.NO_POE, Verdict.INDETERMINATE))
    if seal.chain is not None and (problem := uncovered_problem(seal)) is not None:
        steps.append(failed("3.7", "byte identity", problem))
    if seal.certificate is not None:
        problem = transaction_problem(seal.certificate, {one.provider}, policy)
        ok = problem is None
        steps.append(
            Step("4", "role", ok=True, detail=one.provider)
            if ok
            else failed("4", "role", problem or "", SubIndication.CHAIN_CONSTRAINTS_FAILURE)
        )
    return conclude(subject, steps, at, parts=tuple(seal.stamps.reports))


def _read(data: bytes, name: str | None) -> ArchiveObject:
    if len(data) > CONTENT_MAX + HEAD_MAX + SEAL_MAX + _FREE:
        raise ArchiveObjectError("too large")
    archive = read_archive(BytesSource(data))
    if not archive.exact or archive.comment != MARK:
        raise ArchiveObjectError("not byte for byte as an object is written")
    head, seal, files = _members(data, archive)
    body = json.loads(head)
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise ArchiveObjectError("unknown format")
    _check_files(body["files"], files)
    kind, first, last = ObjectKind(body["kind"]), _whole(body["first"]), _whole(body["last"])
    evidences: tuple[ArchivedEvidence, ...] = ()
    checkpoints: tuple[ArchivedCheckpoint, ...] = ()
    authorities: tuple[tuple[str, ...], ...] = ()
    if kind is ObjectKind.EVIDENCE:
        evidences = tuple(_evidence(one, files) for one in body["evidence"])
        checkpoints = tuple(_checkpoint(one) for one in body["checkpoints"])
        authorities = tuple(_path(names, files) for names in body["authorities"])
        _check_evidence(evidences, first, last, files)
    one = ArchiveObject(
        kind, str(body["provider"]), first, last, from_micros(_whole(body["sealed_at"])),
        head, seal, body, files, evidences, checkpoints, authorities,
    )  # fmt: skip
    if kind is ObjectKind.PROCESS and [number for number, _ in one.records] != list(range(first, last + 1)):
        raise ArchiveObjectError("records with a gap")
    if name is not None and not _named(one, name):
        raise ArchiveObjectError("another object than its name says")
    return one


def _members(data: bytes, archive: Archive) -> tuple[bytes, bytes, dict[str, bytes]]:
    """Return head, seal and files, checksums compared; slices, as all members are stored."""
    files: dict[str, bytes] = {}
    for member in archive.members:
        content = data[member.start : member.start + member.size]
        if zlib.crc32(content) != member.crc:
            raise ArchiveObjectError(f"{member.name}: damaged")
        files[member.name] = content
    names = list(files)
    if names[:2] != [HEAD, SEAL] or names[2:] != sorted(names[2:]):
        raise ArchiveObjectError("not in the order of an object")
    head, seal = files.pop(HEAD), files.pop(SEAL)
    if len(head) > HEAD_MAX or len(seal) > SEAL_MAX:
        raise ArchiveObjectError("too large")
    return head, seal, files


def _check_files(listed: Any, files: Mapping[str, bytes]) -> None:
    if [one["name"] for one in listed] != list(files):
        raise ArchiveObjectError("other files than the head lists")
    for one in listed:
        content = files[one["name"]]
        digests = sha256(content).hexdigest(), sha512(content).hexdigest()
        if (one["size"], one["sha256"], one["sha512"]) != (len(content), *digests):
            raise ArchiveObjectError(f"{one['name']} is not the one that was sealed")


def _evidence(plain: Mapping[str, Any], files: Mapping[str, bytes]) -> ArchivedEvidence:
    number, row, material = _whole(plain["number"]), plain["row"], plain["material"]
    statement = row is None
    row = {} if statement else row
    if not isinstance(row, dict) or not all(isinstance(value, _ROW_TYPES) for value in row.values()):
        raise ArchiveObjectError("a row of odd types")
    if any(name not in files or not name.startswith(MATERIAL_FOLDER) for name in material):
        raise ArchiveObjectError("material that is not inside")
    entry = LedgerEntry(
        number, bytes.fromhex(plain["previous"]), _text(plain["evidence_id"]), bytes.fromhex(plain["sha256"]),
        from_micros(_whole(plain["at"])), bytes.fromhex(plain["hash"]), bytes.fromhex(plain["salt"]),
    )  # fmt: skip
    stem = f"{number:0{DIGITS}d}"
    ending = "txt" if statement else "xml"
    return ArchivedEvidence(
        entry, files[f"{EVIDENCE_FOLDER}{stem}.{ending}"], files.get(f"{EVIDENCE_FOLDER}{stem}.ers"), row,
        files.get(f"{LEDGER_FOLDER}{stem}.proof"), tuple(material), statement,
    )  # fmt: skip


def _path(names: Any, files: Mapping[str, bytes]) -> tuple[str, ...]:
    if not names or any(name not in files or not name.endswith(".cer") for name in names):
        raise ArchiveObjectError("the path of an authority that is not inside")
    return tuple(names)


def _checkpoint(plain: Mapping[str, Any]) -> ArchivedCheckpoint:
    root, at = bytes.fromhex(plain["root"]), from_micros(_whole(plain["at"]))
    return ArchivedCheckpoint(_whole(plain["size"]), root, _text(plain["note"]), at)


def _check_evidence(
    evidences: Sequence[ArchivedEvidence], first: int, last: int, files: Mapping[str, bytes]
) -> None:
    """Check that the entries run through, belong to the evidence, and no file is left over."""
    entries = [one.entry for one in evidences]
    if [entry.number for entry in entries] != list(range(first, last + 1)):
        raise ArchiveObjectError("entries with a gap")
    before = LedgerEntry(first - 1, b"", "", b"", entries[0].at, entries[0].previous, b"")
    broken = check_run(entries, after=before)
    if broken is not None:
        raise ArchiveObjectError(f"ledger entry {broken.number}: {broken.cause}")
    known = {CHECKPOINT}
    for one in evidences:
        stem = f"{one.entry.number:0{DIGITS}d}"
        known |= {one.file, f"{EVIDENCE_FOLDER}{stem}.ers", f"{LEDGER_FOLDER}{stem}.proof"}
        if sha256(one.xml).digest() != one.entry.evidence_sha256:
            raise ArchiveObjectError(f"evidence {one.entry.number} is not what its ledger entry says")
        if len(one.entry.salt) != 32:
            raise ArchiveObjectError(f"ledger entry {one.entry.number}: no salt")
    stray = next((name for name in files if name not in known and not name.startswith(MATERIAL_FOLDER)), None)
    if stray is not None:
        raise ArchiveObjectError(f"{stray} belongs to nothing inside")


def _named(one: ArchiveObject, name: str) -> bool:
    if one.first_at is not None:
        return object_name(one.kind, one.first, one.last, one.first_at) == name
    return name.startswith(f"{one.kind.value}/")


def _whole(value: Any) -> int:
    if type(value) is not int:  # True is an int, too
        raise TypeError("no whole number")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError("no text")
    return value
