"""A small mailbox world for the IMAP tests: in-memory twins, one account, messages worth looking at."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from directory.accounts import Operator, Right
from evidence.mail.mime import scan
from evidence.model.records import Authentication
from evidence.ports import BytesSource
from kephs.domain.lifecycle import DeliveryState
from kephs.domain.mailboxes import FolderRole, NewItem
from kephs.domain.message_index import encode
from kephs.domain.messages import Person
from kephs.imap.commands import Command
from kephs.imap.fetch import FetchPolicy
from kephs.imap.framing import (
    AFTER_LOGIN,
    BEFORE_LOGIN,
    AppendBegins,
    AppendEnds,
    Broken,
    Framer,
    Piece,
    Received,
    WantsLiteral,
)
from kephs.imap.grammar import CommandError, SearchCharsetError, parse
from kephs.imap.session import Session
from kephs.imap.states import SessionParts, State, Waiting
from kephs.ports import BlobStore, Ending, Store, Tx
from kephs.system import LocalChanges
from kephs.usecases.mailbox.mailbox import MailboxService
from storage.memory.store import MemoryBlobStore, MemoryStore
from tests.support.stores import T0, account, delivery, message, operator

ADDRESS = "ayse.yilmaz@hs91.kep.tr"
PASSWORD = "gizli sözcük"
NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)

PLAIN = (
    b"Return-Path: <>\r\n"
    b"Date: Mon, 7 Feb 1994 21:52:25 -0800 (PST)\r\n"
    b"From: Fred Foobar <foobar@Blurdybloop.example>\r\n"
    b"Subject: afternoon meeting\r\n"
    b"To: mooch@owatagu.siam.edu.example\r\n"
    b"Message-Id: <B27397-0100000@Blurdybloop.example>\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n"
    b"\r\n"
    b"Hello Joe, do you think we can meet at 3:30 tomorrow?\r\n"
)

ORIGINAL = (
    b"From: =?utf-8?q?Ay=C5=9Fe_Y=C4=B1lmaz?= <ayse.yilmaz@hs91.kep.tr>\r\n"
    b"To: Veli Demir <veli.demir@hs91.kep.tr>, ekip:a@b.example,\r\n"
    b' "Ali ""Veli""" <c@d.example>;\r\n'
    b"Subject: =?utf-8?b?xLBodGFy?=\r\n"
    b"Message-ID: <o1@client>\r\n"
    b"Date: Sat, 21 Nov 2026 11:00:00 +0300\r\n"
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256;\r\n'
    b' boundary="in"\r\n'
    b"\r\n"
    b"--in\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n"
    b"\r\n" + "Borcunuzu ödeyiniz.\r\n".encode() + b"\r\n--in\r\n"
    b'Content-Type: application/pkcs7-signature; name="smime.p7s"\r\n'
    b"Content-Transfer-Encoding: base64\r\n"
    b"Content-Disposition: attachment; filename=smime.p7s\r\n"
    b"\r\n"
    b"MIIB\r\n"
    b"--in--\r\n"
)

DISPATCH = (
    b"From: KEP <kep@hs91.kep.tr>\r\n"
    b"To: veli.demir@hs91.kep.tr\r\n"
    b"Subject: =?utf-8?b?xLBodGFy?=\r\n"
    b"Date: Sat, 21 Nov 2026 11:00:05 +0300\r\n"
    b"Message-ID: <d1@hs91.kep.tr>\r\n"
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: multipart/signed; boundary="out"; micalg=sha-256\r\n'
    b"\r\n"
    b"ignored preamble\r\n"
    b"--out\r\n"
    b'Content-Type: multipart/mixed; boundary="mid"\r\n'
    b"\r\n"
    b"--mid\r\n"
    b'Content-Type: multipart/alternative; boundary="alt"\r\n'
    b"\r\n"
    b"--alt\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n"
    b"Content-Language: tr, en\r\n"
    b"\r\n"
    b"KEP iletisi: s=C3=BCre doldu\r\n"
    b"--alt\r\n"
    b"Content-Type: text/html; charset=utf-8\r\n"
    b"\r\n"
    b"<p>KEP <b>iletisi</b></p>\r\n"
    b"--alt--\r\n"
    b"--mid\r\n"
    b"Content-Type: application/xml; name*=utf-8''%C3%87.xml\r\n"
    b"Content-ID: <delil@kep>\r\n"
    b"Content-Description: delil\r\n"
    b"Content-Disposition: attachment; filename=delil.xml\r\n"
    b"\r\n"
    b"<delil/>\r\n"
    b"--mid\r\n"
    b"Content-Type: message/rfc822\r\n"
    b"Content-Disposition: attachment; filename=original.eml\r\n"
    b"\r\n" + ORIGINAL + b"\r\n--mid--\r\n"
    b"--out\r\n"
    b"Content-Type: application/pkcs7-signature\r\n"
    b"\r\n"
    b"MIIC\r\n"
    b"--out--\r\n"
    b"epilogue\r\n"
)


def notice(subject: str, text: str = "merhaba", sender: str = "kep@hs91.kep.tr") -> bytes:
    """Return a small message."""
    return (
        f"From: {sender}\r\nTo: {ADDRESS}\r\nSubject: {subject}\r\n"
        "Date: Sat, 21 Nov 2026 11:00:05 +0300\r\n"
        f"Message-ID: <{subject}@x>\r\n\r\n{text}\r\n"
    ).encode()


class RecordingReader:
    """The gate's other half: notes what it was asked for; ``refuses`` are never durable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.asked: list[list[str]] = []
        self.refuses: set[str] = set()

    @property
    def made(self) -> list[str]:
        """Every delivery asked for, in order."""
        return [one for batch in self.asked for one in batch]

    async def expose(self, _person: Person, delivery_ids: Sequence[str]) -> frozenset[str]:
        """Note the reading."""
        self.asked.append(list(delivery_ids))
        granted = [one for one in delivery_ids if one not in self.refuses]

        def work(tx: Tx) -> None:
            for one in granted:
                tx.deliveries.read(one, f"e60-{one}")

        await self._store.write(work)
        return frozenset(granted)


class FixedClock:
    """A clock that stands."""

    def now(self) -> datetime:
        """Return the one time."""
        return NOW


class InlineOffload:
    """Runs work at once and counts it."""

    def __init__(self) -> None:
        self.runs = 0

    async def run(self, function, *args):
        """Run."""
        self.runs += 1
        return function(*args)


class OnePassword:
    """Signs one address in."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.tried: list[tuple[str, str]] = []

    async def sign_in(self, address: str, password: str) -> Person | None:
        """Return the person for the right words."""
        self.tried.append((address, password))
        return self.person if (address, password) == (ADDRESS, PASSWORD) else None


class OpenGuard:
    """Admits everybody."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    async def admit(self, _address: str) -> bool:
        """Never wait."""
        return True

    def failed(self, address: str) -> None:
        """Note it."""
        self.failures.append(address)

    def succeeded(self, _address: str) -> None:
        """Do nothing."""


@dataclass
class World:
    """Everything around a session."""

    store: Store
    blobs: BlobStore
    reader: RecordingReader
    changes: LocalChanges
    service: MailboxService
    person: Person
    sign_in: OnePassword
    offload: object
    policy: FetchPolicy

    @property
    def parts(self) -> SessionParts:
        """What sessions share."""
        return SessionParts(self.service, self.sign_in, self.offload, self.policy)  # type: ignore[arg-type]

    async def file(
        self,
        content: bytes,
        *,
        role: FolderRole = FolderRole.INBOX,
        gated: bool = False,
        flags: frozenset[str] = frozenset(),
        at: datetime = T0,
        index: bool = True,
        name: str | None = None,
    ) -> int:
        """File a message and return its UID; a gated one hangs on delivery ``d<uid>`` (or ``name``)."""
        [blob] = await self.blobs.put_many([content])
        source = BytesSource(content)
        encoded = encode(source, scan(source)) if index else None

        def work(tx: Tx) -> int:
            folder = tx.mailboxes.by_role("a1", role)
            tx.blobs.add(blob)
            if encoded is not None:
                tx.blobs.set_index(blob.sha256, encoded)
            delivery_id = None
            if gated:
                delivery_id = name or f"d{folder.uid_next}"
                of = f"m-{delivery_id}"
                tx.messages.add(message(of))
                tx.deliveries.add(delivery(delivery_id, of))
                tx.deliveries.decide_all(
                    (Ending(delivery_id, DeliveryState.DELIVERED, f"e40-{delivery_id}", T0),)
                )
            return tx.mailboxes.append(
                folder.folder_id, NewItem(blob.sha256, len(content), at, flags, delivery_id)
            )

        uid = await self.store.write(work)
        self.changes.publish(["a1"])
        return uid

    async def flags(self, uid: int, role: FolderRole = FolderRole.INBOX) -> frozenset[str] | None:
        """Return the stored flags."""

        def work(tx: Tx) -> frozenset[str] | None:
            folder = tx.mailboxes.by_role("a1", role)
            return {s.uid: s.flags for s in tx.mailboxes.summaries(folder.folder_id)}.get(uid)

        return await self.store.read(work)

    async def client(self, folder: str | None = "INBOX") -> "Client":
        """Return a client, signed in and with a folder selected."""
        client = Client(self)
        assert b"OK" in await client.say(f'LOGIN {ADDRESS} "{PASSWORD}"')
        if folder:
            assert b" OK " in await client.say(f"SELECT {folder}")
        return client


async def build_world(
    *,
    rights: Right | None = None,
    policy: FetchPolicy | None = None,
    store: Store | None = None,
    blobs: BlobStore | None = None,
    offload: object | None = None,
) -> World:
    """Return a world with one account (a1) and one operator (o1)."""
    store = store or MemoryStore()
    blobs = blobs or MemoryBlobStore()
    person_rights: Operator = operator()
    if rights is not None:
        person_rights = replace(person_rights, rights=rights)

    def work(tx: Tx) -> None:
        tx.accounts.add(account())
        tx.accounts.add_operator(person_rights)
        tx.mailboxes.create_standard("a1", 77)

    await store.write(work)
    reader = RecordingReader(store)
    changes = LocalChanges()
    offload = offload or InlineOffload()
    service = MailboxService(
        store=store, blobs=blobs, reader=reader, changes=changes, offload=offload, clock=FixedClock()
    )
    person = Person("a1", "o1", "Çiğdem Şahin", Authentication(NOW, "urn:test"))
    return World(
        store, blobs, reader, changes, service, person, OnePassword(person), offload, policy or FetchPolicy()
    )


class Client:
    """Drives a session as the server would, without sockets."""

    def __init__(self, world: World) -> None:
        self.session = Session(world.parts, OpenGuard())
        self.framer = Framer(BEFORE_LOGIN)
        self.pieces: list[bytes] = []
        self._count = 0

    async def send(self, data: bytes) -> bytes:
        """Send raw bytes and return every byte that comes back."""
        self.framer.feed(data)
        self.pieces = []
        while self.session.state is not State.LOGOUT:
            if self.session.waiting is not Waiting.COMMAND:
                event = self.framer.next_line()
            else:
                event = self.framer.next_command()
            if event is None:
                break
            await self._react(event)
        return b"".join(self.pieces)

    async def _react(self, event) -> None:
        if isinstance(event, bytes):
            async with aclosing(self.session.answer(event)) as answers:
                self.pieces += [piece async for piece in answers]
        elif isinstance(event, WantsLiteral):
            self.pieces.append(b"+ go on\r\n")
        elif isinstance(event, Broken):
            self.pieces.append(event.tag + b" BAD " + event.code + event.text + b"\r\n")
        elif isinstance(event, Received):
            command = self._parsed(event.data)
            if command is not None:
                async with aclosing(self.session.handle(command)) as answers:
                    self.pieces += [piece async for piece in answers]
        elif isinstance(event, AppendBegins):
            await self._begin_append(event)
        elif isinstance(event, Piece):
            await self.session.take(event.data)
        elif isinstance(event, AppendEnds):
            self.pieces.append(await self.session.end_append(event.rest))
        if self.session.person is not None:
            self.framer.limits = AFTER_LOGIN

    async def _begin_append(self, event: AppendBegins) -> None:
        command = self._parsed(event.data)
        answer = b"-" if command is None else await self.session.begin_append(command)
        if answer:
            self.framer.decline()
            self.pieces += [answer] if command is not None else []
            return
        self.framer.accept()
        if event.sync:
            self.pieces.append(b"+ go on\r\n")

    def _parsed(self, data: bytes) -> Command | None:
        try:
            return parse(data, utf8=self.session.utf8)
        except SearchCharsetError as error:
            self.pieces.append(error.tag + b" NO [BADCHARSET]\r\n")
        except CommandError as error:
            self.pieces.append(error.tag + b" BAD " + str(error).encode() + b"\r\n")
        return None

    async def append(self, folder: str, content: bytes, *, extra: str = "") -> bytes:
        """Append a message with a synchronising literal; return the answer to the whole."""
        asked = await self.say(f"APPEND {folder} {extra}{{{len(content)}}}")
        if not asked.endswith(b"+ go on\r\n"):
            return asked
        return await self.send(content + b"\r\n")

    async def say(self, command: str) -> bytes:
        """Send one command with a fresh tag."""
        self._count += 1
        return await self.send(f"t{self._count} {command}\r\n".encode())
