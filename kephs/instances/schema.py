"""The database of an instance that is made or brought up to date: its schema, and its first trust list."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from config.settings import Settings
from kephs.bootstrap.opening import open_door, read_certificates
from kephs.instances.databases import at_once, upgrade_database
from kephs.instances.keys import read_keys
from kephs.ports import Tx
from kephs.usecases.governance.trust_list import Proposal, adopt

INIT: Final = ("kephs init", "--test-pki")
MIGRATE: Final = ("kephs migrate", "test_pki.enabled")


def make_database(settings: Settings, now: datetime) -> None:
    """Make the database of a new instance; one made for tests believes its TEST roots from the start.

    Raises:
        DatabaseRefusedError: the PostgreSQL server is not there or refuses us.
        SchemaError: the database cannot be used.
        SettingsError: a key or a root cannot be read.
    """
    upgrade_database(settings)
    adopt_folder(settings, now, INIT)


def adopt_folder(settings: Settings, now: datetime, names: Sequence[str]) -> list[Proposal]:
    """Put the roots of the configured folder on a trust list that nothing was ever put on.

    They become active in an instance made for tests; elsewhere they are proposed, and wait for two persons.

    Args:
        settings: of the instance; its schema is current.
        now: the time, UTC.
        names: who does it, and on what ground, for the record.
    """
    roots = read_certificates(settings.trust.roots)
    door, by = open_door(settings), names[0]
    vouching = names if settings.test_pki.enabled else ()

    def work(tx: Tx) -> list[Proposal]:
        if tx.anchors.all():
            return []
        return adopt(tx, roots, door, by=by, vouching=vouching, source="the folder of trust.roots", at=now)

    return at_once(settings, work, column_key=read_keys(settings).columns, write=True) if roots else []
