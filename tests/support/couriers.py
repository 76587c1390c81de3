"""A courier under test, letters to hand over, and patient and hasty settings."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass

from evidence.ports import BytesSource
from kephs.domain.relay import Letter, NotHanded, RelayTrouble
from smtp_gateway.relay_client import SmtpCourier
from smtp_gateway.relay_settings import RelaySettings
from tests.support.smtp_peer import ScriptedPeer

CONTENT = b"From: a@hs91.kep.tr\r\nSubject: x\r\n\r\nmerhaba\r\n.dot\r\n..\r\n.\r\n"
BIG = b"x" * 70 + b"\r\n"
WIRE = b"From: a@hs91.kep.tr\r\nSubject: x\r\n\r\nmerhaba\r\n..dot\r\n...\r\n..\r\n.\r\n"
PATIENT = RelaySettings()
HASTY = RelaySettings(
    connect_timeout=5, opening_timeout=0.3, reply_timeout=0.3, envelope_timeout=5, final_timeout=0.3,
    farewell_timeout=0.3, content_grace=0.3, content_min_rate=100_000_000,
)  # fmt: skip
OPENING = ("greeting", "ehlo", "starttls", "ehlo-tls")
LETTER = ("mail", "rcpt", "data", "final")


@dataclass
class CountingOffload:
    calls: int = 0

    async def run(self, function, *args):
        self.calls += 1
        return await asyncio.to_thread(function, *args)


@asynccontextmanager
async def courier(settings: RelaySettings = PATIENT, **options):
    made = SmtpCourier(settings, hostname="mail.hs91.kep.tr", offload=CountingOffload(), **options)
    try:
        yield made
    finally:
        await made.close()
        assert not made._kept._leaving


def letter(content: bytes = CONTENT, *recipients: str, **flags: bool) -> Letter:
    return Letter("a@hs91.kep.tr", recipients or ("b@hs92.kep.tr",), BytesSource(content), **flags)


async def outcome(script: ScriptedPeer, settings: RelaySettings = PATIENT, of: Letter | None = None):
    async with courier(settings) as made:
        return await made.hand_over(script.peer, of or letter())


async def trouble(script: ScriptedPeer, settings: RelaySettings = PATIENT) -> RelayTrouble:
    found = await outcome(script, settings)
    assert isinstance(found, NotHanded)
    return found.trouble
