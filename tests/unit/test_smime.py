"""The sender's signature is the outermost body or nothing; what `kephs sign` builds is that."""

import subprocess
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.mail.mime import Range, scan
from evidence.mail.smime import (
    PIECE,
    EntityKind,
    SignedEntity,
    SmimeError,
    SmimeLimits,
    content_of,
    decode_base64,
    digest_variants,
    digests,
    locate,
    read_signed,
)
from evidence.mail.smime_sign import UnsignableError, base64_lines, canonical, sign_message
from evidence.ports import BytesSource
from evidence.report import SubIndication
from kephs.testpki.issued import to_pem
from tests.support.pki import NOW, ayse, mehmet, shared_pki
from tests.support.signers import BODY, BOUNDARY, ENTITY, HEADER, KeySigner, opaque_message, signed_message


def find(message, **limits):
    source = BytesSource(message)
    return locate(source, scan(source), limits=SmimeLimits(**limits))


def refusal(message, **limits):
    with pytest.raises(SmimeError) as caught:
        find(message, **limits)
    return caught.value.sub_indication


NOT_FOUND = SubIndication.SIGNED_DATA_NOT_FOUND
BROKEN = SubIndication.FORMAT_FAILURE


def test_a_detached_signature_covers_the_first_part_exactly():
    message = signed_message(ayse())
    found = find(message)
    assert found.kind is EntityKind.DETACHED
    start, end = found.content
    assert message[start:end].startswith(b"Content-Type: text/plain")
    assert message[end : end + 4] == b"\r\n--"
    assert message[start:end].endswith(b"borcunuz.\r\n")


def test_an_opaque_signature_holds_its_content():
    message = opaque_message(ayse())
    found = find(message)
    assert found.kind is EntityKind.OPAQUE
    signed = read_signed(found)
    source, span = content_of(BytesSource(message), found, signed)
    assert source.read(span.start, span.length) == ENTITY
    assert scan(source).content_type == "text/plain"


@pytest.mark.parametrize(
    "message",
    [
        BODY,
        HEADER + b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n" + signed_message(ayse()) + b"\r\n--x--\r\n",
        HEADER + b"Content-Type: message/rfc822\r\n\r\n" + signed_message(ayse()),
        signed_message(ayse()).replace(b'protocol="application/pkcs7-signature"', b'protocol="application/pgp-signature"'),
        opaque_message(ayse()).replace(b"smime-type=signed-data", b"smime-type=enveloped-data"),
    ],
    ids=["plain", "nested", "embedded", "pgp", "encrypted"],
)  # fmt: skip
def test_without_a_signature_outermost_nothing_is_found(message):
    assert refusal(message) is NOT_FOUND


def test_neither_protocol_nor_part_type_means_nothing_is_found():
    message = signed_message(ayse()).replace(b' protocol="application/pkcs7-signature";', b"")
    find(message)
    assert refusal(message.replace(b"application/pkcs7-signature", b"text/plain")) is NOT_FOUND


def test_a_detached_signature_with_a_second_content_inside_has_no_digest():
    message = opaque_message(ayse())
    der = find(message).der
    source = BytesSource(b"baska")
    both = SignedEntity(EntityKind.DETACHED, Range(0, 5), der)
    assert digests(source, both, read_signed(both), ["sha256"]) is None
    assert list(digest_variants(source, both, read_signed(both), ["sha256"])) == []
    empty = SignedEntity(EntityKind.OPAQUE, None, find(signed_message(ayse())).der)
    assert digests(source, empty, read_signed(empty), ["sha256"]) is None
    assert content_of(source, empty, read_signed(empty)) is None


def test_a_signature_that_ends_early_or_grows_while_decoding_is_refused():
    with pytest.raises(SmimeError):
        decode_base64(BytesSource(b"QUJD"), Range(0, 8), 1000)
    with pytest.raises(SmimeError):
        decode_base64(BytesSource(b"QUJD"), Range(0, 4), 2)


def extra_part(message):
    return message.replace(
        b"--" + BOUNDARY.encode() + b"--",
        b"--" + BOUNDARY.encode() + b"\r\n\r\nx\r\n--" + BOUNDARY.encode() + b"--",
    )


@pytest.mark.parametrize(
    "change",
    [
        extra_part,
        lambda m: m.replace(b"--" + BOUNDARY.encode() + b"--\r\n", b""),
        lambda m: m.replace(
            b'Content-Type: application/pkcs7-signature; name="smime.p7s"', b"Content-Type: text/plain"
        ),
        lambda m: m.replace(b"Transfer-Encoding: base64", b"Transfer-Encoding: 7bit"),
        lambda m: m.replace(b"MIME-Version", b"Content-Type: text/plain\r\nMIME-Version"),
    ],
    ids=["third part", "not closed", "other type", "not base64", "two content types"],
)
def test_a_malformed_multipart_signed_is_a_format_failure(change):
    message = signed_message(ayse())
    assert change(message) != message
    assert refusal(change(message)) in {BROKEN, NOT_FOUND}


def with_preamble(text):
    return signed_message(ayse()).replace(b"\r\n\r\n--", b"\r\n\r\n" + text + b"\r\n--", 1)


def test_known_fixed_preambles_are_tolerated_and_other_text_is_not():
    find(with_preamble(b"This is an S/MIME signed message\r\n"))
    find(with_preamble(b""))
    assert refusal(with_preamble(b"Pay to another account.")) is SubIndication.SIG_CONSTRAINTS_FAILURE
    assert (
        refusal(with_preamble(b"This is an S/MIME signed message"), preambles=())
        is SubIndication.SIG_CONSTRAINTS_FAILURE
    )


def test_text_after_the_last_boundary_is_refused():
    assert refusal(signed_message(ayse()) + b"Pay more.\r\n") is SubIndication.SIG_CONSTRAINTS_FAILURE
    find(signed_message(ayse()) + b"\r\n\r\n")


def test_caps_are_checked_before_decoding():
    assert refusal(signed_message(ayse()), detached=100) is BROKEN
    assert refusal(opaque_message(ayse()), opaque=100) is BROKEN


@given(
    data=st.binary(max_size=300), width=st.integers(1, 90), tail=st.sampled_from([b"", b"\r\n", b"\r\n \r\n"])
)
def test_base64_is_decoded_whatever_its_line_length(data, width, tail):
    text = base64_lines(data).replace(b"\r\n", b"")
    wrapped = b"\r\n".join(text[i : i + width] for i in range(0, len(text), width)) + tail
    assert decode_base64(BytesSource(wrapped), Range(0, len(wrapped)), 1000) == data


@pytest.mark.parametrize("size", [PIECE - 3, PIECE - 2, PIECE - 1, PIECE, PIECE + 1])
def test_base64_that_ends_near_a_piece_border_is_decoded(size):
    data = bytes(size * 3 // 4)
    text = base64_lines(data).replace(b"\r\n", b"") + b"\r\n\r\n"
    assert decode_base64(BytesSource(text), Range(0, len(text)), PIECE * 2) == data


@pytest.mark.parametrize(
    "text", [b"QUJD!A==", b"QUI", b"QQ==QQ==", b"QQ==\r\nQUJD", b"=QUJ", b"Q=Q=", b"QUJDQ===", b"\xc4\xb1AA"]
)
def test_anything_else_in_base64_is_refused(text):
    with pytest.raises(SmimeError):
        decode_base64(BytesSource(text), Range(0, len(text)), 1000)


def test_base64_going_on_after_its_padding_in_a_later_piece_is_refused():
    text = b"QQ==" + b" " * PIECE + b"QQ=="
    with pytest.raises(SmimeError):
        decode_base64(BytesSource(text), Range(0, len(text)), PIECE * 2)


class Zeros:
    """A source of 100 MB that is not in memory."""

    size = 100 * 1024 * 1024

    def read(self, start, length):
        return bytes(min(length, self.size - start))


@pytest.mark.slow
def test_hashing_100_megabytes_of_detached_content_keeps_memory_flat():
    message = signed_message(ayse())
    found = find(message)
    signed = read_signed(found)
    large = type(found)(EntityKind.DETACHED, Range(0, Zeros.size), found.der)
    tracemalloc.start()
    assert digests(Zeros(), large, signed, ["sha256"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 1024 * 1024


def test_a_source_that_ends_early_has_no_digest():
    found = find(signed_message(ayse()))
    assert digests(BytesSource(b"short"), found, read_signed(found), ["sha256"]) is None


# ------------------------------------------------------------------ building


@pytest.mark.tools
@pytest.mark.parametrize("who", [ayse, mehmet])
async def test_openssl_accepts_the_message_that_sign_builds(who, tmp_path):
    message = await sign_message(BODY, KeySigner(who()), NOW, boundary="TESTboundary77")
    (tmp_path / "m.eml").write_bytes(message)
    (tmp_path / "r").write_bytes(to_pem([shared_pki().root]))
    command = "openssl cms -verify -cades -purpose any -in m.eml -CAfile r -out out"
    done = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"borcunuz" in (tmp_path / "out").read_bytes()


async def test_header_fields_stay_outside_and_content_fields_go_inside():
    message = await sign_message(BODY, KeySigner(ayse()), NOW, boundary="b1")
    header, _, rest = message.partition(b"\r\n\r\n")
    for name in (b"From: ", b"To: ", b"Subject: ", b"Date: ", b"Message-ID: ", b"MIME-Version: "):
        assert header.count(name) == 1
        assert b"\r\n" + name not in rest
    assert header.count(b"Content-Type: ") == 1
    assert b"Content-Transfer-Encoding: 8bit" in rest


async def test_any_line_ends_become_crlf():
    for text in (BODY.replace(b"\r\n", b"\n"), BODY.replace(b"\r\n", b"\r"), BODY):
        assert canonical(text) == BODY
        message = await sign_message(text, KeySigner(ayse()), NOW, boundary="b1")
        assert message.count(b"\r\n") == message.count(b"\n") == message.count(b"\r")


async def test_a_message_without_content_type_or_version_gets_them():
    message = await sign_message(b"From: a@b\n\nMerhaba\n", KeySigner(ayse()), NOW, boundary="b1")
    assert b"MIME-Version: 1.0\r\nContent-Type: multipart/signed" in message
    assert b"Content-Type: text/plain; charset=utf-8" in message


MIXED = b"From: a@b\r\nContent-Type: multipart/mixed; boundary=inner\r\n\r\n--inner\r\n\r\nx\r\n--inner--\r\n"


@pytest.mark.parametrize(
    ("message", "boundary"),
    [
        (BODY + b"--abc\r\n", "abc"),
        (MIXED, "inner2"),
        (MIXED, "inn"),
        (BODY, "with space"),
        (BODY, ""),
        (BODY, "x" * 71),
        (BODY + b"x" * 999, "abc"),
        (BODY + b"\0", "abc"),
        (signed_message(ayse()), "abc"),
        (b"no header at all", "abc"),
        (b" folded first: x\r\n\r\nbody", "abc"),
    ],
)
async def test_what_cannot_be_signed_safely_is_refused(message, boundary):
    with pytest.raises(UnsignableError):
        await sign_message(message, KeySigner(ayse()), NOW, boundary=boundary)


@given(
    st.lists(
        st.sampled_from([b"QUJD", b"\r\n", b" ", b"QQ==", b"QUI=", b"=", b"Q", b"-", b"QR=="]), max_size=12
    )
)
def test_base64_is_read_the_same_in_one_piece_and_in_many(pieces):
    text = b"".join(pieces)

    def outcome(before):
        whole = before + text
        try:
            return decode_base64(BytesSource(whole), Range(0, len(whole)), PIECE * 2)
        except SmimeError as error:
            return error.sub_indication

    padded = b"\r\n" * (PIECE // 2 + 8)  # so much of it that a second piece is needed
    assert outcome(b"") == outcome(padded)
