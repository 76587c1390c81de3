"""Reading CMS SignedData strictly. Import these names from `evidence.cms.signed_data`.

Nothing is judged here but form: what the attributes and signatures mean is `evidence.cms.signed_data`'s work.
(spec: RFC5652#5, signing.md 2.4 rule 1)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from evidence.asn1.der import (
    INTEGER,
    OCTET_STRING,
    OID,
    SEQUENCE,
    SET,
    Cursor,
    DerError,
    Node,
    children,
    inside,
    is_sorted_set,
    parse,
    to_int,
    to_octets,
    to_oid,
)
from evidence.cms.emission import ID_DATA, ID_SIGNED_DATA
from evidence.x509.algorithms import (
    SignatureAlgorithm,
    UnknownAlgorithmError,
    digest_algorithm,
    signature_algorithm,
)

_T = TypeVar("_T")

MAX_SIGNED_DATA: Final = 1024 * 1024
MAX_CERTIFICATES: Final = 64
MAX_SIGNERS: Final = 8
MAX_ATTRIBUTES: Final = 64
# spec: RFC5652#5.1 - 3 is tolerated over id-data; 4 and 5 need kinds of certificates that are refused here
_DATA_VERSIONS: Final = frozenset({1, 3})
_OTHER_VERSIONS: Final = frozenset({3})


class Attribute(NamedTuple):  # a tuple: several per signature, and frozen dataclasses are slow to make
    """One CMS attribute: its values as read, usually exactly one."""

    oid: str
    values: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class SignerInfo:
    """One SignerInfo as it stands in the bytes."""

    version: int
    digest_identifier: bytes  # DER of the digest's AlgorithmIdentifier
    issuer: bytes | None  # Name DER, with serial; or key_id
    serial: int | None
    key_id: bytes | None
    digest_name: str | None  # None: unknown algorithm
    attributes_der: bytes  # content of [0] signedAttrs as received, b"" where absent
    attributes: tuple[Attribute, ...]
    attributes_sorted: bool
    algorithm: SignatureAlgorithm | None  # None: unknown algorithm or parameters
    signature: bytes
    unsigned: tuple[Attribute, ...]

    def signed_attribute(self, kind: str) -> Node:
        """Return the only value of a signed attribute.

        Raises:
            DerError: missing, twice, or without exactly one value (spec: signing.md 2.4 rule 2).
        """
        found: tuple[Node, ...] | None = None
        for attribute in self.attributes:
            if attribute.oid == kind:
                if found is not None or len(attribute.values) != 1:
                    raise DerError(f"signed attribute {kind} must stand once with one value")
                found = attribute.values
        if found is None:
            raise DerError(f"signed attribute {kind} is missing")
        return found[0]

    def unsigned_values(self, kind: str) -> tuple[Node, ...]:
        """Return all values of an unsigned attribute."""
        return tuple(
            value for attribute in self.unsigned if attribute.oid == kind for value in attribute.values
        )


@dataclass(frozen=True, slots=True)
class SignedData:
    """A parsed SignedData. ``content`` is None for detached signatures."""

    der: bytes
    version: int
    digest_identifiers: tuple[bytes, ...]  # DER of each AlgorithmIdentifier of digestAlgorithms
    unknown_digests: bool  # one of them names a hash that we do not know
    content_type: str
    content_span: tuple[int, int] | None
    certificates: tuple[bytes, ...]
    crls: tuple[bytes, ...]
    has_crls: bool  # [1] is there, perhaps empty or with entries that are no CRLs
    other_crls: bool  # with entries that are no CRLs
    signers: tuple[SignerInfo, ...]

    @property
    def content(self) -> bytes | None:
        """Return the embedded content octets (a copy), None where detached."""
        return None if self.content_span is None else self.der[slice(*self.content_span)]

    @property
    def content_view(self) -> memoryview | None:
        """Return the embedded content without copying it."""
        return None if self.content_span is None else memoryview(self.der)[slice(*self.content_span)]


def parse_signed_data(der: bytes, *, max_size: int = MAX_SIGNED_DATA) -> SignedData:
    """Read a DER ContentInfo holding SignedData.

    Args:
        der: untrusted bytes; nothing may follow the value.
        max_size: cap in octets, content included.

    Raises:
        DerError: not strict DER, not SignedData, or more than 64 certificates or 8 signers.
    """
    outer = Cursor(parse(der, max_size=max_size, tag=SEQUENCE), limit=2)
    if to_oid(outer.take(OID)) != ID_SIGNED_DATA:
        raise DerError("not SignedData")
    cursor = Cursor(inside(outer.take(0xA0), SEQUENCE), limit=6)
    outer.finish()
    version = to_int(cursor.take(INTEGER))
    digests = children(cursor.take(SET), limit=16)
    listed_digests = {known(digest_algorithm, node) for node in digests}
    encapsulated = Cursor(cursor.take(SEQUENCE), limit=2)
    content_type = to_oid(encapsulated.take(OID))
    if version not in (_DATA_VERSIONS if content_type == ID_DATA else _OTHER_VERSIONS):
        raise DerError("SignedData version")
    embedded = encapsulated.optional(0xA0)
    encapsulated.finish()
    span = None
    if embedded is not None:
        content = inside(embedded, OCTET_STRING)
        span = (content.body, content.end)
    certificates = cursor.optional(0xA0)
    crls = cursor.optional(0xA1)
    signers = cursor.take(SET)
    cursor.finish()
    infos = tuple(read_signer_info(node) for node in children(signers, limit=MAX_SIGNERS))
    if not {info.digest_name for info in infos} <= listed_digests:  # spec: RFC5652#5.1 allows to insist
        raise DerError("the set of digest algorithms lacks a signer's")
    listed = children(certificates, limit=MAX_CERTIFICATES) if certificates is not None else []
    if any(node.tag != SEQUENCE for node in listed):
        raise DerError("only X.509 certificates may be embedded")
    revoked = children(crls, limit=64) if crls is not None else []
    return SignedData(
        der,
        version,
        tuple([node.whole for node in digests]),
        None in listed_digests,
        content_type,
        span,
        tuple([node.whole for node in listed]),
        tuple([node.whole for node in revoked if node.tag == SEQUENCE]),
        crls is not None,
        any(node.tag != SEQUENCE for node in revoked),
        infos,
    )


def read_signer_info(node: Node) -> SignerInfo:
    """Read one SignerInfo (also a counter-signature value).

    Raises:
        DerError: malformed.
    """
    cursor = Cursor(node, limit=7)
    version = to_int(cursor.take(INTEGER))
    issuer, serial, key_id = None, None, None
    identifier = cursor.take()
    if identifier.tag == SEQUENCE:
        parts = children(identifier, limit=2)
        if len(parts) != 2 or parts[0].tag != SEQUENCE:
            raise DerError("unknown signer identifier")
        issuer, serial = parts[0].whole, to_int(parts[1], max_octets=64)
    elif identifier.tag == 0x80:
        key_id = identifier.content
    else:
        raise DerError("unknown signer identifier")
    if version != (1 if issuer is not None else 3):  # spec: RFC5652#5.3
        raise DerError("SignerInfo version")
    digest = cursor.take(SEQUENCE)
    signed = cursor.optional(0xA0)
    algorithm = cursor.take(SEQUENCE)
    signature = to_octets(cursor.take())
    unsigned = cursor.optional(0xA1)
    cursor.finish()
    if unsigned is not None and not unsigned.length:  # spec: RFC5652#5.3 - at least one
        raise DerError("empty unsigned attributes")
    attributes, in_order = _attributes(signed)
    return SignerInfo(
        version, digest.whole, issuer, serial, key_id,
        known(digest_algorithm, digest),
        signed.content if signed is not None else b"",
        attributes, in_order,
        known(signature_algorithm, algorithm),
        signature,
        _attributes(unsigned)[0],
    )  # fmt: skip


def known(reader: Callable[[Node], _T], node: Node) -> _T | None:
    """Return what a reader of algorithm identifiers makes of the node, None where it knows none."""
    try:
        return reader(node)
    except UnknownAlgorithmError:
        return None


def _attributes(node: Node | None) -> tuple[tuple[Attribute, ...], bool]:
    if node is None:
        return (), True
    listed = children(node, limit=MAX_ATTRIBUTES)
    found = []
    for attribute in listed:
        members = children(attribute, limit=2, tag=SEQUENCE)
        if len(members) != 2:
            raise DerError("an attribute has a type and values")
        values = children(members[1], limit=MAX_ATTRIBUTES, tag=SET)
        found.append(Attribute(to_oid(members[0]), tuple(values)))
    return tuple(found), is_sorted_set(listed)
