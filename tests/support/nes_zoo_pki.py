"""The zoo's own authorities: any certificate, OCSP answer and list, made from data, octet by octet.

Certificates are emitted from DER parts and not by a library's builder, because a zoo needs what builders
refuse: SHA-1, ECDSA identifiers with parameters, statements in the wrong place.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, lru_cache
from hashlib import new as new_hash
from hashlib import sha1, sha256
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from evidence.asn1.der import (
    NULL_DER,
    Node,
    bits,
    boolean,
    children,
    explicit,
    generalized_time,
    implicit,
    integer,
    octets,
    oid,
    parse,
    seq,
    set_of,
    tlv,
    utctime,
    utf8,
)
from kephs.testpki.oids import BTK_QUALIFIED, BTK_TEXT, ETSI_QC_COMPLIANCE, TEST_NES_POLICY, TEST_TSA_POLICY
from tests.support.pki import AYSE_TCKN, NOW, slow_keys

BIG: Final = 100_000
NON_REPUDIATION, SIGN_CERTIFICATES, SIGN_LISTS, DIGITAL = 1, 5, 6, 0
TIME_STAMPING: Final = "1.3.6.1.5.5.7.3.8"
OCSP_SIGNING: Final = "1.3.6.1.5.5.7.3.9"
QC_EXTENSION: Final = "1.3.6.1.5.5.7.1.3"
KEY_USAGE: Final = "2.5.29.15"
ORGANIZATION: Final = "TEST kephs zoo"

# --------------------------------------------------------------------------- algorithms

HASHES: Final[Mapping[str, tuple[str, hashes.HashAlgorithm]]] = {
    "sha1": ("1.3.14.3.2.26", hashes.SHA1()),
    "sha224": ("2.16.840.1.101.3.4.2.4", hashes.SHA224()),
    "sha256": ("2.16.840.1.101.3.4.2.1", hashes.SHA256()),
    "sha384": ("2.16.840.1.101.3.4.2.2", hashes.SHA384()),
    "sha512": ("2.16.840.1.101.3.4.2.3", hashes.SHA512()),
    "sha3_256": ("2.16.840.1.101.3.4.2.8", hashes.SHA3_256()),
    "sha3_384": ("2.16.840.1.101.3.4.2.9", hashes.SHA3_384()),
    "sha3_512": ("2.16.840.1.101.3.4.2.10", hashes.SHA3_512()),
}
ECDSA_OIDS: Final = {
    "sha1": "1.2.840.10045.4.1",
    "sha224": "1.2.840.10045.4.3.1",
    "sha256": "1.2.840.10045.4.3.2",
    "sha384": "1.2.840.10045.4.3.3",
    "sha512": "1.2.840.10045.4.3.4",
    "sha3_256": "2.16.840.1.101.3.4.3.10",
    "sha3_384": "2.16.840.1.101.3.4.3.11",
    "sha3_512": "2.16.840.1.101.3.4.3.12",
}
RSA_OIDS: Final = {
    "sha1": "1.2.840.113549.1.1.5",
    "sha224": "1.2.840.113549.1.1.14",
    "sha256": "1.2.840.113549.1.1.11",
    "sha384": "1.2.840.113549.1.1.12",
    "sha512": "1.2.840.113549.1.1.13",
    "sha3_256": "2.16.840.1.101.3.4.3.14",
    "sha3_384": "2.16.840.1.101.3.4.3.15",
    "sha3_512": "2.16.840.1.101.3.4.3.16",
}
_CURVES: Final = {
    "p224": ec.SECP224R1(),
    "p256": ec.SECP256R1(),
    "p384": ec.SECP384R1(),
    "p521": ec.SECP521R1(),
}
_CURVE_HASH: Final = {224: "sha224", 256: "sha256", 384: "sha384", 521: "sha512"}


@cache
def key_of(role: str, kind: str) -> Any:
    """Return a private key: one per role and kind for the whole session."""
    if kind in _CURVES:
        return ec.generate_private_key(_CURVES[kind])
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "rsa4096":
        return slow_keys()["pss"]  # costs seconds to make: all authorities share the session's
    return rsa.generate_private_key(public_exponent=65537, key_size=int(kind.removeprefix("rsa")))


def digest_id(name: str, *, null: bool = False) -> bytes:
    return seq(oid(HASHES[name][0]), NULL_DER if null else b"")


def pss_parameters(name: str, *, mask: str | None = None, salt: int | None = None) -> bytes:
    return seq(
        explicit(0, digest_id(name, null=True)),
        explicit(1, seq(oid("1.2.840.113549.1.1.8"), digest_id(mask or name, null=True))),
        explicit(2, integer(HASHES[name][1].digest_size if salt is None else salt)),
    )


def pss_id(name: str, **options: Any) -> bytes:
    return seq(oid("1.2.840.113549.1.1.10"), pss_parameters(name, **options))


def algorithm_id(key: Any, name: str, *, pss: bool = False) -> bytes:
    """Return the AlgorithmIdentifier that names what `sign` does."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return seq(oid("1.3.101.112"))
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return seq(oid(ECDSA_OIDS[name]))
    return pss_id(name) if pss else seq(oid(RSA_OIDS[name]), NULL_DER)


def sign(key: Any, data: bytes, name: str, *, pss: bool = False) -> bytes:
    algorithm = HASHES[name][1]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(algorithm))
    scheme = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size) if pss else padding.PKCS1v15()
    value: bytes = key.sign(data, scheme, algorithm)
    return value


def flip(data: bytes, at: int = -1) -> bytes:
    """Return the bytes with one bit changed."""
    changed = bytearray(data)
    changed[at] ^= 0x01
    return bytes(changed)


# --------------------------------------------------------------------------- certificates


def policy(identifier: str, *, notice: str | None = None) -> bytes:
    """Return a PolicyInformation; ``notice`` is the text of a user notice."""
    qualifiers = b"" if notice is None else seq(seq(oid("1.3.6.1.5.5.7.2.2"), seq(utf8(notice))))
    return seq(oid(identifier), qualifiers)


def statement(identifier: str, info: bytes = b"") -> bytes:
    return seq(oid(identifier), info)


NES_STATEMENTS: Final = (statement(ETSI_QC_COMPLIANCE), statement(BTK_QUALIFIED, utf8(BTK_TEXT)))
NES_POLICIES: Final = (policy(TEST_NES_POLICY, notice=BTK_TEXT),)


@dataclass(frozen=True, slots=True)
class Profile:
    """All that stands in one certificate; spoils replace one field."""

    name: str
    key: Any
    tckn: str | None = None
    not_before: datetime = NOW - timedelta(days=1000)
    not_after: datetime = NOW + timedelta(days=3650)
    authority: bool = False
    path_length: int | None = None
    usage: frozenset[int] = frozenset()
    eku: tuple[str, ...] = ()
    eku_critical: bool = True
    policies: tuple[bytes, ...] = ()
    statements: tuple[bytes, ...] = ()
    more: tuple[tuple[str, bool, bytes], ...] = ()
    inner_digest: str = ""  # what the signed part says instead of the signature's own
    digest: str = ""  # of the issuer's signature; "" = what goes with its key
    pkcs1: bool = False  # an RSA issuer signs with PKCS #1 v1.5 instead of PSS
    key_id: bytes | None = None
    finish: Callable[[bytes], bytes] = bytes

    @property
    def subject(self) -> bytes:
        parts = [("2.5.4.6", tlv(0x13, b"TR")), ("2.5.4.10", utf8(ORGANIZATION))]
        if self.tckn is not None:
            parts.append(("2.5.4.5", tlv(0x13, self.tckn.encode())))
        parts.append(("2.5.4.3", utf8(f"TEST {self.name}")))
        return seq(*(set_of((seq(oid(kind), value),)) for kind, value in parts))

    @property
    def serial(self) -> int:
        return int.from_bytes(sha256(self.name.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True, slots=True, eq=False)
class Entity:
    """A certificate with its key and who issued it (None: itself)."""

    profile: Profile
    der: bytes
    issuer: "Entity | None"

    @property
    def key(self) -> Any:
        return self.profile.key

    @property
    def path(self) -> "tuple[Entity, ...]":
        """Return the authorities above, the root last."""
        return () if self.issuer is None else (self.issuer, *self.issuer.path)

    @property
    def chain(self) -> tuple[bytes, ...]:
        """Return the intermediates above, without the root."""
        return tuple(one.der for one in self.path[:-1])

    @property
    def key_id(self) -> bytes:
        return self.profile.key_id or sha1(public_bits(self.key)).digest()


def public_bits(key: Any) -> bytes:
    """Return the content of subjectPublicKey."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        return public.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    if isinstance(public, ed25519.Ed25519PublicKey):
        return public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    point: bytes = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return point


def natural_hash(key: Any) -> str:
    return _CURVE_HASH[key.curve.key_size] if isinstance(key, ec.EllipticCurvePrivateKey) else "sha256"


@lru_cache(maxsize=1024)  # most specimens share most certificates
def certify(profile: Profile, issuer: Entity | None) -> Entity:
    """Issue the certificate of a profile, once; without an issuer it is self-signed."""
    key = issuer.key if issuer else profile.key
    digest = profile.digest or natural_hash(key)
    pss = not profile.pkcs1
    identifier = algorithm_id(key, digest, pss=pss)
    blank = Entity(profile, b"", issuer)
    spki = profile.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    tbs = seq(
        explicit(0, integer(2)),
        integer(profile.serial),
        algorithm_id(key, profile.inner_digest, pss=pss) if profile.inner_digest else identifier,
        issuer.profile.subject if issuer else profile.subject,
        seq(utctime(profile.not_before), utctime(profile.not_after)),
        profile.subject,
        spki,
        explicit(3, seq(*_extensions(profile, blank.key_id, issuer))),
    )
    der = seq(tbs, identifier, bits(sign(key, tbs, digest, pss=pss)))
    return Entity(profile, profile.finish(der), issuer)


def _extensions(profile: Profile, own: bytes, issuer: Entity | None) -> list[bytes]:
    above = issuer.key_id if issuer else own
    length = integer(profile.path_length) if profile.path_length is not None else b""
    constraints = seq(boolean(True), length) if profile.authority else seq()
    found: list[tuple[str, bool, bytes]] = [
        ("2.5.29.35", False, seq(implicit(0, above))),
        ("2.5.29.14", False, octets(own)),
        ("2.5.29.19", True, constraints),
    ]
    if profile.usage:
        found.append((KEY_USAGE, True, _named_bits(profile.usage)))
    if profile.eku:
        found.append(("2.5.29.37", profile.eku_critical, seq(*map(oid, profile.eku))))
    if profile.policies:
        found.append(("2.5.29.32", False, seq(*profile.policies)))
    if profile.statements:
        found.append((QC_EXTENSION, False, seq(*profile.statements)))
    if issuer is not None:
        found += [("1.3.6.1.5.5.7.1.1", False, _OCSP_AT), ("2.5.29.31", False, _LISTS_AT)]
    return [
        seq(oid(kind), boolean(True) if critical else b"", octets(value))
        for kind, critical, value in (*found, *profile.more)
    ]


_OCSP_AT: Final = seq(seq(oid("1.3.6.1.5.5.7.48.1"), implicit(6, b"http://127.0.0.1:9/ocsp")))
_LISTS_AT: Final = seq(seq(explicit(0, explicit(0, implicit(6, b"http://127.0.0.1:9/crl")))))


def _named_bits(numbers: frozenset[int]) -> bytes:
    last = max(numbers)
    value = sum(0x80 >> number for number in numbers)
    return tlv(0x03, bytes((7 - last,)), bytes((value,)))


def authority(name: str, kind: str, *, role: str, path_length: int | None) -> Profile:
    return Profile(
        name,
        key_of(role, kind),
        authority=True,
        path_length=path_length,
        usage=frozenset({SIGN_CERTIFICATES, SIGN_LISTS}),
    )


def holder(name: str, kind: str, *, role: str, tckn: str = AYSE_TCKN) -> Profile:
    """Return a qualified certificate (NES) as the law wants it."""
    return Profile(
        name,
        key_of(role, kind),
        tckn=tckn,
        not_before=NOW - timedelta(days=30),
        not_after=NOW + timedelta(days=1000),
        usage=frozenset({DIGITAL, NON_REPUDIATION}),
        policies=NES_POLICIES,
        statements=NES_STATEMENTS,
    )


def stamper(name: str) -> Profile:
    return Profile(
        name,
        key_of("tsa", "p256"),
        usage=frozenset({DIGITAL, NON_REPUDIATION}),
        eku=(TIME_STAMPING,),
        policies=(policy(TEST_TSA_POLICY),),
    )


def responder(name: str) -> Profile:
    no_check = ("1.3.6.1.5.5.7.48.1.5", False, NULL_DER)
    return Profile(
        name,
        key_of(name, "p256"),
        usage=frozenset({DIGITAL}),
        eku=(OCSP_SIGNING,),
        eku_critical=False,
        more=(no_check,),
    )


# --------------------------------------------------------------------------- revocation


@dataclass(frozen=True, slots=True)
class Answer:
    """All that stands in one OCSP answer; spoils replace one field."""

    about: Entity
    by: Entity
    this_update: datetime
    next_update: datetime | None
    produced_at: datetime
    revoked_at: datetime | None = None
    reason: int = 1
    unknown: bool = False
    serial: int | None = None
    hash_name: str = "sha1"
    certificates: tuple[bytes, ...] | None = None
    extensions: bytes = b""
    times: Callable[[datetime], bytes] = generalized_time
    finish: Callable[[bytes], bytes] = bytes  # on the signature value

    def basic(self) -> bytes:
        """Return the BasicOCSPResponse: always the same octets, though ECDSA signs anew each time."""
        return _signed_once(self)

    def made(self) -> bytes:
        """Make and sign it (spec: RFC6960#4.2.1)."""
        issuer = self.about.issuer
        assert issuer is not None
        name = new_hash(self.hash_name, issuer.profile.subject).digest()
        key = new_hash(self.hash_name, public_bits(issuer.key)).digest()
        serial = self.about.profile.serial if self.serial is None else self.serial
        identifier = seq(digest_id(self.hash_name, null=True), octets(name), octets(key), integer(serial))
        until = explicit(0, self.times(self.next_update)) if self.next_update is not None else b""
        single = seq(identifier, self._status(), self.times(self.this_update), until)
        data = seq(
            explicit(2, octets(sha1(public_bits(self.by.key)).digest())),
            self.times(self.produced_at),
            seq(single),
            explicit(1, seq(self.extensions)) if self.extensions else b"",
        )
        digest = natural_hash(self.by.key)
        value = self.finish(sign(self.by.key, data, digest, pss=True))
        certificates = (self.by.der,) if self.certificates is None else self.certificates
        return seq(
            data,
            algorithm_id(self.by.key, digest, pss=True),
            bits(value),
            explicit(0, seq(*certificates)) if certificates else b"",
        )

    def response(self) -> bytes:
        """Return the OCSPResponse."""
        return seq(tlv(0x0A, b"\x00"), explicit(0, seq(oid("1.3.6.1.5.5.7.48.1.1"), octets(self.basic()))))

    def _status(self) -> bytes:
        if self.revoked_at is not None:
            return explicit(1, self.times(self.revoked_at), explicit(0, tlv(0x0A, bytes((self.reason,)))))
        return implicit(2, b"") if self.unknown else implicit(0, b"")


@dataclass(frozen=True, slots=True)
class RevocationList:
    """All that stands in one CRL; spoils replace one field."""

    issuer: Entity
    this_update: datetime
    next_update: datetime | None
    revoked: tuple[tuple[int, datetime], ...] = ()
    reason: int = 1
    more: tuple[bytes, ...] = ()  # further crlExtensions
    signed_by: Entity | None = None
    finish: Callable[[bytes], bytes] = bytes

    def der(self) -> bytes:
        """Return the CertificateList: always the same octets, though ECDSA signs anew each time."""
        return _signed_once(self)

    def made(self) -> bytes:
        """Make and sign it (spec: RFC5280#5.1)."""
        by = self.signed_by or self.issuer
        digest = natural_hash(by.key)
        identifier = algorithm_id(by.key, digest, pss=True)
        entries = [
            seq(
                integer(serial),
                utctime(at),
                seq(seq(oid("2.5.29.21"), octets(tlv(0x0A, bytes((self.reason,)))))),
            )
            for serial, at in self.revoked
        ]
        extensions = [
            seq(oid("2.5.29.35"), octets(seq(implicit(0, self.issuer.key_id)))),
            seq(oid("2.5.29.20"), octets(integer(int(self.this_update.timestamp())))),
            *self.more,
        ]
        tbs = seq(
            integer(1),
            identifier,
            self.issuer.profile.subject,
            utctime(self.this_update),
            utctime(self.next_update) if self.next_update is not None else b"",
            seq(*entries) if entries else b"",
            explicit(0, seq(*extensions)),
        )
        return seq(tbs, identifier, bits(self.finish(sign(by.key, tbs, digest, pss=True))))


@lru_cache(maxsize=64)
def _signed_once(one: Answer | RevocationList) -> bytes:
    return one.made()


def members(der: bytes) -> list[Node]:
    """Return what stands inside one value."""
    return children(parse(der, max_size=BIG))


def body(der: bytes) -> bytes:
    """Return the content octets of one value."""
    return parse(der, max_size=BIG).content


def with_curve_in_signature(certificate: bytes) -> bytes:
    """Write the curve as parameters of both ECDSA identifiers, as TURKTRUST H7 does; not signed again.

    Only good for configured anchors, whose own signature nobody looks at.
    """
    tbs, identifier, value = members(certificate)
    kind = children(identifier)[0]
    odd = seq(kind.whole, oid("1.3.132.0.34"))
    fields = [odd if node.whole == identifier.whole else node.whole for node in children(tbs)]
    return seq(seq(*fields), odd, value.whole)
