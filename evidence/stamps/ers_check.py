"""Verify an RFC 4998 evidence record against the data it is about, offline.

The steps, in this order; the earliest failing one decides (spec: RFC4998#4.3, RFC4998#5.3, signing.md 4 and
7). The time stamps are counted 1, 2, 3 through all chains:

1. format: a strict DER record, entries of exactly the digest length; 1.1 what was read past, as notes
2. hashes: each chain's hash was allowed when the next chain, or today, took over
3. data, per time stamp: what it must cover stands in its first list. The first one covers the data's digest,
   a further one of the same chain the whole previous token, the first of a new chain nothing but
   H(H(data) || H(all older chains)), not sorted
4. time stamp, per time stamp: the root of the reduced tree is the token's imprint, by the same hash, and the
   token holds at the time of the next one, the last at the verification time (`evidence.stamps.timestamps`)
5. order: no time stamp is older than the one before
6. byte identity: the record is what our writer makes (another writer's: a note)
7. uncovered bytes: a record in our form has nothing beside the signed parts of its last token that could
   change unseen; older tokens are covered by the newer ones

What is proven is the time of the first token; an expired certificate of a token that a newer one covers does
no harm. Revocation of the authorities is the caller's, with its data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from evidence.asn1.der import DerError
from evidence.report import Report, Step, SubIndication, Verdict, conclude
from evidence.stamps.ers import (
    ArchiveTimestamp,
    ErsError,
    ErsRecord,
    ErsUnsupportedError,
    chains_leaf,
    is_canonical,
    own_record,
    read_record,
)
from evidence.stamps.ers_tree import HASHERS, tree_root
from evidence.stamps.stamp_check import failed, token_problem
from evidence.stamps.timestamps import Token, TokenReport, read_token, verify_token
from evidence.x509.algorithms import DEFAULT_ALGORITHMS, AlgorithmPolicy
from evidence.x509.chain import TrustStore
from evidence.xml.reader import format_time


@dataclass(frozen=True, slots=True)
class RecordCheck:
    """What a verification found.

    ``proven_at`` is the time of the first token, None unless everything holds; ``tokens`` in the order of the
    record, as far as they were looked at; ``own`` says that the record is, byte for byte, our writer's form.
    """

    report: Report
    proven_at: datetime | None
    tokens: tuple[TokenReport, ...]
    record: ErsRecord | None
    own: bool

    @property
    def passed(self) -> bool:
        """Say whether the verdict is TOTAL-PASSED."""
        return self.report.passed


def check_record(
    ers: bytes,
    digest_of: Callable[[str], bytes],
    trust: TrustStore,
    at: datetime,
    *,
    subject: str = "evidence record",
    ours: bool = True,
    algorithms: AlgorithmPolicy = DEFAULT_ALGORITHMS,
) -> RecordCheck:
    """Verify an evidence record; the steps stand in the module's docstring.

    Args:
        ers: untrusted bytes, DER EvidenceRecord, at most 256 KiB.
        digest_of: gives the digest of the data, all its bytes, by hashlib's name of the hash ("sha256");
            asked for allowed hashes only, once for each chain.
        trust: the anchors of time-stamping authorities.
        at: the time of validation.
        subject: how the report names the record.
        ours: demand of a record in our form that its last token can change nowhere unseen (step 7). False
            makes that a note, for tokens of authorities that add revocation lists or unsigned attributes.
        algorithms: which algorithms count.
    """
    try:
        record, own = _opened(ers)
    except ErsUnsupportedError as error:
        steps = [failed("1", "format", str(error), SubIndication.GENERIC, Verdict.INDETERMINATE)]
        return RecordCheck(conclude(subject, steps, at), None, (), None, own=False)
    except ErsError as error:
        steps = [failed("1", "format", str(error))]
        return RecordCheck(conclude(subject, steps, at), None, (), None, own=False)
    stamps = [stamp for chain in record.chains for stamp in chain]
    steps = [Step("1", "format", ok=True, detail=f"time stamps: {len(stamps)}")]
    steps += [Step("1.1", "format", ok=None, detail=note) for note in record.notes]
    read = [_read(stamp.token) for stamp in stamps]
    covers = [*[_time(token) or at for token in read[1:]], at]
    roots = _data_steps(record, covers, digest_of, algorithms, steps)
    if steps[-1].ok is False:
        return RecordCheck(conclude(subject, steps, at), None, (), record, own)
    tokens = tuple(
        verify_token(token, imprint=_imprint(root, stamp), trust=trust, at=cover, algorithms=algorithms)
        for token, stamp, root, cover in zip(read, stamps, roots, covers, strict=True)
    )
    steps += [_stamp_step(number, token) for number, token in enumerate(tokens, 1)]
    steps += [_order_step(tokens), _identity_step(own=own)]
    if own and tokens[-1].passed:
        steps.append(_frame_step(tokens[-1], ours=ours))
    parts = tuple(token.report for token in tokens)
    report = conclude(subject, steps, at, facts=_facts(record, tokens), parts=parts)
    return RecordCheck(report, tokens[0].gen_time if report.passed else None, tokens, record, own)


def _opened(ers: bytes) -> tuple[ErsRecord, bool]:
    """Return the record and whether it is in our form; most are, and cut out fast."""
    record = own_record(ers)
    if record is not None:
        return record, True
    record = read_record(ers)
    return record, is_canonical(record)


def _read(token: bytes) -> Token | bytes:
    """Read a token; one that cannot be read is left for `verify_token` to report."""
    try:
        return read_token(token)
    except DerError:
        return token


def _time(token: Token | bytes) -> datetime | None:
    return token.info.gen_time if isinstance(token, Token) else None


def _data_steps(
    record: ErsRecord,
    covers: Sequence[datetime],
    digest_of: Callable[[str], bytes],
    algorithms: AlgorithmPolicy,
    steps: list[Step],
) -> list[bytes]:
    """Make steps 2 and 3; return the root of each time stamp, as far as they pass."""
    last = -1
    for chain in record.chains:
        last += len(chain)
        problem = _hash_problem(chain[0].digest_name, algorithms, covers[last])
        if problem is not None:
            sub = SubIndication.CRYPTO_CONSTRAINTS_FAILURE
            steps.append(failed("2", "hashes", problem, sub, Verdict.INDETERMINATE))
            return []
    steps.append(
        Step("2", "hashes", ok=True, detail=" ".join(chain[0].digest_name for chain in record.chains))
    )
    roots: list[bytes] = []
    for index, chain in enumerate(record.chains):
        leaf = digest_of(chain[0].digest_name)
        what = "the data"
        if index:
            leaf = chains_leaf(record.chains[:index], leaf, chain[0].digest_name)
            what = "the data and all older chains"
        for position, stamp in enumerate(chain):
            number = f"3.{len(roots) + 1}"
            alone = position == 0 and index > 0
            root = None if alone and _crowded(stamp) else tree_root(stamp.reduced, leaf, stamp.digest_name)
            if root is None:
                detail = f"the record does not cover {what}"
                steps.append(failed(number, "data", detail, SubIndication.HASH_FAILURE))
                return roots
            roots.append(root)
            steps.append(Step(number, "data", ok=True, detail=what))
            leaf, what = HASHERS[stamp.digest_name](stamp.token).digest(), "the time stamp before"
    return roots


def _hash_problem(name: str, algorithms: AlgorithmPolicy, at: datetime) -> str | None:
    row = next((row for row in algorithms.hashes if row.name == name), None)
    if row is None or (algorithms.enforce_end and row.until is not None and at >= row.until):
        return f"hash {name} is not allowed"
    return None


def _crowded(stamp: ArchiveTimestamp) -> bool:
    """Say whether the first list holds more than the leaf, which a new chain's must not."""
    return stamp.reduced is not None and len(stamp.reduced[0]) != 1


def _imprint(root: bytes, stamp: ArchiveTimestamp) -> Callable[[str], bytes]:
    """The token's hash must be the tree's (spec: RFC4998#4.3 step 4)."""
    return lambda name: root if name == stamp.digest_name else b""


def _stamp_step(number: int, token: TokenReport) -> Step:
    name = "time stamp"
    if token.passed:
        detail = format_time(token.gen_time) if token.gen_time else ""
        return Step(f"4.{number}", name, ok=True, detail=detail)
    step = token.report.failing_step
    detail = f"{step.name}: {step.detail}" if step else "not valid"
    sub = token.report.sub_indication or SubIndication.GENERIC
    return failed(f"4.{number}", name, detail, sub, token.report.verdict)


def _order_step(tokens: Sequence[TokenReport]) -> Step:
    times = [token.gen_time for token in tokens if token.gen_time is not None]
    if any(later < earlier for earlier, later in pairwise(times)):
        sub = SubIndication.TIMESTAMP_ORDER_FAILURE
        detail = "a time stamp is older than the one that it covers"
        return failed("5", "order of times", detail, sub, Verdict.INDETERMINATE)
    return Step("5", "order of times", ok=True)


def _identity_step(*, own: bool) -> Step:
    if own:
        return Step("6", "byte identity", ok=True)
    return Step("6", "byte identity", ok=None, detail="another writer's record: only the proof is covered")


def _frame_step(token: TokenReport, *, ours: bool) -> Step:
    name = "uncovered bytes"
    problem = token_problem(token)
    if problem is None:
        return Step("7", name, ok=True)
    detail = f"time stamp: {problem}"
    return failed("7", name, detail) if ours else Step("7", name, ok=None, detail=detail)


def _facts(record: ErsRecord, tokens: Sequence[TokenReport]) -> dict[str, object]:
    first, last = tokens[0], tokens[-1]
    return {
        "proven_at": format_time(first.gen_time) if first.gen_time else None,
        "renewed_at": [format_time(token.gen_time) for token in tokens[1:] if token.gen_time],
        "hashes": [chain[0].digest_name for chain in record.chains],
        "tsa": last.certificate.subject_text if last.certificate else None,
    }
