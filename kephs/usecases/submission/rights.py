"""What a person may do in a mailbox now, and how a mailbox refuses.

What the ticks of an operator (KEP-AC-05) mean for mailboxes: READ shows content and sets flags, DELETE marks
and removes items, removes folders, and moves to the trash; ARCHIVE makes, renames and subscribes folders and
files items in them (copy, move, append); SEND files copies in Giden and Taslaklar.
"""

from datetime import datetime

from directory.accounts import AccountState, Right
from kephs.domain.erasure import Removal, RemovalCause
from kephs.domain.mailboxes import FolderRole, MailboxRefusal
from kephs.domain.messages import Person
from kephs.ports import Tx
from kephs.usecases.people.sign_in import still_signed_in


class NotPermittedError(Exception):
    """The person lacks the right (KEP-AC-05)."""


class FolderGoneError(Exception):
    """The folder was removed while somebody looked at it."""


class MailboxRefusedError(Exception):
    """A change of the mailbox is refused; nothing was changed."""

    def __init__(self, refusal: MailboxRefusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal


def rights_of(tx: Tx, person: Person, at: datetime) -> Right:
    """Return the rights a person has in the account's mailbox; none after the account or sign-in ended."""
    operator = tx.accounts.operator(person.operator_id)
    account = tx.accounts.get(person.account_id)
    if operator is None or operator.account_id != person.account_id or not still_signed_in(tx, person):
        return Right(0)
    if account is None or account.state is AccountState.CLOSED:  # a blocked one may still be read
        return Right(0)
    return operator.rights if operator.may(operator.rights, at) else Right(0)


def demand(right: Right, rights: Right) -> None:
    """Make sure that a right is among those the person has.

    Raises:
        NotPermittedError: it is not.
    """
    if right not in rights:
        raise NotPermittedError


def removal_by(person: Person, at: datetime) -> Removal:
    """Return what is noted of items that a person removes for good."""
    return Removal(person.account_id, person.operator_id, person.name, RemovalCause.OWNER, at)


def right_to_file(role: FolderRole) -> Right:
    """Return the right that putting items into a folder asks for: into the trash that is deleting."""
    return Right.DELETE if role is FolderRole.TRASH else Right.ARCHIVE


def right_to_append(role: FolderRole) -> Right:
    """Return the right that appending asks for: drafts and sent copies are a sender's work."""
    return Right.SEND if role in (FolderRole.DRAFTS, FolderRole.SENT) else right_to_file(role)
