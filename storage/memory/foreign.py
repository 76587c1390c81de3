"""Rows about providers taken over, in the in-memory twin."""

from dataclasses import replace
from datetime import datetime

from kephs.ports.hand_over import ForeignAddress, ForeignArchive, ForeignState
from storage.errors import ConflictError
from storage.memory.tables import Table, Tables


class MemoryForeign:
    """`kephs.ports.hand_over.Foreign` in memory."""

    def __init__(self, tables: Tables) -> None:
        self._accounts = tables.accounts
        self._archives: Table[str, ForeignArchive] = Table(tables.undo)
        self._addresses: Table[str, ForeignAddress] = Table(tables.undo)

    def archives(self) -> list[ForeignArchive]:
        """Return all, by domain."""
        return sorted(self._archives.values(), key=lambda one: one.domain)

    def archive(self, domain: str) -> ForeignArchive | None:
        """Return one."""
        return self._archives.get(domain)

    def add_archive(self, archive: ForeignArchive) -> bool:
        """Note that one is complete; False where the domain has its row: it stays."""
        if archive.domain in self._archives:
            return False
        self._archives.put(archive.domain, archive)
        return True

    def address(self, address: str) -> ForeignAddress | None:
        """Return an address."""
        return self._addresses.get(address)

    def addresses(self, domain: str, after: str, limit: int) -> list[ForeignAddress]:
        """Return addresses of a domain above ``after``, ascending."""
        found = (one for one in self._addresses.values() if one.domain == domain and one.address > after)
        return sorted(found, key=lambda one: one.address)[:limit]

    def add_address(self, one: ForeignAddress) -> bool:
        """Keep an address; False where it is known: it stays."""
        if one.address in self._addresses:
            return False
        self._addresses.put(one.address, one)
        return True

    def consent(self, address: str, account_id: str, at: datetime) -> bool:
        """Note that a waiting address's holder has an account here; False where it is not waiting."""
        one = self._addresses.get(address)
        if one is None or one.state is not ForeignState.WAITING:
            return False
        if account_id not in self._accounts:
            raise ConflictError("the account does not exist")
        row = replace(one, state=ForeignState.CONSENTED, since=at, account_id=account_id)
        self._addresses.put(address, row)
        return True
