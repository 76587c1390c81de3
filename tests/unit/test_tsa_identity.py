"""How authorities are told who asks: Kamu SM's header, basic authentication, and what refusals say."""

from hashlib import pbkdf2_hmac, sha256

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from evidence.adapters.tsa_identity import (
    TsaAuth,
    TsaEndpoint,
    customer_number,
    identity,
    refusal_text,
    shown,
)
from evidence.asn1.der import Cursor, parse, to_int, to_octets
from evidence.stamps.timestamps import granted, rejection

SALT = bytes(range(16))
IMPRINT = sha256(b"x").digest()
GOLDEN = (
    "305d020230390410000102030405060708090a0b0c0d0e0f0201640410000102030405060708090a0b0c0d0e0f"
    "0430aacf533760df77fbfba9672a0bdaebadc07b2611a5af2053bacf7eacf2a1184ed443618e57e5da9b0eab3053bcb5c66b"
)
"""Made with `openssl kdf` (PBKDF2), `openssl enc -aes-256-cbc` and `openssl asn1parse -genconf`."""


def test_the_identity_is_what_openssl_makes_of_the_same_parts():
    assert identity(12345, "parola-ğ", IMPRINT, SALT) == GOLDEN


@given(st.integers(1, 10**18 - 1), st.text(min_size=1, max_size=40), st.binary(min_size=16, max_size=16))
def test_the_authority_can_read_customer_and_imprint_back(customer, password, salt):
    cursor = Cursor(parse(bytes.fromhex(identity(customer, password, IMPRINT, salt)), max_size=500), limit=5)
    assert to_int(cursor.take(0x02)) == customer
    assert to_octets(cursor.take(0x04)) == salt
    assert to_int(cursor.take(0x02)) == 100
    assert to_octets(cursor.take(0x04)) == salt
    encrypted = to_octets(cursor.take(0x04))
    cursor.finish()
    key = pbkdf2_hmac("sha256", password.encode(), salt, 100, 32)
    decryptor = Cipher(algorithms.AES(key), modes.CBC(salt)).decryptor()
    assert decryptor.update(encrypted) + decryptor.finalize() == IMPRINT + b"\x10" * 16


@pytest.mark.parametrize("size", [0, 15, 17])
def test_a_salt_has_sixteen_octets(size):
    with pytest.raises(ValueError, match="salt"):
        identity(1, "p", IMPRINT, bytes(size))


def test_an_endpoint_sends_the_header_of_its_kind():
    assert TsaEndpoint("http://tsa.example/").headers(IMPRINT, SALT) == {}
    kamu = TsaEndpoint("http://tsa.example/", 12345, "parola-ğ", "kamusm")
    assert kamu.headers(IMPRINT, SALT) == {"identity": GOLDEN}
    basic = TsaEndpoint("https://tsa.example/", "ayşe", "a:ğ", TsaAuth.BASIC)
    assert basic.headers(IMPRINT, SALT) == {"Authorization": "Basic YXnFn2U6YTrEnw=="}


def test_a_password_is_not_shown():
    assert "geheim" not in repr(TsaEndpoint("https://tsa.example/", "u", "geheim", "basic"))


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ({"url": "ftp://tsa.example/"}, "neither http nor https"),
        ({"url": "tsa.example"}, "neither http nor https"),
        ({"url": "http://"}, "url"),
        ({"url": "http://[::1"}, "url"),
        ({"url": "https://user:geheim@tsa.example/"}, "credentials stand in user"),
        ({"auth": "digest"}, "auth: not one of none, kamusm, basic"),
        ({"auth": "kamusm", "user": 1}, "needs user and password"),
        ({"auth": "basic", "password": "geheim"}, "needs user and password"),
        ({"auth": "kamusm", "user": "ayse", "password": "geheim"}, "customer number"),
        ({"auth": "kamusm", "user": 0, "password": "geheim"}, "customer number"),
        ({"auth": "kamusm", "user": -5, "password": "geheim"}, "customer number"),
        ({"auth": "kamusm", "user": "٣", "password": "geheim"}, "customer number"),
        ({"auth": "kamusm", "user": "1" * 19, "password": "geheim"}, "customer number"),
        ({"auth": "basic", "user": "a:b", "password": "geheim"}, "colon"),
        ({"auth": "basic", "user": "a", "password": "geheim", "url": "http://tsa.example/"}, "needs https"),
        ({"credits": -1}, "credits"),
    ],
    ids=range(16),
)
def test_an_endpoint_that_cannot_be_meant_so_is_refused(endpoint, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        TsaEndpoint(**{"url": "https://tsa.example/", **endpoint})
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_basic_authentication_on_this_machine_needs_no_https(host):
    assert TsaEndpoint(f"http://{host}:8080/tsa", "u", "p", "basic").headers(IMPRINT, SALT)


def test_a_customer_number_may_be_text():
    assert customer_number("0012345") == 12345


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (rejection(2, "User 999 is not known"), "User 999 is not known"),
        (bytes.fromhex("3010020102130b") + b"wrong parola", "wrong parol"),  # breaks its lengths
        (b"Kontor yok", "Kontor yok"),
        ("Kontör yok, şifre ığİ".encode(), "Kontör yok, şifre ığİ"),
        (b"<html>\r\n\x1b[31mred\x00</html>", "<html> [31mred </html>"),
        (b"", "no words of why"),
        (b"\x30\x03\x02\x01\x05", "no words of why"),
        (b"\x30\x84\xff\xff\xff\xff\x0c", "no words of why"),
        (b"\x30\x80\x0c\x02ab\x00\x00", "ab"),
    ],
    ids=range(9),
)
def test_a_refusal_says_in_words_what_it_can(answer, words):
    assert refusal_text(answer) == words


def test_an_answer_with_signed_data_is_no_refusal():
    signed_data = bytes.fromhex("300b06092a864886f70d010702")
    assert refusal_text(granted(signed_data)) is None


@given(st.binary(max_size=300))
def test_whatever_a_refusal_holds_a_log_line_comes_out(answer):
    for data in (answer, b"\x30\x82" + answer):
        words = refusal_text(data)
        assert words is None or (len(words) <= 200 and words.isprintable())


@given(st.text(max_size=300))
def test_foreign_text_is_fit_for_a_log(text):
    assert shown(text).isprintable()
    assert len(shown(text)) <= 200
