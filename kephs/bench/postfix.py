"""Postfix as the peer: Debian's package, its configuration and queue in a temporary folder."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kephs.bench.figures import BenchError
from kephs.bench.instance import until_up
from kephs.bench.wire import Place
from kephs.cli.instance import free_port

_MAIN: Final = """\
compatibility_level = 3.6
queue_directory = {queue}
data_directory = {data}
mail_owner = postfix
setgid_group = postdrop
myhostname = bench.test
mydestination = localhost
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
maillog_file = {log}
maillog_file_prefixes = {root}
alias_maps =
local_recipient_maps =
default_transport = discard:
local_transport = discard:
relay_domains =
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
disable_dns_lookups = yes
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_tls_security_level = encrypt
message_size_limit = 0
mailbox_size_limit = 0
in_flow_delay = 0
header_size_limit = 1024000
smtpd_junk_command_limit = 1000000
smtpd_client_connection_count_limit = 0
"""
# What a bare Postfix needs to accept, queue and discard; the columns are those of master(5).
_MASTER: Final = """\
127.0.0.1:{port} inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
tlsmgr    unix - - n 1000? 1 tlsmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
flush     unix n - n 1000? 0 flush
proxymap  unix - - n - - proxymap
showq     unix n - n - - showq
error     unix - - n - - error
retry     unix - - n - - error
discard   unix - - n - - discard
anvil     unix - - n - 1 anvil
scache    unix - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""
_WAITING: Final = ("incoming", "active")
_QUIET_LOOK: Final = 0.02  # seconds
_QUIET_LOOKS: Final = 250


@dataclass(frozen=True, slots=True)
class Postfix:
    """A running Postfix."""

    name: str
    place: Place
    queue: Path

    async def quiet(self) -> None:
        """Wait until all accepted messages have left the queue, a while at most."""
        for _ in range(_QUIET_LOOKS):
            if not any(entry.is_file() for part in _WAITING for entry in (self.queue / part).rglob("*")):
                return
            await asyncio.sleep(_QUIET_LOOK)


def missing() -> str | None:
    """Return why Postfix cannot be run here, or None."""
    if shutil.which("postfix") is None:
        return "Postfix is not installed (Debian: postfix)"
    return None if os.geteuid() == 0 else "Postfix needs root to start"


@asynccontextmanager
async def running(root: Path, certificate: Path, key: Path, ca_file: Path) -> AsyncIterator[Postfix]:
    """Run Postfix below ``root``, which its users must be able to enter; stop it on leaving.

    Raises:
        BenchError: it did not start.
    """
    port = free_port()
    conf, queue, log = _configure(root, certificate, key, port)
    version = (await _run("postconf", "-d", "-h", "mail_version")).strip()
    place = Place(port, ca_file)
    try:
        await _run("postfix", "-c", str(conf), "start")
        await until_up(place, lambda: False, log)
        yield Postfix(f"Postfix {version}", place, queue)
    finally:
        await _stop(conf, queue)


def _configure(root: Path, certificate: Path, key: Path, port: int) -> tuple[Path, Path, Path]:
    """Write the configuration; return the folders of configuration and queue, and the log."""
    conf, queue, data, log = root / "etc", root / "queue", root / "data", root / "mail.log"
    for folder in (conf, queue, data):
        folder.mkdir(mode=0o755)
    shutil.chown(data, "postfix")
    own_key = root / "tls.key"
    own_key.touch(mode=0o600)
    own_key.write_bytes(key.read_bytes())
    shutil.copy(certificate, root / "tls.pem")
    main = _MAIN.format(root=root, queue=queue, data=data, log=log, certificate=root / "tls.pem", key=own_key)
    (conf / "main.cf").write_text(main, encoding="ascii")
    (conf / "master.cf").write_text(_MASTER.format(port=port), encoding="ascii")
    return conf, queue, log


async def _stop(conf: Path, queue: Path) -> None:
    """Stop at once and see it gone: what is still in the queue is discarded with it."""
    pid_file = queue / "pid" / "master.pid"
    if not pid_file.exists():
        return
    process = Path("/proc") / pid_file.read_text(encoding="ascii").strip() / "stat"
    await asyncio.shield(_run("postfix", "-c", str(conf), "abort", ok=False))
    for _ in range(_QUIET_LOOKS):
        if not _is_alive(process):
            return
        await asyncio.sleep(_QUIET_LOOK)


def _is_alive(stat: Path) -> bool:
    try:
        return stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def _run(*command: str, ok: bool = True) -> str:
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await child.communicate()
    text = output.decode("utf-8", "replace")
    if ok and child.returncode:
        raise BenchError(f"{' '.join(command)}: {text.strip()[-300:]}")
    return text
