"""Building the message a holder submits: multipart/signed with a CAdES-B-B signature, chain embedded.

Two-phase like every emitter: `to_be_signed` gives the digest, any `Signer` signs it, `assemble` joins.
(spec: RFC8551#3.5.3, RFC1847#2.1)
"""

from binascii import b2a_base64
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

from evidence.cms.signed_data import CmsDraft, CmsSigner
from evidence.mail.mime import scan
from evidence.ports import BytesSource, Signer, Timestamper

_INSIDE: Final = b"content-"
_LINE_MAX: Final = 998  # spec: RFC5322#2.1.1
_BOUNDARY_ALPHABET: Final = frozenset(
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'()+_-./:=?"
)
_MESSAGE: Final = (
    b"%(header)b"
    b'Content-Type: multipart/signed; protocol="application/pkcs7-signature";\r\n'
    b' micalg=sha-256; boundary="%(mark)b"\r\n'
    b"\r\n"
    b"--%(mark)b\r\n"
    b"%(entity)b\r\n"
    b"--%(mark)b\r\n"
    b'Content-Type: application/pkcs7-signature; name="smime.p7s"\r\n'
    b"Content-Transfer-Encoding: base64\r\n"
    b'Content-Disposition: attachment; filename="smime.p7s"\r\n'
    b"\r\n"
    b"%(signature)b\r\n"
    b"--%(mark)b--\r\n"
)


class UnsignableError(ValueError):
    """The message cannot be signed as it stands; the text says why."""


@dataclass(frozen=True, slots=True)
class MessageDraft:
    """A message waiting for its signature; ``cms.digest`` is what the key signs."""

    header: bytes  # outer header fields with their final CRLF
    entity: bytes  # the exact bytes that are signed
    boundary: bytes
    cms: CmsDraft

    @property
    def digest(self) -> bytes:
        """Return the SHA-256 digest that the key signs."""
        return self.cms.digest


def canonical(message: bytes) -> bytes:
    """Return the message with every line ended by CRLF, whatever ended it before (spec: RFC8551#3.1.1)."""
    return message.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


def to_be_signed(unsigned: bytes, signer: CmsSigner, at: datetime, *, boundary: str) -> MessageDraft:
    """Prepare a message for signing.

    Content-* fields go inside the signed part; all others stay outside, where providers read them.

    Args:
        unsigned: an RFC 5322 message with any line ends.
        signer: formats the signature.
        at: the claimed signing time.
        boundary: random text; must not occur in the message.

    Raises:
        UnsignableError: no header, already signed, NUL, a line over 998 octets, or a boundary clash.
    """
    message = canonical(unsigned)
    header, blank, body = message.partition(b"\r\n\r\n")
    if not blank:
        header, body = message.removesuffix(b"\r\n"), b""
    outer, inner = _split_header(header)
    if not inner:
        inner = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
    if b"\0" in message or any(len(line) > _LINE_MAX for line in message.split(b"\r\n")):
        raise UnsignableError("NUL, or a line of more than 998 octets: encode it before signing")
    entity = inner + b"\r\n" + body
    mark = boundary.encode("ascii")
    _check_boundary(mark, entity)
    return MessageDraft(outer, entity, mark, signer.to_be_signed(sha256(entity).digest(), at))


def assemble(
    draft: MessageDraft, signer: CmsSigner, signature: bytes, *, timestamp_token: bytes | None = None
) -> bytes:
    """Return the signed message, CRLF line ends.

    Args:
        draft: what `to_be_signed` gave.
        signer: the one that made the draft.
        signature: over ``draft.digest``.
        timestamp_token: RFC 3161 token over the signature (CAdES-B-T).
    """
    cms = signer.assemble(draft.cms, signature, timestamp_token=timestamp_token)
    values = {
        b"mark": draft.boundary,
        b"header": draft.header,
        b"entity": draft.entity,
        b"signature": base64_lines(cms),
    }
    return _MESSAGE % values


async def sign_message(
    unsigned: bytes, signer: Signer, at: datetime, *, boundary: str, stamper: Timestamper | None = None
) -> bytes:
    """Return the message signed by a holder's key; with a stamper the signature carries a time stamp.

    Raises:
        UnsignableError: see `to_be_signed`.
        SignerUnavailableError: the key cannot be used now.
        TimestampUnavailableError: no authority gave a usable token.
    """
    cms = CmsSigner(signer.certificate, signer.chain)
    draft = to_be_signed(unsigned, cms, at, boundary=boundary)
    (signature,) = await signer.sign_many([draft.digest])
    return assemble(draft, cms, signature, timestamp_token=await _stamped(signature, stamper))


async def sign_content(
    digest: bytes,
    signer: Signer,
    at: datetime,
    *,
    content: bytes | None = None,
    stamper: Timestamper | None = None,
) -> bytes:
    """Return a CAdES signature over any octets as DER ContentInfo: what a ``.p7s`` file holds.

    Args:
        digest: SHA-256 of the content.
        signer: the holder's key.
        at: the claimed signing time.
        content: the octets themselves, to be embedded; None makes a detached signature.
        stamper: adds a time stamp over the signature.

    Raises:
        SignerUnavailableError: the key cannot be used now.
        TimestampUnavailableError: no authority gave a usable token.
    """
    cms = CmsSigner(signer.certificate, signer.chain)
    draft = cms.to_be_signed(digest, at)
    (signature,) = await signer.sign_many([draft.digest])
    token = await _stamped(signature, stamper)
    return cms.assemble(draft, signature, timestamp_token=token, content=content)


async def _stamped(signature: bytes, stamper: Timestamper | None) -> bytes | None:
    """Return a token over the signature value (spec: EN319122-1#5.3)."""
    return None if stamper is None else await stamper.stamp(sha256(signature).digest())


def base64_lines(data: bytes) -> bytes:
    """Return base64 in lines of 76 characters joined by CRLF, no final line end (spec: RFC2045#6.8)."""
    text = b2a_base64(data, newline=False)
    return b"\r\n".join(text[at : at + 76] for at in range(0, len(text), 76))


def _split_header(header: bytes) -> tuple[bytes, bytes]:
    """Return outer and inner fields; folded lines follow their field."""
    outer: list[bytes] = []
    inner: list[bytes] = []
    target: list[bytes] | None = None
    has_version = False
    for line in header.split(b"\r\n"):
        if line[:1] in {b" ", b"\t"}:
            if target is None:
                raise UnsignableError("the message begins with a folded line")
        elif b":" not in line:
            raise UnsignableError("the message has no readable header")
        else:
            name = line.partition(b":")[0].strip().lower()
            target = inner if name.startswith(_INSIDE) else outer
            has_version = has_version or name == b"mime-version"
            if name == b"content-type" and b"multipart/signed" in line.lower():
                raise UnsignableError("the message is signed already")
        target.append(line + b"\r\n")
    if not has_version:
        outer.append(b"MIME-Version: 1.0\r\n")
    return b"".join(outer), b"".join(inner)


def _check_boundary(mark: bytes, entity: bytes) -> None:
    """Refuse a boundary that occurs in the content, or clashes by prefix with an inner one."""
    if not 1 <= len(mark) <= 70 or not _BOUNDARY_ALPHABET.issuperset(mark):  # spec: RFC2046#5.1.1
        raise UnsignableError("unusable boundary")
    if b"--" + mark in entity:
        raise UnsignableError("the boundary occurs in the message")
    root = scan(BytesSource(entity))
    for part in root.walk():
        inner = (part.boundary or "").encode("utf-8", "surrogateescape")
        if inner and (mark.startswith(inner) or inner.startswith(mark)):
            raise UnsignableError("the boundary clashes with one inside the message")
