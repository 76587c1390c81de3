"""Signature algorithms: how they are named in DER, how a value is checked, and which ones count when.

The table is data (`AlgorithmPolicy`), so that an amendment of the Turkish communiqué (RG 6.1.2005/25692
md. 6, current set to 31.12.2027) or of ETSI TS 119 312 is a settings change. (spec: signing.md 2.1)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_der_public_key

from evidence.asn1.der import (
    BIT_STRING,
    NULL,
    NULL_DER,
    OID,
    SEQUENCE,
    Cursor,
    DerError,
    Node,
    children,
    inside,
    oid,
    parse,
    seq,
    to_bits,
    to_int,
    to_oid,
)

HASH_OIDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "1.3.14.3.2.26": "sha1",
        "2.16.840.1.101.3.4.2.4": "sha224",
        "2.16.840.1.101.3.4.2.1": "sha256",
        "2.16.840.1.101.3.4.2.2": "sha384",
        "2.16.840.1.101.3.4.2.3": "sha512",
        "2.16.840.1.101.3.4.2.8": "sha3_256",
        "2.16.840.1.101.3.4.2.9": "sha3_384",
        "2.16.840.1.101.3.4.2.10": "sha3_512",
    }
)
"""Digest OIDs and the names `hashlib` knows them by."""

_HASHES: Final[Mapping[str, hashes.HashAlgorithm]] = MappingProxyType(
    {
        "sha1": hashes.SHA1(),  # noqa: S303 - read only to be refused, and for OCSP certificate ids
        "sha224": hashes.SHA224(),
        "sha256": hashes.SHA256(),
        "sha384": hashes.SHA384(),
        "sha512": hashes.SHA512(),
        "sha3_256": hashes.SHA3_256(),
        "sha3_384": hashes.SHA3_384(),
        "sha3_512": hashes.SHA3_512(),
    }
)

_ECDSA: Final = MappingProxyType({name: ec.ECDSA(digest) for name, digest in _HASHES.items()})

RSA_PLAIN: Final = "1.2.840.113549.1.1.1"
RSA_PSS: Final = "1.2.840.113549.1.1.10"
MGF1: Final = "1.2.840.113549.1.1.8"
EC_PUBLIC_KEY: Final = "1.2.840.10045.2.1"
_PLAIN_RSA_IDENTIFIER: Final = seq(oid(RSA_PLAIN), NULL_DER)


class Family(StrEnum):
    """Families of signature algorithms."""

    RSA = "rsa"
    RSA_PSS = "rsa-pss"
    ECDSA = "ecdsa"
    DSA = "dsa"


_SIGNATURES: Final[Mapping[str, tuple[Family, str | None]]] = MappingProxyType(
    {
        RSA_PLAIN: (Family.RSA, None),
        "1.2.840.113549.1.1.5": (Family.RSA, "sha1"),
        "1.2.840.113549.1.1.14": (Family.RSA, "sha224"),
        "1.2.840.113549.1.1.11": (Family.RSA, "sha256"),
        "1.2.840.113549.1.1.12": (Family.RSA, "sha384"),
        "1.2.840.113549.1.1.13": (Family.RSA, "sha512"),
        "2.16.840.1.101.3.4.3.14": (Family.RSA, "sha3_256"),
        "2.16.840.1.101.3.4.3.15": (Family.RSA, "sha3_384"),
        "2.16.840.1.101.3.4.3.16": (Family.RSA, "sha3_512"),
        EC_PUBLIC_KEY: (Family.ECDSA, None),
        "1.2.840.10045.4.1": (Family.ECDSA, "sha1"),
        "1.2.840.10045.4.3.1": (Family.ECDSA, "sha224"),
        "1.2.840.10045.4.3.2": (Family.ECDSA, "sha256"),
        "1.2.840.10045.4.3.3": (Family.ECDSA, "sha384"),
        "1.2.840.10045.4.3.4": (Family.ECDSA, "sha512"),
        "2.16.840.1.101.3.4.3.10": (Family.ECDSA, "sha3_256"),
        "2.16.840.1.101.3.4.3.11": (Family.ECDSA, "sha3_384"),
        "2.16.840.1.101.3.4.3.12": (Family.ECDSA, "sha3_512"),
        "2.16.840.1.101.3.4.3.2": (Family.DSA, "sha256"),
        "2.16.840.1.101.3.4.3.3": (Family.DSA, "sha384"),
        "2.16.840.1.101.3.4.3.4": (Family.DSA, "sha512"),
    }
)


_IDENTIFIER_MAX: Final = 512
_RSA_KEYS: Final = frozenset({RSA_PLAIN, RSA_PSS})
MAX_RSA_BITS: Final = 8192
"""Twice what any authority in use has; the cost of one check grows with the square."""
MAX_EXPONENT_OCTETS: Final = 9
"""64 bits and a sign octet: a long public exponent makes checking as dear as signing."""
MAX_SPKI: Final = 4608
CURVES: Final = frozenset(
    {
        "secp192r1", "secp224r1",  # known to be named too short
        "secp256r1", "secp384r1", "secp521r1", "brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1",
    }
)  # fmt: skip
"""Curves of ETSI TS 119 312; keys on others verify nothing."""


class UnknownAlgorithmError(ValueError):
    """The algorithm, or its parameters, is none that this library knows."""


@dataclass(frozen=True, slots=True)
class SignatureAlgorithm:
    """A signature algorithm as an AlgorithmIdentifier names it; ``hash_name`` None where it names none."""

    family: Family
    hash_name: str | None


@dataclass(frozen=True, slots=True)
class KeyDescription:
    """Type and size of a public key; ``pss_only`` where its SPKI says id-RSASSA-PSS."""

    family: Family | None
    size: int
    pss_only: bool = False


def digest_algorithm(identifier: Node) -> str:
    """Return the hashlib name of a digest AlgorithmIdentifier (parameters absent or NULL).

    Raises:
        DerError: malformed.
        UnknownAlgorithmError: a digest that is not known.
    """
    if identifier.length > _IDENTIFIER_MAX:
        raise DerError("algorithm identifier is too long")
    return _digest_algorithm(identifier.whole)


@lru_cache(maxsize=256)  # pure memos: signatures name the same few algorithms over and over
def _digest_algorithm(der: bytes) -> str:
    cursor = Cursor(parse(der, max_size=1024), limit=2)
    dotted = to_oid(cursor.take(OID))
    if (null := cursor.optional(NULL)) is not None and null.length:
        raise DerError("NULL with content")
    cursor.finish()
    name = HASH_OIDS.get(dotted)
    if name is None:
        raise UnknownAlgorithmError(f"unknown digest algorithm {dotted}")
    return name


def signature_algorithm(identifier: Node) -> SignatureAlgorithm:
    """Return what a signature AlgorithmIdentifier names; RSA-PSS parameters are checked.

    PSS: one hash for message and MGF1, salt as long as the hash. (spec: RFC4055#3.1, signing.md 2.4 rule 5)

    Raises:
        DerError: malformed.
        UnknownAlgorithmError: unknown algorithm or parameters.
    """
    if identifier.length > _IDENTIFIER_MAX:
        raise DerError("algorithm identifier is too long")
    return _signature_algorithm(identifier.whole)


@lru_cache(maxsize=256)
def _signature_algorithm(der: bytes) -> SignatureAlgorithm:
    members = children(parse(der, max_size=1024), limit=2, tag=SEQUENCE)
    if not members:
        raise DerError("empty algorithm identifier")
    dotted = to_oid(members[0])
    if dotted == RSA_PSS:
        if len(members) != 2:
            raise UnknownAlgorithmError("RSA-PSS without parameters means SHA-1")
        return SignatureAlgorithm(Family.RSA_PSS, _pss_hash(members[1]))
    found = _SIGNATURES.get(dotted)
    if found is None:
        raise UnknownAlgorithmError(f"unknown signature algorithm {dotted}")
    return SignatureAlgorithm(*found)


def _pss_hash(parameters: Node) -> str:
    if parameters.tag != SEQUENCE:
        raise DerError("RSA-PSS parameters are not a SEQUENCE")
    cursor = Cursor(parameters, limit=4)
    digest, mask, salt, trailer = (cursor.optional(0xA0 | number) for number in range(4))
    cursor.finish()
    name = digest_algorithm(inside(digest, SEQUENCE)) if digest else "sha1"
    mask_name = "sha1"
    if mask:
        mask_cursor = Cursor(inside(mask, SEQUENCE), limit=2)
        if to_oid(mask_cursor.take(OID)) != MGF1:
            raise UnknownAlgorithmError("RSA-PSS mask is not MGF1")
        mask_name = digest_algorithm(mask_cursor.take(SEQUENCE))
    if mask_name != name:
        raise UnknownAlgorithmError("RSA-PSS with different hashes for message and mask")
    salt_length = to_int(inside(salt)) if salt else 20
    if salt_length != _HASHES[name].digest_size:
        raise UnknownAlgorithmError("RSA-PSS salt is not as long as the hash")
    if trailer and to_int(inside(trailer)) != 1:
        raise UnknownAlgorithmError("RSA-PSS trailer field")
    return name


def describe_key(key: PublicKeyTypes | None, *, pss_only: bool = False) -> KeyDescription:
    """Return family and size (bits) of a public key; family None where it cannot sign legally (Ed25519)."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return KeyDescription(Family.ECDSA, key.key_size)
    if isinstance(key, rsa.RSAPublicKey):
        return KeyDescription(Family.RSA, key.key_size, pss_only)
    if isinstance(key, dsa.DSAPublicKey):
        return KeyDescription(Family.DSA, key.key_size)
    return KeyDescription(None, 0)


def load_key(spki: Node) -> tuple[PublicKeyTypes | None, bool]:
    """Return the key of a SubjectPublicKeyInfo and whether it is restricted to RSA-PSS.

    A key that cannot be loaded (unknown curve, broken point), or whose size would make its checking a
    burden (`MAX_RSA_BITS`), is None: it verifies nothing.
    """
    cursor = Cursor(spki, limit=2)
    algorithm, value = cursor.take(SEQUENCE), cursor.take(BIT_STRING)
    cursor.finish()
    kind = to_oid(Cursor(algorithm, limit=2).take(OID))
    pss_only = kind == RSA_PSS
    if spki.length > MAX_SPKI or (kind in _RSA_KEYS and not _bearable(value)):
        return None, pss_only
    # the same key bytes under the plain RSA identifier, which every loader knows
    der = seq(_PLAIN_RSA_IDENTIFIER, value.whole) if pss_only else spki.whole
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        return None, pss_only
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name not in CURVES:
        return None, pss_only
    return key, pss_only


def _bearable(value: Node) -> bool:
    """Say whether an RSAPublicKey is of a size that may be worked with."""
    try:
        modulus, exponent = children(parse(to_bits(value), max_size=MAX_SPKI, tag=SEQUENCE), limit=2)
    except (DerError, ValueError):
        return False
    return 8 * (modulus.length - 1) <= MAX_RSA_BITS and exponent.length <= MAX_EXPONENT_OCTETS


def verify_signature(
    key: PublicKeyTypes | None, algorithm: SignatureAlgorithm, hash_name: str, signature: bytes, data: bytes
) -> bool:
    """Say whether ``signature`` over ``data`` holds; family and key type must agree, unknown keys fail."""
    digest = _HASHES[hash_name]
    try:
        if algorithm.family is Family.ECDSA and isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, _ECDSA[hash_name])
        elif isinstance(key, rsa.RSAPublicKey) and algorithm.family is Family.RSA:
            key.verify(signature, data, padding.PKCS1v15(), digest)
        elif isinstance(key, rsa.RSAPublicKey) and algorithm.family is Family.RSA_PSS:
            scheme = padding.PSS(padding.MGF1(digest), digest.digest_size)
            key.verify(signature, data, scheme, digest)
        elif isinstance(key, dsa.DSAPublicKey) and algorithm.family is Family.DSA:
            key.verify(signature, data, digest)
        else:
            return False
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True


class Role(StrEnum):
    """Whose key: the limits differ."""

    SIGNER = "signer"
    AUTHORITY = "authority"


@dataclass(frozen=True, slots=True)
class KeyRule:
    """One row of the table: who may use which family, from which size, until when (None: no end known)."""

    role: Role
    family: Family
    min_bits: int
    until: datetime | None


@dataclass(frozen=True, slots=True)
class HashRule:
    """One digest and the last moment it counts."""

    name: str
    until: datetime | None


_COMMUNIQUE_END: Final = datetime(2028, 1, 1, tzinfo=UTC)


def _hash_rules() -> tuple[HashRule, ...]:
    names = ("sha256", "sha384", "sha512", "sha3_256", "sha3_384", "sha3_512")
    return tuple(HashRule(name, _COMMUNIQUE_END) for name in names)


@dataclass(frozen=True, slots=True)
class AlgorithmPolicy:
    """Allowed algorithms with their dates.

    ``enforce_end``: a row past its date refuses; by default it only stops being confirmed, because the
    communiqué is renewed by amendment and a provider must not stop on a New Year's night for a late table
    (`lapsed` tells, and reports carry it as a warning).
    """

    keys: tuple[KeyRule, ...] = (
        KeyRule(Role.SIGNER, Family.RSA, 2048, _COMMUNIQUE_END),
        KeyRule(Role.SIGNER, Family.RSA_PSS, 2048, _COMMUNIQUE_END),
        KeyRule(Role.SIGNER, Family.DSA, 3072, _COMMUNIQUE_END),
        KeyRule(Role.SIGNER, Family.ECDSA, 256, _COMMUNIQUE_END),
        KeyRule(Role.AUTHORITY, Family.RSA_PSS, 4096, _COMMUNIQUE_END),
        KeyRule(Role.AUTHORITY, Family.DSA, 3072, _COMMUNIQUE_END),
        KeyRule(Role.AUTHORITY, Family.ECDSA, 256, _COMMUNIQUE_END),
    )
    hashes: tuple[HashRule, ...] = _hash_rules()
    enforce_end: bool = False
    first_end: datetime | None = field(init=False, default=None)
    _key_rows: Mapping[tuple[Role, Family], KeyRule] = field(init=False, repr=False, compare=False)
    _hash_rows: Mapping[str, HashRule] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ends = [row.until for row in self.keys] + [row.until for row in self.hashes]
        object.__setattr__(self, "first_end", min((end for end in ends if end is not None), default=None))
        # reversed: of two rows for the same thing the first counts
        object.__setattr__(self, "_key_rows", {(row.role, row.family): row for row in reversed(self.keys)})
        object.__setattr__(self, "_hash_rows", {row.name: row for row in reversed(self.hashes)})

    def refusal(
        self, role: Role, algorithm: SignatureAlgorithm, hash_name: str, bits: int, at: datetime
    ) -> str | None:
        """Return why this signature does not count at ``at``, or None where it does."""
        digest = self._hash_rows.get(hash_name)
        if digest is None or self._ended(digest.until, at):
            return f"hash {hash_name} is not allowed"
        row = self._key_rows.get((role, algorithm.family))
        if row is None or self._ended(row.until, at):
            return f"{algorithm.family} is not allowed for a {role}'s signature"
        if bits < row.min_bits:
            return f"{algorithm.family} key of {bits} bits, at least {row.min_bits} needed"
        return None

    def ended(self, at: datetime) -> bool:
        """Say whether rows past their date refuse at ``at``: then what counted before may count no more."""
        return self.enforce_end and self.lapsed(at)

    def lapsed(self, at: datetime) -> bool:
        """Say whether a row of the table is past its date, so that it wants a review."""
        return self.first_end is not None and at >= self.first_end

    def _ended(self, until: datetime | None, at: datetime) -> bool:
        return self.enforce_end and until is not None and at >= until


DEFAULT_ALGORITHMS: Final = AlgorithmPolicy()
