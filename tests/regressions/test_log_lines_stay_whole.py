"""Server and signer write into one log: an event and its line end were two writes, so lines could merge."""

import json
import socket
import subprocess
import sys

_PROGRAM = """
import structlog
from kephs.observability.logs import configure_logging
configure_logging(verbose=False)
for number in range(3):
    structlog.get_logger().info("test.event", number=number, filler="x" * 250)
"""


def test_an_event_leaves_with_one_write():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)  # keeps writes apart
    with ours, theirs:
        subprocess.run([sys.executable, "-P", "-c", _PROGRAM], stderr=theirs, timeout=60, check=True)
        ours.setblocking(False)
        for number in range(3):
            line = ours.recv(65_536)
            assert line.endswith(b"\n")
            assert json.loads(line)["number"] == number
