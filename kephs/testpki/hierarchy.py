"""The authorities of the TEST PKI and how one signs another."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from kephs.testpki import profiles
from kephs.testpki.index import Index
from kephs.testpki.issued import Issued
from kephs.testpki.keys import KeyKind, PrivateKey, make_key, pss_sha256
from kephs.testpki.profiles import Urls, years
from kephs.testpki.status import signature_hash

IssuerName: TypeAlias = Literal["p384", "pss"]
AuthorityName: TypeAlias = Literal["root", "p384", "pss", "tls"]

AUTHORITIES: Final[Mapping[AuthorityName, tuple[str, KeyKind]]] = MappingProxyType(
    {
        "root": ("TEST kephs Kok CA", "p384"),
        "p384": ("TEST kephs ESHS CA P384", "p384"),
        "pss": ("TEST kephs ESHS CA PSS", "rsa4096"),
        "tls": ("TEST kephs TLS Kok CA", "p256"),
    }
)
"""Name and key of each authority."""
ISSUERS: Final[tuple[IssuerName, ...]] = ("p384", "pss")
RESPONDERS: Final[tuple[AuthorityName, ...]] = ("root", "p384", "pss")


@dataclass(frozen=True, slots=True)
class Authority:
    """An issuer: its certificate, key, and the intermediates that its holders carry."""

    name: str
    issued: Issued
    chain: tuple[bytes, ...]

    @property
    def certificate(self) -> bytes:
        """Return the authority's certificate, DER."""
        return self.issued.certificate

    def sign(self, builder: x509.CertificateBuilder) -> bytes:
        """Sign a certificate, DER: ECDSA with the hash of the curve, or RSA-PSS."""
        key = self.issued.key
        pss = pss_sha256() if isinstance(key, rsa.RSAPrivateKey) else None
        certificate = builder.sign(key, signature_hash(key), rsa_padding=pss)
        return certificate.public_bytes(serialization.Encoding.DER)


def p256_keys() -> dict[str, PrivateKey]:
    """Return P-256 keys for the root and the issuing authority "p384", as ``keys`` of `TestPki.create`.

    A chain all in P-256 shows what the verifier itself costs: P-384 signatures cost eight times as much.
    The names of the authorities stay; the hash of their signatures follows the key.
    """
    return {"root": make_key("p256"), "p384": make_key("p256")}


def with_broken_signature(certificate: bytes) -> bytes:
    """Return a certificate whose signature is wrong by one bit; everything else stands."""
    return certificate[:-1] + bytes((certificate[-1] ^ 0x01,))


def make_authorities(
    base_url: str, created: datetime, index: Index, keys: Mapping[str, PrivateKey]
) -> dict[str, Authority]:
    """Make all authorities; keys that are not given are made (RSA-4096 takes seconds)."""
    made = {name: keys.get(name) or make_key(kind) for name, (_, kind) in AUTHORITIES.items()}
    root = self_signed("root", made["root"], created)
    authorities: dict[str, Authority] = {"root": root, "tls": self_signed("tls", made["tls"], created)}
    for name in ISSUERS:
        authorities[name] = subordinate(name, made[name], root, base_url, created)
        index.issued("root", authorities[name].issued.serial)
    return authorities


def self_signed(
    name: AuthorityName, key: PrivateKey, created: datetime, *, like: x509.Certificate | None = None
) -> Authority:
    """Make a root; ``like`` gives the key identifier an impostor copies."""
    subject = profiles.name(common_name=AUTHORITIES[name][0])
    extensions = profiles.authority_extensions(path_length=0 if name == "tls" else 1)
    builder = profiles.certificate_builder(
        subject=subject,
        public_key=key.public_key(),
        issuer=None,
        like=like,
        not_before=created - years(3),
        not_after=created + years(20),
        extensions=extensions,
    )
    blank = Authority(name, Issued(b"", key, ()), ())
    issued = Issued(blank.sign(builder), key, ())
    return Authority(name, issued, ())


def subordinate(
    name: IssuerName,
    key: PrivateKey,
    root: Authority,
    base_url: str,
    created: datetime,
    *,
    like: x509.Certificate | None = None,
) -> Authority:
    """Make an issuing authority under a root; ``like`` gives the key identifier an impostor copies."""
    builder = profiles.certificate_builder(
        subject=profiles.name(common_name=AUTHORITIES[name][0]),
        public_key=key.public_key(),
        issuer=root.issued.x509,
        like=like,
        not_before=created - years(3),
        not_after=created + years(10),
        extensions=[
            *profiles.authority_extensions(path_length=0),
            *profiles.locations(Urls.of(base_url, "root")),
        ],
    )
    certificate = root.sign(builder)
    return Authority(name, Issued(certificate, key, ()), (certificate,))
