"""Handing KEP messages to peers: what is handed over, and what can come of it.

spec: KEP-MS-12, rem-formats §5, RFC 5321, RFC 3207.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from evidence.model.records import ReasonCode
from evidence.ports import ByteSource


@dataclass(frozen=True, slots=True)
class Letter:
    """One KEP message in its envelope. ``sender`` is empty for the null sender (receipts).

    ``content`` has CRLF lines and is sent byte for byte, dots stuffed. ``needs_8bit``: some octet is above
    127; ``needs_utf8``: some header field is. A peer without the extension cannot have it (rem-formats §9).
    """

    sender: str
    recipients: tuple[str, ...]
    content: ByteSource
    needs_8bit: bool = False
    needs_utf8: bool = False


class RelayTrouble(StrEnum):
    """Why a message was not handed over. Stable: it enters evidence 31, the queue's listing and metrics."""

    NO_CONNECTION = "no-connection"
    CONNECTION_LOST = "connection-lost"
    SILENT = "silent"  # no answer in time, or one that drips
    NO_STARTTLS = "no-starttls"
    TLS_FAILED = "tls-failed"
    WRONG_CERTIFICATE = "wrong-certificate"  # not the pinned one
    REFUSED_FOR_NOW = "refused-for-now"  # 4xx
    REFUSED = "refused"  # 5xx to the message
    PROTOCOL = "protocol"  # what came is no SMTP
    NEEDS_8BITMIME = "needs-8bitmime"
    NEEDS_SMTPUTF8 = "needs-smtputf8"
    TOO_BIG = "too-big-for-peer"
    UNKNOWN_PEER = "unknown-peer"  # no longer in the register
    HELD = "held"  # by our own operator, until the deadline
    REGISTER_STALE = "register-stale"  # the file of providers is out of date: hold
    NO_ANSWER = "no-answer"  # taken with 250, and neither 20 nor 21 came in time
    NO_DELIVERY_INFO = "no-delivery-info"  # 20 came, neither 40 nor 41 did


@dataclass(frozen=True, slots=True)
class TroubleFacts:
    """What one trouble means: is it final at once, and which reason stands in 31 or 41."""

    final: bool
    reason: ReasonCode
    english: str
    turkish: str


_T = TroubleFacts
_DOWN, _WHO, _BROKEN = (
    ReasonCode.R_REMMD_UNREACHABLE,
    ReasonCode.R_REMMD_NOT_IDENTIFIED,
    ReasonCode.R_REMMD_MALFUNCTION,
)
TROUBLES: Final[Mapping[RelayTrouble, TroubleFacts]] = MappingProxyType(
    {
        RelayTrouble.NO_CONNECTION: _T(
            final=False, reason=_DOWN,
            english="The recipient's provider could not be reached.",
            turkish="Alıcının KEPHS'sine bağlanılamadı.",
        ),
        RelayTrouble.CONNECTION_LOST: _T(
            final=False, reason=_DOWN,
            english="The connection to the recipient's provider broke off.",
            turkish="Alıcının KEPHS'siyle bağlantı koptu.",
        ),
        RelayTrouble.SILENT: _T(
            final=False, reason=_DOWN,
            english="The recipient's provider did not answer in time.",
            turkish="Alıcının KEPHS'si süresinde yanıt vermedi.",
        ),
        RelayTrouble.NO_STARTTLS: _T(
            final=False, reason=_WHO,
            english="The recipient's provider offers no encrypted connection.",
            turkish="Alıcının KEPHS'si şifreli bağlantı sunmuyor.",
        ),
        RelayTrouble.TLS_FAILED: _T(
            final=False, reason=_WHO,
            english="No encrypted connection to the recipient's provider came about.",
            turkish="Alıcının KEPHS'siyle şifreli bağlantı kurulamadı.",
        ),
        RelayTrouble.WRONG_CERTIFICATE: _T(
            final=False, reason=_WHO,
            english="The server that answered is not the registered server of the recipient's provider.",
            turkish="Yanıt veren sunucu, alıcının KEPHS'sinin kayıtlı sunucusu değil.",
        ),
        RelayTrouble.REFUSED_FOR_NOW: _T(
            final=False, reason=_BROKEN,
            english="The recipient's provider put the message off.",
            turkish="Alıcının KEPHS'si iletiyi şimdilik almadı.",
        ),
        RelayTrouble.REFUSED: _T(
            final=True, reason=_BROKEN,
            english="The recipient's provider refused the message without evidence.",
            turkish="Alıcının KEPHS'si iletiyi delil vermeden reddetti.",
        ),
        RelayTrouble.PROTOCOL: _T(
            final=False, reason=_BROKEN,
            english="The recipient's provider gave an answer that is no SMTP.",
            turkish="Alıcının KEPHS'sinin yanıtı SMTP'ye uymuyor.",
        ),
        RelayTrouble.NEEDS_8BITMIME: _T(
            final=True, reason=_BROKEN,
            english="The message needs 8BITMIME, which the recipient's provider does not offer.",
            turkish="İleti 8BITMIME gerektiriyor; alıcının KEPHS'si bunu sunmuyor.",
        ),
        RelayTrouble.NEEDS_SMTPUTF8: _T(
            final=True, reason=_BROKEN,
            english="The message needs SMTPUTF8, which the recipient's provider does not offer.",
            turkish="İleti SMTPUTF8 gerektiriyor; alıcının KEPHS'si bunu sunmuyor.",
        ),
        RelayTrouble.TOO_BIG: _T(
            final=True, reason=ReasonCode.POLICY_VIOLATION,
            english="The message is larger than the recipient's provider takes.",
            turkish="İleti, alıcının KEPHS'sinin kabul ettiğinden büyük.",
        ),
        RelayTrouble.UNKNOWN_PEER: _T(
            final=False, reason=_WHO,
            english="The recipient's provider is not in the register of providers any more.",
            turkish="Alıcının KEPHS'si artık sağlayıcı kaydında yok.",
        ),
        RelayTrouble.HELD: _T(
            final=True, reason=ReasonCode.TECHNICAL_MALFUNCTION,
            english="The sender's provider held the message back until its time had run out.",
            turkish="Göndericinin KEPHS'si iletiyi süresi dolana dek bekletti.",
        ),
        RelayTrouble.REGISTER_STALE: _T(
            final=False, reason=_WHO,
            english="The register of providers was out of date.",
            turkish="Sağlayıcı kaydı güncel değildi.",
        ),
        RelayTrouble.NO_ANSWER: _T(
            final=True, reason=ReasonCode.S_REMMD_RECEIVED_NO_DELIVERY_INFO,
            english="The recipient's provider took the message and gave no evidence of it in time.",
            turkish="Alıcının KEPHS'si iletiyi aldı, süresinde delil vermedi.",
        ),
        RelayTrouble.NO_DELIVERY_INFO: _T(
            final=True, reason=ReasonCode.S_REMMD_RECEIVED_NO_DELIVERY_INFO,
            english="The recipient's provider gave no evidence of delivery in time.",
            turkish="Alıcının KEPHS'si süresinde teslim delili vermedi.",
        ),
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Handed:
    """The peer said 250 to the content; ``reply`` is its text, printable, at most 512 characters."""

    reply: str


@dataclass(frozen=True, slots=True)
class NotHanded:
    """It was not handed over. ``detail`` is for logs and for the reason's text: no address, no content."""

    trouble: RelayTrouble
    detail: str = ""
