"""Whose certificate may sign for which account.

A signer is authorised by two things together, never by one: the keyed hash of the certificate's T.C. Kimlik
No. is that of a person who may send for the account now, and the certificate is bound to the account for that
person. Names and e-mail addresses of a certificate are what its holder asked to be written there: they are
read for display and never compared (signing.md 2.2 and 2.6).

====================================  =====================================================
signer                                outcome
====================================  =====================================================
certificate withdrawn from here       refused for ever, whatever its number says
number of nobody who may send         refused
bound here for this person            authorised
bound here for somebody else          refused
not bound, rule FIRST_USE             authorised, and to be bound with the acceptance
not bound, rule CHALLENGE             refused until it is bound by a signed challenge
qualified seal                        authorised only where bound by challenge and the account may use seals
====================================  =====================================================

Of several parallel signers each must be authorised: one stranger's signature beside the holder's refuses the
message, as a reader could not tell for whom the stranger signed.

spec: KEP-NE-08, KEP-NE-09, KEP-AC-01, KEP-AC-05, KEP-AP-05. Why so: ADR 0038.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hmac import compare_digest
from typing import Final

from directory.accounts import Account, Operator, Right
from directory.certificates import BoundCertificate
from evidence.nes.verifier import SignerIdentity
from kephs.domain.refusal_codes import RefusalCode
from kephs.ports import Tx

BY_CHALLENGE: Final = "challenge"
BY_FIRST_USE: Final = "first-use"


class BindingRule(StrEnum):
    """How a certificate that nobody bound yet comes to be bound.

    The rule speaks about new certificates: what is bound stays bound when it changes, until withdrawn.
    """

    FIRST_USE = "first-use"
    CHALLENGE = "challenge"


@dataclass(frozen=True, slots=True)
class SignerDecision:
    """Whether all signers of a message may sign for the account.

    ``to_bind``: new bindings, to be stored in the transaction that accepts the message and in no other.
    ``detail``: for the log, without names or numbers of persons. ``refusal``: why not; None where authorised.
    """

    authorised: bool
    to_bind: tuple[BoundCertificate, ...]
    detail: str
    refusal: RefusalCode | None = None


def judge_signers(
    signers: Sequence[SignerIdentity],
    operators: Sequence[Operator],
    certificates: Sequence[BoundCertificate],
    account: Account,
    *,
    mac: Callable[[str], bytes],
    at: datetime,
    rule: BindingRule,
) -> SignerDecision:
    """Judge the signers of a message whose signatures were found valid.

    Args:
        signers: who signed, all of them; none is refused.
        operators: who acts or acted for the account.
        certificates: what was bound to the account, also what was withdrawn; others' are ignored.
        account: for which the message is sent.
        mac: the keyed hash of a T.C. Kimlik No. (`IdentityKeeper.mac`).
        at: time of reception, aware.
        rule: what happens to a certificate that nobody bound yet.
    """
    if not signers:
        return _refused(RefusalCode.SIGNER_NOT_AUTHORISED, "nobody signed")
    here = [one for one in operators if one.account_id == account.account_id]
    mine = [one for one in certificates if one.account_id == account.account_id]
    bench = _Bench(account, here, mine, mac, at, rule)
    fresh: dict[bytes, BoundCertificate] = {}
    for number, signer in enumerate(signers, 1):
        found = bench.judge(signer)
        if isinstance(found, _No):
            return _refused(found.code, f"signer {number}: {found.detail}")
        if found is not None:
            fresh[found.sha256] = found
    return SignerDecision(
        authorised=True, to_bind=tuple(fresh.values()), detail=f"{len(signers)} signer(s), {len(fresh)} new"
    )


@dataclass(frozen=True, slots=True)
class _No:
    code: RefusalCode
    detail: str


@dataclass(frozen=True, slots=True)
class _Bench:
    """What signers of one message are judged by. ``operators``, ``certificates``: the account's own."""

    account: Account
    operators: Sequence[Operator]
    certificates: Sequence[BoundCertificate]
    mac: Callable[[str], bytes]
    at: datetime
    rule: BindingRule

    def judge(self, signer: SignerIdentity) -> BoundCertificate | _No | None:
        """Return what is to be bound, None where nothing is, or why the signer may not sign."""
        same = [one for one in self.certificates if one.sha256 == signer.certificate_sha256]
        if any(one.withdrawn_at is not None for one in same):
            return _No(RefusalCode.CERTIFICATE_WITHDRAWN, "its certificate was withdrawn from this account")
        return self._seal(same) if signer.seal else self._person(signer, same)

    def _seal(self, same: Sequence[BoundCertificate]) -> _No | None:
        """Judge a seal: it names no person, so only an operator's earlier act makes it the account's."""
        if not self.account.seals_allowed:
            return _No(RefusalCode.SIGNER_NOT_AUTHORISED, "a seal, and this account may not use seals")
        if not any(one.how == BY_CHALLENGE for one in same):
            return _No(RefusalCode.CERTIFICATE_NOT_BOUND, "a seal that was not bound by challenge")
        return None

    def _person(
        self, signer: SignerIdentity, same: Sequence[BoundCertificate]
    ) -> BoundCertificate | _No | None:
        if not signer.tckn:
            return _No(RefusalCode.SIGNER_NOT_AUTHORISED, "its certificate names no person's number")
        persons = persons_of(self.operators, self.mac(signer.tckn))
        sender = next((one for one in persons if one.may(Right.SEND, self.at)), None)
        if sender is None:
            return _No(RefusalCode.SIGNER_NOT_AUTHORISED, "nobody with this number may send for this account")
        if same:
            # a person who left and came back has a new operator id: the number says who it is bound for
            theirs = {one.operator_id for one in persons}
            if any(one.operator_id in theirs for one in same):
                return None
            return _No(RefusalCode.SIGNER_NOT_AUTHORISED, "its certificate is bound for another person")
        if self.rule is BindingRule.CHALLENGE:
            return _No(RefusalCode.CERTIFICATE_NOT_BOUND, "its certificate is not bound to this account")
        return BoundCertificate(
            sha256=signer.certificate_sha256,
            account_id=self.account.account_id,
            operator_id=sender.operator_id,
            der=signer.certificate,
            how=BY_FIRST_USE,
            bound_at=self.at,
            withdrawn_at=None,
            withdrawn_by=None,
        )


def add_binding(tx: Tx, account: Account, one: BoundCertificate, *, actor: str) -> None:
    """Store one binding with its entry in the process record (KEP-RT-01).

    Raises:
        ConflictError: it is bound already.
    """
    tx.accounts.add_certificate(one)
    tx.audit.add(
        at=one.bound_at, actor=actor, action="certificate.bound", subject=str(account.address),
        detail=f"{one.sha256.hex()} {one.how} {one.operator_id}",
    )  # fmt: skip


def persons_of(operators: Iterable[Operator], identity_mac: bytes) -> list[Operator]:
    """Return the operators, past ones too, who are the person with this keyed hash."""
    return [one for one in operators if compare_digest(one.identity_mac, identity_mac)]


def _refused(code: RefusalCode, detail: str) -> SignerDecision:
    return SignerDecision(authorised=False, to_bind=(), detail=detail, refusal=code)
