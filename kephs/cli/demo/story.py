"""The demo's steps for one message: sign, submit, look, read, collect, bundle, verify."""

import asyncio
import email
import email.policy
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from evidence.forms.serialise import read as read_record
from evidence.model.records import EvidenceKind, EvidenceRecord, SealedEvidence, file_stem
from evidence.report import Verdict
from kephs.cli.demo.clients import DemoError, Mailbox, open_mailbox, submit
from kephs.cli.demo.notice import compose, sign
from kephs.cli.demo.people import DemoAccount, Stage
from kephs.cli.demo.servers import imap_of, submission_of

EXPECTED: Final = frozenset(
    {EvidenceKind.SUBMISSION_ACCEPTANCE, EvidenceKind.DELIVERY, EvidenceKind.RETRIEVAL}
)
Say = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Scene:
    """Who sends to whom, at which providers that are up, and which roots the verifier trusts."""

    sender: DemoAccount
    recipient: DemoAccount
    sending: Stage
    receiving: Stage
    trust: Path

    @property
    def expected(self) -> frozenset[EvidenceKind]:
        """Return the evidence that this message ends with."""
        crosses = self.sending.home != self.receiving.home
        return EXPECTED | {EvidenceKind.RELAY_ACCEPTANCE} if crosses else EXPECTED


@dataclass(slots=True)
class Outcome:
    """What one message of the demo left behind."""

    message_id: str
    scene: Scene
    folder: Path
    records: list[EvidenceRecord] = field(default_factory=list)
    verified: dict[str, bool] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Say whether all evidence is there and everything verified."""
        kinds = {record.kind for record in self.records}
        return kinds == self.scene.expected and all(self.verified.values())


async def tell(scene: Scene, folder: Path, *, at: datetime, attach: Path | None, say: Say) -> Outcome:
    """Carry one notice through its whole life and check every trace it leaves.

    Raises:
        DemoError: a step failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    clock = _Stopwatch()
    sender, stage = scene.sender, scene.sending
    original = await sign(compose(sender, scene.recipient, at, attach), sender, at)
    (folder / "original.eml").write_bytes(original)
    say("imzalandı / signed", f"{sender.name}, {len(original):,} B")
    clock.lap("sign")
    reply = await submit(submission_of(stage), sender, [scene.recipient.address], original)
    clock.lap("submit")
    say("250 kabul edildi / accepted", f"delil / evidence {reply.evidence_id}")
    outcome = Outcome(reply.message_id, scene, folder)
    await _read(outcome, say)
    clock.lap("deliver and read")
    await _collect(outcome)
    clock.lap("collect evidence")
    await _kephs("bundle", str(stage.home), outcome.message_id, str(folder / "bundle.kepdelil"))
    clock.lap("bundle")
    await _verify(outcome)
    clock.lap("verify offline")
    outcome.seconds = clock.laps
    return outcome


async def _read(outcome: Outcome, say: Say) -> None:
    """Look at the header first, prove that this made no evidence 60, then read the content."""
    scene = outcome.scene
    async with (
        open_mailbox(imap_of(scene.receiving), scene.recipient) as inbox,
        open_mailbox(imap_of(scene.sending), scene.sender) as mine,
    ):
        await inbox.select("INBOX")
        uid = await inbox.wait_for(Message_ID=outcome.message_id)
        await inbox.fetch(uid, "BODY.PEEK[HEADER]")
        await mine.select("Deliller")
        await mine.wait_for(
            X_REM_Message_Identifier=outcome.message_id, X_REM_Evidence_Type="DeliveryNonDeliveryToRecipient"
        )
        before = await _evidence_of(mine, outcome.message_id)
        if EvidenceKind.RETRIEVAL in {one.record.kind for one in before}:
            raise DemoError("looking at the header made evidence 60")
        if EvidenceKind.RELAY_ACCEPTANCE in scene.expected:
            say("karşı KEPHS aldı / relayed", f"delil 20, {scene.recipient.provider}")
        say("teslim edildi / delivered", "başlık okundu, delil 60 yok / header fetched, no evidence 60")
        dispatch = await inbox.fetch(uid, "BODY.PEEK[]")
        (outcome.folder / "dispatch.eml").write_bytes(dispatch)
        say("okundu / read", f"{scene.recipient.name}, {len(dispatch):,} B")


async def _collect(outcome: Outcome) -> None:
    """Wait for all evidence in the sender's Deliller and write it to files."""
    target = outcome.folder / "evidence"
    target.mkdir(exist_ok=True)
    async with open_mailbox(imap_of(outcome.scene.sending), outcome.scene.sender) as mine:
        await mine.select("Deliller")
        await mine.wait_for(
            X_REM_Message_Identifier=outcome.message_id,
            X_REM_Evidence_Type="RetrievalNonRetrievalByRecipient",
        )
        found = await _evidence_of(mine, outcome.message_id)
    for old in (*target.glob("*.xml"), *target.glob("*.ers")):
        old.unlink()
    for one in found:
        stem = file_stem(one.record.kind, one.record.refers_to)
        (target / f"{stem}.xml").write_bytes(one.xml)
        if one.ers is not None:
            (target / f"{stem}.ers").write_bytes(one.ers)
    outcome.records = sorted((one.record for one in found), key=lambda record: record.event_time)


async def _evidence_of(mailbox: Mailbox, message_id: str) -> list[SealedEvidence]:
    """Take the evidence out of the receipts: the XML, and the evidence record that travels beside it."""
    found = []
    for uid in await mailbox.about(message_id):
        message = email.message_from_bytes(await mailbox.fetch(uid, "BODY.PEEK[]"), policy=email.policy.SMTP)
        parts = {
            str(part["X-REM-Section-Type"]).strip(): part.get_payload(decode=True) for part in message.walk()
        }
        xml, ers = parts.get("rem_message/xml_evidence"), parts.get("rem_message/extension")
        if isinstance(xml, bytes):
            found.append(SealedEvidence(read_record(xml), xml, ers if isinstance(ers, bytes) else None))
    return found


async def _verify(outcome: Outcome) -> None:
    """Verify the files by the command a stranger would use; it touches no network."""
    paths = [
        outcome.folder / "dispatch.eml",
        *sorted((outcome.folder / "evidence").glob("*.xml")),
        outcome.folder / "bundle.kepdelil",
    ]
    _, output = await run_kephs("verify", *map(str, paths), "--trust", str(outcome.scene.trust), "--json")
    for path, report in zip(paths, json.loads(output)["reports"], strict=True):
        outcome.verified[str(path.relative_to(outcome.folder))] = report["verdict"] == Verdict.PASSED


async def _kephs(*arguments: str) -> None:
    code, output = await run_kephs(*arguments)
    if code:
        raise DemoError(f"kephs {arguments[0]} failed: {output}")


async def run_kephs(*arguments: str) -> tuple[int, str]:
    """Run a command as a stranger would; return its exit status and what it printed."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", "from kephs.cli.main import main; main()", *arguments,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await child.communicate()
    return child.returncode or 0, (output or errors).decode("utf-8", "replace").strip()


class _Stopwatch:
    """Seconds between laps."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Note the time since the last lap."""
        now = time.perf_counter()
        self.laps[name], self._last = round(now - self._last, 3), now
