"""T.C. identity numbers: the check digits that KEP-AD-06 asks for."""

from typing import Final

_LENGTH: Final = 11


def is_identity_number(text: str) -> bool:
    """Say whether the text is a T.C. Kimlik No with right check digits (KEP-AD-06)."""
    if len(text) != _LENGTH or not (text.isascii() and text.isdigit()) or text[0] == "0":
        return False
    digits = [int(char) for char in text]
    tenth = (7 * sum(digits[0:9:2]) - sum(digits[1:8:2])) % 10
    return digits[9] == tenth and digits[10] == sum(digits[:10]) % 10
