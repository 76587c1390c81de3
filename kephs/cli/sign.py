"""``kephs sign``: make the signed message a holder submits, or say why it would not pass."""

import secrets
from pathlib import Path

import click

from evidence.adapters.soft_signer import SoftSigner
from evidence.mail.smime_sign import UnsignableError, sign_message
from kephs.cli.findings import Level, print_findings, worst
from kephs.cli.output import FAILED, ExitError, guarded, json_option, read_secret, run
from kephs.cli.signature_help import diagnose_holder
from kephs.system import SystemClock

_BOUNDARY_OCTETS = 24  # random, so neither the message nor an inner boundary can begin with it
_file = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("unsigned", metavar="IN.eml", type=_file, required=False)
@click.argument("signed", metavar="OUT.eml", type=_file, required=False)
@click.option("--p12", required=True, type=_file, help="PKCS#12 file with key, certificate and chain.")
@click.option("--password-file", required=True, type=_file, help="Its first line is the file's password.")
@click.option("--diagnose", "diagnosing", is_flag=True, help="Sign nothing: say what is wrong, and the cure.")
@json_option
@guarded
def command(
    unsigned: Path | None, signed: Path | None, p12: Path, password_file: Path, diagnosing: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """Sign IN.eml with a holder's qualified certificate and write OUT.eml, ready to be submitted.

    The signature is CAdES in multipart/signed, with the certificate's chain. Lines may end in LF or CRLF;
    OUT.eml has CRLF throughout: submit it byte for byte.
    """
    password = read_secret(password_file)
    if diagnosing:
        findings = run(diagnose_holder(p12, password, SystemClock()))
        print_findings(findings, as_json=as_json)
        raise click.exceptions.Exit(FAILED if worst(findings) is Level.ERROR else 0)
    if unsigned is None or signed is None:
        raise click.UsageError("IN.eml and OUT.eml are needed")
    signer = SoftSigner.from_p12(p12, password)
    content = unsigned.read_bytes()
    boundary = f"kephs-{secrets.token_hex(_BOUNDARY_OCTETS)}"
    try:
        result = run(sign_message(content, signer, SystemClock().now(), boundary=boundary))
    except UnsignableError as error:
        raise ExitError(
            "unsignable", f"{unsigned.name}: {error}", "give a complete, unsigned RFC 5322 message"
        ) from None
    signed.write_bytes(result)
