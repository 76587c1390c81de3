"""The sender's qualified signature (NES) on a message, verified in two phases around the network.

`prepare` does all that needs no network and names the certificates whose revocation must be known;
`conclude` takes the answers and decides. Both are pure, so a caller runs them in a thread and asks OCSP in
between. The earliest failing step decides, all are recorded:

======== ====================================================================================
step     check (n counts the parallel signers: all must pass; m the certificates of the paths)
======== ====================================================================================
1        the signature is the outermost body, nothing unsigned stands beside it
2        strict SignedData over id-data, with content exactly once and at least one signer
3.n.1    signed attributes: each once, in order, contentType
3.n.2    messageDigest over the exact bytes received
3.n.3    the certificate, by signer identifier and signing-certificate-v2 (SHA-256 or better)
3.n.4    signature value
3.n.5    algorithms and key size
3.n.6    claimed signing time is not ahead of reception
3.n.7    path to a configured root, valid at the time that counts
3.n.8    qualified certificate statements (ETSI and law 5070)
3.n.9    key usage nonRepudiation, not an authority
3.n.10   policies: user notice present, no transaction certificate, no Mali Mühür
3.n.11   counter-signatures, nested ones too: digest, certificate, value, algorithms, path
3.n.12   profile: P2 to P4 by sigPolicyId with its hash and address, and a signing time
3.n.13.k signature time stamps
3.n.14   order of times: stamp not in the future, not before the signature, not too late
3.n.15   references and values of P3 and P4 (`evidence.nes.long_term`)
3.n.16.k archive time stamps
4.m      not revoked
5.m      revocation status is known and fresh, else TRY_LATER; after the last m: P2's and P3's grace
======== ====================================================================================

The time that counts is the time of reception, or, for a later check (`Moment.LATER`), the earliest that is
proven. (spec: EN319102-1#5.3, signing.md 1, 2.2 to 2.6)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import new as new_hash
from hashlib import sha256
from typing import NamedTuple

from evidence.asn1.der import DerError, walk
from evidence.asn1.framing import definite, is_indefinite
from evidence.cms.signed_data import (
    COUNTER_SIGNATURE,
    ID_DATA,
    MESSAGE_DIGEST,
    SignedData,
    parse_signed_data,
)
from evidence.mail.mime import Part, Range
from evidence.mail.smime import (
    EntityKind,
    SignedEntity,
    SmimeError,
    chosen_digests,
    digests,
    locate,
)
from evidence.mail.variants import EXACT_ONLY, Variant
from evidence.nes.concluding import conclude_prepared
from evidence.nes.findings import failing
from evidence.nes.model import (
    Embedded,
    Material,
    Moment,
    Prepared,
    Role,
    SenderReport,
    SignerIdentity,
    Use,
)
from evidence.nes.policy import DEFAULT_NES_POLICY, Grace, NesPolicy
from evidence.nes.preparing import Opened, Question, prepare_opened
from evidence.nes.profiles import Profile
from evidence.ports import ByteSource
from evidence.report import Step, SubIndication, Verdict, held
from evidence.x509.chain import TrustStore
from evidence.x509.revocation import RevocationAnswer

__all__ = [
    "DEFAULT_NES_POLICY",
    "Embedded",
    "Grace",
    "Material",
    "Moment",
    "NesPolicy",
    "Prepared",
    "Profile",
    "Role",
    "SenderReport",
    "SignerIdentity",
    "Use",
    "conclude",
    "prepare",
    "prepare_signature",
]

_PLACE = "outermost body is the signature"
_FORM = "signed data"
_DEPTH_MAX = 48  # a time stamp with its authorities nests to about twenty


def prepare(
    source: ByteSource,
    root: Part,
    *,
    trust: TrustStore,
    policy: NesPolicy = DEFAULT_NES_POLICY,
    at: datetime,
    moment: Moment = Moment.RECEPTION,
    proven: datetime | None = None,
) -> Prepared:
    """Check everything but revocation. Never raises for what a message contains.

    Args:
        source: the message exactly as received.
        root: its structure, from `evidence.mail.mime.scan`.
        trust: roots and intermediates; they are tried where the signature brings none.
        policy: what the provider accepts.
        at: time of the check, aware: of reception, or now.
        moment: reception asks "valid now?"; a later check counts proven times only.
        proven: for later checks: the caller proved that the whole signature, its unsigned attributes
            included, existed then (a time stamp of ours over its DER).
    """
    question = Question(trust, policy, at, moment, proven)
    try:
        entity = locate(source, root, limits=policy.limits)
    except SmimeError as error:
        step = failing("1", _PLACE, _place_code(error), str(error), error.sub_indication, error.verdict)
        return prepare_opened(question, [step], None)
    steps = [held("1", _PLACE, entity.kind.value)]
    content = _MessageContent(source, entity)
    cap = max(len(entity.der), 1)  # `locate` has capped it
    opened = _open(steps, entity.der, cap, policy, content, entity.kind)
    return prepare_opened(question, steps, opened)


def prepare_signature(
    der: bytes,
    content: ByteSource | None,
    *,
    trust: TrustStore,
    policy: NesPolicy = DEFAULT_NES_POLICY,
    at: datetime,
    moment: Moment = Moment.RECEPTION,
    proven: datetime | None = None,
) -> Prepared:
    """Check a bare signature file (``.p7s``, ``.p7m``, DER) as `prepare` checks a message's.

    Args:
        der: the ContentInfo, untrusted.
        content: what it signs, for a detached signature; None: the content is inside.
        trust: see `prepare`, as the others.
        policy: what the provider accepts.
        at: time of the check, aware.
        moment: reception or later.
        proven: see `prepare`.
    """
    question = Question(trust, policy, at, moment, proven)
    kind = EntityKind.OPAQUE if content is None else EntityKind.DETACHED
    steps = [held("1", "signature file", kind.value)]
    cap = policy.limits.opaque if content is None else policy.limits.detached
    opened = _open(steps, der, cap, policy, _FileContent(content), kind)
    return prepare_opened(question, steps, opened)


def conclude(
    prepared: Prepared, answers: Mapping[bytes, RevocationAnswer | None], at: datetime
) -> SenderReport:
    """Decide.

    Args:
        prepared: what `prepare` or `prepare_signature` returned.
        answers: by certificate SHA-256, what the issuer's OCSP or CRL says; None or missing: nothing fresh.
            What the signature itself brought is used where these do not settle a certificate.
        at: time of the check, aware.
    """
    return conclude_prepared(prepared, answers, at)


# --------------------------------------------------------------------------- steps 1 and 2


def _signed_data(der: bytes, cap: int, policy: NesPolicy) -> SignedData:
    if not policy.cms.definite_frame and is_indefinite(der):
        der = definite(der, max_size=cap)
    return parse_signed_data(der, max_size=cap)


def _walked(signed: SignedData) -> None:
    """Refuse what nobody reads and no signature covers, where it is not DER or nested without end."""
    for signer in signed.signers:
        for attribute in signer.unsigned:
            if attribute.oid == COUNTER_SIGNATURE:  # read and capped by itself
                continue
            for value in attribute.values:
                for _ in walk(value, max_depth=_DEPTH_MAX):
                    pass


class _Digested(NamedTuple):
    """The content's digests by hashlib name, and which variant of the octets received they are of."""

    by_name: dict[str, bytes]
    variant: Variant = Variant.EXACT


@dataclass(frozen=True, slots=True)
class _MessageContent:
    """The signed content of a message, in the message or in the signature."""

    source: ByteSource
    entity: SignedEntity

    def digests(self, signed: SignedData, names: list[str]) -> _Digested | None:
        """Return the content's digests; None where it does not stand exactly once.

        Where no signer signed the exact octets, those that producers are known to sign instead are tried.
        """
        exact = digests(self.source, self.entity, signed, names)
        if exact is None or self.entity.variants == EXACT_ONLY or _is_signed(signed, exact):
            return None if exact is None else _Digested(exact)
        found = chosen_digests(self.source, self.entity, signed, names)
        return None if found is None else _Digested(found[1], found[0])


def _is_signed(signed: SignedData, by_name: Mapping[str, bytes]) -> bool:
    """Say whether these are the octets that one of the signers signed."""
    for signer in signed.signers:
        for attribute in signer.attributes:
            if attribute.oid == MESSAGE_DIGEST and attribute.values:
                if attribute.values[0].content == by_name.get(signer.digest_name or ""):
                    return True
                break
    return False


@dataclass(frozen=True, slots=True)
class _FileContent:
    """The signed content of a signature file: another file, or inside."""

    content: ByteSource | None

    def digests(self, signed: SignedData, names: list[str]) -> _Digested | None:
        """Return the content's digests; None where it does not stand exactly once."""
        if self.content is None:
            view = signed.content_view
            if view is None:
                return None
            return _Digested({name: new_hash(name, view).digest() for name in names})
        entity = SignedEntity(EntityKind.DETACHED, Range(0, self.content.size), b"")
        found = digests(self.content, entity, signed, names)
        return None if found is None else _Digested(found)


_Content = _MessageContent | _FileContent


def _open(
    steps: list[Step], der: bytes, cap: int, policy: NesPolicy, content: _Content, kind: EntityKind
) -> Opened | None:
    """Run step 2: read the SignedData and digest the content once for all signers."""
    malformed = SubIndication.FORMAT_FAILURE
    try:
        signed = _signed_data(der, cap, policy)
    except DerError as error:
        steps.append(failing("2", _FORM, "not-strict-der", str(error), malformed, Verdict.FAILED))
        return None
    try:
        _walked(signed)
    except DerError as error:
        steps.append(failing("2", _FORM, "not-strict-der", str(error), malformed, Verdict.FAILED))
        return None
    if not signed.signers:
        steps.append(failing("2", _FORM, "no-signer", "no signer", malformed, Verdict.FAILED))
        return None
    if signed.content_type != ID_DATA:
        detail = f"content type {signed.content_type} is not id-data"
        steps.append(failing("2", _FORM, "not-data", detail, malformed, Verdict.FAILED))
        return None
    names = {signer.digest_name for signer in signed.signers if signer.digest_name is not None}
    digested = content.digests(signed, sorted(names))
    if digested is None:
        detail = "the content must stand exactly once, in the message or in the signature"
        steps.append(failing("2", _FORM, "content-not-once", detail, malformed, Verdict.FAILED))
        return None
    steps.append(held("2", _FORM, f"{len(signed.signers)} signer(s)"))

    by_name, variant = digested

    def digest(name: str) -> bytes | None:
        """Digest the content again, for an archive time stamp with another hash."""
        if name not in by_name and (more := content.digests(signed, [name])) is not None:
            by_name.update(more.by_name)
        return by_name.get(name)

    used = "" if variant is Variant.EXACT else variant.value
    return Opened(signed, by_name, kind, digest, sha256(der).digest(), used)


def _place_code(error: SmimeError) -> str:
    if error.sub_indication is SubIndication.SIGNED_DATA_NOT_FOUND:
        return "not-signed"
    if error.sub_indication is SubIndication.SIG_CONSTRAINTS_FAILURE:
        return "unsigned-beside"
    return "signature-unreadable"
