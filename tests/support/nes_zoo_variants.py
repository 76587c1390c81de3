"""Changes that spoil nothing: unusual, and valid all the same. Made like spoils, one stage and one change each."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from hashlib import sha512
from typing import Any, Final

from evidence.asn1.der import boolean, integer, octets, oid, seq, tlv, utf8
from tests.support import nes_zoo_ades as ades
from tests.support import nes_zoo_pki as pki
from tests.support.nes_zoo import DAY, MINUTE, Spoil, Workshop
from tests.support.nes_zoo_changes import entry, field, listed, plain, stranger
from tests.support.pki import NOW

_CAPABILITIES: Final = ades.attribute("1.2.840.113549.1.9.15", seq(seq(oid("2.16.840.1.101.3.4.1.42"))))
_COMMITMENT: Final = ades.attribute("1.2.840.113549.1.9.16.2.16", seq(oid("1.2.840.113549.1.9.16.6.1")))


def _protection(found: dict[str, bytes], _: Workshop) -> dict[str, bytes]:
    """Name the algorithms inside the signature too (spec: RFC6211#2)."""
    named = seq(pki.digest_id("sha256"), tlv(0xA1, oid(pki.ECDSA_OIDS["sha256"])))
    return found | {"protection": ades.attribute("1.2.840.113549.1.9.52", named)}


def _ess_with_chain(found: dict[str, bytes], shop: Workshop) -> dict[str, bytes]:
    listed_ids = [ades.ess(shop.entities[name]) for name in ("s1", "ca", "root")]
    return found | {"ess": ades.attribute(ades.ESS_V2, seq(seq(*listed_ids)))}


def _both_ess(found: dict[str, bytes], shop: Workshop) -> dict[str, bytes]:
    from tests.support.nes_zoo_changes import ess_v1  # noqa: PLC0415 - here alone

    return found | {"old": ess_v1(shop)}


def _older_ca(values: list[bytes], shop: Workshop) -> list[bytes]:
    """Add the authority's certificate of before: same name and key, expired; shorter, so that it comes first."""
    ca = shop.entities["ca"]
    return [pki.certify(replace(ca.profile, not_after=NOW - DAY, usage=frozenset()), ca.issuer).der, *values]


def _fractional(at: datetime) -> bytes:
    return tlv(0x18, at.strftime("%Y%m%d%H%M%S.25Z").encode())


def _sha512_imprint(token: Any, shop: Workshop) -> Any:
    return replace(token, hash_name="sha512", imprint=sha512(shop.stamped["s1.t1"]).digest())


_LIMIT: Final = pki.statement("0.4.0.1862.1.2", seq(tlv(0x13, b"TRY"), integer(5), integer(3)))
_RETENTION: Final = pki.statement("0.4.0.1862.1.3", integer(20))

VARIANTS: Final[Mapping[str, Spoil]] = {
    "more-signed-attributes": Spoil("s1.attributes", entry(more=_CAPABILITIES, why=_COMMITMENT)),
    "algorithm-protection": Spoil("s1.attributes", _protection),
    "ess-with-chain": Spoil("s1.attributes", _ess_with_chain),
    "ess-of-both-versions": Spoil("s1.attributes", _both_ess),
    "digest-with-null": Spoil("s1.fields", entry(digest=pki.digest_id("sha256", null=True))),
    "root-embedded": Spoil("certificates", lambda value, shop: [*value, shop.entities["root"].der]),
    "stranger-embedded": Spoil("certificates", listed(lambda values: [*values, stranger("beside").der])),
    "older-authority-embedded": Spoil("certificates", _older_ca),
    "certificates-not-sorted": Spoil(
        "data",
        lambda found, shop: found | {"certificates": tlv(0xA0, *sorted(shop.certificates, reverse=True))},
    ),
    "version-three": Spoil("data", entry(version=integer(3))),
    "unsigned-unknown": Spoil("s1.unsigned", plain(lambda found: found | {"1.2.3.4.5": [utf8("x")]})),
    "non-repudiation-alone": Spoil("s1.profile", field(usage=frozenset({pki.NON_REPUDIATION}))),
    "money-limit-and-retention": Spoil(
        "s1.profile", field(statements=lambda old: (*old, _LIMIT, _RETENTION))
    ),
    "policies-many": Spoil("s1.profile", field(policies=lambda old: (pki.policy("1.2.3.4"), *old))),
    "mail-usage": Spoil("s1.profile", field(eku=("1.3.6.1.5.5.7.3.4",), eku_critical=False)),
    "counter-signer-not-qualified": Spoil("s1.c1.profile", field(statements=(), policies=())),
    "ocsp-by-the-issuer": Spoil(
        "ocsp:s1", lambda value, shop: replace(value, by=shop.entities["ca"], certificates=())
    ),
    "ocsp-id-by-sha256": Spoil("ocsp:s1", field(hash_name="sha256")),
    "ocsp-without-end": Spoil("ocsp:s1", field(next_update=lambda _: None)),
    "ocsp-with-fractions": Spoil(
        "ocsp:s1",
        lambda value, _: replace(
            value, times=_fractional, this_update=NOW - MINUTE, produced_at=NOW - MINUTE
        ),
    ),
    "ocsp-extension": Spoil("ocsp:s1", field(extensions=seq(oid("1.2.3.4.5.6"), octets(b"x")))),
    "ocsp-a-minute-ahead": Spoil("ocsp:s1", field(this_update=NOW + MINUTE, produced_at=NOW + MINUTE)),
    "crl-extension": Spoil("crl:ca", field(more=(seq(oid("1.2.3.4.5.6"), octets(b"x")),))),
    "crl-for-holders-only": Spoil(
        "crl:ca", field(more=(seq(oid("2.5.29.28"), boolean(True), octets(seq(tlv(0x81, b"\xff")))),))
    ),
    "stamp-imprint-sha512": Spoil("s1.t1.tst", _sha512_imprint),
    "tsa-rsa": Spoil("tsa.profile", field(key=lambda _: pki.key_of("tsa", "rsa2048"))),
    "tsa-p384": Spoil("tsa.profile", field(key=lambda _: pki.key_of("tsa", "p384"))),
    "tsa-valid-for-a-month": Spoil("tsa.profile", field(not_after=NOW + 30 * DAY)),
}
