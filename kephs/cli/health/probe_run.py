"""The probe's steps. They stop at the first that fails or takes too long; what came before is told too."""

import asyncio
import email
import email.policy
import re
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from typing import Final

import aiosmtplib

from config.settings import Settings
from directory.addresses import KepAddress
from evidence.forms.serialise import read as read_record
from evidence.mail.kep_message import KepMessageError, parse_kep_message
from evidence.mail.mime import Range
from evidence.model.records import NAMES, EvidenceKind
from evidence.ports import BytesSource
from evidence.verify.evidence import check_evidence
from evidence.x509.chain import TrustStore
from evidence.xml.reader import EvidenceFormatError
from kephs.bootstrap import open_seal_policy, open_trust
from kephs.cli.demo.clients import DemoError, Endpoint, Mailbox, open_mailbox
from kephs.cli.demo.notice import sign
from kephs.cli.demo.people import DemoAccount
from kephs.system import SystemClock

_EVIDENCE: Final = re.compile(r"evidence=(\S+)")
_MESSAGE: Final = re.compile(r"message=(\S+)")
_LOOK_EVERY: Final = 0.1  # seconds
_TEXT: Final = "Bu ileti kephs probe tarafından gönderildi.\nThis message was sent by kephs probe.\n"


class ProbeError(Exception):
    """A step failed; the text says why."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where a provider's ports answer; without ``ca_file`` the system's roots decide about TLS."""

    host: str
    submission_port: int
    imap_port: int
    ca_file: Path | None

    def endpoint(self, port: int) -> Endpoint:
        """Return one port as the demo's clients take it."""
        if self.ca_file is None:
            return _PublicEndpoint(self.host, port, Path())
        return Endpoint(self.host, port, self.ca_file)


@dataclass(frozen=True, slots=True)
class _PublicEndpoint(Endpoint):
    """A port whose certificate the system's roots vouch for."""

    def tls(self) -> ssl.SSLContext:
        """Return a client context with the system's roots."""
        return ssl.create_default_context()


@dataclass(frozen=True, slots=True)
class Trip:
    """Who sends to whom, where; ``reading`` and ``reader`` where the recipient's mailbox is known."""

    sender: DemoAccount
    to: str
    sending: Server
    reading: Server | None
    reader: DemoAccount | None


@dataclass(frozen=True, slots=True)
class StepDone:
    """One step: how long it took and what came of it."""

    name: str
    seconds: float
    ok: bool
    detail: str


@dataclass(slots=True)
class Probed:
    """All steps that were taken."""

    message_id: str | None = None
    steps: list[StepDone] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Say whether all went well."""
        return bool(self.steps) and all(step.ok for step in self.steps)


async def probe(settings: Settings, trip: Trip, limit: float) -> Probed:
    """Take all steps, each within ``limit`` seconds; never raises for what a server does."""
    walk = _Walk(settings, trip, limit)
    try:
        async with AsyncExitStack() as stack:
            await walk.all(stack)
    except (DemoError, OSError, aiosmtplib.SMTPException) as error:
        # only saying goodbye is left: a step's own failure has been noted and has ended the walk
        if not walk.ended:
            walk.done.steps.append(StepDone("leave", 0.0, ok=False, detail=_reason(error, limit)))
    return walk.done


class _EndOfWalkError(DemoError):
    """A step failed, and is noted."""


class _Walk:
    """The steps in their order."""

    def __init__(self, settings: Settings, trip: Trip, limit: float) -> None:
        self.done = Probed()
        self.ended = False
        self._settings, self._trip, self._limit = settings, trip, limit
        self._clock = SystemClock()
        self._signed = b""
        self._user_message_id = f"<{secrets.token_hex(12)}@probe.{trip.sender.provider}>"

    async def all(self, stack: AsyncExitStack) -> None:
        """Take every step; on the first failure `_EndOfWalkError`."""
        trip = self._trip
        await self._sign()
        client = aiosmtplib.SMTP(
            hostname=trip.sending.host, port=trip.sending.submission_port, use_tls=True,
            tls_context=trip.sending.endpoint(0).tls(), timeout=self._limit,
        )  # fmt: skip
        stack.callback(client.close)
        async with self._step("connect") as say:
            await client.connect()
            say.append(f"{trip.sending.host}:{trip.sending.submission_port}, TLS")
        async with self._step("login") as say:
            await client.login(trip.sender.address, trip.sender.app_password)
            say.append("accepted")
        async with self._step("mailbox") as say:
            mine = await self._open(stack, trip.sending, trip.sender)
            inbox = None
            if trip.reading is not None and trip.reader is not None:
                inbox = await self._open(stack, trip.reading, trip.reader)
                await inbox.select("INBOX")
            say.append("signed in over IMAP")
        message_id = await self._submit(client)
        await client.quit()
        await self._deliver(mine, inbox, message_id)
        read = inbox is not None and await self._fetch(inbox, message_id)
        await self._prove(mine, message_id, read=read)

    async def _open(self, stack: AsyncExitStack, server: Server, who: DemoAccount) -> Mailbox:
        return await stack.enter_async_context(open_mailbox(server.endpoint(server.imap_port), who))

    async def _sign(self) -> None:
        now = self._clock.now()
        async with self._step("sign") as say:
            self._signed = await sign(
                _compose(self._trip, format_datetime(now), self._user_message_id), self._trip.sender, now
            )
            say.append(f"{len(self._signed):,} octets")

    async def _submit(self, client: aiosmtplib.SMTP) -> str:
        async with self._step("submit") as say:
            _, text = await client.sendmail(self._trip.sender.address, [self._trip.to], self._signed)
            evidence, message = _EVIDENCE.search(text), _MESSAGE.search(text)
            if not evidence or not message:
                raise ProbeError(f"the reply names no evidence: {text}")
            self.done.message_id = message[1]
            say.append(f"250, evidence {evidence[1]}")
        return message[1]

    async def _deliver(self, mine: Mailbox, inbox: Mailbox | None, message_id: str) -> None:
        async with self._step("deliver") as say:
            if inbox is not None:
                await inbox.wait_for(Message_ID=message_id)
                say.append("in the recipient's mailbox")
            else:
                await _evidence(mine, message_id, self._user_message_id, {EvidenceKind.DELIVERY})
                say.append("evidence 40 has come")

    async def _fetch(self, inbox: Mailbox, message_id: str) -> bool:
        """Read the message; say whether it was read, and not only a placeholder of it."""
        async with self._step("fetch") as say:
            uid = await inbox.wait_for(Message_ID=message_id)
            content = await inbox.fetch(uid, "BODY.PEEK[]")
            read = self._signed in content
            if not read and self._settings.read.trigger_imap_body:
                raise ProbeError("what was fetched does not hold the message as it was sent")
            if read:
                span = _original(content)
                if span is None or content[span.start : span.end] != self._signed:
                    raise ProbeError("the KEP message does not carry the original as it was sent")
            say.append(f"{len(content):,} octets" + ("" if read else ", a placeholder: reading is gated"))
        return read

    async def _prove(self, mine: Mailbox, message_id: str, *, read: bool) -> None:
        wanted = {EvidenceKind.SUBMISSION_ACCEPTANCE, EvidenceKind.DELIVERY}
        if read:
            wanted.add(EvidenceKind.RETRIEVAL)
        suffix = self._settings.provider.suffix
        if KepAddress.parse(self._trip.to, suffix=suffix).provider != self._settings.provider.domain:
            wanted.add(EvidenceKind.RELAY_ACCEPTANCE)
        async with self._step("evidence") as say:
            found = await _evidence(mine, message_id, self._user_message_id, wanted)
            self._verify(found.values(), open_trust(self._settings))
            say.append(f"{', '.join(str(kind.value) for kind in sorted(found))} verified")

    def _verify(self, contents: Iterable[bytes], trust: TrustStore) -> None:
        for xml in contents:
            check = check_evidence(xml, trust, self._clock.now(), open_seal_policy(self._settings))
            if not check.passed:
                step = check.report.failing_step
                why = f"{step.name}: {step.detail}" if step else "not verified"
                raise ProbeError(f"an evidence does not verify: {why}")

    @asynccontextmanager
    async def _step(self, name: str) -> AsyncIterator[list[str]]:
        """Time a step and note what came of it.

        Raises:
            _EndOfWalkError: it failed; that is noted.
        """
        said: list[str] = []
        began = time.perf_counter()
        failure: str | None = None
        try:
            async with asyncio.timeout(self._limit):
                yield said
        except (ProbeError, DemoError, OSError, aiosmtplib.SMTPException) as error:
            failure = _reason(error, self._limit)
        seconds = time.perf_counter() - began
        if failure is None and seconds > self._limit:
            failure = f"it took longer than {self._limit:g} s"
        self.done.steps.append(StepDone(name, seconds, failure is None, failure or ", ".join(said)))
        if failure is not None:
            self.ended = True
            raise _EndOfWalkError(name)


def _reason(error: BaseException, limit: float) -> str:
    if isinstance(error, TimeoutError):  # aiosmtplib's time-outs are some, too
        return f"it took longer than {limit:g} s"
    text = " ".join(str(error).split())[:500]
    return text or type(error).__name__


async def _evidence(
    mailbox: Mailbox, message_id: str, user_message_id: str, wanted: set[EvidenceKind]
) -> dict[EvidenceKind, bytes]:
    """Wait until the sender's Deliller holds these kinds; return all that there are.

    Raises:
        ProbeError: one came that says no.
    """
    found: dict[EvidenceKind, bytes] = {}
    seen: set[int] = set()
    while True:
        await mailbox.select("Deliller")
        for uid in await mailbox.about(message_id, user_message_id):
            if uid not in seen:
                seen.add(uid)
                found.update(_inside(await mailbox.fetch(uid, "BODY.PEEK[]")))
        bad = [kind for kind in found if NAMES[kind].negative]
        if bad:
            names = NAMES[bad[0]]
            raise ProbeError(f"evidence {bad[0].value} came: {names.english} / {names.turkish}")
        if wanted <= set(found):
            return found
        await asyncio.sleep(_LOOK_EVERY)


def _original(content: bytes) -> Range | None:
    try:
        return parse_kep_message(BytesSource(content)).original
    except KepMessageError as error:
        raise ProbeError(f"what was fetched is no KEP message: {error}") from None


def _inside(receipt: bytes) -> dict[EvidenceKind, bytes]:
    message = email.message_from_bytes(receipt, policy=email.policy.SMTP)
    found = {}
    for part in message.walk():
        section = part.get("X-REM-Section-Type") or part.get("REM-Section-Type") or ""
        if section.strip() == "rem_message/xml_evidence":
            xml = part.get_payload(decode=True)
            assert isinstance(xml, bytes)
            found[_kind(xml)] = xml
    return found


def _kind(xml: bytes) -> EvidenceKind:
    try:
        return read_record(xml).kind
    except EvidenceFormatError as error:
        raise ProbeError(f"an evidence cannot be read: {error}") from None


def _compose(trip: Trip, date: str, user_message_id: str) -> bytes:
    message = EmailMessage(policy=SMTP)
    message["From"] = trip.sender.address
    message["To"] = trip.to
    message["Subject"] = "kephs probe"
    message["Date"] = date
    message["Message-ID"] = user_message_id
    message.set_content(_TEXT, cte="quoted-printable")
    return message.as_bytes()
