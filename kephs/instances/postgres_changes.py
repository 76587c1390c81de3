"""Changes across processes on one PostgreSQL database: LISTEN and NOTIFY around `LocalChanges`.

A notice carries account ids alone and follows the commit. One that is lost (a process dies between its
commit and its notice) costs a listener a moment: whoever waits also looks by itself now and then.
"""

import asyncio
import selectors
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import psycopg
import structlog

from kephs.system import LocalChanges
from storage.errors import SchemaError
from storage.postgres.link import Link, connect

log = structlog.get_logger()

_CHANNEL: Final = "kephs_changes"
_LARGEST: Final = 7_900  # PostgreSQL takes payloads below 8,000 bytes
_PAUSE: Final = 0.005  # seconds between two notices: what changes meanwhile goes together
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0


class PostgresChanges(LocalChanges):
    """`kephs.ports.Changes` for all processes on one database.

    One thread with a connection of its own sends and listens. While the connection is lost, this process
    goes on by itself; once it is back, everybody here is woken, because something may have been missed.

    Args:
        url: of the database.
        connector: makes connections; tests hand in one that fails.
    """

    def __init__(self, url: str, *, connector: Callable[[str], Link] = connect) -> None:
        super().__init__()
        self._url, self._connector = url, connector
        self._waiting: set[str] = set()
        self._asked = False  # something is to be told, though perhaps of no account
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._listening = threading.Event()
        self._waker, self._woken = socket.socketpair()
        self._waker.settimeout(0)
        self._woken.settimeout(0)

    async def start(self) -> None:
        """Start the thread; returns once it listens, or after ten seconds without a connection."""
        self._loop = asyncio.get_running_loop()
        # A daemon: a process that dies without close() must not hang on it; notices owe nothing.
        self._thread = threading.Thread(target=self._run, name="changes", daemon=True)
        self._thread.start()
        await self._loop.run_in_executor(None, self._listening.wait, 10.0)

    async def close(self) -> None:
        """Send what waits, then stop; safe to call twice."""
        thread, self._thread = self._thread, None
        self._closing.set()
        if thread is not None:
            self._wake_thread()
            await asyncio.get_running_loop().run_in_executor(None, thread.join)
        self._waker.close()
        self._woken.close()

    def publish(self, account_ids: Iterable[str]) -> None:
        """Wake whoever listens to these accounts, here at once and in other processes soon."""
        ids = set(account_ids)
        super().publish(ids)
        with self._lock:
            self._waiting |= ids
            self._asked = True
        if self._thread is not None:
            self._wake_thread()

    def wake_all(self) -> None:
        """Wake every listener of this process."""
        for listeners in tuple(self._listeners.values()):
            for listener in tuple(listeners):
                listener.wake()

    # The thread.

    def _wake_thread(self) -> None:
        try:
            self._waker.send(b"x")
        except BlockingIOError:  # the thread has enough to wake up for
            return

    def _run(self) -> None:
        pause, missed = _FIRST_PAUSE, False
        while not self._closing.is_set():
            try:
                self._serve(missed=missed)
            except (psycopg.Error, OSError, SchemaError) as error:
                if self._listening.is_set():
                    pause = _FIRST_PAUSE
                self._listening.clear()
                log.warning("changes.lost", cause=type(error).__name__)
                missed = True
                self._closing.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _serve(self, *, missed: bool) -> None:
        """Listen and send until told to stop; raises what the connection raises."""
        link = self._connector(self._url)
        try:
            link.execute(f"LISTEN {_CHANNEL}", prepare=False)
            if missed:
                self._tell(self.wake_all)
            self._listening.set()
            with selectors.DefaultSelector() as ready:
                ready.register(link.fileno(), selectors.EVENT_READ)
                ready.register(self._woken, selectors.EVENT_READ)
                while not self._closing.is_set():
                    self._send(link)
                    self._hear(link)
                    ready.select()
                    self._drain()
                self._send(link)
        finally:
            link.close()

    def _send(self, link: Link) -> None:
        """Tell the others what waits; it goes on waiting where that fails."""
        with self._lock:
            ids, asked = sorted(self._waiting), self._asked
            self._waiting, self._asked = set(), False
        if not asked:
            return
        try:
            for payload in payloads(ids):
                link.execute("SELECT pg_notify(%s, %s)", (_CHANNEL, payload))
        except BaseException:
            with self._lock:
                self._waiting.update(ids)
                self._asked = True
            raise
        self._closing.wait(_PAUSE)

    def _hear(self, link: Link) -> None:
        """Wake who listens here to what others changed."""
        heard: set[str] = set()
        count = 0
        for notice in link.notifies(timeout=0):
            if notice.pid != link.info.backend_pid:
                heard.update(notice.payload.split())
                count += 1
        if count:
            self._tell(lambda: LocalChanges.publish(self, heard))

    def _tell(self, what: Callable[[], None]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(what)
        except RuntimeError:  # the loop is closed: nobody is left to hear
            return

    def _drain(self) -> None:
        try:
            while self._woken.recv(4096):
                continue
        except BlockingIOError:
            return


def payloads(ids: Iterable[str]) -> Iterator[str]:
    """Yield texts of ids with spaces between, each below what one notice may carry; at least one text."""
    text = ""
    for account_id in ids:
        if text and len(text.encode()) + 1 + len(account_id.encode()) > _LARGEST:
            yield text
            text = ""
        text = f"{text} {account_id}" if text else account_id
    yield text
