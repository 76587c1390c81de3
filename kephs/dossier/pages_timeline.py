"""The timeline: what happened to the message as a whole, then recipient by recipient.

Where there are few events each says itself what it proves and what it does not; where there are many, a table
of meanings comes first and one table follows, recipient by recipient.
"""

from collections.abc import Iterator, Sequence
from typing import Final
from xml.etree.ElementTree import Element

from evidence.model.records import NAMES, REASON_NAMES, EvidenceKind, Reason
from kephs.domain.evidence_meaning import MEANINGS
from kephs.domain.lifecycle import MessageState
from kephs.domain.refusal_codes import RefusalCode
from kephs.domain.refusals import TEXTS
from kephs.domain.relay import TROUBLES, RelayTrouble
from kephs.dossier.display import shortened
from kephs.dossier.markup import Child, el
from kephs.dossier.texts import MESSAGE_STATES, STAMPS, STATES, Both, said
from kephs.dossier.writing import Writing, local, named
from kephs.usecases.proof.timeline import Awaited, RecipientTimeline, TimelineEvent

EVENTS_IN_FULL: Final = 30
"""Up to this many events each is told in full."""
_HEADING_MAX: Final = 160
_REASON_MAX: Final = 600


def timeline(w: Writing) -> Iterator[Element]:
    """Yield the timelines of one dossier."""
    line = w.facts.timeline
    if w.facts.events > EVENTS_IN_FULL:
        yield from _meanings(w)
        yield _all_in_one(w)
        return
    yield el("h3", w.word("whole"))
    yield el("p", said(MESSAGE_STATES[line.state], w.language), cls="state")
    yield from (_event(w, event) for event in line.events)
    for one in line.recipients:
        yield from _recipient(w, one)


def _recipient(w: Writing, one: RecipientTimeline) -> Iterator[Element]:
    refused = w.facts.timeline.state is MessageState.REFUSED
    state = MESSAGE_STATES[MessageState.REFUSED] if refused else STATES[one.state]
    yield el("h3", f"{one.number}. ", w.values.text(shortened(named(one.name, one.address), _HEADING_MAX)))
    yield el("p", w.values.text(one.provider), f": {said(state, w.language)}", cls="state")
    if one.state is None and not refused:
        yield el("p", w.word("elsewhere"))
    yield from (_event(w, event) for event in one.events)
    if one.awaited is not None:
        yield el("p", _awaited(w, one.awaited), cls="awaited")


def _all_in_one(w: Writing) -> Element:
    """Return one table of all that happened, for messages to many."""
    line = w.facts.timeline
    rows = [_row(w, "", w.word("whole"), event) for event in line.events]
    for one in line.recipients:
        number = f"{one.number}."
        rows += [_row(w, number, one.address, event) for event in one.events]
        if one.awaited is not None:
            rows.append((number, w.values.text(one.address), "", _awaited(w, one.awaited), "", ""))
    return w.table(
        (("", "c-no"), ("recipient", ""), ("time", "c-time"), ("evidence", ""), ("issuer", "c-provider"),
         ("ledger_no", "c-no")),
        rows,
    )  # fmt: skip


def _row(w: Writing, number: str, about: str, event: TimelineEvent) -> Sequence[Child]:
    return (
        number, w.values.text(about), local(event.at), el("span", *_title(w, event), *_asides(w, event)),
        w.values.text(event.issuer_domain), str(event.ledger_number or "-"),
    )  # fmt: skip


def _title(w: Writing, event: TimelineEvent) -> list[Child]:
    code = event.kind.kep_code
    name = _kind(w, event.kind)
    return [el("span", f"{code} {name}" if code else name, cls="kind")]


def _asides(w: Writing, event: TimelineEvent) -> Iterator[Child]:
    """Yield what a table's row adds to the evidence's name."""
    if event.person:
        yield ", "
        yield w.values.text(event.person)
    for reason in event.reasons:
        yield "; "
        yield w.values.text(_reason(w, reason))
    if not event.standing:
        yield f"; {w.word('beside')}"


def _event(w: Writing, event: TimelineEvent) -> Element:
    meaning = MEANINGS[event.kind]
    lines = [
        el("p", el("span", local(event.at), cls="when"), *_title(w, event)),
        el("p", f"{w.word('issuer')}: ", w.values.text(f"{event.issuer_name} ({event.issuer_domain})")),
    ]
    if event.person:
        lines.append(el("p", f"{w.word('who')}: ", w.values.text(event.person)))
    lines += [
        el("p", f"{w.word('reason')}: ", w.values.text(_reason(w, reason), most=_REASON_MAX))
        for reason in event.reasons
    ]
    lines += _meaning(w, meaning.proves, meaning.does_not)
    if not event.standing:
        lines.append(el("p", w.word("beside")))
    number = f" · {w.word('ledger_no')}: {event.ledger_number}" if event.ledger_number else ""
    stamp = f" · {w.word('stamp')}: {said(STAMPS[event.stamp], w.language)}"
    lines.append(
        el(
            "p", f"{w.word('evidence_no')}: ", w.values.mono(event.evidence_id), f"{number}{stamp}",
            cls="small",
        )
    )  # fmt: skip
    kinds = f"event{'' if event.standing else ' beside'}{' negative' if NAMES[event.kind].negative else ''}"
    return el("div", *lines, cls=kinds)


def _meaning(w: Writing, proves: Both, does_not: Both) -> list[Element]:
    return [
        el("p", el("span", f"{w.word(key)}: ", cls="label"), said(text, w.language))
        for key, text in (("proves", proves), ("does_not", does_not))
    ]


def _meanings(w: Writing) -> Iterator[Element]:
    line = w.facts.timeline
    every = [*line.events, *(event for one in line.recipients for event in one.events)]
    kinds = sorted({event.kind for event in every}, key=lambda kind: kind.value)
    yield el("h3", w.word("meanings"))
    yield w.lead("meanings_lead")
    for kind in kinds:
        meaning = MEANINGS[kind]
        title = f"{kind.kep_code} {_kind(w, kind)}" if kind.kep_code else _kind(w, kind)
        yield el(
            "div", el("p", el("span", title, cls="kind")), *_meaning(w, meaning.proves, meaning.does_not),
            cls="event negative" if NAMES[kind].negative else "event",
        )  # fmt: skip


def _awaited(w: Writing, awaited: Awaited) -> str:
    kinds = ", ".join(f"{kind.kep_code} {_kind(w, kind)}" for kind in awaited.kinds)
    text = f"{w.word('awaited')}: {kinds}"
    if awaited.until is not None:
        text += f", {w.word('until')} {local(awaited.until)}"
    if awaited.then is not None:
        text += f"; {w.word('then')}: {awaited.then.kep_code} {_kind(w, awaited.then)}"
    return text


def _kind(w: Writing, kind: EvidenceKind) -> str:
    return said((NAMES[kind].turkish, NAMES[kind].english), w.language)


def _reason(w: Writing, reason: Reason) -> str:
    """Say why; our own stable codes are known in both languages, others' words stand as they came."""
    code = reason.details.partition(":")[0].strip()
    shown = reason.foreign or REASON_NAMES[reason.code]
    if code in set(RefusalCode):
        text = TEXTS[RefusalCode(code)]
        return f"{said((text.turkish, text.english), w.language)} [{shown}, {code}]"
    if code in set(RelayTrouble):
        trouble = TROUBLES[RelayTrouble(code)]
        return f"{said((trouble.turkish, trouble.english), w.language)} [{shown}, {code}]"
    return f"{reason.details} [{shown}]" if reason.details else shown
