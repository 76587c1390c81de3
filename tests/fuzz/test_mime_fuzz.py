"""Whatever bytes come in: where reads cut does not matter, ranges nest, and stdlib agrees on good messages."""

import binascii
import email
import email.message

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence.mail import mime
from evidence.mail.headers import AddressSyntaxError, addresses, decode_text, parameter, structured
from evidence.mail.mime import MimeLimitError, Part, decoded_size, scan
from evidence.mail.tree import placed, read_tree, tree_text
from evidence.ports import BytesSource

# --- messages made of the pieces that matter ----------------------------------------------------

FRAGMENTS = [
    b"\r\n", b"\r", b"\n", b"--", b"--b", b"--c", b"--b--", b"--c--", b"\r\n--b\r\n", b"\r\n--c\r\n",
    b"\r\n--b--\r\n", b"\r\n--bb\r\n", b"\r\n\r\n", b" ", b"\t", b"x", b": ", b"X: y", b"=C5", b"=\r\n",
    b"Content-Type: multipart/mixed; boundary=b\r\n", b"Content-Type: multipart/digest; boundary=c\r\n",
    b"Content-Type: multipart/mixed; boundary=bb\r\n", b"Content-Type: message/rfc822\r\n",
    b"Content-Transfer-Encoding: base64\r\n", b"Content-Transfer-Encoding: quoted-printable\r\n", b"\xff",
]  # fmt: skip
soup = st.lists(st.sampled_from(FRAGMENTS), max_size=60).map(b"".join)


def check_nesting(part: Part, size: int) -> None:
    assert 0 <= part.header.start <= part.header.end == part.body.start <= part.body.end <= size
    inside = [child.whole for child in part.children]
    if part.message is not None:
        inside.append(part.message.whole)
    at = part.body.start
    for whole in inside:
        assert at <= whole.start <= whole.end <= part.body.end
        at = whole.end
    for piece in (part.preamble, part.epilogue):
        assert piece is None or part.body.start <= piece.start <= piece.end <= part.body.end
    for child in (*part.children, *((part.message,) if part.message else ())):
        check_nesting(child, size)


@settings(max_examples=400, deadline=None)
@given(data=soup)
def test_ranges_nest_and_lines_are_counted_for_any_bytes(data):
    root = scan(BytesSource(data))
    check_nesting(root, len(data))
    assert root.whole == (0, len(data))
    for part in root.walk():
        assert part.lines == data[part.body.start : part.body.end].count(b"\n")
        for found in part.fields:
            assert data[slice(*found.range)].startswith(found.raw_name.encode())
            assert found.raw in data[slice(*found.range)]
    assert read_tree(tree_text(root)) == root
    text = tree_text(root)
    assert read_tree(placed(text, 7)) == read_tree(placed(placed(text, 3), 7))
    assert decoded_size(BytesSource(data), root) >= 0


@settings(max_examples=300, deadline=None)
@given(data=soup, piece=st.integers(100, 200))
def test_where_reads_cut_does_not_matter(data, piece):
    expected = scan(BytesSource(data))
    size = decoded_size(BytesSource(data), expected)
    limits = mime.ScanLimits(header_bytes=10**6)
    with pytest.MonkeyPatch.context() as patch:  # our own constants, not a library
        patch.setattr(mime, "READ_SIZE", piece)
        patch.setattr(mime, "BOUNDARY_MAX", 2)
        patch.setattr(mime, "PADDING_MAX", 8)
        try:
            found = scan(BytesSource(data), limits)
        except MimeLimitError:
            return  # a header longer than one piece
        assert found == expected
        assert decoded_size(BytesSource(data), expected) == size


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_scanned(data):
    check_nesting(scan(BytesSource(data)), len(data))


# --- against the standard library ---------------------------------------------------------------

texts = st.lists(st.sampled_from([b"merhaba", b"", b"--", b"--x", b"a: b", b" c"]), max_size=4).map(
    b"\r\n".join
)


@st.composite
def entities(draw, depth=0, path="r"):
    kind = draw(st.sampled_from(["leaf", "leaf", "multipart", "message"] if depth < 3 else ["leaf"]))
    fields = draw(st.lists(st.sampled_from([b"X-A: 1", b"X-B: two\r\n  folded", b"Subject: s"]), max_size=3))
    if kind == "leaf":
        content = draw(texts)
        fields.append(
            draw(st.sampled_from([b"Content-Type: text/html", b'Content-Type: image/x; name="a;b"']))
        )
    elif kind == "message":
        content = draw(entities(depth=depth + 1, path=path + "m"))
        fields.append(b"Content-Type: message/rfc822")
    else:
        boundary = f"=_{path}".encode()
        children = [
            draw(entities(depth=depth + 1, path=f"{path}.{n}.")) for n in range(draw(st.integers(1, 3)))
        ]
        content = b"preamble" if draw(st.booleans()) else b""
        content += b"".join(b"\r\n--" + boundary + b"\r\n" + child for child in children)
        content += b"\r\n--" + boundary + b"--" + draw(st.sampled_from([b"", b"\r\n", b"\r\nepilogue"]))
        fields.append(b'Content-Type: multipart/mixed; boundary="' + boundary + b'"')
    return b"\r\n".join(draw(st.permutations(fields))) + b"\r\n\r\n" + content


def assert_same(data: bytes, part: Part, other: email.message.Message) -> None:
    assert part.content_type == other.get_content_type()
    assert [(f.raw_name, f.raw.decode().lstrip(" ")) for f in part.fields] == list(other.raw_items())
    payload = other.get_payload()
    if part.message is not None:
        assert isinstance(payload, list)
        assert isinstance(payload[0], email.message.Message)
        assert_same(data, part.message, payload[0])
    elif part.children:
        assert isinstance(payload, list)
        assert len(payload) == len(part.children)
        for child, theirs in zip(part.children, payload, strict=True):
            assert isinstance(theirs, email.message.Message)
            assert_same(data, child, theirs)
    else:
        assert data[slice(*part.body)] == str(payload).encode()


@settings(max_examples=300, deadline=None)
@given(data=entities())
def test_stdlib_sees_the_same_parts_in_well_formed_messages(data):
    assert_same(data, scan(BytesSource(data)), email.message_from_bytes(data))


# --- encodings and headers ----------------------------------------------------------------------


@settings(deadline=None)
@given(content=st.binary(max_size=200), width=st.integers(1, 100))
def test_decoded_size_of_base64_is_exact(content, width):
    encoded = binascii.b2a_base64(content, newline=False)
    lines = b"\r\n".join(encoded[i : i + width] for i in range(0, len(encoded), width))
    source = BytesSource(b"Content-Transfer-Encoding: base64\r\n\r\n" + lines)
    assert decoded_size(source, scan(source)) == len(content)


@settings(deadline=None)
@given(content=st.binary(max_size=200))
def test_decoded_size_of_quoted_printable_is_exact(content):
    encoded = binascii.b2a_qp(content, istext=False)
    source = BytesSource(b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + encoded)
    assert decoded_size(source, scan(source)) == len(content)


HEADER = st.lists(
    st.sampled_from([b'"', b"\\", b"(", b")", b"<", b">", b"@", b",", b";", b":", b"=", b"*", b"a", b".", b" ",
                     b"\r\n ", b"=?utf-8?q?", b"?=", b"'", b"%", b"\xc5\x9f", b"\xff", b"[", b"]", b"0"]),
    max_size=40,
).map(b"".join)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(raw=HEADER)
def test_any_header_value_is_read_or_refused(raw):
    decode_text(raw).encode("utf-8")
    _, params, _ = structured(raw)
    for name, _ in params:
        parameter(params, name.partition("*")[0])
    shown = addresses(raw, strict=False)
    try:
        strict = addresses(raw)
    except AddressSyntaxError:
        return
    assert strict == shown
    for box in strict:  # an address that was accepted means itself
        (again,) = addresses(box.address.encode())
        assert again.address == box.address
