"""Steps 3.n.13, 3.n.14 and 3.n.16: time stamps over a sender's signature, their order, archive time stamps.

A signature time stamp proves the signature value; an archive time stamp (v3) proves the content, the signer's
fields and what its hash index lists. Stamps that nobody asked for are checked too: a broken one never passes
silently, it fails the signature. (spec: signing.md 2.3 and 2.4 rule 6, EN319122-1#5.5)
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import new as new_hash
from typing import Final

from evidence.asn1.der import (
    SEQUENCE,
    DerError,
    Node,
    children,
    oid,
    to_octets,
)
from evidence.cms.signed_data import SIGNATURE_TIME_STAMP, SignedData, SignerInfo
from evidence.nes.embedded import embedded_in, joined
from evidence.nes.findings import failing, noted
from evidence.nes.model import Embedded
from evidence.nes.policy import NesPolicy
from evidence.report import Step, SubIndication, Verdict, held
from evidence.stamps.timestamps import FUTURE_TOLERANCE, TokenReport, read_token, verify_token
from evidence.x509.algorithms import UnknownAlgorithmError, digest_algorithm
from evidence.x509.chain import Chain, TrustStore

ARCHIVE_V3: Final = "0.4.0.1733.2.4"
ARCHIVE_V2: Final = "1.2.840.113549.1.9.16.2.48"
ARCHIVE_V1: Final = "1.2.840.113549.1.9.16.2.27"
ESC_TIME_STAMP: Final = "1.2.840.113549.1.9.16.2.25"
REFS_TIME_STAMP: Final = "1.2.840.113549.1.9.16.2.26"
HASH_INDEX: Final = "0.4.0.1733.2.5"
HASH_INDEX_V3: Final = "0.4.0.19122.1.5"
MAX_MESSAGE_STAMPS: Final = 16
"""Of all signers together; each costs a signature check and a path."""
_NOT_CHECKED: Final = {
    ARCHIVE_V2: "archive time stamp of version 2",
    ARCHIVE_V1: "archive time stamp of version 1",
    ESC_TIME_STAMP: "time stamp over signature and references",
    REFS_TIME_STAMP: "time stamp over references",
}
_MAX_INDEX: Final = 256
_NO_YEAR: Final = 9999  # times are added to
_WEAK: Final = frozenset({"sha1", "sha224"})
_CODES: Final = {
    "1": "stamp-format",
    "2": "stamp-signature",
    "3": "stamp-imprint",
    "4": "stamp-role",
    "5": "stamp-time",
    "6": "stamp-algorithm",
    "7": "stamp-expired",
    "8": "stamp-path",
}


@dataclass(frozen=True, slots=True)
class Stamp:
    """One verified time stamp: when, its path, and what its token carries.

    ``covered``: where the attribute values begin that an archive time stamp's index lists.
    """

    gen_time: datetime
    chain: Chain
    embedded: Embedded
    covered: frozenset[int] = frozenset()


class StampBudget:
    """How many more tokens of one message are verified."""

    __slots__ = ("_left",)

    def __init__(self, left: int = MAX_MESSAGE_STAMPS) -> None:
        self._left = left

    def take(self, count: int) -> bool:
        """Say whether this many more may be verified, and count them."""
        if count > self._left:
            return False
        self._left -= count
        return True


@dataclass(frozen=True, slots=True)
class StampSetting:
    """What all stamps of a message share. ``candidates``: certificates that may help a path."""

    trust: TrustStore
    policy: NesPolicy
    candidates: Sequence[bytes]
    stamps: StampBudget


def proven_at(value: Node, archived: Sequence[Stamp], at: datetime) -> datetime:
    """Return the earliest time that is proven for an unsigned attribute value, else ``at``."""
    return min((stamp.gen_time for stamp in archived if value.start in stamp.covered), default=at)


def signature_stamps(
    signer: SignerInfo, setting: StampSetting, archived: Sequence[Stamp], at: datetime, number: str
) -> tuple[list[Step], list[Stamp]]:
    """Verify the signature time stamps of a signer (steps ``number.k``).

    Args:
        signer: whose signature value they stamp.
        setting: trust, policy and helpers.
        archived: the signer's archive time stamps; a token they cover must have held at their time.
        at: when the tokens themselves must hold otherwise.
        number: prefix of the steps.
    """
    values = signer.unsigned_values(SIGNATURE_TIME_STAMP)
    name = "signature time stamp"
    if not setting.stamps.take(len(values)):
        return [_too_many(number, name)], []
    steps, stamps = [], []

    def imprint(hash_name: str) -> bytes:
        return _digest(hash_name, signer.signature)

    for index, value in enumerate(values, 1):
        until = proven_at(value, archived, at)
        step, stamp = _one(value.whole, setting, until, imprint, f"{number}.{index}", name)
        steps.append(step)
        if stamp is not None:
            stamps.append(stamp)
    return steps, stamps


def _too_many(number: str, name: str) -> Step:
    detail = f"a message has more than {MAX_MESSAGE_STAMPS}"
    return failing(number, name, "too-many", detail, SubIndication.FORMAT_FAILURE, Verdict.FAILED)


def _digest(name: str, data: bytes) -> bytes:
    return new_hash(name, data).digest()


def _one(
    der: bytes,
    setting: StampSetting,
    at: datetime,
    imprint: Callable[[str], bytes],
    number: str,
    name: str,
) -> tuple[Step, Stamp | None]:
    """Verify a token. Whether it is from the future is step 14's business, so it is not asked here."""
    try:
        token = read_token(der)
    except DerError as error:
        step = failing(number, name, "stamp-format", str(error), SubIndication.FORMAT_FAILURE, Verdict.FAILED)
        return step, None
    if token.info.gen_time.year >= _NO_YEAR:
        order = SubIndication.TIMESTAMP_ORDER_FAILURE
        return failing(number, name, "stamp-future", "stamped at the end of time", order), None
    report = verify_token(
        token,
        imprint=imprint,
        trust=setting.trust,
        at=max(at, token.info.gen_time),
        candidates=setting.candidates,
        algorithms=setting.policy.algorithms,
        strangers=True,
    )
    if not report.passed:
        return _failed(report, number, name), None
    assert report.chain is not None  # every step held, the path among them
    own = Embedded(token.signed.certificates, (), ())
    embedded = joined((own, embedded_in(token.signed, token.signer)))
    return held(number, name, token.info.gen_time.isoformat()), Stamp(
        token.info.gen_time, report.chain, embedded
    )


def _failed(report: TokenReport, number: str, name: str) -> Step:
    found = report.report.failing_step
    code = _CODES.get((found.number if found else "").partition(".")[0], "stamp-format")
    detail = f"{found.name}: {found.detail}" if found else "not valid"
    sub = report.report.sub_indication or SubIndication.GENERIC
    return failing(number, name, code, detail, sub, report.report.verdict)


# --------------------------------------------------------------------------- order of times


def order_step(
    stamps: Sequence[Stamp],
    claimed: datetime | None,
    policy: NesPolicy,
    at: datetime,
    number: str,
    *,
    in_window: bool,
) -> Step:
    """Return step 14: no stamp is from the future, none before the signature, none too late for the profile.

    Args:
        stamps: the good ones.
        claimed: the signing time that the signer claims.
        policy: tolerance and window.
        at: the time of the check.
        number: of the step.
        in_window: the profile (P2 to P4) wants the stamp within the window.
    """
    name, order = "order of times", SubIndication.TIMESTAMP_ORDER_FAILURE
    for stamp in stamps:
        moment = stamp.gen_time.isoformat()
        if stamp.gen_time > at + FUTURE_TOLERANCE:
            return failing(number, name, "stamp-future", f"stamped {moment}, in the future", order)
        if claimed is not None and claimed - stamp.gen_time > policy.signing_time_tolerance:
            detail = f"stamped {moment}, signed {claimed.isoformat()}"
            return failing(number, name, "stamp-before-signing", detail, order)
    if in_window and claimed is not None and stamps:
        first = min(stamp.gen_time for stamp in stamps)
        if first - claimed > policy.stamp_window:
            detail = f"stamped {first - claimed} after the signing time"
            return failing(number, name, "stamp-late", detail, SubIndication.SIG_CONSTRAINTS_FAILURE)
    return held(number, name)


# --------------------------------------------------------------------------- archive time stamps


def archive_stamps(
    signed: SignedData,
    signer: SignerInfo,
    content_digest: Callable[[str], bytes | None],
    setting: StampSetting,
    at: datetime,
    number: str,
) -> tuple[list[Step], list[Stamp]]:
    """Verify archive time stamps v3 (steps ``number.k``); other stamps over attributes are noted.

    Each is verified at the time that the next younger one proves, the youngest at ``at``.

    Args:
        signed: the whole structure.
        signer: whose archive time stamps.
        content_digest: gives the digest of the signed content for a hashlib name, None where it cannot.
        setting: trust, policy and helpers.
        at: when the youngest token must hold.
        number: prefix of the steps.
    """
    name = "archive time stamp"
    values = signer.unsigned_values(ARCHIVE_V3)
    if not setting.stamps.take(len(values)):
        return [_too_many(number, name)], []
    found: list[tuple[int, Step]] = []
    stamps: list[Stamp] = []
    for index, value in _youngest_first(values):
        until = proven_at(value, stamps, at)
        step, stamp = _archive(signed, signer, value, content_digest, setting, until, f"{number}.{index}")
        found.append((index, step))
        if stamp is not None:
            stamps.append(stamp)
    steps = [step for _, step in sorted(found, key=lambda pair: pair[0])]
    noted_kinds = [one.oid for one in signer.unsigned if one.oid in _NOT_CHECKED]
    for index, kind in enumerate(noted_kinds, len(values) + 1):
        steps.append(
            noted(f"{number}.{index}", name, "stamp-not-checked", f"{_NOT_CHECKED[kind]}: not checked")
        )
    return steps, stamps


def _youngest_first(values: Sequence[Node]) -> list[tuple[int, Node]]:
    times: list[tuple[str, int, Node]] = []
    for index, value in enumerate(values, 1):
        try:
            moment = read_token(value.whole).info.gen_time.isoformat()
        except DerError:
            moment = ""
        times.append((moment, index, value))
    times.sort(key=lambda one: one[:2], reverse=True)
    return [(index, value) for _, index, value in times]


def _archive(
    signed: SignedData,
    signer: SignerInfo,
    value: Node,
    content_digest: Callable[[str], bytes | None],
    setting: StampSetting,
    at: datetime,
    number: str,
) -> tuple[Step, Stamp | None]:
    name = "archive time stamp"
    try:
        token = read_token(value.whole)
        index = _index_of(token.signer)
        if index is None:
            return noted(
                number, name, "archive-index-unknown", "its hash index is of no kind known here"
            ), None
        covered = _covered(*index, signed, signer)
        digest = content_digest(token.info.hash_name)
    except (DerError, UnknownAlgorithmError) as error:
        malformed = SubIndication.FORMAT_FAILURE
        return failing(number, name, "archive-malformed", str(error), malformed, Verdict.FAILED), None
    if isinstance(covered, str):
        differs = SubIndication.HASH_FAILURE
        return failing(number, name, "archive-index", covered, differs, Verdict.FAILED), None
    if digest is None:
        return noted(number, name, "archive-content", "the content cannot be digested with its hash"), None
    stamped = b"".join((oid(signed.content_type), digest, signer.fields.content, index[1].whole))
    step, stamp = _one(value.whole, setting, at, lambda kind: _digest(kind, stamped), number, name)
    return step, None if stamp is None else replace(stamp, covered=covered)


def _index_of(signer: SignerInfo) -> tuple[str, Node] | None:
    """Return kind and value of the hash index in a token (spec: EN319122-1#5.5.2).

    Raises:
        DerError: it stands more than once.
    """
    kinds = (HASH_INDEX, HASH_INDEX_V3)
    found = [(one.oid, value) for one in signer.unsigned if one.oid in kinds for value in one.values]
    if len(found) > 1:
        raise DerError("more than one hash index")
    return found[0] if found else None


def _covered(kind: str, node: Node, signed: SignedData, signer: SignerInfo) -> frozenset[int] | str:
    """Return where the unsigned attribute values begin that the index lists, or why it does not fit.

    Entries must name what is there; what was added later is no matter.
    """
    members = children(node, limit=4, tag=SEQUENCE)
    hash_name = "sha256"
    if len(members) == 4:
        hash_name = digest_algorithm(members.pop(0))
    elif kind == HASH_INDEX_V3:
        raise DerError("a hash index without its algorithm")
    if hash_name in _WEAK:
        raise UnknownAlgorithmError(f"a hash index with {hash_name}")
    if len(members) != 3:
        raise DerError("a hash index has three lists")
    values = _attribute_hashes(kind, hash_name, signer)
    there: tuple[tuple[str, Collection[bytes]], ...] = (
        ("certificate", {_digest(hash_name, der) for der in signed.certificates}),
        ("revocation value", {_digest(hash_name, one.whole) for one in signed.revocation_nodes}),
        ("unsigned attribute", values),
    )
    listed: set[bytes] = set()
    for member, (what, hashes) in zip(members, there, strict=True):
        listed = {to_octets(entry) for entry in children(member, limit=_MAX_INDEX, tag=SEQUENCE)}
        if not listed <= set(hashes):
            return f"the index lists a {what} that is not there"
    return frozenset(start for entry in listed for start in values[entry])


def _attribute_hashes(kind: str, hash_name: str, signer: SignerInfo) -> dict[bytes, list[int]]:
    """Return where values begin, by the hash that lists them: the value's, or (old index) the attribute's."""
    found: dict[bytes, list[int]] = {}
    for one in signer.unsigned:
        whole = _digest(hash_name, one.node.whole) if kind == HASH_INDEX else b""
        for value in one.values:
            listed = whole or _digest(hash_name, oid(one.oid) + value.whole)
            found.setdefault(listed, []).append(value.start)
    return found
