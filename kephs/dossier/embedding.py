"""Writes the PDF file: WeasyPrint's objects, then the attached files, streamed and not compressed.

WeasyPrint would hold every attachment in memory several times over; a message may have 100 MB and its bundle
twice that. Written as they are, attachments can also be found in the file by any program.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from io import BytesIO
from typing import Any, BinaryIO, Final

import pydyf  # type: ignore[import-untyped, unused-ignore]
from fontTools.ttLib import TTFont  # type: ignore[import-untyped, unused-ignore]

from kephs.dossier.facts import DossierTooLargeError, Embedded

_PIECE: Final = 512 * 1024
_HEAD: Final = b"%PDF-1.7\n%\xf0\x9f\x96\xa4\n"
OFFSET_MAX: Final = 9_999_999_999  # ten digits in a cross-reference table (ISO 32000-1, 7.5.4)


@dataclass(slots=True)
class _File:
    """The file being written, and where its objects began."""

    out: BinaryIO
    at: int = 0

    def write(self, data: bytes) -> None:
        self.out.write(data)
        self.at += len(data)


def write_pdf(
    pdf: Any, out: BinaryIO, embedded: Sequence[Embedded], *, at: datetime, identifier: bytes
) -> None:
    """Write a document with attached files (ISO 32000-1, 7.5 and 7.11.4; ISO 19005-3, 6.8).

    Args:
        pdf: a `pydyf.PDF`, complete but for its attachments.
        out: where to; only written.
        embedded: the files, names in ASCII and each once.
        at: their date.
        identifier: 16 octets that stay the same for every edition of this document.

    Raises:
        DossierTooLargeError: the file would be too large.
    """
    if sum(one.size for one in embedded) > OFFSET_MAX // 2:
        raise DossierTooLargeError("the attached files are too large for one PDF")
    _settle_fonts(pdf)
    streams = _attach(pdf, embedded, at)
    pdf.add_object(pdf.info)
    file, offsets, hasher = _File(out), [], sha256(identifier)
    file.write(_HEAD)
    for thing in pdf.objects:
        offsets.append(file.at)
        if thing.number in streams:
            _write_stream(file, thing, streams[thing.number])
            hasher.update(streams[thing.number].sha256)
        elif thing.free != "f":
            data = thing.indirect
            hasher.update(data)
            file.write(data + b"\n")
    _write_end(file, pdf, offsets, (identifier.hex(), hasher.digest()[:16].hex()))


def _settle_fonts(pdf: Any) -> None:
    """Take the time of printing out of the fonts: subsetting writes it into each."""
    for thing in pdf.objects:
        if isinstance(thing, pydyf.Stream) and "Length1" in thing.extra:
            font = TTFont(BytesIO(b"".join(thing.stream)), recalcBBoxes=False, recalcTimestamp=False)
            font["head"].modified = font["head"].created
            settled = BytesIO()
            font.save(settled, reorderTables=None)
            thing.stream = [settled.getvalue()]
            thing.extra["Length1"] = len(thing.stream[0])


def _attach(pdf: Any, embedded: Sequence[Embedded], at: datetime) -> dict[int, Embedded]:
    """Add everything about the files but their bytes; return which object is which file's stream."""
    date = pydyf.String(at.strftime("D:%Y%m%d%H%M%SZ"))
    streams, names, related = {}, pydyf.Array(), pydyf.Array()
    for one in sorted(embedded, key=lambda file: file.name):  # a name tree is sorted
        stream = pydyf.Dictionary(
            {
                "Type": "/EmbeddedFile",
                "Subtype": f"/{one.media_type.replace('/', '#2F')}",
                "Length": one.size,
                "Params": pydyf.Dictionary({"Size": one.size, "CreationDate": date, "ModDate": date}),
            }
        )
        pdf.add_object(stream)
        streams[stream.number] = one
        name = pydyf.String(one.name)
        spec = pydyf.Dictionary(
            {
                "Type": "/Filespec",
                "F": name,
                "UF": name,
                "EF": pydyf.Dictionary({"F": stream.reference, "UF": stream.reference}),
                "AFRelationship": f"/{one.relationship.value}",
                "Desc": pydyf.String(f"SHA-256 {one.sha256.hex()}"),
            }
        )
        pdf.add_object(spec)
        names.extend([name, spec.reference])
        related.append(spec.reference)
    tree = pydyf.Dictionary({"Names": names})
    pdf.add_object(tree)
    pdf.catalog.setdefault("Names", pydyf.Dictionary())["EmbeddedFiles"] = tree.reference
    pdf.catalog["AF"] = related
    pdf.catalog["PageMode"] = "/UseAttachments"
    return streams


def _write_stream(file: _File, head: Any, one: Embedded) -> None:
    file.write(f"{head.number} 0 obj\n".encode() + head.data + b"\nstream\n")
    start = file.at
    while file.at - start < one.size:
        piece = one.source.read(file.at - start, _PIECE)
        if not piece:
            raise OSError(f"{one.name}: its end is missing")
        file.write(piece)
    file.write(b"\nendstream\nendobj\n")


def _write_end(file: _File, pdf: Any, offsets: Sequence[int], ids: tuple[str, str]) -> None:
    start = file.at
    if start > OFFSET_MAX:
        raise DossierTooLargeError("the dossier is too large for one PDF")
    lines = [f"xref\n0 {len(offsets)}\n"]
    lines += [
        f"{0 if thing.free == 'f' else at:010} {thing.generation:05} {thing.free} \n"
        for thing, at in zip(pdf.objects, offsets, strict=True)
    ]
    lines.append(f"trailer\n<</Size {len(offsets)}/Root ")
    file.write("".join(lines).encode() + pdf.catalog.reference + b"/Info " + pdf.info.reference)
    file.write(f"/ID [<{ids[0]}><{ids[1]}>]>>\nstartxref\n{start}\n%%EOF\n".encode())
