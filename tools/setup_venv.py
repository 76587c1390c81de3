"""Make the virtual environment from a lock file, or recompile the lock files.

Standard library only: it runs before anything is installed.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(*command: str) -> None:
    """Run a command in the project's folder; stop with its exit code if it fails."""
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode:
        print(f"setup: {' '.join(command[:4])} ... failed with exit code {done.returncode}", file=sys.stderr)
        sys.exit(done.returncode)


def uv_of(venv: Path) -> str:
    """Return uv: the one on PATH, else one installed into the environment."""
    found = shutil.which("uv") or shutil.which("uv", path=str(venv / "bin"))
    if found:
        return found
    run(str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "uv")
    return str(venv / "bin" / "uv")


def make(venv: Path, lock: str, python: str) -> None:
    """Create the environment, install the locked packages and the project itself."""
    if not (venv / "bin" / "python").exists():
        run(python, "-m", "venv", str(venv))
    uv = uv_of(venv)
    target = ("--python", str(venv / "bin" / "python"))
    os.environ["UV_LINK_MODE"] = "copy"
    run(uv, "pip", "install", "--quiet", *target, "--require-hashes", "-r", lock)
    run(uv, "pip", "install", "--quiet", *target, "--no-deps", "--editable", ".")


def lock() -> None:
    """Compile both lock files with hashes and without index addresses."""
    venv = ROOT / ".venv"
    uv = uv_of(venv)
    common = (
        uv,
        "pip",
        "compile",
        "--quiet",
        "--universal",
        "--python-version",
        "3.11",
        "--generate-hashes",
        "--no-emit-index-url",
        "--no-header",
        "pyproject.toml",
        "--extra",
        "demo",
    )
    run(*common, "-o", "requirements.lock")
    run(*common, "--group", "dev", "-o", "requirements-dev.lock")


def main() -> None:
    """Read the arguments and do what they say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("venv", nargs="?", default=".venv", type=Path)
    parser.add_argument("lockfile", nargs="?", default="requirements.lock")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--lock", action="store_true", help="recompile the lock files instead")
    args = parser.parse_args()
    if args.lock:
        lock()
    else:
        make(args.venv.resolve(), args.lockfile, args.python)


if __name__ == "__main__":
    main()
