"""The client's side of SMTP between providers, sans-IO: a peer's bytes in, what to do next out.

One dialogue is one connection: greeting, EHLO, STARTTLS, EHLO, then letters one after the other. `Rule` per
stage says which reply lets it go on and whose fault a 5yz is.

spec: RFC 5321, RFC 3207, RFC 2920, RFC 1870, RFC 6152, RFC 6531, rem-formats §5
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from kephs.domain.relay import Handed, Letter, NotHanded, RelayTrouble
from smtp_gateway.relay_replies import NotSmtpError, Offers, PeerReply, ReplyReader, detail, shown

GROUP: Final = 64  # commands sent before their replies are read: little enough for any send buffer


class Stage(StrEnum):
    """What the dialogue waits for; the names enter details."""

    GREETING = "greeting"
    HELLO = "ehlo"
    STARTTLS = "starttls"
    HANDSHAKE = "tls"
    SECURE_HELLO = "ehlo-tls"
    READY = "ready"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    CONTENT = "content"
    FINAL = "final"
    RESET = "rset"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Write:
    """Send these octets."""

    data: bytes


@dataclass(frozen=True, slots=True)
class StartTls:
    """Shake hands, compare the certificate with the pins, then call `Dialogue.secured`."""


@dataclass(frozen=True, slots=True)
class WriteContent:
    """Send the letter's content and the final dot, then call `Dialogue.content_sent`."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What became of the letter; `Dialogue.usable` tells whether the connection can take another one.

    ``stale``: the connection ended before this letter got any answer; where it had been kept, a fresh one
    may do.
    """

    outcome: Handed | NotHanded
    stale: bool = False


Action = Write | StartTls | WriteContent | Finished


@dataclass(frozen=True, slots=True)
class Rule:
    """Which severity of reply lets a stage go on, and what a 5yz there means."""

    good: int
    refused: RelayTrouble


# A 5yz before MAIL is about the connection, not about the message: the peer may be misconfigured today.
_CONNECTION, _LETTER = RelayTrouble.REFUSED_FOR_NOW, RelayTrouble.REFUSED
RULES: Final[Mapping[Stage, Rule]] = MappingProxyType(
    {
        Stage.GREETING: Rule(2, _CONNECTION),
        Stage.HELLO: Rule(2, _CONNECTION),
        Stage.STARTTLS: Rule(2, _CONNECTION),
        Stage.SECURE_HELLO: Rule(2, _CONNECTION),
        Stage.MAIL: Rule(2, _LETTER),
        Stage.RCPT: Rule(2, _LETTER),
        Stage.DATA: Rule(3, _LETTER),
        Stage.CONTENT: Rule(0, _LETTER),  # no reply is due while content is sent; a refusal may come early
        Stage.FINAL: Rule(2, _LETTER),
        Stage.RESET: Rule(2, _LETTER),
    }
)
_OPENING: Final = frozenset({Stage.GREETING, Stage.HELLO, Stage.STARTTLS, Stage.SECURE_HELLO})


class Dialogue:
    """One connection's dialogue. `begin` a letter, then `feed`; do the actions in order as they come.

    Attributes:
        stage: what is waited for now.
        heard: replies so far; the time for a reply starts anew when it grows.
    """

    def __init__(self, hostname: str) -> None:
        """Prepare.

        Args:
            hostname: our own name, for EHLO.
        """
        self.stage = Stage.GREETING
        self.heard = 0
        self._hello = f"EHLO {hostname}\r\n".encode("ascii")
        self._reader = ReplyReader()
        self._offers = Offers()
        self._letter: Letter | None = None
        self._groups: deque[list[tuple[Stage, bytes]]] = deque()  # still to be sent
        self._awaited: deque[Stage] = deque()
        self._refusal: NotHanded | None = None
        self._sender_refused = False
        self._good: Mapping[Stage, Callable[[PeerReply], list[Action]]] = {
            Stage.GREETING: self._greeted,
            Stage.HELLO: self._offered,
            Stage.STARTTLS: self._tls_granted,
            Stage.SECURE_HELLO: self._offered_again,
            Stage.MAIL: self._envelope_went_on,
            Stage.RCPT: self._envelope_went_on,
            Stage.DATA: self._data_granted,
            Stage.FINAL: self._taken,
            Stage.RESET: self._was_reset,
        }

    @property
    def usable(self) -> bool:
        """Say whether the next letter may begin: the last one ended well and nothing came unasked since."""
        return self.stage is Stage.READY and not self._reader.pending

    def begin(self, letter: Letter) -> list[Action]:
        """Take a letter: before the greeting of a new connection, or on one that is `usable`."""
        self._letter = letter
        self._refusal = None
        return self._start(letter) if self.stage is Stage.READY else []

    def feed(self, data: bytes) -> list[Action]:
        """Take what the peer sent and return what to do; nothing while a reply is incomplete.

        What comes in clear behind the reply to STARTTLS is dropped, whoever sent it (RFC 3207 4.2).
        """
        if self.stage in {Stage.HANDSHAKE, Stage.ENDED}:
            return []
        self._reader.feed(data)
        actions: list[Action] = []
        try:
            while self.stage in RULES:
                reply = self._reader.next()
                if reply is None:
                    break
                self.heard += 1
                actions += self._take(reply)
        except NotSmtpError as error:
            actions += self._end(self._not_handed(RelayTrouble.PROTOCOL, str(error)))
        return actions

    def secured(self) -> list[Action]:
        """Go on behind the handshake; what was offered in clear is forgotten (RFC 3207 4.2)."""
        self.stage = Stage.SECURE_HELLO
        return [Write(self._hello)]

    def content_sent(self) -> list[Action]:
        """Go on behind the final dot."""
        self.stage = Stage.FINAL
        return self.feed(b"")

    def lost(self) -> Finished:
        """Return what it means that the connection ended here."""
        stale = self.stage is Stage.MAIL
        return self._finished(self._not_handed(RelayTrouble.CONNECTION_LOST), stale=stale)

    def silent(self) -> Finished:
        """Return what it means that the peer took too long here."""
        return self._finished(self._not_handed(RelayTrouble.SILENT))

    # --- replies ------------------------------------------------------------------------------

    def _take(self, reply: PeerReply) -> list[Action]:
        stage, rule = self.stage, RULES[self.stage]
        if reply.code == 421:  # it ends the connection wherever it comes; spec: RFC5321#3.8
            stale = stage is Stage.MAIL
            return self._end(self._not_handed(RelayTrouble.REFUSED_FOR_NOW, reply), stale=stale)
        if reply.severity == rule.good:
            return self._good[stage](reply)
        if reply.severity not in {4, 5}:
            return self._end(self._not_handed(RelayTrouble.PROTOCOL, reply))
        refused = RelayTrouble.REFUSED_FOR_NOW if reply.severity == 4 else rule.refused
        refusal = self._not_handed(refused, reply)
        if stage in {Stage.MAIL, Stage.RCPT, Stage.DATA}:
            return self._refused(refusal)
        if stage is Stage.FINAL:
            return self._end(refusal, reusable=True)
        return self._end(refusal)

    def _greeted(self, _: PeerReply) -> list[Action]:
        return self._ask(Stage.HELLO, self._hello)

    def _offered(self, reply: PeerReply) -> list[Action]:
        if not Offers.parse(reply).starttls:
            return self._end(NotHanded(RelayTrouble.NO_STARTTLS, "ehlo offers no STARTTLS"))
        return self._ask(Stage.STARTTLS, b"STARTTLS\r\n")

    def _tls_granted(self, _: PeerReply) -> list[Action]:
        # spec: RFC3207#4.2 (response injection: what came in clear behind this reply is not the peer's word)
        self._reader.clear()
        self.stage = Stage.HANDSHAKE
        return [StartTls()]

    def _offered_again(self, reply: PeerReply) -> list[Action]:
        self._offers = Offers.parse(reply)
        self.stage = Stage.READY
        return [] if self._letter is None else self._start(self._letter)

    def _envelope_went_on(self, _: PeerReply) -> list[Action]:
        self._awaited.popleft()
        return self._continue()

    def _refused(self, refusal: NotHanded) -> list[Action]:
        """Note a refusal, the worst of a group; replies to what was sent with it still come.

        Behind a refused MAIL they are 503s for want of a sender and say nothing of the recipients.
        """
        known = self._refusal
        if known is None:
            self._refusal, self._sender_refused = refusal, self.stage is Stage.MAIL
        elif (known.trouble, refusal.trouble) == (_CONNECTION, _LETTER) and not self._sender_refused:
            self._refusal = refusal
        self._awaited.popleft()
        self._groups.clear()
        return self._continue()

    def _data_granted(self, _: PeerReply) -> list[Action]:
        self._awaited.clear()
        self.stage = Stage.CONTENT
        return [WriteContent()]

    def _taken(self, reply: PeerReply) -> list[Action]:
        return self._end(Handed(shown(reply)), reusable=True)

    def _was_reset(self, _: PeerReply) -> list[Action]:
        assert self._refusal is not None
        return self._end(self._refusal, reusable=True)

    # --- commands -----------------------------------------------------------------------------

    def _start(self, letter: Letter) -> list[Action]:
        """Send a letter's envelope, unless the peer cannot have the letter."""
        # spec: RFC6152#3 and RFC6531#3.2 allow conversion; a signed message is never converted
        offers, size = self._offers, letter.content.size
        if letter.needs_utf8 and not offers.utf8:
            return self._cannot(RelayTrouble.NEEDS_SMTPUTF8, "ehlo-tls offers no SMTPUTF8")
        eight_bit = letter.needs_8bit or letter.needs_utf8
        if eight_bit and not offers.eight_bit:
            return self._cannot(RelayTrouble.NEEDS_8BITMIME, "ehlo-tls offers no 8BITMIME")
        if offers.size is not None and size > offers.size:
            return self._cannot(
                RelayTrouble.TOO_BIG, f"ehlo-tls offers SIZE {offers.size}, content has {size}"
            )
        mail = f"MAIL FROM:<{letter.sender}>"
        mail += f" SIZE={size}" if offers.sizes else ""  # spec: RFC1870#6
        mail += " BODY=8BITMIME" if eight_bit else ""
        mail += " SMTPUTF8" if letter.needs_utf8 else ""
        recipients = [
            (Stage.RCPT, f"RCPT TO:<{address}>\r\n".encode("ascii")) for address in letter.recipients
        ]
        envelope = [(Stage.MAIL, f"{mail}\r\n".encode("ascii")), *recipients]
        size = GROUP if offers.pipelining else 1
        self._groups.extend(envelope[at : at + size] for at in range(0, len(envelope), size))
        # DATA goes alone, though RFC 2920 lets it join a group: a 354 behind a refused RCPT cannot be undone
        self._groups.append([(Stage.DATA, b"DATA\r\n")])
        return self._continue()

    def _continue(self) -> list[Action]:
        """Wait for the rest of a group's replies, or send the next group; RSET behind a refusal."""
        if self._awaited:
            self.stage = self._awaited[0]
            return []
        if self._refusal is not None:
            return self._ask(Stage.RESET, b"RSET\r\n")
        group = self._groups.popleft()
        self._awaited.extend(stage for stage, _ in group)
        return self._ask(self._awaited[0], b"".join(command for _, command in group))

    def _ask(self, stage: Stage, command: bytes) -> list[Action]:
        self.stage = stage
        return [Write(command)]

    # --- ends ---------------------------------------------------------------------------------

    def _cannot(self, trouble: RelayTrouble, text: str) -> list[Action]:
        return self._end(NotHanded(trouble, text), reusable=True)

    def _not_handed(self, trouble: RelayTrouble, said: PeerReply | str = "") -> NotHanded:
        """Return an outcome; one that was certain before (RSET follows it) stands."""
        if self._refusal is not None and self.stage is Stage.RESET:
            return self._refusal
        text = detail(self.stage, said) if isinstance(said, PeerReply) else f"{self.stage} {said}".rstrip()
        return NotHanded(trouble, text)

    def _end(
        self, outcome: Handed | NotHanded, *, reusable: bool = False, stale: bool = False
    ) -> list[Action]:
        return [self._finished(outcome, reusable=reusable, stale=stale)]

    def _finished(
        self, outcome: Handed | NotHanded, *, reusable: bool = False, stale: bool = False
    ) -> Finished:
        self.stage = Stage.READY if reusable else Stage.ENDED
        self._letter = None
        self._groups.clear()
        self._awaited.clear()
        return Finished(outcome, stale)
