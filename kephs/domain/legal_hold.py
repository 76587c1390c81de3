"""Legal hold (hukuki saklama): while one stands, content is not destroyed, whoever deletes it.

A hold is about one message or about all content of one account. One person sets it; two persons of different
names lift it. The owner's deletion and closing go on as always: the mailbox shows nothing, bytes and key stay
until the last hold is lifted. Nothing about a hold is ever deleted.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from kephs.domain.trust_list import TrustListError, checked_name, folded_name

REASON_MAX: Final = 500
LIFTERS: Final = 2

# How the process record names what is done to a hold; the detail begins with its number.
HOLD_SET: Final = "hold.set"
HOLD_LIFT_ASKED: Final = "hold.lift-asked"
HOLD_LIFTED: Final = "hold.lifted"
_NUMBERED: Final = re.compile(r"hold ([1-9][0-9]{0,17}): ", re.ASCII)


class HoldKind(StrEnum):
    """What a hold is about."""

    MESSAGE = "message"
    ACCOUNT = "account"


class HoldState(StrEnum):
    """Duruyor, kaldırılması istendi, kaldırıldı. The first two keep content."""

    STANDING = "standing"
    LIFT_ASKED = "lift-asked"
    LIFTED = "lifted"


class HoldEvent(StrEnum):
    """What happens to a hold."""

    LIFT = "lift"  # one person wants it lifted
    LIFT_ENOUGH = "lift-enough"  # the last person needed


TRANSITIONS: Final[Mapping[tuple[HoldState, HoldEvent], HoldState]] = MappingProxyType(
    {
        (HoldState.STANDING, HoldEvent.LIFT): HoldState.LIFT_ASKED,
        (HoldState.LIFT_ASKED, HoldEvent.LIFT_ENOUGH): HoldState.LIFTED,
    }
)

ACTIONS: Final[Mapping[str, HoldState]] = MappingProxyType(
    {
        HOLD_SET: HoldState.STANDING,
        HOLD_LIFT_ASKED: HoldState.LIFT_ASKED,
        HOLD_LIFTED: HoldState.LIFTED,
    }
)
"""The state that each action of the process record leads to."""


class HoldError(Exception):
    """The step is not allowed; the text says why."""


@dataclass(frozen=True, slots=True)
class Lifting:
    """One person who wants a hold lifted, and why."""

    by: str
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class LegalHold:
    """One hold. ``subject`` is a message's or an account's id; ``number`` 0 is one not stored yet."""

    number: int
    kind: HoldKind
    subject: str
    set_by: str
    set_at: datetime
    reason: str
    state: HoldState = HoldState.STANDING
    lifting: tuple[Lifting, ...] = ()

    @property
    def keeps(self) -> bool:
        """Say whether it keeps content."""
        return self.state is not HoldState.LIFTED

    @property
    def lifted_at(self) -> datetime | None:
        """Return when it ended."""
        return None if self.keeps else self.lifting[-1].at

    @property
    def sound(self) -> bool:
        """Say whether as many persons of different names want it lifted as its state says."""
        names = {folded_name(one.by) for one in self.lifting}
        wanted = {HoldState.STANDING: 0, HoldState.LIFT_ASKED: 1, HoldState.LIFTED: LIFTERS}[self.state]
        return len(names) == len(self.lifting) == wanted


def new_hold(kind: HoldKind, subject: str, by: str, at: datetime, reason: str) -> LegalHold:
    """Return a hold that stands.

    Raises:
        HoldError: nobody, or no reason, is named.
    """
    return LegalHold(0, kind, subject, _name(by), at, checked_reason(reason))


def lift(hold: LegalHold, by: str, at: datetime, reason: str) -> LegalHold:
    """Return the hold as one more person wants it lifted; the second one lifts it.

    Raises:
        HoldError: it is lifted, this person asked before, or no reason is given.
    """
    who, why = _name(by), checked_reason(reason)
    if hold.state is HoldState.LIFTED:
        raise HoldError("it was lifted before")
    if any(folded_name(who) == folded_name(one.by) for one in hold.lifting):
        raise HoldError(f"{who} asked for it before: a second, different person is needed")
    enough = len(hold.lifting) + 1 >= LIFTERS
    state = TRANSITIONS[hold.state, HoldEvent.LIFT_ENOUGH if enough else HoldEvent.LIFT]
    return replace(hold, state=state, lifting=(*hold.lifting, Lifting(who, at, why)))


def checked_reason(reason: str) -> str:
    """Return a reason as it is kept.

    Raises:
        HoldError: there is none, or it is too long or has characters that cannot be shown.
    """
    why = " ".join(reason.split())
    if not why or len(why) > REASON_MAX or not why.isprintable():
        raise HoldError(f"a reason is needed, at most {REASON_MAX} characters")
    return why


def hold_detail(number: int, reason: str) -> str:
    """Return what the process record says beside a hold's subject."""
    return f"hold {number}: {reason}"


def hold_number(detail: str) -> int | None:
    """Return which hold an entry of the process record is about."""
    found = _NUMBERED.match(detail)
    return None if found is None else int(found[1])


def _name(by: str) -> str:
    try:
        return checked_name(by)
    except TrustListError as error:
        raise HoldError(str(error)) from None
