"""What somebody outside finds out about a provider's ledger, with the log's key and what it published.

`audit` compares two checkpoints, got at different times or by different people, over the published tiles:

1. the older checkpoint has the form, and the log signed it
2. so the newer one
3. the ledger did not shrink
4. one size, one root: two roots at the same size are a split view
5. the tiles give the newer root
6. the tiles give the older root: nothing was dropped, altered, swapped or put in before it
7. the consistency proof, computed from the tiles, holds between the two signed roots
8. every leaf, hashed anew, gives both roots and every tile above it
9. witnesses: who cosigned the newer checkpoint, and when

`audit_entry` checks one evidence against the proof handed over with it:

1. the proof has its form
2. the log signed the checkpoint inside
3. a checkpoint held by the reader says the same at the same size
4. digest and salt of the evidence lead to the signed root
5. witnesses: who cosigned the checkpoint inside, and when

What contradicts itself is TOTAL-FAILED; what cannot be had, or is not signed by the log's key, is
INDETERMINATE. A log's signature carries no time: only witnesses say how old a checkpoint is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from evidence.ledger import merkle
from evidence.ledger.merkle import HASH_SIZE, MissingNodeError, consistency_proof, verify_consistency
from evidence.ledger.notes import (
    Checkpoint,
    KeyKind,
    NoteError,
    NoteSignatureError,
    NoteVerifier,
    OpenedNote,
    UnsignedNoteError,
    open_note,
)
from evidence.ledger.proof import LedgerProof, ProofError, check_proof
from evidence.ledger.tiles import (
    WIDTH,
    GrowingTree,
    ReadTile,
    Tile,
    TileName,
    TileSource,
    read_hashes,
    width_at,
)
from evidence.report import Report, Step, SubIndication, Verdict, conclude

CLOCK_TOLERANCE: Final = timedelta(minutes=5)
WALK_LIMIT: Final = 1 << 28
"""Leaves beyond which step 8 is left out: whoever signs a size should not decide how long we work."""
_NOT_LOOKED_AT: Final = "not looked at"


@dataclass(frozen=True, slots=True)
class Witnesses:
    """The witnesses a reader knows, and how many of them must vouch."""

    keys: tuple[NoteVerifier, ...] = ()
    quorum: int = 0


NO_WITNESSES: Final = Witnesses()


def audit(
    old_note: bytes,
    new_note: bytes,
    read: ReadTile,
    log: NoteVerifier,
    at: datetime,
    *,
    witnesses: Witnesses = NO_WITNESSES,
    in_order: bool = True,
    walk: bool = True,
) -> Report:
    """Compare two checkpoints of one log over its tiles; the steps stand in the module's docstring.

    Args:
        old_note: the checkpoint that was got first.
        new_note: the one that was got later.
        read: gets a published tile; None or too short: it cannot be had. Its errors go through.
        log: the log's key, from elsewhere than the log.
        at: time of the audit, UTC; cosignatures from after it do not count.
        witnesses: known witnesses.
        in_order: False: nobody knows which came first (two people compare); the smaller is the older.
        walk: False leaves out step 8, which reads the whole tree (one tile of 8 KiB per 256 leaves).
    """
    keys = (log, *witnesses.keys)
    first, old = _opened("1", "older checkpoint", old_note, keys)
    second, new = _opened("2", "newer checkpoint", new_note, keys)
    if old is None or new is None:
        rest = [Step(str(number), name, ok=None, detail=_NOT_LOOKED_AT) for number, name in _REST]
        return conclude("ledger", (first, second, *rest), at)
    if not in_order and old.checkpoint.size > new.checkpoint.size:
        old, new = new, old
    steps = [first, second, *_compared(old.checkpoint, new.checkpoint, read, walk=walk)]
    steps.append(_witness_step("9", new, witnesses, at))
    facts: dict[str, object] = {
        "origin": new.checkpoint.origin,
        "old_size": old.checkpoint.size,
        "new_size": new.checkpoint.size,
        "root": new.checkpoint.root.hex(),
        "cosigned": {name: when.isoformat() for name, when in new.cosigned.items()},
    }
    return conclude("ledger", steps, at, facts=facts)


def audit_checkpoint(
    note: bytes, log: NoteVerifier, at: datetime, *, witnesses: Witnesses = NO_WITNESSES
) -> Report:
    """Check one checkpoint by itself: form and signature (step 1), witnesses (step 2)."""
    step, opened = _opened("1", "checkpoint", note, (log, *witnesses.keys))
    if opened is None:
        return conclude("checkpoint", (step, Step("2", "witnesses", ok=None, detail=_NOT_LOOKED_AT)), at)
    steps = (step, _witness_step("2", opened, witnesses, at))
    return conclude("checkpoint", steps, at, facts=_checkpoint_facts(opened))


def audit_entry(
    proof: bytes,
    evidence: bytes,
    log: NoteVerifier,
    at: datetime,
    *,
    held: bytes | None = None,
    witnesses: Witnesses = NO_WITNESSES,
) -> Report:
    """Check that an evidence stands in the ledger; the steps stand in the module's docstring.

    Args:
        proof: the ``.proof`` file.
        evidence: the evidence file's bytes.
        log: the log's key, from elsewhere than the proof.
        at: time of the check, UTC.
        held: a checkpoint that the reader has from elsewhere.
        witnesses: known witnesses.
    """
    names = ("checkpoint", "checkpoint held", "inclusion", "witnesses")
    rest = [Step(str(at), name, ok=None, detail=_NOT_LOOKED_AT) for at, name in enumerate(names, 2)]
    try:
        read = LedgerProof.read(proof)
    except ProofError as error:
        return conclude(
            "ledger proof", (_failed("1", "form", str(error), SubIndication.FORMAT_FAILURE), *rest), at
        )
    form = Step("1", "form", ok=True, detail=f"entry {read.number} of {read.size}")
    keys = (log, *witnesses.keys)
    signed, opened = _opened("2", "checkpoint", read.note, keys)
    if opened is None:
        return conclude("ledger proof", (form, signed, *rest[1:]), at)
    steps = (
        form,
        signed,
        _held_step(held, opened.checkpoint, keys),
        _inclusion_step(read, evidence, opened.checkpoint),
        _witness_step("5", opened, witnesses, at),
    )
    facts = {"number": read.number, **_checkpoint_facts(opened)}
    return conclude("ledger proof", steps, at, facts=facts)


_REST: Final = (
    (3, "sizes"),
    (4, "one root for one size"),
    (5, "tiles of the newer checkpoint"),
    (6, "tiles of the older checkpoint"),
    (7, "consistency"),
    (8, "leaves"),
    (9, "witnesses"),
)


def _opened(
    number: str, name: str, note: bytes, keys: Sequence[NoteVerifier]
) -> tuple[Step, OpenedNote | None]:
    """Read a checkpoint and verify the log's signature, the first of the keys."""
    try:
        opened = open_note(note, keys)
    except UnsignedNoteError as error:
        sub, verdict = SubIndication.NO_SIGNING_CERTIFICATE_FOUND, Verdict.INDETERMINATE
        return _failed(number, name, str(error), sub, verdict), None
    except NoteSignatureError as error:
        return _failed(number, name, str(error), SubIndication.SIG_CRYPTO_FAILURE), None
    except NoteError as error:
        return _failed(number, name, str(error), SubIndication.FORMAT_FAILURE), None
    return Step(number, name, ok=True, detail=f"{opened.checkpoint.size} entries"), opened


def _compared(old: Checkpoint, new: Checkpoint, read: ReadTile, *, walk: bool) -> list[Step]:
    """Take steps 3 to 8."""
    sizes = _sizes_step(old, new)
    one_root = _one_root_step(old, new)
    if not (sizes.ok and one_root.ok):
        return [
            sizes,
            one_root,
            *(Step(str(number), name, ok=None, detail=_NOT_LOOKED_AT) for number, name in _REST[2:6]),
        ]
    source = TileSource(read, new.size)
    return [
        sizes,
        one_root,
        _root_step("5", "tiles of the newer checkpoint", new, source),
        _root_step("6", "tiles of the older checkpoint", old, source),
        _consistency_step(old, new, source),
        _leaves_step(old, new, read, walk=walk),
    ]


def _sizes_step(old: Checkpoint, new: Checkpoint) -> Step:
    if new.size >= old.size:
        return Step("3", "sizes", ok=True, detail=f"{old.size} to {new.size}")
    detail = f"from {old.size} entries down to {new.size}: some were dropped, or an old checkpoint is shown"
    return _failed("3", "sizes", detail)


def _one_root_step(old: Checkpoint, new: Checkpoint) -> Step:
    if old.size != new.size or old.root == new.root:
        return Step("4", "one root for one size", ok=True)
    return _failed(
        "4", "one root for one size", f"two different trees of {old.size} entries are signed: a split view"
    )


def _root_step(number: str, name: str, checkpoint: Checkpoint, source: TileSource) -> Step:
    try:
        found = merkle.root(checkpoint.size, source)
    except MissingNodeError as error:
        return _missing(number, name, error)
    if found != checkpoint.root:
        return _failed(
            number, name, f"the tiles are of another tree than the {checkpoint.size} entries signed"
        )
    return Step(number, name, ok=True, detail=f"the root of {checkpoint.size} entries")


def _consistency_step(old: Checkpoint, new: Checkpoint, source: TileSource) -> Step:
    try:
        proof = consistency_proof(old.size, new.size, source)
    except MissingNodeError as error:
        return _missing("7", "consistency", error)
    if not verify_consistency(old.size, old.root, new.size, new.root, proof):
        return _failed("7", "consistency", "the newer tree does not begin with the older one")
    return Step("7", "consistency", ok=True, detail=f"{len(proof)} hashes")


def _leaves_step(old: Checkpoint, new: Checkpoint, read: ReadTile, *, walk: bool) -> Step:
    if not walk or new.size > WALK_LIMIT:
        return Step("8", "leaves", ok=None, detail="not all read")
    try:
        problem = _walk(old, new, read)
    except MissingNodeError as error:
        return _missing("8", "leaves", error)
    if problem:
        return _failed("8", "leaves", problem)
    return Step("8", "leaves", ok=True, detail=f"{new.size} hashed anew")


def _walk(old: Checkpoint, new: Checkpoint, read: ReadTile) -> str:
    """Build the whole tree anew from its leaves, a tile at a time; return what does not fit, or nothing."""
    tree = GrowingTree()
    old_root = tree.root() if old.size == 0 else b""
    for number in range(-(-new.size // WIDTH)):
        data = read_hashes(read, 0, number, width_at(0, number, new.size))
        leaves = [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)]
        before = max(0, min(len(leaves), old.size - tree.size))
        for part in (leaves[:before], leaves[before:]):
            changed = [tile for tile in tree.append(part) if tile.level and tile.name.full]
            wrong = _other_below(changed, read)
            if wrong:
                return wrong
            if tree.size == old.size and not old_root:
                old_root = tree.root()
    wrong = _other_below([tile for tile in tree.edge if tile.level], read)
    if wrong:
        return wrong
    if old_root != old.root:
        return f"the first {old.size} leaves are of another tree than the one signed"
    return "" if tree.root() == new.root else "the leaves are of another tree than the one signed"


def _other_below(tiles: Sequence[Tile], read: ReadTile) -> str:
    """Compare computed tiles with the published ones; name the first that is not what its parent says."""
    for tile in tiles:
        shown = read_hashes(read, tile.level, tile.number, tile.name.width)
        if shown != tile.hashes:
            spot = next(at for at, (x, y) in enumerate(zip(shown, tile.hashes, strict=True)) if x != y)
            below = TileName(tile.level - 1, tile.number * WIDTH + spot // HASH_SIZE)
            return f"{below.path} is not what {tile.name.path} says"
    return ""


def _held_step(held: bytes | None, inside: Checkpoint, keys: Sequence[NoteVerifier]) -> Step:
    name = "checkpoint held"
    if held is None:
        return Step("3", name, ok=None, detail="none given")
    step, opened = _opened("3", name, held, keys)
    if opened is None:
        return step
    other = opened.checkpoint
    if other.size != inside.size:
        detail = f"it has {other.size} entries, the proof's {inside.size}: compare them over the tiles"
        return Step("3", name, ok=None, detail=detail)
    if other.root != inside.root:
        return _failed("3", name, f"two different trees of {other.size} entries are signed: a split view")
    return Step("3", name, ok=True)


def _inclusion_step(proof: LedgerProof, evidence: bytes, checkpoint: Checkpoint) -> Step:
    if not check_proof(proof, sha256(evidence).digest(), checkpoint):
        detail = "the evidence is not the one entered, or the proof is of another entry"
        return _failed("4", "inclusion", detail)
    return Step("4", "inclusion", ok=True, detail=f"entry {proof.number}")


def _witness_step(number: str, opened: OpenedNote, witnesses: Witnesses, at: datetime) -> Step:
    """Count the known witnesses by key: one that has two names still is one."""
    counted = {
        one.verifier.public_key: one
        for one in opened.signed
        if one.verifier.kind is KeyKind.COSIGNATURE and one.at and one.at <= at + CLOCK_TOLERANCE
    }
    said = ", ".join(f"{one.verifier.name} at {one.at:%Y-%m-%dT%H:%M:%SZ}" for one in counted.values())
    if len(counted) < witnesses.quorum:
        detail = f"{len(counted)} of the {witnesses.quorum} demanded vouch for it"
        verdict = Verdict.INDETERMINATE
        return _failed(number, "witnesses", detail, SubIndication.SIG_CONSTRAINTS_FAILURE, verdict)
    return Step(number, "witnesses", ok=True if counted else None, detail=said or "none known vouches for it")


def _checkpoint_facts(opened: OpenedNote) -> dict[str, object]:
    return {
        "origin": opened.checkpoint.origin,
        "size": opened.checkpoint.size,
        "root": opened.checkpoint.root.hex(),
        "cosigned": {name: when.isoformat() for name, when in opened.cosigned.items()},
    }


def _missing(number: str, name: str, error: MissingNodeError) -> Step:
    return _failed(number, name, str(error), SubIndication.SIGNED_DATA_NOT_FOUND, Verdict.INDETERMINATE)


def _failed(
    number: str,
    name: str,
    detail: str,
    sub: SubIndication = SubIndication.HASH_FAILURE,
    verdict: Verdict = Verdict.FAILED,
) -> Step:
    return Step(number, name, ok=False, detail=detail, sub_indication=sub, verdict=verdict)
