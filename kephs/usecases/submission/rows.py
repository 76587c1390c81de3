"""What submission reads of the store, in one look, and the binding it may add to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from directory.accounts import Account, Operator
from directory.certificates import BoundCertificate
from evidence.model.records import EvidenceKind
from kephs.domain.messages import Person, Submission
from kephs.ports import Tx
from kephs.usecases.people.sign_in import still_signed_in
from kephs.usecases.submission.form import Form

CERTIFICATE_BOUND: Final = "certificate.bound"
"""Action of the process record's entry (KEP-RT-01)."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """The message accepted before under the same Message-ID."""

    digest: bytes
    message_id: str
    evidence_id: str


@dataclass(frozen=True, slots=True)
class Known:
    """What the store knows about the sender: account, people, bound certificates, an earlier message.

    ``names``: of recipients' holders, by address.
    """

    account: Account
    operators: tuple[Operator, ...]
    certificates: tuple[BoundCertificate, ...]
    names: Mapping[str, str]
    earlier: Earlier | None


def look(tx: Tx, person: Person, form: Form) -> Known | None:
    """Return what is known; None where account or app password went since the person signed in."""
    account = tx.accounts.get(person.account_id)
    if account is None or not still_signed_in(tx, person):
        return None
    # names come from our accounts, never from what the sender wrote: evidence must not repeat inventions
    found = tx.accounts.by_addresses([str(r.address) for r in form.recipients])
    return Known(
        account,
        tuple(tx.accounts.operators(person.account_id)),
        tuple(tx.accounts.certificates(person.account_id)),
        {address: holder.holder_name for address, holder in found.items()},
        earlier_of(tx, person.account_id, form.user_message_id),
    )


def earlier_of(tx: Tx, account_id: str, user_message_id: str | None) -> Earlier | None:
    """Return the message that the account sent before under this Message-ID."""
    found = tx.messages.accepted_with(account_id, user_message_id) if user_message_id else None
    if found is None:
        return None
    first = next(
        e for e in tx.evidence.of_message(found.message_id) if e.kind is EvidenceKind.SUBMISSION_ACCEPTANCE
    )
    return Earlier(found.digest_sha256, found.message_id, first.evidence_id)


def bind(tx: Tx, one: BoundCertificate, submission: Submission) -> None:
    """Bind a certificate that signs for the account the first time, unless another message just did."""
    if any(known.sha256 == one.sha256 for known in tx.accounts.certificates(one.account_id)):
        return
    tx.accounts.add_certificate(one)
    tx.audit.add(
        at=one.bound_at, actor=submission.operator_id or one.operator_id, action=CERTIFICATE_BOUND,
        subject=submission.sender.address,
        detail=f"{one.sha256.hex()} {one.how}, message {submission.message_id}",
    )  # fmt: skip
