"""The demo's mail clients: real SMTP and IMAP clients over TLS, nothing of the server's own code."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiosmtplib
from aioimaplib import aioimaplib

from kephs.cli.demo.people import DemoAccount

_EVIDENCE: Final = re.compile(r"evidence=(\S+)")
_MESSAGE: Final = re.compile(r"message=(\S+)")
PATIENCE: Final = 60.0  # seconds a step of the demo may take


class DemoError(Exception):
    """A step of the demo failed; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens, and the root of its TLS certificate."""

    host: str
    port: int
    ca_file: Path

    def tls(self) -> ssl.SSLContext:
        """Return a client context that trusts only the demo's TLS root."""
        return ssl.create_default_context(cafile=str(self.ca_file))


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answered to a submission."""

    evidence_id: str
    message_id: str


async def submit(endpoint: Endpoint, sender: DemoAccount, recipients: list[str], message: bytes) -> Reply:
    """Submit a signed message and return the ids in the reply.

    Raises:
        DemoError: refused; the text is the server's.
    """
    client = aiosmtplib.SMTP(
        hostname=endpoint.host, port=endpoint.port, use_tls=True, tls_context=endpoint.tls(), timeout=PATIENCE
    )
    try:
        async with client:
            await client.login(sender.address, sender.app_password)
            _, text = await client.sendmail(sender.address, recipients, message)
    except aiosmtplib.SMTPException as error:
        raise DemoError(f"submission refused: {error}") from None
    evidence, kep = _EVIDENCE.search(text), _MESSAGE.search(text)
    if not evidence or not kep:
        raise DemoError(f"the reply names no evidence: {text}")
    return Reply(evidence[1], kep[1])


class Mailbox:
    """One IMAP session with one selected folder."""

    def __init__(self, client: aioimaplib.IMAP4_SSL) -> None:
        self._client = client

    async def select(self, folder: str) -> None:
        """Select a folder."""
        _check(await self._client.select(folder), f"SELECT {folder}")

    async def wait_for(self, **headers: str) -> int:
        """Return the UID of the newest message with all these headers (``_`` for ``-``); wait for it."""
        criteria = " ".join(f'HEADER {name.replace("_", "-")} "{value}"' for name, value in headers.items())
        async with asyncio.timeout(PATIENCE):
            while True:
                response = await self._client.uid_search(criteria, charset=None)
                _check(response, "SEARCH")
                uids = response.lines[0].split()
                if uids:
                    return int(uids[-1])
                await self._idle()

    async def about(self, message_id: str, user_message_id: str | None = None) -> list[int]:
        """Return the UIDs of the receipts about one message.

        Receipts from ``rem-baseline`` providers name it by the client's Message-ID alone.
        """
        criteria = f'HEADER X-REM-Message-Identifier "{message_id}"'
        if user_message_id is not None:
            criteria = f'OR {criteria} HEADER REM-UAMessageIdentifier "{user_message_id}"'
        response = await self._client.uid_search(criteria, charset=None)
        _check(response, "SEARCH")
        return [int(uid) for uid in response.lines[0].split()]

    async def fetch(self, uid: int, item: str) -> bytes:
        """Return one content item of a message, byte for byte."""
        response = await self._client.uid("fetch", str(uid), f"({item})")
        _check(response, f"FETCH {item}")
        literals = [bytes(line) for line in response.lines if isinstance(line, bytearray)]
        if not literals:
            raise DemoError(f"FETCH {item} returned nothing")
        return literals[0]

    async def _idle(self) -> None:
        """Wait until the server says that something changed, at most two seconds."""
        idle = await self._client.idle_start(timeout=2)
        await self._client.wait_server_push()
        self._client.idle_done()
        await asyncio.wait_for(idle, PATIENCE)


@asynccontextmanager
async def open_mailbox(endpoint: Endpoint, who: DemoAccount) -> AsyncIterator[Mailbox]:
    """Sign in over IMAP with address and app password."""
    client = aioimaplib.IMAP4_SSL(
        host=endpoint.host, port=endpoint.port, timeout=PATIENCE, ssl_context=endpoint.tls()
    )
    await client.wait_hello_from_server()
    _check(await client.login(who.address, who.app_password), "LOGIN")
    try:
        yield Mailbox(client)
    finally:
        await client.logout()


def _check(response: aioimaplib.Response, what: str) -> None:
    if response.result != "OK":
        raise DemoError(f"{what}: {response.result} {response.lines}")
