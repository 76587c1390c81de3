"""What a dossier says: plain facts, gathered before anything is printed."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from evidence.ports import ByteSource
from kephs.usecases.proof.timeline import Timeline

ORIGINAL_NAME: Final = "original.eml"
BUNDLE_NAME: Final = "delil-paketi.kepdelil"
DATA_NAME: Final = "dosya.json"


class DossierTooLargeError(Exception):
    """What is attached does not fit into one PDF."""


class Language(StrEnum):
    """A language of the dossier; the values are BCP 47 tags."""

    TURKISH = "tr"
    ENGLISH = "en"


class Relationship(StrEnum):
    """Why a file is attached (ISO 19005-3, 6.8)."""

    SOURCE = "Source"
    SUPPLEMENT = "Supplement"
    DATA = "Data"


@dataclass(frozen=True, slots=True)
class PartFact:
    """One part of the original, as whoever saves it gets it.

    ``number`` is its place (``1.2``), ``size`` and ``sha256`` are those of the decoded content, ``level`` how
    deep it lies. ``signature``: it is the holder's signature itself.
    """

    number: str
    level: int
    content_type: str
    filename: str
    size: int
    sha256: bytes
    signature: bool = False


@dataclass(frozen=True, slots=True)
class BodyText:
    """The first plain text of the original; ``cut`` where it was longer than is printed."""

    text: str
    cut: bool = False


@dataclass(frozen=True, slots=True)
class ContentFacts:
    """What the original holds. ``body`` is None where it has no plain text that can be printed."""

    parts: tuple[PartFact, ...]
    body: BodyText | None


@dataclass(frozen=True, slots=True)
class EvidenceFile:
    """One evidence file in the bundle; ``number`` in our ledger, None for what a peer's message alone has."""

    name: str
    sha256: bytes
    evidence_id: str
    number: int | None


@dataclass(frozen=True, slots=True)
class LedgerFacts:
    """The signed statement about the whole ledger that the bundle's proofs lead to."""

    origin: str
    size: int
    root: bytes
    signers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RootFact:
    """A root certificate as the bundle names it, for comparison with what authorities publish."""

    fingerprint: str
    subject: str


@dataclass(frozen=True, slots=True)
class Embedded:
    """A file inside the PDF."""

    name: str
    media_type: str
    relationship: Relationship
    source: ByteSource
    sha256: bytes

    @property
    def size(self) -> int:
        """Return the number of bytes."""
        return self.source.size


@dataclass(frozen=True, slots=True)
class DossierFacts:
    """Everything on paper. ``created_at``: when the bundle was sealed; the PDF bears this date.

    ``report`` is the verdict on the sender's signature as kept at reception, None where there is none.
    ``test``: made with TEST certificates, which every page then says.
    """

    timeline: Timeline
    created_at: datetime
    provider_name: str
    provider_domain: str
    content: ContentFacts
    evidence_files: tuple[EvidenceFile, ...]
    report: dict[str, Any] | None = None
    report_stamped: bool = False
    ledger: LedgerFacts | None = None
    roots: tuple[RootFact, ...] = ()
    test: bool = False
    embedded: tuple[Embedded, ...] = field(default=(), compare=False)

    @property
    def events(self) -> int:
        """Return how many evidence entries all timelines have together."""
        return len(self.timeline.events) + sum(len(one.events) for one in self.timeline.recipients)
