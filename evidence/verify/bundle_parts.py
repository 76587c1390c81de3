"""The parts of a bundle that stand for themselves: ledger entries and proofs, tokens, paths, fingerprints.

Called by `evidence.verify.bundle`, whose docstring numbers the steps. Nothing here trusts what it reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from evidence.bundle.making import (
    CHECKPOINT,
    EVIDENCE_FOLDER,
    FINGERPRINTS,
    LEDGER_FOLDER,
    PATH_ENDING,
    REVOCATION_FOLDER,
    BundleError,
    fingerprints,
    first_token,
    from_pem,
    path_file,
)
from evidence.ledger.chain import entry_hash
from evidence.ledger.notes import Checkpoint, Note, NoteError, NoteSignatureError, NoteVerifier, open_note
from evidence.ledger.proof import LedgerProof, ProofError, check_proof
from evidence.report import Step, SubIndication
from evidence.stamps.messages import TimestampRefusedError, parse_response
from evidence.stamps.stamp_check import failed

PATH_MAX: Final = 64 << 10
NO_KEY: Final = "log key not given: proofs checked against the checkpoint inside, nobody vouches for it"


@dataclass(frozen=True, slots=True)
class LedgerFacts:
    """What the ledger's steps need of the rest of the bundle, all untrusted but the digests."""

    entries: object  # of the manifest
    evidence: Mapping[str, tuple[str | None, bytes]]  # file name to evidence id and SHA-256
    files: Mapping[str, bytes]  # of the folder kayit/, without the manifest and its signature


def entries_step(facts: LedgerFacts, *, number: str) -> Step:
    """Check each entry by itself: the whole chain is the provider's, a bundle has single links of it."""
    if not facts.entries:
        return Step(number, "ledger", ok=None, detail="no entries inside")
    if not isinstance(facts.entries, list):
        return failed(number, "ledger", "not readable: no list")
    digests = dict(facts.evidence.values())
    for item in facts.entries:
        try:
            problem = _entry_problem(item, digests)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            return failed(number, "ledger", f"not readable: {error}")
        if problem is not None:
            return failed(number, "ledger", problem, SubIndication.HASH_FAILURE)
    return Step(number, "ledger", ok=True, detail=str(len(facts.entries)))


def _entry_problem(item: Any, digests: Mapping[str | None, bytes]) -> str | None:
    evidence_id, place = item["evidence_id"], item["number"]
    if not isinstance(evidence_id, str) or type(place) is not int:  # True is an int, too
        raise ValueError("an entry has members of odd types")
    digest = bytes.fromhex(item["evidence_sha256"])
    if digests.get(evidence_id) != digest:
        return "an entry is about other evidence"
    at = datetime.fromisoformat(item["at"])
    made = entry_hash(place, bytes.fromhex(item["previous"]), evidence_id, digest, at)
    return None if made.hex() == item["hash"] else "an entry's hash does not hold"


def proofs_step(facts: LedgerFacts, log_key: NoteVerifier | None, *, number: str) -> list[Step]:
    """Check that evidence stands in the tree that the checkpoint speaks of, under its number.

    What has an entry must have its proof; a peer's evidence that came inside a KEP message has neither.
    """
    name, files = "ledger proofs", dict(facts.files)
    note = files.pop(CHECKPOINT, None)
    if note is None:
        if files:
            return [failed(number, name, "proofs without a checkpoint", SubIndication.SIGNED_DATA_NOT_FOUND)]
        return [Step(number, name, ok=None, detail="no checkpoint inside")]
    try:
        checkpoint = Checkpoint.parse(Note.parse(note).text)
        problem = _proofs_problem(facts, files, note, checkpoint)
    except (NoteError, ProofError) as error:
        return [failed(number, name, f"not readable: {error}")]
    if problem is not None:
        return [failed(number, name, problem, SubIndication.HASH_FAILURE)]
    detail = f"{len(files)} in {checkpoint.origin}, {checkpoint.size} entries"
    return [Step(number, name, ok=True, detail=detail), _checkpoint_step(note, log_key, f"{number}.1")]


def _proofs_problem(
    facts: LedgerFacts, files: Mapping[str, bytes], note: bytes, checkpoint: Checkpoint
) -> str | None:
    wanted = {
        f"{LEDGER_FOLDER}{name.removeprefix(EVIDENCE_FOLDER).removesuffix('.xml')}.proof": about
        for name, about in facts.evidence.items()
    }
    numbers = _numbers(facts.entries)
    entered = {name for name, (evidence_id, _) in wanted.items() if evidence_id in numbers}
    if missing := sorted(entered - files.keys()):
        return f"{missing[0]} is missing"
    if strange := sorted(files.keys() - wanted.keys()):
        return f"{strange[0]} belongs to no evidence inside"
    for name, file in files.items():
        evidence_id, digest = wanted[name]
        proof = LedgerProof.read(file)
        if Note.parse(proof.note).text != Note.parse(note).text:
            return f"{name} is of another checkpoint"
        if not check_proof(proof, digest, checkpoint):
            return f"{name} does not lead to the checkpoint"
        if evidence_id in numbers and numbers[evidence_id] != proof.number:
            return f"{name} is of another place in the ledger than the entry"
    return None


def _numbers(entries: object) -> dict[str | None, int]:
    """Return the numbers of readable entries, by evidence id; whether they hold is another step's."""
    listed = entries if isinstance(entries, list) else []
    return {
        item["evidence_id"]: item["number"]
        for item in listed
        if isinstance(item, dict)
        and isinstance(item.get("evidence_id"), str)
        and isinstance(item.get("number"), int)
    }


def _checkpoint_step(note: bytes, log_key: NoteVerifier | None, number: str) -> Step:
    name = "checkpoint"
    if log_key is None:
        return Step(number, name, ok=None, detail=NO_KEY)
    try:
        open_note(note, (log_key,))
    except NoteSignatureError as error:
        return failed(number, name, str(error), SubIndication.SIG_CRYPTO_FAILURE)
    except NoteError as error:
        return failed(number, name, str(error))
    return Step(number, name, ok=True, detail=f"signed by {log_key.name}")


def helper_step(
    files: Mapping[str, bytes], evidence: Mapping[str, tuple[bytes, bytes | None]], *, number: str
) -> Step:
    """Check what a stranger's tools work on instead of the records themselves: tokens and paths.

    Args:
        files: ``delil/*.yol.txt``, ``imza.yol.txt`` and ``dogrulama/*.tsr``.
        evidence: file name of each evidence, and of the holder's signature, to its SHA-256 and evidence
            record.
        number: of the step.
    """
    name, tokens, rest = "files for common tools", set(), dict(files)
    for xml, (digest, ers) in evidence.items():
        if ers is None:
            continue
        path = f"{xml.rpartition('.')[0]}{PATH_ENDING}"
        try:
            tokens.add(first_token(ers))
            if path in rest and rest.pop(path) != path_file(digest, ers):
                return failed(number, name, f"{path} is not the record's path", SubIndication.HASH_FAILURE)
        except BundleError as error:
            return failed(number, name, str(error))
    for file, content in rest.items():
        if not file.startswith(REVOCATION_FOLDER):
            return failed(number, name, f"{file} belongs to no evidence record inside")
        try:
            known = parse_response(content) in tokens
        except TimestampRefusedError as error:
            return failed(number, name, f"{file}: {error}")
        if not known:
            return failed(number, name, f"{file} is the token of no evidence record inside")
    return Step(number, name, ok=True, detail=str(len(files)))


def roots_step(files: Mapping[str, bytes], *, number: str) -> Step:
    """Check that the list of fingerprints is that of the roots inside; neither is ever trusted."""
    name = "roots inside"
    listed = files.get(FINGERPRINTS)
    ders = [from_pem(content) for file, content in files.items() if file != FINGERPRINTS]
    found = [der for der in ders if der is not None]
    if len(found) != len(ders):
        return failed(number, name, "a root is not readable")
    if listed is None:
        return Step(number, name, ok=None, detail="no list of fingerprints")
    if listed != fingerprints(found):
        return failed(number, name, "the list of fingerprints is not that of the roots")
    return Step(number, name, ok=True, detail=f"{len(found)}, information only")
