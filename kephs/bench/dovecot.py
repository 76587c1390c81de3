"""Dovecot as the peer: Debian's package, its configuration and mailboxes in a temporary folder."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kephs.bench.instance import stop, until_up
from kephs.bench.wire import Login, Place
from kephs.cli.instance import free_port

_PASSWORD: Final = "bench"  # noqa: S105  # of a server that lives for seconds on loopback
_FOLDER_MAX: Final = 60  # a socket's name has 107 octets at most (unix(7)), Dovecot needs its share
_USER: Final = "nobody"
_CONF: Final = """\
protocols = imap
listen = 127.0.0.1
base_dir = {root}/run
state_dir = {root}/state
log_path = {root}/dovecot.log
info_log_path = /dev/null
ssl = required
ssl_cert = <{root}/tls.pem
ssl_key = <{root}/tls.key
mail_location = maildir:{root}/mail/%u
mail_fsync = optimized
first_valid_uid = 1
first_valid_gid = 1
login_trusted_networks =
disable_plaintext_auth = yes
auth_mechanisms = plain
mail_max_userip_connections = 2000
default_process_limit = 1500
default_client_limit = 6000
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={user} gid=nogroup home={root}/mail/%u
}}
service imap-login {{
  service_count = 0
  client_limit = 1500
  process_min_avail = 2
  inet_listener imap {{
    port = 0
  }}
  inet_listener imaps {{
    port = {port}
    ssl = yes
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Dovecot:
    """A running Dovecot; any user name signs in."""

    name: str
    place: Place
    login: Login
    pid: int  # of its master

    def memory_mb(self) -> float:
        """Return the memory of all its processes, MB; what they share is counted once."""
        return family_pss_mb(self.pid)


def family_pss_mb(pid: int) -> float:
    """Return the proportional sizes of a process and all its descendants together, MB (spec: proc(5))."""
    total, waiting = 0, [pid]
    while waiting:
        one = Path("/proc") / str(waiting.pop())
        try:
            for line in (one / "smaps_rollup").read_text(encoding="ascii").splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
            for listed in (one / "task").glob("*/children"):
                waiting += map(int, listed.read_text(encoding="ascii").split())
        except OSError:  # it is gone
            continue
    return total / 1e6


def missing(folder: Path) -> str | None:
    """Return why Dovecot cannot be run below a folder, or None."""
    if shutil.which("dovecot") is None:
        return "Dovecot is not installed (Debian: dovecot-imapd)"
    if len(str(folder)) > _FOLDER_MAX:
        return "the folder for temporary files has too long a name for Dovecot's sockets"
    return None if os.geteuid() == 0 else "Dovecot needs root to start"


@asynccontextmanager
async def running(root: Path, certificate: Path, key: Path, ca_file: Path) -> AsyncIterator[Dovecot]:
    """Run Dovecot below ``root``, which its users must be able to enter; stop it on leaving.

    Raises:
        BenchError: it did not start.
    """
    port = free_port()
    conf = _configure(root, certificate, key, port)
    child = await asyncio.create_subprocess_exec(
        "dovecot", "-F", "-c", str(conf), stdin=asyncio.subprocess.DEVNULL, start_new_session=True
    )
    try:
        place = Place(port, ca_file)
        await until_up(place, lambda: child.returncode is not None, root / "dovecot.log")
        yield Dovecot(f"Dovecot {await _version()}", place, Login("bench", _PASSWORD), child.pid)
    finally:
        await stop(child)


def _configure(root: Path, certificate: Path, key: Path, port: int) -> Path:
    """Write the configuration and return its place."""
    mail = root / "mail"
    mail.mkdir(mode=0o755)
    shutil.chown(mail, _USER, "nogroup")
    own_key = root / "tls.key"
    own_key.touch(mode=0o600)
    own_key.write_bytes(key.read_bytes())
    shutil.copy(certificate, root / "tls.pem")
    conf = root / "dovecot.conf"
    conf.write_text(_CONF.format(root=root, port=port, password=_PASSWORD, user=_USER), encoding="ascii")
    return conf


async def _version() -> str:
    child = await asyncio.create_subprocess_exec(
        "dovecot", "--version", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await child.communicate()
    return output.decode("ascii", "replace").split()[0]
