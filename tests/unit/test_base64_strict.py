"""Base64 has one spelling: two texts for the same octets would let a byte change unseen."""

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.base64_strict import LooseBase64Error, decode


@given(content=st.binary(max_size=80))
def test_canonical_text_gives_its_content(content: bytes) -> None:
    assert decode(b64encode(content)) == content


@given(content=st.binary(min_size=1, max_size=40), place=st.integers(0, 60), other=st.integers(0, 255))
def test_no_other_text_gives_the_same_content(content: bytes, place: int, other: int) -> None:
    text = bytearray(b64encode(content))
    text[place % len(text)] = other
    if bytes(text) != b64encode(content):
        try:
            assert decode(bytes(text)) != content
        except LooseBase64Error:
            return


@pytest.mark.parametrize(
    "text", [b"QQ=", b"QQ", b"QR==", b"QUJ=", b"Q Q=", b"QQ==\n", b"QQ==QQ==", b"=", b"Q\xc3\xa9=="]
)
def test_loose_text_is_refused(text: bytes) -> None:
    with pytest.raises(LooseBase64Error):
        decode(text)
