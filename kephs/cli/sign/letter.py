"""What a letter must have before it is worth a signature: who writes it, and when."""

from collections.abc import Sequence
from typing import Final

from evidence.mail.headers import AddressSyntaxError, addresses, unfold
from evidence.mail.mime import MimeLimitError, scan
from evidence.mail.smime_sign import canonical
from evidence.ports import BytesSource

_NEEDED: Final = ("From", "Date")  # spec: RFC5322#3.6
_HEADER_MAX: Final = 1024 * 1024


def letter_problem(message: bytes) -> str:
    """Return why no provider would take a letter from anybody, or "" where its From and Date stand.

    A header that cannot be read at all is left to the signing itself, which says why.

    Args:
        message: an unsigned RFC 5322 message with any line ends.
    """
    fields = _fields(message)
    if not fields:
        return ""
    missing = [name for name in _NEEDED if not any(fields.get(name.lower(), ()))]
    if missing:
        return f"the letter has no {' and no '.join(missing)}"
    twice = [name for name in _NEEDED if len(fields[name.lower()]) > 1]
    if twice:
        return f"the letter has more than one {' and '.join(twice)}"
    return _sender_problem(fields["from"][0])


def _fields(message: bytes) -> dict[str, Sequence[bytes]]:
    """Return the values of the outermost fields by name, as a provider reads them."""
    header = canonical(message[:_HEADER_MAX]).partition(b"\r\n\r\n")[0].removesuffix(b"\r\n")
    try:
        root = scan(BytesSource(header + b"\r\n\r\n"))
    except MimeLimitError:
        return {}
    found: dict[str, list[bytes]] = {}
    for field in root.fields:
        found.setdefault(field.name, []).append(unfold(field.raw))
    return dict(found)


def _sender_problem(value: bytes) -> str:
    try:
        found = addresses(value)
    except AddressSyntaxError as error:
        return f"From cannot be read: {error}"
    return "" if len(found) == 1 else f"From names {len(found)} addresses, and one person signs"
