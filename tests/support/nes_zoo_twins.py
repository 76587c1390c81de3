"""The passing twins of the negative matrix: plans by name."""

from collections.abc import Mapping
from typing import Final

from tests.support.nes_zoo import DAY, HOUR, MINUTE, STAMPED, Plan, SignerPlan


def one(level: str = "P1", **more: object) -> tuple[SignerPlan, ...]:
    return (SignerPlan(level=level, **more),)  # type: ignore[arg-type]


_PARALLEL: Final = (SignerPlan(), SignerPlan(key="rsa2048"))
_COUNTERED: Final = one(counters=(SignerPlan(),))
_NESTED: Final = one(counters=(SignerPlan(counters=(SignerPlan(),)),))

TWINS: Final[Mapping[str, Plan]] = {
    "detached": Plan(),
    "opaque": Plan(form="opaque"),
    "crl": Plan(network="crl"),
    "p384": Plan(authority="p384"),
    "pss": Plan(authority="pss"),
    "rsa2048": Plan(signers=one(key="rsa2048")),
    "rsa2048-pss": Plan(signers=one(key="rsa2048", pss=True)),
    "sha256": Plan(signers=one(digest="sha256")),
    "key-id": Plan(signers=one(sid="key")),
    "P2": Plan(signers=one("P2")),
    "P3": Plan(signers=one("P3")),
    "P4": Plan(signers=one("P4")),
    "P4-two-hours": Plan(signers=one("P4"), at=2 * HOUR),
    "P4-values": Plan(signers=one("P4", tsa_material="values")),
    "T": Plan(signers=one(stamps=(STAMPED,))),
    "TT": Plan(signers=one(stamps=(STAMPED, STAMPED + MINUTE))),
    "A": Plan(signers=one("P4", archive="v3")),
    "parallel": Plan(signers=_PARALLEL),
    "countered": Plan(signers=_COUNTERED),
    "nested": Plan(signers=_NESTED),
    "later-stamped": Plan(signers=one("P4"), at=30 * DAY, later=True),
    "later-proven": Plan(at=30 * DAY, later=True, proven=MINUTE),
    "later-fresh": Plan(at=30 * DAY, later=True),
    "hour": Plan(at=HOUR),
    "later-stored": Plan(at=30 * DAY, later=True, proven=MINUTE, asked=2 * MINUTE),
    "later-P2": Plan(signers=one("P2"), at=30 * DAY, later=True),
    "later-month": Plan(signers=one("P4"), at=20 * DAY, later=True, spoil="tsa-valid-for-a-month"),
    "later-parallel": Plan(
        signers=(SignerPlan(level="P2"), SignerPlan(key="rsa2048")), at=30 * DAY, later=True
    ),
    "later-countered": Plan(signers=one("P2", counters=(SignerPlan(),)), at=30 * DAY, later=True),
    "suspended-later": Plan(at=HOUR, revoked=(("s1", 2 * HOUR),), reason=6),
    "2028": Plan(at=600 * DAY),
    "later-2028": Plan(at=600 * DAY, later=True),
}
"""What must pass; the circumstances of later checks are in the plans."""
