"""Accounts and who may act for them.

spec: KEP-AC-01..09, KEP-CL-01..07.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import IntFlag, StrEnum
from typing import Final

from directory.addresses import KepAddress


class AccountKind(StrEnum):
    """Gerçek kişi, tüzel kişi, kurumsal başvuru."""

    REAL_PERSON = "real_person"
    LEGAL_PERSON = "legal_person"
    CORPORATE_MEMBER = "corporate_member"


# spec: KEP-AD-01, KEP-AD-05; folded addresses, so letters are a to z
_PERSON_USER: Final = re.compile(r"[a-z]+\.[a-z]+(?:\.[0-9]+)?\Z")  # ad.soyad[.number]
_LEGAL_USER: Final = re.compile(r"[a-z0-9]+(?:\.[a-z0-9]+)?\Z")  # MERSİS number or tuzel-adi[.X]


def fits(address: KepAddress, kind: AccountKind) -> bool:
    """Say whether an address has the form that accounts of a kind have (KEP-AD-01, KEP-AD-05).

    Real persons: ad.soyad[.number] at the provider itself. Legal persons: one or two names, also under their
    own tuzel-adi. Corporate members: ad.soyad[.number] under a tuzel-adi, always (KEP-AC-04).
    """
    own_name = address.domain != address.provider
    match kind:
        case AccountKind.REAL_PERSON:
            return not own_name and _PERSON_USER.match(address.local) is not None
        case AccountKind.LEGAL_PERSON:
            return _LEGAL_USER.match(address.local) is not None
        case AccountKind.CORPORATE_MEMBER:
            return own_name and _PERSON_USER.match(address.local) is not None


class ServiceType(StrEnum):
    """Hizmet alma şekli."""

    SEND_AND_RECEIVE = "send_and_receive"
    RECEIVE_ONLY = "receive_only"


class AccountState(StrEnum):
    """KEP-AC-08. Only ACTIVE receives; CLOSED keeps its address for ever (KEP-CL-05)."""

    WAITING = "waiting"
    ACTIVE = "active"
    BLOCKED = "blocked"
    CLOSED = "closed"


class Right(IntFlag):
    """The ticks of an operator (KEP-AC-05, KEP-AC-06). Stored: 16 was one that nothing asked for."""

    READ = 1
    SEND = 2
    DELETE = 4
    ARCHIVE = 8
    MANAGE = 32


ALL_RIGHTS = Right.READ | Right.SEND | Right.DELETE | Right.ARCHIVE | Right.MANAGE


@dataclass(frozen=True, slots=True)
class Account:
    """One KEP account.

    ``used_bytes`` counts mailbox content, never evidence (KEP-RT-06). ``seals_allowed``: a qualified seal
    may sign (5070.2.1), once its certificate is bound.
    """

    account_id: str
    address: KepAddress
    kind: AccountKind
    service: ServiceType
    state: AccountState
    holder_name: str
    quota_bytes: int
    used_bytes: int
    opened_at: datetime
    state_since: datetime
    seals_allowed: bool = False


@dataclass(frozen=True, slots=True)
class Operator:
    """A person who acts for an account: the holder, or an işlem yetkilisi.

    The identity number is kept only as a keyed hash (KEP-AP-05): it can be compared, not read.
    """

    operator_id: str
    account_id: str
    name: str
    identity_mac: bytes
    rights: Right
    is_holder: bool
    valid_from: datetime
    valid_until: datetime | None

    def may(self, right: Right, at: datetime) -> bool:
        """Say whether the person holds the right at that time."""
        in_time = self.valid_from <= at and (self.valid_until is None or at < self.valid_until)
        return in_time and right in self.rights


@dataclass(frozen=True, slots=True)
class AppPassword:
    """A password one person uses in mail clients; kept as an Argon2id hash."""

    password_id: str
    account_id: str
    operator_id: str
    label: str
    hash: str
    created_at: datetime
    revoked_at: datetime | None = None
