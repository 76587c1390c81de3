"""The bytes of a CMS SignedData that no signature covers: do they say what they must?

Versions, the set of digest algorithms, tags and embedded certificates can be changed without breaking
a signature. For what our own software made the promise is that a flip anywhere shows (rules in
detail, "What one flipped byte does"), so these bytes are compared with the only values they may have.
"""

from collections.abc import Collection
from typing import Final

from evidence.cms import ID_DATA
from evidence.der import (
    INTEGER,
    SEQUENCE,
    SET,
    Cursor,
    DerError,
    Node,
    children,
    inside,
    parse,
    to_int,
    to_oid,
)

_MAX_SIZE: Final = 1 << 20


def frame_problem(der: bytes, path: Collection[bytes], *, unsigned: Collection[str] = ()) -> str | None:
    """Return what stands in the uncovered bytes that should not, None where all is as it must be.

    Args:
        der: a ContentInfo with SignedData and one signer, whose signature was verified before.
        path: DER of every certificate of the verified path, the root included.
        unsigned: OIDs of the unsigned attributes allowed, each once.
    """
    try:
        return _problem(der, path, unsigned)
    except DerError as error:
        return str(error)


def _problem(der: bytes, path: Collection[bytes], unsigned: Collection[str]) -> str | None:
    outer = Cursor(parse(der, max_size=_MAX_SIZE, tag=SEQUENCE), limit=2)
    outer.take()
    data = Cursor(inside(outer.take(0xA0), SEQUENCE), limit=6)
    version, algorithms = to_int(data.take(INTEGER)), children(data.take(SET))
    content_type = to_oid(children(data.take(SEQUENCE))[0])
    certificates = data.optional(0xA0)
    signers = children(data.take(SET))
    data.finish()  # no CRLs: nothing binds them here
    if len(signers) != 1 or signers[0].tag != SEQUENCE:
        return "exactly one signer is needed"
    members = children(signers[0])
    signer_version, digest, attributes = to_int(members[0]), members[2], members[6:]
    by_key = members[1].tag != SEQUENCE
    # spec: RFC5652#5.1 and RFC5652#5.3 fix both versions
    if signer_version != (3 if by_key else 1) or version != (3 if by_key or content_type != ID_DATA else 1):
        return "wrong version number"
    if [node.whole for node in algorithms] != [digest.whole]:
        return "the set of digest algorithms is not the signer's"
    embedded = [] if certificates is None else [node.whole for node in children(certificates)]
    if len(set(embedded)) != len(embedded) or not set(embedded) <= set(path):
        return "certificates are embedded that do not belong to the path"
    return _unsigned_problem(attributes, unsigned)


def _unsigned_problem(attributes: list[Node], allowed: Collection[str]) -> str | None:
    if not attributes:
        return None
    if len(attributes) != 1 or attributes[0].tag != 0xA1:
        return "unknown members of SignerInfo"
    found = [children(attribute) for attribute in children(attributes[0])]
    names = [to_oid(members[0]) for members in found]
    if len(set(names)) != len(names) or not set(names) <= set(allowed):
        return "an unsigned attribute is unknown or stands twice"
    if any(len(members) != 2 or members[1].tag != SET or len(children(members[1])) != 1 for members in found):
        return "an unsigned attribute has not one value"
    return None
