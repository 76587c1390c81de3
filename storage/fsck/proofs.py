"""fsck on proofs of time: each evidence carries a stamp inside, or has a record that leads to its token.

Whether the authority is to be believed is `kephs verify`'s business, which knows whom to trust.
"""

from collections.abc import Iterator
from hashlib import new as new_hash
from typing import Final

from evidence.asn1.der import DerError
from evidence.stamps.ers import ErsError, read_record, tree_root
from evidence.stamps.messages import read_token
from kephs.domain.messages import StoredEvidence
from storage.fsck.findings import Finding, FindingCode

_INSIDE: Final = b"EncapsulatedTimeStamp>"


def proof_of(row: StoredEvidence, xml: bytes, ers: bytes | None) -> Iterator[Finding]:
    """Check that an evidence's time can be proved from what is stored."""
    if ers is None:
        if row.unstamped:
            yield Finding(FindingCode.EVIDENCE_UNSTAMPED, row.evidence_id, harmless=True)
        elif row.origin is None and _INSIDE not in xml:
            yield Finding(FindingCode.EVIDENCE_WITHOUT_PROOF, row.evidence_id)
        return
    try:
        problem = _problem(ers, xml)
    except (ErsError, DerError) as error:
        problem = str(error)
    if problem:
        yield Finding(FindingCode.EVIDENCE_PROOF_BROKEN, row.evidence_id, problem)


def _problem(ers: bytes, xml: bytes) -> str:
    """Return why a record's first stamp does not stand for these bytes."""
    first = read_record(ers).chains[0][0]
    root = tree_root(first.reduced, new_hash(first.digest_name, xml).digest(), first.digest_name)
    info = read_token(first.token).info
    if root is None:
        return "the evidence is not in its tree"
    return (
        "" if (info.hash_name, info.imprint) == (first.digest_name, root) else "the token stamps another root"
    )
