"""What all commands share: results as text or JSON, errors with a stable code and a cure, exit codes.

A command never ends in a stack trace: what it knows becomes an `ExitError`, anything else
``internal-error`` with the place it came from.
"""

import asyncio
import functools
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, ParamSpec, TypeVar

import click

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 64  # spec: interfaces "kephs verify"; the number sysexits.h gives usage errors

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
instance_argument = click.argument(
    "directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False)
)

ACCOUNT_CURES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "address-invalid": "write it as name@hsNN.kep.tr",
        "address-elsewhere": "open it at the provider its domain names",
        "address-taken": "addresses are never given twice: choose another",
        "identity-invalid": "check the eleven digits on the identity card",
        "no-such-account": "see kephs account list DIR and kephs account show DIR ADDRESS",
        "not-possible-now": "see its state: kephs account show DIR ADDRESS",
        "blocked-too-short": "wait until the three months are over",
    }
)
"""By the stable codes of `kephs.usecases.people.accounts.AccountFault`."""


class ExitError(click.ClickException):
    """Ends a command: one sentence, a stable code, what helps.

    Args:
        code: stable, lower-case with hyphens.
        text: what happened.
        cure: what to do about it.
    """

    exit_code = FAILED

    def __init__(self, code: str, text: str, cure: str = "") -> None:
        super().__init__(text)
        self.code, self.cure = code, cure
        context = click.get_current_context(silent=True)
        self.as_json = bool(context and context.params.get("as_json"))

    def show(self, file: Any = None) -> None:
        """Print it: JSON on standard output where that was asked for, else text on standard error."""
        if self.as_json:
            print_json({"error": {"code": self.code, "text": self.message, "cure": self.cure}})
            return
        click.echo(f"kephs: {self.message} [{self.code}]", err=True, file=file)
        if self.cure:
            click.echo(f"       {self.cure}", err=True, file=file)


class UsageExitError(click.UsageError):
    """A usage error that cannot be taken for a verdict."""

    exit_code = USAGE


class Usage64Command(click.Command):
    """A command whose usage errors exit 64."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the arguments; see `click.Command.make_context`."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            raise UsageExitError(error.format_message(), error.ctx) from None


def usage_error(text: str) -> UsageExitError:
    """Return a usage error that exits 64."""
    return UsageExitError(text, click.get_current_context(silent=True))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the library's events out of a command's output: it says itself what matters."""
    if "structlog" not in sys.modules:  # nothing that was imported can log; verify starts faster without
        yield
        return
    import structlog

    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """Turn every failure of a command into a clear sentence with code and cure."""

    @functools.wraps(command)
    def run_guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with quiet():
                return command(*args, **kwargs)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:  # ``| head``: whoever read has seen enough
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())  # what is still buffered must not fail at exit either
            os.close(null)
            raise click.exceptions.Exit(OK) from None
        except BaseExceptionGroup as group:
            raise as_exit(first_of(group)) from None
        except Exception as error:  # noqa: BLE001  # the edge: nothing may pass as a stack trace
            raise as_exit(error) from None

    return run_guarded


def as_exit(error: BaseException) -> Exception:
    """Return how a command ends because of this error.

    The classes are imported only now: a command that raises none of them need not load them.
    """
    if isinstance(error, ExitError):
        return error
    if isinstance(error, OSError):
        named = f"{error.filename}: " if error.filename else ""
        text = f"{named}{error.strerror or error}"
        return ExitError("file-error", text, "check the path and its permissions")
    return _known(error) or ExitError(
        "internal-error", _place(error), "this is a defect: please report it with this line"
    )


def _known(error: BaseException) -> ExitError | None:
    from config.settings import SettingsError
    from evidence.adapters.soft_signer import KeyMaterialError
    from kephs.ports import BlobMissingError, StoreUnavailableError
    from kephs.usecases.people.accounts import AccountError
    from storage.errors import SchemaError
    from storage.postgres.errors import DatabaseRefusedError

    if isinstance(error, AccountError):
        return ExitError(error.fault.value, str(error), ACCOUNT_CURES[error.fault.value])
    if isinstance(error, DatabaseRefusedError):
        return ExitError(error.code, error.text, error.cure)
    table: tuple[tuple[type[BaseException], str, str, str], ...] = (
        (SettingsError, "settings-invalid", "{}", "kephs doctor DIR names what is wrong"),
        (SchemaError, "schema-old", "{}", "stop the server and run kephs migrate DIR"),
        (
            StoreUnavailableError, "store-unavailable", "the store cannot be used now: {}",
            "free disk space; bring the database up to date with kephs migrate DIR",
        ),
        (BlobMissingError, "content-missing", "stored content is gone or altered: {}", "run kephs fsck DIR"),
        (KeyMaterialError, "key-unusable", "{}", "check the file and its password"),
    )  # fmt: skip
    for kind, code, text, cure in table:
        if isinstance(error, kind):
            return ExitError(code, text.format(error), cure)
    return None


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first single error in a group of a task group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end."""
    return asyncio.run(work)


def print_json(value: object) -> None:
    """Print one JSON value, keys in order given."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows in aligned columns under their heads."""
    listed = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(row[column]) for row in listed) for column in range(len(head))]
    for row in listed:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one a line, values aligned."""
    listed = list(facts)
    width = max((len(name) for name, _ in listed), default=0)
    for name, value in listed:
        click.echo(f"{name.ljust(width)}  {value}".rstrip())


def read_secret(path: Path) -> str:
    """Return the first line of a password file, without its line end.

    Raises:
        ExitError: it cannot be read or is empty.
    """
    try:
        secret = path.read_text(encoding="utf-8").split("\n", 1)[0].removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise ExitError(
            "password-file", f"the password file cannot be read: {error}", "give a text file"
        ) from None
    if not secret:
        raise ExitError("password-file", "the password file is empty", "its first line is the password")
    return secret


def progress_to_terminal() -> bool:
    """Say whether progress lines help: standard error is a terminal."""
    return sys.stderr.isatty()


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
