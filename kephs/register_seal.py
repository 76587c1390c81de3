"""The signature over the provider register: checked here, and made for its operator, the demo and tests.

A detached CMS signature (CAdES-B-B) over the exact bytes of ``providers.json``, by one signer whose
certificate is pinned by its SHA-256. Nothing else is embedded but that certificate, so that every byte of the
signature file is either signed or has one possible value. (spec: rem-formats §9 trust lists, RFC5652#5)
"""

import hmac
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import new, sha256
from typing import Any, Final, Protocol

from directory.addresses import DEFAULT_SUFFIX
from directory.provider_file import FORMAT_VERSION, RegisterSignatureError, parse_provider_file
from directory.providers import Profile, Stamps
from evidence.asn1.der import DerError
from evidence.cms.frame import frame_problem
from evidence.cms.signed_data import (
    ID_DATA,
    CmsRules,
    CmsSigner,
    SignedData,
    SignerCheck,
    parse_signed_data,
    verify_signer,
)
from evidence.x509.certificates import CertificateError, certificate_facts

_MAX_SIGNATURE: Final = 64 * 1024
_PIN_OCTETS: Final = 32
_RULES: Final = CmsRules(attributes_in_order=True, key_type_decides=False)


class RegisterSigner(Protocol):
    """The key of the register's operator; `evidence.adapters.soft_signer.SoftSigner` is one."""

    @property
    def certificate(self) -> bytes:
        """Return its certificate, DER."""
        ...

    def sign_now(self, digests: Sequence[bytes]) -> list[bytes]:
        """Sign SHA-256 digests, in order."""
        ...


def read_pins(texts: Iterable[str]) -> frozenset[bytes]:
    """Return pinned digests from hexadecimal; colons and capitals, as openssl prints them, are taken.

    Raises:
        ValueError: one is not of 64 hexadecimal digits.
    """
    found = set()
    for text in texts:
        try:
            pin = bytes.fromhex(text.strip().replace(":", ""))
        except ValueError:
            pin = b""
        if len(pin) != _PIN_OCTETS:
            raise ValueError("a signer's pin is the SHA-256 of its certificate: 64 hexadecimal digits")
        found.add(pin)
    return frozenset(found)


def register_verifier(pins: Iterable[bytes]) -> Callable[[bytes, bytes], None]:
    """Return the check of a register's signature.

    Args:
        pins: SHA-256 of the certificates of signers believed, 32 octets each; several for a roll-over.

    The check takes (content, signature DER) and raises `RegisterSignatureError`. The steps: 1 strict
    SignedData, detached, one signer; 2 the four steps of `verify_signer`; 3 the signer's certificate is
    pinned; 4 it was valid at the claimed signing time; 5 no byte that no signature covers is odd.
    """
    believed = tuple(pins)

    def verify(content: bytes, signature: bytes) -> None:
        try:
            signed = parse_signed_data(signature, max_size=_MAX_SIGNATURE)
        except DerError as error:
            raise RegisterSignatureError(f"not a CMS signature: {error}") from None
        check = _one_signer(signed, content)
        assert check.certificate is not None  # every step passed
        certificate = check.certificate
        # All pins are compared, each in constant time.
        if not sum(hmac.compare_digest(certificate.sha256, pin) for pin in believed):
            raise RegisterSignatureError(
                f"the signer's certificate (SHA-256 {certificate.sha256.hex()}) is not pinned"
                if believed
                else "no signer of the register is pinned: set peers.register_signers"
            )
        if check.signing_time is None or not certificate.valid_at(check.signing_time):
            raise RegisterSignatureError(
                "the certificate was not valid at the signing time, or that is missing"
            )
        problem = frame_problem(signature, [certificate.der])
        if problem is not None:
            raise RegisterSignatureError(f"{problem} (only the signer's own certificate may be embedded)")

    return verify


def _one_signer(signed: SignedData, content: bytes) -> SignerCheck:
    if signed.content_type != ID_DATA or signed.content_span is not None:
        raise RegisterSignatureError("not a detached signature over plain data")
    if len(signed.signers) != 1 or signed.crls:
        raise RegisterSignatureError("exactly one signer is needed, and no CRL")
    check = verify_signer(
        signed, signed.signers[0], digest_of=lambda name: new(name, content).digest(), rules=_RULES
    )
    failed = next((step for step in check.steps if not step.ok), None)
    if failed is not None:
        raise RegisterSignatureError(f"{failed.name}: {failed.detail}")
    return check


def sign_register(content: bytes, signer: RegisterSigner, at: datetime) -> bytes:
    """Return the detached signature over a register's exact bytes, DER.

    Args:
        content: of ``providers.json``.
        signer: the operator's key.
        at: the signing time, UTC; the certificate must be valid then.
    """
    cms = CmsSigner(signer.certificate)
    draft = cms.to_be_signed(sha256(content).digest(), at)
    (signature,) = signer.sign_now([draft.digest])
    return cms.assemble(draft, signature)


def register_entry(
    *,
    domain: str,
    name: str,
    service_address: str,
    host: str,
    port: int,
    tls_certificates: Iterable[bytes],
    transaction_certificates: Iterable[bytes],
    max_message_mib: int,
    since: datetime,
    until: datetime | None = None,
    profile: Profile = Profile.KEP_TS102640,
    stamps: Stamps = Stamps.PER_EVIDENCE,
) -> dict[str, Any]:
    """Return one provider's entry as the file has it; certificates (DER) count as long as they are valid.

    Raises:
        CertificateError: a certificate cannot be read.
    """
    return {
        "domain": domain,
        "name": name,
        "service_address": service_address,
        "smtp": {"host": host, "port": port},
        "tls_certificates": [_certificate(der) for der in tls_certificates],
        "transaction_certificates": [_certificate(der) for der in transaction_certificates],
        "max_message_mib": max_message_mib,
        "profile": profile.value,
        "stamps": stamps.value,
        "since": _time(since),
        "until": None if until is None else _time(until),
    }


def make_register(
    entries: Sequence[Mapping[str, Any]],
    signer: RegisterSigner,
    *,
    sequence: int,
    issued_at: datetime,
    next_update: datetime,
    suffix: str = DEFAULT_SUFFIX,
) -> tuple[bytes, bytes]:
    """Return a register as (``providers.json``, ``providers.json.p7s``), signed at ``issued_at``.

    Args:
        entries: as `register_entry` returns them.
        signer: the operator's key.
        sequence: above that of the issue before.
        issued_at: UTC; a fraction of a second is dropped.
        next_update: when the next issue comes at the latest.
        suffix: the ending all KEP domains share.

    Raises:
        ProviderFileError: the register would be refused by those who read it.
    """
    whole = {
        "version": FORMAT_VERSION,
        "sequence": sequence,
        "issued_at": _time(issued_at),
        "next_update": _time(next_update),
        "providers": list(entries),
    }
    content = json.dumps(whole, ensure_ascii=False, indent=1).encode() + b"\n"
    parse_provider_file(content, suffix=suffix)
    return content, sign_register(content, signer, issued_at)


def unreadable_certificate(content: bytes) -> str | None:
    """Return the place of the first certificate in a parsed register that is none; None where all are."""
    for index, provider in enumerate(json.loads(content)["providers"]):
        for name in ("tls_certificates", "transaction_certificates"):
            for number, one in enumerate(provider[name]):
                if "certificate" in one and not _readable(one["certificate"]):
                    return f"providers[{index}].{name}[{number}].certificate: not a readable certificate"
    return None


def _readable(text: str) -> bool:
    try:
        certificate_facts(b64decode(text))
    except CertificateError:
        return False
    return True


def _certificate(der: bytes) -> dict[str, str]:
    facts = certificate_facts(der)
    return {
        "certificate": b64encode(der).decode("ascii"),
        "valid_from": _time(facts.not_before),
        "valid_until": _time(facts.not_after),
    }


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
