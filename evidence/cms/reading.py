"""Reading CMS SignedData strictly. Import these names from `evidence.cms.signed_data`.

Nothing is judged here but form: what the attributes and signatures mean is `evidence.cms.signed_data`'s work.
(spec: RFC5652#5, signing.md 2.4 rule 1)
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar

from evidence.asn1.der import (
    BIT_STRING,
    BOOLEAN,
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
    oid_text,
    parse,
    to_int,
    to_octets,
    to_oid,
    to_time,
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
MAX_REVOCATION: Final = 64
# spec: RFC5652#5.1 - 3 is tolerated over id-data; 4 needs kinds of certificates that are refused here, 5 says
# that OCSP responses stand among the CRLs
_DATA_VERSIONS: Final = frozenset({1, 3})
_OTHER_VERSIONS: Final = frozenset({3})
_OTHER_REVOCATION_VERSION: Final = 5
_CACHEABLE: Final = 16 * 1024
_DIGESTS_MAX: Final = 1024
_IDENTIFIER_MAX: Final = 4096
_BEGIN_MOST: Final = (
    128  # a time stamp stands inside its token, and no two are alike: they are not remembered
)
_ALGORITHM_MOST: Final = 512
_new: Final = tuple.__new__  # a third of what the constructor of a NamedTuple costs


class Attribute(NamedTuple):  # a tuple: several per signature, and frozen dataclasses are slow to make
    """One CMS attribute: its values as read, usually exactly one, and itself."""

    oid: str
    values: tuple[Node, ...]
    node: Node


class SignerInfo(NamedTuple):  # as above
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
    fields: Node  # version to signature, unsigned attributes left out; an archive time stamp covers them

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


class SignedData(NamedTuple):  # as above
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
    other_revocation: tuple[bytes, ...] = ()  # DER of the entries that are no CRLs (tag [1])
    revocation_nodes: tuple[Node, ...] = ()  # all entries of crls, as they stand

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
    kind, holder = _members(parse(der, max_size=max_size, tag=SEQUENCE), 2, 2)
    if to_oid(kind) != ID_SIGNED_DATA or holder.tag != 0xA0:
        raise DerError("not SignedData")
    members = _members(inside(holder, SEQUENCE), 4, 6)
    first, behind = members[0].start, members[2].end
    short = behind - first <= _BEGIN_MOST  # else the content is inside
    begin = _known_begin(der[first:behind]) if short else _begin(members)
    version, digests, listed_digests, content_type, inner = begin
    index, certificates, crls = 3, None, None
    if members[index].tag == 0xA0:
        certificates, index = members[index], index + 1
    if index < len(members) and members[index].tag == 0xA1:
        crls, index = members[index], index + 1
    if index != len(members) - 1:
        raise DerError("unexpected members of SignedData")
    infos = tuple([read_signer_info(node) for node in children(members[index], limit=MAX_SIGNERS, tag=SET)])
    for info in infos:
        if info.digest_name not in listed_digests:  # spec: RFC5652#5.1 allows to insist
            raise DerError("the set of digest algorithms lacks a signer's")
    listed = _certificates(certificates) if certificates is not None else ()
    revoked = children(crls, limit=MAX_REVOCATION) if crls is not None else []
    others = tuple([node.whole for node in revoked if node.tag != SEQUENCE])
    if version not in (_DATA_VERSIONS if content_type == ID_DATA else _OTHER_VERSIONS) and not (
        others and version == _OTHER_REVOCATION_VERSION
    ):
        raise DerError("SignedData version")
    return SignedData(
        der, version, digests,
        None in listed_digests,
        content_type,
        None if inner is None else (first + inner[0], first + inner[1]),
        listed,
        tuple([node.whole for node in revoked if node.tag == SEQUENCE]),
        crls is not None,
        bool(others),
        infos, others,
        tuple(revoked),
    )  # fmt: skip


class _Begin(NamedTuple):
    """The members of a SignedData before the certificates; ``content`` is counted from the first of them."""

    version: int
    digests: tuple[bytes, ...]
    known_digests: frozenset[str | None]
    content_type: str
    content: tuple[int, int] | None


@lru_cache(maxsize=64)  # pure memos: signatures name the same few over and over
def _known_begin(octets: bytes) -> _Begin:
    return _begin(_run(octets))


def _begin(members: list[Node]) -> _Begin:
    version = to_int(members[0])
    if members[1].length > _DIGESTS_MAX:
        raise DerError("the set of digest algorithms is too long")
    listed = children(members[1], limit=16, tag=SET)
    digests = tuple([node.whole for node in listed])
    known_digests = frozenset([known(digest_algorithm, node) for node in listed])
    kind, content = _content(members[2], members[0].start)
    return _Begin(version, digests, known_digests, kind, content)


def _run(octets: bytes) -> list[Node]:
    """Return the values that stand one behind another."""
    return children(Node(octets, SEQUENCE, 0, 0, len(octets)))


class _Identity(NamedTuple):
    """Version and signer identifier of a SignerInfo: issuer with serial, or key_id."""

    version: int
    issuer: bytes | None
    serial: int | None
    key_id: bytes | None


@lru_cache(maxsize=2048)
def _known_identity(octets: bytes) -> _Identity:
    version, identifier = _run(octets)
    return _identity(version, identifier)


def _identity(number: Node, identifier: Node) -> _Identity:
    version, issuer, serial, key_id = to_int(number), None, None, None
    if identifier.tag == SEQUENCE:
        if identifier.length > _IDENTIFIER_MAX:
            raise DerError("the signer identifier is too long")
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
    return _Identity(version, issuer, serial, key_id)


@lru_cache(maxsize=256)
def _known_algorithms(digest: bytes, signature: bytes) -> tuple[str | None, SignatureAlgorithm | None]:
    return _algorithms(parse(digest, max_size=_ALGORITHM_MOST), parse(signature, max_size=_ALGORITHM_MOST))


def _algorithms(digest: Node, signature: Node) -> tuple[str | None, SignatureAlgorithm | None]:
    return known(digest_algorithm, digest), known(signature_algorithm, signature)


def _members(node: Node, least: int, most: int) -> list[Node]:
    found = children(node, limit=most, tag=SEQUENCE)
    if len(found) < least:
        raise DerError("a mandatory member is missing")
    return found


def _certificates(node: Node) -> tuple[bytes, ...]:
    whole = node.whole
    return _remembered_certificates(whole) if len(whole) <= _CACHEABLE else _read_certificates(whole)


@lru_cache(maxsize=512)  # senders write more than one message; the same objects also keep their hashes
def _remembered_certificates(der: bytes) -> tuple[bytes, ...]:
    return _read_certificates(der)


def _read_certificates(der: bytes) -> tuple[bytes, ...]:
    listed = children(parse(der, max_size=len(der)), limit=MAX_CERTIFICATES)
    for one in listed:
        if one.tag != SEQUENCE:
            raise DerError("only X.509 certificates may be embedded")
        _shaped(one)
    return tuple([one.whole for one in listed])


def _shaped(certificate: Node) -> None:
    """Refuse what is no Certificate by its form, whoever it belongs to.

    Common tools refuse a whole SignedData for one certificate that they cannot read: who verifies with them
    later must be able to read what was accepted. Algorithms and extensions are not looked at here.
    """
    outer = Cursor(certificate, limit=3)
    tbs = outer.take(SEQUENCE)
    _algorithm(outer.take(SEQUENCE))
    outer.take(BIT_STRING)
    outer.finish()
    inner = Cursor(tbs, limit=10)
    version = inner.optional(0xA0)
    if version is not None:
        inside(version, INTEGER)
    to_int(inner.take(INTEGER))
    _algorithm(inner.take(SEQUENCE))
    _name(inner.take(SEQUENCE))
    validity = Cursor(inner.take(SEQUENCE), limit=2)
    to_time(validity.take())
    to_time(validity.take())
    validity.finish()
    _name(inner.take(SEQUENCE))
    spki = Cursor(inner.take(SEQUENCE), limit=2)
    _algorithm(spki.take(SEQUENCE))
    spki.take(BIT_STRING)
    inner.optional(0x81)
    inner.optional(0x82)
    extensions = inner.optional(0xA3)
    inner.finish()
    if extensions is not None:
        for extension in children(inside(extensions, SEQUENCE), tag=SEQUENCE):
            member = Cursor(extension, limit=3)
            member.take(OID)
            member.optional(BOOLEAN)
            member.take(OCTET_STRING)
            member.finish()


def _algorithm(node: Node) -> None:
    member = Cursor(node, limit=2)
    to_oid(member.take(OID))


def _name(node: Node) -> None:
    for relative in children(node, limit=64, tag=SEQUENCE):
        for attribute in children(relative, limit=16, tag=SET):
            parts = children(attribute, limit=2, tag=SEQUENCE)
            if len(parts) != 2:
                raise DerError("an attribute of a name has a type and a value")
            to_oid(parts[0])


def _content(node: Node, origin: int) -> tuple[str, tuple[int, int] | None]:
    members = _members(node, 1, 2)
    kind = to_oid(members[0])
    if len(members) == 1:
        return kind, None
    if members[1].tag != 0xA0:
        raise DerError("unexpected member of the encapsulated content")
    content = inside(members[1], OCTET_STRING)
    return kind, (content.body - origin, content.end - origin)


def read_signer_info(node: Node) -> SignerInfo:
    """Read one SignerInfo (also a counter-signature value).

    Raises:
        DerError: malformed.
    """
    members = _members(node, 5, 7)
    identifier, digest = members[1], members[2]
    first, behind = members[0].start, identifier.end
    short = behind - first <= _IDENTIFIER_MAX
    identity = _known_identity(node.data[first:behind]) if short else _identity(members[0], identifier)
    index, signed, unsigned = 3, None, None
    if members[index].tag == 0xA0:
        signed, index = members[index], index + 1
    if len(members) < index + 2 or digest.tag != SEQUENCE or members[index].tag != SEQUENCE:
        raise DerError("a mandatory member is missing")
    algorithm, value, index = members[index], members[index + 1], index + 2
    if index < len(members) and members[index].tag == 0xA1:
        unsigned, index = members[index], index + 1
    if index != len(members):
        raise DerError("unexpected members of a SignerInfo")
    if unsigned is not None and unsigned.body == unsigned.end:  # spec: RFC5652#5.3 - at least one
        raise DerError("empty unsigned attributes")
    attributes, in_order = _attributes(signed) if signed is not None else ((), True)
    short = digest.length + algorithm.length <= _ALGORITHM_MOST - 8
    digest_der = digest.whole
    digest_name, named = (
        _known_algorithms(digest_der, algorithm.whole) if short else _algorithms(digest, algorithm)
    )
    version, issuer, serial, key_id = identity
    return SignerInfo(
        version, digest_der, issuer, serial, key_id, digest_name,
        signed.content if signed is not None else b"",
        attributes, in_order,
        named,
        to_octets(value),
        _attributes(unsigned)[0] if unsigned is not None else (),
        Node(node.data, node.tag, node.start, node.body, value.end),
    )  # fmt: skip


def known(reader: Callable[[Node], _T], node: Node) -> _T | None:
    """Return what a reader of algorithm identifiers makes of the node, None where it knows none."""
    try:
        return reader(node)
    except UnknownAlgorithmError:
        return None


def _attributes(node: Node) -> tuple[tuple[Attribute, ...], bool]:
    listed = children(node, limit=MAX_ATTRIBUTES)
    data, before, in_order = node.data, b"", True
    for one in listed:  # DER order: ascending encodings
        whole = data[one[2] : one[4]]
        if whole < before:
            in_order = False
        before = whole
    return tuple([_attribute(one) for one in listed]), in_order


def _attribute(node: Node) -> Attribute:
    """Read one attribute; the usual one (short type, one short value) without a call for each value."""
    data, tag, _, body, end = node
    kind = data[body + 1] if end - body > 3 else 0x80
    values = body + 2 + kind
    start = values + 2
    if (
        kind < 0x80
        and tag == SEQUENCE
        and data[body] == OID
        and start + 2 <= end
        and data[values] == SET
        and data[values + 1] == end - start < 0x80
        and data[start + 1] == end - start - 2
        and data[start] & 0x1F != 0x1F
    ):
        value = _new(Node, (data, data[start], start, start + 2, end))
        return _new(Attribute, (oid_text(data[body + 2 : values]), (value,), node))
    members = children(node, limit=2, tag=SEQUENCE)
    if len(members) != 2:
        raise DerError("an attribute has a type and values")
    found = children(members[1], limit=MAX_ATTRIBUTES, tag=SET)
    return Attribute(to_oid(members[0]), tuple(found), node)
