"""What is served instead of unread content where reading over IMAP is switched off.

Phones and mbsync download in the background; with ``read.trigger.imap_body`` off that must not be a reading,
and never a silent one: the client gets a sealed stub until the message was opened where reading counts.
"""

import base64
from typing import Final

from evidence.mail.mime import scan
from evidence.ports import BytesSource
from kephs.domain.message_index import MessageIndex
from kephs.imap.sections import fields_of

_TEXT: Final = """\
Bu KEP iletisi henüz okunmadı. İçeriği görmek için iletiyi {place} açın; açtığınızda okundu delili oluşur.

This KEP message has not been read yet. To see its content, open this message in {place_en}; opening it makes
the evidence of reading.
"""


def stub_message(header: bytes, *, place: str, place_en: str) -> tuple[BytesSource, MessageIndex]:
    """Return the stub: the message's own header, except for what describes its body, and a short text.

    Args:
        header: the header block of the message.
        place: where the message can be opened, as a Turkish adverbial ("web arayüzünde").
        place_en: the same in English, after "in" ("the web interface").
    """
    kept = b"".join(
        header[field.range.start : field.range.end].removesuffix(b"\r\n") + b"\r\n"
        for field in fields_of(header)
        if not field.name.startswith("content-") and field.name != "mime-version"
    )
    text = _TEXT.format(place=place, place_en=place_en).replace("\n", "\r\n")
    body = base64.encodebytes(text.encode()).replace(b"\n", b"\r\n")
    data = (
        kept + b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n" + body
    )
    source = BytesSource(data)
    root = scan(source)
    return source, MessageIndex(data[: root.header.end], root)
