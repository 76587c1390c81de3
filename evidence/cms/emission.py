"""Emission of CMS SignedData by a template: CAdES-B-B signatures and time-stamp tokens.

Two-phase: `CmsSigner.to_be_signed` gives the digest of the signed attributes, any key signs it,
`CmsSigner.assemble` joins constants made once per key; only formatting happens here.
(spec: RFC5652#5, ETSI EN 319 122-1, signing.md 3). Import these names from `evidence.cms.signed_data`.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Final, NamedTuple

from evidence.asn1.der import (
    NULL_DER,
    OCTET_STRING,
    SEQUENCE,
    SET,
    explicit,
    integer,
    octets,
    oid,
    seq,
    set_of,
    tlv,
    utctime,
)
from evidence.x509.algorithms import Family, UnknownAlgorithmError
from evidence.x509.certificates import certificate_facts

ID_DATA: Final = "1.2.840.113549.1.7.1"
ID_SIGNED_DATA: Final = "1.2.840.113549.1.7.2"
ID_TST_INFO: Final = "1.2.840.113549.1.9.16.1.4"
CONTENT_TYPE: Final = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST: Final = "1.2.840.113549.1.9.4"
SIGNING_TIME: Final = "1.2.840.113549.1.9.5"
SIGNATURE_TIME_STAMP: Final = "1.2.840.113549.1.9.16.2.14"
SIGNING_CERTIFICATE_V2: Final = "1.2.840.113549.1.9.16.2.47"

_SHA256_OID: Final = oid("2.16.840.1.101.3.4.2.1")
_SHA256: Final = seq(_SHA256_OID)  # parameters absent, spec: RFC5754#2
_SHA256_NULL: Final = seq(_SHA256_OID, NULL_DER)
_ECDSA_SHA256: Final = seq(oid("1.2.840.10045.4.3.2"))
_RSA_SHA256: Final = seq(oid("1.2.840.113549.1.1.11"), NULL_DER)
_PSS_SHA256: Final = seq(
    oid("1.2.840.113549.1.1.10"),
    seq(
        explicit(0, _SHA256_NULL),
        explicit(1, seq(oid("1.2.840.113549.1.1.8"), _SHA256_NULL)),
        explicit(2, integer(32)),
    ),
)


class CmsDraft(NamedTuple):  # a tuple: frozen dataclasses are slow to make
    """Signed attributes waiting for their signature; ``digest`` is SHA-256 of them, what the key signs."""

    digest: bytes
    attributes: bytes  # content of the SET OF, in DER order


class CmsSigner:
    """Formats CMS signatures of one certificate; holds no key. Constants are made here, once.

    Args:
        certificate: the signer's certificate, DER (EC or RSA key).
        chain: intermediates to embed, DER.
        content_type: eContentType OID; `ID_TST_INFO` for time stamps.
        pss: for RSA keys, name RSA-PSS (SHA-256, salt 32) instead of PKCS #1 v1.5.
    """

    __slots__ = (
        "_certificates", "_detached", "_ess", "_head", "_oid", "_signature", "_signer_head", "_type",
    )  # fmt: skip

    def __init__(
        self,
        certificate: bytes,
        chain: Sequence[bytes] = (),
        *,
        content_type: str = ID_DATA,
        pss: bool = False,
    ) -> None:
        facts = certificate_facts(certificate)
        if facts.key.family is Family.ECDSA:
            self._signature = _ECDSA_SHA256
        elif facts.key.family is Family.RSA:
            self._signature = _PSS_SHA256 if pss or facts.key.pss_only else _RSA_SHA256
        else:
            raise UnknownAlgorithmError("only EC and RSA keys sign")
        serial = integer(facts.serial)
        self._signer_head = _VERSION_1 + seq(facts.issuer, serial) + _SHA256
        issuer_serial = seq(seq(explicit(4, facts.issuer)), serial)
        certificate_id = seq(octets(facts.sha256), issuer_serial)  # hashAlgorithm: DEFAULT sha256
        self._ess = _attribute(SIGNING_CERTIFICATE_V2, seq(seq(certificate_id)))
        self._oid = oid(content_type)
        self._detached = seq(self._oid)
        self._type = _attribute(CONTENT_TYPE, self._oid)
        self._certificates = tlv(0xA0, *sorted({bytes(certificate), *map(bytes, chain)}))
        # spec: RFC5652#5.1 - version 3 where the content type is not id-data
        self._head = integer(1 if content_type == ID_DATA else 3) + _DIGESTS

    def to_be_signed(self, content_digest: bytes, at: datetime | None) -> CmsDraft:
        """Return the signed attributes for a content.

        Args:
            content_digest: SHA-256 of the content octets.
            at: the claimed signing time; None leaves the attribute out (time stamps carry genTime).
        """
        if len(content_digest) != 32:
            raise ValueError("content digest must be SHA-256")
        parts = [self._type, _DIGEST_PREFIX + content_digest, self._ess]
        if at is not None:
            parts.append(_signing_time(at))
        parts.sort()
        attributes = b"".join(parts)
        return CmsDraft(sha256(tlv(SET, attributes)).digest(), attributes)

    def assemble(
        self,
        draft: CmsDraft,
        signature: bytes,
        *,
        timestamp_token: bytes | None = None,
        content: bytes | None = None,
    ) -> bytes:
        """Return the DER ContentInfo.

        Args:
            draft: what `to_be_signed` gave.
            signature: over ``draft.digest``; ECDSA as DER SEQUENCE, RSA raw.
            timestamp_token: RFC 3161 token over ``signature``, put beside it unsigned (CAdES-B-T).
            content: the content octets for an embedding signature; None makes a detached one.
        """
        stamp = b""
        if timestamp_token is not None:
            stamp = tlv(0xA1, seq(_STAMP_OID, tlv(SET, timestamp_token)))
        signer = tlv(
            SEQUENCE,
            self._signer_head,
            tlv(0xA0, draft.attributes),
            self._signature,
            tlv(OCTET_STRING, signature),
            stamp,
        )
        holder = self._detached if content is None else seq(self._oid, explicit(0, octets(content)))
        signed_data = tlv(SEQUENCE, self._head, holder, self._certificates, tlv(SET, signer))
        return tlv(SEQUENCE, _SIGNED_DATA_OID, tlv(0xA0, signed_data))


@lru_cache(maxsize=64)  # a pure memo: what is signed together claims the same time
def _signing_time(at: datetime) -> bytes:
    return seq(_TIME_OID, tlv(SET, utctime(at)))


def _attribute(kind: str, *values: bytes) -> bytes:
    return seq(oid(kind), set_of(values))


_VERSION_1: Final = integer(1)
_DIGESTS: Final = set_of((_SHA256,))
_SIGNED_DATA_OID: Final = oid(ID_SIGNED_DATA)
_STAMP_OID: Final = oid(SIGNATURE_TIME_STAMP)
_TIME_OID: Final = oid(SIGNING_TIME)
_DIGEST_PREFIX: Final = _attribute(MESSAGE_DIGEST, octets(bytes(32)))[:-32]
