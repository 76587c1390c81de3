"""The process that holds the key loads neither database, use cases nor edges."""

import subprocess
import sys

HELD_OFF = (
    "sqlalchemy",
    "kephs.usecases.submission.submit",
    "kephs.bootstrap.core",
    "smtp_gateway.server",
    "kephs.imap.server",
)


def test_the_signers_process_loads_no_database_use_case_or_edge() -> None:
    code = f"import sys, kephs.cli.run.signer; print([n for n in {HELD_OFF!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
