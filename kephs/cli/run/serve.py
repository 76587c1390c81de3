"""`kephs serve`: run an instance until SIGTERM, then drain."""

import asyncio
import fcntl
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final, TypeAlias

import click
import structlog

from config.settings import Settings, SettingsError, load
from kephs.bootstrap import check_sealing, inbound_wire, open_limits, open_tls, read_certificates
from kephs.bootstrap.core import MAIN_NODE, Core, open_core
from kephs.bootstrap.opening import open_some_trust
from kephs.bootstrap.preservation import preservation_lane
from kephs.cli.output import first_of
from kephs.cli.run.pki_child import pki_beside
from kephs.cli.run.signer_child import signer_beside
from kephs.imap.fetch import FetchPolicy
from kephs.imap.server import ImapServer, ServerLimits
from kephs.imap.session import SessionParts
from kephs.instances.databases import at_once
from kephs.instances.keys import open_keys
from kephs.observability.logs import configure_logging
from kephs.observability.metrics import Metrics
from kephs.observability.server import HOST as METRICS_HOST
from kephs.observability.server import serve_metrics
from kephs.own_processor import OwnProcessor, own_processor, stay
from kephs.ports import StoreUnavailableError
from kephs.system import LocalChanges, SystemClock, spare_the_collector
from kephs.trust.watch import TrustWatch
from kephs.usecases.governance.note_process import note_started, note_stopped
from kephs.worker.lanes import QueuedPeers, lanes, take_over
from kephs.worker.run import Worker
from smtp_gateway.authenticator import Authenticator
from smtp_gateway.inbound_server import InboundServer
from smtp_gateway.server import SubmissionServer
from smtp_gateway.settings import EdgeSettings, InboundSettings
from storage.errors import SchemaError
from storage.files.blobs import is_writer_name
from storage.revision import HEAD

Up: TypeAlias = Callable[[], None]
"""Called by a part once it does its work: an edge, once its port is bound."""

ROLES: Final = ("smtp", "inbound", "imap", "worker")
log = structlog.get_logger()


@click.command("serve")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--roles", default=",".join(ROLES), show_default=True, help="which parts run in this process")
@click.option(
    "--node", default=MAIN_NODE, show_default=True,
    help="names this process beside others of the instance (cluster profile); main runs the TEST PKI",
)  # fmt: skip
@click.option("--verbose", is_flag=True, help="log every step")
def command(directory: Path, *, roles: str, node: str, verbose: bool) -> None:
    """Run the instance in DIRECTORY. SIGTERM or SIGINT drains and stops."""
    wanted = tuple(dict.fromkeys(role.strip() for role in roles.split(",") if role.strip()))
    unknown = set(wanted) - set(ROLES)
    if unknown or not wanted:
        named = ", ".join(sorted(unknown)) or "given"
        raise click.UsageError(f"no role {named}; there are {', '.join(ROLES)}")
    metrics = Metrics(version=version("kephs"), schema=HEAD)
    configure_logging(verbose=verbose, watch=metrics.count_event)
    os.umask(0o077)  # whatever the server writes belongs to its user alone
    try:
        asyncio.run(_serve(load(directory), directory, wanted, node, metrics))
    except Exception as error:
        text = explained(first_of(error) if isinstance(error, ExceptionGroup) else error)
        if text is None:  # a defect: its trace is wanted
            raise
        raise click.ClickException(text) from None


def explained(error: BaseException) -> str | None:
    """Return the one line for what an operator can set right; None for defects."""
    match error:
        case SettingsError() | SchemaError():
            return str(error)
        case StoreUnavailableError():
            return f"the store cannot be opened: {error}"
        case sqlite3.DatabaseError():
            return f"the database cannot be used: {error}; if that stays, restore it from its backup"
        case OSError():
            return f"cannot start: {error}"
    return None


@contextmanager
def alone(directory: Path, node: str = MAIN_NODE) -> Iterator[None]:
    """Hold the lock of an instance's server process; it goes with the process, however that ends.

    Raises:
        SettingsError: another process serves the instance.
    """
    folder = directory / "run"
    folder.mkdir(mode=0o700, exist_ok=True)
    name = "serve.lock" if node == MAIN_NODE else f"serve-{node}.lock"
    with (folder / name).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(f"{directory} is being served already (node {node})") from None
        yield


@contextmanager
def recorded(settings: Settings, node: str, roles: Sequence[str]) -> Iterator[None]:
    """Enter into the process record that this process serves, and that it drained and stopped (KEP-RT-01).

    Raises:
        SchemaError, StoreUnavailableError: the start cannot be recorded, so there is none.
    """
    key, clock = open_keys(settings).columns, SystemClock()
    plain = settings.model_dump(mode="json")
    at_once(
        settings,
        lambda tx: note_started(
            tx, clock.now(), node=node, roles=roles, version=version("kephs"), settings=plain
        ),
        column_key=key, write=True,
    )  # fmt: skip
    yield
    try:
        at_once(settings, lambda tx: note_stopped(tx, clock.now(), node=node), column_key=key, write=True)
    except Exception:  # what was served is safe; only this entry is missing
        log.exception("serve.stop_not_recorded")


def check_node(settings: Settings, node: str) -> None:
    """Refuse a name that cannot be one, and a second process where only one may write.

    Raises:
        SettingsError: so it is.
    """
    if not is_writer_name(node):
        raise SettingsError(
            f"--node {node}: use small letters, digits and hyphens, a letter first, at most 31"
        )
    if node != MAIN_NODE and not settings.storage.database_url:
        raise SettingsError(
            "only the cluster profile runs several processes side by side: SQLite has one writer; "
            "make an instance with kephs init --profile cluster"
        )


async def _serve(
    settings: Settings, directory: Path, roles: Sequence[str], node: str, metrics: Metrics
) -> None:
    check_node(settings, node)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        stack.enter_context(alone(directory, node))
        own = _take_processor(settings, stack)
        settle = stay if own is None else own.send_away
        if settings.test_pki.enabled and settings.test_pki.port and node == MAIN_NODE:
            await stack.enter_async_context(pki_beside(directory, settle))
        check_sealing(settings)
        renewed = asyncio.Event()
        sealing = await stack.enter_async_context(
            signer_beside(directory, partial(open_some_trust, settings), renewed=renewed, settle=settle)
        )
        core = await stack.enter_async_context(open_core(settings, node, meter=metrics, sealing=sealing))
        await _show_metrics(core, metrics, stack)
        await _show_ledger(core, stack)
        stack.enter_context(recorded(settings, node, roles))
        up = {role: asyncio.Event() for role in roles}
        async with asyncio.TaskGroup() as group:
            for role in roles:
                group.create_task(_RUN[role](core, metrics, stopping, up[role].set), name=role)
            group.create_task(_watch(core, renewed).run(stopping), name="trust")
            for event in up.values():
                await event.wait()
            spare_the_collector()
            log.info(
                "serve.ready", domain=settings.provider.domain, roles=",".join(roles),
                processor=None if own is None else own.number,
            )  # fmt: skip
    log.info("serve.stopped")


def _take_processor(settings: Settings, stack: AsyncExitStack) -> OwnProcessor | None:
    """Keep to a processor of our own, where one is wanted and free."""
    return stack.enter_context(own_processor()) if settings.process.processor == "own" else None


def _watch(core: Core, renewed: asyncio.Event) -> TrustWatch:
    helpers = partial(read_certificates, core.settings.trust.intermediates)
    return TrustWatch(core.store, core.trust, helpers, renewed.set)


async def _show_metrics(core: Core, metrics: Metrics, stack: AsyncExitStack) -> None:
    port = core.settings.network.metrics_port
    metrics.watch_store(core.store)
    if not port:
        return
    try:
        await stack.enter_async_context(serve_metrics(metrics, port=port, clock=core.clock))
    except OSError as error:
        if core.node == MAIN_NODE:
            raise SettingsError(
                f"metrics cannot listen on {METRICS_HOST}:{port}: {error.strerror}; see network in kephs.toml"
            ) from None
        log.warning("metrics.not_shown", port=port, reason=error.strerror)  # one process a machine shows them


async def _show_ledger(core: Core, stack: AsyncExitStack) -> None:
    try:
        await stack.enter_async_context(core.ledger.served(reuse_port=core.shared_ports))
    except OSError as error:
        ledger = core.settings.ledger
        raise SettingsError(
            f"the ledger cannot listen on {ledger.host}:{ledger.port}: {error.strerror};"
            " see ledger in kephs.toml"
        ) from None


def _cannot_listen(role: str, core: Core, port: int, error: BaseException) -> SettingsError:
    reason = getattr(error, "strerror", None) or error
    return SettingsError(
        f"{role} cannot listen on {core.settings.network.host}:{port}: {reason}; see network in kephs.toml"
    )


async def _run_smtp(core: Core, metrics: Metrics, stopping: asyncio.Event, up: Up) -> None:
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
        reuse_port=core.shared_ports,
    )
    metrics.watch_edge("submission", server)
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(server)
        except (OSError, OverflowError) as error:
            raise _cannot_listen("submission", core, network.submission_port, error) from None
        up()
        await stopping.wait()


async def _run_inbound(core: Core, metrics: Metrics, stopping: asyncio.Event, up: Up) -> None:
    network = core.settings.network
    server = InboundServer(
        host=network.host,
        port=network.inbound_port,
        ssl_context=open_tls(core.settings),
        receive=core.receive,
        spools=core.blobs.spool,
        clock=core.clock,
        settings=InboundSettings(
            hostname=core.settings.provider.domain,
            max_wire=inbound_wire(core.settings),
            max_recipients=core.settings.limits.max_recipients,
            max_sessions=network.max_connections,
            idle_timeout=network.idle_seconds,
        ),
        register_serves=partial(_serves, core.settings.provider.domain),
        reuse_port=core.shared_ports,
    )
    metrics.watch_edge("inbound", server)
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(server)
        except (OSError, OverflowError) as error:
            raise _cannot_listen("inbound", core, network.inbound_port, error) from None
        up()
        await stopping.wait()


def _serves(own: str, domain: str) -> bool:
    """Say whether addresses of a domain are ours: the provider's own, and domains below it (KEP-AC-04)."""
    return domain == own or domain.endswith("." + own)


async def _run_imap(core: Core, metrics: Metrics, stopping: asyncio.Event, up: Up) -> None:
    network = core.settings.network
    parts = SessionParts(
        core.mailbox, core.sign_in, core.offload, FetchPolicy(imap_body=core.settings.read.trigger_imap_body)
    )
    limits = ServerLimits(connections=network.max_connections)
    server = ImapServer(parts, open_tls(core.settings), limits=limits, reuse_port=core.shared_ports)
    metrics.watch_sessions("imap", lambda: server.connections)

    async def listen() -> None:
        try:
            await server.serve(network.host, network.imap_port, ready=lambda _port: up())
        except* (OSError, OverflowError) as group:  # trouble with a client never comes this far
            raise _cannot_listen("imap", core, network.imap_port, first_of(group)) from None

    async with asyncio.TaskGroup() as group:
        group.create_task(listen(), name="imap listener")
        await stopping.wait()
        server.drain()


async def _run_worker(core: Core, _metrics: Metrics, stopping: asyncio.Event, up: Up) -> None:
    settings, node = core.settings, core.node
    queued, own = QueuedPeers(core.store), [*core.ledger.lanes(), *core.archive.lanes()]
    own.append(preservation_lane(core.preserve, core.archive.parts))

    async def tidy() -> int:
        await queued.look()
        return await core.tidy.release()

    worker = Worker(
        store=core.store,
        clock=core.clock,
        subscribe=partial(core.changes.subscribe, LocalChanges.EVERYTHING),
        lanes=lambda: [
            *own,
            *lanes(
                node,
                deliver=core.deliver,
                receipts=core.receipts,
                relay=core.relay,
                wait=core.wait,
                peers={*core.register.peers, *queued.known},
                connections=settings.relay.connections,
                lease=timedelta(seconds=settings.storage.lease_seconds),
            ),
        ],
        take_over=partial(take_over, node),
        tidy=tidy,
    )
    await core.archive.prove()
    up()
    await worker.run(stopping)


_RUN: Final = {"smtp": _run_smtp, "inbound": _run_inbound, "imap": _run_imap, "worker": _run_worker}
