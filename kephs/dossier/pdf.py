"""Prints a dossier as PDF/A-3b with WeasyPrint and the DejaVu fonts of the system.

WeasyPrint gets one document of ours and may fetch nothing but the fonts it names. The same facts give the
same bytes with the same versions of WeasyPrint, Pango and the fonts.
"""

from collections.abc import Sequence
from contextlib import redirect_stdout
from hashlib import sha256
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, BinaryIO, Final
from warnings import catch_warnings

from kephs.dossier.display import Coverage
from kephs.dossier.facts import DossierFacts, Language
from kephs.dossier.markup import Values
from kephs.dossier.pages import html
from kephs.dossier.style import FACES, FONT_SCHEME, MONO_FILES, TEXT_FILES

FONT_FOLDER: Final = Path("/usr/share/fonts/truetype/dejavu")
"""Where Debian's fonts-dejavu-core puts them."""
VARIANT: Final = "pdf/a-3b"
_FONT_MAX: Final = 8 << 20


class FontsMissingError(Exception):
    """A font that the dossier embeds is not there."""


class PrintingError(Exception):
    """The document was not printed: it asked for something from outside. A defect or an attack."""


class PrinterMissingError(Exception):
    """WeasyPrint cannot be loaded: it, or Pango on the system, is missing."""


class Printer:
    """Prints dossiers with the fonts of one folder.

    Args:
        folder: with the files of `style.FACES`.

    Raises:
        FontsMissingError: one is missing or cannot be read.
        PrinterMissingError: WeasyPrint or its libraries are missing.
    """

    def __init__(self, folder: Path = FONT_FOLDER) -> None:
        self._fonts = {file: _font(folder / file) for _, _, file in FACES}
        _load_libraries()
        self._values = Values(self._coverage(TEXT_FILES), self._coverage(MONO_FILES))

    def html(self, facts: DossierFacts, languages: Sequence[Language]) -> str:
        """Return the document that is printed."""
        return html(facts, languages, self._values)

    def print_to(self, out: BinaryIO, facts: DossierFacts, languages: Sequence[Language]) -> int:
        """Write the PDF and return its number of pages. This takes seconds: not for an event loop.

        Args:
            out: where to.
            facts: what it says, with the files to attach.
            languages: one after the other.

        Raises:
            DossierTooLargeError: the attachments do not fit.
            PrintingError: the document asked for anything but our fonts.
        """
        from weasyprint.urls import (  # type: ignore[import-untyped, unused-ignore]  # noqa: PLC0415
            FatalURLFetchingError,
        )

        from kephs.dossier.embedding import write_pdf  # noqa: PLC0415

        def finish(_: Any, pdf: Any) -> None:
            write_pdf(
                pdf, out, facts.embedded, at=facts.created_at,
                identifier=sha256(facts.timeline.message_id.encode()).digest()[:16],
            )  # fmt: skip

        try:
            return self._print(facts, languages, finish)
        except FatalURLFetchingError as error:  # no Exception
            raise PrintingError(str(error)) from None

    def _print(self, facts: DossierFacts, languages: Sequence[Language], finish: Any) -> int:
        from weasyprint import HTML  # noqa: PLC0415
        from weasyprint.text.fonts import (  # type: ignore[import-untyped, unused-ignore]  # noqa: PLC0415
            FontConfiguration,
        )

        with catch_warnings(action="ignore", category=ResourceWarning):  # it leaves its colour profile open
            document = HTML(string=self.html(facts, languages), url_fetcher=_fetcher(self._fonts)).render(
                font_config=FontConfiguration(), pdf_variant=VARIANT
            )
            # what it writes after the finisher is the same document without attachments: to nowhere
            document.write_pdf(BytesIO(), finisher=finish, pdf_variant=VARIANT, pdf_identifier=False)
        return len(document.pages)

    def _coverage(self, files: Sequence[str]) -> Coverage:
        from fontTools.ttLib import TTFont  # type: ignore[import-untyped, unused-ignore]  # noqa: PLC0415

        tables = [TTFont(BytesIO(self._fonts[file]), lazy=True).getBestCmap() for file in files]
        return Coverage(frozenset(set(tables[0]).intersection(*tables[1:])))


def _load_libraries() -> None:
    """Load WeasyPrint and Pango; the dossier alone needs them.

    Raises:
        PrinterMissingError: something is missing. Without HarfBuzz's subsetter other code would cut the
            fonts, and the bytes would depend on the machine.
    """
    try:
        with redirect_stdout(StringIO()), catch_warnings(action="ignore"):  # it prints advice of its own
            from weasyprint.text import (  # type: ignore[import-untyped, unused-ignore]  # noqa: PLC0415
                ffi,
            )
    except (ImportError, OSError) as error:
        raise PrinterMissingError(str(error)) from None
    if ffi.harfbuzz_subset is None:
        raise PrinterMissingError("the library libharfbuzz-subset is not there")


def _font(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_FONT_MAX + 1)
    except OSError as error:
        raise FontsMissingError(f"{path}: {error.strerror or error}") from None
    if len(data) > _FONT_MAX or not data.startswith(b"\x00\x01\x00\x00"):
        raise FontsMissingError(f"{path}: not a TrueType font")
    return data


def _fetcher(fonts: dict[str, bytes]) -> Any:
    """Return what WeasyPrint fetches with: our fonts by name, nothing else."""
    from weasyprint.urls import (  # type: ignore[import-untyped, unused-ignore]  # noqa: PLC0415
        FatalURLFetchingError,
        URLFetcher,
        URLFetcherResponse,
    )

    class OnlyFonts(URLFetcher):  # type: ignore[misc, unused-ignore]
        """Gives out fonts; any other URL ends the printing, for no document of ours names one."""

        def fetch(self, url: str, headers: Any = None) -> Any:
            del headers
            scheme, _, name = url.partition(":")
            data = fonts.get(name) if scheme == FONT_SCHEME else None
            if data is None:
                raise FatalURLFetchingError(f"a dossier fetches nothing: {url[:80]}")
            return URLFetcherResponse(url, data, {"Content-Type": "font/ttf"})

    return OnlyFonts()
