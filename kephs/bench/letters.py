"""Signed letters in any number, each another one: what a holder's mail program would submit."""

import secrets
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import format_datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from evidence.cms.signed_data import CmsSigner
from evidence.mail.smime_sign import assemble, base64_lines, to_be_signed
from kephs.testpki.authority import TestPki
from kephs.testpki.issued import Issued
from kephs.testpki.keys import sign_digest

LETTER_BYTES: Final = 10_000
_LINE: Final = 57  # octets that make one base64 line of 76 characters
_PIECE_LINES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody with an account and a qualified TEST certificate."""

    address: str
    password: str
    issued: Issued
    name: str = ""
    tckn: str = ""


class Letters:
    """Writes letters of one holder."""

    def __init__(self, holder: Holder, clock: Callable[[], datetime]) -> None:
        self._holder, self._clock = holder, clock
        self._signer = CmsSigner(holder.issued.certificate, holder.issued.chain)

    def write(self, to: str, size: int = LETTER_BYTES) -> bytes:
        """Return a signed letter of about ``size`` octets, signature included; text nobody wrote before."""
        return self.write_many(to, 1, size)[0]

    def write_many(self, to: str, count: int, size: int = LETTER_BYTES) -> list[bytes]:
        """Return several letters of about the same size."""
        at = self._clock()
        frame = len(self._finish(self._head(to, at) + b"\r\n", at))
        room = max(0, size - frame) * 57 // 78
        return [
            self._finish(self._head(to, at) + b"\r\n" + base64_lines(secrets.token_bytes(room)) + b"\r\n", at)
            for _ in range(count)
        ]

    def _head(self, to: str, at: datetime) -> bytes:
        return (
            f"From: {self._holder.address}\r\nTo: {to}\r\nSubject: TEST {secrets.token_hex(4)}\r\n"
            f"Date: {format_datetime(at)}\r\nMessage-ID: <{secrets.token_hex(16)}@bench.test>\r\n"
            "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
            "Content-Transfer-Encoding: 8bit\r\n"
        ).encode("ascii")

    def _finish(self, unsigned: bytes, at: datetime) -> bytes:
        draft = to_be_signed(unsigned, self._signer, at, boundary=f"b{secrets.token_hex(12)}")
        return assemble(draft, self._signer, sign_digest(self._holder.issued.key, draft.digest))


class Strangers:
    """Writes letters of one holder, each under a certificate of its own, about which nothing is known."""

    def __init__(self, holder: Holder, clock: Callable[[], datetime], pki: TestPki) -> None:
        self._holder, self._clock, self._pki = holder, clock, pki

    def write_many(self, to: str, count: int) -> list[bytes]:
        """Return so many letters of the usual size."""
        return [Letters(self._stranger(), self._clock).write(to) for _ in range(count)]

    def _stranger(self) -> Holder:
        return replace(self._holder, issued=self._pki.issue_user(self._holder.name, self._holder.tckn))


@dataclass(frozen=True, slots=True)
class BigLetter:
    """A signed letter with a large attachment: its signed part lies in a file, its header is always new."""

    sender: str
    to: str
    boundary: str
    entity: Path
    signature: bytes
    decoded_bytes: int

    def head(self, at: datetime) -> bytes:
        """Return a header with a Message-ID of its own, up to the signed part."""
        return (
            f"From: {self.sender}\r\nTo: {self.to}\r\nSubject: TEST {secrets.token_hex(4)}\r\n"
            f"Date: {format_datetime(at)}\r\nMessage-ID: <{secrets.token_hex(16)}@bench.test>\r\n"
            'MIME-Version: 1.0\r\nContent-Type: multipart/signed; protocol="application/pkcs7-signature";\r\n'
            f' micalg=sha-256; boundary="{self.boundary}"\r\n\r\n--{self.boundary}\r\n'
        ).encode("ascii")

    def tail(self) -> bytes:
        """Return what follows the signed part."""
        mark = self.boundary.encode("ascii")
        return (
            b"\r\n--" + mark + b"\r\nContent-Type: application/pkcs7-signature; name=smime.p7s\r\n"
            b"Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment;"
            b" filename=smime.p7s\r\n\r\n"
            + base64_lines(self.signature)
            + b"\r\n--" + mark + b"--\r\n"
        )  # fmt: skip

    def size(self, head: bytes) -> int:
        """Return the octets of the whole message on the wire."""
        return len(head) + self.entity.stat().st_size + len(self.tail())


def write_big(holder: Holder, to: str, path: Path, decoded_bytes: int, at: datetime) -> BigLetter:
    """Write the signed part of a letter with so many random octets attached, and sign it."""
    signer = CmsSigner(holder.issued.certificate, holder.issued.chain)
    digest = sha256()
    with path.open("wb") as file:
        for piece in _entity(decoded_bytes):
            digest.update(piece)
            file.write(piece)
    draft = signer.to_be_signed(digest.digest(), at)
    signature = signer.assemble(draft, sign_digest(holder.issued.key, draft.digest))
    return BigLetter(holder.address, to, f"o{secrets.token_hex(12)}", path, signature, decoded_bytes)


def _entity(decoded_bytes: int) -> Iterator[bytes]:
    inner = f"i{secrets.token_hex(12)}"
    yield (
        f'Content-Type: multipart/mixed; boundary="{inner}"\r\n\r\n--{inner}\r\n'
        "Content-Type: text/plain; charset=utf-8\r\n\r\nTEST\r\n"
        f"--{inner}\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
        "Content-Disposition: attachment; filename=test.bin\r\n\r\n"
    ).encode("ascii")
    left = decoded_bytes
    while left:
        data = secrets.token_bytes(min(left, _LINE * _PIECE_LINES))
        left -= len(data)
        text = b64encode(data)
        yield b"".join(text[at : at + 76] + b"\r\n" for at in range(0, len(text), 76))
    yield f"--{inner}--\r\n".encode("ascii")
