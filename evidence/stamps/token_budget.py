"""How many paid time stamps are left: arithmetic, thresholds and the form they are kept in; no I/O.

Turkish authorities sell tokens by the piece ("kontör"). Running out of them stops acceptance, so the count is
kept here, per authority, from what its answers spent. It is an aid and never a gate: an authority that
says yes stamps, whatever our count says; one that says no is passed over for the next. (KEP-SG-10)

``bought`` is the number of tokens ever bought since counting began: who buys more raises it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, NamedTuple

LOW_PERCENT: Final = 20
CRITICAL_PERCENT: Final = 5
MAX_FILE: Final = 64 * 1024
_FORMAT: Final = 1
_MAX_ACCOUNTS: Final = 64
_MAX_COUNT: Final = 10**15


class CreditState(StrEnum):
    """How things stand with one authority's tokens, from good to bad."""

    UNLIMITED = "unlimited"
    """Nothing was said about credits: only counted."""
    PLENTY = "plenty"
    LOW = "low"
    """20 % or less is left: order."""
    CRITICAL = "critical"
    """5 % or less is left."""
    EXHAUSTED = "exhausted"
    """By our count nothing is left."""

    @property
    def worries(self) -> bool:
        """Say whether somebody should be told."""
        return self in {CreditState.LOW, CreditState.CRITICAL, CreditState.EXHAUSTED}


class CreditFileError(ValueError):
    """The kept counts cannot be read."""


class Spending(NamedTuple):  # a tuple: one is made for every token
    """Tokens spent at one authority. Times are aware UTC, None where nothing was spent yet."""

    used: int = 0
    first: datetime | None = None
    last: datetime | None = None

    def plus(self, other: "Spending") -> "Spending":
        """Return both together."""
        first, last = self.first or other.first, self.last or other.last
        if other.first is not None and first is not None and other.first < first:
            first = other.first
        if other.last is not None and last is not None and other.last > last:
            last = other.last
        return Spending(self.used + other.used, first, last)


@dataclass(frozen=True, slots=True)
class CreditLine:
    """What there is to tell about one authority.

    Attributes:
        endpoint: its address.
        spending: what was counted.
        bought: tokens ever bought; None where nobody said.
    """

    endpoint: str
    spending: Spending
    bought: int | None

    @property
    def used(self) -> int:
        """Return how many tokens were spent."""
        return self.spending.used

    @property
    def left(self) -> int | None:
        """Return how many tokens are left by our count, never less than none; None: unlimited."""
        return None if self.bought is None else max(0, self.bought - self.used)

    @property
    def state(self) -> CreditState:
        """Return how things stand."""
        if self.bought is None or self.left is None:
            return CreditState.UNLIMITED
        if self.left == 0:
            return CreditState.EXHAUSTED
        if self.left * 100 <= self.bought * CRITICAL_PERCENT:
            return CreditState.CRITICAL
        if self.left * 100 <= self.bought * LOW_PERCENT:
            return CreditState.LOW
        return CreditState.PLENTY

    @property
    def days_left(self) -> float | None:
        """Return for how many days the rest lasts at the average pace so far; None where nobody can say."""
        spent = self.spending
        if self.left is None or spent.first is None or spent.last is None or spent.used < 2:
            return None
        seconds = (spent.last - spent.first).total_seconds()
        return self.left * seconds / (spent.used - 1) / 86_400 if seconds > 0 else None


class Counter:
    """Counts spent tokens per authority; what is not yet written down is known apart (`pending`).

    Args:
        bought: tokens ever bought, by endpoint; None counts without a limit.
        kept: what was written down before.
    """

    def __init__(self, bought: Mapping[str, int | None], kept: Mapping[str, Spending] | None = None) -> None:
        self._bought = dict(bought)
        self._kept = dict(kept or {})
        self._pending: dict[str, Spending] = {}

    @property
    def pending(self) -> dict[str, Spending]:
        """Return what is not yet written down."""
        return dict(self._pending)

    @property
    def pending_tokens(self) -> int:
        """Return how many tokens that are."""
        return sum(spent.used for spent in self._pending.values())

    def spend(self, endpoint: str, at: datetime, tokens: int = 1) -> CreditLine | None:
        """Count spent tokens; return the line if they changed the state, to warn once at each step.

        Args:
            endpoint: who gave them.
            at: when, aware.
            tokens: how many.
        """
        limited = self._bought.get(endpoint) is not None  # without a limit there is but one state
        before = self.line(endpoint).state if limited else CreditState.UNLIMITED
        spent, known = Spending(tokens, at, at), self._pending.get(endpoint)
        self._pending[endpoint] = spent if known is None else known.plus(spent)
        if not limited:
            return None
        after = self.line(endpoint)
        return after if after.state is not before else None

    def settle(self, written: Mapping[str, Spending], kept: Mapping[str, Spending]) -> None:
        """Note that an earlier `pending` was written down, and what is written down in all.

        Other processes count too: ``kept`` may hold more than this one knew.
        """
        self._kept = dict(kept)
        for endpoint, done in written.items():
            left = self._pending[endpoint]
            if left.used > done.used:
                self._pending[endpoint] = left._replace(used=left.used - done.used)
            else:
                del self._pending[endpoint]

    def line(self, endpoint: str) -> CreditLine:
        """Return what there is to tell about one authority."""
        spent = self._kept.get(endpoint, Spending()).plus(self._pending.get(endpoint, Spending()))
        return CreditLine(endpoint, spent, self._bought.get(endpoint))

    def report(self) -> tuple[CreditLine, ...]:
        """Return a line for every authority: those configured first, in their order, then former ones."""
        known = dict.fromkeys((*self._bought, *sorted(self._kept), *sorted(self._pending)))
        return tuple(self.line(endpoint) for endpoint in known)


def added(kept: Mapping[str, Spending], more: Mapping[str, Spending]) -> dict[str, Spending]:
    """Return the sums of two counts."""
    sums = dict(kept)
    for endpoint, spent in more.items():
        sums[endpoint] = sums.get(endpoint, Spending()).plus(spent)
    return sums


def encode_counts(counts: Mapping[str, Spending]) -> bytes:
    """Return counts as JSON text: ``{"format": 1, "spent": {endpoint: {"used", "first", "last"}}}``."""
    spent = {
        endpoint: {"used": one.used, "first": _text(one.first), "last": _text(one.last)}
        for endpoint, one in sorted(counts.items())
    }
    return (json.dumps({"format": _FORMAT, "spent": spent}, indent=1) + "\n").encode()


def decode_counts(data: bytes) -> dict[str, Spending]:
    """Read what `encode_counts` wrote.

    Raises:
        CreditFileError: it is something else.
    """
    if len(data) > MAX_FILE:
        raise CreditFileError("the file is too large")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CreditFileError("not JSON") from error
    spent = found.get("spent") if isinstance(found, dict) and found.get("format") == _FORMAT else None
    if not isinstance(spent, dict) or len(spent) > _MAX_ACCOUNTS:
        raise CreditFileError("not a file of counts")
    return {endpoint: _spending(one) for endpoint, one in spent.items()}


def _spending(found: object) -> Spending:
    used = found.get("used") if isinstance(found, dict) else None
    if not isinstance(found, dict) or type(used) is not int or not 0 <= used <= _MAX_COUNT:
        raise CreditFileError("not a count")
    return Spending(used, _time(found.get("first")), _time(found.get("last")))


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat()


def _time(found: object) -> datetime | None:
    if found is None:
        return None
    try:
        at = datetime.fromisoformat(found) if isinstance(found, str) else None
        if at is not None and at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise CreditFileError("not a time") from error
    raise CreditFileError("not a time")
