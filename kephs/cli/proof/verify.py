"""``kephs verify``: evidence, its proofs, KEP messages, bundles and senders' signatures, offline."""

import mmap
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, TextIO

import click

from evidence.adapters.trust_folder import TrustFolderError, read_trust
from evidence.cms.signed_data import DEFAULT_RULES, MAIL_PROGRAM_RULES
from evidence.ledger.notes import NoteError, NoteVerifier
from evidence.nes.policy import NesPolicy
from evidence.ports import ByteSource, BytesSource
from evidence.report import Report, Step, SubIndication, Verdict, conclude
from evidence.verify.at_hand import joined
from evidence.verify.files import EVIDENCE_ENDING, exit_code, verify_source
from evidence.verify.sender import LaterSetting
from evidence.x509.certificates import TEST_TRANSACTION_POLICY
from evidence.x509.chain import TrustStore
from evidence.x509.role import SealPolicy
from kephs.cli.output import Usage64Command, guarded, json_option, print_json, usage_error
from kephs.cli.proof.offline_material import material_in, material_of
from kephs.cli.proof.second_opinion import second_opinion, sender_second_opinion
from kephs.cli.proof.sender_report import content_inside, sender_report
from kephs.cli.proof.verify_text import Shown, plain, print_reports
from kephs.system import SystemClock

_NO_TRUST: Final = "no root is trusted: give --trust DIR (güvenilen kök yok: --trust KLASÖR verin)"
_NO_MATERIAL: Final = (
    "no network is asked here: give OCSP responses or CRLs with --offline-material DIR"
    " (ağa sorulmaz: OCSP yanıtı ya da SİL için --offline-material KLASÖR verin)"
)
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
    metavar="MSG.eml|FILE.p7s",
    help="Report on a person's signature: of a message, of the original inside a KEP message, or a bare one.",
)
@click.option(
    "--content",
    type=_file,
    metavar="FILE",
    help="What FILE.p7s signs, where it is not inside. Without it FILE is looked for beside FILE.p7s.",
)
@click.option(
    "--offline-material",
    "folder",
    type=_file,
    metavar="DIR",
    help="OCSP responses, CRLs, certificates, time stamps and evidence records for --sender, by content;"
    " an unpacked bundle will do.",
)
@click.option(
    "--revocation",
    multiple=True,
    type=_file,
    metavar="FILE",
    help="One such file for --sender; bundles carry them in dogrulama/.",
)
@click.option("--seals", is_flag=True, help="With --sender: a qualified electronic seal counts too.")
@click.option(
    "--mail-programs",
    "programs",
    is_flag=True,
    help="With --sender: what mail programs sign by themselves counts too (no CAdES).",
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
    content: Path | None, folder: Path | None, revocation: tuple[Path, ...], seals: bool,  # noqa: FBT001
    programs: bool,  # noqa: FBT001
    policies: tuple[str, ...], log_key: str | None, second: bool, as_json: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """Verify evidence (.xml, .ers), KEP messages (.eml), bundles (.kepdelil) and proofs, without any network.

    Beside X.xml the evidence record X.ers is read, where it lies there; beside X.ers, and beside a proof
    from the ledger (X.proof), the evidence X.xml.

    A person's signature (--sender) is judged for the time that is proven: by time stamps in it, or by those
    and evidence records of --offline-material; else for TIME. What it rests on may stand in the signature.

    Exit status: 0 all valid, 1 something is not valid or cannot be read, 2 something cannot be decided,
    64 wrong usage. A reader of the output that goes away early changes none of these.
    """
    if not paths and not senders:
        raise usage_error("name at least one file")
    if content is not None and len(senders) != 1:
        raise usage_error("--content goes with one --sender")
    at = _time(at_text)
    store = _trust(trust)
    policy = SealPolicy(transaction_policies=frozenset((TEST_TRANSACTION_POLICY, *policies)))
    how = _How(store, at, policy, _log_key(log_key), second=second)
    data = joined(material_of(revocation), *([] if folder is None else [material_in(folder)]))
    rules = MAIL_PROGRAM_RULES if programs else DEFAULT_RULES
    nes = NesPolicy(allow_seals=seals, transaction_policies=policy.transaction_policies, cms=rules)
    setting = LaterSetting(store, at, nes, data)
    shown = [Shown(path, _evidence(path, how)) for path in paths]
    shown += [Shown(path, _sender(path, content, setting, how), sender=True) for path in senders]
    code = exit_code(one.report for one in shown)
    if as_json:
        _tell(sys.stdout, lambda: print_json(plain(shown, code)))
    else:
        _tell(sys.stdout, lambda: print_reports(shown))
        if store.empty:
            _tell(sys.stderr, lambda: click.echo(_NO_TRUST, err=True))
        elif any(one.sender and one.report.sub_indication is SubIndication.TRY_LATER for one in shown):
            _tell(sys.stderr, lambda: click.echo(_NO_MATERIAL, err=True))
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


def _sender(path: Path, content: Path | None, setting: LaterSetting, how: _How) -> Report:
    with ExitStack() as files:
        try:
            source = files.enter_context(_opened(path))
            if content is None:
                content = _content_beside(path, source, setting)
            signed = None if content is None else files.enter_context(_opened(content))
            made = sender_report(source, signed, setting)
            report = made.report
            if how.second and made.signed is not None:
                time = made.sender.best_time if made.sender is not None else None
                signature, about = made.signed.der, made.signed.content
                report = sender_second_opinion(signature, about, report, setting.trust, time or how.at)
        except OSError as error:
            return _unreadable(path, how.at, error)
    return replace(report, subject=path.name)


def _content_beside(path: Path, source: ByteSource, setting: LaterSetting) -> Path | None:
    """Return the file that a detached bare signature stands beside: ``X`` of ``X.p7s``."""
    beside = path.with_suffix("")
    if beside == path or not beside.is_file():
        return None
    return beside if content_inside(source, setting.policy.limits.opaque) is False else None


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


def _tell(stream: TextIO, show: Callable[[], None]) -> None:
    """Show something; a reader that goes away (``| head``) changes neither verdict nor exit code."""
    try:
        show()
    except BrokenPipeError:
        with suppress(OSError, ValueError):  # what is still buffered must not fail at exit either
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
