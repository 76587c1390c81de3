"""What a provider accepts as a sender's signature: switches and tables, all data.

(spec: signing.md 2)
"""

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Final

from evidence.cms.signed_data import DEFAULT_RULES, CmsRules
from evidence.mail.smime import DEFAULT_SMIME_LIMITS, SmimeLimits
from evidence.nes.profiles import PROFILES, ProfileRow
from evidence.x509.algorithms import DEFAULT_ALGORITHMS, AlgorithmPolicy
from evidence.x509.certificates import MALI_MUHUR_ARC, TEST_TRANSACTION_POLICY
from evidence.x509.revocation import DEFAULT_FRESHNESS, FreshnessRules


class Grace(StrEnum):
    """What to do while the list of 24 h after the time stamp, which P2 and P3 want, does not exist yet."""

    ANNOTATE = "annotate"  # accept, and note it in the report
    HOLD = "hold"  # wait


@dataclass(frozen=True, slots=True)
class NesPolicy:
    """What a provider accepts as a sender's signature.

    ``allow_seals``: a qualified e-seal (5070.2.1) counts too; by account type only.
    ``transaction_policies``: policies of providers' transaction certificates, which never sign as senders.
    ``refused_policy_arcs``: these policies and all below them (Mali Mühür).
    ``signing_time_tolerance``: how far a claimed signing time may lie ahead of reception, or of its stamp.
    ``grace``: see `Grace`; ``grace_period``: how long after the stamp the list must be made.
    ``profiles``: the policies a signature may claim. ``stamp_window``: how long after the claimed signing
    time a stamp of P2 to P4 may come.
    ``required_signer``: SHA-256 of the certificate whose signature counts, the others being reported only;
    None: all parallel signers must pass.
    """

    allow_seals: bool = False
    transaction_policies: frozenset[str] = frozenset({TEST_TRANSACTION_POLICY})
    refused_policy_arcs: tuple[str, ...] = (MALI_MUHUR_ARC,)
    signing_time_tolerance: timedelta = timedelta(minutes=5)
    algorithms: AlgorithmPolicy = DEFAULT_ALGORITHMS
    freshness: FreshnessRules = DEFAULT_FRESHNESS
    cms: CmsRules = DEFAULT_RULES
    limits: SmimeLimits = field(default=DEFAULT_SMIME_LIMITS)
    grace: Grace = Grace.ANNOTATE
    grace_period: timedelta = timedelta(hours=24)
    profiles: tuple[ProfileRow, ...] = PROFILES
    stamp_window: timedelta = timedelta(hours=2)
    required_signer: bytes | None = None


DEFAULT_NES_POLICY: Final = NesPolicy()
