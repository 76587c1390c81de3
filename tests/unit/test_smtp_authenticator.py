"""Signing in: answers are read strictly, and guessing gets slow and then impossible."""

from base64 import b64encode
from datetime import UTC, datetime

import pytest

from evidence.model.records import Authentication
from kephs.domain.messages import Person
from kephs.ports import StoreUnavailableError
from smtp_gateway.authenticator import (
    Authenticator,
    CredentialsUnavailableError,
    SaslError,
    Throttle,
    ThrottledError,
    ThrottleSettings,
    decode_response,
    network_of,
    split_plain,
)

PERSON = Person("a1", "o1", "Ayşe", Authentication(datetime(2026, 11, 21, tzinfo=UTC), "urn:x"))
QUICK = ThrottleSettings(delay=0.0, per_network=3, per_address=5, table_size=4)


class Hand:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class OnePassword:
    def __init__(self) -> None:
        self.asked = 0
        self.down = False

    async def sign_in(self, address: str, password: str) -> Person | None:
        self.asked += 1
        if self.down:
            raise StoreUnavailableError
        return PERSON if (address, password) == ("a@x", "right") else None


@pytest.mark.parametrize("bad", [b"***", b"QQ", b"/w==", b"A" * 3000])
def test_an_answer_must_be_base64_of_utf_8(bad):
    with pytest.raises(SaslError):
        decode_response(bad)


def test_an_equals_sign_is_an_empty_answer():
    assert decode_response(b"=") == ""
    assert decode_response(b64encode("ş".encode())) == "ş"


@pytest.mark.parametrize("text", ["", "a", "\0a", "\0a\0", "\0\0b", "other\0a\0b", "\0a\0b\0c"])
def test_a_plain_answer_has_three_fields_and_acts_for_nobody_else(text):
    with pytest.raises(SaslError):
        split_plain(text)


def test_a_plain_answer_may_name_itself():
    assert split_plain("\0a@x\0p") == split_plain("a@x\0a@x\0p") == ("a@x", "p")


async def test_the_right_password_gives_the_person():
    credentials = OnePassword()
    authenticator = Authenticator(credentials, clock=Hand(), settings=QUICK)
    assert await authenticator.check("a@x", "right", "192.0.2.1") is PERSON
    assert await authenticator.check("a@x", "wrong", "192.0.2.1") is None


async def test_a_network_that_guesses_is_no_longer_listened_to():
    clock, credentials = Hand(), OnePassword()
    authenticator = Authenticator(credentials, clock=clock, settings=QUICK)
    for n in range(3):
        assert await authenticator.check(f"{n}@x", "w", "192.0.2.1") is None
    with pytest.raises(ThrottledError):
        await authenticator.check("a@x", "right", "192.0.2.1")
    assert credentials.asked == 3
    assert await authenticator.check("a@x", "right", "192.0.2.2") is PERSON
    clock.now = 1000.0
    assert await authenticator.check("a@x", "right", "192.0.2.1") is PERSON


async def test_an_address_guessed_at_from_everywhere_stays_open_where_its_owner_was():
    authenticator = Authenticator(
        OnePassword(), clock=Hand(), settings=ThrottleSettings(delay=0.0, per_network=3, per_address=5)
    )
    assert await authenticator.check("a@x", "right", "198.51.100.1") is PERSON
    for n in range(5):
        assert await authenticator.check("A@x ", "w", f"192.0.2.{n}") is None
    with pytest.raises(ThrottledError):
        await authenticator.check("a@x", "right", "192.0.2.99")
    assert await authenticator.check("a@x", "right", "198.51.100.1") is PERSON


async def test_ones_own_success_does_not_help_to_guess_at_others():
    authenticator = Authenticator(OnePassword(), clock=Hand(), settings=QUICK)
    for n in range(3):
        await authenticator.check("a@x", "right", "192.0.2.1")
        await authenticator.check(f"{n}@x", "w", "192.0.2.1")
    with pytest.raises(ThrottledError):
        await authenticator.check("other@x", "w", "192.0.2.1")
    for _ in range(3):
        await authenticator.check("a@x", "w", "192.0.2.1")
    with pytest.raises(ThrottledError):
        await authenticator.check("a@x", "right", "192.0.2.1")


async def test_a_silent_store_is_no_wrong_password():
    credentials = OnePassword()
    credentials.down = True
    with pytest.raises(CredentialsUnavailableError):
        await Authenticator(credentials, clock=Hand(), settings=QUICK).check("a@x", "right", "192.0.2.1")


def test_delays_double_up_to_a_limit():
    throttle = Throttle(ThrottleSettings(delay=0.5, max_delay=3.0), Hand())
    assert [throttle.failed("a@x", "n") for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_the_tables_do_not_grow():
    throttle = Throttle(QUICK, Hand())
    for n in range(100):
        throttle.failed(f"{n}@x", f"n{n}")
        throttle.succeeded(f"{n}@x", f"n{n}")
    assert len(throttle._failures) == 4
    assert len(throttle._good) == 4


def test_ipv6_guessers_are_counted_by_their_64():
    assert network_of("2001:db8:0:1::1") == network_of("2001:db8:0:1:ffff::2") == "2001:0db8:0000:0001"
    assert network_of("2001:db8:0:2::1") != network_of("2001:db8:0:1::1")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("") == ""
