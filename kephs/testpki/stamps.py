"""The TEST time-stamping authority's messages, by templates with gaps.

One client's requests differ in digest and nonce alone, answers to them in imprint, serial number, time,
nonce and signature; every other octet follows from the sizes of these. So the general reader and the
general emitter (`evidence.stamps.messages`) work once for each combination of sizes; their messages are cut
at the gaps, and what lies between them is kept.
"""

from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Final, NamedTuple, TypeVar

from evidence.asn1.der import SET, generalized_time, integer, oid, tlv
from evidence.stamps.messages import TimestampRequest, TokenIssuer, granted, read_request
from kephs.testpki.issued import Issued
from kephs.testpki.keys import sign_digest

K = TypeVar("K")
V = TypeVar("V")

_KEPT_MAX: Final = 256
"""Templates of each kind: clients need some ten; more sizes only mean that the general way is gone again."""


# --------------------------------------------------------------------------- requests


class _Asked(NamedTuple):
    """A request with a nonce that was read before, where its gaps begin and end, and what surrounds them."""

    request: TimestampRequest
    imprint_at: int
    digest_at: int
    digest_end: int
    nonce_at: int
    nonce_end: int
    head: bytes
    between: bytes
    tail: bytes

    @classmethod
    def cut(cls, der: bytes, request: TimestampRequest) -> "_Asked | None":
        """Cut a request at its gaps; None where it has no nonce."""
        if request.nonce is None:
            return None
        nonce = integer(request.nonce)
        imprint_at = der.index(request.imprint_der)
        digest_end = imprint_at + len(request.imprint_der)
        digest_at = digest_end - len(request.imprint)
        policy = oid(request.policy) if request.policy is not None else b""
        nonce_end = digest_end + len(policy) + len(nonce)
        nonce_at = nonce_end - (len(nonce) - 2)  # sizes below 128 take one octet
        return cls(
            request, imprint_at, digest_at, digest_end, nonce_at, nonce_end,
            der[:digest_at], der[digest_end:nonce_at], der[nonce_end:],
        )  # fmt: skip

    def read(self, der: bytes) -> TimestampRequest | None:
        """Read a request of the same size; None unless it differs in digest and nonce alone."""
        around = der[: self.digest_at], der[self.digest_end : self.nonce_at], der[self.nonce_end :]
        if around != (self.head, self.between, self.tail):
            return None
        size = self.nonce_end - self.nonce_at
        nonce = int.from_bytes(der[self.nonce_at : self.nonce_end])
        if nonce.bit_length() // 8 + 1 != size:  # negative, or not in the fewest octets
            return None
        known = self.request
        return TimestampRequest(
            known.hash_name, der[self.digest_at : self.digest_end], der[self.imprint_at : self.digest_end],
            known.policy, nonce, known.certificates,
        )  # fmt: skip


class RequestReader:
    """Reads what `evidence.stamps.messages.read_request` reads, and refuses what that refuses."""

    def __init__(self) -> None:
        self._asked: dict[int, _Asked] = {}

    def read(self, der: bytes) -> TimestampRequest:
        """Read a TimeStampReq.

        Raises:
            TimestampRequestError: as the general reader.
        """
        asked = self._asked.get(len(der))
        known = asked.read(der) if asked is not None else None
        if known is not None:
            return known
        request = read_request(der)
        cut = _Asked.cut(der, request)
        if cut is not None:
            _keep(self._asked, len(der), cut)
        return request


# --------------------------------------------------------------------------- answers


class _Draft(NamedTuple):
    """What surrounds imprint, serial and time in a TSTInfo, and the digest of it in the signed attributes."""

    head: bytes
    accuracy: bytes
    attributes_head: bytes
    attributes_tail: bytes


class _Frame(NamedTuple):
    """What surrounds the TSTInfo, the digest of it and the signature in an answer, which ends with it."""

    head: bytes
    middle: bytes
    tail: bytes


class Stamper:
    """Stamps under one certificate and key.

    Args:
        tsa: certificate, key and chain of the authority.
        policy: the TSA policy, dotted.
    """

    def __init__(self, tsa: Issued, policy: str) -> None:
        self._key = tsa.key
        self._issuer = TokenIssuer(tsa.certificate, tsa.chain, policy)
        self._drafts: dict[tuple[int, int, int], _Draft] = {}
        self._frames: dict[tuple[int, int, bool], _Frame] = {}

    def stamp(self, request: TimestampRequest, gen_time: datetime, serial: int) -> bytes:
        """Return a TimeStampResp, DER, that grants a request.

        Args:
            request: as read; its imprint is repeated octet by octet.
            gen_time: aware time in whole seconds.
            serial: unique within the authority, 64 bits or more.
        """
        imprint, number = request.imprint_der, integer(serial)
        nonce = integer(request.nonce) if request.nonce is not None else b""
        sizes = len(imprint), len(number), len(nonce)
        draft = self._drafts.get(sizes)
        if draft is None:
            draft = _keep(self._drafts, sizes, self._cut_draft(request, gen_time, serial))
        content = b"".join((draft.head, imprint, number, _moment(gen_time), draft.accuracy, nonce))
        digest = sha256(content).digest()
        attributes = b"".join((draft.attributes_head, digest, draft.attributes_tail))
        signature = sign_digest(self._key, sha256(attributes).digest())
        shape = len(content), len(signature), request.certificates
        frame = self._frames.get(shape)
        if frame is None:
            frame = _keep(self._frames, shape, self._cut_frame(request, gen_time, serial, len(signature)))
        return b"".join((frame.head, content, frame.middle, digest, frame.tail, signature))

    def _cut_draft(self, request: TimestampRequest, gen_time: datetime, serial: int) -> _Draft:
        written = self._issuer.to_be_signed(request, gen_time, serial)
        nonce = integer(request.nonce) if request.nonce is not None else b""
        gap = request.imprint_der + integer(serial) + generalized_time(gen_time)
        head, _, tail = written.content.partition(gap)
        signed = tlv(SET, written.attributes.attributes)  # spec: RFC5652#5.4
        before, _, after = signed.partition(sha256(written.content).digest())
        return _Draft(head, tail.removesuffix(nonce), before, after)

    def _cut_frame(
        self, request: TimestampRequest, gen_time: datetime, serial: int, signature_size: int
    ) -> _Frame:
        written = self._issuer.to_be_signed(request, gen_time, serial)
        gap = bytes(signature_size)
        answer = granted(self._issuer.assemble(written, gap, certificates=request.certificates))
        head, _, rest = answer.removesuffix(gap).partition(written.content)
        middle, _, tail = rest.partition(sha256(written.content).digest())
        return _Frame(head, middle, tail)


def _keep(kept: dict[K, V], key: K, made: V) -> V:
    if len(kept) >= _KEPT_MAX:
        kept.clear()
    kept[key] = made
    return made


@lru_cache(maxsize=4)  # a pure memo: all stamps of one second carry the same
def _moment(gen_time: datetime) -> bytes:
    return generalized_time(gen_time)
