"""What submission and inbound say alike: order and syntax of MAIL, RCPT, DATA, and the envelope.

Independent of the server library (D9): every command is a method that returns a reply. Before DATA
nothing is evidence (rules-in-detail).
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Final

from kephs.domain.refusals import RefusalCode
from smtp_gateway.replies import Reply, coded, simple

OK: Final = simple(250, "2.0.0", "OK")
_SENDER_TAKEN: Final = simple(250, "2.1.0", "OK")
_RECIPIENT_TAKEN: Final = simple(250, "2.1.5", "OK")
HELLO_FIRST: Final = simple(503, "5.5.1", "Send EHLO first")
_GO_ON: Final = Reply(b"354 End data with <CR><LF>.<CR><LF>")
_PATH: Final = re.compile(r"(FROM|TO): {0,8}<([^<>\x00-\x20\x7f]{0,1024})>((?: +[^ ]+)*) *\Z", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"[^@\s]{1,256}@[^@\s]{1,255}\Z")  # spec: RFC5321#4.5.3.1.3
_PARAM: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^\x00-\x20=\x7f]+))?\Z")
_NOT_UTF8: Final = re.compile("[\ud800-\udfff]")  # how aiosmtpd marks bytes that are not UTF-8
_HOST: Final = re.compile(r"[\x21-\x7e]{1,255}\Z")


@dataclass(frozen=True, slots=True)
class DialogueSettings:
    """What the dialogue announces and refuses. Sizes in bytes on the wire."""

    hostname: str
    max_wire: int
    max_recipients: int = 500


@dataclass(slots=True)
class Envelope:
    """One transaction's envelope: which recipients are kept in ``named`` is the edge's business."""

    sender: str | None = None
    named: list[str] = field(default_factory=list)
    commands: int = 0  # RCPT commands, also refused ones
    accepted: int = 0
    any_refused: bool = False
    utf8: bool = False


class MailDialogue(ABC):
    """One connection's commands and envelope."""

    too_big: ClassVar[RefusalCode]

    def __init__(self, settings: DialogueSettings, *, secure: bool) -> None:
        """Begin a dialogue; ``secure`` says that the connection is under TLS."""
        self._settings = settings
        self._secure = secure
        self._greeted = False
        self._extended = False
        self._envelope = Envelope()

    @property
    def utf8(self) -> bool:
        """Say whether the client asked for SMTPUTF8 in this transaction."""
        return self._envelope.utf8

    @property
    def in_transaction(self) -> bool:
        """Say whether a MAIL was taken and its message is still to come."""
        return self._envelope.sender is not None

    # --- what the edges differ in -------------------------------------------------------------

    @abstractmethod
    def _extensions(self) -> list[str]:
        """Return what EHLO announces beside the common extensions."""

    @abstractmethod
    def _not_yet(self) -> Reply | None:
        """Return what has to come before any mail, or None."""

    @abstractmethod
    def _null_sender_refusal(self, *, utf8: bool) -> Reply | None:
        """Return why an empty MAIL FROM is refused, or None."""

    @abstractmethod
    def _number_refusal(self) -> Reply | None:
        """Return why one more recipient is refused, or None; the envelope counts it already."""

    @abstractmethod
    def _recipient_refusal(self, address: str) -> Reply | None:
        """Return why a well-formed recipient is refused, or None."""

    @abstractmethod
    def _remember(self, recipient: str, *, refused: bool) -> None:
        """Keep a recipient in the envelope, or not."""

    # --- commands -----------------------------------------------------------------------------

    def reset(self) -> Reply:
        """Forget the envelope (RSET, and after each message)."""
        self._envelope = Envelope()
        return OK

    def hello(self, host: str | None, *, extended: bool) -> Reply:
        """Answer EHLO or HELO."""
        if not host or not _HOST.match(host.strip()):
            return simple(501, "5.5.4", "Syntax: EHLO hostname")
        self.reset()
        self._greeted, self._extended = True, extended
        if not extended:
            return Reply(f"250 {self._settings.hostname}".encode())
        *most, last = [
            self._settings.hostname,
            f"SIZE {self._settings.max_wire}",
            "8BITMIME",
            "SMTPUTF8",
            "PIPELINING",
            "ENHANCEDSTATUSCODES",
            *self._extensions(),
        ]
        return Reply("\r\n".join([*(f"250-{line}" for line in most), f"250 {last}"]).encode())

    def _not_now(self) -> Reply | None:
        return self._not_yet() if self._greeted else HELLO_FIRST

    def mail(self, argument: str | None) -> Reply:
        """Answer MAIL: syntax and announced size only; who may send is decided with the message."""
        refusal = self._not_now()
        if refusal is not None:
            return refusal
        if self._envelope.sender is not None:
            return simple(503, "5.5.1", "Nested MAIL command")
        path = _parse_path(argument, "FROM")
        if path is None:
            return simple(501, "5.5.4", "Syntax: MAIL FROM:<address> [parameters]")
        address, params = path
        utf8 = any(name == "SMTPUTF8" for name, _ in params)
        refusal = next((r for r in (self._param_refusal(*param) for param in params) if r is not None), None)
        if refusal is None:
            refusal = (
                _address_refusal(address, "5.1.7", utf8=utf8)
                if address
                else self._null_sender_refusal(utf8=utf8)
            )
        if refusal is not None:
            return refusal
        self._envelope.sender, self._envelope.utf8 = address, utf8
        return _SENDER_TAKEN

    def _param_refusal(self, name: str, value: str | None) -> Reply | None:
        text = (value or "").upper()
        if name == "SIZE" and text.isascii() and text.isdigit() and len(text) <= 20:  # spec: RFC1870#3
            return coded(self.too_big, utf8=False) if int(text) > self._settings.max_wire else None
        accepted = (
            (name == "BODY" and text in {"7BIT", "8BITMIME"})
            or (name == "SMTPUTF8" and value is None)
            or (name == "AUTH" and bool(text))  # spec: RFC4954#5 (syntax kept, value not trusted)
        )
        return None if accepted else simple(555, "5.5.4", "MAIL parameters not recognized or not implemented")

    def rcpt(self, argument: str | None) -> Reply:
        """Answer RCPT: syntax, number, domain; unknown recipients are the message's business."""
        refusal = self._not_now()
        if refusal is not None:
            return refusal
        envelope = self._envelope
        if envelope.sender is None:
            return simple(503, "5.5.1", "Need MAIL command")
        envelope.commands += 1
        path = _parse_path(argument, "TO")
        refusal = self._rcpt_refusal(path)
        self._remember((path[0] if path else (argument or ""))[:1024], refused=refusal is not None)
        if refusal is not None:
            envelope.any_refused = True
            return refusal
        envelope.accepted += 1
        return _RECIPIENT_TAKEN

    def _rcpt_refusal(self, path: tuple[str, list[tuple[str, str | None]]] | None) -> Reply | None:
        refusal = self._number_refusal()
        if refusal is not None:
            return refusal
        if path is None or not path[0]:
            return simple(501, "5.5.4", "Syntax: RCPT TO:<address>")
        if path[1]:
            return simple(555, "5.5.4", "RCPT parameters not recognized or not implemented")
        return _address_refusal(path[0], "5.1.3", utf8=self.utf8) or self._recipient_refusal(path[0])

    def data(self, argument: str | None) -> tuple[Reply, bool]:
        """Answer DATA; True with the reply that lets the content come."""
        refusal = self._not_now()
        if refusal is not None:
            return refusal, False
        if argument:
            return simple(501, "5.5.4", "Syntax: DATA"), False
        if self._envelope.sender is None or not self._envelope.commands:
            return simple(503, "5.5.1", "Need MAIL and RCPT first"), False
        if not self._envelope.accepted:
            return simple(554, "5.5.1", "No valid recipients"), False
        return _GO_ON, True


def _parse_path(argument: str | None, keyword: str) -> tuple[str, list[tuple[str, str | None]]] | None:
    match = _PATH.match(argument or "")
    if match is None or match[1].upper() != keyword or _NOT_UTF8.search(match[0]):
        return None
    address = match[2]
    if address.startswith("@"):  # spec: RFC5321#4.1.1.3 (a source route is ignored)
        address = address.rpartition(":")[2]
    params: list[tuple[str, str | None]] = []
    for word in match[3].split():
        param = _PARAM.match(word)
        if param is None:
            return None
        params.append((param[1].upper(), param[2]))
    return address, params


def _address_refusal(address: str, enhanced: str, *, utf8: bool) -> Reply | None:
    if not _ADDRESS.match(address):
        return simple(501, enhanced, "Malformed address")
    if not utf8 and not address.isascii():
        return simple(553, "5.6.7", "Address needs SMTPUTF8")  # spec: RFC6531#3.4
    return None
