"""One submission connection: AUTH, beside what every edge does (`smtp_gateway.protocol`)."""
# ruff: noqa: N802  # aiosmtpd finds commands by the name of their method

import asyncio
from collections.abc import Coroutine
from typing import Any, ClassVar, Final, Protocol

from kephs.ports import Spool
from smtp_gateway.authenticator import (
    RESPONSE_MAX,
    Authenticator,
    CredentialsUnavailableError,
    SaslError,
    ThrottledError,
    decode_response,
    split_plain,
)
from smtp_gateway.data_stream import Received
from smtp_gateway.protocol import EdgeProtocol, Hub
from smtp_gateway.replies import Reply, simple
from smtp_gateway.settings import EdgeSettings
from smtp_gateway.submission import Dialogue, DialogueSettings

_REJECTED: Final = simple(535, "5.7.8", "Authentication credentials invalid")
_UNREADABLE: Final = simple(501, "5.5.2", "Cannot read the authentication answer")
_TOO_MANY_TRIES: Final = simple(421, "4.7.0", "Too many authentication failures", close=True)
_AUTH_LATER: Final = simple(454, "4.7.0", "Temporary authentication failure")
_SIGNED_IN: Final = simple(235, "2.7.0", "Authentication successful")


class SubmissionHub(Hub, Protocol):
    """The submission server as its connections see it."""

    settings: EdgeSettings
    authenticator: Authenticator

    def decision(self, dialogue: Dialogue, spool: Spool, received: Received) -> Coroutine[Any, Any, Reply]:
        """Return the work that decides a message."""
        ...


class SubmissionProtocol(EdgeProtocol):
    """One holder's connection."""

    edge: ClassVar = "submission"
    commands: ClassVar = "EHLO AUTH MAIL RCPT DATA RSET NOOP QUIT"
    _hub: SubmissionHub
    _dialogue: Dialogue

    def __init__(self, hub: SubmissionHub, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(hub, loop)
        self._tries = 0

    def _fresh_dialogue(self, *, secure: bool) -> Dialogue:
        settings = self._hub.settings
        return Dialogue(
            DialogueSettings(settings.hostname, settings.max_wire, settings.max_recipients), secure=secure
        )

    def _set_deadlines(self) -> None:
        self._deadlines.append(self.loop.call_later(self._hub.settings.login_timeout, self._timeout_cb))

    def _decision(self, spool: Spool, received: Received) -> Coroutine[Any, Any, Reply]:
        return self._hub.decision(self._dialogue, spool, received)

    async def smtp_AUTH(self, arg: str | None) -> None:
        """Sign in with PLAIN or LOGIN: address and app password."""
        arguments = (arg or "").split()
        refusal = self._dialogue.auth_refusal(arguments)
        if refusal is None:
            refusal = await self._sign_in(*arguments)
            if self._dialogue.person is None:
                self._tries += 1
                if self._tries >= self._hub.settings.auth_tries:
                    refusal = _TOO_MANY_TRIES
        await self._say(refusal)

    async def _sign_in(self, mechanism: str, initial: str | None = None) -> Reply:
        try:
            address, password = await self._credentials(mechanism.upper(), initial)
            person = await self._hub.authenticator.check(address, password, self._peer)
        except SaslError:
            return _UNREADABLE
        except ThrottledError:
            return _TOO_MANY_TRIES
        except CredentialsUnavailableError:
            return _AUTH_LATER
        if person is None:
            return _REJECTED
        self._dialogue.person = person
        self._drop_deadlines()
        return _SIGNED_IN

    async def _credentials(self, mechanism: str, initial: str | None) -> tuple[str, str]:
        # spec: RFC4954#4
        first = None if initial is None else initial.encode("utf-8", "surrogateescape")
        if mechanism == "PLAIN":
            return split_plain(decode_response(await self._challenge(b"") if first is None else first))
        name = decode_response(await self._challenge(b"VXNlcm5hbWU6") if first is None else first)
        return name, decode_response(await self._challenge(b"UGFzc3dvcmQ6"))

    async def _challenge(self, challenge: bytes) -> bytes:
        await self.push(b"334 " + challenge)
        line = bytes(await self._reader.readuntil()).rstrip(b"\r\n")
        if line == b"*" or len(line) > RESPONSE_MAX:
            raise SaslError("given up or too long")
        return line
