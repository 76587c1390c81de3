"""What can be spoiled in profiles, stamps, counter-signatures and in the message around a signature."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Final

from evidence.asn1.der import explicit, integer, octets, oid, seq
from kephs.testpki.oids import (
    ETSI_QC_COMPLIANCE,
)
from tests.support import nes_zoo_ades as ades
from tests.support import nes_zoo_pki as pki
from tests.support.nes_zoo import CLAIMED, DAY, HOUR, ID_DATA, Spoil
from tests.support.nes_zoo_changes import (
    entry,
    field,
    first,
    flipped,
    foreign_list,
    impostor,
    inside_mixed,
    last,
    listed,
    many,
    members_of,
    other_time,
    plain,
    second_part,
    spoil_message,
    stranger,
    unnamed,
    without,
)
from tests.support.pki import NOW

_QC: Final = pki.statement(ETSI_QC_COMPLIANCE)
_PLAIN_PART: Final = b"Content-Type: text/plain\r\n\r\nunsigned"
_SIGNATURE_PART: Final = (
    b"Content-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: base64\r\n\r\nMAA="
)

POLICY: Final = {
    "policy-unknown": Spoil("s1.policy", field(identifier="2.16.792.1.61.0.1.5070.3.9.1")),
    "policy-hash-other": Spoil("s1.policy", field(value=pki.flip)),
    "policy-hash-sha1": Spoil("s1.policy", field(hash_name="sha1", value=bytes(20))),
    "policy-uri-missing": Spoil("s1.policy", field(uri=None)),
    "policy-uri-other": Spoil("s1.policy", field(uri="http://example.org/other.pdf")),
    "policy-malformed": Spoil(
        "s1.attributes", entry(policy=ades.attribute(ades.POLICY_ID, octets(b"policy")))
    ),
    "policy-implied": Spoil("s1.attributes", entry(policy=ades.attribute(ades.POLICY_ID, b"\x05\x00"))),
    "time-missing": Spoil("s1.attributes", entry(time=None)),
    "stamp-missing": Spoil("s1.unsigned", without(ades.STAMP)),
    "cert-refs-missing": Spoil("s1.unsigned", without(ades.CERT_REFS)),
    "revocation-refs-missing": Spoil("s1.unsigned", without(ades.REVOCATION_REFS)),
    "cert-values-missing": Spoil("s1.unsigned", without(ades.CERT_VALUES)),
    "revocation-values-missing": Spoil("s1.unsigned", without(ades.REVOCATION_VALUES)),
    "cert-ref-wrong": Spoil("s1.cert-refs", first(lambda _: ades.cert_ref(stranger("ref")))),
    "cert-ref-serial-wrong": Spoil(
        "s1.cert-refs",
        lambda value, shop: [
            seq(ades.other_hash(shop.entities["ca"].der), ades.issuer_serial(shop.entities["root"])),
            *value[1:],
        ],
    ),
    "cert-ref-for-ca-missing": Spoil("s1.cert-refs", listed(lambda values: values[1:])),
    "cert-ref-for-root-missing": Spoil("s1.cert-refs", listed(lambda values: values[:-1])),
    "cert-ref-malformed": Spoil("s1.cert-refs", first(lambda _: b"\x05\x00")),
    "revocation-ref-wrong": Spoil(
        "s1.revocation-refs", first(lambda _: ades.revocation_ref(foreign_list(None)))
    ),
    "revocation-ref-for-holder-missing": Spoil("s1.revocation-refs", listed(lambda values: values[1:])),
    "revocation-ref-for-ca-missing": Spoil(
        "s1.revocation-refs", listed(lambda values: [values[0], seq(), *values[2:]])
    ),
    "cert-value-wrong": Spoil("s1.cert-values", first(lambda _: stranger("value").der)),
    "cert-value-for-ca-missing": Spoil("s1.cert-values", listed(lambda values: values[1:])),
    "cert-value-for-root-missing": Spoil("s1.cert-values", listed(lambda values: values[:-1])),
    "cert-value-more": Spoil("s1.cert-values", listed(lambda values: [*values, stranger("more").der])),
    "revocation-value-wrong": Spoil("s1.revocation-values", last(foreign_list)),
    "revocation-value-for-holder-missing": Spoil("s1.revocation-values", listed(lambda values: values[1:])),
    "revocation-value-for-ca-missing": Spoil(
        "s1.revocation-values", listed(lambda values: [values[0], *values[2:]])
    ),
    "revocation-value-more": Spoil(
        "s1.revocation-values", listed(lambda values: [*values, foreign_list(None)])
    ),
    "embedded-ocsp-badly-signed": Spoil("embedded-ocsp:s1", field(finish=pki.flip)),
    "embedded-ocsp-other-serial": Spoil("embedded-ocsp:s1", field(serial=4711)),
    "embedded-ocsp-unknown": Spoil("embedded-ocsp:s1", field(unknown=True)),
    "embedded-ocsp-revoked": Spoil("embedded-ocsp:s1", field(revoked_at=lambda _: NOW - DAY)),
    "embedded-ocsp-early": Spoil(
        "embedded-ocsp:s1",
        field(produced_at=NOW + CLAIMED - HOUR, this_update=NOW + CLAIMED - HOUR),
    ),
    "embedded-crl-badly-signed": Spoil("embedded-crl:root", field(finish=pki.flip)),
    "tsa-root-not-embedded": Spoil("s1.t1.certificates", listed(lambda values: values[:-1])),
    "tsa-ca-not-embedded": Spoil("s1.t1.certificates", listed(lambda values: [values[0], *values[2:]])),
    "tsa-crl-not-embedded": Spoil("s1.t1.crls", listed(lambda values: values[1:])),
    "tsa-ca-crl-not-embedded": Spoil("s1.t1.crls", listed(lambda values: values[:1])),
}

_BROKEN_TOKEN: Final = seq(oid("1.2.840.113549.1.7.2"), explicit(0, seq(integer(3))))

STAMPS: Final = {
    "imprint-altered": Spoil("s1.t1.tst", field(imprint=pki.flip)),
    "imprint-of-content": Spoil("s1.t1.tst", field(imprint=sha256(b"content").digest())),
    "imprint-sha1": Spoil("s1.t1.tst", field(hash_name="sha1", imprint=bytes(20))),
    "token-value-altered": Spoil("s1.t1.value", flipped()),
    "token-digest-altered": Spoil("s1.t1.digest", flipped()),
    "token-ess-missing": Spoil("s1.t1.attributes", entry(ess=None)),
    "token-malformed": Spoil("s1.t1", plain(lambda _: _BROKEN_TOKEN)),
    "token-trailing": Spoil("s1.t1", plain(lambda der: seq(*members_of(der), b"\x05\x00"))),
    "second-token-altered": Spoil("s1.t2.value", flipped()),
    "tsa-expired": Spoil("tsa.profile", field(not_after=NOW - DAY)),
    "tsa-not-yet-valid": Spoil("tsa.profile", field(not_before=NOW + DAY)),
    "tsa-no-usage": Spoil("tsa.profile", field(eku=())),
    "tsa-usage-not-critical": Spoil("tsa.profile", field(eku_critical=False)),
    "tsa-usage-more": Spoil("tsa.profile", field(eku=(pki.TIME_STAMPING, pki.OCSP_SIGNING))),
    "tsa-unknown": Spoil("roots", listed(lambda values: values[:1])),
    "tsa-impostor": Spoil("tsa.issuer", impostor),
    "tsa-rsa1024": Spoil("tsa.profile", field(key=lambda _: pki.key_of("tsa", "rsa1024"))),
    "stamp-after-two-hours": Spoil("s1.claimed", other_time(hours=-2)),
    "stamp-before-signing": Spoil("s1.t1.tst", field(gen_time=lambda at: at - 2 * HOUR)),
    "stamp-in-future": Spoil("s1.t1.tst", field(gen_time=lambda at: at + HOUR)),
    "archive-index-altered": Spoil(
        "s1.index", field(certificates=lambda values: (pki.flip(values[0]), *values[1:]))
    ),
    "archive-index-of-other-attribute": Spoil(
        "s1.index", field(unsigned=lambda values: (pki.flip(values[0]), *values[1:]))
    ),
    "archive-index-lacks-attribute": Spoil("s1.index", field(unsigned=lambda values: values[1:])),
    "archive-index-missing": Spoil("s1.carried", plain(lambda _: {})),
    "archive-imprint-altered": Spoil("s1.a1.tst", field(imprint=pki.flip)),
    "archive-token-altered": Spoil("s1.a1.value", flipped()),
}


SIGNERS: Final = {
    "second-value-altered": Spoil("s2.value", flipped()),
    "second-digest-altered": Spoil("s2.digest", flipped()),
    "second-no-btk": Spoil("s2.profile", field(statements=(_QC,))),
    "second-expired": Spoil("s2.profile", field(not_after=NOW - DAY)),
    "counter-digest-altered": Spoil("s1.c1.digest", flipped()),
    "counter-value-altered": Spoil("s1.c1.value", flipped()),
    "counter-with-content-type": Spoil(
        "s1.c1.attributes", entry(type=ades.attribute(ades.CONTENT_TYPE, oid(ID_DATA)))
    ),
    "counter-ess-missing": Spoil("s1.c1.attributes", entry(ess=None)),
    "counter-not-embedded": Spoil("s1.c1.fields", unnamed),
    "counter-malformed": Spoil(
        "s1.unsigned", plain(lambda found: found | {ades.COUNTER_SIGNATURE: [b"\x30\x00"]})
    ),
    "counter-impostor": Spoil("s1.c1.issuer", impostor),
    "counter-expired": Spoil("s1.c1.profile", field(not_after=NOW - DAY)),
    "counter-rsa1024": Spoil("s1.c1.profile", field(key=lambda _: pki.key_of("s1.c1", "rsa1024"))),
    "counter-hundred": Spoil("s1.unsigned", many(60)),
    "nested-digest-altered": Spoil("s1.c1.c1.digest", flipped()),
    "nested-value-altered": Spoil("s1.c1.c1.value", flipped()),
}

MESSAGE: Final = {
    "nested-in-mixed": Spoil("message", plain(inside_mixed)),
    "third-part": Spoil("message", plain(second_part(_PLAIN_PART))),
    "two-signatures": Spoil("message", plain(second_part(_SIGNATURE_PART))),
    "preamble": Spoil(
        "message",
        spoil_message(
            b"\r\n\r\n--TESTboundary0001\r\nContent-Type: text",
            b"\r\n\r\nPay at once\r\n--TESTboundary0001\r\nContent-Type: text",
        ),
    ),
    "epilogue": Spoil("message", plain(lambda message: message + b"Pay at once\r\n")),
    "not-closed": Spoil("message", spoil_message(b"--TESTboundary0001--", b"")),
    "not-signed": Spoil("message", spoil_message(b"multipart/signed", b"multipart/mixed")),
    "protocol-missing": Spoil("message", spoil_message(b' protocol="application/pkcs7-signature";', b"")),
    "protocol-pgp": Spoil(
        "message", spoil_message(b'protocol="application/pkcs7-signature"', b'protocol="application/pgp"')
    ),
    "content-type-field-twice": Spoil(
        "message",
        spoil_message(b"MIME-Version: 1.0\r\n", b"MIME-Version: 1.0\r\nContent-Type: text/plain\r\n"),
    ),
    "encrypted": Spoil("message", spoil_message(b"smime-type=signed-data", b"smime-type=enveloped-data")),
    "base64-foreign": Spoil("message", plain(lambda message: message.replace(b"\r\nMII", b"\r\nM!II", 1))),
}


ADES: Final[Mapping[str, Spoil]] = {**POLICY, **STAMPS, **SIGNERS, **MESSAGE}
