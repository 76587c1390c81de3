"""fsck on the process record and what it tells of: trust list, bound certificates, holds, destroyed content.

The process record is one chain; what it says of the trust list must be what the trust list says, so that an
anchor put there past `kephs trust` is found, even by somebody who has the instance's key.
"""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from types import MappingProxyType
from typing import Final

from directory.certificates import BoundCertificate
from kephs.domain.audit import AuditEntry
from kephs.domain.audit_anchor import BreakKind, RecordBreak, RecordCheck
from kephs.domain.trust_list import (
    CONFIRMATIONS,
    TRUST_CONFIRMED,
    TRUST_IMPORTED,
    TRUST_RETIRED,
    AnchorState,
    folded_name,
)
from storage.files.survey import UNREADABLE, UnreadableRow
from storage.fsck.erasures import ErasureTold, check_erasures
from storage.fsck.findings import Finding, FindingCode, unreadable
from storage.fsck.scope import PAGE, Scope

_BREAKS: Final[Mapping[BreakKind, FindingCode]] = MappingProxyType(
    {
        BreakKind.CHAIN: FindingCode.AUDIT_BROKEN,
        BreakKind.ANCHOR: FindingCode.AUDIT_OTHER_ANCHOR,
        BreakKind.TIME: FindingCode.AUDIT_BACK_DATED,
    }
)


def check_trust(scope: Scope) -> Iterator[Finding]:
    """Yield what does not hold of record, trust list and bound certificates."""
    told, erased = _Told(), ErasureTold()
    yield from _record(scope, told, erased)
    yield from check_erasures(scope, erased)
    yield from _anchors(scope, told)
    yield from _certificates(scope)


class _Told:
    """What the process record says of each anchor: its state, and who stands for it."""

    def __init__(self) -> None:
        self.states: dict[str, AnchorState] = {}
        self._names: dict[str, set[str]] = {}

    def take(self, entry: AuditEntry) -> None:
        """Follow one entry."""
        if entry.action == TRUST_IMPORTED:
            self.states[entry.subject], self._names[entry.subject] = AnchorState.PROPOSED, set()
        elif entry.action == TRUST_CONFIRMED:
            names = self._names.setdefault(entry.subject, set())
            names.add(folded_name(entry.actor))
            if len(names) >= CONFIRMATIONS:
                self.states[entry.subject] = AnchorState.ACTIVE
        elif entry.action == TRUST_RETIRED:
            self.states[entry.subject] = AnchorState.RETIRED


def _record(scope: Scope, told: _Told, erased: ErasureTold) -> Iterator[Finding]:
    check, count = RecordCheck(scope.anchors), 0
    for count, entry in enumerate(scope.tx.audit.survey(), 1):
        if isinstance(entry, UnreadableRow):
            yield unreadable(entry)
            check.skip()
            continue
        yield from map(_broken, check.take(entry))
        told.take(entry)
        erased.take(entry)
        if count % PAGE == 0:
            scope.progress("audit", count)
    yield from map(_broken, check.finish())
    scope.progress("audit", count)


def _broken(one: RecordBreak) -> Finding:
    return Finding(_BREAKS[one.kind], str(one.number), one.cause)


def _anchors(scope: Scope, told: _Told) -> Iterator[Finding]:
    count = 0
    for anchor in scope.tx.anchors.survey():
        count += 1
        if isinstance(anchor, UnreadableRow):
            yield unreadable(anchor)
            continue
        name = anchor.fingerprint.hex()
        said = told.states.get(name)
        if said is not anchor.state:
            detail = f"{anchor.state} in the list, {said or 'nothing'} in the record"
            yield Finding(FindingCode.ANCHOR_UNRECORDED, name, detail)
        if anchor.state is AnchorState.ACTIVE and not anchor.trusted:
            yield Finding(FindingCode.ANCHOR_UNCONFIRMED, name, f"{len(anchor.confirmed)} confirmations")
    scope.progress("anchors", count)


def _certificates(scope: Scope) -> Iterator[Finding]:
    count = 0
    for one in scope.tx.accounts.survey_certificates():
        count += 1
        if isinstance(one, UnreadableRow):
            yield unreadable(one)
            continue
        yield from _certificate(scope, one)
    scope.progress("certificates", count)


def _certificate(scope: Scope, one: BoundCertificate) -> Iterator[Finding]:
    name = f"{one.account_id}:{one.sha256.hex()}"
    if sha256(one.der).digest() != one.sha256:
        yield Finding(FindingCode.CERTIFICATE_OTHER_DIGEST, name)
    try:
        operator = scope.tx.accounts.operator(one.operator_id)
    except UNREADABLE:
        return  # found where persons are read
    if operator is None or operator.account_id != one.account_id:
        yield Finding(FindingCode.CERTIFICATE_OTHER_OPERATOR, name, one.operator_id)
    if one.withdrawn_at is not None and one.withdrawn_at < one.bound_at:
        yield Finding(FindingCode.CERTIFICATE_OTHER_TIME, name, "withdrawn before it was bound")
    elif (one.withdrawn_at is None) != (one.withdrawn_by is None):
        yield Finding(FindingCode.CERTIFICATE_OTHER_TIME, name, "withdrawn by nobody, or by somebody never")
