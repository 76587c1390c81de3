"""Parts of an original: their digests are those of the files that a person saves."""

import base64
import email
import email.policy
import quopri
from email.message import EmailMessage
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.mail.mime import Range
from evidence.ports import BytesSource
from kephs.dossier import content
from kephs.dossier.content import BODY_MAX, LINES_MAX, decoded, read_content
from tests.support.pki import ayse
from tests.support.signers import signed_message


def message(*attached: tuple[str, bytes], text: str = "Sayın Yetkili,\nbildiririz. İıŞşĞğ") -> bytes:
    made = EmailMessage(policy=email.policy.SMTP)
    made["Subject"] = "İhtarname"
    made.set_content(text)
    for name, data in attached:
        made.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    return made.as_bytes()


def read(data: bytes):
    return read_content(BytesSource(data))


def test_each_attachment_has_the_digest_of_the_file_that_is_saved() -> None:
    files = [("sözleşme.pdf", bytes(range(256)) * 40), ("boş.txt", b"")]
    found = read(message(*files))
    assert [(one.number, one.filename) for one in found.parts] == [
        ("1", ""), ("2", "sözleşme.pdf"), ("3", "boş.txt"),
    ]  # fmt: skip
    for part, (_, data) in zip(found.parts[1:], files, strict=True):
        assert (part.size, part.sha256) == (len(data), sha256(data).digest())


def test_the_first_plain_text_is_the_body_with_all_turkish_letters() -> None:
    found = read(message(("a.txt", b"not this")))
    assert found.body is not None
    assert found.body.text == "Sayın Yetkili,\nbildiririz. İıŞşĞğ"
    assert not found.body.cut


def test_an_attached_text_is_not_the_body() -> None:
    made = EmailMessage(policy=email.policy.SMTP)
    made.set_content("<p>x</p>", subtype="html")
    made.add_attachment("ek", filename="ek.txt")
    assert read(made.as_bytes()).body is None


def test_a_long_text_is_cut_and_says_so() -> None:
    found = read(message(text="ş" * (BODY_MAX + 5)))
    assert found.body is not None
    assert (len(found.body.text), found.body.cut) == (BODY_MAX, True)


def test_a_text_of_endless_lines_is_cut_and_says_so() -> None:
    found = read(message(text="a\n" * (LINES_MAX + 5)))
    assert found.body is not None
    assert (found.body.text.count("\n"), found.body.cut) == (LINES_MAX - 1, True)


@pytest.mark.parametrize(
    ("charset", "data", "text"),
    [
        ("iso-8859-9", "Değişik".encode("iso-8859-9"), "Değişik"),
        ("windows-1254", "Şirket".encode("cp1254"), "Şirket"),
        ("utf-7", b"x", None),
        ("zlib_codec", b"x", None),
        ("us-ascii", "ş".encode(), "ş"),
        ("utf-8", b"a\xff", "a\ufffd"),
    ],
)
def test_only_well_known_character_sets_are_printed(charset: str, data: bytes, text: str | None) -> None:
    raw = (
        b"Content-Type: text/plain; charset=%s\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" % charset.encode()
    )
    body = read(raw + data).body
    assert (None if body is None else body.text) == text


def test_a_signed_message_shows_its_signature_apart() -> None:
    found = read(signed_message(ayse()))
    assert [one.signature for one in found.parts] == [False] * (len(found.parts) - 1) + [True]


def test_an_attached_message_is_listed_with_what_is_in_it() -> None:
    outer = EmailMessage(policy=email.policy.SMTP)
    outer.set_content("bak")
    outer.add_attachment(email.message_from_bytes(message(("i.bin", b"ic")), policy=email.policy.SMTP))
    found = read(outer.as_bytes())
    assert [(one.number, one.level, one.content_type) for one in found.parts] == [
        ("1", 1, "text/plain"),
        ("2", 1, "message/rfc822"),
        ("2.1.1", 3, "text/plain"),
        ("2.1.2", 3, "application/octet-stream"),
    ]


def test_a_message_beyond_the_limits_is_one_part_with_its_digest() -> None:
    deep = b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (level, level)
        for level in range(60)
    )
    (part,) = read(deep).parts
    assert (part.size, part.sha256) == (len(deep), sha256(deep).digest())


@given(data=st.binary(max_size=400), width=st.integers(1, 80), piece=st.integers(1, 50))
def test_where_pieces_end_does_not_matter_for_base64(data: bytes, width: int, piece: int) -> None:
    text = base64.b64encode(data)
    lines = b"\r\n".join(text[at : at + width] for at in range(0, len(text), width))
    assert _decoded(lines, "base64", piece) == data


@given(data=st.binary(max_size=400), piece=st.integers(1, 50))
def test_where_pieces_end_does_not_matter_for_quoted_printable(data: bytes, piece: int) -> None:
    lines = quopri.encodestring(data, quotetabs=True).replace(b"\n", b"\r\n")
    assert _decoded(lines, "quoted-printable", piece) == quopri.decodestring(lines)


def _decoded(lines: bytes, encoding: str, piece: int) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(content, "PIECE", piece)
        return b"".join(decoded(BytesSource(lines), Range(0, len(lines)), encoding))


@given(data=st.binary(max_size=2000))
def test_no_message_breaks_the_reading(data: bytes) -> None:
    for part in read(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + data).parts:
        assert len(part.sha256) == 32
