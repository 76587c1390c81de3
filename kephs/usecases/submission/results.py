"""What a submission can end in, as edges see it."""

from dataclasses import dataclass
from datetime import datetime

from kephs.domain.messages import Person
from kephs.domain.refusals import Refusal
from kephs.ports import Spool


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message as an edge received it. ``attempted`` are all recipients the client named to the server."""

    person: Person
    envelope_from: str
    attempted: tuple[str, ...]
    any_refused: bool  # some recipient was refused before the content came
    spool: Spool
    nul: bool
    line_too_long: bool
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Accepted:
    """Durable, with evidence 10. Only now may the edge say 250."""

    evidence_id: str
    message_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Refused: with evidence 11, or (temporary) without a trace."""

    refusal: Refusal
    evidence_id: str | None = None


@dataclass(frozen=True, slots=True)
class Arriving:
    """One message as the inbound edge received it. ``envelope_from`` is empty for the null sender."""

    envelope_from: str
    envelope_to: tuple[str, ...]
    spool: Spool
    nul: bool
    line_too_long: bool
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Taken:
    """Durable: a dispatch with its evidence 20 or 21, or a receipt. Only now may the edge say 250."""

    evidence_id: str
    message_id: str
