"""``kephs verify``: evidence, its proofs, KEP messages, bundles and senders' signatures, offline."""

import mmap
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TextIO

import click

from evidence.adapters.trust_folder import TrustFolderError, read_trust
from evidence.ledger.notes import NoteError, NoteVerifier
from evidence.ports import BytesSource
from evidence.report import Report, Step, SubIndication, Verdict, conclude
from evidence.verify.files import EVIDENCE_ENDING, exit_code, verify_source
from evidence.x509.certificates import TEST_TRANSACTION_POLICY
from evidence.x509.chain import TrustStore
from evidence.x509.role import SealPolicy
from kephs.cli.output import Usage64Command, guarded, json_option, print_json, usage_error
from kephs.cli.second_opinion import second_opinion
from kephs.cli.sender_report import RevocationData, sender_report
from kephs.system import SystemClock

_WORDS: Final[dict[Verdict, str]] = {
    Verdict.PASSED: "GEÇERLİ / valid",
    Verdict.FAILED: "GEÇERSİZ / not valid",
    Verdict.INDETERMINATE: "BELİRSİZ / undecided",
}
_NO_TRUST: Final = "no root is trusted: give --trust DIR (güvenilen kök yok: --trust KLASÖR verin)"
_MARKS: Final[dict[bool | None, str]] = {True: "ok  ", None: "note", False: "FAIL"}
_LEDGER_FOLDER: Final = "kayit"
_EVIDENCE_FOLDER: Final = "delil"
_file = click.Path(path_type=Path)


@click.command(cls=Usage64Command)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=_file)
@click.option("--trust", type=_file, help="Folder of trusted roots, PEM or DER. Without it nothing can pass.")
@click.option(
    "--at", "at_text", metavar="TIME", help="Verify for this time (ISO 8601 with zone). Default: now."
)
@click.option(
    "--sender",
    "senders",
    multiple=True,
    type=_file,
    metavar="MSG.eml",
    help="Report on the holder's signature of a message (or of the original inside a KEP message).",
)
@click.option(
    "--revocation",
    multiple=True,
    type=_file,
    metavar="FILE",
    help="OCSP response or CRL, DER, that --sender may rely on; bundles carry them in dogrulama/.",
)
@click.option(
    "--transaction-policy",
    "policies",
    multiple=True,
    metavar="OID",
    help="Policy of transaction certificates, beside that of the TEST PKI.",
)
@click.option(
    "--log-key",
    metavar="VKEY",
    help="Public key of the provider's ledger (name+id+key), for proofs and checkpoints.",
)
@click.option(
    "--second-opinion",
    "second",
    is_flag=True,
    help="Ask openssl, xmlsec1 and pyHanko too, where they are installed; a disagreement undoes a pass.",
)
@json_option
@guarded
def command(
    paths: tuple[Path, ...], trust: Path | None, at_text: str | None, senders: tuple[Path, ...],
    revocation: tuple[Path, ...], policies: tuple[str, ...], log_key: str | None, second: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """Verify evidence (.xml, .ers), KEP messages (.eml), bundles (.kepdelil) and proofs, without any network.

    Beside X.xml the evidence record X.ers is read, where it lies there; beside X.ers, and beside a proof
    from the ledger (X.proof), the evidence X.xml.

    Exit status: 0 all valid, 1 something is not valid or cannot be read, 2 something cannot be decided,
    64 wrong usage. A reader of the output that goes away early changes none of these.
    """
    if not paths and not senders:
        raise usage_error("name at least one file")
    at = _time(at_text)
    store = _trust(trust)
    policy = SealPolicy(transaction_policies=frozenset((TEST_TRANSACTION_POLICY, *policies)))
    how = _How(store, at, policy, _log_key(log_key), second=second)
    data = RevocationData.of(revocation)
    reports = [(path, _evidence(path, how)) for path in paths]
    reports += [(path, _sender(path, store, at, data, policy)) for path in senders]
    code = exit_code(report for _, report in reports)
    if as_json:
        _tell(sys.stdout, lambda: print_json(_plain(reports, code)))
    else:
        _tell(sys.stdout, lambda: _print(reports))
        if store.empty:
            _tell(sys.stderr, lambda: click.echo(_NO_TRUST, err=True))
    raise click.exceptions.Exit(code)


def _time(text: str | None) -> datetime:
    if text is None:
        return SystemClock().now()
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise usage_error(f"--at {text}: write it as 2026-11-21T09:00:00Z") from None
    if time.tzinfo is None:
        raise usage_error(f"--at {text}: name the zone, for example Z or +03:00")
    return time


def _trust(folder: Path | None) -> TrustStore:
    if folder is None:
        return TrustStore(())
    try:
        return read_trust(folder)
    except (TrustFolderError, OSError) as error:
        raise usage_error(f"--trust {error}") from None


@dataclass(frozen=True, slots=True)
class _How:
    trust: TrustStore
    at: datetime
    policy: SealPolicy
    log_key: NoteVerifier | None
    second: bool


def _log_key(text: str | None) -> NoteVerifier | None:
    if text is None:
        return None
    try:
        return NoteVerifier.parse(text.strip())
    except NoteError as error:
        raise usage_error(f"--log-key: {error}") from None


def _evidence(path: Path, how: _How) -> Report:
    with ExitStack() as files:

        def beside(ending: str) -> BytesSource | None:
            found = next((one for one in _neighbours(path, ending) if one.exists()), None)
            return None if found is None else files.enter_context(_opened(found))

        try:
            source = files.enter_context(_opened(path))
            report = verify_source(
                source, how.trust, how.at, how.policy,
                subject=path.name, beside=beside, log_key=how.log_key,
            )  # fmt: skip
            return second_opinion(source, report, how.trust, how.at, beside=beside) if how.second else report
        except OSError as error:
            return _unreadable(path, how.at, error)


def _neighbours(path: Path, ending: str) -> Iterator[Path]:
    """Name where the file of the same name with another ending may lie: beside, or as in a bundle."""
    other = path.with_suffix(ending)
    if other != path:
        yield other
    if ending == EVIDENCE_ENDING and path.parent.name == _LEDGER_FOLDER:
        yield path.parent.parent / _EVIDENCE_FOLDER / other.name


def _sender(path: Path, trust: TrustStore, at: datetime, data: RevocationData, policy: SealPolicy) -> Report:
    try:
        with _opened(path) as source:
            report = sender_report(source, trust, at, data, policy.transaction_policies)
    except OSError as error:
        return _unreadable(path, at, error)
    return replace(report, subject=path.name)


def _unreadable(path: Path, at: datetime, error: OSError) -> Report:
    step = Step(
        "0", "read", ok=False, detail=error.strerror or str(error),
        sub_indication=SubIndication.SIGNED_DATA_NOT_FOUND, verdict=Verdict.FAILED,
    )  # fmt: skip
    return conclude(path.name, [step], at)


@contextmanager
def _opened(path: Path) -> Iterator[BytesSource]:
    """Map a file; nothing of it is held in memory that is not being looked at."""
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would wait for ever, a device never end
        raise OSError(None, "no regular file", str(path))
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            yield BytesSource(b"")
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield BytesSource(mapped)


# --------------------------------------------------------------------------- showing


def _plain(reports: Iterable[tuple[Path, Report]], code: int) -> dict[str, Any]:
    listed = [{"path": str(path), **report.to_json()} for path, report in reports]
    verdict = {0: Verdict.PASSED, 1: Verdict.FAILED, 2: Verdict.INDETERMINATE}[code]
    return {"exit": code, "verdict": verdict.value, "reports": listed}


def _tell(stream: TextIO, show: Callable[[], None]) -> None:
    """Show something; a reader that goes away (``| head``) changes neither verdict nor exit code."""
    try:
        show()
    except BrokenPipeError:
        with suppress(OSError, ValueError):  # what is still buffered must not fail at exit either
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


def _print(reports: Sequence[tuple[Path, Report]]) -> None:
    for path, report in reports:
        sub = f" ({report.sub_indication.value})" if report.sub_indication else ""
        click.echo(f"{_shown(str(path))}: {report.verdict.value}{sub}: {_WORDS[report.verdict]}")
        for name, value in report.facts.items():
            if isinstance(value, str) and value:
                click.echo(f"  {name}: {_shown(value)}")
        _print_steps(report, "  ")


def _print_steps(report: Report, indent: str) -> None:
    for step in report.steps:
        detail = f": {_shown(step.detail)}" if step.detail else ""
        mark = "??  " if step.verdict is Verdict.INDETERMINATE and step.ok is False else _MARKS[step.ok]
        click.echo(f"{indent}{mark} {step.number:<7} {_shown(step.name)}{detail}")
    for part in report.parts:
        sub = f" ({part.sub_indication.value})" if part.sub_indication else ""
        click.echo(f"{indent}- {_shown(part.subject)}: {part.verdict.value}{sub}")
        _print_steps(part, indent + "    ")


def _shown(text: str) -> str:
    """Return text from a verified file so that it cannot steer the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
