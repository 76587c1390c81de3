"""What is made of a sender's signature at reception: our own time stamp over it, beside evidence 10.

A signature of the basic form (BES) says itself when it was made, and proves nothing by that. Our time stamp
over it, with the revocation data of that moment, keeps it provable when the certificate has expired or was
revoked later. The stamp is an evidence record (RFC 4998) over SHA-256 of the SignedData as it stood in the
message, DER: the file ``imza.p7s`` of a bundle, whose record is ``imza.ers``.

In batch mode record and evidence 10 are asked for in one turn and fall under one token; where each evidence
has a token of its own, the record costs a second one. While a grace lets evidence out unstamped (D16) there
is no record: what proves the time then is the late stamp of evidence 10, which covers the whole message and
the signature in it. Nothing is stamped later for the signature alone: that would prove no earlier time.

spec: KEP-SG-09, KEP-SG-10, signing.md 1 and 2.3.
"""

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from evidence.model.records import EvidenceRecord, SealedEvidence
from evidence.ports import Sealing, TimestampUnavailableError
from kephs.usecases.submission.evidence_form import EvidenceForm

A = TypeVar("A")
B = TypeVar("B")


class Together(Protocol):
    """Whoever runs two things at once."""

    async def __call__(self, first: Coroutine[Any, Any, A], second: Coroutine[Any, Any, B], /) -> tuple[A, B]:
        """Return both results; where one fails the other is cancelled and its error goes up."""
        ...


@dataclass(frozen=True, slots=True)
class SealedReception:
    """Evidence 10 and the record over the sender's signature; None where the grace let both out unstamped."""

    evidence: SealedEvidence
    record: bytes | None


async def seal_reception(
    sealer: Sealing, together: Together, record: EvidenceRecord, form: EvidenceForm, leaf: bytes
) -> SealedReception:
    """Seal evidence 10 and stamp the sender's signature in the same turn.

    Args:
        sealer: whoever seals.
        together: begins both at once.
        record: evidence 10.
        form: its serialisation and stamping.
        leaf: SHA-256 of the sender's SignedData, DER, as it stands in the message.

    Raises:
        SignerUnavailableError, TimestampUnavailableError: try again later; nothing was sealed or stamped
            that counts.
    """
    sealing = sealer.seal_many((record,), profile=form.profile, stamping=form.stamping)
    (sealed,), made = await together(sealing, _record(sealer, leaf))
    if made is None and sealed.stamped:
        raise TimestampUnavailableError("no time stamp over the sender's signature")
    return SealedReception(sealed, made)


async def _record(sealer: Sealing, leaf: bytes) -> bytes | None:
    try:
        return (await sealer.records((leaf,)))[0]
    except TimestampUnavailableError:
        return None  # whether one may do without is seen by what became of the evidence
