"""A Postfix that passes plain mail on to us over TLS: a hop whose owner never heard of KEP."""

import asyncio
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT

_MAIN = """\
compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
mail_owner = postfix
setgid_group = postdrop
myhostname = careless.test
mydestination = localhost
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
maillog_file = {root}/mail.log
maillog_file_prefixes = {root}
alias_maps =
local_recipient_maps =
default_transport = discard:
local_transport = discard:
transport_maps = inline:{{ hs91.kep.tr=smtp:[127.0.0.1]:{next_port} }}
relay_domains = hs91.kep.tr
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
disable_dns_lookups = yes
smtp_dns_support_level = disabled
smtp_host_lookup = native
smtp_tls_security_level = encrypt
"""
_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
tlsmgr    unix - - n 1000? 1 tlsmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
smtp      unix - - n - - smtp
proxymap  unix - - n - - proxymap
error     unix - - n - - error
retry     unix - - n - - error
discard   unix - - n - - discard
anvil     unix - - n - 1 anvil
scache    unix - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True, slots=True)
class Hop:
    """A running Postfix: where it listens, and its log."""

    port: int
    log: Path

    async def logged(self, word: str) -> str:
        """Wait until a line of the log holds a word, and return that line."""
        async with asyncio.timeout(30):
            while True:
                lines = self.log.read_text("utf-8", "replace").splitlines() if self.log.exists() else []
                for line in lines:
                    if word in line:
                        return line
                await asyncio.sleep(0.05)


@asynccontextmanager
async def careless_hop(next_port: int) -> AsyncIterator[Hop]:
    """Run a Postfix that relays mail for hs91.kep.tr to a port of this machine; it needs root."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)  # Postfix's own user must be able to enter
        for name in ("etc", "queue", "data"):
            (root / name).mkdir(mode=0o755)
        shutil.chown(root / "data", "postfix")
        (root / "etc/main.cf").write_text(_MAIN.format(root=root, next_port=next_port))
        (root / "etc/master.cf").write_text(_MASTER.format(port=port))
        await _postfix(root, "start")
        try:
            yield Hop(port, root / "mail.log")
        finally:
            await _stop(root)


async def _postfix(root: Path, command: str) -> None:
    child = await asyncio.create_subprocess_exec(
        "postfix", "-c", str(root / "etc"), command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
    )
    output, _ = await child.communicate()
    assert child.returncode == 0, output.decode()


async def _stop(root: Path) -> None:
    master = int((root / "queue/pid/master.pid").read_text())
    await _postfix(root, "abort")
    async with asyncio.timeout(30):
        while Path(f"/proc/{master}/stat").exists() and _alive(master):
            await asyncio.sleep(0.02)


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
