"""Plans of signed messages: all that can be chosen, as data. Import these names from `tests.support.nes_zoo`."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from evidence.asn1.der import generalized_time, integer, octets, oid, seq
from kephs.testpki.oids import TEST_TSA_POLICY
from tests.support import nes_zoo_pki as pki

MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
CLAIMED: Final = -10 * MINUTE
STAMPED: Final = -9 * MINUTE
FETCHED: Final = -8 * MINUTE
TST_INFO: Final = "1.2.840.113549.1.9.16.1.4"
ID_DATA: Final = "1.2.840.113549.1.7.1"
AUTHORITIES: Final = {"p256": ("p256", "p256"), "p384": ("p384", "p384"), "p521": ("p521", "p521"),
                      "pss": ("p384", "rsa4096")}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SignerPlan:
    """One signer; times are relative to `NOW`."""

    key: str = "p256"
    digest: str = "sha256"
    pss: bool = False
    naming: str = "natural"  # "plain": no hash in the OID; "rsa-on-ec": shaNNNWithRSA over an EC key
    sid: str = "issuer"  # or "key"
    ess: str = "sha256"
    ess_issuer: bool = True
    time: str = "utc"  # "generalized", "fraction", "none"
    claimed: timedelta = CLAIMED
    level: str = "P1"
    ordered: bool = True
    seal: bool = False
    stamps: tuple[timedelta, ...] | None = None  # None: what the level asks
    tsa_material: str = "token"  # "unsigned" (attribute of the token), "values" (in the signer's values)
    ocsp_for_holder: bool | None = None  # None: what the level asks
    archive: str = ""  # "v3", "v3-old-index", "v2"
    counters: "tuple[SignerPlan, ...]" = ()

    @property
    def stamp_times(self) -> tuple[timedelta, ...]:
        if self.stamps is not None:
            return self.stamps
        return () if self.level == "P1" else (STAMPED,)

    @property
    def long(self) -> bool:
        return self.level in {"P3", "P4"}


@dataclass(frozen=True, slots=True)
class Plan:
    """One message and the circumstances of its check; times are relative to `NOW`."""

    signers: tuple[SignerPlan, ...] = (SignerPlan(),)
    authority: str = "p256"
    form: str = "detached"  # or "opaque"
    chain: bool = True
    network: str = "ocsp"  # what the network answers: "ocsp", "crl", "both", "none"
    fetched: timedelta = FETCHED  # when what is embedded was fetched
    asked: timedelta | None = None  # when it was asked; None: at the time of the check
    revoked: tuple[tuple[str, timedelta], ...] = ()
    reason: int = 1  # CRLReason; keyCompromise
    at: timedelta = timedelta(0)
    later: bool = False
    proven: timedelta | None = None
    policy: tuple[tuple[str, Any], ...] = ()
    odd_root: bool = False  # an anchor as TURKTRUST H7 is
    spoil: str = ""


@dataclass(frozen=True, slots=True)
class Tst:
    """What stands in a TSTInfo; spoils replace one field."""

    imprint: bytes
    gen_time: datetime
    hash_name: str = "sha256"
    serial: int = 4711

    def der(self) -> bytes:
        """Return the TSTInfo (spec: RFC3161#2.4.2)."""
        digest = seq(pki.digest_id(self.hash_name), octets(self.imprint))
        moment = generalized_time(self.gen_time)
        return seq(integer(1), oid(TEST_TSA_POLICY), digest, integer(self.serial), moment, seq(integer(1)))
