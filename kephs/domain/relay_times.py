"""When a transfer is tried again, and when it is given up.

spec: KEP-MS-12, R-04, R-05, rem-formats §5 (timers).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

_FRACTIONS: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class RelayTimes:
    """A provider's timers.

    ``give_up`` ends the tries to hand a dispatch over (31); ``no_answer`` the wait for 20 or 21 after the
    peer's 250 (31, reason 9); ``no_delivery_info`` the wait for 40 or 41 after 20 (41, reason 9);
    ``receipts`` the tries to hand a receipt over. ``first_retry`` doubles up to ``longest_retry``.
    """

    give_up: timedelta = timedelta(hours=24)
    no_answer: timedelta = timedelta(hours=24)
    no_delivery_info: timedelta = timedelta(hours=24)
    receipts: timedelta = timedelta(days=7)
    first_retry: timedelta = timedelta(seconds=10)
    longest_retry: timedelta = timedelta(minutes=30)

    def next_try(self, transfer_id: str, attempts: int, now: datetime, deadline: datetime) -> datetime:
        """Return when to try again: doubling, up to a quarter earlier or later, never past the deadline.

        The jitter follows from id and attempt, so that transfers spread and a test can tell the time.
        """
        wait = min(self.longest_retry, self.first_retry * (1 << min(attempts, 16)))
        digest = sha256(f"{transfer_id}:{attempts}".encode()).digest()
        jitter = int.from_bytes(digest[:4]) / _FRACTIONS / 2 - 0.25
        return min(now + wait * (1 + jitter), deadline)
