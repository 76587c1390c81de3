"""Facts of real dossiers from a world in memory, and a printer that is opened once."""

import io
from collections.abc import Sequence
from functools import cache
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidence.ledger.notes import NoteSigner
from evidence.ports import BytesSource
from evidence.x509.role import SealPolicy
from kephs.dossier.facts import DossierFacts, Language
from kephs.dossier.pdf import Printer
from kephs.usecases.proof.bundle import MakeBundle
from kephs.usecases.proof.dossier import MakeDossier, ReadyDossier
from kephs.usecases.proof.prove import Prove
from kephs.usecases.proof.publish_ledger import PublishLedger
from kephs.usecases.proof.timeline import ShowTimeline
from tests.support.world import Inline, World

LOG = NoteSigner("hs91.kep.tr/kephs-ledger", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
NAME = "TEST Örnek KEPHS A.Ş."


def maker(world: World) -> MakeDossier:
    publishing = PublishLedger(world.store, LOG, world.clock, alarm=lambda _cause: None)
    bundles = MakeBundle(
        store=world.store, blobs=world.blobs, sealer=world.sealer, revocation=world.ocsp, trust=world.trust,
        policy=SealPolicy(), offload=Inline(), clock=world.clock, ledger=Prove(world.store, publishing),
    )  # fmt: skip
    timelines = ShowTimeline(world.store, world.blobs, Inline(), world.clock, world.domain)
    return MakeDossier(bundles, timelines, Inline(), NAME, world.domain, test=True)


def attached(ready: ReadyDossier) -> DossierFacts:
    """Return the facts with all files, the bundle written to memory."""
    out = io.BytesIO()
    ready.bundle.write(out)
    return ready.attached(BytesSource(out.getvalue()), sha256(out.getvalue()).digest())


@cache
def printer() -> Printer:
    return Printer()


def printed(facts: DossierFacts, languages: Sequence[Language] = (Language.TURKISH,)) -> bytes:
    out = io.BytesIO()
    printer().print_to(out, facts, languages)
    return out.getvalue()
