"""Certificates of an account: list, bind by signed challenge, withdraw; and whether seals may sign.

spec: KEP-NE-08, KEP-NE-09, KEP-RT-01. Why so: ADR 0038.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Final

from directory.accounts import Account, AccountKind, AccountState, Operator, Right
from directory.certificates import BoundCertificate
from evidence.asn1.der import DerError
from evidence.cms.reading import parse_signed_data
from evidence.nes.policy import NesPolicy
from evidence.nes.verifier import SenderReport, SignerIdentity, conclude, prepare_signature
from evidence.ports import BytesSource
from evidence.report import SubIndication, Verdict
from evidence.x509.certificates import CertificateFacts, certificate_facts
from evidence.x509.chain import TrustStore
from kephs.domain.lifecycle import BindingEvent, UnknownTransitionError, advance_binding
from kephs.ports import Clock, IdentityKeeper, Ids, Offload, Revocation, Store, Tx
from kephs.usecases.people.accounts import SHELL, AccountWork
from kephs.usecases.people.binding_challenge import (
    CHALLENGE_LIFE,
    Challenge,
    ChallengeError,
    read_challenge,
    write_challenge,
)
from kephs.usecases.sized import run_sized
from kephs.usecases.submission.signers import BY_CHALLENGE, add_binding, persons_of

SIGNATURE_MAX: Final = 1 << 20
"""Octets of a signature over a challenge; certificates and time stamps are far below."""


class BindingFault(StrEnum):
    """Why a certificate was not bound or withdrawn. Stable codes."""

    CHALLENGE_INVALID = "challenge-invalid"
    CHALLENGE_EXPIRED = "challenge-expired"
    CHALLENGE_ELSEWHERE = "challenge-elsewhere"
    OTHER_CONTENT = "other-content-signed"
    SIGNATURE_NOT_VALID = "signature-not-valid"
    REVOCATION_UNKNOWN = "revocation-unknown"
    SEVERAL_SIGNERS = "several-signers"
    OTHER_PERSON = "other-person"
    NO_SUCH_OPERATOR = "no-such-operator"
    SEALS_OFF = "seals-off"
    SEALS_NOT_ALLOWED = "seals-not-allowed"
    SEAL_NEEDS_MANAGER = "seal-needs-manager"
    SEALS_NOT_FOR_PERSONS = "seals-not-for-persons"
    ALREADY_BOUND = "certificate-already-bound"
    WITHDRAWN = "certificate-withdrawn"
    NO_SUCH_CERTIFICATE = "no-such-certificate"
    ACCOUNT_CLOSED = "account-closed"


class BindingError(Exception):
    """Work on certificates refused; ``fault`` is the stable code, ``report`` the verifier's, if any."""

    def __init__(self, fault: BindingFault, text: str, report: SenderReport | None = None) -> None:
        """Keep the code beside the text."""
        super().__init__(text)
        self.fault, self.report = fault, report


class CertificateState(StrEnum):
    """What a bound certificate is worth at a time. Time alone moves between the first three."""

    NOT_YET_VALID = "not-yet-valid"
    VALID = "valid"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class ListedCertificate:
    """One certificate of an account. ``days_left``: whole days of validity, 0 where none is left."""

    bound: BoundCertificate
    operator_name: str
    facts: CertificateFacts
    state: CertificateState
    days_left: int


@dataclass(frozen=True, slots=True)
class _Asked:
    """Who wants to bind what, as the store knows them."""

    account: Account
    operator: Operator
    at: datetime


class CertificateWork:
    """All that binds certificates to accounts, but first use (`judge_signers`)."""

    def __init__(
        self, *, accounts: AccountWork, store: Store, identity: IdentityKeeper, revocation: Revocation,
        trust: TrustStore, policy: NesPolicy, offload: Offload, clock: Clock, ids: Ids,
    ) -> None:  # fmt: skip
        self._accounts, self._store, self._identity = accounts, store, identity
        self._revocation, self._trust, self._policy = revocation, trust, policy
        self._offload, self._clock, self._ids = offload, clock, ids

    async def challenge(self, address: str, operator_id: str | None = None) -> bytes:
        """Return a text to be signed by the operator's certificate (None: the holder's) within ten minutes.

        Raises:
            AccountError: no such account.
            BindingError: no such operator now, or the account is closed.
        """
        asked = await self._asked(await self._accounts.find(address), operator_id)
        until = asked.at.replace(microsecond=0) + CHALLENGE_LIFE
        challenge = Challenge(asked.account.account_id, asked.operator.operator_id, until, self._ids.token())
        return write_challenge(
            challenge, address=str(asked.account.address), person=asked.operator.name, mac=self._identity.mac
        )

    async def bind(
        self, address: str, challenge: bytes, signature: bytes, *, actor: str = SHELL
    ) -> BoundCertificate:
        """Bind the certificate that signed a challenge of ours.

        The signature must be valid now as a sender's is: qualified, path, revocation. A challenge works once
        for one certificate, because a certificate is bound once and never again after it was withdrawn.

        Args:
            address: of the account.
            challenge: exactly what `challenge` returned.
            signature: CMS over exactly these bytes, DER, detached or with them inside.
            actor: who does it, for the process record.

        Raises:
            AccountError: no such account.
            BindingError: see `BindingFault`; nothing was bound.
        """
        read, account = self._read(challenge), await self._accounts.find(address)
        if read.account_id != account.account_id:
            raise BindingError(BindingFault.CHALLENGE_ELSEWHERE, "the text was made for another account")
        asked = await self._asked(account, read.operator_id)
        if asked.at >= read.valid_until:
            raise BindingError(BindingFault.CHALLENGE_EXPIRED, f"the text was valid until {read.valid_until}")
        report = await self._verify(asked, challenge, signature)
        signer = self._signer(asked, report)
        return await self._store_binding(asked, signer, actor)

    async def withdraw(self, address: str, fingerprint: bytes, *, by: str) -> BoundCertificate:
        """Withdraw a bound certificate; it signs for this account never again.

        Args:
            address: of the account.
            fingerprint: SHA-256 of the certificate.
            by: who does it; kept with it.

        Raises:
            AccountError: no such account.
            BindingError: it is not bound to the account, or is withdrawn already.
        """
        account, now = await self._accounts.find(address), self._clock.now()

        def commit(tx: Tx) -> BoundCertificate:
            rows = tx.accounts.certificates(account.account_id)
            same = [one for one in rows if one.sha256 == fingerprint]
            if not same:
                raise BindingError(
                    BindingFault.NO_SUCH_CERTIFICATE, "no such certificate was bound to this account"
                )
            try:
                advance_binding(same[-1].state, BindingEvent.WITHDRAW)
            except UnknownTransitionError:
                raise BindingError(
                    BindingFault.WITHDRAWN, f"it was withdrawn at {same[-1].withdrawn_at}"
                ) from None
            tx.accounts.withdraw_certificate(account.account_id, fingerprint, now, by)
            tx.audit.add(
                at=now, actor=by, action="certificate.withdrawn", subject=str(account.address),
                detail=fingerprint.hex(),
            )  # fmt: skip
            return replace(same[-1], withdrawn_at=now, withdrawn_by=by)

        return await self._store.write(commit)

    async def list(self, address: str) -> Sequence[ListedCertificate]:
        """Return all certificates that were ever bound to an account, oldest first.

        Raises:
            AccountError: no such account.
        """
        account, now = await self._accounts.find(address), self._clock.now()
        rows, operators = await self._store.read(
            lambda tx: (
                tuple(tx.accounts.certificates(account.account_id)),
                {one.operator_id: one.name for one in tx.accounts.operators(account.account_id)},
            )
        )
        return [_listed(one, operators.get(one.operator_id, ""), now) for one in rows]

    async def allow_seals(self, address: str, *, allowed: bool, by: str) -> Account:
        """Say whether a qualified seal may sign for an account (law 5070 article 2.1).

        Raises:
            AccountError: no such account.
            BindingError: the account is a person's, and persons have no seal; it is closed; or this provider
                takes no seals at all (``trust.allow_qualified_seals``). Taking it back is always possible.
        """
        account, now = await self._accounts.find(address), self._clock.now()
        if allowed:
            self._check_seals(account)

        def commit(tx: Tx) -> Account:
            tx.accounts.set_seals_allowed(account.account_id, allowed)
            action = "account.seals-allowed" if allowed else "account.seals-refused"
            tx.audit.add(at=now, actor=by, action=action, subject=str(account.address))
            return tx.accounts.get(account.account_id) or account

        return await self._store.write(commit)

    def _check_seals(self, account: Account) -> None:
        _check_open(account)
        if not self._policy.allow_seals:
            raise BindingError(BindingFault.SEALS_OFF, "this provider takes no qualified seals")
        if account.kind is not AccountKind.LEGAL_PERSON:
            raise BindingError(
                BindingFault.SEALS_NOT_FOR_PERSONS, "only an organisation's own account may use its seal"
            )

    # --- parts of binding ---------------------------------------------------------------------

    async def _asked(self, account: Account, operator_id: str | None) -> _Asked:
        now = self._clock.now()
        _check_open(account)
        operators = await self._store.read(lambda tx: tuple(tx.accounts.operators(account.account_id)))
        for one in operators:
            wanted = one.operator_id == operator_id if operator_id is not None else one.is_holder
            if wanted and one.may(one.rights, now):
                return _Asked(account, one, now)
        raise BindingError(BindingFault.NO_SUCH_OPERATOR, "nobody with this id acts for the account now")

    def _read(self, challenge: bytes) -> Challenge:
        try:
            return read_challenge(challenge, mac=self._identity.mac)
        except ChallengeError as error:
            raise BindingError(BindingFault.CHALLENGE_INVALID, str(error)) from None

    async def _verify(self, asked: _Asked, challenge: bytes, signature: bytes) -> SenderReport:
        """Return a report that passed, over exactly these bytes."""
        inside = _content_inside(signature)
        if inside is not None and inside != challenge:
            raise BindingError(BindingFault.OTHER_CONTENT, "what was signed is not exactly the binding text")
        seals = self._policy.allow_seals and asked.account.seals_allowed
        policy = replace(self._policy, allow_seals=seals)
        content = BytesSource(challenge) if inside is None else None
        prepared = await run_sized(
            self._offload, len(signature),
            lambda: prepare_signature(signature, content, trust=self._trust, policy=policy, at=asked.at),
        )  # fmt: skip
        answers = {
            certificate.sha256: await self._revocation.status(certificate, issuer, asked.at)
            for certificate, issuer in prepared.needs
        }
        report = conclude(prepared, answers, asked.at)
        if report.verdict is Verdict.PASSED:
            return report
        if not seals and any(signer.seal for signer in report.signers):
            raise _no_seals()
        failing = report.report.failing_step
        cause = f"step {failing.number}, {failing.name}: {failing.detail}" if failing is not None else ""
        if report.sub_indication is SubIndication.TRY_LATER:
            raise BindingError(BindingFault.REVOCATION_UNKNOWN, cause, report)
        if report.sub_indication is SubIndication.HASH_FAILURE:
            raise BindingError(BindingFault.OTHER_CONTENT, cause, report)
        raise BindingError(BindingFault.SIGNATURE_NOT_VALID, f"{report.sub_indication}: {cause}", report)

    def _signer(self, asked: _Asked, report: SenderReport) -> SignerIdentity:
        """Return the one who signed, if it is the operator or a seal that the operator may bind."""
        if len(report.signers) != 1:
            raise BindingError(BindingFault.SEVERAL_SIGNERS, f"{len(report.signers)} signers")
        (signer,) = report.signers
        if signer.seal:  # the policy lets it pass only where the account may use seals
            if not asked.operator.may(Right.MANAGE, asked.at):
                raise BindingError(
                    BindingFault.SEAL_NEEDS_MANAGER,
                    "a seal is bound by an operator who may manage the account",
                )
            return signer
        if not signer.tckn or not persons_of((asked.operator,), self._identity.mac(signer.tckn)):
            raise BindingError(
                BindingFault.OTHER_PERSON, "the certificate's T.C. Kimlik No is not this operator's"
            )
        return signer

    async def _store_binding(self, asked: _Asked, signer: SignerIdentity, actor: str) -> BoundCertificate:
        found = BoundCertificate(
            sha256=sha256(signer.certificate).digest(),
            account_id=asked.account.account_id,
            operator_id=asked.operator.operator_id,
            der=signer.certificate,
            how=BY_CHALLENGE,
            bound_at=asked.at,
        )

        def commit(tx: Tx) -> BoundCertificate:
            account = tx.accounts.get(found.account_id) or asked.account
            _check_open(account)
            if signer.seal and not account.seals_allowed:  # somebody may have taken it back meanwhile
                raise _no_seals()
            _check_new(tx.accounts.certificates(account.account_id), found)
            add_binding(tx, account, found, actor=actor)
            return found

        return await self._store.write(commit)


def _no_seals() -> BindingError:
    return BindingError(BindingFault.SEALS_NOT_ALLOWED, "this account may not use seals")


def _check_open(account: Account) -> None:
    if account.state is AccountState.CLOSED:
        raise BindingError(BindingFault.ACCOUNT_CLOSED, "a closed account signs nothing")


def _check_new(known: Sequence[BoundCertificate], one: BoundCertificate) -> None:
    same = [other for other in known if other.sha256 == one.sha256]
    if any(other.withdrawn_at is not None for other in same):
        raise BindingError(
            BindingFault.WITHDRAWN, "this certificate was withdrawn from the account, which is for ever"
        )
    if same:
        raise BindingError(BindingFault.ALREADY_BOUND, "this certificate is bound to the account already")


def _content_inside(signature: bytes) -> bytes | None:
    """Return the content that a signature carries, None where it is detached."""
    if len(signature) > SIGNATURE_MAX:
        raise BindingError(BindingFault.SIGNATURE_NOT_VALID, f"more than {SIGNATURE_MAX} octets")
    try:
        signed = parse_signed_data(signature)
    except DerError as error:
        raise BindingError(BindingFault.SIGNATURE_NOT_VALID, f"no CMS signature in DER: {error}") from None
    if signed.content_span is None:
        return None
    start, end = signed.content_span
    return signed.der[start:end]


def _listed(one: BoundCertificate, name: str, now: datetime) -> ListedCertificate:
    facts = certificate_facts(one.der)
    if one.withdrawn_at is not None:
        state = CertificateState.WITHDRAWN
    elif now > facts.not_after:
        state = CertificateState.EXPIRED
    else:
        state = CertificateState.VALID if facts.not_before <= now else CertificateState.NOT_YET_VALID
    return ListedCertificate(one, name, facts, state, max(0, (facts.not_after - now) // timedelta(days=1)))
