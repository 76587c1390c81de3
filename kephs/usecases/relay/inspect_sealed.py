"""Looking at what a peer sends: whose seal it bears, and what in it can be relied upon. Plain functions.

Nothing of a message is believed before its seal verifies under a transaction certificate that the register
gives to one peer, and before the evidence inside verifies as that peer's own. What fails earlier is
nobody's statement: it is refused without evidence (R-08, ADR 0021).

spec: KEP-SG-03, rem-formats §5 (post-relay checks), R-08, R-14, R-17.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from directory.addresses import AddressError
from directory.providers import Peer, ProviderRegister, SealingCertificate
from evidence.mail.headers import decode_text
from evidence.mail.mime import MimeLimitError, Part, scan
from evidence.model.records import EvidenceRecord
from evidence.ports import ByteSource
from evidence.report import SubIndication
from evidence.verify.evidence import EvidenceCheck
from evidence.verify.message import MessageCheck, check_kep_message
from evidence.x509.chain import Chain, TrustStore
from evidence.x509.role import SealPolicy, domain_of
from kephs.domain.refusals import Refusal, RefusalCode

_STAMP_STEP: Final = "3"
_ORIGINAL_STEP: Final = "8"
# Steps of `evidence.verify.message`; whatever else fails is the seal's.
_BY_STEP: Final[Mapping[str, RefusalCode]] = MappingProxyType(
    {
        "1": RefusalCode.NOT_A_KEP_MESSAGE,
        "6": RefusalCode.EVIDENCE_NOT_THE_PEERS,
        "7": RefusalCode.EVIDENCE_NOT_THE_PEERS,
        "9": RefusalCode.EVIDENCE_NOT_THE_PEERS,
    }
)
_EXPIRED: Final = frozenset(
    {SubIndication.EXPIRED, SubIndication.NOT_YET_VALID, SubIndication.OUT_OF_BOUNDS_NO_POE}
)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A message whose seal and evidence verify as one peer's.

    ``fault`` is what is wrong with it all the same: that can be answered with evidence 21.
    """

    peer: Peer
    check: MessageCheck
    root: Part
    record: EvidenceRecord
    fault: Refusal | None = None

    @property
    def is_dispatch(self) -> bool:
        """Say whether it carries an original."""
        return self.check.message is not None and self.check.message.is_dispatch

    @property
    def xml(self) -> bytes:
        """Return the evidence's exact bytes."""
        assert self.check.message is not None
        return self.check.message.evidences[0].content

    @property
    def ers(self) -> bytes | None:
        """Return the evidence record that came beside the evidence."""
        found = self.check.evidences[0].ers
        return None if found is None or found.record is None else found.record.der

    @property
    def chains(self) -> tuple[Chain, ...]:
        """Return the paths of the seal and, where another certificate made it, of the evidence."""
        seal, evidence = self.check.chain, self.check.evidences[0].chain
        assert seal is not None
        assert evidence is not None  # both verified
        return (seal,) if evidence.leaf == seal.leaf else (seal, evidence)


def inspect_sealed(
    source: ByteSource, register: ProviderRegister, trust: TrustStore, policy: SealPolicy, at: datetime
) -> Sealed | Refusal:
    """Return what a peer sealed, or why it is nobody's statement. Never raises for bad input.

    Args:
        source: the message as received.
        register: the peers and their transaction certificates.
        trust: roots of transaction certificates.
        policy: what makes a transaction certificate.
        at: the time of reception, UTC.
    """
    try:
        root = scan(source)
    except MimeLimitError as error:
        return Refusal(RefusalCode.NOT_A_KEP_MESSAGE, str(error))
    check = check_kep_message(source, trust, at, policy, root=root)
    if check.message is None or len(check.message.evidences) != 1:
        step = check.report.failing_step
        return Refusal(RefusalCode.NOT_A_KEP_MESSAGE, step.detail if step else "one evidence is expected")
    registered = register.sealed_by(check.certificate.sha256) if check.certificate is not None else None
    if registered is None:
        return _unregistered(check, register)
    peer, certificate = registered
    fault = _fault(check)
    if fault is not None and fault.code is not RefusalCode.ORIGINAL_DIFFERS:
        return fault
    record, sealed = check.records[0], check.evidences[0]
    older = _of_evidence(sealed, peer)
    if older is None or _not_the_peers(record, peer, register, is_dispatch=check.message.is_dispatch):
        return Refusal(RefusalCode.EVIDENCE_NOT_THE_PEERS, "issuer, ids, sender or certificate")
    if not (certificate.valid_at(check.stamped_at or at) and older.valid_at(sealed.stamped_at or at)):
        fault = Refusal(RefusalCode.SEAL_EXPIRED, "the register ended it")
    return Sealed(peer, check, root, record, fault)


def is_automatic(root: Part) -> bool:
    """Say whether the outer header declares an automatic message (RFC 3834 §5); R-17."""
    return any(decode_text(raw).strip().lower() != "no" for raw in root.all("auto-submitted"))


def _unregistered(check: MessageCheck, register: ProviderRegister) -> Refusal:
    if check.certificate is None:
        return Refusal(RefusalCode.SEAL_BROKEN)
    if register.doubtful():  # a newer one may name it: that is no fault of the peer's (rem-formats §9)
        return Refusal(RefusalCode.REGISTER_NOT_CURRENT)
    return Refusal(RefusalCode.SEAL_NOT_REGISTERED)


def _fault(check: MessageCheck) -> Refusal | None:
    if check.report.passed:
        return None
    step = check.report.failing_step
    assert step is not None
    if step.number == _ORIGINAL_STEP:
        return Refusal(RefusalCode.ORIGINAL_DIFFERS)
    if step.number == _STAMP_STEP and step.sub_indication is SubIndication.TIMESTAMP_ORDER_FAILURE:
        return Refusal(RefusalCode.CLOCK_DIFFERS, step.detail)  # stamped in our future
    if step.sub_indication in _EXPIRED:
        return Refusal(RefusalCode.SEAL_EXPIRED, step.detail)
    return Refusal(_BY_STEP.get(step.number, RefusalCode.SEAL_BROKEN), f"{step.name}: {step.detail}")


def _of_evidence(evidence: EvidenceCheck, peer: Peer) -> SealingCertificate | None:
    """Return how the register names the evidence's own certificate for the peer that sealed the message.

    It may be an older one than the seal's: the peer renewed its certificate in between.
    """
    assert evidence.chain is not None  # it verified
    return peer.sealing(evidence.chain.leaf.sha256)


def _not_the_peers(
    record: EvidenceRecord, peer: Peer, register: ProviderRegister, *, is_dispatch: bool
) -> bool:
    """Say whether evidence names an issuer, an id or (of a dispatch) a sender that are not the peer's."""
    named = {domain_of(record.issuer.address), domain_of(record.evidence_id)}
    if is_dispatch:
        named.add(domain_of(record.message.kep_message_id))
        try:
            named.add(register.parse(record.sender.address).provider)
        except AddressError:
            return True
    return named != {peer.domain}
