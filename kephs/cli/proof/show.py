"""``kephs show``: what happened to one message, for people: who, which provider, when, and what it proves."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from zoneinfo import ZoneInfo

import click

from config import settings
from config.settings import Settings
from evidence.model.records import NAMES, REASON_NAMES, EvidenceKind, Reason
from kephs.cli.beside import Beside, open_beside, shell_user
from kephs.cli.output import ExitError, guarded, instance_argument, json_option, print_json, run
from kephs.domain.erasure import ContentPart, Destroyed, RemovalCause
from kephs.domain.evidence_meaning import MEANINGS
from kephs.domain.lifecycle import DeliveryState, MessageState
from kephs.domain.refusal_codes import RefusalCode
from kephs.domain.refusals import TEXTS
from kephs.domain.relay import TROUBLES, RelayTrouble
from kephs.usecases.governance.note_process import MESSAGE_SHOWN, note_reading
from kephs.usecases.proof.timeline import (
    Awaited,
    MessageAmbiguousError,
    MessageUnknownError,
    RecipientTimeline,
    ShowTimeline,
    Stamp,
    Timeline,
    TimelineEvent,
)

ISTANBUL: Final = ZoneInfo("Europe/Istanbul")
WIDTH: Final = 100
Both = tuple[str, str]  # Turkish, English

_MESSAGE_STATES: Final[Mapping[MessageState, Both]] = MappingProxyType(
    {
        MessageState.RECEIVED: ("işleniyor", "being taken in"),
        MessageState.ACCEPTED: ("kabul edildi, sonuç bekleniyor", "accepted, outcomes awaited"),
        MessageState.REFUSED: ("kabul edilmedi", "refused"),
        MessageState.COMPLETED: ("her alıcı için sonuçlandı", "decided for every recipient"),
    }
)
_STATES: Final[Mapping[DeliveryState | None, Both]] = MappingProxyType(
    {
        DeliveryState.PENDING: ("henüz teslim edilmedi", "not delivered yet"),
        DeliveryState.RELAYED: ("alıcının KEPHS'sinde", "with the recipient's provider"),
        DeliveryState.DELIVERED: ("teslim edildi, okunmadı", "delivered, not read"),
        DeliveryState.READ: ("okundu", "read"),
        DeliveryState.FAILED: ("teslim edilemedi", "not delivered"),
        DeliveryState.REJECTED: ("KEPHS'si almadı", "refused by their provider"),
        DeliveryState.UNREACHED: ("KEPHS'sine ulaşılamadı", "their provider was not reached"),
        None: ("durumu burada bilinmiyor", "state not known here"),
    }
)
_MARKS: Final[Mapping[DeliveryState | None, str]] = MappingProxyType(
    {
        DeliveryState.PENDING: "…", DeliveryState.RELAYED: "…", DeliveryState.DELIVERED: "✓",
        DeliveryState.READ: "✓", DeliveryState.FAILED: "✗", DeliveryState.REJECTED: "✗",
        DeliveryState.UNREACHED: "✗", None: "·",
    }
)  # fmt: skip
_STAMPS: Final[Mapping[Stamp, Both]] = MappingProxyType(
    {
        Stamp.INSIDE: ("zaman damgası delilin içinde", "time stamp inside"),
        Stamp.BESIDE: ("zaman damgası yanında (.ers)", "time stamp beside it (.ers)"),
        Stamp.AWAITED: ("zaman damgası bekleniyor", "time stamp awaited"),
        Stamp.NONE: ("zaman damgası yok", "no time stamp"),
    }
)
_PARTS: Final[Mapping[ContentPart, Both]] = MappingProxyType(
    {
        ContentPart.ORIGINAL: ("orijinal ileti", "original message"),
        ContentPart.DISPATCH: ("KEP iletisi", "KEP message"),
    }
)
_CAUSES: Final[Mapping[RemovalCause | None, Both]] = MappingProxyType(
    {
        RemovalCause.OWNER: ("sahibinin silmesiyle", "as its owner deleted it"),
        RemovalCause.CLOSING: ("hesabın kapanmasıyla", "as the account was closed"),
        None: ("kimsede kalmadığı için", "as nobody had it any more"),
    }
)
_WORDS: Final[Mapping[str, Both]] = MappingProxyType(
    {
        "content": ("İçerik", "Content"),
        "content_gone": ("İçerik yok; deliller duruyor.", "The content is gone; the evidence stays."),
        "copy_kept": (
            "İçerik başka bir kutuda veya KEP iletisinde duruyor.",
            "The content is still in another mailbox or in the KEP message.",
        ),
        "subject": ("Konu", "Subject"),
        "sender": ("Gönderen", "From"),
        "submitted": ("Verildiği an", "Handed in"),
        "digest": ("SHA-256", "SHA-256"),
        "state": ("Durum", "State"),
        "proves": ("Kanıtlar", "Proves"),
        "does_not": ("Kanıtlamaz", "Does not prove"),
        "reason": ("Neden", "Reason"),
        "who": ("Açan", "Opened by"),
        "beside": (
            "Sonucu değiştirmeyen ek delil; ikisi de saklanır.",
            "Stands beside the evidence that decided; both are kept.",
        ),
        "awaited": ("Bekleniyor", "Awaited"),
        "until": ("en geç", "until"),
        "no_limit": ("süre sınırı yok", "no time limit"),
        "soon": ("hemen yapılır", "at once"),
        "then": ("gelmezse", "if none comes"),
        "held": ("işletmen durdurdu", "held by the operator"),
        "elsewhere": (
            "Bu alıcı başka bir KEPHS'nindir; delilleri göndericinin KEPHS'sindedir.",
            "Another provider's recipient; the evidence about them is with the sender's provider.",
        ),
        "relayed": ("Bu ileti bize aktarıldı", "Relayed to us by"),
        "times": ("Saatler Türkiye saatidir.", "Times are those of Türkiye."),
        "ledger": ("kayıt no", "ledger no."),
    }
)


@click.command()
@instance_argument
@click.argument("message")
@click.option(
    "--language", type=click.Choice(["tr", "en", "both"]), default="both", show_default=True,
    help="Turkish, English, or both.",
)  # fmt: skip
@click.option(
    "--account", metavar="ADDRESS", help="The sender's address, where several messages have one Message-ID."
)
@json_option
@guarded
def command(directory: Path, message: str, language: str, account: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Show what happened to MESSAGE (KEP id or Message-ID), recipient by recipient (zaman çizelgesi).

    Each line is an evidence: who made it, when, what it proves and what it does not; then what is still
    awaited, and until when. Signatures are not checked here: kephs bundle and kephs verify do that.
    """
    loaded = settings.load(directory)
    try:
        timeline = run(_timeline(loaded, directory, message, None if account is None else account.lower()))
    except MessageUnknownError:
        raise ExitError(
            "no-such-message", f"there is no message {message}",
            "give the id in the reply to the submission, or the Message-ID",
        ) from None  # fmt: skip
    except MessageAmbiguousError as error:
        raise ExitError(
            "ambiguous-message-id", f"several messages have this Message-ID: {error}",
            "name the message by its KEP id, or its sender by --account",
        ) from None  # fmt: skip
    if as_json:
        print_json(to_json(timeline))
        return
    for line in render(timeline, {"tr": (0,), "en": (1,), "both": (0, 1)}[language]):
        click.echo(line)


async def _timeline(loaded: Settings, directory: Path, message: str, account: str | None) -> Timeline:
    async with open_beside(loaded) as beside:
        work = ShowTimeline(beside.store, beside.blobs, beside.offload, beside.clock, loaded.provider.domain)
        try:
            shown = await work.show(message, account=account)
        except MessageUnknownError:
            shown = await _foreign(loaded, beside, directory, message)
        await note_reading(beside.store, beside.clock, MESSAGE_SHOWN, shown.message_id, shell_user())
        return shown


async def _foreign(loaded: Settings, beside: Beside, directory: Path, message: str) -> Timeline:
    """Return the timeline of a message of a provider that was taken over."""
    from kephs.cli.providers.foreign import foreign_timeline  # who took nobody over loads none of it

    found = await foreign_timeline(loaded, beside, directory, message)
    if found is None:
        raise MessageUnknownError(message)
    return found


# --------------------------------------------------------------------------- for people


def render(timeline: Timeline, languages: Sequence[int] = (0, 1)) -> Iterator[str]:
    """Yield the lines of a timeline, `WIDTH` columns at most.

    Args:
        timeline: what happened.
        languages: 0 for Turkish, 1 for English, in the order wanted.
    """
    say = _Speaker(languages)
    yield from _box(timeline, say)
    for event in timeline.events:
        yield from _event(event, say, "  ")
    for recipient in timeline.recipients:
        yield ""
        yield from _recipient(recipient, timeline, say)
    yield ""
    yield say.word("times")


class _Speaker:
    """Says things in the languages wanted."""

    def __init__(self, languages: Sequence[int]) -> None:
        self._languages = languages

    def both(self, texts: Both) -> str:
        return " / ".join(dict.fromkeys(texts[language] for language in self._languages))

    def word(self, key: str) -> str:
        return self.both(_WORDS[key])

    def each(self, key: str, texts: Both) -> Iterator[str]:
        """Yield one sentence per language, behind its label."""
        for language in self._languages:
            yield f"{_WORDS[key][language]}: {texts[language]}"


def _box(timeline: Timeline, say: _Speaker) -> Iterator[str]:
    yield f"┌─ {timeline.message_id} ".ljust(WIDTH - 1, "─")
    sender = _named(timeline.sender.name, timeline.sender.address)
    facts = [
        ("subject", timeline.subject or "-"),
        ("sender", f"{sender} ({timeline.sender_provider})"),
        ("submitted", _local(timeline.submitted_at)),
        ("digest", timeline.digest_sha256.hex()),
        ("state", say.both(_MESSAGE_STATES[timeline.state])),
    ]
    if timeline.origin is not None:
        facts.append(("relayed", timeline.origin))
    facts += [("content", say.both(_destroyed(one))) for one in timeline.destroyed]
    if timeline.destroyed:
        facts.append(("content", say.word("copy_kept" if timeline.content_kept else "content_gone")))
    width = max(len(say.word(key)) for key, _ in facts)
    for key, value in facts:
        yield from _wrapped(_clean(value), f"│ {say.word(key).ljust(width)}  ", f"│ {' ' * width}  ")
    yield "└".ljust(WIDTH - 1, "─")


def _destroyed(one: Destroyed) -> Both:
    """Say what was destroyed, when, and because of whom."""
    turkish, english = _CAUSES[one.cause]
    part_tr, part_en = _PARTS[one.part]
    number = f"{one.number}"
    return (
        f"{part_tr}: {_local(one.at)} itibarıyla {turkish} imha edildi (işlem kaydı {number})",
        f"{part_en}: destroyed on {_local(one.at)} {english} (process record {number})",
    )


def _recipient(one: RecipientTimeline, timeline: Timeline, say: _Speaker) -> Iterator[str]:
    head = f"{one.number}. {_named(one.name, one.address)} ({one.provider})"
    yield from _wrapped(_clean(head), "", "   ")
    refused = timeline.state is MessageState.REFUSED
    state = _MESSAGE_STATES[MessageState.REFUSED] if refused else _STATES[one.state]
    yield f"   {'✗' if refused else _MARKS[one.state]} {say.both(state)}"
    if one.state is None and not refused:
        yield from _wrapped(say.word("elsewhere"), "   ", "   ")
    for event in one.events:
        yield from _event(event, say, "   ", last=one.awaited is None and event is one.events[-1])
    if one.awaited is not None:
        yield from _awaited(one.awaited, say, "   ")


def _event(event: TimelineEvent, say: _Speaker, indent: str, *, last: bool = False) -> Iterator[str]:
    names = NAMES[event.kind]
    code = event.kind.kep_code
    title = f"{code}  {say.both((names.turkish, names.english))}" if code else say.both(
        (names.turkish, names.english)
    )  # fmt: skip
    knot, bar = f"{indent}{'└' if last else '├'}─ ", f"{indent}{' ' if last else '│'}  "
    yield from _wrapped(f"{_local(event.at)}  {title}", knot, bar)
    lines = [f"{event.issuer_name} ({event.issuer_domain})"]
    if event.person:
        lines.append(f"{say.word('who')}: {event.person}")
    lines += [f"{say.word('reason')}: {_reason(reason, say)}" for reason in event.reasons]
    lines += say.each("proves", MEANINGS[event.kind].proves)
    lines += say.each("does_not", MEANINGS[event.kind].does_not)
    if not event.standing:
        lines.append(say.word("beside"))
    number = f" · {say.word('ledger')} {event.ledger_number}" if event.ledger_number else ""
    lines.append(f"{event.evidence_id} · {say.both(_STAMPS[event.stamp])}{number}")
    for line in lines:
        yield from _wrapped(_clean(line), f"{bar}   ", f"{bar}     ")


def _awaited(awaited: Awaited, say: _Speaker, indent: str) -> Iterator[str]:
    kinds = ", ".join(
        f"{kind.kep_code} {say.both((NAMES[kind].turkish, NAMES[kind].english))}" for kind in awaited.kinds
    )
    text = f"{say.word('awaited')}: {kinds} ({awaited.provider})"
    yield from _wrapped(text, f"{indent}└─ ", f"{indent}   ")
    if awaited.until is not None:
        limit = f"{say.word('until')} {_local(awaited.until)}"
    elif EvidenceKind.DELIVERY in awaited.kinds and awaited.then is None:
        limit = say.word("soon")
    else:
        limit = say.word("no_limit")
    if awaited.then is not None:
        names = NAMES[awaited.then]
        limit += f"; {say.word('then')}: {awaited.then.kep_code} {say.both((names.turkish, names.english))}"
    yield from _wrapped(limit, f"{indent}      ", f"{indent}      ")
    if awaited.held:
        yield f"{indent}      {say.word('held')}"
    if awaited.trouble:
        yield from _wrapped(say.both(_trouble(awaited.trouble)), f"{indent}      ! ", f"{indent}        ")


def _reason(reason: Reason, say: _Speaker) -> str:
    """Say why; our own stable codes are known in both languages, others' words stand as they came."""
    code, _, _ = reason.details.partition(":")
    known = _known_reason(code.strip())
    named = REASON_NAMES[reason.code] if not reason.foreign else reason.foreign
    if known is not None:
        return f"{say.both(known)} [{named}, {code.strip()}]"
    return f"{reason.details} [{named}]" if reason.details else named


def _known_reason(code: str) -> Both | None:
    if code in set(RefusalCode):
        text = TEXTS[RefusalCode(code)]
        return text.turkish, text.english
    return _trouble(code) if code in set(RelayTrouble) else None


def _trouble(code: str) -> Both:
    try:
        facts = TROUBLES[RelayTrouble(code)]
    except ValueError:  # written by another version of this program
        return code, code
    return facts.turkish, facts.english


def _named(name: str | None, address: str) -> str:
    return f"{name} <{address}>" if name else address


def _local(at: datetime) -> str:
    return at.astimezone(ISTANBUL).strftime("%d.%m.%Y %H:%M:%S")


def _clean(text: str) -> str:
    """Return text without control characters: subjects and names come from outside."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def _wrapped(text: str, first: str, later: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=later, break_on_hyphens=False
    ) or [first.rstrip()]


# --------------------------------------------------------------------------- for programs


def to_json(timeline: Timeline) -> dict[str, Any]:
    """Return the timeline as plain data; keys are stable, times UTC."""
    return {
        "message_id": timeline.message_id,
        "user_message_id": timeline.user_message_id,
        "subject": timeline.subject,
        "sender": {"address": timeline.sender.address, "name": timeline.sender.name,
                   "provider": timeline.sender_provider},
        "submitted_at": _utc(timeline.submitted_at),
        "size": timeline.size,
        "digest_sha256": timeline.digest_sha256.hex(),
        "relayed_by": timeline.origin,
        "state": timeline.state.value,
        "content_kept": timeline.content_kept,
        "destroyed": [
            {
                "part": one.part.value,
                "at": _utc(one.at),
                "sha256": one.sha256.hex(),
                "cause": one.cause.value if one.cause is not None else None,
                "audit_number": one.number,
            }
            for one in timeline.destroyed
        ],
        "as_of": _utc(timeline.as_of),
        "evidence": [_event_json(event) for event in timeline.events],
        "recipients": [
            {
                "number": one.number,
                "address": one.address,
                "name": one.name,
                "provider": one.provider,
                "state": one.state.value if one.state is not None else None,
                "evidence": [_event_json(event) for event in one.events],
                "awaited": None if one.awaited is None else _awaited_json(one.awaited),
            }
            for one in timeline.recipients
        ],
    }  # fmt: skip


def _event_json(event: TimelineEvent) -> dict[str, Any]:
    names, meaning = NAMES[event.kind], MEANINGS[event.kind]
    return {
        "id": event.evidence_id,
        "code": event.kind.kep_code,
        "event": names.event,
        "at": _utc(event.at),
        "provider": event.issuer_domain,
        "provider_name": event.issuer_name,
        "ours": event.ours,
        "person": event.person,
        "reasons": [
            {"name": REASON_NAMES[reason.code], "details": reason.details} for reason in event.reasons
        ],
        "stamp": event.stamp.value,
        "ledger_number": event.ledger_number,
        "standing": event.standing,
        "name": _languages((names.turkish, names.english)),
        "proves": _languages(meaning.proves),
        "does_not_prove": _languages(meaning.does_not),
    }


def _awaited_json(awaited: Awaited) -> dict[str, Any]:
    return {
        "codes": [kind.kep_code for kind in awaited.kinds],
        "events": [NAMES[kind].event for kind in awaited.kinds],
        "provider": awaited.provider,
        "until": _utc(awaited.until) if awaited.until is not None else None,
        "then_code": awaited.then.kep_code if awaited.then is not None else None,
        "held": awaited.held,
        "trouble": awaited.trouble or None,
    }


def _languages(texts: Both) -> dict[str, str]:
    return {"tr": texts[0], "en": texts[1]}


def _utc(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
