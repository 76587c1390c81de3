"""The part tree of a message as compact JSON, to be stored beside the message.

A part is one row, its place counted from where the part around it begins:

    [at, header, body, lines, fields, declared, children, message, preamble, epilogue, closed]

``header`` and ``body`` are sizes, ``fields`` the header's own, counted from its begin, ``declared`` what they
declare of the body. So the text of a part does not depend on where it lies: an embedded message has the tree
it has by itself but for the first number, and the heads that we write ourselves are put into words once.
"""

import json
import re
from json.encoder import encode_basestring_ascii
from typing import Any, Final

from evidence.mail.parts import HeaderField, Part, Range

__all__ = ["declared_text", "fields_text", "head_text", "placed", "read_tree", "row_text", "tree_text"]

_JSON: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False)
_NOTHING: Final = "null"
_FIELD_END: Final = re.compile(r"\r\n(?![ \t])")


def tree_text(part: Part) -> str:
    """Return the whole tree; `read_tree` gives an equal one back. In ASCII."""
    return _tree(part, part.header.start)


def read_tree(text: str | bytes) -> Part:
    """Return the tree that `tree_text` wrote. Only for text we stored ourselves."""
    return _part(json.loads(text), 0)


def placed(tree: str, at: int) -> str:
    """Return the tree of a whole message as one ``at`` octets behind the begin of its outer part."""
    return f"[{at}{tree[tree.index(',') :]}"


def row_text(
    at: int | str,
    header: int | str,
    body: int | str,
    lines: int | str,
    head: str,
    *,
    children: str = "",
    message: str = _NOTHING,
    preamble: str = _NOTHING,
    epilogue: str = _NOTHING,
    closed: bool = False,
) -> str:
    """Return the row of one part; ``head``: fields and declared, ``children``: rows, divided by commas."""
    end = "true" if closed else "false"
    return f"[{at},{header},{body},{lines},{head},[{children}],{message},{preamble},{epilogue},{end}]"


def head_text(part: Part) -> str:
    """Return the fields of a part's header and what they declare."""
    start = part.header.start
    fields = [
        (name, raw.decode("latin-1"), begin - start, end - start)
        for _, name, raw, (begin, end) in part.fields
    ]
    return f"{_JSON.encode(fields)},{declared_text(part)}"


def fields_text(block: bytes) -> str:
    """Return the fields of a header of our own, nothing but well-formed fields and the blank line."""
    rows, at = [], 0
    for field in _FIELD_END.split(block.decode("latin-1"))[:-2]:
        name, _, raw = field.partition(":")
        end = at + len(field) + 2
        rows.append(f'["{name}",{encode_basestring_ascii(raw)},{at},{end}]')
        at = end
    return f"[{','.join(rows)}]"


def declared_text(part: Part) -> str:
    """Return what a part's header declares of its body."""
    return _JSON.encode((
        part.type, part.subtype, part.params, part.encoding, part.content_id, part.description,
        part.disposition, part.disposition_params, part.language, part.location, part.md5, part.boundary,
        part.defects,
    ))  # fmt: skip


def _tree(part: Part, around: int) -> str:
    start, end = part.header
    children, message = part.children, part.message
    return row_text(
        start - around, end - start, part.body.length, part.lines, head_text(part),
        children=",".join([_tree(child, start) for child in children]) if children else "",
        message=_NOTHING if message is None else _tree(message, start),
        preamble=_span(part.preamble, start), epilogue=_span(part.epilogue, start), closed=part.closed,
    )  # fmt: skip


def _span(place: Range | None, around: int) -> str:
    return _NOTHING if place is None else f"[{place.start - around},{place.end - around}]"


def _part(row: list[Any], around: int) -> Part:
    at, header, body, lines, fields, head, children, message, preamble, epilogue, closed = row
    start = around + at
    end = start + header
    return Part(
        header=Range(start, end), body=Range(end, end + body), lines=lines,
        fields=tuple([
            HeaderField(name.lower(), name, raw.encode("latin-1"), Range(start + first, start + last))
            for name, raw, first, last in fields
        ]),
        type=head[0], subtype=head[1], params=_pairs(head[2]), encoding=head[3], content_id=head[4],
        description=head[5], disposition=head[6], disposition_params=_pairs(head[7]),
        language=tuple(head[8]), location=head[9], md5=head[10], boundary=head[11], defects=tuple(head[12]),
        children=tuple([_part(child, start) for child in children]),
        message=None if message is None else _part(message, start),
        preamble=_range(preamble, start), epilogue=_range(epilogue, start), closed=closed,
    )  # fmt: skip


def _range(span: list[int] | None, around: int) -> Range | None:
    return None if span is None else Range(around + span[0], around + span[1])


def _pairs(rows: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple([(name, value) for name, value in rows])
