"""OCSP responses and lists built from DER parts, so that a test can spoil exactly one of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import new as new_hash
from itertools import chain

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from evidence.asn1.der import (
    ENUMERATED,
    GENERALIZED_TIME,
    bits,
    boolean,
    explicit,
    generalized_time,
    implicit,
    integer,
    octets,
    oid,
    seq,
    tlv,
    utctime,
)
from evidence.x509.certificates import CertificateFacts, certificate_facts
from kephs.testpki.issued import Issued
from tests.support.pki import NOW, shared_pki

HOUR = timedelta(hours=1)
GOOD = implicit(0, b"")
UNKNOWN = implicit(2, b"")
_HASHES = {"sha1": "1.3.14.3.2.26", "sha256": "2.16.840.1.101.3.4.2.1", "sha384": "2.16.840.1.101.3.4.2.2",
           "sha512": "2.16.840.1.101.3.4.2.3", "md5": "1.2.840.113549.2.5"}  # fmt: skip
_ECDSA = {
    256: (seq(oid("1.2.840.10045.4.3.2")), hashes.SHA256()),
    384: (seq(oid("1.2.840.10045.4.3.3")), hashes.SHA384()),
    521: (seq(oid("1.2.840.10045.4.3.4")), hashes.SHA512()),
}

_WEAK = (seq(oid("1.2.840.10045.4.1")), hashes.SHA1())


def facts_of(issued: Issued) -> tuple[CertificateFacts, CertificateFacts]:
    return certificate_facts(issued.certificate), certificate_facts(issued.chain[0])


def time_of(at: datetime | str) -> bytes:
    """Return a GeneralizedTime; text is taken as it is."""
    return tlv(GENERALIZED_TIME, at.encode()) if isinstance(at, str) else generalized_time(at)


def revoked(at: datetime | str, reason: int | None = None) -> bytes:
    code = explicit(0, tlv(ENUMERATED, bytes((reason,)))) if reason is not None else b""
    return explicit(1, time_of(at), code)


def extension(dotted: str, value: bytes, *, critical: bool = False) -> bytes:
    flag = boolean(value=True) if critical else b""
    return seq(oid(dotted), flag, octets(value))


def single(
    issued: Issued,
    status: bytes = GOOD,
    *,
    this: datetime | str = NOW,
    until: datetime | str | None = NOW + HOUR,
    hash_name: str = "sha1",
    serial: int | None = None,
    name_of: bytes | None = None,
    key_of: bytes | None = None,
    extensions: bytes = b"",
) -> bytes:
    """Return a SingleResponse on a certificate; ``name_of`` and ``key_of`` replace what is hashed."""
    issuer = certificate_facts(issued.chain[0])
    digest = new_hash if hash_name in _HASHES else None
    assert digest is not None
    certificate_id = seq(
        seq(oid(_HASHES[hash_name]), b"\x05\x00"),
        octets(digest(hash_name, name_of if name_of is not None else issuer.subject).digest()),
        octets(digest(hash_name, key_of if key_of is not None else issuer.key_bits).digest()),
        integer(issued.serial if serial is None else serial),
    )
    return seq(
        certificate_id,
        status,
        time_of(this),
        explicit(0, time_of(until)) if until is not None else b"",
        explicit(1, seq(extensions)) if extensions else b"",
    )


def response(
    *singles: bytes,
    by: Issued | None = None,
    at: datetime | str = NOW,
    by_name: bool = False,
    enclosed: Sequence[bytes] | None = None,
    extensions: bytes = b"",
    weak: bool = False,
) -> bytes:
    """Return an OCSP response by a delegate (that of p384 by default) or by an authority itself."""
    signer = by if by is not None else shared_pki().responders["p384"]
    facts = certificate_facts(signer.certificate)
    key_hash = new_hash("sha1", facts.key_bits).digest()
    responder = explicit(1, facts.subject) if by_name else explicit(2, octets(key_hash))
    certificates = (signer.certificate,) if enclosed is None else enclosed
    data = seq(responder, time_of(at), seq(*singles), explicit(1, seq(extensions)) if extensions else b"")
    basic = seq(
        data,
        *signed(signer, data, weak=weak),
        explicit(0, seq(*certificates)) if certificates else b"",
    )
    return seq(tlv(ENUMERATED, b"\x00"), explicit(0, seq(oid("1.3.6.1.5.5.7.48.1.1"), octets(basic))))


def signed(signer: Issued, data: bytes, *, weak: bool = False) -> tuple[bytes, bytes]:
    """Return AlgorithmIdentifier and BIT STRING of an ECDSA signature; ``weak`` takes SHA-1."""
    assert isinstance(signer.key, ec.EllipticCurvePrivateKey)
    algorithm, digest = _WEAK if weak else _ECDSA[signer.key.curve.key_size]
    return algorithm, bits(signer.key.sign(data, ec.ECDSA(digest)))


@dataclass(frozen=True)
class Listed:
    """One entry of a list; ``raw`` replaces the DER of the serial number."""

    serial: int
    at: datetime | str = NOW
    reason: int | None = None
    extensions: bytes = b""
    raw: bytes | None = None
    utc: bool = True

    def der(self) -> bytes:
        code = b"" if self.reason is None else extension("2.5.29.21", tlv(ENUMERATED, bytes((self.reason,))))
        inside = code + self.extensions
        time = utctime(self.at) if self.utc and isinstance(self.at, datetime) else time_of(self.at)
        return seq(self.raw or integer(self.serial), time, seq(inside) if inside else b"")


def crl(
    *entries: Listed | bytes,
    by: Issued | None = None,
    this: datetime | str = NOW,
    until: datetime | str | None = NOW + 24 * HOUR,
    number: int | None = 1,
    extensions: bytes = b"",
    version: int | None = 1,
    trailing: bytes = b"",
    weak: bool = False,
    inner: bytes | None = None,
) -> bytes:
    """Return a list of an authority (p384 by default), with generalized times where text is given.

    ``inner`` replaces the algorithm inside the signed part; ``weak`` signs with SHA-1.
    """
    signer = by if by is not None else shared_pki().authorities["p384"].issued
    numbered = extension("2.5.29.20", integer(number)) if number is not None else b""
    algorithm, _ = signed(signer, b"", weak=weak)
    listed = [entry.der() if isinstance(entry, Listed) else entry for entry in entries]
    inside = numbered + extensions
    data = seq(*chain(
        [integer(version)] if version is not None else [],
        [inner or algorithm, certificate_facts(signer.certificate).subject],
        [_list_time(this)],
        [_list_time(until)] if until is not None else [],
        [seq(*listed)] if listed else [],
        [explicit(0, seq(inside))] if inside else [],
        [trailing],
    ))  # fmt: skip
    return seq(data, *signed(signer, data, weak=weak))


def _list_time(at: datetime | str) -> bytes:
    return utctime(at) if isinstance(at, datetime) else time_of(at)
