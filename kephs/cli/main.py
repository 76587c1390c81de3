"""The one console script. Each command lives in a module of its own, loaded when it is called."""

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import click

# name: (module below kephs.cli, line of the help)
COMMANDS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "account": ("people.account", "open, block, close, show accounts; app passwords; operators"),
        "archive": ("archive.command", "twenty years: status, seal, verify, rebuild, move, renew, simulate"),
        "audit": ("record.audit", "the process record: list, verify, anchor, export, check"),
        "bench": ("health.bench", "benchmarks beside their baselines"),
        "bundle": ("proof.bundle", "write the stand-alone bundle of one message"),
        "demo": ("demo.command", "the main job end to end, with TEST certificates"),
        "doctor": ("health.doctor", "check environment and configuration"),
        "dossier": ("proof.dossier", "the court dossier (Dava dosyası) of one message, PDF/A-3"),
        "export": (
            "proof.export",
            "write one evidence as XAdES-B-LTA, for tools that know no evidence records",
        ),
        "fsck": ("health.fsck", "prove that every state has its evidence and the ledger its chain"),
        "hand-over": (
            "providers.hand_over",
            "the whole provider for another one, under a signed manifest: make, verify",
        ),
        "hold": ("archive.hold", "legal holds: content that nobody's deletion destroys: set, list, lift"),
        "init": ("run.init", "make an instance"),
        "ledger": ("record.ledger", "the evidence ledger in public: key, checkpoint, prove, audit, export"),
        "migrate": ("run.migrate", "bring the database to the current schema"),
        "peers": ("providers.peers", "the register of providers: import, list, show, sign"),
        "probe": ("health.probe", "send a real signed message through an instance and time each step"),
        "queue": (
            "providers.queue",
            "what is on its way to other providers: list, show, hold, release, retry",
        ),
        "serve": ("run.serve", "run an instance"),
        "show": ("proof.show", "what happened to one message, and what its evidence proves"),
        "sign": ("sign.command", "make the signed message a holder submits"),
        "take-over": (
            "providers.take_over",
            "what another provider handed over: check, keep, list, consent, bundle",
        ),
        "trust": ("trust.command", "whom the server believes: list, import, approve, retire, sign"),
        "verify": ("proof.verify", "verify evidence, KEP messages and bundles, offline"),
    }
)
HIDDEN: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "signer": ("run.signer", "hold the key and seal, for kephs serve"),
        "test-pki": ("run.test_pki", "run the TEST PKI of an instance"),
    }
)


class _Lazy(click.Group):
    """Finds commands by name; their modules are imported only when needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        found = COMMANDS.get(cmd_name) or HIDDEN.get(cmd_name)
        if found is None:
            return None
        command: click.Command = importlib.import_module(f"kephs.cli.{found[0]}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in sorted(COMMANDS)])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kephs")
def main() -> None:
    """The mail server of a Turkish registered e-mail provider (KEPHS)."""
