"""RFC 3161 messages: requests, responses and tokens, read strictly and emitted by a template.

Verification is in `evidence.stamps.timestamps`, which also exports these names. (spec: RFC3161, RFC5816)
"""

from collections.abc import Sequence
from datetime import datetime
from hashlib import new as new_hash
from hashlib import sha256
from types import MappingProxyType
from typing import Final, NamedTuple

from evidence.asn1.der import (
    BIT_STRING,
    BOOLEAN,
    GENERALIZED_TIME,
    INTEGER,
    NULL_DER,
    OID,
    SEQUENCE,
    UTF8_STRING,
    Cursor,
    DerError,
    Node,
    boolean,
    children,
    expect,
    explicit,
    generalized_time,
    inside,
    integer,
    octets,
    oid,
    parse,
    seq,
    tlv,
    to_bool,
    to_int,
    to_named_bits,
    to_octets,
    to_oid,
    to_text,
    to_time,
    utf8,
)
from evidence.cms.signed_data import (
    ID_TST_INFO,
    CmsDraft,
    CmsSigner,
    SignedData,
    SignerInfo,
    parse_signed_data,
)
from evidence.x509.algorithms import HASH_OIDS, UnknownAlgorithmError, digest_algorithm

MAX_REQUEST: Final = 4 * 1024
MAX_RESPONSE: Final = 64 * 1024
MAX_TOKEN: Final = 64 * 1024
MAX_DIGESTS: Final = 8
SERIAL_OCTETS_MAX: Final = 21  # 160 bits and a sign octet, spec: RFC3161#2.4.2

BAD_ALGORITHM: Final = 0
BAD_REQUEST: Final = 2
BAD_DATA_FORMAT: Final = 5
UNACCEPTED_POLICY: Final = 15
UNACCEPTED_EXTENSION: Final = 16
_FAILURES: Final = {
    BAD_ALGORITHM: "badAlg",
    BAD_REQUEST: "badRequest",
    BAD_DATA_FORMAT: "badDataFormat",
    14: "timeNotAvailable",
    UNACCEPTED_POLICY: "unacceptedPolicy",
    UNACCEPTED_EXTENSION: "unacceptedExtension",
    17: "addInfoNotAvailable",
    25: "systemFailure",
}
"""spec: RFC3161#2.4.2"""

_GRANTED: Final = frozenset({0, 1})  # granted, grantedWithMods
_WEAK: Final = frozenset({"sha1", "sha224"})
_IDENTIFIERS: Final = MappingProxyType(
    {
        name: seq(oid(dotted), b"" if name.startswith("sha3_") else NULL_DER)
        for dotted, name in HASH_OIDS.items()
    }
)
"""SHA-2 with NULL, as authorities are used to; SHA-3 without (spec: RFC8702#3.1)."""
_SIZES: Final = MappingProxyType({name: new_hash(name).digest_size for name in _IDENTIFIERS})
_TST_OPTIONS: Final = MappingProxyType({SEQUENCE: 0, BOOLEAN: 1, INTEGER: 2, 0xA0: 3, 0xA1: 4})
"""What may follow in a TSTInfo, in its order: accuracy, ordering, nonce, tsa, extensions."""
_VERSION_1: Final = integer(1)
_CERT_REQ: Final = boolean(True)  # noqa: FBT003 - the value itself is what is encoded
_REQUEST_HEADS: Final = MappingProxyType(
    {
        name: _VERSION_1 + seq(identifier, octets(bytes(_SIZES[name])))[: -_SIZES[name]]
        for name, identifier in _IDENTIFIERS.items()
    }
)
"""A request up to the digest."""
_GRANTED_STATUS: Final = seq(integer(0))
_ACCURACY: Final = seq(integer(1))  # one second: genTime carries whole seconds


class TimestampRefusedError(Exception):
    """The authority answered, but not with a token that this request can use."""


class TimestampRequestError(ValueError):
    """A request that a time-stamping authority cannot serve; ``failure`` is the PKIFailureInfo bit."""

    def __init__(self, failure: int, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure


# --------------------------------------------------------------------------- requests


class TimestampRequest(NamedTuple):  # a tuple: frozen dataclasses are slow to make
    """What a client asks (spec: RFC3161#2.4.1). ``imprint_der`` is the MessageImprint as received."""

    hash_name: str
    imprint: bytes
    imprint_der: bytes
    policy: str | None
    nonce: int | None
    certificates: bool


def build_request(
    digest: bytes, nonce: int, *, policy: str | None = None, hash_name: str = "sha256"
) -> bytes:
    """Return a TimeStampReq, DER, with certReq TRUE: without certificates a token proves nothing offline.

    Args:
        digest: what is stamped, SHA-256 of it unless another hash is named.
        nonce: at least 64 random bits; the answer must repeat it.
        policy: the TSA policy wanted, dotted; None leaves it to the authority.
        hash_name: hashlib's name of the digest's hash, one that may be used today.

    Raises:
        ValueError: no such hash, or a digest of another length.
    """
    if len(digest) != _SIZES.get(hash_name):
        raise ValueError(f"imprint must be {hash_name.replace('sha', 'SHA-')}")
    wanted = oid(policy) if policy is not None else b""
    return seq(_REQUEST_HEADS[hash_name], digest, wanted, integer(nonce), _CERT_REQ)


def read_request(der: bytes) -> TimestampRequest:
    """Read a TimeStampReq, as an authority does.

    Raises:
        TimestampRequestError: no request, a weak or unknown hash, or an extension.
    """
    try:
        return _request(parse(der, max_size=MAX_REQUEST, tag=SEQUENCE))
    except UnknownAlgorithmError as error:
        raise TimestampRequestError(BAD_ALGORITHM, str(error)) from error
    except DerError as error:
        raise TimestampRequestError(BAD_DATA_FORMAT, str(error)) from error


def _request(node: Node) -> TimestampRequest:
    cursor = Cursor(node, limit=6)
    if to_int(cursor.take(INTEGER)) != 1:
        raise DerError("version")
    imprint = cursor.take(SEQUENCE)
    hash_name, digest = _imprint(imprint)
    policy, nonce, flag = cursor.optional(OID), cursor.optional(INTEGER), cursor.optional(BOOLEAN)
    if cursor.optional(0xA0) is not None:
        raise TimestampRequestError(UNACCEPTED_EXTENSION, "extensions")
    cursor.finish()
    return TimestampRequest(
        hash_name,
        digest,
        imprint.whole,
        to_oid(policy) if policy is not None else None,
        to_int(nonce, max_octets=64) if nonce is not None else None,
        flag is not None and to_bool(flag),
    )


# --------------------------------------------------------------------------- responses


def granted(token: bytes) -> bytes:
    """Return a TimeStampResp, DER, that carries a token."""
    return seq(_GRANTED_STATUS, token)


def rejection(failure: int, text: str) -> bytes:
    """Return a TimeStampResp, DER, that refuses (spec: RFC3161#2.4.2); ``failure`` is a bit number."""
    size = failure // 8 + 1
    value = bytearray(size)
    value[-1] = 0x80 >> failure % 8
    info = tlv(BIT_STRING, bytes((7 - failure % 8,)), bytes(value))
    return seq(seq(integer(2), seq(utf8(text)), info))


def parse_response(der: bytes) -> bytes:
    """Return the token, DER, of a TimeStampResp.

    Raises:
        TimestampRefusedError: another status than granted, no token, or no TimeStampResp at all.
    """
    try:
        status, *rest = children(parse(der, max_size=MAX_RESPONSE, tag=SEQUENCE), limit=2)
        code, detail = _status(status)
        token = expect(rest[0], SEQUENCE).whole if rest else None
    except ValueError as error:  # a `DerError`, or nothing there at all
        raise TimestampRefusedError(f"not a time-stamp response: {error}") from error
    if code not in _GRANTED:
        raise TimestampRefusedError(f"status {code}: {detail}" if detail else f"status {code}")
    if token is None:
        raise TimestampRefusedError("granted without a token")
    return token


def check_response(
    der: bytes, *, digest: bytes, nonce: int, policy: str | None = None, hash_name: str = "sha256"
) -> "Token":
    """Return the token of a response if it answers this request; its signature is not checked here.

    Status, nonce, imprint and its algorithm, and the policy where one was asked for.
    (spec: signing.md 4, TSA client)

    Raises:
        TimestampRefusedError: it does not.
    """
    try:
        token = read_token(parse_response(der))
    except DerError as error:
        raise TimestampRefusedError(f"not a token: {error}") from error
    info = token.info
    if info.nonce != nonce:
        raise TimestampRefusedError("the nonce is not the request's")
    if info.hash_name != hash_name or info.imprint != digest:
        raise TimestampRefusedError("the imprint is not the request's")
    if policy is not None and info.policy != policy:
        raise TimestampRefusedError(f"policy {info.policy} was not asked for")
    return token


def _status(node: Node) -> tuple[int, str]:
    if node.whole == _GRANTED_STATUS:
        return 0, ""
    cursor = Cursor(node, limit=3)
    code = to_int(cursor.take(INTEGER))
    texts, info = cursor.optional(SEQUENCE), cursor.optional(BIT_STRING)
    cursor.finish()
    words = [_FAILURES.get(bit, str(bit)) for bit in sorted(to_named_bits(info))] if info else []
    if texts is not None:
        words += [to_text(expect(text, UTF8_STRING))[:200] for text in children(texts, limit=16)]
    return code, "; ".join(words)


# --------------------------------------------------------------------------- reading tokens


class TstInfo(NamedTuple):  # as above
    """What a token says (spec: RFC3161#2.4.2)."""

    policy: str
    hash_name: str
    imprint: bytes
    serial: int
    gen_time: datetime
    nonce: int | None


class Token(NamedTuple):  # as above
    """A token, read but not verified."""

    der: bytes
    info: TstInfo
    signed: SignedData
    signer: SignerInfo


def read_token(der: bytes) -> Token:
    """Read a time-stamp token (DER ContentInfo); no signature is verified.

    What the signature does not cover (versions, the list of digest algorithms) must be as the clauses
    want it, so that no octet of a token can change unseen; most of that `parse_signed_data` demands.

    Raises:
        DerError: not strict DER, no TSTInfo, not exactly one signer, a weak or unknown hash, wrong
            versions, or a critical extension.
    """
    signed = parse_signed_data(der, max_size=MAX_TOKEN)
    content = signed.content
    if signed.content_type != ID_TST_INFO or content is None:
        raise DerError("not a time-stamp token")
    if len(signed.signers) != 1:
        raise DerError("a time-stamp token has exactly one signer")
    signer = signed.signers[0]
    listed = len(signed.digest_identifiers)
    if listed > MAX_DIGESTS or signed.unknown_digests or signed.other_crls:  # any SignedData may have these
        raise DerError("an unknown digest algorithm or revocation value is listed")
    try:
        return Token(der, _tst_info(parse(content, max_size=MAX_TOKEN, tag=SEQUENCE)), signed, signer)
    except UnknownAlgorithmError as error:
        raise DerError(str(error)) from error


def _tst_info(node: Node) -> TstInfo:
    members = children(node, limit=10, tag=SEQUENCE)
    if len(members) < 5:
        raise DerError("a mandatory member is missing")
    version, policy, imprint, serial, moment = members[:5]
    if to_int(version) != 1:
        raise DerError("TSTInfo version")
    if moment.tag != GENERALIZED_TIME:
        raise DerError("genTime")
    hash_name, digest = _imprint(imprint)
    nonce, place = None, -1
    for option in members[5:]:
        before, place = place, _TST_OPTIONS.get(option.tag, -1)
        if place <= before:
            raise DerError(f"unexpected member with tag 0x{option.tag:02x}")
        if option.tag == INTEGER:
            nonce = to_int(option, max_octets=64)
        elif option.tag == BOOLEAN:
            to_bool(option)
        elif option.tag == 0xA1:
            _refuse_critical(option)
    serial_number = to_int(serial, max_octets=SERIAL_OCTETS_MAX)
    return TstInfo(to_oid(policy), hash_name, digest, serial_number, to_time(moment), nonce)


def _imprint(node: Node) -> tuple[str, bytes]:
    members = children(node, limit=2, tag=SEQUENCE)
    if len(members) != 2:
        raise DerError("a mandatory member is missing")
    name, digest = digest_algorithm(members[0]), to_octets(members[1])
    if name in _WEAK:
        raise UnknownAlgorithmError(f"imprint with {name}")
    if len(digest) != _SIZES[name]:
        raise DerError("imprint has not the length of its hash")
    return name, digest


def _refuse_critical(extensions: Node) -> None:
    for extension in children(extensions, limit=32):
        members = children(extension, limit=3)
        if len(members) == 3 and to_bool(members[1]):
            raise DerError(f"critical extension {to_oid(members[0])}")


# --------------------------------------------------------------------------- emitting tokens


class TokenDraft(NamedTuple):  # as above
    """A token waiting for its signature over ``digest`` (SHA-256 of the signed attributes)."""

    digest: bytes
    attributes: CmsDraft
    content: bytes


class TokenIssuer:
    """Formats tokens of one authority; holds no key. Constants are made here, once.

    Args:
        certificate: the authority's certificate, DER.
        chain: intermediates to embed, DER.
        policy: the TSA policy, dotted.
    """

    __slots__ = ("_cms", "_head", "policy")

    def __init__(self, certificate: bytes, chain: Sequence[bytes], policy: str) -> None:
        self._cms = CmsSigner(certificate, chain, content_type=ID_TST_INFO)
        self._head = _VERSION_1 + oid(policy)
        self.policy = policy

    def to_be_signed(self, request: TimestampRequest, gen_time: datetime, serial: int) -> TokenDraft:
        """Return the draft of a token: genTime in whole seconds, accuracy one second.

        Args:
            request: what `read_request` gave; its imprint is repeated octet by octet.
            gen_time: aware time; a fraction is cut off.
            serial: unique within the authority, 64 bits or more.
        """
        nonce = integer(request.nonce) if request.nonce is not None else b""
        moment = generalized_time(gen_time)
        content = seq(self._head, request.imprint_der, integer(serial), moment, _ACCURACY, nonce)
        draft = self._cms.to_be_signed(sha256(content).digest(), None)
        return TokenDraft(draft.digest, draft, content)

    def assemble(self, draft: TokenDraft, signature: bytes, *, certificates: bool = True) -> bytes:
        """Return the token, DER ContentInfo.

        Args:
            draft: what `to_be_signed` gave.
            signature: over ``draft.digest``; ECDSA as DER SEQUENCE, RSA raw.
            certificates: False leaves them out, for requests without certReq (spec: RFC3161#2.4.1).
        """
        token = self._cms.assemble(draft.attributes, signature, content=draft.content)
        return token if certificates else _without_certificates(token)


def _without_certificates(token: bytes) -> bytes:
    kind, explicit_data = children(parse(token, max_size=MAX_TOKEN))
    members = children(inside(explicit_data, SEQUENCE))
    return seq(kind.whole, explicit(0, seq(*(node.whole for node in members if node.tag != 0xA0))))
