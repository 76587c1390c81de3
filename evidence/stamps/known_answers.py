"""Answers like one that was verified in full: the same octets, but for those that differ in every answer.

An authority answers with the same octets over and over. Seven places differ: the imprint, the serial number,
genTime, the nonce, the digest of all that, the claimed time of signing where there is one, and the signature
value. `KnownAnswers.learn` is shown an answer with a token that passed `verify_token`; its octets outside
these places are remembered, cut as they lie. `KnownAnswers.token` compares an answer with them:

- Where all of them are equal, tags and lengths are too, and no place holds anything but the octets of one
  primitive value. So `parse_response` and `read_token` would find the same as they did then, and what is
  said about these octets holds: status, policy, versions, algorithms, attributes and their order, the
  certificate, how it is named and what it is for (steps 1, 2.1, 2.3, 4 and, for its own path, 9).
- What stands in the places is checked anew: imprint and nonce are the request's, serial number and times are
  well formed, the message digest is that of the content (2.2), the signature holds (2.4).
- What depends on time is asked anew: the path at genTime, which also says that the certificate was valid
  then (5, 8), the algorithms (6), the certificate's lifetime (7).

Whatever does not fit is None here, and the general way says what is wrong: nothing is refused in this module.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import new as new_hash
from operator import itemgetter
from struct import Struct
from typing import Final, NamedTuple

from evidence.asn1.der import (
    GENERALIZED_TIME,
    INTEGER,
    SET,
    DerError,
    Node,
    children,
    integer,
    parse,
    tlv,
    to_int,
    to_time,
)
from evidence.cms.signed_data import MESSAGE_DIGEST, SIGNING_TIME
from evidence.stamps.messages import MAX_TOKEN, SERIAL_OCTETS_MAX, Token
from evidence.stamps.timestamps import FUTURE_TOLERANCE, TokenReport
from evidence.x509.algorithms import DEFAULT_ALGORITHMS, SignatureAlgorithm, verify_signature
from evidence.x509.chain import Chain, TrustStore

ANSWER_MAX: Final = 8 * 1024
"""Longer answers go the general way: what is remembered has a bound."""
_LENGTHS_MAX: Final = 32
_ALIKE_MAX: Final = 8
"""Forms of one length: serial number, nonce and signature are an octet longer now and then."""
_INTEGER_HEAD: Final = 2


class GoodToken(NamedTuple):  # a tuple: frozen dataclasses are slow to make
    """A verified token: DER ContentInfo, its time, and the path of its certificate at that time."""

    der: bytes
    gen_time: datetime
    chain: Chain


class _Places(NamedTuple):
    """What stands in the places of an answer; ``signing_time`` is empty where there is none."""

    imprint: bytes
    serial: bytes
    gen_time: bytes
    nonce: bytes
    digest: bytes
    signature: bytes
    signing_time: bytes = b""


@dataclass(frozen=True, slots=True)
class _Form:
    """One answer with its places left open; offsets count from the begin of the answer."""

    cut: Struct
    between: tuple[bytes, ...]
    order: Callable[[Sequence[bytes]], tuple[bytes, ...]]
    token: int
    content: slice
    attributes: slice
    attributes_head: bytes
    hash_name: str
    signing_time_tag: int
    digest_name: str
    algorithm: SignatureAlgorithm
    chain: Chain

    def places(self, answer: bytes) -> _Places | None:
        """Return what stands in the places, None where anything else is not as it was."""
        parts = self.cut.unpack(answer)
        if parts[::2] != self.between:
            return None
        return _Places(*self.order(parts))

    def proven(self, answer: bytes, places: _Places) -> bool:
        """Say whether digest and signature of an answer hold."""
        if new_hash(self.digest_name, answer[self.content]).digest() != places.digest:
            return False
        data = self.attributes_head + answer[self.attributes]
        key = self.chain.leaf.public_key
        return verify_signature(key, self.algorithm, self.digest_name, places.signature, data)


class KnownAnswers:
    """The forms in which one authority answers requests for one policy.

    Args:
        trust: anchors of the authorities.
    """

    def __init__(self, trust: TrustStore) -> None:
        self._trust = trust
        self._forms: dict[int, deque[_Form]] = {}

    @property
    def size(self) -> int:
        """Return how many forms are remembered."""
        return sum(map(len, self._forms.values()))

    def token(
        self, answer: bytes, *, digest: bytes, nonce: int, hash_name: str, at: datetime
    ) -> GoodToken | None:
        """Return the token of an answer, verified as by `verify_token`; None where that is to be asked.

        Args:
            answer: untrusted bytes, DER TimeStampResp.
            digest: what was to be stamped.
            nonce: of the request.
            hash_name: hashlib's name of the digest's hash.
            at: the time of validation.
        """
        for form in self._forms.get(len(answer), ()):
            places = form.places(answer)
            if places is None:
                continue
            if form.hash_name != hash_name or places.imprint != digest:
                return None
            if places.nonce != integer(nonce)[_INTEGER_HEAD:]:
                return None
            gen_time = _moment(form, places)
            if gen_time is None or not self._counts(form, gen_time, at) or not form.proven(answer, places):
                return None
            return GoodToken(answer[form.token :], gen_time, form.chain)
        return None

    def learn(self, answer: bytes, verified: TokenReport) -> None:
        """Remember the form of an answer whose token was verified in full and has passed."""
        token, chain = verified.token, verified.chain
        if token is None or chain is None or not verified.passed or len(answer) > ANSWER_MAX:
            return
        path = {facts.der for facts in chain.certificates}
        if not path.issuperset(token.signed.certificates):
            return  # step 9 is about others too
        form = _form(answer, token, chain)
        if form is None:
            return
        if len(answer) not in self._forms and len(self._forms) >= _LENGTHS_MAX:
            self._forms.clear()
        self._forms.setdefault(len(answer), deque(maxlen=_ALIKE_MAX)).appendleft(form)

    def _counts(self, form: _Form, gen_time: datetime, at: datetime) -> bool:
        """Say whether path, algorithms and lifetime hold at these times, as they did then."""
        return (
            self._trust.known_path(form.chain.leaf, gen_time) is form.chain
            and not DEFAULT_ALGORITHMS.ended(gen_time)
            and gen_time <= at + FUTURE_TOLERANCE
            and at <= form.chain.leaf.not_after
        )


def _moment(form: _Form, places: _Places) -> datetime | None:
    """Return genTime, None where one of the values is not well formed."""
    try:
        to_int(_value(INTEGER, places.serial), max_octets=SERIAL_OCTETS_MAX)
        if form.signing_time_tag:
            to_time(_value(form.signing_time_tag, places.signing_time))
        return to_time(_value(GENERALIZED_TIME, places.gen_time))
    except DerError:
        return None


def _value(tag: int, content: bytes) -> Node:
    return Node(content, tag, 0, 0, len(content))


# --------------------------------------------------------------------------- making forms


def _form(answer: bytes, token: Token, chain: Chain) -> _Form | None:
    """Return the form of an answer; None where it has no nonce or an algorithm without a name."""
    signer, signed = token.signer, token.signed
    if signer.algorithm is None or signer.digest_name is None or signed.content_span is None:
        return None
    start = len(answer) - len(token.der)  # an answer ends with its token
    content = slice(start + signed.content_span[0], start + signed.content_span[1])
    places = [_moved(node, content.start) for node in _info_places(signed.content or b"")]
    places.append(_moved(signer.signed_attribute(MESSAGE_DIGEST), start))
    end = start + signer.fields.end
    places.append((end - len(signer.signature), end))
    times = [one.values[0] for one in signer.attributes if one.oid == SIGNING_TIME]
    places += [_moved(node, start) for node in times]
    if len(places) != len(_Places._fields) - (not times):
        return None
    covered = signer.attributes[0].node.start, signer.attributes[-1].node.end
    inside = sorted(places)
    return _Form(
        cut=(cut := Struct("".join(_sizes(inside, len(answer))))),
        between=cut.unpack(answer)[::2],
        order=_picking([2 * inside.index(place) + 1 for place in places]),
        token=start,
        content=content,
        attributes=slice(start + covered[0], start + covered[1]),
        attributes_head=tlv(SET, signer.attributes_der)[: covered[0] - covered[1]],
        hash_name=token.info.hash_name,
        signing_time_tag=times[0].tag if times else 0,
        digest_name=signer.digest_name,
        algorithm=signer.algorithm,
        chain=chain,
    )


def _info_places(content: bytes) -> list[Node]:
    """Return imprint, serial number, genTime and nonce of a TSTInfo; the nonce may be absent."""
    members = children(parse(content, max_size=MAX_TOKEN))
    nonce = [member for member in members[5:] if member.tag == INTEGER]
    return [children(members[2])[1], members[3], members[4], *nonce]


def _moved(node: Node, by: int) -> tuple[int, int]:
    return node.body + by, node.end + by


def _sizes(places: list[tuple[int, int]], length: int) -> Iterator[str]:
    """Yield what `Struct` takes to cut an answer before and behind each place."""
    at = 0
    for start, end in (*places, (length, length)):
        yield f"{start - at}s"
        if start < length:
            yield f"{end - start}s"
        at = end


def _picking(indices: Sequence[int]) -> Callable[[Sequence[bytes]], tuple[bytes, ...]]:
    return itemgetter(*indices)
