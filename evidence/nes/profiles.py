"""The signature profiles of the Turkish guide (BTK 2012) as data, and the sigPolicyId that claims one.

P1 names no policy. P2 to P4 name theirs with the hash of its document and the address where it is kept.
(spec: signing.md 2.3; syntax: RFC 5126 5.8.1)
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

from evidence.asn1.der import (
    IA5_STRING,
    NULL,
    OCTET_STRING,
    OID,
    SEQUENCE,
    Cursor,
    DerError,
    Node,
    children,
    parse,
    to_octets,
    to_oid,
    to_text,
)
from evidence.report import SubIndication
from evidence.x509.algorithms import UnknownAlgorithmError, digest_algorithm

_SPURI: Final = "1.2.840.113549.1.9.16.5.1"
_ARC: Final = "2.16.792.1.61.0.1.5070.3"
_HOME: Final = "http://www.eimza.gov.tr/EimzaPolitikalari/21679216101507"
_POLICY_MAX: Final = 2048


class Profile(StrEnum):
    """How long a signature is meant to be provable, and by what."""

    P1 = "P1"  # instant: no time stamp
    P2 = "P2"  # short: time stamp, CRL
    P3 = "P3"  # long: time stamp, CRL, references and values
    P4 = "P4"  # long: the same with OCSP for the signer

    @property
    def long_term(self) -> bool:
        """Say whether references and values must be inside."""
        return self in {Profile.P3, Profile.P4}


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """One policy: its OID, the hashes of its document by hashlib name, the address it must give."""

    profile: Profile
    oid: str
    digests: tuple[tuple[str, bytes], ...]
    spuri: str


# one document hash is published for the policies (signing.md 2.3); another document is another row here
_DOCUMENT: Final = (
    ("sha256", bytes.fromhex("ff39bd29463383f69b2052ac47439e06ce7c3b8646e888b6e5ae3e46ba08117a")),
)

PROFILES: Final = (
    ProfileRow(Profile.P2, f"{_ARC}.1.1", _DOCUMENT, f"{_HOME}0311.pdf"),
    ProfileRow(Profile.P3, f"{_ARC}.2.1", _DOCUMENT, f"{_HOME}0321.pdf"),
    ProfileRow(Profile.P4, f"{_ARC}.3.1", _DOCUMENT, f"{_HOME}0331.pdf"),
)


class ProfileClaim(NamedTuple):
    """What a sigPolicyId comes to: the row, or why it does not count."""

    row: ProfileRow | None
    code: str = ""
    detail: str = ""
    sub_indication: SubIndication | None = None


def read_claim(value: Node, rows: Iterable[ProfileRow]) -> ProfileClaim:
    """Read the value of a sigPolicyId attribute and compare it with the table.

    The row comes back where the policy is known, also with a wrong hash or address: then beside a code.
    """
    if value.length > _POLICY_MAX:
        return _refused(None, "policy-malformed", "the signature policy is too long")
    return _claim(value.whole, tuple(rows))


@lru_cache(maxsize=128)  # a pure memo: signatures name the same three policies over and over
def _claim(der: bytes, rows: tuple[ProfileRow, ...]) -> ProfileClaim:
    node = parse(der, max_size=2 * _POLICY_MAX)
    if node.tag == NULL:
        missing = SubIndication.SIGNATURE_POLICY_NOT_AVAILABLE
        return ProfileClaim(None, "policy-unknown", "the signature policy is only implied", missing)
    try:
        dotted, hash_name, digest, address = _read(node)
    except (DerError, UnknownAlgorithmError) as error:
        return _refused(None, "policy-malformed", str(error))
    row = next((one for one in rows if one.oid == dotted), None)
    if row is None:
        missing = SubIndication.SIGNATURE_POLICY_NOT_AVAILABLE
        return ProfileClaim(None, "policy-unknown", f"signature policy {dotted} is not known", missing)
    if (hash_name, digest) not in row.digests:
        return _refused(row, "policy-hash", "the policy's hash is not that of its document")
    if address != row.spuri:
        return _refused(row, "policy-address", "the policy's address (SPURI) is missing or another one")
    return ProfileClaim(row)


def _refused(row: ProfileRow | None, code: str, detail: str) -> ProfileClaim:
    return ProfileClaim(row, code, detail, SubIndication.SIG_CONSTRAINTS_FAILURE)


def _read(node: Node) -> tuple[str, str, bytes, str | None]:
    """Return OID, hash name, hash and SPURI of a SignaturePolicyId."""
    cursor = Cursor(node, limit=3)
    dotted = to_oid(cursor.take(OID))
    hashed = Cursor(cursor.take(SEQUENCE), limit=2)
    name, digest = digest_algorithm(hashed.take(SEQUENCE)), to_octets(hashed.take(OCTET_STRING))
    hashed.finish()
    qualifiers = cursor.optional(SEQUENCE)
    cursor.finish()
    address = None
    for qualifier in children(qualifiers, limit=8) if qualifiers is not None else []:
        members = Cursor(qualifier, limit=2)
        kind, value = to_oid(members.take(OID)), members.take()
        if kind == _SPURI:
            if value.tag != IA5_STRING or address is not None:
                raise DerError("the policy's address must stand once, as IA5String")
            address = to_text(value)
    return dotted, name, digest, address
