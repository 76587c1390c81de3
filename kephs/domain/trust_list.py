"""The trust list: which certificates the server believes, and the two persons who said so.

Nothing is trusted by default. An anchor counts (ACTIVE) after two persons of different names confirmed it,
each with the whole fingerprint; one person is enough to take trust away. Nothing is ever deleted.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

CONFIRMATIONS: Final = 2
NAME_MAX: Final = 200
REASON_MAX: Final = 500

# How the process record names what is done to an anchor; its subject is the fingerprint, hexadecimal.
TRUST_IMPORTED: Final = "trust.imported"
TRUST_CONFIRMED: Final = "trust.confirmed"
TRUST_RETIRED: Final = "trust.retired"


class AnchorState(StrEnum):
    """Önerildi, geçerli, kaldırıldı."""

    PROPOSED = "proposed"
    ACTIVE = "active"
    RETIRED = "retired"


class AnchorKind(StrEnum):
    """Roots are trusted by themselves; intermediates only complete paths."""

    ROOT = "root"
    INTERMEDIATE = "intermediate"


class AnchorEvent(StrEnum):
    """What happens to an anchor."""

    PROPOSED_AGAIN = "proposed-again"
    CONFIRMED = "confirmed"
    CONFIRMED_ENOUGH = "confirmed-enough"
    RETIRED = "retired"


TRANSITIONS: Final[Mapping[tuple[AnchorState, AnchorEvent], AnchorState]] = MappingProxyType(
    {
        (AnchorState.PROPOSED, AnchorEvent.CONFIRMED): AnchorState.PROPOSED,
        (AnchorState.PROPOSED, AnchorEvent.CONFIRMED_ENOUGH): AnchorState.ACTIVE,
        (AnchorState.PROPOSED, AnchorEvent.RETIRED): AnchorState.RETIRED,
        (AnchorState.ACTIVE, AnchorEvent.RETIRED): AnchorState.RETIRED,
        # Taken back by mistake, or cross-signed anew: the way in is the same for everybody, from its start.
        (AnchorState.RETIRED, AnchorEvent.PROPOSED_AGAIN): AnchorState.PROPOSED,
    }
)


class TrustListError(Exception):
    """The step is not allowed; the text says why."""


@dataclass(frozen=True, slots=True)
class TrustAnchor:
    """One certificate of the list. ``fingerprint`` is the SHA-256 of ``der``; ``confirmed``: (name, time)."""

    fingerprint: bytes
    der: bytes
    kind: AnchorKind
    label: str
    state: AnchorState
    proposed_by: str
    proposed_at: datetime
    confirmed: tuple[tuple[str, datetime], ...] = ()
    retired_by: str | None = None
    retired_at: datetime | None = None
    reason: str = ""

    @property
    def trusted(self) -> bool:
        """Say whether it counts: active, and two persons of different names stand for it."""
        names = {folded_name(name) for name, _ in self.confirmed}
        return self.state is AnchorState.ACTIVE and len(names) >= CONFIRMATIONS


def checked_name(name: str) -> str:
    """Return a person's name as it is kept.

    Raises:
        TrustListError: it is empty, too long, or has characters that cannot be shown.
    """
    tidy = " ".join(unicodedata.normalize("NFC", name).split())
    if not any(c.isalpha() for c in tidy) or len(tidy) > NAME_MAX or not tidy.isprintable():
        raise TrustListError("the name of a person is needed: letters, at most 200 characters")
    return tidy


def folded_name(name: str) -> str:
    """Return a name as names are compared: without case, marks and spaces; İ, I, ı and i are one letter.

    Two spellings of one person must not count as two persons, so this joins more than Turkish case does.
    """
    split = unicodedata.normalize("NFKD", name).casefold().replace("ı", "i")
    return "".join(c for c in unicodedata.normalize("NFKD", split) if c.isalnum())


def step(state: AnchorState, event: AnchorEvent) -> AnchorState:
    """Return the state after an event.

    Raises:
        TrustListError: nothing of the kind may happen in this state.
    """
    after = TRANSITIONS.get((state, event))
    if after is None:
        raise TrustListError(_REFUSED.get((state, event), f"an anchor that is {state} cannot be {event}"))
    return after


_REFUSED: Final[Mapping[tuple[AnchorState, AnchorEvent], str]] = MappingProxyType(
    {
        (AnchorState.ACTIVE, AnchorEvent.CONFIRMED): "it is active already",
        (AnchorState.ACTIVE, AnchorEvent.CONFIRMED_ENOUGH): "it is active already",
        (AnchorState.RETIRED, AnchorEvent.CONFIRMED): "it was retired: import it again first",
        (AnchorState.RETIRED, AnchorEvent.CONFIRMED_ENOUGH): "it was retired: import it again first",
        (AnchorState.RETIRED, AnchorEvent.RETIRED): "it was retired before",
        (AnchorState.PROPOSED, AnchorEvent.PROPOSED_AGAIN): "it is on the list already",
        (AnchorState.ACTIVE, AnchorEvent.PROPOSED_AGAIN): "it is on the list already",
    }
)


def confirm(anchor: TrustAnchor, name: str, at: datetime) -> TrustAnchor:
    """Return the anchor with one more confirmation; the second name makes it active.

    Raises:
        TrustListError: this person confirmed it before, or the state forbids it.
    """
    who = checked_name(name)
    if anchor.state is AnchorState.PROPOSED and any(
        folded_name(who) == folded_name(known) for known, _ in anchor.confirmed
    ):
        raise TrustListError(f"{who} confirmed it before: a second, different person is needed")
    confirmed = (*anchor.confirmed, (who, at))
    enough = len(confirmed) >= CONFIRMATIONS
    event = AnchorEvent.CONFIRMED_ENOUGH if enough else AnchorEvent.CONFIRMED
    return replace(anchor, state=step(anchor.state, event), confirmed=confirmed)


def retire(anchor: TrustAnchor, name: str, at: datetime, reason: str) -> TrustAnchor:
    """Return the anchor without trust; its record stays.

    Raises:
        TrustListError: no reason is given, or it was retired before.
    """
    who, why = checked_name(name), " ".join(reason.split())
    if not why or len(why) > REASON_MAX or not why.isprintable():
        raise TrustListError(f"a reason is needed, at most {REASON_MAX} characters")
    state = step(anchor.state, AnchorEvent.RETIRED)
    return replace(anchor, state=state, retired_by=who, retired_at=at, reason=why)


def propose_again(anchor: TrustAnchor, name: str, at: datetime) -> TrustAnchor:
    """Return a retired anchor as proposed anew, without any confirmation.

    Raises:
        TrustListError: it is not retired.
    """
    state = step(anchor.state, AnchorEvent.PROPOSED_AGAIN)
    return replace(
        anchor, state=state, proposed_by=checked_name(name), proposed_at=at, confirmed=(),
        retired_by=None, retired_at=None, reason="",
    )  # fmt: skip
