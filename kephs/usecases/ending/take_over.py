"""Taking a provider over: its hand-over is checked and kept as it is, its addresses for their holders.

Old evidence stays what it was: bytes, records, proofs and ledger of the old provider, verified under its own
certificates and its own log's key. Everything is compared before anything is written; killed at any moment,
the same command goes on. The manifest comes last into the folder, the row last into the store.

spec: KEP-TM-02, KEP-TM-03, KEP-CL-05.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Final

from directory.accounts import AccountState
from directory.addresses import AddressError
from directory.providers import ProviderRegister
from evidence.bundle.archive_object import from_micros
from evidence.bundle.hand_over import LIST_MAX, MANIFEST, MANIFEST_MAX, SEAL, SEAL_MAX, Listed, Manifest
from evidence.report import Report
from kephs.domain.trust_list import checked_name
from kephs.ports import Clock, Offload, Store, Tx
from kephs.ports.hand_over import (
    ForeignAddress,
    ForeignArchive,
    ForeignState,
    PartCipher,
    PartMissingError,
    Parts,
    PartsError,
)
from kephs.usecases.ending.foreign import ForeignReader, open_foreign
from kephs.usecases.ending.hand_over import PART_MAX
from kephs.usecases.ending.hand_over_check import HandOverCheck
from kephs.usecases.ending.hand_over_contents import read_account
from kephs.usecases.ending.hand_over_rows import read_lines
from kephs.usecases.people.accounts import AccountError, AccountFault

KEY_FILE: Final = "anahtar.kepa"
"""The hand-over's key, sealed under the key of the instance that took it over."""
TAKEN_OVER: Final = "provider.taken-over"
CONSENTED: Final = "account.holder-consented"
_ROWS_OF: Final = 500
_DOMAIN: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,250}\Z")


class TakeOverFault(StrEnum):
    """Why nothing was taken over. Stable codes."""

    NOT_SOUND = "not-sound"
    OWN_PROVIDER = "own-provider"
    OTHER_HAND_OVER = "other-hand-over"


class TakeOverError(Exception):
    """Nothing was taken over; ``report`` says what does not hold, where that is the cause."""

    def __init__(self, fault: TakeOverFault, text: str, report: Report | None = None) -> None:
        """Keep the code beside the text."""
        super().__init__(text)
        self.fault, self.report = fault, report


@dataclass(frozen=True, slots=True)
class TakenOver:
    """What was taken over. ``again``: it had been before, nothing was to be done."""

    manifest: Manifest
    waiting: int
    closed: int
    files: int
    again: bool


class TakeOver:
    """Takes one hand-over.

    Args:
        store: of the instance that takes over.
        register: whose addresses are served here.
        source: the hand-over's folder.
        check: checks it whole, with its key; nothing is written before that passed.
        target: the folder for a domain.
        cipher: under the hand-over's key.
        key_file: the key, sealed for this instance, for a domain.
        offload: for hashing and decrypting.
        clock: the time.
        progress: told what is under way and how many files are done.
    """

    def __init__(
        self, *, store: Store, register: ProviderRegister, source: Parts,
        check: Callable[[], Awaitable[HandOverCheck]], target: Callable[[str], Parts], cipher: PartCipher,
        key_file: Callable[[str], bytes], offload: Offload, clock: Clock,
        progress: Callable[[str, int], object] = lambda _what, _count: None,
    ) -> None:  # fmt: skip
        self._store, self._register, self._source, self._check = store, register, source, check
        self._target, self._cipher, self._key_file = target, cipher, key_file
        self._offload, self._clock, self._progress = offload, clock, progress

    async def run(self, by: str) -> TakenOver:
        """Check and take over; done before, nothing changes.

        Args:
            by: the person who does it.

        Raises:
            TakeOverError: nothing was written.
            PartsError, StoreUnavailableError: run it again: it goes on.
        """
        person, check = checked_name(by), await self._check()
        if not check.passed or check.manifest is None:
            raise TakeOverError(TakeOverFault.NOT_SOUND, "the hand-over does not verify", check.report)
        manifest, digest = check.manifest, sha256(check.content).digest()
        domain = manifest.by.domain
        if domain == self._register.own or _DOMAIN.match(domain) is None:
            raise TakeOverError(TakeOverFault.OWN_PROVIDER, f"{domain} is this provider itself")
        stands = await self._store.read(lambda tx: tx.foreign.archive(domain))
        target = self._target(domain)
        await self._check_other(target, check.content, stands, digest)
        seal = await self._source.get(SEAL, SEAL_MAX)
        await self._copy(target, check)
        await self._put_new(target, KEY_FILE, self._key_file(domain))
        await self._put_new(target, SEAL, seal)
        await self._put_new(target, MANIFEST, check.content)
        reader = await open_foreign(target, self._cipher, self._offload)
        waiting, closed = await self._keep_addresses(reader)
        archive = ForeignArchive(domain, digest, manifest.made_at, self._clock.now(), person)
        added = await self._store.write(lambda tx: _note(tx, archive, waiting, closed))
        return TakenOver(manifest, waiting, closed, len(check.files), again=not added)

    async def _check_other(
        self, target: Parts, content: bytes, stands: ForeignArchive | None, digest: bytes
    ) -> None:
        """Refuse another hand-over of a provider that was taken over, or half so.

        Raises:
            TakeOverError: so it is.
        """
        there: bytes | None = None
        with suppress(PartMissingError):
            there = await target.get(MANIFEST, MANIFEST_MAX)
        if (there is not None and there != content) or (
            stands is not None and stands.manifest_sha256 != digest
        ):
            raise TakeOverError(
                TakeOverFault.OTHER_HAND_OVER, "another hand-over of this provider was taken over before"
            )

    async def _copy(self, target: Parts, check: HandOverCheck) -> None:
        assert check.manifest is not None
        for number, one in enumerate((*check.files, *check.manifest.lists), 1):
            most = min(one.size, PART_MAX + (1 << 24), *([LIST_MAX] if one in check.manifest.lists else []))
            if not await self._has(target, one, most):
                content = await self._source.get(one.name, most)
                if not await self._offload.run(one.holds, content):
                    raise PartsError(f"{one.name} changed while it was taken over")
                await target.put(one.name, content)
            self._progress(one.name.split("/", 1)[0], number)

    async def _has(self, target: Parts, one: Listed, most: int) -> bool:
        try:
            return await self._offload.run(one.holds, await target.get(one.name, most))
        except PartsError:
            return False

    async def _put_new(self, target: Parts, name: str, content: bytes) -> None:
        try:
            if await target.get(name, max(len(content), 1)) == content:
                return
        except PartsError:
            pass
        await target.put(name, content)

    async def _keep_addresses(self, reader: ForeignReader) -> tuple[int, int]:
        """Keep every address for its holder, or for nobody; return how many wait and how many are closed."""
        found: dict[str, ForeignAddress] = {}
        for name in reader.names("hesap/"):
            for row in read_lines(await reader.read(name)):
                one = read_account(row)
                gone = one.state is AccountState.CLOSED
                state = ForeignState.CLOSED if gone else ForeignState.WAITING
                found[one.address] = ForeignAddress(one.address, reader.domain, state, one.since)
        for name in reader.names("kapali/"):
            for row in read_lines(await reader.read(name)):
                address, since = str(row["address"]), from_micros(int(row["since"]))
                found[address] = ForeignAddress(address, reader.domain, ForeignState.CLOSED, since)
        rows = [found[address] for address in sorted(found)]
        for start in range(0, len(rows), _ROWS_OF):
            page = rows[start : start + _ROWS_OF]
            await self._store.write(lambda tx, page=page: _keep(tx, page))  # type: ignore[misc]
        closed = sum(one.state is ForeignState.CLOSED for one in rows)
        return len(rows) - closed, closed


async def consent(
    store: Store, register: ProviderRegister, clock: Clock, *, foreign: str, own: str, by: str
) -> ForeignAddress:
    """Note that the holder of an address taken over agreed to be served here, and has an account.

    Who they are was checked when that account was opened: the old identity hashes say nothing here.

    Args:
        store: of the instance.
        register: reads addresses.
        clock: the time.
        foreign: the address that was taken over.
        own: the address of the holder's account here.
        by: the person who saw the consent.

    Raises:
        AccountError: no such address or account, or it does not wait any more.
    """
    person, now = checked_name(by), clock.now()
    try:
        old, new = str(register.parse(foreign)), str(register.parse(own))
    except AddressError as error:
        raise AccountError(AccountFault.ADDRESS_INVALID, f"{error}") from None

    def commit(tx: Tx) -> ForeignAddress:
        account = tx.accounts.by_address(new)
        known = tx.foreign.address(old)
        if account is None or known is None:
            raise AccountError(
                AccountFault.NO_SUCH_ACCOUNT, f"nothing is known of {old if known is None else new}"
            )
        active = account.state is AccountState.ACTIVE
        if not active or not tx.foreign.consent(old, account.account_id, now):
            what = f"{old} is {known.state.value}" if active else f"{new} is {account.state.value}"
            raise AccountError(AccountFault.NOT_POSSIBLE_NOW, what)
        tx.audit.add(at=now, actor=person, action=CONSENTED, subject=old, detail=f"account {new}")
        changed = tx.foreign.address(old)
        assert changed is not None
        return changed

    return await store.write(commit)


def _keep(tx: Tx, rows: Sequence[ForeignAddress]) -> None:
    for one in rows:
        tx.foreign.add_address(one)


def _note(tx: Tx, archive: ForeignArchive, waiting: int, closed: int) -> bool:
    if not tx.foreign.add_archive(archive):
        return False
    detail = f"sha256={archive.manifest_sha256.hex()} waiting={waiting} closed={closed}"
    at: datetime = archive.taken_at
    tx.audit.add(at=at, actor=archive.taken_by, action=TAKEN_OVER, subject=archive.domain, detail=detail)
    return True
