"""A real instance for the functional tests: `kephs init --test-pki`, people, `kephs serve`, real clients."""

import asyncio
import imaplib
import json
import re
import secrets
import shutil
import signal
import smtplib
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.header import Header
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import psutil
from click.testing import CliRunner

from config import settings as config_settings
from directory.accounts import AccountKind, AccountState, Right, ServiceType
from evidence.mail.kep_message import parse_kep_message
from evidence.model.records import EvidenceRecord
from evidence.ports import BytesSource
from evidence.verify.evidence import EvidenceCheck, check_evidence
from evidence.x509.chain import TrustStore
from kephs.bootstrap.core import Core, open_core
from kephs.cli.main import main
from kephs.cli.people.account import new_app_password
from kephs.testpki.authority import TestPki
from kephs.testpki.issued import Issued
from kephs.testpki.profiles import make_tckn
from kephs.usecases.people.accounts import Opening
from tests.support.signers import signed_message

T = TypeVar("T")

KEPHS = str(Path(sys.executable).parent / "kephs")
DOMAIN = "hs91.kep.tr"
PATIENCE = 30.0
LOCAL_MIB = 4  # the 100 MiB of production, made small so that "too big" is quick to try
_NEVER = threading.Event()


def now() -> datetime:
    return datetime.now(UTC)


def until(look: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
    """Look again and again until there is something; fail at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        _NEVER.wait(0.05)


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    returncode: int
    stdout: str
    stderr: str


def kephs(*arguments: object, ok: bool = True, text_in: str | None = None) -> Done:
    """Run a command of the console script inside this process: the same code, without its start-up time."""
    result = CliRunner().invoke(main, list(map(str, arguments)), input=text_in, prog_name="kephs")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return _judged(Done(result.exit_code, result.stdout, result.stderr), ok=ok)


def kephs_process(*arguments: object, ok: bool = True) -> Done:
    """Run the console script as users do."""
    done = subprocess.run(
        [KEPHS, *map(str, arguments)], capture_output=True, text=True, timeout=100, check=False
    )
    return _judged(Done(done.returncode, done.stdout, done.stderr), ok=ok)


def _judged(done: Done, *, ok: bool) -> Done:
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    if ok:
        assert done.returncode == 0, done.stderr + done.stdout
    return done


@dataclass
class Holder:
    """Somebody with an account, a qualified TEST certificate and an app password."""

    address: str
    name: str
    tckn: str
    issued: Issued
    password: str = field(default_factory=new_app_password)
    operator_id: str | None = None


@dataclass(frozen=True)
class Answer:
    """What the server said to DATA (or before, where it did not come to that)."""

    code: int
    text: str
    recipients: tuple[int, ...] = ()

    @property
    def evidence_id(self) -> str | None:
        found = re.search(r"evidence=(\S+)", self.text)
        return found[1] if found else None

    @property
    def message_id(self) -> str:
        found = re.search(r"message=(\S+)", self.text)
        assert found, self.text
        return found[1]

    @property
    def stable_code(self) -> str | None:
        found = re.search(r"\[([a-z-]+)\]", self.text)
        return found[1] if found else None

    @property
    def enhanced(self) -> str:
        return self.text.split()[0]


def compose(
    sender: str, to: str, *, subject: str = "Ihtar", message_id: str | None = None, more: str = "",
    body: str = "Sayın yetkili,\r\nsözleşme yenilenmeyecektir.\r\n", cc: str = "",
) -> bytes:  # fmt: skip
    """Return an unsigned message."""
    head = [
        f"From: {sender}",
        f"To: {to}",
        *([f"Cc: {cc}"] if cc else []),
        f"Subject: {Header(subject, 'utf-8').encode()}",
        f"Date: {now():%a, %d %b %Y %H:%M:%S +0000}",
        f"Message-ID: {message_id or fresh_message_id()}",
        *([more] if more else []),
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
    ]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()


def original_in(dispatch: bytes) -> bytes:
    """Return the original inside a KEP message."""
    found = parse_kep_message(BytesSource(dispatch)).original
    assert found is not None
    return dispatch[found.start : found.end]


def fresh_message_id() -> str:
    return f"<{secrets.token_hex(8)}@test.example>"


def sign(message: bytes, issued: Issued, **more) -> bytes:
    """Sign as `kephs sign` does."""
    return signed_message(issued, unsigned=message, at=now(), boundary=f"b{secrets.token_hex(16)}", **more)


class Site:
    """The instance, its server process and its people."""

    who: SimpleNamespace

    def __init__(self, home: Path) -> None:
        self.home = home
        self.made = json.loads(kephs("init", home, "--domain", DOMAIN, "--test-pki", "--json").stdout.strip())
        self._clamd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._configure()
        self.settings = config_settings.load(home)
        self.pki = TestPki.load(self.settings.test_pki.directory)
        self.trust = TrustStore([self.pki.root])
        self._count = 100
        self.people: dict[str, Holder] = {}

    def _configure(self) -> None:
        path = self.home / config_settings.FILE_NAME
        values = tomllib.loads(path.read_text("utf-8"))
        values["limits"] = {"max_local_mib": LOCAL_MIB, "max_elsewhere_mib": 1}
        values["seal"]["tsa_seconds"] = 1.0
        values.setdefault("trust", {})["revocation_seconds"] = 1.0
        if shutil.which("clamd"):
            values["scanner"] = {"clamd": f"unix:{self._start_clamd()}"}
        config_settings.save(self.home, values)

    def _start_clamd(self) -> Path:
        folder = self.home / "clamd"
        (folder / "db").mkdir(parents=True)
        shutil.copy(Path(__file__).parents[1] / "support" / "eicar.ndb", folder / "db")
        socket_path = folder / "s"
        (folder / "clamd.conf").write_text(
            f"LocalSocket {socket_path}\nDatabaseDirectory {folder}/db\nForeground yes\nStreamMaxLength 200M\n"
            f"PidFile {folder}/pid\nLogFile {folder}/log\n"
        )
        self._clamd = subprocess.Popen(
            ["clamd", "-c", str(folder / "clamd.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(socket_path.exists, "clamd's socket")
        return socket_path

    # ------------------------------------------------------------------ people

    def next_tckn(self) -> str:
        self._count += 1
        return make_tckn(self._count)

    def issue(self, name: str, tckn: str, **more) -> Issued:
        return self.pki.issue_user(name, tckn, **more)

    def with_core(self, work: Callable[[Core], Awaitable[T]]) -> T:
        """Await ``work(core)`` on the instance's own core, in this process."""

        async def inside() -> T:
            async with open_core(self.settings) as core:
                return await work(core)

        return asyncio.run(inside())

    async def open(self, core: Core, local: str, name: str, **more) -> Holder:
        """Open an account with a certificate and an app password."""
        tckn = self.next_tckn()
        issuer = more.pop("issuer", "p384")
        holder = Holder(f"{local}@{DOMAIN}", name, tckn, self.issue(name, tckn, issuer=issuer))
        service = more.pop("service", ServiceType.SEND_AND_RECEIVE)
        await core.accounts.open(
            Opening(holder.address, AccountKind.REAL_PERSON, service, name, name, tckn, **more)
        )
        await core.accounts.add_password(holder.address, holder.password, label="test")
        self.people[local] = holder
        return holder

    async def add_operator(self, core: Core, owner: Holder, name: str, rights: Right) -> Holder:
        """Add an operator to an account; returns them with an app password of their own."""
        tckn = self.next_tckn()
        operator = await core.accounts.add_operator(owner.address, name, tckn, rights)
        holder = Holder(owner.address, name, tckn, self.issue(name, tckn), operator_id=operator.operator_id)
        await core.accounts.add_password(
            owner.address, holder.password, label="operator", operator_id=operator.operator_id
        )
        return holder

    async def force_state(self, core: Core, holder: Holder, state: AccountState) -> None:
        """Set a state that would take months to reach."""
        account = await core.accounts.find(holder.address)
        await core.store.write(lambda tx: tx.accounts.set_state(account.account_id, state, now()))

    # ------------------------------------------------------------------ the server

    def start(self) -> None:
        log = (self.home / "run" / "serve.log").open("ab")
        self._server = subprocess.Popen(
            [KEPHS, "serve", str(self.home)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        log.close()
        until(self._answers, "the server's ports", 60)

    def _answers(self) -> bool:
        assert self._server is not None
        assert self._server.poll() is None, (self.home / "run" / "serve.log").read_text()
        for port in (self.settings.network.submission_port, self.settings.network.imap_port):
            try:
                with (
                    socket.create_connection(("127.0.0.1", port), 5) as raw,
                    self.tls().wrap_socket(raw, server_hostname="localhost"),
                ):
                    pass
            except OSError:
                return False
        return True

    def stop(self) -> None:
        for process in (self._server, self._clamd):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
        if self._server is not None:
            assert self._server.wait(30) == 0, (self.home / "run" / "serve.log").read_text()[-3000:]
        if self._clamd is not None:
            self._clamd.wait(30)

    def close(self) -> None:
        for process in (self._server, self._clamd):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()

    @property
    def server(self) -> psutil.Process:
        assert self._server is not None
        return psutil.Process(self._server.pid)

    @contextmanager
    def silent_pki(self) -> Iterator[None]:
        """Stop the TEST PKI's process in its tracks: OCSP, CRL and TSA are silent meanwhile."""
        (child,) = [p for p in self.server.children(recursive=True) if "test-pki" in p.cmdline()]
        child.suspend()
        try:
            yield
        finally:
            child.resume()

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.home / "tls-ca.pem"))

    # ------------------------------------------------------------------ clients

    def smtp(self, holder: Holder | None = None) -> smtplib.SMTP_SSL:
        client = smtplib.SMTP_SSL(
            "localhost", self.settings.network.submission_port, context=self.tls(), timeout=60
        )
        if holder is not None:
            try:
                client.login(holder.address, holder.password)
            except smtplib.SMTPException:
                client.close()
                raise
        return client

    def submit(
        self, sender: Holder, message: bytes, recipients: list[str], *, envelope_from: str | None = None
    ) -> Answer:
        """Submit as given and return what the server said at the end."""
        with self.smtp(sender) as client:
            client.ehlo_or_helo_if_needed()
            code, text = client.mail(
                envelope_from or sender.address, [f"SIZE={len(message)}", "BODY=8BITMIME"]
            )
            if code != 250:
                return Answer(code, text.decode())
            codes = tuple(client.rcpt(recipient)[0] for recipient in recipients)
            code, text = client.data(message)
            return Answer(code, text.decode(), codes)

    @contextmanager
    def imap(
        self, holder: Holder, folder: str = "INBOX", *, readonly: bool = False
    ) -> Iterator[imaplib.IMAP4_SSL]:
        client = imaplib.IMAP4_SSL(
            "localhost", self.settings.network.imap_port, ssl_context=self.tls(), timeout=60
        )
        try:
            client.login(holder.address, holder.password)
            client.select(folder, readonly=readonly)
            yield client
        finally:
            client.logout()

    def find(self, client: imaplib.IMAP4_SSL, header: str, value: str) -> bytes:
        """Return the UID of the message with this header; wait for it to arrive."""

        def look() -> bytes:
            client.noop()
            _, (uids,) = client.uid("SEARCH", "HEADER", header, f'"{value}"')
            return (uids or b"").split()[-1] if (uids or b"").split() else b""

        return until(look, f"{header}: {value}")

    def fetch(self, client: imaplib.IMAP4_SSL, uid: bytes, item: str) -> bytes:
        kind, parts = client.uid("FETCH", uid.decode(), f"({item})")
        assert kind == "OK", parts
        return bytes(next(part[1] for part in parts if isinstance(part, tuple)))

    def receipt(self, holder: Holder, evidence_id: str) -> tuple[bytes, EvidenceCheck]:
        """Return an evidence message from Deliller and the check of the evidence inside."""
        with self.imap(holder, "Deliller") as client:
            uid = self.find(client, "X-REM-Evidence-Identifier", evidence_id)
            message = self.fetch(client, uid, "BODY.PEEK[]")
        parsed = parse_kep_message(BytesSource(message))
        (evidence,) = parsed.evidences
        ers = parsed.extensions[0].content if parsed.extensions else None
        check = check_evidence(evidence.content, self.trust, now(), ers=ers)
        assert check.passed, check.report
        assert check.record is not None
        assert check.record.evidence_id == evidence_id
        return message, check

    def record(self, holder: Holder, evidence_id: str | None) -> EvidenceRecord:
        """Return what the evidence in the holder's Deliller says, verified."""
        assert evidence_id
        record = self.receipt(holder, evidence_id)[1].record
        assert record is not None
        return record

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Read the database beside the server: what is durable at this moment."""
        connection = sqlite3.connect(f"file:{self.settings.storage.database}?mode=ro", uri=True, timeout=10)
        try:
            return connection.execute(query, parameters).fetchall()
        finally:
            connection.close()

    def evidence_ids(self, message_id: str, kind: int) -> list[str]:
        found = self.rows(
            "SELECT evidence_id FROM evidence WHERE message_id = ? AND kind = ? ORDER BY number",
            message_id,
            kind,
        )
        return [row[0] for row in found]

    def traces(self, message: bytes) -> int:
        """Return how often the store knows a message, refused or accepted, by its Message-ID."""
        found = re.search(rb"^Message-ID: (\S+)", message, re.MULTILINE)
        assert found
        return len(self.rows("SELECT 1 FROM messages WHERE user_message_id = ?", found[1].decode()))

    def evidence_kinds(self, message_id: str) -> list[int]:
        query = "SELECT kind FROM evidence WHERE message_id = ? ORDER BY kind"
        return [row[0] for row in self.rows(query, message_id)]

    def wait_evidence(self, message_id: str, kind: int, count: int = 1) -> list[str]:
        until(lambda: len(self.evidence_ids(message_id, kind)) >= count, f"evidence {kind} of {message_id}")
        return self.evidence_ids(message_id, kind)
