"""The inbound dialogue: STARTTLS comes first, and nothing is taken for addresses that are served elsewhere.

Whether a recipient exists is not said at RCPT: addresses cannot be harvested; evidence tells (21, 41).
"""

from collections.abc import Callable
from datetime import datetime
from typing import ClassVar, Final

from kephs.domain.refusals import RefusalCode
from kephs.ports import Spool
from kephs.usecases.submission.results import Arriving
from smtp_gateway.data_stream import Received
from smtp_gateway.dialogue import HELLO_FIRST, DialogueSettings, MailDialogue
from smtp_gateway.replies import Reply, coded, simple

_BEGIN_TLS: Final = simple(220, "2.0.0", "Ready to start TLS")
# spec: RFC5321#4.5.3.1.10 (peers may send the rest in another transaction)
_NO_MORE: Final = simple(452, "4.5.3", "Too many recipients, send the rest in another transaction")


class InboundDialogue(MailDialogue):
    """One peer's connection, in clear or, begun anew, under TLS."""

    too_big: ClassVar = RefusalCode.TOO_BIG_FOR_PROVIDER

    def __init__(self, settings: DialogueSettings, *, secure: bool, serves: Callable[[str], bool]) -> None:
        """Begin a dialogue; ``serves`` says whether a domain's addresses are ours."""
        super().__init__(settings, secure=secure)
        self._serves = serves

    def starttls(self, argument: str | None) -> tuple[Reply, bool]:
        """Answer STARTTLS; True with the reply behind which the handshake begins."""
        # spec: RFC3207#4
        if not self._greeted or not self._extended:
            return HELLO_FIRST, False
        if argument:
            return simple(501, "5.5.4", "Syntax: STARTTLS"), False
        if self._secure:
            return simple(503, "5.5.1", "TLS is active"), False
        return _BEGIN_TLS, True

    def _extensions(self) -> list[str]:
        return [] if self._secure else ["STARTTLS"]  # spec: RFC3207#4.2 (not announced under TLS)

    def _not_yet(self) -> Reply | None:
        return None if self._secure else coded(RefusalCode.TLS_REQUIRED, utf8=False)

    def _null_sender_refusal(self, *, utf8: bool) -> Reply | None:  # noqa: ARG002  # the message decides
        return None

    def _number_refusal(self) -> Reply | None:
        return _NO_MORE if self._envelope.accepted >= self._settings.max_recipients else None

    def _recipient_refusal(self, address: str) -> Reply | None:
        domain = address.rpartition("@")[2]
        if domain.isascii() and self._serves(domain.lower()):
            return None
        return coded(RefusalCode.NOT_SERVED_HERE, utf8=self.utf8)

    def _remember(self, recipient: str, *, refused: bool) -> None:
        if not refused:
            self._envelope.named.append(recipient)

    def arriving(self, spool: Spool, received: Received, at: datetime) -> Arriving:
        """Return what the use case needs; only after `data` let the content come."""
        envelope = self._envelope
        return Arriving(
            envelope_from=envelope.sender or "",
            envelope_to=tuple(dict.fromkeys(envelope.named)),
            spool=spool,
            nul=received.nul,
            line_too_long=received.line_too_long,
            received_at=at,
        )
