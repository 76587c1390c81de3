"""Qualified certificates bound to accounts: whose signature sends for whom (KEP-NE-08, KEP-NE-09)."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal, get_args

How = Literal["challenge", "first-use"]
HOWS: Final = frozenset(get_args(How))


class BindingState(StrEnum):
    """A withdrawn binding stays on record; the certificate may be bound again by a signed challenge alone."""

    BOUND = "bound"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class BoundCertificate:
    """One certificate of one account. No PIN, PUK or key is ever kept (KEP-NE-08).

    ``sha256`` is that of ``der``. ``how``: by a signed challenge, or when its holder first sent with it.
    """

    sha256: bytes
    account_id: str
    operator_id: str
    der: bytes
    how: How
    bound_at: datetime
    withdrawn_at: datetime | None = None
    withdrawn_by: str | None = None

    @property
    def state(self) -> BindingState:
        """Return whether it counts."""
        return BindingState.BOUND if self.withdrawn_at is None else BindingState.WITHDRAWN
