"""Time-stamp tokens of simulated authorities: signed with SHA-256 as today, or with SHA-512 when that ended.

`evidence.stamps.messages.TokenIssuer` signs with SHA-256 alone. Nothing here is used outside the simulation.
"""

import hashlib
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from evidence.asn1.der import explicit, integer, octets, oid, seq, set_of, tlv
from evidence.cms.signed_data import CONTENT_TYPE, ID_TST_INFO, MESSAGE_DIGEST, SIGNING_CERTIFICATE_V2
from evidence.stamps.messages import TimestampRequest, TokenDraft
from evidence.x509.algorithms import HASH_OIDS
from evidence.x509.certificates import certificate_facts
from kephs.testpki.issued import Issued

_OIDS: Final = {name: dotted for dotted, name in HASH_OIDS.items()}
_SHA512: Final = seq(oid(_OIDS["sha512"]))
_ECDSA_SHA512: Final = seq(oid("1.2.840.10045.4.3.4"))
_SIGNED_DATA: Final = oid("1.2.840.113549.1.7.2")
_TST_INFO: Final = oid(ID_TST_INFO)
_PREHASHED: Final = ec.ECDSA(Prehashed(hashes.SHA512()))


def request_of(digest: bytes, hash_name: str, nonce: int) -> TimestampRequest:
    """Return a request for a token over a digest of any hash."""
    imprint = seq(seq(oid(_OIDS[hash_name])), octets(digest))
    return TimestampRequest(hash_name, digest, imprint, None, nonce, certificates=True)


def sign_sha512(authority: Issued, draft: TokenDraft) -> bytes:
    """Return the token with the content of a draft, signed with ECDSA and SHA-512 (spec: RFC3161#2.4.2).

    Args:
        authority: an EC key and its certificate.
        draft: from `TokenIssuer.to_be_signed`; its own signed attributes (SHA-256) are not used.

    Raises:
        TypeError: another kind of key.
    """
    if not isinstance(authority.key, ec.EllipticCurvePrivateKey):
        raise TypeError("the simulated authorities have EC keys")
    facts = certificate_facts(authority.certificate)
    serial = integer(facts.serial)
    named = seq(seq(explicit(4, facts.issuer)), serial)
    certificate_id = seq(_SHA512, octets(hashlib.sha512(authority.certificate).digest()), named)
    digest = hashlib.sha512(draft.content).digest()
    attributes = sorted(
        (
            seq(oid(CONTENT_TYPE), set_of((_TST_INFO,))),
            seq(oid(MESSAGE_DIGEST), set_of((octets(digest),))),
            seq(oid(SIGNING_CERTIFICATE_V2), set_of((seq(seq(certificate_id)),))),
        )
    )
    signed = hashlib.sha512(set_of(attributes)).digest()
    signature = authority.key.sign(signed, _PREHASHED)
    signer = seq(
        integer(1), seq(facts.issuer, serial), _SHA512, tlv(0xA0, *attributes), _ECDSA_SHA512,
        octets(signature),
    )  # fmt: skip
    certificates = tlv(0xA0, *sorted({authority.certificate, *authority.chain}))
    content = seq(_TST_INFO, explicit(0, octets(draft.content)))
    data = seq(integer(3), set_of((_SHA512,)), content, certificates, set_of((signer,)))
    return seq(_SIGNED_DATA, explicit(0, data))
