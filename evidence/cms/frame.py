"""The bytes of a CMS SignedData that no signature covers: do they say what they must?

Versions, the set of digest algorithms, tags and embedded certificates can be changed without breaking
a signature. For what our own software made the promise is that a flip anywhere shows (rules in
detail, "What one flipped byte does"), so these bytes are compared with the only values they may have.
"""

from collections.abc import Collection
from typing import Final

from evidence.asn1.der import DerError
from evidence.cms.reading import SignedData, SignerInfo, parse_signed_data
from evidence.cms.signed_data import ID_DATA

_MAX_SIZE: Final = 1 << 20


def frame_problem(
    signed: bytes | SignedData, path: Collection[bytes], *, unsigned: Collection[str] = ()
) -> str | None:
    """Return what stands in the uncovered bytes that should not, None where all is as it must be.

    Args:
        signed: a ContentInfo with SignedData and one signer, whose signature was verified before; its DER or
            what `evidence.cms.signed_data.parse_signed_data` made of it.
        path: DER of every certificate of the verified path, the root included.
        unsigned: OIDs of the unsigned attributes allowed, each once.
    """
    try:
        read = parse_signed_data(signed, max_size=_MAX_SIZE) if isinstance(signed, bytes) else signed
    except DerError as error:
        return str(error)
    return _problem(read, path, unsigned)


def _problem(signed: SignedData, path: Collection[bytes], unsigned: Collection[str]) -> str | None:
    if len(signed.signers) != 1:
        return "exactly one signer is needed"
    if signed.has_crls:
        return "revocation lists are embedded, which nothing binds"
    signer = signed.signers[0]
    by_key = signer.key_id is not None
    # spec: RFC5652#5.1 and RFC5652#5.3 fix both versions
    version = 3 if by_key or signed.content_type != ID_DATA else 1
    if signer.version != (3 if by_key else 1) or signed.version != version:
        return "wrong version number"
    if signed.digest_identifiers != (signer.digest_identifier,):
        return "the set of digest algorithms is not the signer's"
    embedded = signed.certificates
    if len(set(embedded)) != len(embedded) or not set(embedded) <= set(path):
        return "certificates are embedded that do not belong to the path"
    return _unsigned_problem(signer, unsigned)


def _unsigned_problem(signer: SignerInfo, allowed: Collection[str]) -> str | None:
    names = [attribute.oid for attribute in signer.unsigned]
    if len(set(names)) != len(names) or not set(names) <= set(allowed):
        return "an unsigned attribute is unknown or stands twice"
    if any(len(attribute.values) != 1 for attribute in signer.unsigned):
        return "an unsigned attribute has not one value"
    return None
