"""Finding a card behind a driver: each way there can be none has its own code. The driver is a stand-in."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pkcs11 import PROTECTED_AUTH, TokenFlag
from pkcs11 import exceptions as codes

from evidence.adapters.card_platform import foreign_platform
from evidence.adapters.card_signer import login
from evidence.adapters.pkcs11_card import CardError, CardFault, chain_for, find_token, pin_state
from evidence.x509.certificates import certificate_facts
from tests.support.pki import ayse, shared_pki

_READY = TokenFlag.TOKEN_INITIALIZED | TokenFlag.USER_PIN_INITIALIZED


@dataclass
class Token:
    label: str
    flags: TokenFlag = _READY
    refusal: Exception | None = None
    pins: list[object] = field(default_factory=list)
    slot: "Slot | None" = None

    def open(self, *, user_pin: object = None) -> object:
        self.pins.append(user_pin)
        if self.refusal is not None:
            raise self.refusal
        return self


@dataclass
class Slot:
    slot_id: int
    token: Token | Exception | None = None

    def get_token(self) -> Token:
        if isinstance(self.token, Exception):
            raise self.token
        if self.token is None:
            raise codes.TokenNotPresent
        self.token.slot = self
        return self.token


@dataclass
class Driver:
    slots: list[Slot]
    failure: Exception | None = None

    def get_slots(self) -> list[Slot]:
        if self.failure is not None:
            raise self.failure
        return self.slots


def fault_of(*slots: Slot, failure: Exception | None = None, **wanted: object) -> CardError:
    with pytest.raises(CardError) as caught:
        find_token(Driver(list(slots), failure), **wanted)  # type: ignore[arg-type]
    return caught.value


@pytest.mark.parametrize(
    ("slots", "fault"),
    [
        ((), CardFault.NO_READER),
        ((Slot(0), Slot(1)), CardFault.NO_CARD),
        ((Slot(0, codes.DeviceRemoved()),), CardFault.NO_CARD),
        ((Slot(0, codes.TokenNotRecognised()),), CardFault.CARD_UNREADABLE),
        ((Slot(0, codes.DeviceError()),), CardFault.CARD_UNREADABLE),
        ((Slot(0, codes.HostMemory()),), CardFault.CARD_FAILED),
        ((Slot(0, Token("x", TokenFlag(0))),), CardFault.CARD_UNINITIALISED),
        ((Slot(0, Token("x")), Slot(1, Token("y"))), CardFault.CARDS_SEVERAL),
    ],
    ids=["no reader", "empty readers", "taken out", "other way round", "broken", "driver", "blank", "two"],
)
def test_why_there_is_no_card_to_sign_with_is_told(slots: tuple[Slot, ...], fault: CardFault):
    assert fault_of(*slots).fault is fault


def test_a_driver_that_fails_is_told():
    assert fault_of(failure=codes.GeneralError()).fault is CardFault.CARD_FAILED


def test_a_card_is_found_by_label_by_slot_or_alone():
    first, second = Token("x"), Token("y")
    both = Driver([Slot(7, first), Slot(8, second), Slot(9, Token("", TokenFlag(0)))])
    assert find_token(both, label="y") is second
    assert find_token(both, slot=7) is first
    assert find_token(Driver([Slot(7, first), Slot(9, Token("", TokenFlag(0)))])) is first
    assert fault_of(*both.slots, slot=9).fault is CardFault.CARD_UNINITIALISED
    unknown = fault_of(*both.slots, label="z")
    assert (unknown.fault, "'x' in slot 7" in str(unknown)) == (CardFault.CARD_UNKNOWN, True)
    assert "there are 7, 8, 9" in str(fault_of(*both.slots, slot=1))


def card(**more: object) -> Token:
    return find_token(Driver([Slot(1, Token("x", **more))]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("refusal", "fault", "text"),
    [
        (codes.PinIncorrect(), CardFault.PIN_WRONG, "does not tell"),
        (codes.PinLenRange(), CardFault.PIN_WRONG, "does not tell"),
        (codes.PinLocked(), CardFault.PIN_LOCKED, "locked"),
        (codes.UserPinNotInitialized(), CardFault.PIN_UNSET, "no PIN"),
        (codes.PinExpired(), CardFault.PIN_EXPIRED, "expired"),
        (codes.DeviceRemoved(), CardFault.NO_CARD, "no card"),
        (codes.FunctionFailed(), CardFault.CARD_FAILED, "failed"),
    ],
    ids=["wrong", "too short", "locked", "unset", "expired", "taken out", "driver"],
)
def test_what_the_card_says_to_the_pin_is_told_after_one_try(refusal: Exception, fault: CardFault, text: str):
    token = card(refusal=refusal)
    with pytest.raises(CardError, match=text) as caught:
        login(token, "1234")
    assert (caught.value.fault, token.pins) == (fault, ["1234"])


@pytest.mark.parametrize("pin", ["", "1" * 300])
def test_a_pin_that_none_can_be_is_not_tried(pin: str):
    token = card()
    with pytest.raises(CardError, match="nothing was tried"):
        login(token, pin)
    assert token.pins == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (TokenFlag.USER_PIN_LOCKED | TokenFlag.USER_PIN_FINAL_TRY, "no try"),
        (TokenFlag.USER_PIN_FINAL_TRY | TokenFlag.USER_PIN_COUNT_LOW, "the last one"),
        (TokenFlag.USER_PIN_COUNT_LOW, "at least two"),
        (TokenFlag(0), "does not tell"),
    ],
    ids=["locked", "final", "low", "nothing"],
)
def test_tries_left_are_told_as_the_flags_tell_them(flags: TokenFlag, words: str):
    assert words in pin_state(card(flags=_READY | flags)).tries


def test_at_a_reader_with_a_pad_no_pin_passes_through_us():
    token = card(flags=_READY | TokenFlag.PROTECTED_AUTHENTICATION_PATH)
    assert pin_state(token).pad
    login(token, None)
    assert token.pins == [PROTECTED_AUTH]


def test_a_chain_goes_upwards_without_the_root_and_ends_in_a_circle():
    leaf, issuers = certificate_facts(ayse().certificate), [certificate_facts(der) for der in ayse().chain]
    root = certificate_facts(shared_pki().root)
    assert chain_for(leaf, [root, *reversed(issuers), leaf, *issuers]) == ayse().chain
    assert chain_for(leaf, []) == ()


@given(content=st.binary(max_size=80))
def test_any_file_can_be_asked_what_machine_it_is_for(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
):
    path = tmp_path_factory.getbasetemp() / "library"
    path.write_bytes(content)
    said = foreign_platform(path, Path(sys.executable))
    assert said is None or said.startswith(("is made for ", "is no program library"))
    if not content.startswith((b"\x7fELF", b"MZ")) and len(content) < 4:
        assert said is not None


def test_a_library_of_this_machine_is_not_foreign():
    assert foreign_platform(Path(sys.executable), Path(sys.executable)) is None
