"""What people read at the top of a KEP message: Turkish first, then English, plain and HTML.

Every value comes from the message and is escaped; there is no link, image, style or script.
The word is "Delil", a state has one word (user expectations §1), and "Gönderildi" is never said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cache, lru_cache
from html import escape
from types import MappingProxyType
from typing import Final, NamedTuple

from evidence.mail.mime_write import one_line
from evidence.model.reasons import shown
from evidence.model.records import NAMES, EvidenceKind, EvidenceRecord

TURKEY: Final = timezone(timedelta(hours=3))  # Turkey keeps UTC+3 all year since 2016
RECIPIENTS_SHOWN: Final = 20
_ISSUERS_KEPT: Final = 64


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an evidence proves and what it does not, in both languages."""

    proves_tr: str
    not_tr: str
    proves_en: str
    not_en: str


MEANINGS: Final[Mapping[EvidenceKind, Meaning]] = MappingProxyType(
    {
        EvidenceKind.SUBMISSION_ACCEPTANCE: Meaning(
            "İletinin gönderici KEPHS tarafından bu zamanda kabul edildiğini ispatlar.",
            "İletinin alıcıya teslim edildiğini veya okunduğunu ispatlamaz.",
            "It proves that the sender's provider accepted the message at this time.",
            "It does not prove that the message was delivered or read.",
        ),
        EvidenceKind.SUBMISSION_REJECTION: Meaning(
            "İletinin gönderici KEPHS tarafından bu nedenle kabul edilmediğini ispatlar.",
            "İleti hiçbir alıcıya teslim edilmemiştir.",
            "It proves that the sender's provider did not accept the message, for the reason given.",
            "The message was delivered to nobody.",
        ),
        EvidenceKind.RELAY_ACCEPTANCE: Meaning(
            "İletinin alıcı KEPHS'ye bu zamanda teslim edildiğini ispatlar.",
            "İletinin alıcının posta kutusuna konulduğunu veya okunduğunu ispatlamaz.",
            "It proves that the recipient's provider took charge of the message at this time.",
            "It does not prove that the message reached the mailbox or was read.",
        ),
        EvidenceKind.RELAY_REJECTION: Meaning(
            "Alıcı KEPHS'nin iletiyi bu nedenle kabul etmediğini ispatlar.",
            "İleti bu alıcıya teslim edilmemiştir.",
            "It proves that the recipient's provider refused the message, for the reason given.",
            "The message was not delivered to this recipient.",
        ),
        EvidenceKind.RELAY_FAILURE: Meaning(
            "Alıcı KEPHS'ye süresi içinde ulaşılamadığını ispatlar.",
            "İletinin bu alıcıya teslim edildiğini ispatlamaz.",
            "It proves that the recipient's provider could not be reached in time.",
            "It does not prove delivery to this recipient.",
        ),
        EvidenceKind.DELIVERY: Meaning(
            "İletinin alıcının KEP hesabına bu zamanda teslim edildiğini ispatlar.",
            "Alıcının iletiyi okuduğunu ispatlamaz.",
            "It proves that the message was put into the recipient's mailbox at this time.",
            "It does not prove that the recipient read it.",
        ),
        EvidenceKind.NON_DELIVERY: Meaning(
            "İletinin bu alıcıya bu nedenle teslim edilemediğini ispatlar.",
            "Diğer alıcılar hakkında bir şey söylemez.",
            "It proves that the message was not delivered to this recipient, for the reason given.",
            "It says nothing about other recipients.",
        ),
        EvidenceKind.RETRIEVAL: Meaning(
            "İletinin alıcı hesabında bu zamanda ilk kez açıldığını ispatlar.",
            "İçeriğin anlaşıldığını veya onaylandığını ispatlamaz.",
            "It proves that the message was first opened in the recipient's account at this time.",
            "It does not prove that the content was understood or agreed to.",
        ),
        EvidenceKind.NON_RETRIEVAL: Meaning(
            "İletinin süresi içinde açılmadığını ispatlar.",
            "Teslimin geçerliliğini ortadan kaldırmaz.",
            "It proves that the message was not opened within the time allowed.",
            "It does not undo the delivery.",
        ),
        EvidenceKind.DOWNLOAD: Meaning(
            "İletinin alıcı tarafından bu zamanda indirildiğini ispatlar.",
            "İçeriğin anlaşıldığını veya onaylandığını ispatlamaz.",
            "It proves that the recipient downloaded the message at this time.",
            "It does not prove that the content was understood or agreed to.",
        ),
        EvidenceKind.NON_DOWNLOAD: Meaning(
            "İletinin süresi içinde indirilmediğini ispatlar.",
            "Bildirimin geçerliliğini ortadan kaldırmaz.",
            "It proves that the message was not downloaded within the time allowed.",
            "It does not undo the notification.",
        ),
        EvidenceKind.ACCEPTANCE_BY_RECIPIENT: Meaning(
            "Alıcının iletiyi almayı bu zamanda kabul ettiğini ispatlar.",
            "İçeriğin okunduğunu veya onaylandığını ispatlamaz.",
            "It proves that the recipient agreed at this time to receive the message.",
            "It does not prove that the content was read or agreed to.",
        ),
        EvidenceKind.REJECTION_BY_RECIPIENT: Meaning(
            "Alıcının iletiyi almayı bu zamanda reddettiğini ispatlar.",
            "İleti bu alıcıya teslim edilmemiştir.",
            "It proves that the recipient refused at this time to receive the message.",
            "The message was not delivered to this recipient.",
        ),
        EvidenceKind.RELAY_TO_NON_REM: Meaning(
            "İletinin KEP dışındaki bir e-posta sistemine bu zamanda aktarıldığını ispatlar.",
            "Alıcının posta kutusuna ulaştığını veya okunduğunu ispatlamaz.",
            "It proves that the message was passed to an ordinary e-mail system at this time.",
            "It does not prove that it reached the recipient's mailbox or was read.",
        ),
        EvidenceKind.RELAY_TO_NON_REM_FAILURE: Meaning(
            "İletinin KEP dışındaki e-posta sistemine bu nedenle aktarılamadığını ispatlar.",
            "Diğer alıcılar hakkında bir şey söylemez.",
            "It proves that the message could not be passed to ordinary e-mail, for the reason given.",
            "It says nothing about other recipients.",
        ),
        EvidenceKind.RECEIVED_FROM_NON_REM: Meaning(
            "İletinin KEP dışındaki bir e-posta sisteminden bu zamanda alındığını ispatlar.",
            "Göndericinin kimliğini ispatlamaz.",
            "It proves that the message came from an ordinary e-mail system at this time.",
            "It does not prove who sent it.",
        ),
        EvidenceKind.NOTIFICATION_FOR_ACCEPTANCE: Meaning(
            "Alıcıya, almayı kabul etmesi için bir iletinin beklediğinin bu zamanda bildirildiğini ispatlar.",
            "İletinin teslim edildiğini ispatlamaz.",
            "It proves that the recipient was told at this time of a message to accept or refuse.",
            "It does not prove delivery.",
        ),
        EvidenceKind.NOTIFICATION_FOR_ACCEPTANCE_FAILURE: Meaning(
            "Alıcıya bekleyen iletinin bu nedenle bildirilemediğini ispatlar.",
            "İletinin teslim edildiğini ispatlamaz.",
            "It proves that the recipient could not be told of the message, for the reason given.",
            "It does not prove delivery.",
        ),
        EvidenceKind.ACCEPTANCE_REJECTION_EXPIRY: Meaning(
            "Alıcının süresi içinde iletiyi kabul veya reddetmediğini ispatlar.",
            "İletinin teslim edildiğini ispatlamaz.",
            "It proves that the recipient neither accepted nor refused the message in time.",
            "It does not prove delivery.",
        ),
        EvidenceKind.CONSIGNMENT_NOTIFICATION: Meaning(
            "Alıcıya iletinin hesabında olduğunun bu zamanda bildirildiğini ispatlar.",
            "Alıcının bildirimi veya iletiyi okuduğunu ispatlamaz.",
            "It proves that the recipient was told at this time that the message is in the account.",
            "It does not prove that the notice or the message was read.",
        ),
        EvidenceKind.CONSIGNMENT_NOTIFICATION_FAILURE: Meaning(
            "Alıcıya iletinin hesabında olduğunun bu nedenle bildirilemediğini ispatlar.",
            "Teslimin geçerliliğini ortadan kaldırmaz.",
            "It proves that the recipient could not be told of the delivery, for the reason given.",
            "It does not undo the delivery.",
        ),
    }
)


class Text(NamedTuple):
    """One of the two texts: what is ours before and after the facts of this message, each of whole lines.

    So each of the three can be encoded by itself.
    """

    before: str
    facts: str
    after: str

    def __str__(self) -> str:
        """Return the text as people read it."""
        return "".join(self)


class Introduction(NamedTuple):
    """The same text twice: for ``text/plain`` and for ``text/html``."""

    plain: Text
    html: Text


def local_time(at: datetime) -> str:
    """Return a time as Turkish readers write it, with its offset."""
    return f"{at.astimezone(TURKEY):%d.%m.%Y %H:%M:%S} (UTC+03:00)"


def _recipients(record: EvidenceRecord) -> str:
    return _listed([party.address for party in record.recipients])


def _listed(addresses: Sequence[str]) -> str:
    hidden = len(addresses) - RECIPIENTS_SHOWN
    return ", ".join(addresses[:RECIPIENTS_SHOWN]) + (f" (+{hidden})" if hidden > 0 else "")


def _concerned(record: EvidenceRecord) -> str:
    numbers = record.covers or (() if record.refers_to is None else (record.refers_to,))
    if not numbers or not all(1 <= number <= len(record.recipients) for number in numbers):
        return _recipients(record)
    return _listed([record.recipients[number - 1].address for number in numbers])


def for_dispatch(record: EvidenceRecord) -> Introduction:
    """Introduce the KEP message that carries the original to a recipient."""
    facts = (
        ("Gönderici / Sender", _named(record.sender.address, record.sender.name)),
        ("Alıcılar / Recipients", _recipients(record)),
        ("Konu / Subject", record.message.subject),
        ("Kabul zamanı / Accepted", local_time(record.submission_time)),
        ("KEP ileti no / KEP message id", record.message.kep_message_id),
        ("Delil no / Evidence id", record.evidence_id),
    )
    return _render(_dispatch_frame(record.issuer.name), facts)


def for_receipt(record: EvidenceRecord) -> Introduction:
    """Introduce a message that carries one evidence to the sender."""
    frame = _receipt_frame(record.kind)
    facts = [
        ("Delil / Evidence", frame.evidence),
        ("Zaman / Time", local_time(record.event_time)),
        ("Alıcı / Recipient", _concerned(record)),
        ("Konu / Subject", record.message.subject),
        ("KEP ileti no / KEP message id", record.message.kep_message_id),
        ("Delil no / Evidence id", record.evidence_id),
    ]
    facts += [
        ("Neden / Reason", shown(reason) + (f": {reason.details}" if reason.details else ""))
        for reason in record.reasons
    ]
    if record.recipient_authentication is not None and record.recipient_authentication.person:
        facts.append(("Açan kişi / Opened by", record.recipient_authentication.person))
    return _render(frame, facts)


def _named(address: str, name: str | None) -> str:
    return f"{name} <{address}>" if name else address


class _Frame(NamedTuple):
    """What stands above and below the facts: our own sentences, the same for every message of a kind.

    ``evidence`` is what a receipt calls its evidence.
    """

    plain_above: str
    plain_below: str
    html_above: str
    html_below: str
    evidence: str = ""


def _render(frame: _Frame, facts: Sequence[tuple[str, str]]) -> Introduction:
    values = [value for _, value in facts]
    if not "".join(values).isprintable():  # seldom, and the pattern is slow
        values = [one_line(value) for value in values]
    plain = [f"{label}: {value}\n" for (label, _), value in zip(facts, values, strict=True)]
    escaped = escape("\n".join(values)).split("\n")
    rows = [f"<tr><th>{label}</th><td>{v}</td></tr>\n" for (label, _), v in zip(facts, escaped, strict=True)]
    return Introduction(
        Text(frame.plain_above, "".join(plain), frame.plain_below),
        Text(frame.html_above, "".join(rows), frame.html_below),
    )


@lru_cache(maxsize=_ISSUERS_KEPT)
def _dispatch_frame(issuer: str) -> _Frame:
    return _frame(
        "KEP iletisi / Registered e-mail",
        (
            "Bu ileti, kayıtlı elektronik posta (KEP) ile iletilmiştir.",
            'Göndericinin imzaladığı orijinal ileti ve "Kabul edildi" delili ektedir.',
            f"KEP iletisi {issuer} tarafından imzalanmış ve zaman damgası ile damgalanmıştır.",
        ),
        (
            "This is a registered e-mail (KEP).",
            'The original message as the sender signed it and its evidence "Accepted" are attached.',
            f"{issuer} signed and time-stamped this KEP message.",
        ),
    )


@cache
def _receipt_frame(kind: EvidenceKind) -> _Frame:
    names, meaning = NAMES[kind], MEANINGS[kind]
    number = "" if kind.kep_code is None else f"{kind.kep_code} "
    title = f"{names.turkish} / {names.english}"
    frame = _frame(
        title,
        (f"Ekteki delil: {names.turkish}. {meaning.proves_tr}", meaning.not_tr),
        (f"The evidence attached: {names.english}. {meaning.proves_en}", meaning.not_en),
    )
    return frame._replace(evidence=f"{number}{title}")


def _frame(title: str, turkish: Sequence[str], english: Sequence[str]) -> _Frame:
    head = escape(title)
    return _Frame(
        plain_above="\n".join([title, "", *turkish, "", ""]),
        plain_below="\n".join(["", *english, ""]),
        html_above=f'<!DOCTYPE html>\n<html lang="tr"><head><meta charset="UTF-8">'
        f"<title>{head}</title></head>\n"
        f"<body><h1>{head}</h1>\n{_paragraphs(turkish, 'tr')}<table>\n",
        html_below=f"</table>\n{_paragraphs(english, 'en')}</body></html>\n",
    )


def _paragraphs(lines: Sequence[str], language: str) -> str:
    return "".join(f'<p lang="{language}">{escape(line)}</p>\n' for line in lines)
