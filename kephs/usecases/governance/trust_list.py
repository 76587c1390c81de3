"""Who is believed: certificates come in by import, count after two confirmations, go at once (KEP-RT-01).

Each step is one transaction that changes the list and adds to the process record. Certificates of a path that
is checked in the future must work then, so what our own verifier could not use is refused at the door.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Final

from evidence.x509.algorithms import verify_signature
from evidence.x509.certificates import KEY_CERT_SIGN, CertificateError, CertificateFacts, certificate_facts
from evidence.x509.chain import certificate_algorithm
from kephs.domain.trust_list import (
    TRUST_CONFIRMED,
    TRUST_IMPORTED,
    TRUST_RETIRED,
    AnchorKind,
    AnchorState,
    TrustAnchor,
    TrustListError,
    checked_name,
    confirm,
    propose_again,
    retire,
)
from kephs.ports import Clock, Store, Tx

EXPIRY_WARNING: Final = timedelta(days=90)
MOST_AT_ONCE: Final = 500


class TrustFault(StrEnum):
    """Why a step was refused. Stable."""

    UNREADABLE = "certificate-unreadable"
    NOT_A_CA = "not-an-authority"
    SELF_SIGNATURE = "self-signature-wrong"
    UNUSABLE = "certificate-unusable"
    EXPIRED = "certificate-expired"
    TEST = "test-certificate"
    TOO_MANY = "too-many-certificates"
    FINGERPRINT = "fingerprint-incomplete"
    UNKNOWN = "no-such-anchor"
    STEP = "step-not-allowed"


class TrustRefusedError(Exception):
    """A step was refused; the text says why, ``fault`` is stable."""

    def __init__(self, fault: TrustFault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Proposal:
    """What became of one certificate of an import. ``anchor`` is None where it was refused."""

    fingerprint: bytes
    label: str
    anchor: TrustAnchor | None
    fault: TrustFault | None = None
    problem: str = ""
    known: bool = False  # it was on the list, and nothing changed


@dataclass(frozen=True, slots=True)
class Door:
    """What this instance lets in: TEST certificates where it was made for tests, others always."""

    test_allowed: bool
    is_test: Callable[[bytes], bool]

    def kind_of(self, facts: CertificateFacts, at: datetime) -> AnchorKind:
        """Return as what a certificate may come on the list.

        Raises:
            TrustRefusedError: it may not.
        """
        if self.is_test(facts.der) and not self.test_allowed:
            raise TrustRefusedError(TrustFault.TEST, "a TEST certificate: this instance is not for tests")
        self._authority(facts)
        if at > facts.not_after:
            raise TrustRefusedError(TrustFault.EXPIRED, f"it expired on {facts.not_after:%Y-%m-%d}")
        if facts.subject != facts.issuer:
            return AnchorKind.INTERMEDIATE
        if not _signed_itself(facts):
            raise TrustRefusedError(
                TrustFault.SELF_SIGNATURE, "it names itself as issuer, but its own key did not sign it"
            )
        return AnchorKind.ROOT

    def _authority(self, facts: CertificateFacts) -> None:
        extensions = facts.extensions
        if not extensions.is_ca:
            raise TrustRefusedError(TrustFault.NOT_A_CA, "it is no certificate of an authority (CA)")
        if extensions.key_usage is not None and KEY_CERT_SIGN not in extensions.key_usage:
            raise TrustRefusedError(TrustFault.NOT_A_CA, "its key may not sign certificates")
        if facts.public_key is None or certificate_algorithm(facts) is None:
            raise TrustRefusedError(TrustFault.UNUSABLE, "its key or signature algorithm is not supported")
        if extensions.unknown_critical or extensions.name_constraints:
            raise TrustRefusedError(
                TrustFault.UNUSABLE, "it has a critical extension or name constraints that are not supported"
            )


def _signed_itself(facts: CertificateFacts) -> bool:
    algorithm = certificate_algorithm(facts)
    if algorithm is None or algorithm.hash_name is None:
        return False
    return verify_signature(facts.public_key, algorithm, algorithm.hash_name, facts.signature, facts.tbs)


def read_fingerprint(text: str) -> bytes:
    """Return a fingerprint that was typed whole: 64 hexadecimal digits; colons and spaces may stand between.

    Raises:
        TrustRefusedError: it is not whole. A beginning is never enough: it is what gets compared by eye.
    """
    digits = "".join(text.split()).replace(":", "")
    try:
        typed = bytes.fromhex(digits)
    except ValueError:
        typed = b""
    if len(typed) != sha256().digest_size:
        raise TrustRefusedError(
            TrustFault.FINGERPRINT,
            f"the whole SHA-256 fingerprint is needed, 64 hexadecimal digits; this has {len(digits)}",
        )
    return typed


class TrustList:
    """The steps of `kephs trust`.

    Args:
        store: of the instance.
        clock: the time.
        door: what may come in.
    """

    def __init__(self, store: Store, clock: Clock, door: Door) -> None:
        self._store, self._clock, self._door = store, clock, door

    async def anchors(self) -> Sequence[TrustAnchor]:
        """Return the whole list, by fingerprint."""
        return await self._store.read(lambda tx: list(tx.anchors.all()))

    async def propose(self, certificates: Sequence[bytes], by: str, source: str) -> list[Proposal]:
        """Put certificates on the list, PROPOSED; those refused are told of, the others come in.

        Args:
            certificates: DER.
            by: the person who imports them.
            source: where they come from, for the record.

        Raises:
            TrustRefusedError: the name is none, or there are too many.
        """
        if len(certificates) > MOST_AT_ONCE:
            raise TrustRefusedError(TrustFault.TOO_MANY, f"more than {MOST_AT_ONCE} certificates")
        name, at = _name(by), self._clock.now()
        wanted = list(dict.fromkeys(certificates))
        return await self._store.write(
            lambda tx: [_propose(tx, der, self._door, name, source, at) for der in wanted]
        )

    async def confirm(self, typed: str, by: str) -> TrustAnchor:
        """Confirm an anchor; the second person's makes it active.

        Args:
            typed: the whole fingerprint, as the person typed it.
            by: the person.

        Raises:
            TrustRefusedError: unknown, not whole, the same person, or not possible any more.
        """
        fingerprint, name, at = read_fingerprint(typed), _name(by), self._clock.now()

        def work(tx: Tx) -> TrustAnchor:
            anchor = _known(tx, fingerprint)
            self._door.kind_of(certificate_facts(anchor.der), at)  # it may have expired since
            return enter_confirmation(tx, anchor, name, at)

        return await self._store.write(work)

    async def retire(self, typed: str, by: str, reason: str) -> TrustAnchor:
        """Take trust from an anchor at once; one person is enough.

        Raises:
            TrustRefusedError: unknown, not whole, no reason, or retired before.
        """
        fingerprint, name, at = read_fingerprint(typed), _name(by), self._clock.now()

        def work(tx: Tx) -> TrustAnchor:
            anchor = _step(lambda: retire(_known(tx, fingerprint), name, at, reason))
            tx.anchors.put(anchor)
            _record(tx, anchor, TRUST_RETIRED, name, at, anchor.reason)
            return anchor

        return await self._store.write(work)


def adopt(
    tx: Tx, certificates: Iterable[bytes], door: Door, *, by: str, vouching: Sequence[str], source: str,
    at: datetime,
) -> list[Proposal]:  # fmt: skip
    """Put certificates on the list and confirm them, for programs that make or migrate an instance.

    Args:
        tx: the transaction.
        certificates: DER; those refused are told of.
        door: what may come in.
        by: who imports.
        vouching: who confirms; two make them active, none leaves them proposed.
        source: where they come from.
        at: the time.
    """
    made = []
    for der in certificates:
        proposal = _propose(tx, der, door, by, source, at)
        if proposal.anchor is not None and not proposal.known:
            for name in vouching:
                confirmed = enter_confirmation(tx, _known(tx, proposal.fingerprint), name, at)
                proposal = Proposal(proposal.fingerprint, proposal.label, confirmed)
        made.append(proposal)
    return made


def enter_confirmation(tx: Tx, anchor: TrustAnchor, name: str, at: datetime) -> TrustAnchor:
    """Confirm an anchor within a transaction.

    Raises:
        TrustRefusedError: the same person, or not possible any more.
    """
    confirmed = _step(lambda: confirm(anchor, name, at))
    tx.anchors.put(confirmed)
    now = "active" if confirmed.state is AnchorState.ACTIVE else "one more confirmation needed"
    _record(tx, confirmed, TRUST_CONFIRMED, name, at, now)
    return confirmed


def active(anchors: Iterable[TrustAnchor]) -> tuple[list[bytes], list[bytes]]:
    """Return the certificates that count: roots and intermediates, DER."""
    trusted = [anchor for anchor in anchors if anchor.trusted]
    roots = [anchor.der for anchor in trusted if anchor.kind is AnchorKind.ROOT]
    return roots, [anchor.der for anchor in trusted if anchor.kind is AnchorKind.INTERMEDIATE]


def _propose(tx: Tx, der: bytes, door: Door, name: str, source: str, at: datetime) -> Proposal:
    fingerprint = sha256(der).digest()
    try:
        facts = certificate_facts(der)
        label, kind = facts.label, door.kind_of(facts, at)
    except CertificateError as error:
        return Proposal(fingerprint, "", None, TrustFault.UNREADABLE, str(error))
    except TrustRefusedError as error:
        return Proposal(fingerprint, facts.label, None, error.fault, str(error))
    anchor = tx.anchors.get(fingerprint)
    if anchor is None:
        anchor = TrustAnchor(fingerprint, der, kind, label, AnchorState.PROPOSED, name, at)
    elif anchor.state is AnchorState.RETIRED:
        anchor = _step(lambda: propose_again(_known(tx, fingerprint), name, at))
    else:
        return Proposal(fingerprint, label, anchor, known=True)
    tx.anchors.put(anchor)
    _record(tx, anchor, TRUST_IMPORTED, name, at, source)
    return Proposal(fingerprint, label, anchor)


def _known(tx: Tx, fingerprint: bytes) -> TrustAnchor:
    anchor = tx.anchors.get(fingerprint)
    if anchor is None:
        raise TrustRefusedError(TrustFault.UNKNOWN, "no certificate with this fingerprint is on the list")
    return anchor


def _step(work: Callable[[], TrustAnchor]) -> TrustAnchor:
    try:
        return work()
    except TrustListError as error:
        raise TrustRefusedError(TrustFault.STEP, str(error)) from None


def _name(text: str) -> str:
    try:
        return checked_name(text)
    except TrustListError as error:
        raise TrustRefusedError(TrustFault.STEP, str(error)) from None


def _record(tx: Tx, anchor: TrustAnchor, action: str, name: str, at: datetime, detail: str) -> None:
    text = f"{anchor.kind} {anchor.label[:300]}: {detail[:1000]}"
    tx.audit.add(at=at, actor=name, action=action, subject=anchor.fingerprint.hex(), detail=text)
