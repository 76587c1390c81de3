"""``kephs migrate``: bring an instance's database to the schema of this program."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
from sqlalchemy import Engine

from config.settings import Settings, StorageSettings, load
from kephs.cli.beside import unreadable_database_named
from kephs.cli.output import ExitError, guarded, instance_argument, json_option, print_json
from kephs.domain.trust_list import AnchorState
from kephs.instances.databases import opens_content
from kephs.instances.keys import key_check_file, read_keys
from kephs.instances.schema import MIGRATE, adopt_folder
from kephs.ledger.keys import write_ledger_key
from kephs.system import SystemClock
from kephs.usecases.governance.trust_list import Proposal
from storage.errors import SchemaError
from storage.key_check import write_key_check
from storage.migrate import current, head, postgres_engine, sqlite_engine, upgrade
from storage.postgres.errors import DatabaseRefusedError
from storage.revision import DatabaseUnreadableError

_NEWER: Final = "install the version of kephs that made it, or a newer one"


@click.command()
@instance_argument
@click.option(
    "--note-keys", is_flag=True, help="Also write data/keys.check anew, from the keys as they are now."
)
@json_option
@guarded
def command(directory: Path, note_keys: bool, as_json: bool) -> None:  # noqa: FBT001  # click's way
    """Bring the database of DIR to the current schema. Stop the server before."""
    settings = load(directory)
    with unreadable_database_named():
        before, after = _migrate(settings.storage)
        if note_keys:
            _note_keys(settings)
    adopted = adopt_folder(settings, SystemClock().now(), MIGRATE)
    if not settings.ledger.key.exists():  # an instance from before the ledger was public
        write_ledger_key(settings.ledger.key)
    if as_json:
        roots = {
            "active": _count(adopted, AnchorState.ACTIVE),
            "proposed": _count(adopted, AnchorState.PROPOSED),
        }
        print_json(
            {"before": before, "after": after, "head": head(), "changed": before != after, "roots": roots}
        )
    elif before == after:
        click.echo(f"the database is at revision {after} already")
    else:
        click.echo(f"the database went from revision {before or 'none'} to {after}")
    waiting = _count(adopted, AnchorState.PROPOSED)
    if waiting and not as_json:
        click.echo(
            f"{waiting} roots of {settings.trust.roots} were proposed: nothing is trusted until two persons "
            f"approve them / iki kişi onaylayana kadar hiçbirine güvenilmez: kephs trust list {directory}"
        )


def _count(adopted: Sequence[Proposal], state: AnchorState) -> int:
    return sum(one.anchor is not None and one.anchor.state is state for one in adopted)


def _migrate(storage: StorageSettings) -> tuple[str | None, str | None]:
    """Return the revisions before and after."""
    engine = _engine(storage)
    try:
        before = current(engine)
        upgrade(engine)
        return before, current(engine)
    except DatabaseUnreadableError:
        raise
    except DatabaseRefusedError as error:
        raise ExitError(error.code, error.text, error.cure) from None
    except SchemaError as error:
        raise ExitError("schema-unknown", str(error), _NEWER) from None
    finally:
        engine.dispose()


def _engine(storage: StorageSettings) -> Engine:
    if storage.database_url:
        return postgres_engine(storage.database_url)
    storage.database.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return sqlite_engine(storage.database)


def _note_keys(settings: Settings) -> None:
    keys = read_keys(settings)
    if not opens_content(settings, keys.blobs):
        raise ExitError(
            "master-key-wrong", f"{settings.storage.master_key} does not open this instance's content",
            "restore the master key from its backup",
        )  # fmt: skip
    write_key_check(key_check_file(settings), keys.by_name())
