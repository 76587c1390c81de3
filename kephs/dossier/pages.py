"""The dossier as HTML: cover, parties, timelines, content, signature, ledger, the judge's page, files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element

from kephs.dossier.display import shortened
from kephs.dossier.facts import DossierFacts, Language
from kephs.dossier.markup import Child, Values, document, el
from kephs.dossier.pages_back import content, files, judge, ledger, signature
from kephs.dossier.pages_timeline import timeline
from kephs.dossier.style import style
from kephs.dossier.texts import MESSAGE_STATES, STATES, WORDS, said
from kephs.dossier.writing import Writing, local, named

_COVER_RECIPIENTS: Final = 5
_COVER_TEXT: Final = 140
"""Characters of a subject or name on the cover."""
_SUBJECT_MAX: Final = 1000
_SECTIONS: Final = ("parties", "timeline", "content", "signature", "ledger", "files", "judge")
_FOLLOWING: Final = frozenset({"timeline", "files"})
"""Sections that begin on the page where the one before ends."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the PDF's own fields say: texts as shown on paper."""

    title: str
    author: str
    subject: str


def metadata(facts: DossierFacts, languages: Sequence[Language], values: Values) -> Metadata:
    """Return title, author and subject of the PDF."""
    title = " / ".join(said(WORDS["dossier"], language) for language in languages)
    about = " / ".join(said(WORDS["about"], language) for language in languages)
    message = values.plain(facts.timeline.message_id)
    return Metadata(f"{title}: {message}", values.plain(facts.provider_name), about)


def html(facts: DossierFacts, languages: Sequence[Language], values: Values) -> str:
    """Return the whole document, one language after the other.

    Args:
        facts: what it says.
        languages: the first one's cover is the document's.
        values: puts texts from outside on paper.
    """
    about = metadata(facts, languages, values)
    created = facts.created_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    head = [
        el("meta", charset="utf-8"),
        el("title", about.title),
        el("meta", name="author", content=about.author),
        el("meta", name="description", content=about.subject),
        el("meta", name="generator", content="kephs"),
        el("meta", name="dcterms.created", content=created),
        el("meta", name="dcterms.modified", content=created),
        el("style", style()),
    ]
    body = [
        _language(Writing(facts, language, values), first=index == 0)
        for index, language in enumerate(languages)
    ]
    return document(head, body, language=languages[0].value)


def _language(w: Writing, *, first: bool) -> Element:
    sections = (
        ("parties", parties(w)), ("timeline", timeline(w)), ("content", content(w)),
        ("signature", signature(w)), ("ledger", ledger(w)), ("files", files(w)), ("judge", judge(w)),
    )  # fmt: skip
    made = el("section", cls=f"language {w.language.value}{' first' if first else ''}", lang=w.language.value)
    made.append(el("div", *_cover(w), cls=f"cover {w.language.value}"))
    for key, parts in sections:
        following = "follows" if key in _FOLLOWING else "begins"
        made.append(el("h2", w.word(key), cls=following, id=w.anchor(key)))
        made.extend(list(parts))
    return made


def _cover(w: Writing) -> Iterator[Element]:
    line = w.facts.timeline
    maker = f"{w.facts.provider_name} ({w.facts.provider_domain})"
    mark = f"{w.word('test_short')} · " if w.facts.test else ""
    yield el(
        "div",
        el("div", w.values.plain(line.message_id), cls="mid"),
        el("div", f"{mark}{w.values.plain(maker)}", cls="maker"),
        cls="running",
    )
    yield el("div", cls="band")
    if w.facts.test:
        yield el("div", w.word("test"), cls="test")
    yield el("h1", w.word("dossier"))
    yield el("p", w.word("about"), cls="about")
    first = [
        w.values.text(shortened(named(one.name, one.address), _COVER_TEXT))
        for one in line.recipients[:_COVER_RECIPIENTS]
    ]
    rows: list[tuple[str, Sequence[Element | str]]] = [
        ("subject", [_subject(w, line.subject, _COVER_TEXT)]),
        ("message_id", [w.values.mono(line.message_id)]),
        ("sender", [w.values.text(shortened(named(line.sender.name, line.sender.address), _COVER_TEXT))]),
        ("recipients", _apart(first)),
    ]
    if len(line.recipients) > len(first):
        rest = len(line.recipients) - len(first)
        rows[-1] = ("recipients", [*_apart(first), el("br"), w.word("and_more").format(rest)])
    rows += [
        ("submitted", [local(line.submitted_at)]),
        ("state", [said(MESSAGE_STATES[line.state], w.language)]),
        ("issued_by", [w.values.text(maker)]),
        ("sealed", [local(w.facts.created_at)]),
        ("original_digest", [w.values.mono(line.digest_sha256.hex())]),
    ]
    yield w.table_of_facts(rows)
    yield el("div", el("p", w.word("face")), el("p", w.word("times")), cls="face")
    yield el("h3", w.word("contents"))
    yield el(
        "ul",
        *(el("li", el("a", w.word(key), href=f"#{w.anchor(key)}")) for key in _SECTIONS),
        cls="contents",
    )


def _subject(w: Writing, subject: str, most: int) -> Child:
    return w.values.text(subject, "subject", most=most) if subject else w.word("no_subject")


def _apart(items: Sequence[Element]) -> list[Element | str]:
    made: list[Element | str] = []
    for item in items:
        if made:
            made.append(el("br"))
        made.append(item)
    return made


def parties(w: Writing) -> Iterator[Element]:
    """Yield who sent the message, and to whom."""
    line = w.facts.timeline
    rows: list[tuple[str, Sequence[Element | str]]] = [
        ("sender", [w.values.text(line.sender.name or "-")]),
        ("address", [w.values.text(line.sender.address)]),
        ("senders_provider", [w.values.text(line.sender_provider)]),
        ("subject", [_subject(w, line.subject, _SUBJECT_MAX)]),
        ("message_id", [w.values.mono(line.message_id)]),
    ]
    if line.user_message_id:
        rows.append(("user_message_id", [w.values.mono(line.user_message_id)]))
    rows.append(("recipient_count", [str(len(line.recipients))]))
    yield w.table_of_facts(rows)
    yield el("h3", w.word("recipients"))
    yield w.table(
        (("", "c-no"), ("name", ""), ("address", ""), ("provider", "c-provider"), ("state", "c-state")),
        (
            (
                f"{one.number}.",
                w.values.text(one.name or "-"),
                w.values.text(one.address),
                w.values.text(one.provider),
                said(STATES[one.state], w.language),
            )
            for one in line.recipients
        ),
    )
