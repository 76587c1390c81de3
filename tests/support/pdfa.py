"""Our own check of what PDF/A-3b demands of a dossier (no validator is to be had from Debian)."""

import io
import re
from collections.abc import Iterator
from typing import Any

from lxml import etree
from pypdf import PdfReader

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_PDFAID = "{http://www.aiim.org/pdfa/ns/id/}"
_RELATIONSHIPS = {"/Source", "/Data", "/Alternative", "/Supplement", "/Unspecified"}
_SUBSET = re.compile(r"/[A-Z]{6}\+")
_SHOWN = re.compile(rb"<([0-9a-fA-F]+)>")


def pdfa_faults(data: bytes) -> list[str]:
    """Return what is wrong with a file, an empty list for a good one (ISO 19005-3, 6)."""
    reader = PdfReader(io.BytesIO(data), strict=True)
    root: Any = reader.trailer["/Root"]
    return [
        *_file(data, reader),
        *_intent(root),
        *_metadata(reader, root),
        *(fault for page in reader.pages for fault in _page(page)),
        *_attached(root),
    ]


def attachments(data: bytes) -> dict[str, bytes]:
    """Return the attached files by name."""
    found = PdfReader(io.BytesIO(data)).attachments
    assert all(len(contents) == 1 for contents in found.values())
    return {name: contents[0] for name, contents in found.items()}


def text_of(data: bytes) -> str:
    """Return all text, pages after each other."""
    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(data)).pages)


def fonts_of(data: bytes) -> set[str]:
    """Return the names of all fonts without their subset's mark."""
    names: set[str] = set()
    for page in PdfReader(io.BytesIO(data)).pages:
        resources: Any = page["/Resources"]
        names |= {str(font.get_object()["/BaseFont"])[8:] for font in resources["/Font"].values()}
    return names


def _file(data: bytes, reader: PdfReader) -> Iterator[str]:
    if not re.match(rb"%PDF-1\.7\n%[\x80-\xff]{4}", data):
        yield "no header of PDF 1.7 with its binary mark"
    if not data.endswith(b"%%EOF\n"):
        yield "something behind the end"
    if "/Encrypt" in reader.trailer:
        yield "encrypted"
    if len(reader.trailer.get("/ID", ())) != 2:
        yield "no file identifier"


def _intent(root: Any) -> Iterator[str]:
    intents = [one.get_object() for one in root.get("/OutputIntents", ())]
    if [one.get("/S") for one in intents] != ["/GTS_PDFA1"]:
        yield "no PDF/A output intent"
    elif intents[0]["/DestOutputProfile"].get_object()["/N"] != 3:
        yield "the output intent's profile has not three colours"


def _metadata(reader: PdfReader, root: Any) -> Iterator[str]:
    if "/Metadata" not in root:
        yield "no XMP metadata"
        return
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    tree = etree.fromstring(root["/Metadata"].get_object().get_data(), parser)
    told = {str(name): value for one in tree.iter(f"{_RDF}Description") for name, value in one.attrib.items()}
    if (told.get(f"{_PDFAID}part"), told.get(f"{_PDFAID}conformance")) != ("3", "B"):
        yield "XMP does not say PDF/A-3B"
    info = reader.metadata
    titles = ["".join(one.itertext()).strip() for one in tree.iter("{http://purl.org/dc/elements/1.1/}title")]
    if info is None or titles != [info.title]:
        yield "the titles of XMP and Info differ"
    created = [one.text or "" for one in tree.iter("{http://ns.adobe.com/xap/1.0/}CreateDate")]
    digits = [re.sub(r"\D", "", one) for one in created]
    if info is None or digits != [re.sub(r"\D", "", str(info.get("/CreationDate")))]:
        yield "the dates of XMP and Info differ"


def _page(page: Any) -> Iterator[str]:
    for font in page["/Resources"]["/Font"].values():
        yield from _font(font.get_object())
    content = page.get_contents().get_data()
    for found in _SHOWN.finditer(content):
        glyphs = found[1]
        if any(glyphs[at : at + 4] == b"0000" for at in range(0, len(glyphs), 4)):
            yield "a glyph that the font lacks is shown"
    for note in page.get("/Annots", ()):
        one = note.get_object()
        if one["/Subtype"] != "/Link" or int(one.get("/F", 0)) & 0b100111 != 4:
            yield "an annotation that is no printable link"
        if "/A" in one:
            yield "a link out of the document"


def _font(font: Any) -> Iterator[str]:
    name = str(font["/BaseFont"])
    if not _SUBSET.match(name):
        yield f"{name}: not a subset"
    if "/ToUnicode" not in font:
        yield f"{name}: its text cannot be extracted"
    (inner,) = font["/DescendantFonts"]
    described = inner.get_object()["/FontDescriptor"].get_object()
    if not {"/FontFile2", "/FontFile3"} & set(described):
        yield f"{name}: not embedded"
    if inner.get_object().get("/CIDToGIDMap") != "/Identity":
        yield f"{name}: no map from characters to glyphs"


def _attached(root: Any) -> Iterator[str]:
    listed = root.get("/Names", {}).get("/EmbeddedFiles")
    names = [] if listed is None else listed.get_object()["/Names"]
    if list(names[::2]) != sorted(names[::2]):
        yield "the names of attachments are not sorted"
    specs = [one.get_object() for one in names[1::2]]
    if [one.get_object() for one in root.get("/AF", ())] != specs:
        yield "attachments and associated files differ"
    for spec in specs:
        yield from _spec(spec)


def _spec(spec: Any) -> Iterator[str]:
    if spec.get("/Type") != "/Filespec" or not spec.get("/F") or spec.get("/F") != spec.get("/UF"):
        yield "an attachment without its two names"
    if spec.get("/AFRelationship") not in _RELATIONSHIPS:
        yield "an attachment without relationship"
    stream = spec["/EF"]["/F"].get_object()
    if not re.fullmatch(r"/[a-z]+/[a-z0-9.+-]+", str(stream.get("/Subtype"))):
        yield "an attachment without media type"
    if stream["/Params"]["/Size"] != len(stream.get_data()) or "/ModDate" not in stream["/Params"]:
        yield "an attachment without size and date"
