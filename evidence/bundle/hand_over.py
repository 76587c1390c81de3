"""The hand-over of a whole provider (KEP-TM-03): a folder of files under one signed manifest.

=====================  =========================================================================
file                   content
=====================  =========================================================================
``devir.json``         who hands over what; the lists with both digests: `make_manifest`
``devir.p7s``          the provider's signature, with time stamp, over ``devir.json``
``liste/000001.txt``   every other file: SHA-256, SHA-512, size and name, one a line, by name
``acik/``              what anybody may see: published ledger, certificates, register, this page
everything else        sealed under the hand-over's key, each file by itself, under its own name
=====================  =========================================================================

The manifest binds the lists and the lists bind every file, sealed or not: signature and digests are checked
without the key. What lies in the folders stands in `kephs.usecases.ending.hand_over`; this module knows
the frame alone. Judging takes these steps:

1. form: the manifest is byte for byte what `make_manifest` writes
2. seal: value, chain, algorithms, stamp (as in `evidence.verify.bundle`)
3. role: a transaction certificate of the provider the manifest names
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256, sha512
from typing import Any, Final

from evidence.asn1.der import DerError
from evidence.bundle.archive_object import from_micros, micros
from evidence.cms.signed_data import parse_signed_data
from evidence.report import Report, Step, SubIndication, Verdict, conclude
from evidence.seal.seal import check_seal, uncovered_problem
from evidence.stamps.stamp_check import failed
from evidence.x509.chain import TrustStore
from evidence.x509.role import DEFAULT_SEAL_POLICY, SealPolicy, transaction_problem

FORMAT: Final = "kephs-hand-over-1"
MANIFEST: Final = "devir.json"
SEAL: Final = "devir.p7s"
LIST_FOLDER: Final = "liste/"
OPEN_FOLDER: Final = "acik/"
LIST_OF: Final = 10_000
"""Files of one list at most."""
MANIFEST_MAX: Final = 16 << 20
SEAL_MAX: Final = 1 << 20
LIST_MAX: Final = 8 << 20
NAME_MAX: Final = 400
TEXT_MAX: Final = 1_000
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*\Z")
_LINE: Final = re.compile(r"([0-9a-f]{64}) ([0-9a-f]{128}) (0|[1-9][0-9]{0,15}) ([!-~]{1,400})\Z")
_COUNTS_MAX: Final = 64


class HandOverError(Exception):
    """These parts make no hand-over, or these octets are none."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One file of a hand-over, as its octets lie there."""

    name: str
    size: int
    sha256: bytes
    sha512: bytes

    @classmethod
    def of(cls, name: str, content: bytes) -> "Listed":
        """Return what a list says of a content.

        Raises:
            HandOverError: no name of a file.
        """
        return cls(check_name(name), len(content), sha256(content).digest(), sha512(content).digest())

    def holds(self, content: bytes) -> bool:
        """Say whether this is the content, by size and both digests."""
        return Listed.of(self.name, content) == self


@dataclass(frozen=True, slots=True)
class HandedBy:
    """Who hands over. ``person`` acts for the provider."""

    domain: str
    legal_name: str
    service_address: str
    person: str


@dataclass(frozen=True, slots=True)
class LedgerEnd:
    """Where the ledger ended. ``size``: entries, also those that no checkpoint covers."""

    origin: str
    vkey: str
    size: int
    last_hash: bytes


@dataclass(frozen=True, slots=True)
class RecordEnd:
    """Where the process record ended."""

    number: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a hand-over says of itself. ``counts`` by subject; ``key_check`` tells its key from others."""

    by: HandedBy
    made_at: datetime
    ledger: LedgerEnd
    record: RecordEnd
    counts: Mapping[str, int]
    key_check: bytes
    lists: tuple[Listed, ...]
    notes: tuple[str, ...] = ()


def is_sealed(name: str) -> bool:
    """Say whether a file of this name lies sealed under the hand-over's key."""
    return name not in {MANIFEST, SEAL} and not name.startswith((LIST_FOLDER, OPEN_FOLDER))


def check_name(name: str) -> str:
    """Return the name of a file.

    Raises:
        HandOverError: it is none: ASCII letters, digits, ``.``, ``_``, ``-`` between slashes, no segment
            begins with a dot, at most 400 characters.
    """
    if len(name) > NAME_MAX or _NAME.match(name) is None:
        raise HandOverError(f"no name of a file: {name[:80]!r}")
    return name


def make_lists(files: Iterable[Listed]) -> Iterator[tuple[str, bytes]]:
    """Yield the lists of files, by name, each with its own name.

    Args:
        files: ascending by name, each once.

    Raises:
        HandOverError: they are not.
    """
    lines: list[str] = []
    number, before = 0, ""
    for one in files:
        if one.name <= before:
            raise HandOverError(f"{one.name} is listed twice or out of order")
        before = one.name
        lines.append(f"{one.sha256.hex()} {one.sha512.hex()} {one.size} {one.name}\n")
        if len(lines) == LIST_OF:
            number += 1
            yield list_name(number), "".join(lines).encode()
            lines = []
    if lines or not number:
        yield list_name(number + 1), "".join(lines).encode()


def list_name(number: int) -> str:
    """Return the name of a list; numbers start at 1."""
    return f"{LIST_FOLDER}{number:06d}.txt"


def read_list(content: bytes, *, after: str = "") -> tuple[Listed, ...]:
    """Return the files of a list.

    Args:
        content: untrusted octets.
        after: the last name of the list before.

    Raises:
        HandOverError: not a list as `make_lists` writes it.
    """
    if len(content) > LIST_MAX:
        raise HandOverError("a list is too large")
    try:
        text = content.decode("ascii")
    except UnicodeDecodeError:
        raise HandOverError("a list is ASCII") from None
    if text and not text.endswith("\n"):
        raise HandOverError("a list ends early")
    found: list[Listed] = []
    for line in text.split("\n")[:-1]:
        fields = _LINE.match(line)
        if fields is None or len(found) == LIST_OF:
            raise HandOverError(f"not a line of a list: {line[:80]!r}")
        name = check_name(fields[4])
        if name <= after:
            raise HandOverError(f"{name} is listed twice or out of order")
        if name in {MANIFEST, SEAL} or name.startswith(LIST_FOLDER):
            raise HandOverError(f"{name} cannot be listed")
        after = name
        found.append(Listed(name, int(fields[3]), bytes.fromhex(fields[1]), bytes.fromhex(fields[2])))
    return tuple(found)


def make_manifest(manifest: Manifest) -> bytes:
    """Return ``devir.json``: canonical JSON (keys in order, no spaces), times in microseconds since 1970."""
    plain = {
        "format": FORMAT,
        "provider": {
            "domain": manifest.by.domain, "legal_name": manifest.by.legal_name,
            "service_address": manifest.by.service_address,
        },
        "by": manifest.by.person,
        "made_at": micros(manifest.made_at),
        "ledger": {
            "origin": manifest.ledger.origin, "vkey": manifest.ledger.vkey,
            "size": manifest.ledger.size, "last_hash": manifest.ledger.last_hash.hex(),
        },
        "record": {"number": manifest.record.number, "digest": manifest.record.digest.hex()},
        "counts": dict(manifest.counts),
        "key_check": manifest.key_check.hex(),
        "lists": [
            {"name": one.name, "size": one.size, "sha256": one.sha256.hex(), "sha512": one.sha512.hex()}
            for one in manifest.lists
        ],
        "notes": list(manifest.notes),
    }  # fmt: skip
    return json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def read_manifest(content: bytes) -> Manifest:
    """Read a manifest.

    Args:
        content: untrusted octets.

    Raises:
        HandOverError: not exactly what `make_manifest` makes of something.
    """
    if len(content) > MANIFEST_MAX:
        raise HandOverError("the manifest is too large")
    try:
        plain = json.loads(content)
        if not isinstance(plain, dict) or plain.get("format") != FORMAT:
            raise HandOverError("not a manifest of this format")
        manifest = _manifest(plain)
        same = make_manifest(manifest) == content
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise HandOverError(f"the manifest is not readable: {type(error).__name__}") from None
    if not same:
        raise HandOverError("the manifest is not as it is written")
    return manifest


def judge_manifest(
    content: bytes, seal_der: bytes, trust: TrustStore | None, at: datetime,
    policy: SealPolicy = DEFAULT_SEAL_POLICY,
) -> Report:  # fmt: skip
    """Judge manifest and seal; see the module's docstring for the steps.

    Args:
        content: of ``devir.json``, untrusted.
        seal_der: of ``devir.p7s``, untrusted.
        trust: configured roots; None or empty: at best INDETERMINATE.
        at: the verification time, UTC.
        policy: which certificates seal.
    """
    try:
        manifest = read_manifest(content)
    except HandOverError as error:
        return conclude("manifest", [failed("1", "form", str(error))], at)
    steps = [Step("1", "form", ok=True)]
    facts: dict[str, object] = {"provider": manifest.by.domain, "made_at": manifest.made_at.isoformat()}
    try:
        signed = parse_signed_data(seal_der)
    except DerError as error:
        steps.append(failed("2", "seal", str(error), SubIndication.SIGNED_DATA_NOT_FOUND))
        return conclude("manifest", steps, at, facts=facts)
    seal = check_seal(
        signed, lambda digest: hashlib.new(digest, content).digest(),
        TrustStore(()) if trust is None else trust, at, policy, prefix="2.",
    )  # fmt: skip
    steps += seal.steps
    if seal.intact and seal.stamps.best is None:
        detail = "the seal has no stamp"
        steps.append(failed("2.6", "proof of time", detail, SubIndication.NO_POE, Verdict.INDETERMINATE))
    if seal.chain is not None and (problem := uncovered_problem(seal)) is not None:
        steps.append(failed("2.7", "byte identity", problem))
    if seal.certificate is not None:
        problem = transaction_problem(seal.certificate, {manifest.by.domain}, policy)
        steps.append(
            Step("3", "role", ok=True, detail=manifest.by.domain)
            if problem is None
            else failed("3", "role", problem, SubIndication.CHAIN_CONSTRAINTS_FAILURE)
        )
    return conclude("manifest", steps, at, facts=facts, parts=tuple(seal.stamps.reports))


# --------------------------------------------------------------------------- reading


def _manifest(plain: Mapping[str, Any]) -> Manifest:
    provider, ledger, record, counts = plain["provider"], plain["ledger"], plain["record"], plain["counts"]
    if len(counts) > _COUNTS_MAX or len(plain["notes"]) > _COUNTS_MAX:
        raise HandOverError("too much in the manifest")
    return Manifest(
        HandedBy(
            _text(provider["domain"]), _text(provider["legal_name"]), _text(provider["service_address"]),
            _text(plain["by"]),
        ),
        from_micros(_whole(plain["made_at"])),
        LedgerEnd(
            _text(ledger["origin"]), _text(ledger["vkey"]), _whole(ledger["size"]),
            _digest(ledger["last_hash"], 32),
        ),
        RecordEnd(_whole(record["number"]), _digest(record["digest"], 32)),
        {_text(name): _whole(count) for name, count in counts.items()},
        _digest(plain["key_check"], 32),
        _lists(plain["lists"]),
        tuple(_text(note) for note in plain["notes"]),
    )  # fmt: skip


def _lists(plain: Sequence[Mapping[str, Any]]) -> tuple[Listed, ...]:
    found = tuple(
        Listed(
            _text(one["name"]), _whole(one["size"]), _digest(one["sha256"], 32), _digest(one["sha512"], 64)
        )
        for one in plain
    )
    if not found or [one.name for one in found] != [list_name(n) for n in range(1, len(found) + 1)]:
        raise HandOverError("lists with a gap")
    return found


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:  # True is an int, too
        raise TypeError("no whole number")
    return value


def _text(value: Any) -> str:
    if type(value) is not str or len(value) > TEXT_MAX:
        raise TypeError("no text")
    return value


def _digest(value: Any, size: int) -> bytes:
    found = bytes.fromhex(_text(value))
    if len(found) != size:
        raise ValueError("no digest")
    return found
