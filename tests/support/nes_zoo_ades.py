"""CAdES attributes of the zoo: policy ids, references, values, archive stamps (RFC 5126, EN 319 122-1)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import new as new_hash
from hashlib import sha256
from typing import Final

from evidence.asn1.der import (
    children,
    explicit,
    generalized_time,
    ia5,
    inside,
    integer,
    octets,
    oid,
    parse,
    seq,
    set_of,
    tlv,
    utctime,
)
from tests.support.nes_zoo_pki import BIG, Answer, Entity, RevocationList, digest_id

CONTENT_TYPE: Final = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST: Final = "1.2.840.113549.1.9.4"
SIGNING_TIME: Final = "1.2.840.113549.1.9.5"
COUNTER_SIGNATURE: Final = "1.2.840.113549.1.9.6"
ESS_V1: Final = "1.2.840.113549.1.9.16.2.12"
ESS_V2: Final = "1.2.840.113549.1.9.16.2.47"
STAMP: Final = "1.2.840.113549.1.9.16.2.14"
POLICY_ID: Final = "1.2.840.113549.1.9.16.2.15"
CERT_REFS: Final = "1.2.840.113549.1.9.16.2.21"
REVOCATION_REFS: Final = "1.2.840.113549.1.9.16.2.22"
CERT_VALUES: Final = "1.2.840.113549.1.9.16.2.23"
REVOCATION_VALUES: Final = "1.2.840.113549.1.9.16.2.24"
ARCHIVE_V2: Final = "1.2.840.113549.1.9.16.2.48"
ARCHIVE_V3: Final = "0.4.0.1733.2.4"
HASH_INDEX_V1: Final = "0.4.0.1733.2.5"
HASH_INDEX_V3: Final = "0.4.0.19122.1.5"
SPURI: Final = "1.2.840.113549.1.9.16.5.1"

POLICY_HASH: Final = bytes.fromhex("ff39bd29463383f69b2052ac47439e06ce7c3b8646e888b6e5ae3e46ba08117a")
POLICIES: Final[Mapping[str, tuple[str, str]]] = {
    level: (
        f"2.16.792.1.61.0.1.5070.3.{number}.1",
        f"http://www.eimza.gov.tr/EimzaPolitikalari/2167921610150703{number}1.pdf",
    )
    for level, number in (("P2", 1), ("P3", 2), ("P4", 3))
}
"""sigPolicyId and SPURI of the three profiles (signing.md 2.3)."""


def attribute(kind: str, *values: bytes) -> bytes:
    """Return a CMS attribute."""
    return seq(oid(kind), set_of(values))


def ess(entity: Entity, name: str = "sha256", *, issuer: bool = True) -> bytes:
    """Return an ESSCertIDv2; sha256 is DEFAULT and therefore left out (spec: RFC5035#4)."""
    identifier = b"" if name == "sha256" else digest_id(name)
    return seq(
        identifier, octets(new_hash(name, entity.der).digest()), issuer_serial(entity) if issuer else b""
    )


def issuer_serial(entity: Entity) -> bytes:
    above = entity.issuer or entity
    return seq(seq(explicit(4, above.profile.subject)), integer(entity.profile.serial))


@dataclass(frozen=True, slots=True)
class PolicyId:
    """What stands in sigPolicyId; spoils replace one field."""

    identifier: str
    hash_name: str
    value: bytes
    uri: str | None

    def der(self) -> bytes:
        """Return the SignaturePolicyId (spec: RFC5126#5.8.1)."""
        qualifiers = b"" if self.uri is None else seq(seq(oid(SPURI), ia5(self.uri)))
        hashed = seq(digest_id(self.hash_name), octets(self.value))
        return seq(oid(self.identifier), hashed, qualifiers)


def policy_id(level: str) -> PolicyId:
    identifier, uri = POLICIES[level]
    return PolicyId(identifier, "sha256", POLICY_HASH, uri)


# --------------------------------------------------------------------------- references and values


def other_hash(value: bytes) -> bytes:
    """Return an OtherHashAlgAndValue with SHA-256."""
    return seq(digest_id("sha256"), octets(sha256(value).digest()))


def cert_ref(entity: Entity) -> bytes:
    """Return an OtherCertID (spec: RFC5126#6.2.1)."""
    return seq(other_hash(entity.der), issuer_serial(entity))


def revocation_ref(source: Answer | RevocationList | None) -> bytes:
    """Return a CrlOcspRef; None makes the empty one of a root (spec: RFC5126#6.2.2)."""
    if source is None:
        return seq()
    if isinstance(source, RevocationList):
        named = seq(
            source.issuer.profile.subject,
            utctime(source.this_update),
            integer(int(source.this_update.timestamp())),
        )
        return seq(explicit(0, seq(seq(seq(other_hash(source.der()), named)))))
    basic = source.basic()
    data = children(children(parse(basic, max_size=BIG))[0])
    identifier = seq(data[0].whole, generalized_time(source.produced_at))
    return seq(explicit(1, seq(seq(seq(identifier, other_hash(basic))))))


def revocation_values(sources: Iterable[Answer | RevocationList]) -> bytes:
    """Return RevocationValues (spec: RFC5126#6.3.4)."""
    lists, answers = [], []
    for one in sources:
        if isinstance(one, RevocationList):
            lists.append(one.der())
        else:
            answers.append(one.basic())
    return seq(
        explicit(0, seq(*lists)) if lists else b"",
        explicit(1, seq(*answers)) if answers else b"",
    )


# --------------------------------------------------------------------------- archive stamps


@dataclass(frozen=True, slots=True)
class HashIndex:
    """ATSHashIndexV3 (spec: EN319122-1#5.5.2); spoils change the lists."""

    certificates: tuple[bytes, ...]
    crls: tuple[bytes, ...]
    unsigned: tuple[bytes, ...]
    kind: str = HASH_INDEX_V3

    def der(self) -> bytes:
        lists = (self.certificates, self.crls, self.unsigned)
        return seq(digest_id("sha256"), *(seq(*map(octets, listed)) for listed in lists))


def hash_index(certificates: Sequence[bytes], unsigned: Mapping[str, Sequence[bytes]]) -> HashIndex:
    """Index what an archive stamp covers: certificates and each value of the unsigned attributes."""
    values = tuple(
        sha256(oid(kind) + value).digest() for kind, listed in unsigned.items() for value in sorted(listed)
    )
    return HashIndex(tuple(sha256(der).digest() for der in certificates), (), values)


def hash_index_v1(certificates: Sequence[bytes], unsigned: Mapping[str, Sequence[bytes]]) -> HashIndex:
    """Return the older index: one hash for each whole attribute (spec: TS101733#6.4.2)."""
    values = tuple(sha256(attribute(kind, *listed)).digest() for kind, listed in unsigned.items())
    return HashIndex(tuple(sha256(der).digest() for der in certificates), (), values, HASH_INDEX_V1)


def archive_input(content_digest: bytes, fields: Mapping[str, bytes], index: bytes) -> bytes:
    """Return what an archive stamp v3 is computed over (spec: EN319122-1#5.5.3)."""
    return b"".join(
        (
            oid("1.2.840.113549.1.7.1"),
            content_digest,
            *(fields[name] for name in ("version", "sid", "digest", "attributes", "algorithm", "value")),
            index,
        )
    )


# --------------------------------------------------------------------------- SignedData


def signed_data(
    signers: Iterable[bytes],
    certificates: Iterable[bytes],
    *,
    content: bytes | None,
    digests: Iterable[bytes],
    content_type: str = "1.2.840.113549.1.7.1",
    crls: Sequence[bytes] = (),
    keyed: bool = False,
) -> dict[str, bytes]:
    """Return the fields of a SignedData, to be spoiled one by one and joined by `join`."""
    embedded = b"" if content is None else explicit(0, octets(content))
    listed = sorted(set(certificates))
    return {
        "version": integer(3 if keyed or content_type != "1.2.840.113549.1.7.1" else 1),
        "digests": set_of(set(digests)),
        "content": seq(oid(content_type), embedded),
        "certificates": tlv(0xA0, *listed) if listed else b"",
        "crls": tlv(0xA1, *sorted(crls)) if crls else b"",
        "signers": tlv(0x31, *sorted(signers)),
    }


def join(fields: Mapping[str, bytes], content_type: str = "1.2.840.113549.1.7.2") -> bytes:
    """Return the ContentInfo."""
    return seq(oid(content_type), explicit(0, seq(*fields.values())))


def inner(token: bytes) -> list[bytes]:
    """Return the fields of a token's SignedData, DER each."""
    return [node.whole for node in children(inside(children(parse(token, max_size=BIG))[1], 0x30))]
