"""Install the Debian programs that the tests drive, or say exactly which ones are missing.

The server itself needs none of them; `kephs dossier` needs Pango and the DejaVu fonts. Nothing is left
running: while apt works, services may not start.
Standard library only. ``--check`` never installs, it only tells.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PROGRAMS: Final[dict[str, str]] = {
    "openssl": "openssl",
    "xmlsec1": "xmlsec1",
    "swaks": "swaks",
    "mbsync": "isync",
    "clamd": "clamav-daemon",
    "curl": "curl",
    "gnutls-cli": "gnutls-bin",
    "postfix": "postfix",
    "/usr/lib/dovecot/imap": "dovecot-imapd",
    "/usr/lib/postgresql/*/bin/initdb": "postgresql",
    "neomutt": "neomutt",
    "offlineimap": "offlineimap3",
    "softhsm2-util": "softhsm2",
    "cmsutil": "libnss3-tools",
    "pdftoppm": "poppler-utils",
    "/usr/lib/*/libpango-1.0.so.0": "libpango-1.0-0",
    "/usr/lib/*/libpangoft2-1.0.so.0": "libpangoft2-1.0-0",
    "/usr/lib/*/libharfbuzz-subset.so.0": "libharfbuzz-subset0",
    "/usr/share/fonts/*/dejavu/DejaVuSans.ttf": "fonts-dejavu-core",
}
"""What must be there: a program's name, absolute path or pattern, and the Debian package that brings it."""

SERVICES: Final[dict[str, tuple[str, ...]]] = {
    "clamav-daemon": ("clamav-daemon", "clamav-freshclam"),
    "postfix": ("postfix",),
    "dovecot-imapd": ("dovecot",),
    "postgresql": ("postgresql",),
}
"""Services that a package would start at the next boot; the tests start their own copies instead."""

POLICY: Final = Path("/usr/sbin/policy-rc.d")
SEARCH: Final = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin", "/usr/local/sbin"))


def missing() -> dict[str, str]:
    """Return the programs that are not there, each with its Debian package."""
    return {name: package for name, package in PROGRAMS.items() if not _there(name)}


def _there(name: str) -> bool:
    if "*" in name:
        return any(Path("/").glob(name.lstrip("/")))
    return shutil.which(name, path=SEARCH) is not None


@contextmanager
def no_service_starts() -> Iterator[None]:
    """Forbid packages to start services while they are being installed (Debian policy-rc.d)."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)


def apt(*arguments: str) -> bool:
    """Run apt-get without questions; say whether it succeeded."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    command = ("apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3", *arguments)
    done = subprocess.run(
        command, env=environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        print(done.stdout.decode(errors="replace")[-3000:], file=sys.stderr)
    return done.returncode == 0


def install(packages: list[str]) -> None:
    """Install packages without starting or enabling what they bring."""
    print(f"provision: installing {' '.join(packages)}", flush=True)
    with no_service_starts():
        if not apt("update"):
            print("provision: apt-get update failed; trying with the lists that are there", file=sys.stderr)
        apt("install", "--no-install-recommends", *packages)
    if Path("/run/systemd/system").is_dir():
        for unit in (unit for package in packages for unit in SERVICES.get(package, ())):
            subprocess.run(("systemctl", "disable", "--quiet", unit), check=False, stderr=subprocess.DEVNULL)


def obstacle() -> str:
    """Say why nothing can be installed here, or return an empty text."""
    if shutil.which("apt-get") is None:
        return "this is not a Debian system"
    if os.geteuid() != 0:
        return "only root can install"
    return ""


def report(absent: dict[str, str], why: str) -> int:
    """Say what is missing; with ``CI=true`` that is a failure."""
    if not absent:
        return 0
    names = ", ".join(f"{Path(name).name} (package {package})" for name, package in absent.items())
    print(f"provision: missing: {names}{'; ' + why if why else ''}", file=sys.stderr)
    packages = " ".join(sorted(set(absent.values())))
    print(f"provision: install with: apt-get install --no-install-recommends {packages}", file=sys.stderr)
    if os.environ.get("CI") == "true":
        return 1
    print("provision: the tests that need them are left out (with CI=true this fails)", file=sys.stderr)
    return 0


def main() -> int:
    """Install what is missing where that is possible, then report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="install nothing, only tell")
    only_tell = parser.parse_args().check
    absent = missing()
    why = "" if only_tell else obstacle()
    if absent and not only_tell and not why:
        install(sorted(set(absent.values())))
        absent = missing()
    return report(absent, why)


if __name__ == "__main__":
    sys.exit(main())
