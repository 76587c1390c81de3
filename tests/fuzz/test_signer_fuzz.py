"""What comes to the signer is read strictly: hostile bytes raise the reader's own error, wherever they are cut."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from evidence.forms.record_wire import RecordWireError, decode, encode
from evidence.model.records import Profile
from kephs.signer.wire import FrameReader, Seal, WireError, pack_request, read_answer, read_request
from tests.support.evidence_samples import record

MOST = 1 << 20
GOOD = encode(record())
FRAME = pack_request(Seal(1, (GOOD,), Profile.KEP, None))


@given(data=st.binary(max_size=300))
def test_any_bytes_are_a_record_or_refused(data: bytes) -> None:
    with contextlib.suppress(RecordWireError):
        decode(data)


@given(place=st.integers(0, len(GOOD)), junk=st.binary(max_size=6), cut=st.integers(0, 6))
def test_a_damaged_record_is_another_record_or_refused(place: int, junk: bytes, cut: int) -> None:
    damaged = GOOD[:place] + junk + GOOD[place + cut :]
    with contextlib.suppress(RecordWireError):
        assert decode(damaged) != record() or damaged == GOOD


@given(
    place=st.integers(0, len(FRAME)),
    junk=st.binary(max_size=6),
    cut=st.integers(0, 6),
    step=st.integers(1, 64),
)
def test_a_damaged_frame_is_read_or_refused_wherever_it_is_cut(
    place: int, junk: bytes, cut: int, step: int
) -> None:
    damaged = FRAME[:place] + junk + FRAME[place + cut :]
    reader = FrameReader(MOST)
    with contextlib.suppress(WireError, RecordWireError):
        for start in range(0, len(damaged), step):
            for frame in reader.feed(damaged[start : start + step]):
                for read in (read_request, read_answer):
                    with contextlib.suppress(WireError, RecordWireError):
                        read(frame)
