"""What may be sent: ordered rules over facts, pure. The first rule that objects decides.

spec: KEP-MS-01..11, KEP-QU-02, KEP-CL-01, R-01, rules-in-detail "Refusing" and "One table of codes".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from directory.accounts import AccountState, ServiceType
from evidence.report import SubIndication, Verdict
from kephs.domain.refusals import Refusal, RefusalCode

MIB: Final = 1 << 20  # spec: KEP-MS-03


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes of decoded content (D15), and how many recipients one message may have."""

    max_local: int = 100 * MIB
    max_elsewhere: int = 25 * MIB
    wire_factor: float = 1.4
    max_recipients: int = 500

    @property
    def max_wire(self) -> int:
        """Return how many bytes a message may have on the wire: this decides early, at SIZE."""
        return int(self.max_local * self.wire_factor)


class Destination(StrEnum):
    """Where a recipient is served."""

    HERE = "here"
    PEER = "peer"
    UNKNOWN_PROVIDER = "unknown_provider"
    NOT_KEP = "not_kep"


@dataclass(frozen=True, slots=True)
class RecipientFacts:
    """One recipient of To or Cc, as written and where it leads."""

    written: str
    destination: Destination
    max_size: int | None = None  # bytes of decoded content that the peer takes; None: the general limit


@dataclass(frozen=True, slots=True)
class SenderFacts:
    """The sending account and what the person signed in may do."""

    address: str
    state: AccountState
    service: ServiceType
    may_send: bool
    used_bytes: int
    quota_bytes: int


@dataclass(frozen=True, slots=True)
class FormFacts:
    """What can be known of a message without checking its signature. Addresses are folded."""

    nul: bool
    line_too_long: bool
    well_formed: bool
    header_valid: bool
    envelope_from: str
    header_from: str
    attempted: frozenset[str]
    any_refused: bool
    named: frozenset[str]
    has_to: bool
    bcc_present: bool
    recipients: tuple[RecipientFacts, ...]
    decoded_size: int
    signed: bool
    inner_differs: str  # name of the field that differs between inside and outside, or ""


@dataclass(frozen=True, slots=True)
class SignatureFacts:
    """The verifier's verdict and whether each signer may send for the account.

    ``signer_refusal``: why a signer may not, where the judge of signers told it (`usecases/signers.py`).
    """

    verdict: Verdict
    sub_indication: SubIndication | None
    detail: str
    authorised: bool
    signer_refusal: RefusalCode | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a decision rests on; ``signature`` and ``malware`` come once the form has passed."""

    sender: SenderFacts
    form: FormFacts
    limits: Limits
    signature: SignatureFacts | None = None
    malware: str = ""


Rule = Callable[[Facts], Refusal | None]

_INCOMPLETE: Final = RefusalCode.SIGNATURE_INCOMPLETE
_EXPIRED: Final = RefusalCode.CERTIFICATE_EXPIRED
_REVOKED: Final = RefusalCode.CERTIFICATE_REVOKED

# spec: rules-in-detail "One table of codes"; keyed by the stable names of EN319102-1#5.1
SIGNATURE_CODES: Final[Mapping[str, RefusalCode]] = MappingProxyType(
    {
        "FORMAT_FAILURE": _INCOMPLETE,
        "HASH_FAILURE": RefusalCode.SIGNATURE_BROKEN,
        "SIG_CRYPTO_FAILURE": RefusalCode.SIGNATURE_BROKEN,
        "SIG_CONSTRAINTS_FAILURE": _INCOMPLETE,
        "SIGNATURE_POLICY_NOT_AVAILABLE": _INCOMPLETE,
        "POLICY_PROCESSING_ERROR": _INCOMPLETE,
        "TIMESTAMP_ORDER_FAILURE": _INCOMPLETE,
        "NO_POE": _INCOMPLETE,
        "SIGNED_DATA_NOT_FOUND": RefusalCode.UNSIGNED,
        "NO_SIGNING_CERTIFICATE_FOUND": RefusalCode.SIGNATURE_UNTRUSTED,
        "NO_CERTIFICATE_CHAIN_FOUND": RefusalCode.SIGNATURE_UNTRUSTED,
        "CERTIFICATE_CHAIN_GENERAL_FAILURE": RefusalCode.SIGNATURE_UNTRUSTED,
        "GENERIC": RefusalCode.SIGNATURE_UNTRUSTED,
        "REVOKED": _REVOKED,
        "REVOKED_NO_POE": _REVOKED,
        "REVOKED_CA_NO_POE": _REVOKED,
        "REVOCATION_OUT_OF_BOUNDS_NO_POE": _EXPIRED,
        "EXPIRED": _EXPIRED,
        "NOT_YET_VALID": _EXPIRED,
        "OUT_OF_BOUNDS_NO_POE": _EXPIRED,
        "OUT_OF_BOUNDS_NOT_REVOKED": _EXPIRED,
        "CHAIN_CONSTRAINTS_FAILURE": RefusalCode.CERTIFICATE_NOT_QUALIFIED,
        "CRYPTO_CONSTRAINTS_FAILURE": RefusalCode.ALGORITHM_NOT_ALLOWED,
        "CRYPTO_CONSTRAINTS_FAILURE_NO_POE": RefusalCode.ALGORITHM_NOT_ALLOWED,
        "TRY_LATER": RefusalCode.REVOCATION_UNKNOWN,
    }
)


def _sender(facts: Facts) -> Refusal | None:
    if facts.sender.state is not AccountState.ACTIVE:
        return Refusal(RefusalCode.ACCOUNT_BLOCKED, facts.sender.state)
    if facts.sender.service is ServiceType.RECEIVE_ONLY:
        return Refusal(RefusalCode.ACCOUNT_RECEIVE_ONLY)
    return None if facts.sender.may_send else Refusal(RefusalCode.NO_RIGHT_TO_SEND)


def _form(facts: Facts) -> Refusal | None:
    form = facts.form
    if form.nul:
        return Refusal(RefusalCode.NUL_BYTE)
    if form.line_too_long:
        return Refusal(RefusalCode.LINE_TOO_LONG)
    if not form.well_formed:
        return Refusal(RefusalCode.NOT_MIME)
    return None if form.header_valid else Refusal(RefusalCode.HEADER_INVALID)


def _from(facts: Facts) -> Refusal | None:
    form = facts.form
    if form.envelope_from == form.header_from == facts.sender.address:
        return None
    return Refusal(RefusalCode.FROM_DIFFERS)


def _bcc(facts: Facts) -> Refusal | None:
    return Refusal(RefusalCode.BCC_PRESENT) if facts.form.bcc_present else None  # spec: KEP-MS-07


def _recipients(facts: Facts) -> Refusal | None:
    form = facts.form
    if not form.has_to:
        return Refusal(RefusalCode.RECIPIENTS_MISSING)
    if max(len(form.recipients), len(form.attempted)) > facts.limits.max_recipients:
        return Refusal(RefusalCode.TOO_MANY_RECIPIENTS, str(len(form.recipients)))
    for destination, code in (
        (Destination.NOT_KEP, RefusalCode.RECIPIENT_NOT_KEP),
        (Destination.UNKNOWN_PROVIDER, RefusalCode.PROVIDER_UNKNOWN),
    ):
        bad = tuple(r.written for r in form.recipients if r.destination is destination)
        if bad:
            return Refusal(code, recipients=bad)
    if form.any_refused or form.attempted != form.named:
        return Refusal(RefusalCode.RECIPIENTS_DIFFER)
    return None


def _size(facts: Facts) -> Refusal | None:
    size, limits = facts.form.decoded_size, facts.limits
    if size > limits.max_local:
        return Refusal(RefusalCode.TOO_BIG, str(size))
    elsewhere = (r for r in facts.form.recipients if r.destination is Destination.PEER)
    too_small = tuple(r.written for r in elsewhere if size > (r.max_size or limits.max_elsewhere))
    if too_small:  # spec: KEP-MS-04
        return Refusal(RefusalCode.TOO_BIG_FOR_PROVIDER, str(size), too_small)
    return None


def _quota(facts: Facts) -> Refusal | None:
    full = facts.sender.used_bytes >= facts.sender.quota_bytes  # spec: KEP-QU-02
    return Refusal(RefusalCode.OVER_QUOTA) if full else None


def _signed(facts: Facts) -> Refusal | None:
    if not facts.form.signed:
        return Refusal(RefusalCode.UNSIGNED)
    if facts.form.inner_differs:
        return Refusal(RefusalCode.HEADERS_DIFFER, facts.form.inner_differs)
    return None


def _signature(facts: Facts) -> Refusal | None:
    signature = facts.signature
    if signature is None:
        return None
    if signature.verdict is not Verdict.PASSED:
        # without a sub-indication nothing says that waiting helps: refused, never left to wait
        code = SIGNATURE_CODES.get(signature.sub_indication or "", RefusalCode.SIGNATURE_UNTRUSTED)
        return Refusal(code, signature.detail)
    if signature.authorised:
        return None
    return Refusal(signature.signer_refusal or RefusalCode.SIGNER_NOT_AUTHORISED, signature.detail)


def _malware(facts: Facts) -> Refusal | None:
    return Refusal(RefusalCode.MALWARE, facts.malware) if facts.malware else None


RULES: Final[tuple[Rule, ...]] = (
    _sender, _form, _from, _bcc, _recipients, _size, _quota, _signed, _signature, _malware,
)  # fmt: skip
_LATE_RULES: Final = (_signature, _malware)


def decide(facts: Facts) -> Refusal | None:
    """Return the first refusal the rules find, or None where the message may be accepted.

    Call it before the costly facts are gathered (``signature`` None), then `decide_late` with them.
    """
    return _first_refusal(RULES, facts)


def decide_late(facts: Facts) -> Refusal | None:
    """Return what `decide` would, where it has found nothing in the same facts without the costly ones."""
    return _first_refusal(_LATE_RULES, facts)


def _first_refusal(rules: tuple[Rule, ...], facts: Facts) -> Refusal | None:
    for rule in rules:
        refusal = rule(facts)
        if refusal is not None:
            return refusal
    return None
