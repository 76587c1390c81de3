"""Letters for the fault tests: composed and signed once, submitted as often as it takes."""

import itertools
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from tests.support.crash import DOMAIN, Holder, now
from tests.support.signers import signed_message

NOBODY = f"yok@{DOMAIN}"
BIG = 400_000  # more than the spool keeps in memory


class Kind(Enum):
    """What should become of a letter."""

    PLAIN = "plain"
    BIG = "big"  # goes through a temporary file
    TO_MANY = "to many"
    TO_NOBODY = "to nobody"  # accepted, then 41
    UNSIGNED = "unsigned"  # refused, 11


_MIX = {Kind.PLAIN: 14, Kind.BIG: 1, Kind.TO_MANY: 3, Kind.TO_NOBODY: 1, Kind.UNSIGNED: 1}  # so many each


@dataclass(frozen=True, eq=False)
class Letter:
    """One letter. ``dotted`` is what goes over the wire behind 354, final dot included."""

    user_id: str
    kind: Kind
    sender: Holder
    recipients: tuple[str, ...]
    content: bytes
    dotted: bytes

    @property
    def refused(self) -> bool:
        """Say whether it has to be refused."""
        return self.kind is Kind.UNSIGNED


def write_letters(people: dict[str, Holder], choice: random.Random) -> Iterator[Letter]:
    """Write letters without end: who writes to whom and what is up to ``choice``."""
    holders = list(people.values())
    for number in itertools.count(1):
        sender = choice.choice(holders)
        others = [holder.address for holder in holders if holder is not sender]
        yield write_letter(number, choice.choices(list(_MIX), list(_MIX.values()))[0], sender, others, choice)


def write_letter(
    number: int, kind: Kind, sender: Holder, others: list[str], choice: random.Random, nobody: str = NOBODY
) -> Letter:
    """Write one letter to one or more of the others; ``nobody`` is an address that has no account."""
    to = {
        Kind.TO_MANY: tuple(choice.sample(others, min(2, len(others)))),
        Kind.TO_NOBODY: (nobody, choice.choice(others)),
    }.get(kind, (choice.choice(others),))
    user_id = f"<{number}.{choice.randbytes(6).hex()}@faults.example>"
    head = (
        f"From: {sender.address}\r\nTo: {', '.join(to)}\r\nSubject: ihtar {number}\r\n"
        f"Date: {now():%a, %d %b %Y %H:%M:%S +0000}\r\nMessage-ID: {user_id}\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    body = f"Sayın yetkili, {number}\r\n.\r\n" + "borcunuz vardır\r\n" * (
        BIG // 16 if kind is Kind.BIG else 3
    )
    content = (head + body).encode()
    if kind is not Kind.UNSIGNED:
        content = signed_message(
            sender.issued, unsigned=content, at=now(), boundary=f"b{choice.randbytes(16).hex()}"
        )
    dotted = re.sub(rb"^\.", b"..", content, flags=re.MULTILINE)
    if not dotted.endswith(b"\r\n"):
        dotted += b"\r\n"
    return Letter(user_id, kind, sender, to, content, dotted + b".\r\n")
