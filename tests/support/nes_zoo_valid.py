"""Plans of valid variants, by name: what must pass although naive verifiers stumble over it."""

from collections.abc import Mapping
from typing import Final

from evidence.cms.signed_data import CmsRules
from evidence.x509.algorithms import AlgorithmPolicy
from tests.support.nes_zoo import CLAIMED, DAY, HOUR, MINUTE, STAMPED, Plan, SignerPlan
from tests.support.nes_zoo_twins import one

ENDING: Final = AlgorithmPolicy(enforce_end=True)
LAST_WEEK: Final = CLAIMED - 7 * DAY

VALID: Final[Mapping[str, Plan]] = {
    # keys, digests, authorities
    "p256": Plan(),
    "p384": Plan(signers=one(key="p384", digest="sha384")),
    "p521": Plan(signers=one(key="p521", digest="sha512")),
    "p384-with-sha256": Plan(signers=one(key="p384")),
    "rsa2048-pkcs1": Plan(signers=one(key="rsa2048")),
    "rsa3072-pkcs1": Plan(signers=one(key="rsa3072", digest="sha384")),
    "rsa2048-pss": Plan(signers=one(key="rsa2048", pss=True)),
    "rsa3072-pss-sha512": Plan(signers=one(key="rsa3072", pss=True, digest="sha512")),
    "sha3-256": Plan(signers=one(digest="sha3_256")),
    "sha3-384": Plan(signers=one(key="p384", digest="sha3_384")),
    "sha3-512-rsa": Plan(signers=one(key="rsa3072", digest="sha3_512")),
    "under-p384": Plan(authority="p384"),
    "under-p521": Plan(authority="p521"),
    "under-rsa-pss-4096": Plan(authority="pss"),
    "root-like-turktrust-h7": Plan(authority="p384", odd_root=True),
    "root-like-turktrust-h7-crl": Plan(authority="p384", odd_root=True, network="crl"),
    # how CMS may be written
    "opaque": Plan(form="opaque"),
    "opaque-rsa": Plan(form="opaque", signers=one(key="rsa2048")),
    "signer-by-key-id": Plan(signers=one(sid="key")),
    "ess-without-issuer": Plan(signers=one(ess_issuer=False)),
    "ess-by-sha384": Plan(signers=one(ess="sha384")),
    "ess-by-sha512": Plan(signers=one(ess="sha512", ess_issuer=False)),
    "plain-rsa-oid": Plan(signers=one(key="rsa2048", naming="plain")),
    "plain-ec-oid": Plan(signers=one(naming="plain")),
    "rsa-oid-on-ec-key": Plan(signers=one(naming="rsa-on-ec")),
    "rsa-oid-on-p384-key": Plan(signers=one(key="p384", digest="sha384", naming="rsa-on-ec")),
    "time-as-generalized": Plan(signers=one(time="generalized")),
    "time-with-fraction": Plan(signers=one(time="fraction")),
    "time-absent": Plan(signers=one(time="none")),
    "time-a-week-ago": Plan(signers=one(claimed=LAST_WEEK)),
    "time-ahead-within-tolerance": Plan(signers=one(claimed=4 * MINUTE)),
    "attributes-unsorted-where-allowed": Plan(
        signers=one(ordered=False), policy=(("cms", CmsRules(attributes_in_order=False)),)
    ),
    "seal-where-allowed": Plan(signers=one(seal=True), policy=(("allow_seals", True),)),
    # mail around it
    "protocol-missing-beside-a-signature-part": Plan(spoil="protocol-missing"),
    # revocation
    "crl-only": Plan(network="crl"),
    "crl-under-rsa-pss": Plan(network="crl", authority="pss"),
    "hold-over-until-after": Plan(revoked=(("s1", DAY),)),
    # profiles and stamps
    "t": Plan(signers=one(stamps=(STAMPED,))),
    "two-stamps": Plan(signers=one(stamps=(STAMPED, STAMPED + MINUTE))),
    "p2": Plan(signers=one("P2")),
    "p2-opaque": Plan(signers=one("P2"), form="opaque"),
    "p2-rsa-under-pss": Plan(signers=one("P2", key="rsa2048"), authority="pss"),
    "p3": Plan(signers=one("P3")),
    "p3-with-ocsp": Plan(signers=one("P3", ocsp_for_holder=True)),
    "p4": Plan(signers=one("P4")),
    "p4-opaque": Plan(signers=one("P4"), form="opaque"),
    "p4-under-p384": Plan(signers=one("P4", key="p384", digest="sha384"), authority="p384"),
    "p4-under-rsa-pss": Plan(signers=one("P4", key="rsa3072"), authority="pss"),
    "p4-tsa-data-in-token-attribute": Plan(signers=one("P4", tsa_material="unsigned")),
    "p4-tsa-data-in-values": Plan(signers=one("P4", tsa_material="values")),
    "p4-stamp-at-two-hours": Plan(signers=one("P4", claimed=STAMPED - 2 * HOUR)),
    "p4-stamp-slightly-before": Plan(signers=one("P4", claimed=STAMPED + 4 * MINUTE)),
    "p3-complete-after-its-grace": Plan(
        signers=one("P3"), fetched=25 * HOUR, at=900 * DAY, later=True, network="none"
    ),
    "p4-fetched-within-the-hour": Plan(
        signers=one("P4"), fetched=STAMPED + 50 * MINUTE, at=900 * DAY, later=True, network="none"
    ),
    "p4-authority-only-in-values": Plan(signers=one("P4"), chain=False),
    "first-stamp-in-time-second-late": Plan(
        signers=one("P2", claimed=-4 * HOUR, stamps=(-3 * HOUR, STAMPED))
    ),
    "archive-v3": Plan(signers=one("P4", archive="v3")),
    "archive-v3-older-index": Plan(signers=one("P4", archive="v3-old-index")),
    "archive-v2": Plan(signers=one("P4", archive="v2")),
    "archive-index-without-later-attributes": Plan(
        signers=one("P4", archive="v3"), spoil="archive-index-lacks-attribute"
    ),
    "archive-without-index-is-noted": Plan(signers=one("P4", archive="v3"), spoil="archive-index-missing"),
    # many signers
    "parallel": Plan(signers=(SignerPlan(), SignerPlan(key="rsa2048"))),
    "parallel-p1-and-p4": Plan(signers=(SignerPlan(), SignerPlan(level="P4"))),
    "parallel-other-digests": Plan(signers=(SignerPlan(), SignerPlan(key="rsa2048", digest="sha512"))),
    "serial": Plan(signers=one(counters=(SignerPlan(),))),
    "serial-two": Plan(signers=one(counters=(SignerPlan(), SignerPlan(key="rsa2048")))),
    "serial-nested": Plan(signers=one(counters=(SignerPlan(counters=(SignerPlan(),)),))),
    "serial-on-p4": Plan(signers=one("P4", counters=(SignerPlan(),))),
    # later
    "revoked-after-the-stamp": Plan(signers=one("P4"), at=30 * DAY, later=True, revoked=(("s1", DAY),)),
    "revoked-after-the-stamp-p2": Plan(signers=one("P2"), at=30 * DAY, later=True, revoked=(("s1", DAY),)),
    "tsa-compromised-after-our-own-proof": Plan(
        signers=one("P4"), at=30 * DAY, later=True, proven=MINUTE, revoked=(("tsa", DAY),)
    ),
    "revoked-after-the-proven-time": Plan(at=30 * DAY, later=True, proven=MINUTE, revoked=(("s1", DAY),)),
    "authority-revoked-after-the-stamp": Plan(
        signers=one("P4"), at=30 * DAY, later=True, revoked=(("ca", DAY),)
    ),
    "expired-after-the-proven-time": Plan(at=2000 * DAY, later=True, proven=MINUTE, asked=2 * MINUTE),
    "expired-after-the-stamp": Plan(signers=one("P4"), at=2000 * DAY, later=True, network="none"),
    "stored-answers-with-proof": Plan(at=30 * DAY, later=True, proven=MINUTE, asked=2 * MINUTE),
    "fresh-answers-without-proof": Plan(at=30 * DAY, later=True),
    # unusual, one thing at a time
    **{
        f"with-{name}": Plan(spoil=name)
        for name in (
            "more-signed-attributes",
            "algorithm-protection",
            "ess-with-chain",
            "ess-of-both-versions",
            "digest-with-null",
            "root-embedded",
            "stranger-embedded",
            "older-authority-embedded",
            "certificates-not-sorted",
            "version-three",
            "unsigned-unknown",
            "non-repudiation-alone",
            "money-limit-and-retention",
            "policies-many",
            "mail-usage",
            "ocsp-by-the-issuer",
            "ocsp-id-by-sha256",
            "ocsp-without-end",
            "ocsp-with-fractions",
            "ocsp-extension",
            "ocsp-a-minute-ahead",
        )
    },
    "with-crl-extension": Plan(network="crl", spoil="crl-extension"),
    "with-crl-for-holders-only": Plan(network="crl", spoil="crl-for-holders-only"),
    "with-stamp-imprint-sha512": Plan(signers=one("P2"), spoil="stamp-imprint-sha512"),
    "with-tsa-rsa": Plan(signers=one("P4"), spoil="tsa-rsa"),
    "with-tsa-p384": Plan(signers=one("P4"), spoil="tsa-p384"),
    "with-counter-signer-not-qualified": Plan(
        signers=one(counters=(SignerPlan(),)), spoil="counter-signer-not-qualified"
    ),
    "tsa-ceased-after-the-stamp": Plan(signers=one("P2"), revoked=(("tsa", STAMPED + MINUTE),), reason=5),
    "algorithm-table-past-its-date": Plan(at=600 * DAY),
    "algorithms-ended-after-the-proven-time": Plan(
        at=600 * DAY, later=True, proven=MINUTE, asked=2 * MINUTE, policy=(("algorithms", ENDING),)
    ),
}
