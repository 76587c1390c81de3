"""``kephs verify --sender``: the report on a signature of a person, from files alone.

A message, the original inside a KEP message, or a bare CMS signature (``.p7s``, ``.p7m``, DER or PEM) with
its content inside or beside. Nothing is asked of the network.
"""

from dataclasses import dataclass
from typing import Final

from evidence.asn1.der import DerError
from evidence.cms.signed_data import parse_signed_data
from evidence.mail.kep_message import KepMessageError, is_kep_message, parse_kep_message
from evidence.mail.mime import MimeLimitError, Part, scan
from evidence.mail.smime import SmimeError, Variant, locate, read_signed
from evidence.nes.verifier import SenderReport
from evidence.ports import ByteSource
from evidence.report import Report, Step, SubIndication, Verdict
from evidence.report import conclude as conclude_report
from evidence.verify.at_hand import from_pem, is_der
from evidence.verify.holder_content import signed_variant
from evidence.verify.sender import LaterSetting, check_message, check_signature

SUBJECT: Final = "sender signature"
_HEAD: Final = 64
_PEM: Final = b"-----BEGIN "


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature as it was found: its DER, and what it signs (None: inside, or not to be found)."""

    der: bytes
    content: ByteSource | None


@dataclass(frozen=True, slots=True)
class SenderResult:
    """A report, and what others can be asked about: None where there is nothing to show them."""

    report: Report
    signed: Signed | None = None
    sender: SenderReport | None = None


@dataclass(frozen=True, slots=True)
class _Inner:
    """A range of another source."""

    source: ByteSource
    start: int
    size: int

    def read(self, start: int, length: int) -> bytes:
        """Return at most ``length`` bytes from ``start`` of the range."""
        return self.source.read(self.start + start, max(0, min(length, self.size - start)))


def sender_report(source: ByteSource, content: ByteSource | None, setting: LaterSetting) -> SenderResult:
    """Verify a person's signature.

    Where nothing at hand tells whether the certificates were revoked, the best verdict is INDETERMINATE
    (TRY_LATER): offline nobody can know.

    Args:
        source: a message, a KEP message or a bare signature; lines of a message end in CRLF.
        content: what a bare signature signs, where it does not stand inside.
        setting: what the check rests on.
    """
    try:
        der = _bare(source, setting.policy.limits.opaque)
        if der is not None:
            made = check_signature(der, content, setting)
            return SenderResult(made.report, Signed(der, content), made)
        if content is not None:
            return _failed(setting, "a message has its content inside: --content is for a bare signature")
        message, root = _message(source)
    except (MimeLimitError, KepMessageError, DerError) as error:
        return _failed(setting, str(error))
    made = check_message(message, root, setting)
    return SenderResult(made.report, _found(message, root, setting), made)


def content_inside(source: ByteSource, limit: int) -> bool | None:
    """Say whether a bare signature has its content inside; None where the source is no bare signature."""
    try:
        der = _bare(source, limit)
        return None if der is None else parse_signed_data(der, max_size=limit).content_span is not None
    except DerError:
        return None


def _bare(source: ByteSource, limit: int) -> bytes | None:
    """Return a bare signature, DER, None where the source is something else.

    Raises:
        DerError: too large, or PEM that is none.
    """
    head = source.read(0, _HEAD).removeprefix(b"\xef\xbb\xbf").lstrip()
    pem = head.startswith(_PEM)
    if not pem and not is_der(head):
        return None
    most = limit * 3 // 2 if pem else limit
    if source.size > most:
        raise DerError(f"the signature is larger than {limit} octets; detached signatures are small")
    whole = source.read(0, source.size)
    if not pem:
        return whole
    der = from_pem(whole)
    if der is None:
        raise DerError("not readable as PEM")
    return der


def _failed(setting: LaterSetting, detail: str) -> SenderResult:
    step = Step(
        "0", "format", ok=False, detail=detail,
        sub_indication=SubIndication.FORMAT_FAILURE, verdict=Verdict.FAILED, code="not-readable",
    )  # fmt: skip
    return SenderResult(conclude_report(SUBJECT, [step], setting.at))


def _message(source: ByteSource) -> tuple[ByteSource, Part]:
    root = scan(source)
    if not is_kep_message(root):
        return source, root
    original = parse_kep_message(source, root).original
    if original is None:
        raise KepMessageError("this KEP message carries no original, so no holder's signature")
    inner = _Inner(source, original.start, original.length)
    return inner, scan(inner)


def _found(message: ByteSource, root: Part, setting: LaterSetting) -> Signed | None:
    try:
        entity = locate(message, root, limits=setting.policy.limits)
        signed = read_signed(entity)
        if entity.content is None:
            return Signed(entity.der, None)
        if signed_variant(message, entity, signed) is not Variant.EXACT:
            return None  # others know exact octets only, and some producers sign other line ends
    except (SmimeError, DerError):
        return None
    return Signed(entity.der, _Inner(message, entity.content.start, entity.content.length))
