"""`kephs serve`: run an instance until SIGTERM, then drain."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import click
import structlog

from config.settings import Settings, SettingsError, load
from kephs.bootstrap import Core, open_core, open_limits, open_tls
from kephs.imap.fetch import FetchPolicy
from kephs.imap.server import ImapServer, ServerLimits
from kephs.imap.session import SessionParts
from kephs.observability import configure_logging
from kephs.worker import Worker
from smtp_gateway.authenticator import Authenticator
from smtp_gateway.server import SubmissionServer
from smtp_gateway.settings import EdgeSettings
from storage.errors import SchemaError

ROLES: Final = ("smtp", "imap", "worker")
log = structlog.get_logger()


@click.command("serve")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--roles", default=",".join(ROLES), show_default=True, help="which parts run in this process")
@click.option("--verbose", is_flag=True, help="log every step")
def command(directory: Path, *, roles: str, verbose: bool) -> None:
    """Run the instance in DIRECTORY. SIGTERM or SIGINT drains and stops."""
    wanted = tuple(role.strip() for role in roles.split(",") if role.strip())
    unknown = set(wanted) - set(ROLES)
    if unknown:
        raise click.UsageError(f"no role {', '.join(sorted(unknown))}; there are {', '.join(ROLES)}")
    configure_logging(verbose=verbose)
    try:
        asyncio.run(_serve(load(directory), directory, wanted))
    except (SettingsError, SchemaError) as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"cannot start: {error}") from None


async def _serve(settings: Settings, directory: Path, roles: Sequence[str]) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        if settings.test_pki.enabled and settings.test_pki.port:
            await stack.enter_async_context(_test_pki(directory, stopping))
        core = await stack.enter_async_context(open_core(settings))
        async with asyncio.TaskGroup() as group:
            for role in roles:
                group.create_task(_RUN[role](core, stopping), name=role)
            log.info("serve.ready", domain=settings.provider.domain, roles=",".join(roles))
    log.info("serve.stopped")


@asynccontextmanager
async def _test_pki(directory: Path, stopping: asyncio.Event) -> AsyncIterator[None]:
    """Run the TEST PKI as a child for as long as we run; it stops when we die."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", "from kephs.cli.main import main; main()",
        "test-pki", str(directory), "--with-parent",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        async with asyncio.timeout(30):
            if await child.stdout.readline() != b"ready\n":
                raise SettingsError("the TEST PKI did not start; is its port taken?")
        yield
    finally:
        stopping.set()
        child.stdin.close()
        await child.wait()


async def _run_smtp(core: Core, stopping: asyncio.Event) -> None:
    network, limits = core.settings.network, open_limits(core.settings)
    loop = asyncio.get_running_loop()
    edge = EdgeSettings(
        hostname=core.settings.provider.domain,
        max_wire=limits.max_wire,
        max_recipients=limits.max_recipients,
        max_sessions=network.max_connections,
        idle_timeout=network.idle_seconds,
    )
    server = SubmissionServer(
        host=network.host,
        port=network.submission_port,
        ssl_context=open_tls(core.settings),
        submit=core.submit,
        authenticator=Authenticator(core.sign_in, clock=loop.time),
        spools=core.blobs.spool,
        clock=core.clock,
        settings=edge,
    )
    async with server:
        await stopping.wait()


async def _run_imap(core: Core, stopping: asyncio.Event) -> None:
    network = core.settings.network
    parts = SessionParts(
        core.mailbox, core.sign_in, core.offload, FetchPolicy(imap_body=core.settings.read.trigger_imap_body)
    )
    limits = ServerLimits(connections=network.max_connections)
    server = ImapServer(parts, open_tls(core.settings), limits=limits)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(network.host, network.imap_port), name="imap listener")
        await stopping.wait()
        server.drain()


async def _run_worker(core: Core, stopping: asyncio.Event) -> None:
    worker = Worker(
        store=core.store,
        clock=core.clock,
        changes=core.changes,
        deliver=core.deliver,
        receipts=core.receipts,
        tidy=core.tidy,
    )
    await worker.run(stopping)


_RUN: Final = {"smtp": _run_smtp, "imap": _run_imap, "worker": _run_worker}
