"""Where time-stamping authorities are, and how each wants to know who asks.

Kamu SM (and other servers of the ESYA family) answer plain RFC 3161 requests only from known customers, who
prove themselves by an HTTP header made new for each request. No specification is public. What stands here is
what three independent public clients send and what signing.md 4 says; **[unconfirmed]** against the
service itself, so every choice is named and made here alone:

1. ``identity: `` lower-case hexadecimal of the DER of ``SEQUENCE { userid INTEGER, salt OCTET STRING (16),
   iterations INTEGER (100), iv OCTET STRING (16), OCTET STRING encrypted }``.
2. key = PBKDF2-HMAC-SHA256 over the password in UTF-8, with the salt, 100 rounds, 32 octets.
3. encrypted = AES-256-CBC with PKCS #7 padding over the **hashedMessage octets** of the request's
   messageImprint (32 for SHA-256), not over the DER of messageImprint.
4. iv = salt, as the official client does; others send two different values and are answered too.
5. refusals come as HTTP 200 with an answer that holds no SignedData (`refusal_text`).

100 rounds guard a weak password badly: the header lets whoever sees it try passwords at leisure. Plain HTTP
is nevertheless what these services offer; take a long random password, and HTTPS where there is one.
"""

import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import pbkdf2_hmac
from ipaddress import ip_address
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from yarl import URL

from evidence.asn1.der import integer, octets, seq

SALT_OCTETS: Final = 16
ROUNDS: Final = 100
_KEY_OCTETS: Final = 32
_ROUNDS_DER: Final = integer(ROUNDS)
_SIGNED_DATA: Final = bytes.fromhex("06092a864886f70d010702")
_TEXT_TAGS: Final = frozenset({0x0C, 0x13, 0x14, 0x16, 0x1A})  # UTF8, Printable, T61, IA5, VisibleString
_TEXT_SHOWN: Final = 200
_TEXT_LOOKED_AT: Final = 4096
_NOT_SHOWN: Final = re.compile(r"[^ -~À-ž]+")


class TsaAuth(StrEnum):
    """How an authority wants to know who asks."""

    NONE = "none"
    KAMUSM = "kamusm"
    BASIC = "basic"


@dataclass(frozen=True, slots=True)
class TsaEndpoint:
    """One time-stamping authority.

    Attributes:
        url: its address; https is checked as every browser does.
        user: customer number (kamusm: a whole number) or user name (basic).
        password: never shown, never logged.
        auth: ``none``, ``kamusm`` or ``basic``.
        credits: tokens ever bought there, see `evidence.stamps.token_budget`; None counts without a limit.
        policy: TSA policy to ask for and to insist on, dotted; None takes any.

    Raises:
        ValueError: address or credentials cannot be meant so; the text names no secret.
    """

    url: str
    user: int | str | None = None
    password: str | None = field(default=None, repr=False)
    auth: str = TsaAuth.NONE
    credits: int | None = None
    policy: str | None = None

    def __post_init__(self) -> None:
        url = _address(self.url)
        if self.credits is not None and self.credits < 0:
            raise ValueError("credits: not a number of tokens")
        try:
            auth = TsaAuth(self.auth)
        except ValueError:
            raise ValueError(f"auth: not one of {', '.join(TsaAuth)}") from None
        if auth is TsaAuth.NONE:
            return
        if self.user is None or not self.password:
            raise ValueError(f"{auth} needs user and password")
        if auth is TsaAuth.KAMUSM:
            customer_number(self.user)
        elif ":" in str(self.user):
            raise ValueError("user: no colon may stand in it (RFC 7617)")
        elif url.scheme != "https" and not _is_loopback(url):
            raise ValueError(
                "basic authentication needs https: it shows the password to everybody on the way"
            )

    def headers(self, imprint: bytes, salt: bytes) -> dict[str, str]:
        """Return the HTTP headers that say who asks.

        Args:
            imprint: the hash in the request, its octets.
            salt: 16 random octets, new for each request.
        """
        if self.auth == TsaAuth.NONE or self.user is None or self.password is None:
            return {}
        if self.auth == TsaAuth.BASIC:
            pair = f"{self.user}:{self.password}".encode()
            return {"Authorization": f"Basic {b64encode(pair).decode()}"}
        return {"identity": identity(customer_number(self.user), self.password, imprint, salt)}


def identity(customer: int, password: str, imprint: bytes, salt: bytes) -> str:
    """Return the value of Kamu SM's ``identity`` header (module docstring, 1 to 4).

    Args:
        customer: customer number.
        password: as given by the authority.
        imprint: octets of the hash that is to be stamped.
        salt: 16 random octets; IV too.

    Raises:
        ValueError: the salt has another length.
    """
    if len(salt) != SALT_OCTETS:
        raise ValueError(f"salt must be of {SALT_OCTETS} octets")
    key = pbkdf2_hmac("sha256", password.encode(), salt, ROUNDS, _KEY_OCTETS)
    padder = PKCS7(algorithms.AES.block_size).padder()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(salt)).encryptor()
    encrypted = encryptor.update(padder.update(imprint) + padder.finalize()) + encryptor.finalize()
    return seq(integer(customer), octets(salt), _ROUNDS_DER, octets(salt), octets(encrypted)).hex()


def customer_number(user: int | str) -> int:
    """Return a customer number.

    Raises:
        ValueError: not a positive whole number of 18 digits at most.
    """
    text = str(user)
    if not text.isascii() or not text.isdigit() or len(text) > 18 or not int(text):
        raise ValueError("user: kamusm wants the customer number, a positive whole number")
    return int(text)


def refusal_text(answer: bytes) -> str | None:
    """Return what an answer without SignedData says in words; None for one with SignedData.

    Whatever it says is shown to administrators only, cut and with all but letters and signs left out. It
    decides nothing: such an answer is refused either way.
    """
    if _SIGNED_DATA in answer:
        return None
    words = list(_texts(answer[:_TEXT_LOOKED_AT]))
    if not words and answer and not answer.startswith(b"\x30"):
        words = [answer[: 4 * _TEXT_SHOWN].decode("utf-8", "replace")]
    return shown("; ".join(words)) or "no words of why"


def shown(text: str) -> str:
    """Return foreign text fit for a line of a log."""
    return " ".join(_NOT_SHOWN.sub(" ", text).split())[:_TEXT_SHOWN]


def _texts(answer: bytes) -> Iterator[str]:
    """Yield the strings of a DER value; of anything that breaks its rules, what stands before."""
    if not answer.startswith(b"\x30"):
        return
    at = 0
    while at + 2 <= len(answer):
        tag, size = answer[at], answer[at + 1]
        at += 2
        if size & 0x80:
            more = size & 0x7F
            size = int.from_bytes(answer[at : at + more], "big") if 0 < more <= 4 else len(answer)
            at += more
        if tag & 0x20:  # constructed: what it holds comes next
            continue
        if tag in _TEXT_TAGS:
            yield answer[at : at + size].decode("utf-8", "replace")
        at += size


def _address(text: str) -> URL:
    try:
        url = URL(text)
    except (ValueError, TypeError):
        raise ValueError("url: cannot be read") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("url: neither http nor https")
    if url.user is not None or url.password is not None:
        raise ValueError("url: credentials stand in user and password, not in the address")
    return url


def _is_loopback(url: URL) -> bool:
    host = url.host or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
