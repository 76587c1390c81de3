"""DATA is cut, unstuffed and checked the same wherever the network cuts it, in flat memory."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence.ports import BytesSource
from kephs.ports import StoreUnavailableError
from smtp_gateway import data_stream
from smtp_gateway.data_stream import BareLineEndingError, DataDecoder, DataEndedEarlyError, receive


def decode(*pieces: bytes) -> tuple[bytes, DataDecoder]:
    decoder = DataDecoder()
    return b"".join(decoder.feed(piece) for piece in pieces), decoder


class KeepingSpool:
    def __init__(self) -> None:
        self.writes: list[bytes] = []

    async def write(self, data: bytes) -> None:
        self.writes.append(data)

    def source(self) -> BytesSource:
        return BytesSource(b"".join(self.writes))

    async def discard(self) -> None:
        self.writes.clear()


class FullSpool(KeepingSpool):
    async def write(self, data: bytes) -> None:
        raise StoreUnavailableError


@pytest.mark.parametrize(
    ("wire", "content", "rest"),
    [
        (b".\r\n", b"", b""),
        (b"a\r\n.\r\n", b"a\r\n", b""),
        (b"\r\n.\r\n", b"\r\n", b""),
        (b"..\r\n.\r\n", b".\r\n", b""),
        (b"a\r\n..b\r\n...\r\n.\r\n", b"a\r\n.b\r\n..\r\n", b""),
        (b".x\r\n.\r\n", b"x\r\n", b""),
        (b"a.\r\n.\r\nQUIT\r\n", b"a.\r\n", b"QUIT\r\n"),
        (b"a\r\n.\r\n.\r\n", b"a\r\n", b".\r\n"),
        (b"\r\n\r\n..\r\n\r\n.\r\n", b"\r\n\r\n.\r\n\r\n", b""),
        (b"a\r\n.\r\nbare\n", b"a\r\n", b"bare\n"),  # what follows is no longer data
    ],
)
def test_data_ends_at_the_lone_dot_and_loses_its_stuffing(wire, content, rest):
    found, decoder = decode(wire)
    assert (found, decoder.finished, decoder.rest) == (content, True, rest)
    assert decoder.size == len(content)


@pytest.mark.parametrize(
    "wire",
    [
        b"a\nb\r\n.\r\n",
        b"a\rb\r\n.\r\n",
        b"a\r\n.\n",
        b"a\n.\r\n",
        b"\n",
        b"a\r\r\n.\r\n",
        b"a\r\n.\rx",
        b"a\r\n\n.\r\n",
    ],
)
def test_a_bare_cr_or_lf_ends_the_session(wire):
    with pytest.raises(BareLineEndingError):
        decode(wire)
    with pytest.raises(BareLineEndingError):
        decode(*(bytes([byte]) for byte in wire))


@pytest.mark.parametrize("wire", [b"", b"a", b"a\r\n", b"a\r\n.", b"a\r\n.\r", b"..\r\n"])
def test_without_the_lone_dot_data_has_not_ended(wire):
    assert not decode(wire)[1].finished


@pytest.mark.parametrize(
    ("wire", "too_long"),
    [
        (b"x" * 998 + b"\r\n.\r\n", False),
        (b"x" * 999 + b"\r\n.\r\n", True),
        (b"." + b"." * 998 + b"\r\n.\r\n", False),  # the stuffed dot does not count
        ((b"x" * 998 + b"\r\n") * 50 + b".\r\n", False),
        ((b"x" * 998 + b"\r\n") * 50 + b"x" * 999 + b"\r\n.\r\n", True),
        (b"x" * 999 + b"\r\n" + b"y\r\n" * 5000 + b".\r\n", True),
        (b"y\r\n" * 5000 + b"x" * 998 + b"\r\n" + b"y\r\n" * 5000 + b".\r\n", False),
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 500, 997, 1000, 10**6])
def test_a_line_of_more_than_998_bytes_is_noticed(wire, too_long, piece):
    _, decoder = decode(*(wire[i : i + piece] for i in range(0, len(wire), piece)))
    assert decoder.finished
    assert decoder.line_too_long is too_long


def test_a_nul_is_noticed_and_kept():
    content, decoder = decode(b"a\0b\r\n.\r\n")
    assert decoder.nul
    assert content == b"a\0b\r\n"


WIRE = st.lists(
    st.sampled_from([b"\r\n", b".", b"..", b"x", b"\r", b"\n", b"\0", b"\r\n.", b"\r\n.\r\n"]), max_size=30
)


def outcome(pieces: list[bytes]) -> object:
    try:
        content, decoder = decode(*pieces)
    except BareLineEndingError:
        return "bare"
    rest = decoder.rest
    return content, decoder.finished, decoder.nul, decoder.line_too_long, decoder.size, rest


@settings(max_examples=500)
@given(wire=WIRE.map(b"".join), cuts=st.lists(st.integers(0, 60), max_size=6))
def test_where_the_network_cuts_does_not_matter(wire, cuts):
    wire += b"x\r\n.\r\n"  # all is certain at the end
    places = sorted({0, len(wire), *(cut for cut in cuts if cut < len(wire))})
    pieces = [wire[a:b] for a, b in itertools.pairwise(places)]
    assert outcome(pieces) == outcome([wire])


@settings(max_examples=300)
@given(lines=st.lists(st.text("ab.", max_size=4).map(str.encode), max_size=12))
def test_what_a_client_stuffs_comes_back(lines):
    content = b"".join(line + b"\r\n" for line in lines)
    stuffed = b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines)
    assert decode(stuffed + b".\r\n")[0] == content


@settings(max_examples=200)
@given(lengths=st.lists(st.integers(990, 1005) | st.integers(0, 3), max_size=8), piece=st.integers(1, 2500))
def test_line_lengths_are_judged_the_same_for_any_cut(lengths, piece):
    wire = b"".join(b"x" * length + b"\r\n" for length in lengths) + b".\r\n"
    _, decoder = decode(*(wire[i : i + piece] for i in range(0, len(wire), piece)))
    assert decoder.line_too_long == any(length > 998 for length in lengths)


def reader(wire: bytes, piece: int = 100_000):
    pieces = [wire[i : i + piece] for i in range(0, len(wire), piece)]

    async def read(most: int) -> bytes:
        assert most == data_stream.READ_SIZE
        return pieces.pop(0) if pieces else b""

    return read


async def test_content_reaches_the_spool_in_large_blocks():
    content = b"x" * 98 + b"\r\n"
    spool = KeepingSpool()
    received = await receive(reader(content * 20_000 + b".\r\nQUIT\r\n"), spool, max_size=10**7)
    assert b"".join(spool.writes) == content * 20_000
    assert all(len(block) >= 256 * 1024 for block in spool.writes[:-1])
    assert (received.size, received.rest, received.too_big) == (2_000_000, b"QUIT\r\n", False)


async def test_what_is_too_big_is_drained_and_not_kept():
    spool = KeepingSpool()
    received = await receive(reader(b"x" * 1_000_000 + b"\r\n.\r\n"), spool, max_size=600_000)
    assert received.too_big
    assert sum(map(len, spool.writes)) <= 600_000


async def test_nobody_listens_to_twice_too_much():
    with pytest.raises(DataEndedEarlyError):
        await receive(reader(b"x" * 1_000_000), KeepingSpool(), max_size=300_000)


async def test_a_full_store_is_reported_after_the_end_of_data():
    received = await receive(reader(b"x\r\n.\r\nNOOP\r\n"), FullSpool(), max_size=10**6)
    assert received.store_failed
    assert received.rest == b"NOOP\r\n"


async def test_a_connection_that_ends_inside_data_delivers_nothing():
    with pytest.raises(DataEndedEarlyError):
        await receive(reader(b"x\r\n"), KeepingSpool(), max_size=10**6)
