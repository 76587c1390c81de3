"""What all sections share: the language, the facts, tables, times."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from xml.etree.ElementTree import Element
from zoneinfo import ZoneInfo

from kephs.dossier.facts import DossierFacts, Language
from kephs.dossier.markup import Child, Values, el
from kephs.dossier.texts import WORDS, said

ISTANBUL: Final = ZoneInfo("Europe/Istanbul")


@dataclass(frozen=True, slots=True)
class Writing:
    """One language of one dossier being written."""

    facts: DossierFacts
    language: Language
    values: Values

    def word(self, key: str) -> str:
        """Return a word or sentence of our own."""
        return said(WORDS[key], self.language)

    def anchor(self, key: str) -> str:
        """Return the id of a section's heading."""
        return f"{self.language.value}-{key}"

    def lead(self, key: str) -> Element:
        """Return a sentence that introduces a section."""
        return el("p", self.word(key), cls="lead")

    def table_of_facts(self, rows: Iterable[tuple[str, Sequence[Child]]]) -> Element:
        """Return names and values, a row each; names are keys of `WORDS`."""
        made = (el("tr", el("th", self.word(key)), el("td", *value)) for key, value in rows)
        return el("table", el("tbody", *made), cls="facts")

    def table(self, heads: Sequence[tuple[str, str]], rows: Iterable[Sequence[Child]]) -> Element:
        """Return a table whose head comes again on every page.

        Args:
            heads: of each column its word's key ("" for none) and its class.
            rows: the cells.
        """
        head = el("tr", *(el("th", self.word(key) if key else "", cls=cls) for key, cls in heads))
        body = (el("tr", *(el("td", cell) for cell in row)) for row in rows)
        return el("table", el("thead", head), el("tbody", *body), cls="list")


def local(at: datetime) -> str:
    """Return a time as people in Türkiye read it, to the second."""
    return at.astimezone(ISTANBUL).strftime("%d.%m.%Y %H:%M:%S")


def local_text(text: str | None) -> str:
    """Return a time that stands as ISO 8601 in a report, "-" where it is none."""
    if not text:
        return "-"
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return "-"
    return local(at) if at.tzinfo is not None else "-"


def named(name: str | None, address: str) -> str:
    """Return a party as name and address."""
    return f"{name} <{address}>" if name else address
