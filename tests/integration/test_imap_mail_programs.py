"""Two-way work of real mail programs on one account: mbsync, offlineimap, neomutt, curl, imaplib."""

import asyncio
import imaplib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from kephs.domain.mailboxes import FolderRole
from kephs.system import ThreadOffload
from kephs.usecases.mailbox.mailbox import OpenFolder
from kephs.usecases.mailbox.places import Place
from tests.support.imap_server import Running, client_context, running_server, tls_files
from tests.support.imap_world import ADDRESS, DISPATCH, PASSWORD, PLAIN, World, build_world, notice


@pytest.fixture
async def world() -> AsyncIterator[World]:
    offload = ThreadOffload()
    world = await build_world(offload=offload)
    await world.file(PLAIN)
    await world.file(DISPATCH, gated=True)
    await world.file(notice("gönderilmiş"), role=FolderRole.SENT, flags=frozenset({"\\Seen"}))
    await world.file(notice("delil"), role=FolderRole.EVIDENCE)
    yield world
    offload.close()


@pytest.fixture
async def running(world: World) -> AsyncIterator[Running]:
    async with running_server(world.parts) as running:
        yield running


async def run(command: list[str], *, env: dict[str, str] | None = None, ok: bool = True) -> str:
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        capture_output=True,
        timeout=60,
        env={**os.environ, **(env or {})},
        check=False,
    )
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert not ok or done.returncode == 0, said
    return said


async def stored(world: World) -> dict[str, list[tuple[int, str, frozenset[str]]]]:
    """Return every folder with the UID, subject and flags of its messages."""
    found: dict[str, list[tuple[int, str, frozenset[str]]]] = {}
    for folder in await world.service.folders(world.person):
        opened = await world.service.open(world.person, folder.name)
        assert opened is not None
        rows, _ = await world.service.rows(
            world.person, _place(opened), [summary.uid for summary in opened.summaries]
        )
        found[folder.name] = [
            (s.uid, _subject(await world.service.header(rows[s.uid])), s.flags) for s in opened.summaries
        ]
    return found


def _place(opened: OpenFolder) -> Place:
    return Place(opened.folder.folder_id, opened.folder.name, opened.folder.modseq)


def _subject(header: bytes) -> str:
    return next(line[9:].decode() for line in header.splitlines() if line.lower().startswith(b"subject: "))


def subjects(folder: list[tuple[int, str, frozenset[str]]]) -> list[str]:
    return [subject for _, subject, _ in folder]


# --- mbsync ---------------------------------------------------------------------------------------------


def mbsync_files(port: int, home: Path) -> list[str]:
    (home / "mail").mkdir()
    (home / "rc").write_text(
        f"""
IMAPAccount kep
Host localhost
Port {port}
User {ADDRESS}
Pass "{PASSWORD}"
SSLType IMAPS
SystemCertificates no
CertificateFile {tls_files()[0]}
AuthMechs PLAIN

IMAPStore far
Account kep

MaildirStore near
SubFolders Verbatim
Path {home}/mail/
Inbox {home}/mail/INBOX

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Remove Both
Expunge Both
CopyArrivalDate yes
SyncState *
"""
    )
    return ["mbsync", "-c", str(home / "rc"), "-a"]


def files_of(folder: Path) -> dict[str, Path]:
    """Return the messages of a maildir by subject."""
    found = {}
    for path in sorted(folder.glob("*/*")):
        if path.is_file() and path.parent.name in ("cur", "new"):
            found[_subject(path.read_bytes())] = path
    return found


def to_maildir(folder: Path, name: str, content: bytes, flags: str = "") -> None:
    for sub in ("cur", "new", "tmp"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    (folder / "cur" / f"{name}:2,{flags}").write_bytes(content.replace(b"\r\n", b"\n"))


def listing(home: Path) -> list[tuple[str, bytes]]:
    return [(str(path), path.read_bytes()) for path in sorted((home / "mail").rglob("*")) if path.is_file()]


@pytest.mark.tools
async def test_mbsync_carries_everything_both_ways(world: World, running: Running, tmp_path: Path):
    command = mbsync_files(running.port, tmp_path)
    mail = tmp_path / "mail"
    await run(command)
    assert set(files_of(mail / "INBOX")) == {"afternoon meeting", "=?utf-8?b?xLBodGFy?="}

    # near: a new folder with a message, a draft, a flag, a removed message; far: a flag, a new message
    to_maildir(mail / "klasor", "1.1.x", notice("yerel"), "S")
    to_maildir(mail / "Taslaklar", "1.2.x", notice("taslak"), "D")
    meeting = files_of(mail / "INBOX")["afternoon meeting"]
    meeting.rename(mail / "INBOX" / "cur" / (meeting.name.partition(":")[0] + ":2,FS"))
    files_of(mail / "Giden")["gönderilmiş"].unlink()
    await world.file(notice("uzak"), flags=frozenset({"\\Flagged"}))
    await run(command)
    there = await stored(world)
    assert subjects(there["klasor"]) == ["yerel"]
    assert there["klasor"][0][2] == {"\\Seen"}
    assert (subjects(there["Taslaklar"]), there["Taslaklar"][0][2]) == (["taslak"], {"\\Draft"})
    assert there["Giden"] == []
    assert [flags for _, subject, flags in there["INBOX"] if subject == "afternoon meeting"] == [
        {"\\Seen", "\\Flagged"}
    ]
    assert files_of(mail / "INBOX")["uzak"].name.endswith("F")

    # far: a message removed, a folder removed; again nothing is lost and nothing doubled
    client = await world.client("INBOX")
    await client.say(r"STORE 1 +FLAGS.SILENT (\Deleted)")
    await client.say("EXPUNGE")
    await run(command)
    assert "afternoon meeting" not in files_of(mail / "INBOX")

    before, files = await stored(world), listing(tmp_path)
    await run(command)
    assert await stored(world) == before, "a second run changes nothing on the server"
    assert [name for name, _ in listing(tmp_path)] == [name for name, _ in files], "nor at home"


@pytest.mark.tools
async def test_mbsync_cannot_put_anything_where_the_provider_files(
    world: World, running: Running, tmp_path: Path
):
    command = mbsync_files(running.port, tmp_path)
    await run(command)
    to_maildir(tmp_path / "mail" / "Deliller", "9.1.x", notice("sahte delil"))
    said = await run(command, ok=False)
    assert "Only the provider files messages in this mailbox" in said
    assert subjects((await stored(world))["Deliller"]) == ["delil"]


# --- offlineimap ----------------------------------------------------------------------------------------


def offlineimap_files(port: int, home: Path) -> list[str]:
    (home / "rc").write_text(
        f"""
[general]
accounts = kep
metadata = {home}/meta
ui = basic
fsync = false

[Account kep]
localrepository = near
remoterepository = far

[Repository near]
type = Maildir
localfolders = {home}/mail

[Repository far]
type = IMAP
remotehost = localhost
remoteport = {port}
remoteuser = {ADDRESS}
remotepass = {PASSWORD}
ssl = yes
sslcacertfile = {tls_files()[0]}
auth_mechanisms = PLAIN
createfolders = yes
"""
    )
    return ["offlineimap", "-c", str(home / "rc"), "-o", "-1"]


@pytest.mark.tools
@pytest.mark.slow
async def test_offlineimap_carries_everything_both_ways(world: World, running: Running, tmp_path: Path):
    command = offlineimap_files(running.port, tmp_path)
    env = {"HOME": str(tmp_path)}
    mail = tmp_path / "mail"
    await run(command, env=env)
    assert set(files_of(mail / "INBOX")) == {"afternoon meeting", "=?utf-8?b?xLBodGFy?="}
    to_maildir(mail / "klasor", "1.1.x", notice("yerel"), "S")
    to_maildir(mail / "Taslaklar", "1.2.x", notice("taslak"), "D")
    files_of(mail / "Giden")["gönderilmiş"].unlink()
    await world.file(notice("uzak"), flags=frozenset({"\\Flagged"}))
    await run(command, env=env)
    there = await stored(world)
    assert subjects(there["klasor"]) == ["yerel"]
    assert subjects(there["Taslaklar"]) == ["taslak"]
    assert there["Giden"] == []
    assert "uzak" in files_of(mail / "INBOX")
    await run(command, env=env)
    before = await stored(world)
    await run(command, env=env)
    assert await stored(world) == before


# --- neomutt --------------------------------------------------------------------------------------------


async def neomutt(port: int, home: Path, keys: str) -> str:
    """Run neomutt on INBOX and let it type ``keys``; it keeps modification numbers between runs."""
    (home / "cache").mkdir(exist_ok=True)
    (home / "rc").write_text(
        f"""
set folder = "imaps://localhost:{port}/"
set spoolfile = "imaps://localhost:{port}/INBOX"
set imap_user = "{ADDRESS}"
set imap_pass = "{PASSWORD}"
set ssl_ca_certificates_file = "{tls_files()[0]}"
set certificate_file = "{tls_files()[0]}"
set ssl_force_tls = yes
set record = "" postponed = "" trash = "" header_cache = "{home}/cache" imap_condstore = yes move = no delete = yes confirmappend = no
set confirmcreate = no quit = yes mail_check = 1 timeout = 1 sleep_time = 0 imap_passive = yes wait_key = no
set sort = mailbox-order resolve = no
"""
    )
    command = ["neomutt", "-n", "-F", str(home / "rc"), "-e", f'push "{keys}"']
    if shutil.which("script"):  # it wants a terminal
        quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in command)
        command = ["script", "-qec", quoted, "/dev/null"]
    return await run(command, env={"HOME": str(home), "TERM": "xterm", "LC_ALL": "C.UTF-8"}, ok=False)


@pytest.mark.tools
async def test_neomutt_lists_copies_saves_flags_and_tags(world: World, running: Running, tmp_path: Path):
    await neomutt(
        running.port, tmp_path,
        "<first-entry><flag-message><copy-message>=Arşiv<enter><sync-mailbox><quit>",
    )  # fmt: skip
    there = await stored(world)
    assert subjects(there["Arşiv"]) == ["afternoon meeting"]
    assert "\\Flagged" in there["INBOX"][0][2]
    await neomutt(
        running.port, tmp_path,
        "<tag-pattern>~A<enter><tag-prefix><save-message>=Taslaklar<enter><sync-mailbox><quit>",
    )  # fmt: skip
    there = await stored(world)
    assert there["INBOX"] == []
    assert subjects(there["Taslaklar"]) == ["afternoon meeting", "=?utf-8?b?xLBodGFy?="]
    assert world.reader.asked == [], "on the server nothing was read"


@pytest.mark.tools
async def test_neomutt_reads_a_message_and_that_is_a_reading(world: World, running: Running, tmp_path: Path):
    await neomutt(running.port, tmp_path, "<last-entry><display-message><exit><quit>")
    assert world.reader.made == ["d2"]


# --- curl, imaplib --------------------------------------------------------------------------------------


@pytest.mark.tools
async def test_curl_appends_and_searches(world: World, running: Running, tmp_path: Path):
    base = f"imaps://localhost:{running.port}"
    command = ["curl", "-s", "--cacert", str(tls_files()[0]), "-u", f"{ADDRESS}:{PASSWORD}"]
    (tmp_path / "m.eml").write_bytes(notice("curl", "x" * 300_000))
    await run([*command, "-T", str(tmp_path / "m.eml"), f"{base}/Taslaklar"])
    there = await stored(world)
    assert subjects(there["Taslaklar"]) == ["curl"]
    assert "* SEARCH 1" in await run([*command, f"{base}/Taslaklar", "-X", "SEARCH SUBJECT curl"])
    said = await run([*command, "-T", str(tmp_path / "m.eml"), f"{base}/Deliller"], ok=False)
    assert subjects((await stored(world))["Deliller"]) == ["delil"], said


def _everything(port: int) -> dict[str, object]:
    client = imaplib.IMAP4_SSL("localhost", port, ssl_context=client_context())
    client.authenticate("PLAIN", lambda _: f"\0{ADDRESS}\0{PASSWORD}".encode())
    client.capabilities = tuple(client.capability()[1][0].decode().split())
    seen: dict[str, object] = {"enable": client.enable("CONDSTORE")[0]}
    seen["create"] = client.create("is/2026")
    seen["rename"] = client.rename("is", "belgeler")
    seen["append"] = client.append("belgeler/2026", r"(\Seen)", None, notice("ek"))
    client.select("INBOX")
    seen["copy"] = client.copy("1", "belgeler")
    seen["move"] = client.uid("MOVE", "1", "belgeler/2026")
    seen["quota"] = client.getquotaroot("INBOX")[0]
    seen["status"] = client.status("belgeler/2026", "(MESSAGES SIZE)")
    seen["namespace"] = client.namespace()
    seen["unselect"] = client.unselect()[0]
    seen["subscribe"] = client.unsubscribe("belgeler")[0]
    seen["lsub"] = client.lsub()[1]
    seen["delete"] = client.delete("belgeler")[0]
    client.logout()
    return seen


async def test_imaplib_does_all_it_can(world: World, running: Running):
    seen = await asyncio.to_thread(_everything, running.port)
    for name in ("enable", "quota", "unselect", "subscribe", "delete"):
        assert seen[name] == "OK", name
    for name in ("create", "rename", "append", "copy", "move", "status", "namespace"):
        assert seen[name][0] == "OK", name
    assert seen["append"][1][0].startswith(b"[APPENDUID ")
    size = len(notice("ek")) + len(PLAIN)
    assert seen["status"][1] == [b"belgeler/2026 (MESSAGES 2 SIZE %d)" % size]
    assert b'() "/" belgeler/2026' in seen["lsub"]
    assert subjects((await stored(world))["belgeler/2026"]) == ["ek", "afternoon meeting"]


async def test_a_message_of_an_append_is_never_held_in_memory(
    world: World, running: Running, monkeypatch: pytest.MonkeyPatch
):
    seen: list[int] = []
    real: Callable = world.service._blobs.spool

    def watched():
        spool = real()
        write = spool.write

        async def noted(data: bytes) -> None:
            seen.append(len(data))
            await write(data)

        spool.write = noted
        return spool

    monkeypatch.setattr(world.service._blobs, "spool", watched)
    content = notice("büyük", "x" * 5_000_000)

    def send() -> None:
        client = imaplib.IMAP4_SSL("localhost", running.port, ssl_context=client_context())
        client.authenticate("PLAIN", lambda _: f"\0{ADDRESS}\0{PASSWORD}".encode())
        assert client.append("Taslaklar", None, None, content)[0] == "OK"
        client.logout()

    await asyncio.to_thread(send)
    assert sum(seen) == len(content)
    assert max(seen) <= 64 * 1024
