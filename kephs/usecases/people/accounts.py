"""Opening, blocking and closing accounts; operators and app passwords.

spec: KEP-AC-01..09, KEP-AD-03, KEP-AD-06, KEP-CL-01..07, KEP-QU-01.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from directory.accounts import (
    ALL_RIGHTS,
    Account,
    AccountKind,
    AccountState,
    AppPassword,
    Operator,
    Right,
    ServiceType,
    fits,
)
from directory.addresses import AddressError, KepAddress, fold
from directory.identity import is_identity_number
from directory.providers import ProviderRegister, Served
from kephs.domain.lifecycle import AccountEvent, UnknownTransitionError, advance_account
from kephs.domain.policy import MIB
from kephs.ports import Clock, IdentityKeeper, Ids, Passwords, Store, Tx
from kephs.ports.hand_over import ForeignState
from kephs.usecases.ending.erase import erase_later

FREE_QUOTA: Final = 100 * MIB  # spec: KEP-QU-01
BLOCK_MIN: Final = timedelta(days=92)  # spec: KEP-CL-01; three calendar months are never longer
SHELL: Final = "shell"
"""Who acted, in the process record, where only the machine's operator can have been it."""
DETAIL_MAX: Final = 1_000  # characters of what a person wrote, in the process record

_FORMS: Final[Mapping[AccountKind, str]] = MappingProxyType(
    {
        AccountKind.REAL_PERSON: "a real person's address is ad.soyad@{0}, or ad.soyad.2@{0} where taken",
        AccountKind.LEGAL_PERSON: "a legal person's address is kurum@{0}, kurum.birim@{0} or birim@kurum.{0}",
        AccountKind.CORPORATE_MEMBER: "a corporate member's address is ad.soyad@kurum.{0}",
    }
)  # spec: KEP-AD-01, KEP-AD-05

_DONE: Final[Mapping[AccountEvent, str]] = MappingProxyType(
    {
        AccountEvent.ACTIVATE: "account.activated",
        AccountEvent.BLOCK: "account.blocked",
        AccountEvent.UNBLOCK: "account.unblocked",
        AccountEvent.CLOSE: "account.closed",
    }
)  # names of actions in the process record


class AccountFault(StrEnum):
    """Why account work was not done. Stable codes."""

    ADDRESS_INVALID = "address-invalid"
    ADDRESS_ELSEWHERE = "address-elsewhere"
    ADDRESS_TAKEN = "address-taken"
    IDENTITY_INVALID = "identity-invalid"
    NO_SUCH_ACCOUNT = "no-such-account"
    NOT_POSSIBLE_NOW = "not-possible-now"
    BLOCKED_TOO_SHORT = "blocked-too-short"


class AccountError(Exception):
    """Account work refused; ``fault`` is the stable code, the text names the cure."""

    def __init__(self, fault: AccountFault, text: str) -> None:
        """Keep the code beside the text."""
        super().__init__(text)
        self.fault = fault


class ApplicationFault(StrEnum):
    """Which rule about who holds and who acts an application breaks. Stable codes."""

    ADDRESS_FORM = "address-form"
    PERSON_MISSING = "person-missing"
    OPERATOR_EXISTS = "operator-exists"


class ApplicationError(Exception):
    """An application refused; ``fault`` is the stable code, the text names the rule."""

    def __init__(self, fault: ApplicationFault, text: str) -> None:
        """Keep the code beside the text."""
        super().__init__(text)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Opening:
    """What is needed to open an account, checked on paper or by signature before (KEP-AP-01..08).

    ``person_name`` and ``identity_number`` are the holder's, or the main operator's of an organisation.
    """

    address: str
    kind: AccountKind
    service: ServiceType
    holder_name: str
    person_name: str
    identity_number: str
    quota_bytes: int = FREE_QUOTA


class AccountWork:
    """All that changes accounts. The process record names each change and its ``actor`` (KEP-RT-01)."""

    def __init__(
        self, *, store: Store, identity: IdentityKeeper, passwords: Passwords, clock: Clock, ids: Ids,
        register: ProviderRegister,
    ) -> None:  # fmt: skip
        self._store, self._identity, self._passwords = store, identity, passwords
        self._clock, self._ids, self._register = clock, ids, register

    async def apply(self, opening: Opening, *, actor: str = SHELL) -> Account:
        """Open an account for an applicant, whose address must have the form of its kind (KEP-AD-01).

        Raises:
            ApplicationError: the address has another form, or see `open`.
            AccountError: see `open`.
        """
        await self._check_foreign(opening.address)
        address = self._address_here(opening.address)
        if not fits(address, opening.kind):
            form = _FORMS[opening.kind].format(address.provider)
            raise ApplicationError(ApplicationFault.ADDRESS_FORM, form)
        return await self.open(opening, actor=actor)

    async def open(self, opening: Opening, *, actor: str = SHELL) -> Account:
        """Open an active account with its folders and its holder or main operator.

        Raises:
            AccountError: address unusable or taken (closed ones stay taken, KEP-CL-05), identity wrong.
            ApplicationError: an organisation names no person who acts for it.
        """
        await self._check_foreign(opening.address)
        address = self._address_here(opening.address)
        _check_person(opening)
        self._check_identity(opening.identity_number)
        now = self._clock.now()
        account = Account(
            self._ids.new(), address, opening.kind, opening.service, AccountState.ACTIVE,
            opening.holder_name, opening.quota_bytes, 0, now, now,
        )  # fmt: skip
        operator = self._operator(
            account.account_id, opening.person_name, opening.identity_number, holder=True
        )

        def commit(tx: Tx) -> None:
            _check_kept(tx, str(address))
            if tx.accounts.by_address(str(address)) is not None:
                raise AccountError(
                    AccountFault.ADDRESS_TAKEN, "choose another, for example with .1 at the end"
                )
            tx.accounts.add(account)
            tx.accounts.add_operator(operator)
            tx.mailboxes.create_standard(account.account_id, int(now.timestamp()))
            _note(tx, now, actor, "account.opened", account, f"{account.kind.value} {account.service.value}")

        await self._store.write(commit)
        return account

    async def add_operator(
        self, address: str, name: str, identity_number: str, rights: Right, *, actor: str = SHELL
    ) -> Operator:
        """Add a person who may act for the account.

        Raises:
            AccountError: no such account, or the identity number is wrong.
            ApplicationError: the person acts for the account already.
        """
        self._check_identity(identity_number)
        account = await self.find(address)
        operator = self._operator(account.account_id, name, identity_number, rights=rights)

        def commit(tx: Tx) -> None:
            for known in tx.accounts.operators(account.account_id):
                ended = known.valid_until is not None and known.valid_until <= operator.valid_from
                if known.identity_mac == operator.identity_mac and not ended:
                    raise ApplicationError(
                        ApplicationFault.OPERATOR_EXISTS, "this person acts for this account already"
                    )
            tx.accounts.add_operator(operator)
            given = ",".join(str(right.name).lower() for right in Right if right in rights)
            detail = f"{operator.operator_id} {given}"
            _note(tx, operator.valid_from, actor, "account.operator-added", account, detail)

        await self._store.write(commit)
        return operator

    async def add_password(
        self, address: str, secret: str, *, label: str, operator_id: str | None = None, actor: str = SHELL
    ) -> None:
        """Add an app password for the holder, or for one operator. The first six characters select it.

        Raises:
            AccountError: no such account or operator.
        """
        account = await self.find(address)
        operators = await self._store.read(lambda tx: tx.accounts.operators(account.account_id))
        chosen = next(
            (o for o in operators if (o.operator_id == operator_id if operator_id else o.is_holder)), None
        )
        if chosen is None:
            raise AccountError(AccountFault.NO_SUCH_ACCOUNT, "no such operator of this account")
        password = AppPassword(
            secret[:6], account.account_id, chosen.operator_id, label,
            await self._passwords.hash(secret), self._clock.now(),
        )  # fmt: skip

        def commit(tx: Tx) -> None:
            tx.accounts.add_password(password)
            detail = f"{chosen.operator_id} {label}"[:DETAIL_MAX]
            _note(tx, password.created_at, actor, "account.password-added", account, detail)

        await self._store.write(commit)

    async def revoke_password(self, address: str, password_id: str, *, actor: str = SHELL) -> bool:
        """Revoke an app password; False where the account has no valid one with this id.

        Raises:
            AccountError: no such account.
        """
        account, now = await self.find(address), self._clock.now()

        def commit(tx: Tx) -> bool:
            done = tx.accounts.revoke_password(account.account_id, password_id, now)
            if done:
                _note(tx, now, actor, "account.password-revoked", account, password_id)
            return done

        return await self._store.write(commit)

    async def block(self, address: str, *, actor: str = SHELL) -> Account:
        """Block an account: no sending, no receiving; reading goes on (KEP-CL-01, KEP-CL-04)."""
        return await self._move(address, AccountEvent.BLOCK, actor)

    async def unblock(self, address: str, *, actor: str = SHELL) -> Account:
        """Make a blocked account active again."""
        return await self._move(address, AccountEvent.UNBLOCK, actor)

    async def close(self, address: str, *, actor: str = SHELL) -> Account:
        """Close an account that was blocked for three months; its address is never given to anyone else."""
        return await self._move(address, AccountEvent.CLOSE, actor)

    async def find(self, address: str) -> Account:
        """Return the account of an address.

        Raises:
            AccountError: there is none.
        """
        try:
            folded = str(self._register.parse(address))
        except AddressError as error:
            raise AccountError(AccountFault.ADDRESS_INVALID, f"{error}") from None
        account = await self._store.read(lambda tx: tx.accounts.by_address(folded))
        if account is None:
            raise AccountError(AccountFault.NO_SUCH_ACCOUNT, "no account has this address")
        return account

    async def _move(self, address: str, event: AccountEvent, actor: str) -> Account:
        account, now = await self.find(address), self._clock.now()

        def commit(tx: Tx) -> Account:
            current = tx.accounts.get(account.account_id) or account
            _check_block(current, event, now)
            try:
                state = advance_account(current.state, event)
            except UnknownTransitionError:
                raise AccountError(
                    AccountFault.NOT_POSSIBLE_NOW,
                    f"the account is {current.state.value}; {event.value} is not possible",
                ) from None
            tx.accounts.set_state(current.account_id, state, now)
            if state is AccountState.CLOSED:
                erase_later(tx, current.account_id, now, actor)
            _note(tx, now, actor, _DONE[event], current)
            return tx.accounts.get(current.account_id) or current

        return await self._store.write(commit)

    async def _check_foreign(self, text: str) -> None:
        """Refuse addresses of providers taken over, whoever serves their domain by now."""
        try:
            address = str(self._register.parse(text))
        except AddressError:
            return  # told of by whoever parses it next
        await self._store.read(lambda tx: _check_kept(tx, address))

    def _address_here(self, text: str) -> KepAddress:
        try:
            address = self._register.parse(text)
        except AddressError as error:
            raise AccountError(AccountFault.ADDRESS_INVALID, f"{error}") from None
        if self._register.served(address) is not Served.HERE:
            raise AccountError(AccountFault.ADDRESS_ELSEWHERE, f"addresses here end in {self._register.own}")
        return address

    def _check_identity(self, number: str) -> None:
        if not is_identity_number(number):
            raise AccountError(AccountFault.IDENTITY_INVALID, "check digits of the T.C. Kimlik No are wrong")

    def _operator(
        self, account_id: str, name: str, identity: str, *, holder: bool = False, rights: Right = ALL_RIGHTS
    ) -> Operator:
        return Operator(
            self._ids.new(), account_id, name, self._identity.mac(identity), rights, holder,
            self._clock.now(), None,
        )  # fmt: skip


def _note(tx: Tx, at: datetime, actor: str, action: str, account: Account, detail: str = "") -> None:
    tx.audit.add(at=at, actor=actor, action=action, subject=str(account.address), detail=detail)


def _check_kept(tx: Tx, address: str) -> None:
    """Refuse an address that a provider taken over closed, or that its holder has (KEP-CL-05, KEP-TM-02)."""
    kept = tx.foreign.address(address)
    if kept is not None:
        cause = (
            "was closed there and is never given again"
            if kept.state is ForeignState.CLOSED
            else "is its holder's"
        )
        raise AccountError(AccountFault.ADDRESS_TAKEN, f"taken over from {kept.domain}: this address {cause}")


def _check_person(opening: Opening) -> None:
    """Refuse an organisation that would act itself: evidence 60 names a person (KEP-LM-06, KEP-AC-03)."""
    holder, person = ("".join(fold(n).split()) for n in (opening.holder_name, opening.person_name))
    if opening.kind is not AccountKind.REAL_PERSON and person in ("", holder):
        raise ApplicationError(
            ApplicationFault.PERSON_MISSING, "an organisation acts through a person, and none is named"
        )


def _check_block(account: Account, event: AccountEvent, now: datetime) -> None:
    if event is AccountEvent.CLOSE and account.state is AccountState.BLOCKED:
        left = account.state_since + BLOCK_MIN - now
        if left > timedelta(0):
            raise AccountError(
                AccountFault.BLOCKED_TOO_SHORT,
                f"an account closes after three months' block: {left.days + 1} days left",
            )
