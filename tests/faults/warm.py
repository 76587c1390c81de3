"""Runs `kephs` commands as forks of a process that has imported them already.

Importing the server costs seconds of processor time, opening it a tenth of one; two hundred restarts can
afford the second only. A fork is a process of its own that runs the very command, and nothing is open
before the fork. Started as ``python -P warm.py``; one JSON object per line on standard input:

    {"argv": ["serve", "DIR"], "env": {"NAME": "value"}, "log": "FILE"}  ->  the child's pid
    {"wait": pid}  ->  its exit code once it has ended (negative: the signal)

At the end of standard input all children are killed: an interrupted test leaves nothing behind.
"""

import gc
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

COMMANDS = ("serve", "fsck", "test_pki")


def main() -> None:
    """Import, say so, and serve requests until standard input ends."""
    run = importlib.import_module("kephs.cli.main").main
    for name in COMMANDS:
        importlib.import_module(f"kephs.cli.{name}")
    gc.collect()
    gc.freeze()
    _say("ready")
    children: set[int] = set()
    try:
        while line := sys.stdin.readline():
            request = json.loads(line)
            if "wait" in request:
                children.discard(request["wait"])
                _say(os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1]))
                continue
            pid = os.fork()
            if not pid:
                _become(run, request)
            children.add(pid)
            _say(pid)
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)


def _say(answer: object) -> None:
    sys.stdout.write(f"{answer}\n")
    sys.stdout.flush()


def _become(run: Callable[..., None], request: dict[str, Any]) -> NoReturn:
    """Be the command."""
    code = 70
    try:
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for descriptor, place in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(descriptor, place)
        os.environ.update(request["env"])
        run(request["argv"], standalone_mode=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
