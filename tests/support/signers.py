"""Signed messages for tests: from holders of the TEST PKI, good ones and ones spoiled in one place."""

from datetime import datetime
from hashlib import sha256

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from evidence.asn1 import der
from evidence.cms.signed_data import CmsSigner
from evidence.mail.mime import scan
from evidence.mail.smime_sign import assemble, base64_lines, to_be_signed
from evidence.nes.verifier import NesPolicy, SenderReport, conclude, prepare
from evidence.ports import BytesSource
from evidence.x509.chain import TrustStore
from evidence.x509.revocation import RevocationAnswer, check_ocsp, ocsp_request
from kephs.testpki.issued import Issued
from tests.support.pki import NOW, shared_pki

BODY = (
    b"From: ayse@hs91.kep.tr\r\nTo: mehmet@hs91.kep.tr\r\nSubject: Ihtar\r\n"
    b"Date: Sat, 21 Nov 2026 12:00:00 +0300\r\nMessage-ID: <1@test>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
    b"\r\nSay\xc4\xb1n Mehmet Bey,\r\nborcunuz.\r\n"
)
BOUNDARY = "TESTboundary0001"
_PREHASHED = Prehashed(hashes.SHA256())


def raw_sign(issued: Issued, digest: bytes, *, pss: bool = False) -> bytes:
    """Sign a SHA-256 digest as the `Signer` port does."""
    if isinstance(issued.key, ec.EllipticCurvePrivateKey):
        return issued.key.sign(digest, ec.ECDSA(_PREHASHED))
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32) if pss else padding.PKCS1v15()
    return issued.key.sign(digest, scheme, _PREHASHED)


class KeySigner:
    """The `Signer` port over a TEST holder's key."""

    def __init__(self, issued: Issued) -> None:
        self.issued = issued

    @property
    def certificate(self) -> bytes:
        return self.issued.certificate

    @property
    def chain(self) -> tuple[bytes, ...]:
        return self.issued.chain

    async def sign_many(self, digests):
        return [raw_sign(self.issued, digest) for digest in digests]


def signed_message(
    issued: Issued,
    *,
    unsigned: bytes = BODY,
    at: datetime = NOW,
    chain: bool = True,
    pss: bool = False,
    boundary: str = BOUNDARY,
) -> bytes:
    """Return a detached S/MIME message as `kephs sign` makes it."""
    signer = CmsSigner(issued.certificate, issued.chain if chain else (), pss=pss)
    draft = to_be_signed(unsigned, signer, at, boundary=boundary)
    return assemble(draft, signer, raw_sign(issued, draft.digest, pss=pss))


ENTITY = b"Content-Type: text/plain; charset=utf-8\r\n\r\nMerhaba\r\n"
HEADER = (
    b"From: ayse@hs91.kep.tr\r\nTo: mehmet@hs91.kep.tr\r\nSubject: Ihtar\r\n"
    b"Message-ID: <2@test>\r\nMIME-Version: 1.0\r\n"
)


def opaque_message(issued: Issued, *, entity: bytes = ENTITY, at: datetime = NOW) -> bytes:
    """Return an application/pkcs7-mime message that holds the entity."""
    signer = CmsSigner(issued.certificate, issued.chain)
    draft = signer.to_be_signed(sha256(entity).digest(), at)
    cms = signer.assemble(draft, raw_sign(issued, draft.digest), content=entity)
    return opaque_around(cms)


def opaque_around(cms: bytes) -> bytes:
    """Return a message whose body is this CMS structure."""
    return (
        HEADER
        + b'Content-Type: application/pkcs7-mime; smime-type=signed-data; name="smime.p7m"\r\n'
        + b"Content-Transfer-Encoding: base64\r\n\r\n"
        + base64_lines(cms)
        + b"\r\n"
    )


def detached_around(cms: bytes, entity: bytes = ENTITY, boundary: bytes = BOUNDARY.encode()) -> bytes:
    """Return a multipart/signed message of an entity and any CMS structure."""
    mark = b"--" + boundary
    return b"\r\n".join((
        HEADER + b'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256;',
        b' boundary="' + boundary + b'"',
        b"",
        mark,
        entity,
        mark,
        b"Content-Type: application/pkcs7-signature",
        b"Content-Transfer-Encoding: base64",
        b"",
        base64_lines(cms),
        mark + b"--",
        b"",
    ))  # fmt: skip


_SHA256 = der.seq(der.oid("2.16.840.1.101.3.4.2.1"))
_ECDSA_SHA256 = der.seq(der.oid("1.2.840.10045.4.3.2"))


def attribute(kind: str, *values: bytes) -> bytes:
    """Return a CMS attribute."""
    return der.seq(der.oid(kind), der.set_of(values))


def good_attributes(issued: Issued, content_digest: bytes, at: datetime = NOW) -> dict[str, bytes]:
    """Return the signed attributes of a CAdES-BES signature by name, to be spoiled one by one."""
    ess = der.seq(der.seq(der.seq(der.octets(sha256(issued.certificate).digest()))))
    return {
        "type": attribute("1.2.840.113549.1.9.3", der.oid("1.2.840.113549.1.7.1")),
        "digest": attribute("1.2.840.113549.1.9.4", der.octets(content_digest)),
        "time": attribute("1.2.840.113549.1.9.5", der.utctime(at)),
        "ess": attribute("1.2.840.113549.1.9.16.2.47", ess),
    }


def signer_info(
    issued: Issued,
    attributes: list[bytes],
    *,
    digest_algorithm: bytes = _SHA256,
    signature_algorithm: bytes = _ECDSA_SHA256,
    sort: bool = True,
    sign=None,
    unsigned: bytes = b"",
) -> bytes:
    """Return a SignerInfo over any signed attributes; `sign` replaces ECDSA over SHA-256."""
    content = b"".join(sorted(attributes) if sort else attributes)
    data = der.tlv(der.SET, content)
    value = sign(data) if sign is not None else raw_sign(issued, sha256(data).digest())
    certificate = issued.x509
    return der.seq(
        der.integer(1),
        der.seq(certificate.issuer.public_bytes(), der.integer(issued.serial)),
        digest_algorithm,
        der.tlv(0xA0, content),
        signature_algorithm,
        der.octets(value),
        unsigned,
    )


def signed_data(
    signers: list[bytes],
    certificates: list[bytes],
    *,
    content: bytes | None = None,
    digest_algorithm: bytes = _SHA256,
) -> bytes:
    """Return a ContentInfo of SignedData around any SignerInfos."""
    embedded = b"" if content is None else der.explicit(0, der.octets(content))
    inner = der.seq(
        der.integer(1),
        der.set_of((digest_algorithm,)),
        der.seq(der.oid("1.2.840.113549.1.7.1"), embedded),
        der.tlv(0xA0, *certificates) if certificates else b"",
        der.tlv(der.SET, *signers),
    )
    return der.seq(der.oid("1.2.840.113549.1.7.2"), der.explicit(0, inner))


# --------------------------------------------------------------------------- verification


def shared_trust() -> TrustStore:
    """Return a trust store over the session's TEST root, with its issuing authorities."""
    pki = shared_pki()
    return TrustStore([pki.root], intermediates=pki.intermediates)


def ocsp_answers(needs, trust: TrustStore, at: datetime = NOW) -> dict[bytes, RevocationAnswer]:
    """Ask the session's TEST PKI about every certificate that a verification needs."""
    pki = shared_pki()
    by_subject = {
        pki.authorities[name].issued.x509.subject.public_bytes(): name for name in ("root", "p384", "pss")
    }
    answers = {}
    for certificate, issuer in needs:
        request = ocsp_request(certificate, issuer, nonce=b"n" * 16)
        response = pki.ocsp_response(request, at, ca=by_subject[issuer.subject])
        answers[certificate.sha256] = check_ocsp(
            response, certificate, issuer, at=at, trust=trust, nonce=b"n" * 16
        )
    return answers


def verified(
    message: bytes, *, trust: TrustStore | None = None, policy: NesPolicy | None = None, at: datetime = NOW
) -> SenderReport:
    """Return the report on a message, with OCSP answers of the session's TEST PKI."""
    source = BytesSource(message)
    store = trust if trust is not None else shared_trust()
    prepared = prepare(source, scan(source), trust=store, policy=policy or NesPolicy(), at=at)
    return conclude(prepared, ocsp_answers(prepared.needs, store, at), at)
