"""The submission dialogue: AUTH comes first, and recipients are remembered as attempted.

Recipients that the client named are remembered even where they were refused, because the message is
refused as a whole if any was (rules-in-detail).
"""

from datetime import datetime
from typing import ClassVar, Final

from kephs.domain.messages import Person
from kephs.domain.refusals import RefusalCode
from kephs.ports import Spool
from kephs.usecases.submission.results import Incoming
from smtp_gateway.data_stream import Received
from smtp_gateway.dialogue import HELLO_FIRST, OK, DialogueSettings, MailDialogue
from smtp_gateway.replies import Reply, coded, simple

__all__ = ["OK", "Dialogue", "DialogueSettings"]

_AUTH_FIRST: Final = simple(530, "5.7.0", "Authentication required")


class Dialogue(MailDialogue):
    """One holder's connection."""

    too_big: ClassVar = RefusalCode.TOO_BIG

    def __init__(self, settings: DialogueSettings, *, secure: bool) -> None:
        """Begin a dialogue; ``secure`` says that the connection is under TLS."""
        super().__init__(settings, secure=secure)
        self.person: Person | None = None

    def auth_refusal(self, arguments: list[str]) -> Reply | None:
        """Return why AUTH cannot begin now, or None."""
        known = bool(arguments) and arguments[0].upper() in {"PLAIN", "LOGIN"}
        refusals = (
            (not self._greeted or not self._extended, HELLO_FIRST),
            (not self._secure, simple(538, "5.7.11", "Encryption required for authentication")),
            (self.person is not None, simple(503, "5.5.1", "Already authenticated")),
            (self._envelope.sender is not None, simple(503, "5.5.1", "No AUTH inside a transaction")),
            (not 1 <= len(arguments) <= 2, simple(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]")),
            (not known, simple(504, "5.5.4", "Unrecognized authentication mechanism")),
        )
        return next((reply for applies, reply in refusals if applies), None)

    def _extensions(self) -> list[str]:
        return ["AUTH PLAIN LOGIN"] if self._secure else []

    def _not_yet(self) -> Reply | None:
        return _AUTH_FIRST if self.person is None else None

    def _null_sender_refusal(self, *, utf8: bool) -> Reply | None:
        # a notice without a sender has no place in submission
        return coded(RefusalCode.FROM_DIFFERS, utf8=utf8)

    def _number_refusal(self) -> Reply | None:
        if self._envelope.commands > self._settings.max_recipients:
            # permanent: a 452 would make clients split the message, which To + Cc then refuses
            return coded(RefusalCode.TOO_MANY_RECIPIENTS, utf8=self.utf8)
        return None

    def _recipient_refusal(self, address: str) -> Reply | None:  # noqa: ARG002  # all go on to the rules
        return None

    def _remember(self, recipient: str, *, refused: bool) -> None:  # noqa: ARG002  # refused ones as well
        if len(self._envelope.named) <= self._settings.max_recipients:
            self._envelope.named.append(recipient)

    def incoming(self, spool: Spool, received: Received, at: datetime) -> Incoming:
        """Return what the use case needs; only after `data` let the content come."""
        assert self.person is not None
        envelope = self._envelope
        return Incoming(
            person=self.person,
            envelope_from=envelope.sender or "",
            attempted=tuple(envelope.named),
            any_refused=envelope.any_refused,
            spool=spool,
            nul=received.nul,
            line_too_long=received.line_too_long,
            received_at=at,
        )
