"""``kephs sign``: sign messages or files with a key file or a card, or say why it would not pass."""

import itertools
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from evidence.adapters.soft_signer import SoftSigner
from evidence.ports import Signer
from kephs.cli.findings import Finding, Level, print_findings, worst
from kephs.cli.output import (
    FAILED,
    ExitError,
    guarded,
    json_option,
    print_json,
    progress_to_terminal,
    quiet,
    read_secret,
    run,
)
from kephs.cli.sign.files import How, Job, Result, into_folder, sign_files
from kephs.system import SystemClock

_file = click.Path(path_type=Path, dir_okay=False)
_folder = click.Path(path_type=Path, file_okay=False)


@dataclass(frozen=True, slots=True)
class _Key:
    """Where the key lies, as the options say: a PKCS#12 file, or a card."""

    p12: Path | None
    password_file: Path | None
    pkcs11: Path | None
    token: str | None
    slot: int | None
    certificate: str | None
    pin_file: Path | None
    use_last_try: bool
    chain: tuple[Path, ...]


@click.command()
@click.argument("files", metavar="IN.eml OUT.eml | FILES...", type=_file, nargs=-1)
@click.option("--p12", type=_file, help="PKCS#12 file with key, certificate and chain.")
@click.option("--password-file", type=_file, help="Its first line is the PKCS#12 file's password.")
@click.option("--pkcs11", metavar="MODULE", type=_file, help="Sign with a card: its maker's PKCS#11 library.")
@click.option("--token", metavar="LABEL", help="The card of this name, where several are there.")
@click.option("--slot", metavar="N", type=int, help="The card in this slot.")
@click.option("--certificate", metavar="NAME", help="Part of the subject, or of the SHA-256 fingerprint.")
@click.option("--pin-file", type=_file, help="Its first line is the PIN; without it the PIN is asked for.")
@click.option("--use-last-try", is_flag=True, help="Try the PIN even if a wrong one would lock the card.")
@click.option("--chain", type=_file, multiple=True, help="Issuing certificates that the card does not hold.")
@click.option("--out-dir", type=_folder, help="Sign all files into this folder, with one PIN entry.")
@click.option("--p7s", is_flag=True, help="Sign any file into a bare CAdES signature (.p7s).")
@click.option("--attached", is_flag=True, help="With --p7s: put the content into the signature.")
@click.option("--tsa", metavar="URL", help="Add a time stamp to each signature (one token a file).")
@click.option("--tsa-root", type=_file, multiple=True, help="Certificates that the TSA must lead to.")
@click.option("--profile", type=click.Choice(["p1"]), default="p1", help="Signature profile (BES).")
@click.option("--force", is_flag=True, help="Replace outputs that exist.")
@click.option("--diagnose", "diagnosing", is_flag=True, help="Sign nothing: say what is wrong, and the cure.")
@json_option
@guarded
def command(
    files: tuple[Path, ...], out_dir: Path | None, p7s: bool, attached: bool, force: bool,  # noqa: FBT001
    diagnosing: bool, as_json: bool, tsa: str | None, tsa_root: tuple[Path, ...],  # noqa: FBT001
    profile: str, **key: Any,  # noqa: ARG001 - one profile there is so far
) -> None:  # fmt: skip
    """Sign with a holder's qualified certificate: IN.eml to OUT.eml, or many files into --out-dir.

    The signature is CAdES in multipart/signed, with the certificate's chain. Lines may end in LF or CRLF;
    OUT.eml has CRLF throughout: submit it byte for byte. With --p7s any file becomes a bare signature.

    The PIN of a card is entered once for all files and never tried again by itself.
    """
    where = _checked(_Key(**key))
    if attached and not p7s:
        raise click.UsageError("--attached goes with --p7s")
    if (tsa is None) != (not tsa_root):
        raise click.UsageError("--tsa and --tsa-root go together")
    if diagnosing:
        findings = _diagnose(where)
        print_findings(findings, as_json=as_json)
        raise click.exceptions.Exit(FAILED if worst(findings) is Level.ERROR else 0)
    how = How(p7s=p7s, attached=attached, force=force)
    jobs = _jobs(files, out_dir, how)
    with _signer(where) as signer:
        results = run(_sign_all(jobs, signer, how, tsa, tsa_root))
    _report(results, as_json=as_json)


async def _sign_all(
    jobs: Sequence[Job], signer: Signer, how: How, tsa: str | None, roots: Sequence[Path]
) -> list[Result]:
    tell = _teller(len(jobs))
    if tsa is None:
        return await sign_files(jobs, signer, how, SystemClock().now, tell)
    from kephs.cli.sign.stamp import open_stamper  # an HTTP client is loaded only where one is needed

    with quiet():  # again: what logs was imported only now
        async with open_stamper(tsa, roots) as stamper:
            return await sign_files(jobs, signer, replace(how, stamper=stamper), SystemClock().now, tell)


def _checked(key: _Key) -> _Key:
    """Refuse options that contradict each other."""
    if (key.p12 is None) == (key.pkcs11 is None):
        raise click.UsageError("give --p12 or --pkcs11")
    of_cards = (
        key.token,
        key.slot,
        key.certificate,
        key.pin_file,
        key.use_last_try or None,
        key.chain or None,
    )
    if key.p12 is not None:
        if key.password_file is None:
            raise click.UsageError("--p12 needs --password-file")
        if any(one is not None for one in of_cards):
            raise click.UsageError("--token, --slot, --certificate, --pin-file and --chain go with --pkcs11")
    elif key.password_file is not None:
        raise click.UsageError("--password-file goes with --p12; a card has a PIN: --pin-file")
    if key.token is not None and key.slot is not None:
        raise click.UsageError("give --token or --slot")
    return key


def _jobs(files: Sequence[Path], out_dir: Path | None, how: How) -> list[Job]:
    if out_dir is not None:
        if not files:
            raise click.UsageError("no files to sign")
        out_dir.mkdir(parents=True, exist_ok=True)
        return into_folder(files, out_dir, how)
    if len(files) != 2:
        raise click.UsageError("IN.eml and OUT.eml are needed, or --out-dir for many files")
    return [Job(*files)]


@contextmanager
def _signer(key: _Key) -> Iterator[Signer]:
    if key.p12 is not None and key.password_file is not None:
        _warn_of(key.password_file)
        yield SoftSigner.from_p12(key.p12, read_secret(key.password_file))
        return
    from kephs.cli.sign.card import card_signer  # the PKCS#11 library is loaded only where a card is meant

    with card_signer(_card(key), SystemClock().now()) as signer:
        yield signer


def _warn_of(file: Path) -> None:
    """Say on standard error that others can read a password's file; it is used all the same."""
    from kephs.cli.sign.turkish import cure_by_code, told_by_code

    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError:
        return  # reading it says why
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        code = "password-file-open"
        text = told_by_code(code, f"{file} has mode {mode:04o}: others may read the password")
        click.echo(
            f"kephs: warning / uyarı: {text} [{code}]\n       {cure_by_code(code, f'chmod 600 {file}')}",
            err=True,
        )


def _card(key: _Key) -> Any:
    from kephs.cli.sign.card import CardOptions

    return CardOptions(
        key.pkcs11 or Path(), key.token, key.slot, key.certificate, key.pin_file, key.use_last_try, key.chain
    )


def _diagnose(key: _Key) -> list[Finding]:
    from kephs.cli.sign.certificate import diagnose_holder
    from kephs.cli.sign.diagnose import diagnose_card
    from kephs.cli.sign.turkish import in_both_languages

    with quiet():  # again: what logs was imported only now
        if key.p12 is not None and key.password_file is not None:
            _warn_of(key.password_file)
            findings = run(diagnose_holder(key.p12, read_secret(key.password_file), SystemClock()))
        else:
            findings = run(diagnose_card(_card(key), SystemClock()))
    return [in_both_languages(finding) for finding in findings]


def _teller(count: int) -> Callable[[Result], None]:
    """Return what tells a terminal how far the signing of many files is."""
    done = itertools.count(1)

    def tell(result: Result) -> None:
        number = next(done)
        if count > 1 and progress_to_terminal():
            mark = "ok" if result.ok else result.code
            click.echo(f"[{number}/{count}] {Path(result.file).name}: {mark}", err=True)

    return tell


def _plain(one: Result) -> dict[str, Any]:
    from kephs.cli.sign.turkish import FILE_CURES, both

    return {**asdict(one), "cure": "" if one.ok else both(one.code, FILE_CURES[one.code])}


def _report(results: Sequence[Result], *, as_json: bool) -> None:
    """Say what became of each file; exit 1 where one failed."""
    from kephs.cli.sign.turkish import FILE_CURES, both

    failed = [one for one in results if not one.ok]
    if as_json:
        print_json(
            {
                "files": [_plain(one) for one in results],
                "signed": len(results) - len(failed),
                "failed": len(failed),
            }
        )
    else:
        for one in failed:
            text = f"{Path(one.file).name}: {one.error}"
            ExitError(one.code, text, both(one.code, FILE_CURES[one.code])).show()
    if failed:
        raise click.exceptions.Exit(FAILED)
