"""RFC 3161 time stamps: tokens verified strictly; requests, responses and emission in `timestamp_messages`.

A token proves that its imprint existed at genTime, no more: what the imprint covers is the caller's
business. (spec: RFC3161, RFC5816, signing.md 2.4 rule 6 and 4)

`verify_token` makes these steps, in this order:

1. format: strict DER SignedData of exactly one signer over one TSTInfo
2. signature: signed attributes, messageDigest, certificate by SID and ESS v2, signature value (2.1 to 2.4)
3. imprint: SHA-256 or better, and equal to what the caller has
4. role: critical extendedKeyUsage with timeStamping alone
5. time: genTime within the certificate's validity and not in the future
6. algorithms: key size, hash and signature algorithm allowed
7. lifetime: the certificate has not expired since; without a newer stamp nothing proves the old one
8. chain to a configured anchor at genTime
9. embedded certificates: each leads to a configured anchor, so that no octet can change unseen
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import new as new_hash
from typing import Final, NamedTuple

from evidence.asn1.der import DerError
from evidence.cms.signed_data import SignerInfo, verify_signer
from evidence.report import Report, Step, SubIndication, Verdict, conclude, held
from evidence.stamps.messages import (
    MAX_REQUEST,
    MAX_RESPONSE,
    MAX_TOKEN,
    TimestampRefusedError,
    TimestampRequest,
    TimestampRequestError,
    Token,
    TokenDraft,
    TokenIssuer,
    TstInfo,
    build_request,
    check_response,
    granted,
    parse_response,
    read_request,
    read_token,
    rejection,
)
from evidence.x509.algorithms import DEFAULT_ALGORITHMS, AlgorithmPolicy, Family, Role
from evidence.x509.certificates import (
    DIGITAL_SIGNATURE,
    EKU_TIME_STAMPING,
    NON_REPUDIATION,
    CertificateError,
    CertificateFacts,
    certificate_facts,
)
from evidence.x509.chain import Chain, ChainFailure, TrustStore, build_chain

__all__ = [
    "MAX_REQUEST",
    "MAX_RESPONSE",
    "MAX_TOKEN",
    "TimestampRefusedError",
    "TimestampRequest",
    "TimestampRequestError",
    "Token",
    "TokenDraft",
    "TokenIssuer",
    "TokenReport",
    "TstInfo",
    "build_request",
    "check_response",
    "granted",
    "parse_response",
    "read_request",
    "read_token",
    "rejection",
    "verify_token",
]

FUTURE_TOLERANCE: Final = timedelta(seconds=60)
"""How far genTime may lie after the verifier's time: clocks differ."""


class _Known(NamedTuple):
    trust: TrustStore
    candidates: Sequence[bytes]
    strangers: bool


class TokenReport(NamedTuple):  # a tuple: frozen dataclasses are slow to make
    """What a verification found; the facts are None where the token could not be read so far.

    ``token`` is the token as read, ``chain`` the path at ``gen_time``: nobody needs to find them again.
    """

    report: Report
    gen_time: datetime | None = None
    serial: int | None = None
    policy: str | None = None
    certificate: CertificateFacts | None = None
    token: Token | None = None
    chain: Chain | None = None

    @property
    def passed(self) -> bool:
        """Say whether the token proves its imprint at ``gen_time``."""
        return self.report.passed


def verify_token(
    token: bytes | Token,
    *,
    imprint: bytes | Callable[[str], bytes],
    trust: TrustStore,
    at: datetime,
    candidates: Sequence[bytes] = (),
    algorithms: AlgorithmPolicy = DEFAULT_ALGORITHMS,
    strangers: bool = False,
) -> TokenReport:
    """Verify a token; the steps stand in the module's docstring. Revocation is the caller's, with its data.

    Args:
        token: untrusted bytes, DER ContentInfo; or what `read_token` made of them.
        imprint: the SHA-256 digest that must be stamped, or a function that gives the digest for any
            hashlib name ("sha384"), where the authority's choice is accepted.
        trust: the anchors of time-stamping authorities.
        at: the time of validation.
        candidates: certificates (DER) that may help to build the chain, beside those in the token.
        algorithms: which algorithms count.
        strangers: accept embedded certificates that lead to no configured root, as some authorities
            add them; nothing covers them, so one could be altered unseen.
    """
    known = _Known(trust, candidates, strangers)
    try:
        read = token if isinstance(token, Token) else read_token(token)
    except DerError as error:
        return TokenReport(conclude("time stamp", [_failed("1", "format", str(error))], at))
    info, signed = read.info, read.signed
    serial = f"{info.serial:x}"
    steps = [Step("1", "format", True, f"serial {serial}")]  # noqa: FBT003 - `ok` by place: this is hot
    content = signed.content or b""
    check = verify_signer(
        signed, read.signer, digest_of=lambda name: new_hash(name, content).digest(), number="2"
    )
    steps += check.steps
    steps.append(_imprint_step(info, imprint))
    certificate, chain = check.certificate, None
    if certificate is not None:
        chain, chain_steps = _chain_steps(certificate, signed.certificates, known, info.gen_time)
        steps += [
            _role_step(certificate),
            _time_step(info, certificate, at),
            _algorithm_step(read.signer, certificate, algorithms, info.gen_time),
            _lifetime_step(certificate, at),
            *chain_steps,
        ]
    facts: dict[str, object] = {
        "gen_time": _shown(info.gen_time),
        "serial": serial,
        "policy": info.policy,
        "tsa": certificate.subject_text if certificate else None,
    }
    report = conclude("time stamp", steps, at, facts=facts)
    return TokenReport(report, info.gen_time, info.serial, info.policy, certificate, read, chain)


def _imprint_step(info: TstInfo, imprint: bytes | Callable[[str], bytes]) -> Step:
    if isinstance(imprint, bytes):
        same = info.hash_name == "sha256" and info.imprint == imprint
    else:
        same = info.imprint == imprint(info.hash_name)
    if same:
        return held("3", "imprint", info.hash_name)
    return _failed("3", "imprint", "the token stamps other bytes", SubIndication.HASH_FAILURE)


@lru_cache(maxsize=256)  # a pure memo: authorities are few, and their tokens many
def _role_step(certificate: CertificateFacts) -> Step:
    """Only a certificate made for nothing but time stamps may stamp (spec: RFC3161#2.3)."""
    name, extensions = "role", certificate.extensions
    if extensions.extended_key_usage != (EKU_TIME_STAMPING,) or not certificate.extended_key_usage_critical:
        detail = "no critical extendedKeyUsage with timeStamping alone"
    elif extensions.key_usage is not None and not extensions.key_usage & {DIGITAL_SIGNATURE, NON_REPUDIATION}:
        detail = "keyUsage does not allow signatures"
    else:
        return held("4", name, certificate.subject_text)
    return _failed("4", name, detail, SubIndication.CHAIN_CONSTRAINTS_FAILURE, verdict=Verdict.INDETERMINATE)


def _time_step(info: TstInfo, certificate: CertificateFacts, at: datetime) -> Step:
    if info.gen_time < certificate.not_before:
        return _failed("5", "time", "stamped before its certificate was valid", SubIndication.NOT_YET_VALID)
    if info.gen_time > certificate.not_after:
        return _failed("5", "time", "stamped after its certificate had expired", SubIndication.EXPIRED)
    if info.gen_time > at + FUTURE_TOLERANCE:
        sub = SubIndication.TIMESTAMP_ORDER_FAILURE
        return _failed("5", "time", "stamped in the future", sub, verdict=Verdict.INDETERMINATE)
    return held("5", "time", _shown(info.gen_time))


def _algorithm_step(
    signer: SignerInfo, certificate: CertificateFacts, algorithms: AlgorithmPolicy, at: datetime
) -> Step:
    name, refusal = "algorithms", "unknown algorithm"
    if signer.algorithm is not None and signer.digest_name is not None:
        reason = algorithms.refusal(
            Role.SIGNER, signer.algorithm, signer.digest_name, certificate.key.size, at
        )
        if reason is None:
            return held("6", name, _named(signer.algorithm.family, signer.digest_name))
        refusal = reason
    sub = SubIndication.CRYPTO_CONSTRAINTS_FAILURE
    return _failed("6", name, refusal, sub, verdict=Verdict.INDETERMINATE)


def _failed(
    number: str,
    name: str,
    detail: str,
    sub: SubIndication = SubIndication.FORMAT_FAILURE,
    *,
    verdict: Verdict = Verdict.FAILED,
) -> Step:
    return Step(number, name, ok=False, detail=detail, sub_indication=sub, verdict=verdict)


def _lifetime_step(certificate: CertificateFacts, at: datetime) -> Step:
    if at > certificate.not_after:
        sub = SubIndication.OUT_OF_BOUNDS_NO_POE
        detail = f"its certificate expired {certificate.not_after.isoformat()} and no newer stamp renews it"
        return _failed("7", "lifetime", detail, sub, verdict=Verdict.INDETERMINATE)
    return held("7", "lifetime", f"until {_shown(certificate.not_after)}")


def _chain_steps(
    certificate: CertificateFacts, embedded: Sequence[bytes], known: _Known, at: datetime
) -> tuple[Chain | None, list[Step]]:
    """Build the chain, and look at every certificate that came along (steps 8 and 9)."""
    readable = _readable(embedded)
    offered = [*readable, *_readable(known.candidates)]
    found = build_chain(certificate, offered, known.trust, at)
    if isinstance(found, ChainFailure):
        return None, [_failed("8", "chain", found.detail, found.sub_indication, verdict=found.verdict)]
    steps = [held("8", "chain", found.root.subject_text)]
    if known.strangers:
        return found, steps
    others = [f for f in readable if f not in found.certificates and not known.trust.is_root(f)]
    strange = len(readable) < len(embedded) or any(
        isinstance(build_chain(other, offered, known.trust, at), ChainFailure) for other in others
    )
    if strange:
        detail = "an embedded certificate leads to no configured root"
        steps.append(_failed("9", "embedded certificates", detail))
    else:
        steps.append(held("9", "embedded certificates", str(len(embedded))))
    return found, steps


@lru_cache(maxsize=1024)  # pure memos: stamps of one second say the same, and authorities are few
def _shown(at: datetime) -> str:
    return at.isoformat()


@lru_cache(maxsize=64)
def _named(family: Family, hash_name: str) -> str:
    return f"{family} {hash_name}"


def _readable(certificates: Sequence[bytes]) -> list[CertificateFacts]:
    """Return the certificates that can be read; others cannot help a chain."""
    found = []
    for der in certificates:
        with suppress(CertificateError):
            found.append(certificate_facts(der))
    return found
