"""The court dossier of one message (Dava dosyası): the bundle, the timeline, and what both say.

What it says rests on evidence and on the bundle alone, so the same contents give the same dossier again. What
comes and goes (retries, a hold by the operator) is left out.

spec: KEP-EV-06, KEP-EV-07; layout in `kephs.dossier`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, Protocol

from evidence.bundle.making import (
    CHECKPOINT,
    EVIDENCE_FOLDER,
    FINGERPRINTS,
    ORIGINAL,
    SENDER_RECORD,
    SENDER_REPORT,
)
from evidence.ledger.notes import Checkpoint, Note
from evidence.ports import ByteSource, BytesSource
from kephs.dossier.content import read_content
from kephs.dossier.data import data_file
from kephs.dossier.facts import (
    BUNDLE_NAME,
    DATA_NAME,
    ORIGINAL_NAME,
    DossierFacts,
    Embedded,
    EvidenceFile,
    LedgerFacts,
    Relationship,
    RootFact,
)
from kephs.ports import Offload
from kephs.usecases.proof.bundle import ReadyBundle
from kephs.usecases.proof.timeline import Awaited, RecipientTimeline, Timeline

_TRIES: Final = 3
_BUNDLE_TYPE: Final = "application/vnd.etsi.asic-e+zip"


class Bundles(Protocol):
    """Whoever makes bundles (`kephs.usecases.proof.bundle.MakeBundle`)."""

    async def make(self, message: str) -> ReadyBundle:
        """Return the bundle of a message."""
        ...


class Timelines(Protocol):
    """Whoever tells timelines (`kephs.usecases.proof.timeline.ShowTimeline`)."""

    async def show(self, wanted: str, *, account: str | None = None) -> Timeline:
        """Return the timeline of a message."""
        ...


class DossierMovingError(Exception):
    """Evidence came in while the dossier was made, again and again: try later."""


class DossierContentGoneError(Exception):
    """The content was destroyed by its owner or with the account: only the bundle of its evidence is left."""


@dataclass(frozen=True, slots=True)
class ReadyDossier:
    """What is to be printed; the bundle is written first and then attached (`attached`)."""

    facts: DossierFacts
    bundle: ReadyBundle
    original: ByteSource

    def attached(self, bundle: ByteSource, digest: bytes) -> DossierFacts:
        """Return the facts with the files that go into the PDF.

        Args:
            bundle: the bundle as it was written.
            digest: its SHA-256.
        """
        data = data_file(self.facts, {BUNDLE_NAME: digest})
        files = (
            Embedded(
                ORIGINAL_NAME, "message/rfc822", Relationship.SOURCE, self.original,
                self.facts.timeline.digest_sha256,
            ),
            Embedded(BUNDLE_NAME, _BUNDLE_TYPE, Relationship.SUPPLEMENT, bundle, digest),
            Embedded(
                DATA_NAME, "application/json", Relationship.DATA, BytesSource(data), sha256(data).digest()
            ),
        )  # fmt: skip
        return replace(self.facts, embedded=files)


@dataclass(frozen=True, slots=True)
class MakeDossier:
    """Gathers the dossier of one message.

    ``provider_name`` and ``provider_domain`` are ours; ``test``: this instance has TEST certificates.
    """

    bundles: Bundles
    timelines: Timelines
    offload: Offload
    provider_name: str
    provider_domain: str
    test: bool = False

    async def make(self, message: str) -> ReadyDossier:
        """Return what the dossier of a message says; its bundle is made, or taken as it was made before.

        Args:
            message: our id of it, or the Message-ID its sender's client gave it.

        Raises:
            BundleUnavailableError: there is no bundle, so there is no dossier.
            DossierMovingError: evidence keeps coming in.
            DossierContentGoneError: the message's content was destroyed.
            TimestampUnavailableError, SignerUnavailableError: the bundle cannot be signed now.
        """
        for _ in range(_TRIES):
            bundle = await self.bundles.make(message)
            if not any(name == ORIGINAL for name, _ in bundle.plan.members):
                raise DossierContentGoneError(bundle.message_id)
            timeline = await self.timelines.show(bundle.message_id)
            manifest = json.loads(bundle.plan.manifest)
            if _evidence_ids(timeline) == {entry["evidence_id"] for entry in manifest["ledger"]}:
                return await self.offload.run(self._ready, bundle, timeline, manifest)
        raise DossierMovingError(message)

    def _ready(self, bundle: ReadyBundle, timeline: Timeline, manifest: Mapping[str, Any]) -> ReadyDossier:
        members = dict(bundle.plan.members)
        original = members[ORIGINAL]
        report = members.get(SENDER_REPORT)
        facts = DossierFacts(
            timeline=_settled(timeline),
            created_at=datetime.fromisoformat(manifest["created_at"]),
            provider_name=self.provider_name,
            provider_domain=self.provider_domain,
            content=read_content(original),
            evidence_files=tuple(_evidence_files(manifest)),
            report=None if report is None else json.loads(_whole(report)),
            report_stamped=SENDER_RECORD in members,
            ledger=_ledger(members.get(CHECKPOINT)),
            roots=_roots(members.get(FINGERPRINTS)),
            test=self.test,
        )
        return ReadyDossier(facts, bundle, original)


def _evidence_ids(timeline: Timeline) -> set[str]:
    events = [*timeline.events, *(event for one in timeline.recipients for event in one.events)]
    return {event.evidence_id for event in events}


def _settled(timeline: Timeline) -> Timeline:
    """Leave out what comes and goes without evidence."""
    recipients = tuple(_without_trouble(one) for one in timeline.recipients)
    return replace(timeline, recipients=recipients)


def _without_trouble(one: RecipientTimeline) -> RecipientTimeline:
    awaited: Awaited | None = one.awaited
    if awaited is None:
        return one
    return replace(one, awaited=replace(awaited, held=False, trouble=""))


def _evidence_files(manifest: Mapping[str, Any]) -> Sequence[EvidenceFile]:
    """Return the evidence files, in the order of the ledger; those that it does not know come last."""
    entries = {entry["evidence_sha256"]: entry for entry in manifest["ledger"]}
    found = []
    for file in manifest["files"]:
        if not file["name"].startswith(EVIDENCE_FOLDER) or not file["name"].endswith(".xml"):
            continue
        entry = entries.get(file["sha256"])
        evidence_id, number = (entry["evidence_id"], entry["number"]) if entry else ("", None)
        found.append(EvidenceFile(file["name"], bytes.fromhex(file["sha256"]), evidence_id, number))
    return sorted(found, key=lambda one: (one.number is None, one.number or 0, one.name))


def _ledger(checkpoint: ByteSource | None) -> LedgerFacts | None:
    if checkpoint is None:
        return None
    note = Note.parse(_whole(checkpoint))
    told = Checkpoint.parse(note.text)
    return LedgerFacts(told.origin, told.size, told.root, tuple(one.name for one in note.signatures))


def _roots(fingerprints: ByteSource | None) -> tuple[RootFact, ...]:
    if fingerprints is None:
        return ()
    pairs = (line.partition("  ") for line in _whole(fingerprints).decode().splitlines())
    return tuple(RootFact(fingerprint, subject) for fingerprint, _, subject in pairs)


def _whole(source: ByteSource) -> bytes:
    return source.read(0, source.size)
