"""``kephs migrate``: bring an instance's database to the schema of this program."""

from pathlib import Path

import click

from config import settings
from kephs.cli.output import guarded, instance_argument, json_option, print_json
from storage.migrate import current, head, sqlite_engine, upgrade


@click.command()
@instance_argument
@json_option
@guarded
def command(directory: Path, as_json: bool) -> None:  # noqa: FBT001  # click hands options over by name
    """Bring the database of DIR to the current schema. Stop the server before."""
    database = settings.load(directory).storage.database
    database.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = sqlite_engine(database)
    try:
        before = current(engine)
        upgrade(engine)
        after = current(engine)
    finally:
        engine.dispose()
    if as_json:
        print_json({"before": before, "after": after, "head": head(), "changed": before != after})
    elif before == after:
        click.echo(f"the database is at revision {after} already")
    else:
        click.echo(f"the database went from revision {before or 'none'} to {after}")
