"""KEP addresses: grammar, folding of Turkish letters, and which provider an address names.

spec: KEP-AD-01..05 (KEP Rehberi ve Adres Tebliği m.11).
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from unicodedata import combining, normalize

LOCAL_PART_MAX: Final = 64  # spec: RFC5321#4.5.3.1.1, KEP-AD-04
ADDRESS_MAX: Final = 254  # spec: KEP-AD-04
DEFAULT_SUFFIX: Final = "kep.tr"

# spec: KEP-AD-02; never locale rules or a plain lower(), which would turn İ into i + U+0307
_FOLDS: Final = str.maketrans(
    {
        "ç": "c",
        "Ç": "c",
        "ğ": "g",
        "Ğ": "g",
        "ı": "i",
        "I": "i",
        "İ": "i",
        "ö": "o",
        "Ö": "o",
        "ş": "s",
        "Ş": "s",
        "ü": "u",
        "Ü": "u",
        "â": "a",
        "Â": "a",
        "î": "i",
        "Î": "i",
        "û": "u",
        "Û": "u",
        "\u0307": None,
    }
)
_LOCAL: Final = re.compile(r"[a-z0-9]+(?:\.[a-z0-9]+)*\Z")
_LABEL: Final = re.compile(r"[a-z0-9]{1,63}\Z")  # spec: KEP-AD-01
_PROVIDER: Final = re.compile(r"hs[0-9]{2}\Z")


class AddressError(ValueError):
    """The text is not a KEP address; the message says why, without repeating the text."""


def fold(text: str) -> str:
    """Fold Turkish letters and case to the stored ASCII form (IŞIK.İNCİ becomes isik.inci).

    Letters that KEP-AD-02 does not name stay as they are, so that `KepAddress.parse` refuses them.
    """
    if text.isascii():
        return text.lower()
    folded = normalize("NFC", text).translate(_FOLDS)
    return "".join(char.lower() if char.isascii() else char for char in folded)


def _foldable(char: str) -> bool:
    """Say whether a character may stand in an address as written (the Kelvin sign, NFC of K, may not)."""
    return char.isascii() or ord(char) in _FOLDS or combining(char) != 0


@dataclass(frozen=True, slots=True, order=True)
class KepAddress:
    """A folded, checked KEP address; ``provider`` is how all addresses of a KEPHS end: hs91.kep.tr."""

    local: str
    domain: str
    provider: str

    @classmethod
    def parse(cls, text: str, *, suffix: str = DEFAULT_SUFFIX) -> "KepAddress":
        """Parse ``local@[tuzel-adi.]hsNN.suffix``, folding Turkish letters first.

        Raises:
            AddressError: the text is no KEP address.
        """
        return _parsed(text, suffix)

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"


@lru_cache(maxsize=4096)  # a pure memo: a message names each of its addresses a dozen times
def _parsed(text: str, suffix: str) -> KepAddress:
    if len(text) > 4 * ADDRESS_MAX:
        raise AddressError("too long")
    if not text.isascii() and not all(map(_foldable, text)):
        raise AddressError("letters outside the Turkish and English alphabets")
    local, at, domain = fold(text.strip()).rpartition("@")
    if not at or not local or not domain:
        raise AddressError("no @")
    if len(local) > LOCAL_PART_MAX or len(local) + len(domain) + 1 > ADDRESS_MAX:
        raise AddressError("too long")
    if not _LOCAL.match(local):
        raise AddressError("characters outside a-z, 0-9 and single dots before the @")
    ending = "." + suffix
    if not domain.endswith(ending):
        raise AddressError("not a KEP domain")
    labels = domain[: -len(ending)].split(".")
    if len(labels) > 2 or not _PROVIDER.match(labels[-1]) or not all(_LABEL.match(x) for x in labels):
        raise AddressError("not a KEP domain")
    return KepAddress(local, domain, labels[-1] + ending)
