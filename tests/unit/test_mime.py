"""The scanner finds parts by RFC 2046 delimiters and gives exact byte ranges."""

import base64
import contextlib
import time
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.mail.mime import (
    MimeLimitError,
    Part,
    ScanLimits,
    decoded_size,
    scan,
)
from evidence.mail.parts import read_head, read_part_head
from evidence.mail.tree import read_tree, tree_text
from evidence.ports import BytesSource


def crlf(text: str) -> bytes:
    return text.encode().replace(b"\n", b"\r\n")


def cut(data: bytes, part: Part) -> bytes:
    return data[part.whole.start : part.whole.end]


def body(data: bytes, part: Part) -> bytes:
    return data[part.body.start : part.body.end]


SIGNED = crlf("""\
From: =?utf-8?q?Ay=C5=9Fe?= <ayse@hs90.kep.tr>
Subject: one
 two
MIME-Version: 1.0
Content-Type: multipart/signed; micalg=sha-256;
\tprotocol="application/pkcs7-signature"; boundary="outer 1"

preamble
--outer 1
Content-Type: multipart/mixed; boundary=inner

--inner
Content-Type: text/plain; charset=utf-8
Content-Language: tr, en

merhaba
--inner  \t
Content-Type: message/rfc822
Content-Disposition: attachment; filename*=utf-8''m%C3%BChim.eml

Subject: embedded

text

--inner--

--outer 1
Content-Type: application/pkcs7-signature; name=smime.p7s
Content-Transfer-Encoding: BASE64
Content-ID: <1@x>
Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==

AAAA
AAA=

--outer 1--
epilogue
""")


def test_a_signed_message_has_its_parts_where_the_delimiters_say():
    root = scan(BytesSource(SIGNED))
    assert root.content_type == "multipart/signed"
    assert root.boundary == "outer 1"
    assert root.closed
    assert SIGNED[slice(*root.preamble)] == b"preamble"
    assert SIGNED[slice(*root.epilogue)] == b"epilogue\r\n"
    assert root.body.end == len(SIGNED)
    first, second = root.children
    assert first.closed
    assert body(SIGNED, first.children[0]) == b"merhaba"
    assert first.children[0].language == ("tr", "en")
    attached = first.children[1]
    assert attached.filename == "mühim.eml"
    assert attached.disposition == "attachment"
    assert body(SIGNED, attached) == b"Subject: embedded\r\n\r\ntext\r\n"
    assert attached.message is not None
    assert body(SIGNED, attached.message) == b"text\r\n"
    assert attached.lines == 3
    assert second.encoding == "base64"
    assert (second.content_id, second.md5) == ("<1@x>", "Q2hlY2sgSW50ZWdyaXR5IQ==")
    assert second.lines == 2
    assert not any(part.defects for part in root.walk())


def test_what_a_signature_covers_ends_before_the_crlf_of_the_delimiter():
    first = scan(BytesSource(SIGNED)).children[0]
    expected = SIGNED.split(b"\r\n--outer 1\r\n")[1]
    assert cut(SIGNED, first) == expected
    assert cut(SIGNED, first).endswith(b"--inner--\r\n")


def test_a_field_keeps_its_bytes_and_its_place():
    root = scan(BytesSource(SIGNED))
    subject = next(found for found in root.fields if found.name == "subject")
    assert subject.raw == b" one\r\n two"
    assert SIGNED[slice(*subject.range)] == b"Subject: one\r\n two\r\n"
    assert root.first("subject") == b" one\r\n two"
    assert root.all("received") == ()


def test_the_tree_survives_being_stored_beside_the_message():
    root = scan(BytesSource(SIGNED))
    assert read_tree(tree_text(root)) == root


@pytest.mark.parametrize(
    ("text", "bodies"),
    [
        ("--b\n\na\n--b\n\nc\n--b--\n", [b"a", b"c"]),
        ("--b\n\na\n\n--b--", [b"a\r\n"]),  # no final line end
        ("--b\n\na\n--bx\nc\n--b--x\n--b--\n", [b"a\r\n--bx\r\nc\r\n--b--x"]),  # only looks like one
        ("--b\n--b\n\n--b\n\n\n--b--\n", [b"", b"", b""]),  # nothing, blank line only, empty body
        ("--b\nX: y\n--b--\n", [b""]),  # header without blank line
        ("--b\n\nnever closed", [b"never closed"]),
        (" --b\n\n--b\n\nx\n--b--\n--b\n\nepilogue\n", [b"x"]),  # after the closing one nothing counts
    ],
)
def test_delimiters_stand_alone_on_their_line(text, bodies):
    data = crlf("Content-Type: multipart/mixed; boundary=b\n\n" + text)
    root = scan(BytesSource(data))
    assert [body(data, child) for child in root.children] == bodies


def test_a_header_cut_by_a_delimiter_does_not_reach_into_it():
    data = crlf(
        "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/html\n\n--b\nX: y\n--b--\n"
    )
    one, two = scan(BytesSource(data)).children
    assert cut(data, one) == b"Content-Type: text/html\r\n"
    assert cut(data, two) == b"X: y"
    assert one.subtype == "html"
    assert two.fields[0].raw == b" y"


def test_an_outer_delimiter_ends_every_part_inside():
    data = crlf(
        "Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/mixed; boundary=i\n\n"
        "--i\n\nleft open\n--o\n\nnext\n--o--\n"
    )
    inner, following = scan(BytesSource(data)).children
    assert not inner.closed
    assert "not-closed" in inner.defects
    assert body(data, inner.children[0]) == b"left open"
    assert body(data, following) == b"next"


def test_the_same_boundary_inside_belongs_to_the_outer_multipart():
    data = crlf(
        "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=b\n\n"
        "--b\n\nx\n--b--\n"
    )
    root = scan(BytesSource(data))
    assert [child.content_type for child in root.children] == ["multipart/mixed", "text/plain"]
    assert root.children[0].children == ()


def test_an_inner_boundary_may_begin_with_the_outer_one():
    data = crlf(
        "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=b--\n\n"
        "--b----\n\n--b--\n"
    )
    root = scan(BytesSource(data))
    assert root.closed
    assert root.children[0].closed


def test_parts_of_a_digest_are_messages_unless_they_say_otherwise():
    data = crlf("Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: x\n\ny\n--b--\n")
    (child,) = scan(BytesSource(data)).children
    assert child.content_type == "message/rfc822"
    assert child.message is not None
    assert body(data, child.message) == b"y"


def test_an_encoded_embedded_message_is_not_looked_into():
    data = crlf("Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nU3ViamVjdDogeA==\n")
    root = scan(BytesSource(data))
    assert root.message is None


@pytest.mark.parametrize(
    ("header", "defect"),
    [
        ("no colon here", "not-a-field"),
        ("From ayse Sat Nov 21", "not-a-field"),
        ("Subject : x", "blank-before-colon"),
        ("Content-Type: text", "content-type"),
        ("Content-Type: text/plain; what is this", "content-type"),
        ("Content-Type: multipart/mixed", "boundary"),
        ("Content-Type: multipart/mixed; boundary=" + "x" * 300, "boundary"),
        ("Content-Type: text/html\nContent-Type: text/plain", "duplicate-content-type"),
        ("Content-Type: multipart/mixed; boundary=b", "no-parts"),
        ("Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: base64", "encoded-multipart"),
    ],
)
def test_malformed_headers_are_tolerated_and_named(header, defect):
    root = scan(BytesSource(crlf(f"X: y\n{header}\n\nbody\n")))
    assert defect in root.defects
    assert root.first("x") == b" y"


def test_of_two_content_types_the_first_counts():
    root = scan(BytesSource(crlf("Content-Type: text/html\nContent-Type: text/plain\n\nx")))
    assert root.content_type == "text/html"


@pytest.mark.parametrize("data", [b"", b"\r\n", b"X: y", b"X: y\r\n", b"\r\nbody", b"\n\n", b"\r"])
def test_anything_is_a_message(data):
    root = scan(BytesSource(data))
    assert root.whole == (0, len(data))


def test_a_bare_line_feed_ends_no_header():
    data = b"Subject: x\nContent-Type: text/html\n\nbody"
    root = scan(BytesSource(data))
    assert root.content_type == "text/plain"
    assert [found.name for found in root.fields] == ["subject"]


@dataclass
class CountingSource:
    """Content that exists only as it is read, and remembers how much was asked for at once."""

    data: bytes
    largest: int = 0

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, length: int) -> bytes:
        self.largest = max(self.largest, length)
        return self.data[start : start + length]


def test_a_large_message_is_read_in_pieces():
    attachment = base64.encodebytes(bytes(6_000_000)).replace(b"\n", b"\r\n")
    head = crlf("Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Transfer-Encoding: base64\n\n")
    data = head + attachment + crlf("--b\n\nend\n--b--\n")
    source = CountingSource(data)
    root = scan(source)
    assert source.largest <= 512 * 1024
    assert root.children[0].lines == attachment.count(b"\r\n") - 1
    assert body(data, root.children[1]) == b"end"
    assert decoded_size(source, root) == 6_000_000 + 3
    assert source.largest <= 512 * 1024


@pytest.mark.parametrize("at", [512 * 1024 - n for n in range(12)])
def test_a_delimiter_across_two_pieces_is_found(at):
    head = crlf("Content-Type: multipart/mixed; boundary=bbbb\n\n--bbbb\n\n")
    data = head + b"x" * (at - len(head)) + crlf("\n--bbbb\n\nend\n--bbbb--\n") + b"y" * 600_000
    root = scan(BytesSource(data))
    assert root.children[0].body.end == at
    assert body(data, root.children[1]) == b"end"


def test_a_source_shorter_than_it_says_ends_the_scan():
    class Short:
        size = 10_000_000

        def read(self, start: int, length: int) -> bytes:
            return b"X: y\r\n\r\nbody"[start : start + length]

    assert scan(Short()).body.end == 12


# --- caps ---------------------------------------------------------------------------------------


def nested(levels: int) -> bytes:
    data = b""
    for level in range(levels):
        data += b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level)
    return data + b"\r\nx"


def test_nesting_has_an_end():
    assert scan(BytesSource(nested(31))).children
    with pytest.raises(MimeLimitError):
        scan(BytesSource(nested(32)))


def test_embedded_messages_count_as_nesting():
    with pytest.raises(MimeLimitError):
        scan(BytesSource(b"Content-Type: message/rfc822\r\n\r\n" * 100_000))


def test_parts_have_a_limit():
    head = b"Content-Type: multipart/mixed; boundary=b\r\n"
    assert len(scan(BytesSource(head + b"\r\n--b\r\n" * 9_999)).children) == 9_999
    with pytest.raises(MimeLimitError):
        scan(BytesSource(head + b"\r\n--b\r\n" * 100_000))


@pytest.mark.parametrize(
    "data",
    [
        b"X: " + b"y" * 300_000,
        b"X: " + b"y" * 300_000 + b"\r\n\r\n",
        b"X: " + b"y" * 3_000_000 + b"\r\n\r\n",
        b"X: y\r\n" * 2_001 + b"\r\n",
        b"x\r\n" * 80_000 + b"\r\n",
        b"X: y\r\n" + b" \r\n" * 90_000 + b"\r\n",
    ],
)
def test_headers_have_a_limit(data):
    with pytest.raises(MimeLimitError):
        scan(BytesSource(data))
    inside = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + data + b"\r\n--b--\r\n"
    with pytest.raises(MimeLimitError):
        scan(BytesSource(inside))


def test_all_headers_together_have_a_limit():
    part = b"\r\n--b\r\nX: " + b"y" * 100_000 + b"\r\n"
    data = b"Content-Type: multipart/mixed; boundary=b\r\n" + part * 50
    assert len(scan(BytesSource(data)).children) == 50
    with pytest.raises(MimeLimitError):
        scan(BytesSource(data), ScanLimits(all_header_bytes=1_000_000))


@pytest.mark.parametrize(
    "filling",
    [
        b"--\r\n" * 2_500_000,
        b"\r\n--" * 2_500_000,
        b"--b \r\n" * 3_000,
        b"--b" + b" " * 10_000_000,
        (b"--b" + b" " * 995 + b"\r\n") * 10_000 + b"--b" + b" " * 900 + b"x\r\n",
        b"\r" * 10_000_000,
    ],
)
def test_hostile_lines_take_bounded_time(filling):
    data = nested(20) + b"\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + filling
    started = time.perf_counter()
    with contextlib.suppress(MimeLimitError):
        scan(BytesSource(data))
    assert time.perf_counter() - started < 5


def test_lookalikes_of_delimiters_have_a_limit():
    data = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--bx\r\n" * 100_000
    with pytest.raises(MimeLimitError):
        scan(BytesSource(data))


def test_many_multiparts_whose_boundary_never_comes_take_bounded_time():
    part = b"--o\r\nContent-Type: multipart/mixed; boundary=never%d\r\n\r\n" + b"z" * 900 + b"\r\n"
    data = b"Content-Type: multipart/mixed; boundary=o\r\n\r\n" + b"".join(part % n for n in range(9_000))
    started = time.perf_counter()
    assert len(scan(BytesSource(data)).children) == 9_000
    assert time.perf_counter() - started < 5


# --- sizes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "encoded", "size"),
    [
        ("base64", b"QUJD", 3),
        ("base64", b"QUI=\r\n", 2),
        ("base64", b"QQ==\r\n", 1),
        ("base64", b" Q U !I\r\n=", 2),
        ("base64", b"Q", 0),
        ("quoted-printable", b"a=C5=9Fb=\r\nc\r\n", 7),
        ("quoted-printable", b"", 0),
        ("7bit", b"abc\r\n", 5),
        ("x-unknown", b"abc", 3),
    ],
)
def test_decoded_size_is_what_a_person_sees(encoding, encoded, size):
    data = f"Content-Transfer-Encoding: {encoding}\r\n\r\n".encode() + encoded
    source = BytesSource(data)
    assert decoded_size(source, scan(source)) == size


def test_decoded_size_of_quoted_printable_does_not_depend_on_pieces():
    encoded = b"=C5=9F" * 300_000  # one line of 1.8 MB, cut inside escapes
    source = BytesSource(b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + encoded)
    assert decoded_size(source, scan(source)) == 600_000


def test_decoded_size_adds_the_leaves_of_embedded_messages():
    source = BytesSource(SIGNED)
    assert decoded_size(source, scan(source)) == len(b"merhaba") + len(b"text\r\n") + 5


_HEAD_LINES = [
    b"Content-Type: text/plain; charset=utf-8\r\n",
    b"Content-Type: multipart/mixed;\r\n boundary=x\r\n",
    b"Content-Type: multipart/mixed\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Disposition: attachment; filename=a.pdf\r\n",
    b"Content-ID: <a@b>\r\n",
    b"Content-Language: tr, en\r\n",
    b"Subject : old\r\n",
    b"no field\r\n",
    b"X-Long: " + b"x" * 600 + b"\r\n",
]


@given(st.lists(st.sampled_from(_HEAD_LINES), max_size=6), st.integers(0, 1 << 40))
def test_the_head_of_a_part_is_the_same_from_the_memo_wherever_it_lies(lines, start):
    block = b"".join(lines) + b"\r\n"
    assert read_part_head(block, start, "text/plain", 50) == read_head(block, start, "text/plain", 50)


def test_a_part_head_with_too_many_fields_is_refused_each_time():
    for _ in range(2):
        with pytest.raises(MimeLimitError):
            read_part_head(b"A: b\r\n" * 6 + b"\r\n", 9, "text/plain", 5)


@pytest.mark.parametrize(
    "head", ["", "A: b\n", "A: b\n--\n--y\n", "A: --x\n"], ids=["none", "one", "marks", "inside"]
)
def test_a_delimiter_cuts_a_part_whose_header_never_ends(head):
    data = crlf(f"Content-Type: multipart/mixed; boundary=x\n\n--x\n{head}--x\n\nlast\n--x--\n")
    first, last = scan(BytesSource(data)).children
    assert cut(data, first) == crlf(head).removesuffix(b"\r\n")
    assert body(data, last) == b"last"
