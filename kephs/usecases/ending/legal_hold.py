"""Setting and lifting legal holds (`kephs.domain.legal_hold`): each step one transaction with its record."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from directory.addresses import AddressError
from directory.providers import ProviderRegister
from kephs.domain.legal_hold import (
    ACTIONS,
    HoldError,
    HoldKind,
    HoldState,
    LegalHold,
    hold_detail,
    lift,
    new_hold,
)
from kephs.ports import Clock, Store, Tx
from kephs.usecases.proof.timeline import MessageAmbiguousError, MessageUnknownError, find_message


class HoldFault(StrEnum):
    """Why a step was refused. Stable."""

    NO_SUCH_MESSAGE = "no-such-message"
    AMBIGUOUS = "ambiguous-message-id"
    NO_SUCH_ACCOUNT = "no-such-account"
    NO_SUCH_HOLD = "no-such-hold"
    CONTENT_GONE = "content-gone"
    STEP = "step-not-allowed"


class HoldRefusedError(Exception):
    """A step was refused; the text says why, ``fault`` is stable."""

    def __init__(self, fault: HoldFault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class ShownHold:
    """A hold, and what its subject is called: a message's id or an account's address."""

    hold: LegalHold
    subject: str


class LegalHolds:
    """The steps of `kephs hold`."""

    def __init__(self, store: Store, clock: Clock, register: ProviderRegister) -> None:
        self._store, self._clock, self._register = store, clock, register

    async def hold_message(self, wanted: str, by: str, reason: str) -> ShownHold:
        """Keep a message's content from now on.

        Args:
            wanted: our id of it, or its Message-ID.
            by: the person.
            reason: why, such as the court's file number.

        Raises:
            HoldRefusedError: it is not clear which message, its content is destroyed, or nobody or no reason
                is named.
        """
        try:  # by a Message-ID every message is looked at: the writer need not wait for that
            message_id = (await self._store.read(lambda tx: find_message(tx, wanted))).message_id
        except MessageUnknownError:
            raise HoldRefusedError(HoldFault.NO_SUCH_MESSAGE, "no message has this id") from None
        except MessageAmbiguousError as error:
            raise HoldRefusedError(HoldFault.AMBIGUOUS, f"several have this Message-ID: {error}") from None

        def work(tx: Tx) -> ShownHold:
            message = tx.messages.get(message_id)
            parts = () if message is None else (message.digest_sha256, message.dispatch)
            if not any(part is not None and tx.blobs.get(part) is not None for part in parts):
                raise HoldRefusedError(
                    HoldFault.CONTENT_GONE, "nothing is left to hold: the content is destroyed or never kept"
                )
            return self._set(tx, HoldKind.MESSAGE, message_id, message_id, by, reason)

        return await self._store.write(work)

    async def hold_account(self, address: str, by: str, reason: str) -> ShownHold:
        """Keep from now on all content of an account: what it holds, sent, received, and will.

        Raises:
            HoldRefusedError: there is no such account, or nobody or no reason is named.
        """
        try:
            folded = str(self._register.parse(address))
        except AddressError as error:
            raise HoldRefusedError(HoldFault.NO_SUCH_ACCOUNT, str(error)) from None

        def work(tx: Tx) -> ShownHold:
            account = tx.accounts.by_address(folded)
            if account is None:
                raise HoldRefusedError(HoldFault.NO_SUCH_ACCOUNT, "no account has this address")
            return self._set(tx, HoldKind.ACCOUNT, account.account_id, folded, by, reason)

        return await self._store.write(work)

    async def lift(self, number: int, by: str, reason: str) -> ShownHold:
        """Note that a person wants a hold lifted; the second person lifts it.

        Raises:
            HoldRefusedError: there is none, it is lifted, or the same person asked before.
        """
        now = self._clock.now()

        def work(tx: Tx) -> ShownHold:
            hold = tx.holds.get(number)
            if hold is None:
                raise HoldRefusedError(HoldFault.NO_SUCH_HOLD, f"there is no hold {number}")
            try:
                after = lift(hold, by, now, reason)
            except HoldError as error:
                raise HoldRefusedError(HoldFault.STEP, str(error)) from None
            tx.holds.put(after)
            shown = _shown(tx, after)
            last = after.lifting[-1]
            _record(tx, shown, last.by, last.reason, last.at)
            return shown

        return await self._store.write(work)

    async def all(self) -> Sequence[ShownHold]:
        """Return every hold, also lifted ones, by number."""
        return await self._store.read(lambda tx: [_shown(tx, hold) for hold in tx.holds.all()])

    def _set(self, tx: Tx, kind: HoldKind, subject: str, name: str, by: str, reason: str) -> ShownHold:
        try:
            hold = tx.holds.add(new_hold(kind, subject, by, self._clock.now(), reason))
        except HoldError as error:
            raise HoldRefusedError(HoldFault.STEP, str(error)) from None
        shown = ShownHold(hold, name)
        _record(tx, shown, hold.set_by, hold.reason, hold.set_at)
        return shown


_ACTION_OF = {state: action for action, state in ACTIONS.items()}


def _record(tx: Tx, shown: ShownHold, by: str, reason: str, at: datetime) -> None:
    tx.audit.add(
        at=at, actor=by, action=_ACTION_OF[HoldState(shown.hold.state)], subject=shown.subject,
        detail=hold_detail(shown.hold.number, reason),
    )  # fmt: skip


def _shown(tx: Tx, hold: LegalHold) -> ShownHold:
    if hold.kind is HoldKind.MESSAGE:
        return ShownHold(hold, hold.subject)
    account = tx.accounts.get(hold.subject)
    return ShownHold(hold, hold.subject if account is None else str(account.address))
