"""Runs `kephs` commands as forks of a process that has imported them already.

Importing the server costs seconds of processor time, opening it a tenth of one; two hundred restarts can
afford the second only. A fork is a process of its own that runs the very command, and nothing is open
before the fork. Started as ``python -P warm.py``; one JSON object per line on standard input:

    {"argv": ["serve", "DIR"], "env": {"NAME": "value"}, "log": "FILE"}  ->  the child's pid
    {"wait": pid}  ->  its exit code once it has ended (negative: the signal)
    {"programs": true}  ->  what servers have started and still runs: {"pid": [arguments]}

A server starts a process of its own (the signer): what it takes for the interpreter is a small program that
hands its arguments and its standard streams over to us, and ends as our fork ends.

At the end of standard input all children are killed: an interrupted test leaves nothing behind.
"""

import gc
import importlib
import json
import os
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any, NoReturn

COMMANDS = ("run.serve", "health.fsck", "run.test_pki", "run.signer")
_INTERPRETER = """#!{python} -ISE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as warm:
    warm.connect({place!r})
    socket.send_fds(warm, [json.dumps(sys.argv[1:]).encode()], [0, 1, 2])
    for descriptor in (0, 1, 2):
        os.close(descriptor)  # the other end must see when the fork is gone, whatever becomes of us
    code = int(warm.recv(16) or b"70")
if code < 0:
    os.kill(os.getpid(), -code)
os._exit(code)
"""


class Warm:
    """The process: what is asked for on standard input, and by the interpreter's stand-ins."""

    def __init__(self, folder: Path) -> None:
        """Import all commands."""
        self._run = importlib.import_module("kephs.cli.main").main
        for name in COMMANDS:
            importlib.import_module(f"kephs.cli.{name}")
        gc.collect()
        gc.freeze()
        self._children: set[int] = set()
        self._programs: dict[int, list[str]] = {}
        self._rest = b""
        self._selector = DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "socket"))
        self._listener.listen(64)
        self._selector.register(0, EVENT_READ, self._hear)
        self._selector.register(self._listener, EVENT_READ, self._meet)
        self._interpreter = folder / "python"
        self._interpreter.write_text(_INTERPRETER.format(python=sys.executable, place=str(folder / "socket")))
        self._interpreter.chmod(0o700)

    def serve(self) -> None:
        """Say so, and serve requests until standard input ends."""
        _say("ready")
        try:
            while True:
                for key, _ in self._selector.select():
                    key.data()
        except EOFError:
            return
        finally:
            for pid in self._children:
                os.kill(pid, signal.SIGKILL)

    def _hear(self) -> None:
        data = os.read(0, 65_536)
        if not data:
            raise EOFError
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            if "programs" in request:
                _say(json.dumps(self._programs))
                continue
            if "wait" in request:
                self._children.discard(request["wait"])
                _say(os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1]))
                continue
            _say(self._fork(partial(self._command, request)))

    def _meet(self) -> None:
        """Be the interpreter for a process that a server started."""
        connection, _ = self._listener.accept()
        text, streams, _, _ = socket.recv_fds(connection, 65_536, 3)
        arguments = json.loads(text)
        pid = self._fork(partial(self._program, arguments, streams))
        for descriptor in streams:
            os.close(descriptor)
        self._programs[pid] = arguments
        ended = os.pidfd_open(pid)

        def reap() -> None:
            self._selector.unregister(ended)
            os.close(ended)
            self._children.discard(pid)
            del self._programs[pid]
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            try:
                connection.sendall(str(code).encode())
            except OSError:
                pass  # whoever started it is gone
            finally:
                connection.close()

        self._selector.register(ended, EVENT_READ, reap)

    def _fork(self, become: Callable[[], NoReturn]) -> int:
        pid = os.fork()
        if not pid:
            become()
        self._children.add(pid)
        return pid

    def _command(self, request: dict[str, Any]) -> NoReturn:
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        sys.executable = str(self._interpreter)
        os.environ.update(request["env"])
        _become((os.open(os.devnull, os.O_RDONLY), log, log), lambda: self._run(request["argv"]))

    def _program(self, arguments: list[str], streams: list[int]) -> NoReturn:
        os.setsid()
        place = arguments.index("-c")
        sys.argv = arguments[place:]
        program = compile(sys.argv.pop(1), "<string>", "exec")
        _become(streams, lambda: exec(program, {"__name__": "__main__"}))


def _say(answer: object) -> None:
    os.write(1, f"{answer}\n".encode())


def _become(streams: Any, run: Callable[[], None]) -> NoReturn:
    """Be another program, with these standard streams and nothing else open."""
    code = 70
    try:
        for place, descriptor in enumerate(streams):
            os.dup2(descriptor, place)
        os.closerange(3, 1024)
        run()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Run in a folder that goes with us."""
    with tempfile.TemporaryDirectory(prefix="kephs-warm-") as folder:
        Warm(Path(folder)).serve()


if __name__ == "__main__":
    main()
