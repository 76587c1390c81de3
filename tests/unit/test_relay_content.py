"""Content goes out byte for byte with its dots stuffed; what could be misread does not go out at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.ports import BytesSource
from kephs.domain.relay import Letter
from smtp_gateway.relay_content import ContentEncoder, LetterError, check_envelope

CONTENT = BytesSource(b"a: b\r\n\r\nx\r\n")


def letter(*recipients: str) -> Letter:
    return Letter("s@hs91.kep.tr", recipients, CONTENT)


def encode(*pieces: bytes, eight_bit: bool = False) -> bytes:
    encoder = ContentEncoder(eight_bit=eight_bit)
    return b"".join(encoder.feed(piece) for piece in pieces) + encoder.end()


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b".\r\n", b"..\r\n.\r\n"),
        (b"..\r\n", b"...\r\n.\r\n"),
        (b"a\r\n.b\r\n", b"a\r\n..b\r\n.\r\n"),
        (b"a.\r\n\r\n.\r\n", b"a.\r\n\r\n..\r\n.\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
    ],
    ids=["dot", "dots", "line", "lone", "none"],
)
def test_dots_are_stuffed_and_nothing_else_changes(content, wire):
    assert encode(content) == wire
    assert encode(*(content[n : n + 1] for n in range(len(content)))) == wire


LINES = st.lists(st.sampled_from([b"", b".", b"..", b"a", b".a", b"a.", b"\xc3\xa7"]), min_size=1)


@given(lines=LINES, cut=st.integers(0, 30))
def test_unstuffing_gives_the_content_back_wherever_it_is_cut(lines, cut):
    content = b"\r\n".join((*lines, b""))
    wire = encode(content[:cut], content[cut:], eight_bit=True)
    assert wire.endswith(b"\r\n.\r\n")
    stuffed = wire[: -len(b".\r\n")].split(b"\r\n")
    assert b"." not in stuffed
    assert b"\r\n".join(line.removeprefix(b".") for line in stuffed) == content


@pytest.mark.parametrize(
    "pieces",
    [
        (b"a\n.\nMAIL FROM:<evil>\r\n",),
        (b"a\r.\r\r\n",),
        (b"a\r", b"b\r\n"),
        (b"a", b"\nb\r\n"),
        (b"\n",),
        (b"a\r\n", b"\nb\r\n"),
        (b"\r\r\n",),
    ],
    ids=["bare-lf", "bare-cr", "cr-cut", "lf-cut", "first", "after-crlf", "two-cr"],
)
def test_smtp_smuggling_with_bare_line_ends_is_refused(pieces):
    with pytest.raises(LetterError, match="stands alone"):
        encode(*pieces)


@pytest.mark.parametrize("content", [b"", b"a", b"a\r", b"a\r\nb"], ids=["empty", "open", "cr", "last-line"])
def test_content_ends_with_crlf_and_none_is_added(content):
    if not content:
        assert encode() == b".\r\n"  # hand_over refuses empty content before it gets here
        return
    with pytest.raises(LetterError):
        encode(content)


def test_octets_above_127_need_to_be_announced():
    with pytest.raises(LetterError, match="above 127"):
        encode("ş\r\n".encode())
    assert encode("ş\r\n".encode(), eight_bit=True) == "ş\r\n.\r\n".encode()


@pytest.mark.parametrize(
    "address",
    ["", "a", "a@b@c", "a b@c", "a@c>", "a@c\r\nDATA", "<a@c", '"a"@c', "ç@c.tr", "a@c\0", "a\\@c", "x" * 250 + "@c.tr"],
    ids=["empty", "no-at", "two-at", "space", "bracket", "command", "open", "quoted", "turkish", "nul", "escape", "long"],
)  # fmt: skip
def test_an_address_that_could_break_out_of_its_command_is_not_sent(address):
    with pytest.raises(LetterError):
        check_envelope(letter(address))
    if address:
        with pytest.raises(LetterError):
            check_envelope(Letter(address, ("r@hs92.kep.tr",), CONTENT))


def test_a_letter_has_a_recipient():
    with pytest.raises(LetterError, match="no recipient"):
        check_envelope(Letter("", (), CONTENT))
