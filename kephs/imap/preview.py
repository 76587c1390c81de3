"""PREVIEW: the beginning of a message's text, on one line.

spec: RFC8970
"""

import re
from typing import Final

from evidence.mail.mime import Part
from evidence.ports import ByteSource
from kephs.imap.search import part_text

_CHARS_MAX: Final = 200  # spec: RFC8970#3.3
_READ_MAX: Final = 8 * 1024  # bytes of the text looked at
_BLANKS: Final = re.compile(r"[\s\x00-\x1f\x7f]+")


def preview_of(source: ByteSource, root: Part) -> str:
    """Return up to 200 characters of the first text part, plain text before HTML. Reads block."""
    texts = [part for part in root.walk() if part.type == "text" and not part.children]
    chosen = next((part for part in texts if part.subtype == "plain"), texts[0] if texts else None)
    if chosen is None:
        return ""
    raw = source.read(chosen.body.start, min(chosen.body.length, _READ_MAX))
    return _BLANKS.sub(" ", part_text(raw, chosen)).strip()[:_CHARS_MAX]
