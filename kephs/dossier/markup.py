"""HTML as a tree: values become text nodes, so nothing that comes from outside can become markup."""

from collections.abc import Iterable
from typing import Final
from xml.etree.ElementTree import Element, tostring

from kephs.dossier.display import Coverage, shortened

Child = Element | str
_LINE_SPLIT: Final = "\n"
VALUE_MAX: Final = 160
"""Characters of a value in a table; `dosya.json` has all. Layout takes long over words without end."""


def el(tag: str, *children: Child, cls: str = "", **attributes: str) -> Element:
    """Return an element. Attributes are this program's own words, never values from outside."""
    made = Element(tag, attributes)
    if cls:
        made.set("class", cls)
    for child in children:
        if isinstance(child, str):
            _add_text(made, child)
        else:
            made.append(child)
    return made


def _add_text(parent: Element, text: str) -> None:
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + text
    else:
        parent.text = (parent.text or "") + text


def document(head: Iterable[Element], body: Iterable[Element], *, language: str) -> str:
    """Return a whole document."""
    root = el("html", el("head", *head), el("body", *body), lang=language)
    return "<!DOCTYPE html>\n" + tostring(root, encoding="unicode", method="html")


class Values:
    """Puts values from outside onto paper: in their own direction, visible, and breakable anywhere."""

    def __init__(self, text: Coverage, mono: Coverage) -> None:
        self._text, self._mono = text, mono

    def plain(self, value: str) -> str:
        """Return a value as text for places that take no element (titles)."""
        return self._text.shown(value)

    def text(self, value: str, cls: str = "", *, most: int = VALUE_MAX) -> Element:
        """Return a value in the font of running text, ``most`` characters of it."""
        return el("bdi", _capped(self._text, value, most), cls=cls or "v")

    def mono(self, value: str, *, most: int = VALUE_MAX) -> Element:
        """Return an id, digest or command, ``most`` characters of it."""
        return el("code", _capped(self._mono, value, most))

    def lines(self, value: str) -> list[Element]:
        """Return a text of several lines, a block each."""
        return [el("p", self._text.shown(line) or "\u00a0", cls="line") for line in value.split(_LINE_SPLIT)]


def _capped(coverage: Coverage, value: str, most: int) -> str:
    """Cut a value before and after what cannot be seen is named, which makes it longer."""
    return shortened(coverage.shown(shortened(value, most)), 2 * most)
