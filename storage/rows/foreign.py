"""The rows about providers taken over, in SQL."""

from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, insert, literal_column, select, update

from kephs.ports.hand_over import ForeignAddress, ForeignArchive, ForeignState
from storage.rows.foreign_tables import foreign_addresses as addresses
from storage.rows.foreign_tables import foreign_archives as archives
from storage.rows.statements import Database, Row
from storage.rows.values import from_micros, seal_json, to_micros, unseal_json

_ARCHIVES: Final = select(archives).order_by(archives.c.domain)
_ARCHIVE: Final = select(archives).where(archives.c.domain == bindparam("domain"))
_ADD_ARCHIVE: Final = insert(archives)
_ADDRESS: Final = select(addresses).where(addresses.c.address == bindparam("address"))
_PAGE: Final = (
    select(addresses)
    .where(addresses.c.domain == bindparam("domain"), addresses.c.address > bindparam("after"))
    .order_by(addresses.c.address)
    .limit(bindparam("most"))
)
_ADD_ADDRESS: Final = insert(addresses)
_CONSENT: Final = (
    update(addresses)
    .where(addresses.c.address == bindparam("of_address"), addresses.c.state == literal_column("'waiting'"))
    .values(state=bindparam("new_state"), since=bindparam("at"), account_id=bindparam("new_account"))
)


class SqlForeign:
    """`kephs.ports.hand_over.Foreign` in SQL."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def archives(self) -> list[ForeignArchive]:
        """Return all, by domain."""
        return [self._archive(row) for row in self._db.rows(_ARCHIVES, {})]

    def archive(self, domain: str) -> ForeignArchive | None:
        """Return one."""
        row = self._db.row(_ARCHIVE, {"domain": domain})
        return None if row is None else self._archive(row)

    def add_archive(self, archive: ForeignArchive) -> bool:
        """Note that one is complete; False where the domain has its row: it stays."""
        place = f"foreign_archives:{archive.domain}"
        params = {
            "domain": archive.domain, "manifest_sha256": archive.manifest_sha256,
            "made_at": to_micros(archive.made_at), "taken_at": to_micros(archive.taken_at),
            "personal": seal_json(self._db.vault, [archive.taken_by], place),
        }  # fmt: skip
        return self._db.run_quiet(_ADD_ARCHIVE, params)

    def address(self, address: str) -> ForeignAddress | None:
        """Return an address."""
        row = self._db.row(_ADDRESS, {"address": address})
        return None if row is None else _address(row)

    def addresses(self, domain: str, after: str, limit: int) -> list[ForeignAddress]:
        """Return addresses of a domain above ``after``, ascending."""
        params = {"domain": domain, "after": after, "most": limit}
        return [_address(row) for row in self._db.rows(_PAGE, params)]

    def add_address(self, one: ForeignAddress) -> bool:
        """Keep an address; False where it is known: it stays."""
        params = {
            "address": one.address, "domain": one.domain, "state": one.state.value,
            "since": to_micros(one.since), "account_id": one.account_id,
        }  # fmt: skip
        return self._db.run_quiet(_ADD_ADDRESS, params)

    def consent(self, address: str, account_id: str, at: datetime) -> bool:
        """Note that a waiting address's holder has an account here; False where it is not waiting."""
        params = {
            "of_address": address, "new_state": ForeignState.CONSENTED.value, "at": to_micros(at),
            "new_account": account_id,
        }  # fmt: skip
        return self._db.run(_CONSENT, params) == 1

    def _archive(self, row: Row) -> ForeignArchive:
        domain, digest, made, taken, personal = row
        (by,) = unseal_json(self._db.vault, personal, f"foreign_archives:{domain}")
        return ForeignArchive(domain, digest, from_micros(made), from_micros(taken), by)


def _address(row: Row) -> ForeignAddress:
    address, domain, state, since, account_id = row
    return ForeignAddress(address, domain, ForeignState(state), from_micros(since), account_id)
