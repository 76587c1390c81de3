"""`kephs signer`: the process that holds the key of an instance, as a child of `kephs serve`."""

import asyncio
import os
import resource
import signal
import socket
import struct
from pathlib import Path
from typing import Final

import click

from config.settings import Settings, SettingsError, load
from evidence.x509.chain import TrustStore
from kephs.bootstrap import open_issuer, open_sealing
from kephs.observability.logs import configure_logging
from kephs.signer.server import SignerRules, SignerServer
from kephs.system import SystemClock, spare_the_collector
from kephs.trust.wire import TrustWireError, receive_trust

_START_SECONDS: Final = 60
_LEAVE_SECONDS: Final = 5
"""Whatever hangs, an alarm ends the process: nobody waits for a signer that does not answer."""


@click.command("signer", hidden=True)
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--with-parent", is_flag=True, required=True, help="standard input is the parent's socket")
@click.option("--verbose", is_flag=True, help="log every step")
def command(directory: Path, *, with_parent: bool, verbose: bool) -> None:  # noqa: ARG001  # a reminder
    """Seal what the parent process asks for; stop when it closes the connection."""
    configure_logging(verbose=verbose)
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the key
    signal.alarm(_START_SECONDS)
    try:
        connected = parent_socket()
        trust = receive_trust(connected)
        asyncio.run(_run(load(directory), connected, trust))
    except (SettingsError, TrustWireError) as error:
        raise click.ClickException(str(error)) from None


def parent_socket() -> socket.socket:
    """Return the socket that is standard input, which is then empty.

    Raises:
        SettingsError: it is none, or somebody else's.
    """
    try:
        connected = socket.socket(fileno=os.dup(0))
    except OSError:
        raise SettingsError("standard input is no socket: kephs serve starts the signer") from None
    if connected.family != socket.AF_UNIX or connected.type != socket.SOCK_STREAM:
        raise SettingsError("standard input is no Unix socket: kephs serve starts the signer")
    _pid, owner, _group = struct.unpack("3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if owner != os.geteuid():
        raise SettingsError("the other end of standard input is another user's")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return connected


async def _run(settings: Settings, connected: socket.socket, trust: TrustStore) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with open_sealing(settings, trust) as sealing:
        server = SignerServer(sealing, SignerRules(open_issuer(settings)), SystemClock().now)
        signal.alarm(0)
        spare_the_collector()
        await server.serve(connected, stopping)
        signal.alarm(_LEAVE_SECONDS)
