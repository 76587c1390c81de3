"""The `Courier`: hands KEP messages to peers over SMTP with STARTTLS and pinned certificates.

What is said is `relay_dialogue`'s business; here are sockets, time, and connections kept for next time.
"""

import asyncio
import hashlib
import hmac
import ssl
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from directory.providers import Peer
from evidence.ports import ByteSource
from kephs.domain.relay import Handed, Letter, NotHanded, RelayTrouble
from kephs.ports import Offload
from smtp_gateway.relay_content import ContentEncoder, LetterError, check_envelope
from smtp_gateway.relay_dialogue import Action, Dialogue, Finished, Stage, StartTls, Write, WriteContent
from smtp_gateway.relay_replies import plain
from smtp_gateway.relay_settings import RelaySettings
from smtp_gateway.relay_wire import Wire, relay_context

PIECE: Final = 256 * 1024
SMALL: Final = 64 * 1024  # content up to this size is read without a hop to a worker
_OPENING: Final = frozenset({Stage.GREETING, Stage.HELLO, Stage.STARTTLS, Stage.SECURE_HELLO})
_ENVELOPE: Final = frozenset({Stage.MAIL, Stage.RCPT, Stage.DATA})


class _PeerNotTrustedError(Exception):
    """No encrypted connection to the registered server; carries the outcome."""

    def __init__(self, trouble: RelayTrouble, text: str) -> None:
        super().__init__(text)
        self.outcome = NotHanded(trouble, plain(f"tls {text}"))


@dataclass(slots=True)
class _Line:
    """A connection, its dialogue, who it leads to and how many letters it has carried."""

    wire: Wire
    dialogue: Dialogue
    certificate: bytes = b""  # SHA-256
    letters: int = 0


class SmtpCourier:
    """Implements the `Courier` port. How many messages go at the same time, the caller decides.

    Args:
        settings: limits.
        hostname: our own name, for EHLO.
        offload: reads large content away from the event loop.
        context: TLS settings; by default TLS 1.2 at least.
    """

    def __init__(
        self,
        settings: RelaySettings,
        *,
        hostname: str,
        offload: Offload,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._settings = settings
        self._hostname = hostname
        self._offload = offload
        self._context = context or relay_context()
        self._kept = _Kept(settings)

    async def hand_over(self, peer: Peer, letter: Letter) -> Handed | NotHanded:
        """Hand one message over; see the port. A kept connection that has died is replaced once, silently.

        Raises:
            LetterError: the letter itself must not be sent (its addresses, line ends, flags): our own fault.
            BlobMissingError: its content cannot be read. The peer has not taken it in either case.
        """
        check_envelope(letter)
        await self._check_content(letter.content)
        line = self._kept.take(peer)
        if line is not None:
            finished = await self._speak(line, peer, letter)
            if not finished.stale:
                return finished.outcome
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                wire = await Wire.connect(peer.host, peer.port)
        except (OSError, UnicodeError) as error:  # TimeoutError and unknown names too
            return NotHanded(RelayTrouble.NO_CONNECTION, plain(f"connect {type(error).__name__}"))
        line = _Line(wire, Dialogue(self._hostname))
        return (await self._speak(line, peer, letter)).outcome

    async def close(self) -> None:
        """Say goodbye on kept connections and end them; later ones are not kept. Safe to call twice."""
        await self._kept.close()

    # --- one letter on one connection ---------------------------------------------------------

    async def _speak(self, line: _Line, peer: Peer, letter: Letter) -> Finished:
        """Send a letter; afterwards the connection is kept, said goodbye to, or gone."""
        kept = False
        try:
            line.letters += 1
            finished = await self._exchange(line, peer, letter)
            if line.dialogue.usable:
                self._kept.put(peer, line)
                kept = True
            return finished
        finally:
            if not kept:
                line.wire.abort()

    async def _exchange(self, line: _Line, peer: Peer, letter: Letter) -> Finished:
        """Do what the dialogue says, until it has finished."""
        wire, dialogue = line.wire, line.dialogue
        heard, deadline, envelope = -1, 0.0, None
        actions = deque(dialogue.begin(letter))
        loop = asyncio.get_running_loop()
        while True:
            while actions:
                action = actions.popleft()
                if isinstance(action, Finished):
                    return action
                actions.extend(await self._act(action, line, peer, letter))
            if heard != dialogue.heard:
                heard, deadline = dialogue.heard, loop.time() + self._time_for(dialogue.stage)
            if dialogue.stage in _ENVELOPE:
                envelope = envelope or loop.time() + self._settings.envelope_timeout
                deadline = min(deadline, envelope)
            try:
                async with asyncio.timeout_at(deadline):
                    data = await wire.read()
            except TimeoutError:
                return dialogue.silent()
            actions.extend(dialogue.feed(data) if data else [dialogue.lost()])

    def _time_for(self, stage: Stage) -> float:
        settings = self._settings
        if stage in _OPENING:
            return settings.opening_timeout
        if stage is Stage.FINAL:
            return settings.final_timeout
        return settings.farewell_timeout if stage is Stage.RESET else settings.reply_timeout

    async def _act(self, action: Action, line: _Line, peer: Peer, letter: Letter) -> Sequence[Action]:
        match action:
            case Write(data):
                line.wire.write(data)
            case StartTls():
                try:
                    line.certificate = await self._secure(line.wire, peer)
                except _PeerNotTrustedError as error:
                    return [Finished(error.outcome)]
                return line.dialogue.secured()
            case WriteContent():
                return await self._send_content(line, letter)
        return []

    async def _secure(self, wire: Wire, peer: Peer) -> bytes:
        """Shake hands; return the certificate's digest, which is one of the peer's pins."""
        try:
            async with asyncio.timeout(self._settings.opening_timeout):
                certificate = await wire.start_tls(self._context, peer.host)
        except TimeoutError:
            raise _PeerNotTrustedError(RelayTrouble.SILENT, "handshake") from None
        except (OSError, ValueError) as error:  # ValueError: a host name that TLS cannot name
            reason = getattr(error, "reason", None) or type(error).__name__
            raise _PeerNotTrustedError(RelayTrouble.TLS_FAILED, f"handshake {reason}") from error
        digest = hashlib.sha256(certificate).digest()
        if not certificate or not _pinned(digest, peer):
            raise _PeerNotTrustedError(RelayTrouble.WRONG_CERTIFICATE, f"certificate sha256={digest.hex()}")
        return digest

    # --- content ------------------------------------------------------------------------------

    async def _check_content(self, content: ByteSource) -> None:
        end = await self._read(content, max(content.size - 2, 0), 2)
        if end != b"\r\n":
            raise LetterError("content does not end with CRLF")

    async def _read(self, content: ByteSource, start: int, length: int) -> bytes:
        if content.size <= SMALL:
            return content.read(start, length)
        return await self._offload.run(content.read, start, length)

    async def _send_content(self, line: _Line, letter: Letter) -> Sequence[Action]:
        """Stream content; the peer must take it at the minimum rate, and may end it with a refusal."""
        wire, dialogue, content = line.wire, line.dialogue, letter.content
        encoder = ContentEncoder(eight_bit=letter.needs_8bit or letter.needs_utf8)
        loop = asyncio.get_running_loop()
        waited, sent = 0.0, 0
        while sent < content.size:
            piece = await self._read(content, sent, min(PIECE, content.size - sent))
            if not piece:
                raise LetterError("content is shorter than its size")
            wire.write(encoder.feed(piece))
            sent += len(piece)
            allowed = self._settings.content_grace + sent / self._settings.content_min_rate
            began = loop.time()
            if actions := await self._flush(line, allowed - waited):
                return actions
            waited += loop.time() - began
        wire.write(encoder.end())
        return dialogue.content_sent()

    async def _flush(self, line: _Line, allowed: float) -> Sequence[Action]:
        """Wait until the peer has taken what was sent; return what to do where it refuses, dies or sleeps."""
        wire, dialogue = line.wire, line.dialogue
        try:
            async with asyncio.timeout(allowed):
                while True:
                    await wire.stirred()
                    if actions := dialogue.feed(wire.take()):
                        return actions
                    if wire.lost:
                        return [dialogue.lost()]
                    if not wire.behind:
                        return []
        except TimeoutError:
            return [dialogue.silent()]


def _pinned(digest: bytes, peer: Peer) -> bool:
    """Compare with every pin, in the same time whichever fits."""
    found = False
    for pin in peer.tls_pins:
        found |= hmac.compare_digest(pin, digest)
    return found


class _Kept:
    """Connections that wait for the next letter, newest last, by peer; and those that are saying goodbye."""

    def __init__(self, settings: RelaySettings) -> None:
        self._settings = settings
        self._waiting: dict[tuple[str, str, int], list[tuple[_Line, asyncio.TimerHandle]]] = {}
        self._leaving: set[Wire] = set()
        self._closing = False

    def take(self, peer: Peer) -> _Line | None:
        """Return a connection to a peer whose certificate is still one of its pins."""
        waiting = self._waiting.get(_place(peer), [])
        while waiting:
            line, _ = waiting[-1]
            self._forget(peer, line)
            if _pinned(line.certificate, peer):
                return line
            self._leave(line.wire)
        return None

    def put(self, peer: Peer, line: _Line) -> None:
        """Keep a connection a while, if there is room; it leaves when the peer ends it or says something."""
        waiting = self._waiting.setdefault(_place(peer), [])
        worn = line.letters >= self._settings.letters_per_connection or line.wire.ending
        if self._closing or worn or len(waiting) >= self._settings.idle_connections:
            self._leave(line.wire)
            return

        def end() -> None:
            self._forget(peer, line)
            self._leave(line.wire)

        line.wire.watch(end)
        waiting.append((line, asyncio.get_running_loop().call_later(self._settings.idle_time, end)))

    async def close(self) -> None:
        self._closing = True
        for waiting in list(self._waiting.values()):
            for line, timer in waiting:
                timer.cancel()
                self._leave(line.wire)
        self._waiting.clear()
        for wire in list(self._leaving):
            await wire.closed()

    def _forget(self, peer: Peer, line: _Line) -> None:
        line.wire.watch(None)
        waiting = self._waiting[_place(peer)]
        for entry in waiting:
            if entry[0] is line:
                entry[1].cancel()
                waiting.remove(entry)
                break

    def _leave(self, wire: Wire) -> None:
        self._leaving.add(wire)
        wire.leave(self._settings.farewell_timeout, lambda: self._leaving.discard(wire))


def _place(peer: Peer) -> tuple[str, str, int]:
    return peer.domain, peer.host, peer.port
