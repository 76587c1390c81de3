"""The text that a person signs to bind a certificate to an account. Pure; nothing is stored for it.

The text says to people what signing it does and carries its own proof: account, operator, expiry, nonce and a
keyed hash over all that stands before it. Lines end in CRLF, so that tools which sign "as text" and tools
which sign the bytes digest the same octets. Changing one octet makes it nobody's text.

spec: KEP-NE-08. Why so: ADR 0038.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import Final

CHALLENGE_LIFE: Final = timedelta(minutes=10)
CHALLENGE_MAX: Final = 4096
"""Octets; what is longer was not made here."""

_CRLF: Final = "\r\n"
_DOMAIN: Final = "kephs certificate challenge 1\n"  # no identity number looks like it: the key is shared
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
_TAIL: Final = re.compile(
    rb"account-id: ([0-9A-Za-z_-]{1,64})\r\n"
    rb"operator-id: ([0-9A-Za-z_-]{1,64})\r\n"
    rb"valid-until: ([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)\r\n"
    rb"nonce: ([0-9A-Za-z_-]{16,64})\r\n"
    rb"mac: ([0-9a-f]{64})\r\n\Z"
)


class ChallengeError(Exception):
    """The text is none of ours, or was changed."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a challenge binds: any certificate of this person, to this account, until then (whole seconds)."""

    account_id: str
    operator_id: str
    valid_until: datetime
    nonce: str


def write_challenge(challenge: Challenge, *, address: str, person: str, mac: Callable[[str], bytes]) -> bytes:
    """Return the text to sign.

    Args:
        challenge: what it is to bind.
        address: the account's, for people.
        person: the operator's name, for people.
        mac: a keyed hash under a key of the instance.
    """
    until = challenge.valid_until.astimezone(UTC).strftime(_TIME)
    name = " ".join(person.split())
    lines = (
        "KEP SERTİFİKA BAĞLAMA METNİ / KEP CERTIFICATE BINDING TEXT",
        "",
        f"Bu metni imzaladığınız nitelikli elektronik sertifika {address} KEP hesabına,",
        f"{name} adına bağlanır: bundan sonra bu hesaptan ileti imzalayabilir.",
        "Bu işlemi siz başlatmadıysanız imzalamayın.",
        "",
        f"The qualified certificate you sign this text with is bound to the KEP account {address}",
        f"for {name}: from then on it can sign messages of this account.",
        "Do not sign if you did not begin this yourself.",
        "",
        f"account-id: {challenge.account_id}",
        f"operator-id: {challenge.operator_id}",
        f"valid-until: {until}",
        f"nonce: {challenge.nonce}",
    )
    text = "".join(line + _CRLF for line in lines)
    return f"{text}mac: {_proof(text, mac)}{_CRLF}".encode()


def read_challenge(data: bytes, *, mac: Callable[[str], bytes]) -> Challenge:
    """Return what a challenge binds, if it was made here. Whether it is in time is the caller's question.

    Raises:
        ChallengeError: it was not made with this key, or was changed.
    """
    found = _TAIL.search(data) if len(data) <= CHALLENGE_MAX else None
    if found is None:
        raise ChallengeError("this is no binding text of kephs, or it was changed")
    account_id, operator_id, until, nonce, proof = (group.decode("ascii") for group in found.groups())
    try:
        text = data[: found.start(5) - len(b"mac: ")].decode()
        valid_until = datetime.strptime(until, _TIME).replace(tzinfo=UTC)
    except ValueError:
        raise ChallengeError("this is no binding text of kephs") from None
    if not compare_digest(_proof(text, mac), proof):
        raise ChallengeError("this binding text was changed, or another instance made it")
    return Challenge(account_id, operator_id, valid_until, nonce)


def _proof(text: str, mac: Callable[[str], bytes]) -> str:
    return sha256(mac(_DOMAIN + text)).hexdigest()
