"""Inbound: what peers hand to us. Dispatches make 20 or 21, receipts are filed, all else is refused.

What it answers is durable. A temporary refusal leaves no trace; a refusal without evidence leaves a log
line and a count (R-08).
"""

from dataclasses import replace
from typing import Final

from directory.providers import ProviderRegister
from evidence.ports import SignerUnavailableError, TimestampUnavailableError
from evidence.x509.chain import TrustStore
from evidence.x509.revocation import RevocationStatus
from evidence.x509.role import SealPolicy
from kephs.domain.refusals import Refusal, RefusalCode
from kephs.ports import Clock, Offload, Revocation, ScannerUnavailableError, StoreUnavailableError
from kephs.usecases.relay.inspect_sealed import Sealed, inspect_sealed, is_automatic
from kephs.usecases.relay.take_dispatch import TakeDispatch
from kephs.usecases.relay.take_receipt import TakeReceipt
from kephs.usecases.submission.results import Arriving, Refused, Taken

_SEALED_OFF: Final = Refused(Refusal(RefusalCode.SEALING_UNAVAILABLE))


class Receive:
    """Takes one message that a stranger or a peer handed over."""

    def __init__(
        self, *, dispatches: TakeDispatch, receipts: TakeReceipt, revocation: Revocation, offload: Offload,
        clock: Clock, trust: TrustStore, policy: SealPolicy, register: ProviderRegister,
    ) -> None:  # fmt: skip
        self._dispatches, self._receipts, self._revocation = dispatches, receipts, revocation
        self._offload, self._clock = offload, clock
        self._trust, self._policy, self._register = trust, policy, register

    async def receive(self, arriving: Arriving) -> Taken | Refused:
        """Take or refuse; what it says is durable."""
        try:
            outcome = await self._receive(arriving)
        except StoreUnavailableError as error:
            outcome = Refusal(RefusalCode.STORE_UNAVAILABLE, str(error))
        except ScannerUnavailableError as error:
            outcome = Refusal(RefusalCode.SCANNER_UNAVAILABLE, str(error))
        except (TimestampUnavailableError, SignerUnavailableError) as error:
            outcome = replace(_SEALED_OFF.refusal, detail=str(error))
        return Refused(outcome) if isinstance(outcome, Refusal) else outcome

    async def _receive(self, arriving: Arriving) -> Taken | Refusal:
        if arriving.nul or arriving.line_too_long:
            return Refusal(RefusalCode.NUL_BYTE if arriving.nul else RefusalCode.LINE_TOO_LONG)
        source, at = arriving.spool.source(), arriving.received_at
        found = await self._offload.run(inspect_sealed, source, self._register, self._trust, self._policy, at)
        if isinstance(found, Refusal):
            return found
        refusal = await self._revoked(found, arriving)
        if refusal is not None:
            return refusal
        if not found.is_dispatch:
            return await self._receipts.take(found, arriving)
        if not arriving.envelope_from or is_automatic(found.root):
            return Refusal(RefusalCode.MAIL_LOOP)
        return await self._dispatches.take(found, arriving)

    async def _revoked(self, found: Sealed, arriving: Arriving) -> Refusal | None:
        """Ask about the certificates of seal and evidence and their issuers (KEP-SG-03)."""
        for certificate, issuer in (link for chain in found.chains for link in chain.links):
            answer = await self._revocation.status(certificate, issuer, arriving.received_at)
            if answer is None or answer.status is RevocationStatus.UNKNOWN:
                return Refusal(RefusalCode.REVOCATION_UNKNOWN)
            if answer.status is RevocationStatus.REVOKED:
                return Refusal(RefusalCode.SEAL_REVOKED)
        return None
