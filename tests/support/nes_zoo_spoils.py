"""What can be spoiled in a signed message: one stage of the workshop and one change each.

A name says what is wrong. `tests.support.nes_zoo_cases` says which rule that breaks.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final

from evidence.asn1.der import boolean, explicit, implicit, integer, octets, oid, seq, set_of, tlv, utf8
from kephs.testpki.oids import (
    BTK_QUALIFIED,
    BTK_QUALIFIED_SEAL,
    BTK_TEXT,
    ETSI_QC_COMPLIANCE,
    MALI_MUHUR_POLICY,
    TEST_NES_POLICY,
    TEST_TRANSACTION_POLICY,
)
from tests.support import nes_zoo_ades as ades
from tests.support import nes_zoo_pki as pki
from tests.support.nes_zoo import DAY, HOUR, ID_DATA, Spoil
from tests.support.nes_zoo_changes import (
    content_of,
    doubled,
    entry,
    ess_v1,
    field,
    flipped,
    hash_in,
    impostor,
    indefinite,
    listed,
    long_form,
    other_issuer,
    other_serial,
    plain,
    raw_ecdsa,
    revocation_by,
    rsa_ca,
    sid_of,
)
from tests.support.nes_zoo_spoils_ades import ADES
from tests.support.pki import NOW

LONG_AGO: Final = NOW - 3 * DAY

CMS: Final = {
    "digest-altered": Spoil("s1.digest", flipped()),
    "content-altered": Spoil("entity", plain(lambda body: body.replace(b"Merhaba", b"merhaba"))),
    "value-altered": Spoil("s1.value", flipped()),
    "value-empty": Spoil("s1.value", plain(lambda _: b"")),
    "value-raw": Spoil("s1.value", plain(raw_ecdsa)),
    "key-other": Spoil("s1.key", plain(lambda _: pki.key_of("other", "p256"))),
    "ess-hash-altered": Spoil("s1.ess", plain(lambda der: der.replace(bytes(hash_in(der)), bytes(32)))),
    "ess-missing": Spoil("s1.attributes", entry(ess=None)),
    "ess-v1-only": Spoil("s1.attributes", lambda found, shop: found | {"ess": ess_v1(shop)}),
    "ess-sha1": Spoil("s1.ess", lambda _, shop: ades.ess(shop.entities["s1"], "sha1")),
    "ess-serial-other": Spoil("s1.ess", other_serial),
    "ess-issuer-other": Spoil("s1.ess", other_issuer),
    "ess-doubled": Spoil("s1.attributes", entry(ess=doubled(ades.ESS_V2))),
    "ess-empty": Spoil("s1.attributes", entry(ess=ades.attribute(ades.ESS_V2, seq(seq())))),
    "content-type-missing": Spoil("s1.attributes", entry(type=None)),
    "content-type-other": Spoil(
        "s1.attributes", entry(type=ades.attribute(ades.CONTENT_TYPE, oid("1.2.840.113549.1.7.5")))
    ),
    "content-type-twice": Spoil(
        "s1.attributes", entry(again=ades.attribute(ades.CONTENT_TYPE, oid(ID_DATA)))
    ),
    "content-type-doubled": Spoil("s1.attributes", entry(type=doubled(ades.CONTENT_TYPE))),
    "digest-missing": Spoil("s1.attributes", entry(digest=None)),
    "digest-doubled": Spoil("s1.attributes", entry(digest=doubled(ades.MESSAGE_DIGEST))),
    "digest-twice": Spoil(
        "s1.attributes", entry(again=ades.attribute(ades.MESSAGE_DIGEST, octets(bytes(32))))
    ),
    "digest-no-value": Spoil("s1.attributes", entry(digest=ades.attribute(ades.MESSAGE_DIGEST))),
    "time-doubled": Spoil("s1.attributes", entry(time=doubled(ades.SIGNING_TIME))),
    "time-malformed": Spoil(
        "s1.attributes", entry(time=ades.attribute(ades.SIGNING_TIME, tlv(0x17, b"261321085000Z")))
    ),
    "time-local": Spoil(
        "s1.attributes", entry(time=ades.attribute(ades.SIGNING_TIME, tlv(0x17, b"2611211150+0300")))
    ),
    "no-signed-attributes": Spoil("s1.attributes", plain(lambda _: {})),
    "signer-not-embedded": Spoil("certificates", listed(lambda values: values[1:])),
    "certificates-none": Spoil("certificates", plain(lambda _: [])),
    "sid-serial-other": Spoil(
        "s1.fields", lambda found, shop: found | {"sid": seq(shop.entities["ca"].profile.subject, integer(7))}
    ),
    "sid-key-of-authority": Spoil(
        "s1.fields", lambda found, shop: found | {"sid": implicit(0, shop.entities["ca"].key_id)}
    ),
    "sid-of-authority": Spoil("s1.fields", lambda found, shop: found | {"sid": sid_of(shop.entities["ca"])}),
    "trailing-octet": Spoil("cms", plain(lambda der: der + b"\0")),
    "trailing-inside": Spoil("data", entry(more=b"\x05\x00")),
    "long-form-length": Spoil("cms", plain(long_form)),
    "indefinite-length": Spoil("cms", plain(indefinite)),
    "cut-short": Spoil("cms", plain(lambda der: der[:-1])),
    "no-signers": Spoil("data", entry(signers=tlv(0x31))),
    "nine-signers": Spoil("data", entry(signers=lambda der: tlv(0x31, *[pki.body(der)] * 9))),
    "digest-not-listed": Spoil("data", entry(digests=set_of((pki.digest_id("sha512"),)))),
    "version-wrong": Spoil("data", entry(version=integer(2))),
    "signer-version-wrong": Spoil("s1.fields", entry(version=integer(3))),
    "content-type-tst": Spoil("data", entry(content=seq(oid("1.2.840.113549.1.9.16.1.4")))),
    "content-inside-too": Spoil("data", entry(content=seq(oid(ID_DATA), explicit(0, octets(b"x"))))),
    "content-not-inside": Spoil("data", entry(content=seq(oid(ID_DATA)))),
    "not-signed-data": Spoil(
        "container", lambda _, __: lambda fields: ades.join(fields, "1.2.840.113549.1.7.3")
    ),
    "attribute-certificate": Spoil(
        "data", entry(certificates=lambda der: tlv(0xA0, content_of(der), tlv(0xA1)))
    ),
    "unsigned-empty": Spoil("s1.info", entry(unsigned=tlv(0xA1))),
    "rsa1024": Spoil("s1.profile", field(key=lambda _: pki.key_of("s1", "rsa1024"))),
    "p224": Spoil("s1.profile", field(key=lambda _: pki.key_of("s1", "p224"))),
    "hash-contradiction": Spoil("s1.fields", entry(algorithm=seq(oid(pki.ECDSA_OIDS["sha384"])))),
    "pss-salt-short": Spoil("s1.fields", entry(algorithm=pki.pss_id("sha256", salt=20))),
    "pss-mask-other": Spoil("s1.fields", entry(algorithm=pki.pss_id("sha256", mask="sha384"))),
    "pss-no-parameters": Spoil("s1.fields", entry(algorithm=seq(oid("1.2.840.113549.1.1.10")))),
    "algorithm-unknown": Spoil("s1.fields", entry(algorithm=seq(oid("1.2.3.4.5")))),
}


_QC: Final = pki.statement(ETSI_QC_COMPLIANCE)
_BTK: Final = pki.statement(BTK_QUALIFIED, utf8(BTK_TEXT))
_CRITICAL: Final = ("1.2.3.4.5.6", True, octets(b"x"))

CERTIFICATE: Final = {
    "no-non-repudiation": Spoil("s1.profile", field(usage=frozenset({pki.DIGITAL}))),
    "no-key-usage": Spoil("s1.profile", field(usage=frozenset())),
    "no-user-notice": Spoil("s1.profile", field(policies=(pki.policy(TEST_NES_POLICY),))),
    "blank-user-notice": Spoil("s1.profile", field(policies=(pki.policy(TEST_NES_POLICY, notice=" "),))),
    "no-policies": Spoil("s1.profile", field(policies=())),
    "no-statements": Spoil("s1.profile", field(statements=())),
    "no-etsi-statement": Spoil("s1.profile", field(statements=(_BTK,))),
    "no-btk-statement": Spoil("s1.profile", field(statements=(_QC,))),
    "btk-text-without-oid": Spoil(
        "s1.profile", field(statements=(pki.statement(ETSI_QC_COMPLIANCE, utf8(BTK_TEXT)),))
    ),
    "btk-arc-only": Spoil(
        "s1.profile",
        field(statements=(_QC, pki.statement("2.16.792.1.61.0.1.5070.1", utf8(BTK_TEXT)))),
    ),
    "btk-oid-as-policy": Spoil(
        "s1.profile",
        field(statements=(_QC,), policies=lambda old: (*old, pki.policy(BTK_QUALIFIED, notice=BTK_TEXT))),
    ),
    "statements-elsewhere": Spoil(
        "s1.profile", field(statements=(), more=(("1.3.6.1.5.5.7.1.99", False, seq(_QC, _BTK)),))
    ),
    "statement-as-usage": Spoil(
        "s1.profile", field(statements=(_BTK,), eku=(ETSI_QC_COMPLIANCE,), eku_critical=False)
    ),
    "seal": Spoil("s1.profile", field(statements=(_QC, pki.statement(BTK_QUALIFIED_SEAL, utf8(BTK_TEXT))))),
    "mali-muhur": Spoil("s1.profile", field(policies=lambda old: (*old, pki.policy(MALI_MUHUR_POLICY)))),
    "transaction-policy": Spoil(
        "s1.profile", field(policies=lambda old: (*old, pki.policy(TEST_TRANSACTION_POLICY)))
    ),
    "expired": Spoil("s1.profile", field(not_after=NOW - timedelta(seconds=1))),
    "not-yet-valid": Spoil("s1.profile", field(not_before=NOW + timedelta(seconds=1))),
    "holder-badly-signed": Spoil("s1.profile", field(finish=pki.flip)),
    "ca-badly-signed": Spoil("ca.profile", field(finish=pki.flip)),
    "holder-algorithms-differ": Spoil("s1.profile", field(inner_digest="sha384")),
    "holder-impostor": Spoil("s1.issuer", impostor),
    "ca-impostor": Spoil("ca.issuer", impostor),
    "holder-critical": Spoil("s1.profile", field(more=(_CRITICAL,))),
    "holder-authority": Spoil("s1.profile", field(authority=True)),
    "ca-no-authority": Spoil("ca.profile", field(authority=False, path_length=None)),
    "ca-no-cert-sign": Spoil("ca.profile", field(usage=frozenset({pki.SIGN_LISTS}))),
    "ca-critical": Spoil("ca.profile", field(more=(_CRITICAL,))),
    "ca-expired": Spoil("ca.profile", field(not_after=NOW - timedelta(seconds=1))),
    "ca-not-yet-valid": Spoil("ca.profile", field(not_before=NOW + timedelta(seconds=1))),
    "ca-name-constraints": Spoil(
        "ca.profile",
        field(more=(("2.5.29.30", True, seq(explicit(0, seq(seq(tlv(0x82, b"kep.tr")))))),)),
    ),
    "root-expired": Spoil("root.profile", field(not_after=NOW - timedelta(seconds=1))),
    "root-path-length": Spoil("root.profile", field(path_length=0)),
    "root-not-configured": Spoil("roots", listed(lambda values: values[1:])),
    "roots-none": Spoil("roots", plain(lambda _: [])),
    "ca-rsa3072": Spoil("ca.profile", rsa_ca(3072)),
    "holder-pkcs1-signed": Spoil("s1.profile", field(pkcs1=True)),
    "holder-sha1-signed": Spoil("s1.profile", field(digest="sha1")),
    "holder-sha224-signed": Spoil("s1.profile", field(digest="sha224")),
    "ca-sha1-signed": Spoil("ca.profile", field(digest="sha1")),
}

REVOCATION: Final = {
    "ocsp-badly-signed": Spoil("ocsp:s1", field(finish=pki.flip)),
    "ocsp-responder-of-root": Spoil("ocsp:s1", revocation_by("ocsp-root")),
    "ocsp-by-tsa": Spoil("ocsp:s1", revocation_by("tsa")),
    "ocsp-responder-unnamed": Spoil("ocsp:s1", field(certificates=())),
    "ocsp-responder-no-usage": Spoil("ocsp-ca.profile", field(eku=())),
    "ocsp-responder-other-usage": Spoil("ocsp-ca.profile", field(eku=(pki.TIME_STAMPING,))),
    "ocsp-responder-expired": Spoil("ocsp-ca.profile", field(not_after=NOW - DAY)),
    "ocsp-responder-impostor": Spoil("ocsp-ca.issuer", impostor),
    "ocsp-other-serial": Spoil("ocsp:s1", field(serial=4711)),
    "ocsp-stale": Spoil("ocsp:s1", field(this_update=LONG_AGO, next_update=LONG_AGO + HOUR)),
    "ocsp-future": Spoil("ocsp:s1", field(this_update=NOW + HOUR)),
    "ocsp-unknown": Spoil("ocsp:s1", field(unknown=True)),
    "ocsp-critical": Spoil("ocsp:s1", field(extensions=seq(oid("1.2.3.4.5.6"), boolean(True), octets(b"x")))),
    "ocsp-unknown-for-ca": Spoil("ocsp:ca", field(unknown=True)),
    "crl-stale": Spoil("crl:ca", field(this_update=LONG_AGO, next_update=LONG_AGO + DAY)),
    "crl-badly-signed": Spoil("crl:ca", field(finish=pki.flip)),
    "crl-by-other": Spoil("crl:ca", lambda value, shop: replace(value, signed_by=shop.entities["root"])),
    "crl-without-end": Spoil("crl:ca", field(next_update=None)),
    "crl-critical": Spoil("crl:ca", field(more=(seq(oid("1.2.3.4.5.6"), boolean(True), octets(b"x")),))),
    "crl-for-authorities-only": Spoil(
        "crl:ca", field(more=(seq(oid("2.5.29.28"), boolean(True), octets(seq(tlv(0x82, b"\xff")))),))
    ),
    "crl-delta": Spoil("crl:ca", field(more=(seq(oid("2.5.29.27"), boolean(True), octets(integer(1))),))),
    "crl-of-root-stale": Spoil("crl:root", field(this_update=LONG_AGO, next_update=LONG_AGO + DAY)),
}


SPOILS: Final[Mapping[str, Spoil]] = {**CMS, **CERTIFICATE, **REVOCATION, **ADES}
