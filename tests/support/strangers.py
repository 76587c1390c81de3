"""What strangers' programs and libraries say about our evidence, tokens and messages; nothing here is ours.

Each function returns whether its tool accepts. The time is that of the shared TEST PKI (`LATER`), unless told.
"""

import asyncio
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import new as new_hash
from pathlib import Path

from asn1crypto import cms as asn1_cms
from asn1crypto import ocsp as asn1_ocsp
from cryptography import x509
from lxml import etree
from pyasn1.codec.der.decoder import decode  # type: ignore[import-untyped]
from pyasn1.codec.der.encoder import encode  # type: ignore[import-untyped]
from pyasn1.error import PyAsn1Error  # type: ignore[import-untyped]
from pyasn1_alt_modules import rfc4998  # type: ignore[import-untyped]
from pyhanko.keys import load_certs_from_pemder_data
from pyhanko.sign.ades.report import AdESPassed
from pyhanko.sign.validation.ades import ades_timestamp_validation, ades_with_time_validation
from pyhanko.sign.validation.errors import SignatureValidationError
from pyhanko.sign.validation.policy_decl import (
    LocalKnowledge,
    RevinfoOnlineFetchingRule,
    RevocationInfoGatheringSpec,
    SignatureValidationSpec,
)
from pyhanko.sign.validation.settings import KeyUsageConstraints
from pyhanko_certvalidator.authority import CertTrustAnchor
from pyhanko_certvalidator.context import CertValidationPolicySpec
from pyhanko_certvalidator.ltv.types import ValidationTimingInfo
from pyhanko_certvalidator.policy_decl import (
    CertRevTrustPolicy,
    RevocationCheckingPolicy,
    RevocationCheckingRule,
)
from pyhanko_certvalidator.registry import SimpleTrustManager
from pyhanko_certvalidator.revinfo.archival import OCSPContainer
from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response
from signxml.exceptions import SignXMLException
from signxml.verifier import SignatureConfiguration
from signxml.xades.xades import XAdESVerifier

from kephs.testpki.authority import TestPki
from kephs.testpki.issued import to_pem
from tests.support.sealed import LATER

SECONDS = 60
_GRANTED = bytes.fromhex("3003020100")  # PKIStatusInfo: granted
_HASHES = {
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}


@dataclass(frozen=True)
class Anchors:
    """The roots and intermediates that strangers were given, as files."""

    root: Path
    intermediates: tuple[Path, ...]
    pki: TestPki

    @classmethod
    def of(cls, pki: TestPki, folder: Path) -> "Anchors":
        root = folder / "root.pem"
        root.write_bytes(to_pem((pki.root,)))
        paths = []
        for number, der in enumerate(pki.intermediates):
            paths.append(folder / f"intermediate-{number}.pem")
            paths[-1].write_bytes(to_pem((der,)))
        (folder / "intermediates.pem").write_bytes(to_pem(pki.intermediates))
        return cls(root, tuple(paths), pki)

    @property
    def together(self) -> Path:
        return self.root.with_name("intermediates.pem")


def _accepts(*command: object, data: bytes | None = None) -> bool:
    done = subprocess.run(
        [str(part) for part in command], input=data, capture_output=True, timeout=SECONDS, check=False
    )
    return done.returncode == 0


# --------------------------------------------------------------------------- XML


def xmlsec1(xml: bytes, anchors: Anchors, folder: Path, at: datetime = LATER) -> bool:
    """Ask xmlsec1 about a XAdES signature: digests, value, chain."""
    path = folder / "evidence.xml"
    path.write_bytes(xml)
    more = [word for one in anchors.intermediates for word in ("--untrusted-pem", one)]
    return _accepts(
        "xmlsec1", "--verify", "--id-attr:Id", "SignedProperties",
        "--verification-time", at.strftime("%Y-%m-%d %H:%M:%S"), "--trusted-pem", anchors.root, *more, path,
    )  # fmt: skip


def signxml(xml: bytes, certificate: x509.Certificate) -> bool:
    """Ask signxml about a XAdES signature by a known certificate."""
    try:
        results = XAdESVerifier().verify(
            etree.fromstring(xml), x509_cert=certificate,
            expect_config=SignatureConfiguration(expect_references=2),
        )  # fmt: skip
    except (SignXMLException, etree.LxmlError, ValueError):
        return False
    return len(results) == 2


# --------------------------------------------------------------------------- time stamps


def openssl_ts(token: bytes, digest: bytes, anchors: Anchors, folder: Path, at: datetime = LATER) -> bool:
    """Ask openssl whether a token stamps a SHA-256 digest."""
    path = folder / "token.der"
    path.write_bytes(token)
    return _accepts(
        "openssl", "ts", "-verify", "-token_in", "-in", path, "-digest", digest.hex(),
        "-CAfile", anchors.root, "-untrusted", anchors.together, "-attime", int(at.timestamp()),
    )  # fmt: skip


def rfc3161(token: bytes, digest: bytes, anchors: Anchors) -> bool:
    """Ask rfc3161-client the same; it knows responses, so the token is put into one."""
    body = _GRANTED + token
    size = len(body).to_bytes(2)
    builder = VerifierBuilder().add_root_certificate(x509.load_der_x509_certificate(anchors.pki.root))
    for der in anchors.pki.intermediates:
        builder = builder.add_intermediate_certificate(x509.load_der_x509_certificate(der))
    try:
        response = decode_timestamp_response(b"\x30\x82" + size + body)
        return builder.build().verify(response, digest)
    except (VerificationError, ValueError):
        return False


# --------------------------------------------------------------------------- evidence records


@dataclass(frozen=True)
class Stamp:
    """One ArchiveTimeStamp as a stranger reads it: what its token must be about."""

    root: bytes
    hash_name: str
    token: bytes


def record_stamps(ers: bytes, data: bytes) -> list[Stamp]:
    """Follow RFC 4998 4.3 and 5.3 with nobody's code but pyasn1; empty where the record is none of the data."""
    try:
        decoded, rest = decode(ers, asn1Spec=rfc4998.EvidenceRecord())
        if rest or encode(decoded) != ers:
            return []
        return _followed(decoded, data)
    except (PyAsn1Error, KeyError, ValueError):
        return []


def _followed(decoded, data: bytes) -> list[Stamp]:
    listed = {str(one["algorithm"]) for one in decoded["digestAlgorithms"]}
    used = {
        str(one["digestAlgorithm"]["algorithm"])
        for chain in decoded["archiveTimeStampSequence"]
        for one in chain
    }
    if int(decoded["version"]) != 1 or listed != used:
        return []
    found: list[Stamp] = []
    older: list[object] = []
    for chain in decoded["archiveTimeStampSequence"]:
        covered = None
        for stamp in chain:
            name = _HASHES[str(stamp["digestAlgorithm"]["algorithm"])]
            leaf = new_hash(name, data if covered is None else covered).digest()
            if covered is None and older:
                before = rfc4998.ArchiveTimeStampSequence()
                before.extend(older)
                leaf = new_hash(name, leaf + new_hash(name, encode(before)).digest()).digest()
            lists = [[bytes(entry) for entry in entries] for entries in stamp["reducedHashtree"]]
            if lists and leaf not in lists[0]:
                return []
            covered = encode(stamp["timeStamp"])
            found.append(Stamp(_root(leaf, lists, name), name, covered))
        older.append(chain)
    return found


def _root(leaf: bytes, lists: Sequence[Sequence[bytes]], name: str) -> bytes:
    value = leaf
    for number, entries in enumerate(lists):
        group = sorted(entries if number == 0 else [*entries, value])
        value = group[0] if len(group) == 1 else new_hash(name, b"".join(group)).digest()
    return value


# --------------------------------------------------------------------------- CMS


def openssl_cms(message: bytes, anchors: Anchors, at: datetime = LATER) -> bool:
    """Ask openssl about an S/MIME message signed as CAdES."""
    return _accepts(
        "openssl", "cms", "-verify", "-cades", "-purpose", "any", "-CAfile", anchors.root,
        "-attime", int(at.timestamp()), "-out", "/dev/null", data=message,
    )  # fmt: skip


def pyhanko_cms(
    p7s: bytes, digest: bytes, anchors: Anchors, ocsps: Iterable[bytes], at: datetime = LATER
) -> datetime | None:
    """Ask pyHanko for the verdict of EN 319 102-1 5.5 (signature with time), revocation data demanded.

    Args:
        p7s: detached CMS SignedData.
        digest: SHA-256 of the content.
        anchors: the roots given.
        ocsps: answers about every certificate of both chains.
        at: the validation time; better than it is only what a good time stamp says.

    Returns:
        Since when the signature is proven to exist; None where the verdict is not TOTAL-PASSED.
    """
    try:
        signed = asn1_cms.ContentInfo.load(p7s, strict=True)["content"]
        result = asyncio.run(
            ades_with_time_validation(
                signed,
                _spec(anchors, ocsps),
                timing_info=ValidationTimingInfo(at, at, True),
                raw_digest=digest,
            )
        )
    except (SignatureValidationError, ValueError):
        return None
    return result.best_signature_time if result.ades_subindic is AdESPassed.OK else None


def pyhanko_token(
    token: bytes, digest: bytes, anchors: Anchors, ocsps: Iterable[bytes], at: datetime = LATER
) -> bool:
    """Ask pyHanko for the verdict of EN 319 102-1 5.4 (time stamp) about a token over a SHA-256 digest."""
    try:
        signed = asn1_cms.ContentInfo.load(token, strict=True)["content"]
        result = asyncio.run(
            ades_timestamp_validation(
                signed,
                _spec(anchors, ocsps),
                lambda _: digest,
                timing_info=ValidationTimingInfo(at, at, True),
            )
        )
    except (SignatureValidationError, ValueError):
        return False
    return result.ades_subindic is AdESPassed.OK


def _spec(anchors: Anchors, ocsps: Iterable[bytes]) -> SignatureValidationSpec:
    roots = list(load_certs_from_pemder_data(anchors.root.read_bytes()))
    demanded = RevocationCheckingPolicy(
        ee_certificate_rule=RevocationCheckingRule.CRL_OR_OCSP_REQUIRED,
        intermediate_ca_cert_rule=RevocationCheckingRule.CRL_OR_OCSP_REQUIRED,
    )
    policy = CertValidationPolicySpec(
        trust_manager=SimpleTrustManager.build(trust_roots=[CertTrustAnchor(root) for root in roots]),
        revinfo_policy=CertRevTrustPolicy(demanded),
    )
    known = [
        container for der in ocsps for container in OCSPContainer.load_multi(asn1_ocsp.OCSPResponse.load(der))
    ]
    return SignatureValidationSpec(
        cert_validation_policy=policy, ts_cert_validation_policy=policy,
        revinfo_gathering_policy=RevocationInfoGatheringSpec(RevinfoOnlineFetchingRule.LOCAL_ONLY),
        local_knowledge=LocalKnowledge(known_ocsps=known),
        key_usage_settings=KeyUsageConstraints(
            key_usage={"digital_signature", "non_repudiation"}, match_all_key_usages=False
        ),
    )  # fmt: skip
