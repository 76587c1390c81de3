"""The one console script. Each command lives in its own module and is loaded when it is called."""

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import click

COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "account": "open, block, close, show accounts; app passwords; operators",
        "archive": "twenty years: status, seal, verify, rebuild, move, renew, simulate",
        "audit": "the process record: list, verify, anchor, export, check",
        "bench": "benchmarks beside their baselines",
        "bundle": "write the stand-alone bundle of one message",
        "demo": "the main job end to end, with TEST certificates",
        "doctor": "check environment and configuration",
        "dossier": "the court dossier (Dava dosyası) of one message, PDF/A-3",
        "export": "write one evidence as XAdES-B-LTA, for tools that know no evidence records",
        "fsck": "prove that every state has its evidence and the ledger its chain",
        "hand-over": "the whole provider for another one, under a signed manifest: make, verify",
        "hold": "legal holds: content that nobody's deletion destroys: set, list, lift",
        "init": "make an instance",
        "ledger": "the evidence ledger in public: key, checkpoint, prove, audit, export",
        "migrate": "bring the database to the current schema",
        "peers": "the register of providers: import, list, show, sign",
        "probe": "send a real signed message through an instance and time each step",
        "queue": "what is on its way to other providers: list, show, hold, release, retry",
        "serve": "run an instance",
        "show": "what happened to one message, and what its evidence proves",
        "sign": "make the signed message a holder submits",
        "take-over": "what another provider handed over: check, keep, list, consent, bundle",
        "trust": "whom the server believes: list, import, approve, retire, sign",
        "verify": "verify evidence, KEP messages and bundles, offline",
    }
)
HIDDEN: Final[Mapping[str, str]] = MappingProxyType(
    {"signer": "hold the key and seal, for kephs serve", "test-pki": "run the TEST PKI of an instance"}
)


class _Lazy(click.Group):
    """Finds commands by name; their modules are imported only when needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS and cmd_name not in HIDDEN:
            return None
        module = importlib.import_module(f"kephs.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kephs")
def main() -> None:
    """The mail server of a Turkish registered e-mail provider (KEPHS)."""
