"""Real mail programs against the real server: swaks, curl, smtplib, imaplib, mbsync, aioimaplib, openssl."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest
from aioimaplib import aioimaplib

from tests.functional.site import Answer, Holder, Site, compose, kephs_process, original_in

pytestmark = pytest.mark.tools


@pytest.fixture(scope="module")
def signed(site: Site, who, tmp_path_factory: pytest.TempPathFactory):
    """Return a maker of message files signed by the program `kephs sign` from a file with LF lines."""
    folder = tmp_path_factory.mktemp("signed")
    site.pki.write_p12(who.ayse.issued, folder / "ayse.p12", "gizli parola")
    (folder / "password").write_text("gizli parola\n")

    def make(name: str, to: Holder) -> Path:
        plain, out = folder / f"{name}.txt", folder / f"{name}.eml"
        plain.write_bytes(compose(who.ayse.address, to.address).replace(b"\r\n", b"\n"))
        kephs_process(
            "sign", plain, out, "--p12", folder / "ayse.p12", "--password-file", folder / "password"
        )
        return out

    return make


def _run(*command: object, **more) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=60, check=False, **more
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def _received(site: Site, holder: Holder, message_id: str, original: bytes) -> None:
    site.wait_evidence(message_id, 40)
    with site.imap(holder) as client:
        uid = site.find(client, "X-REM-Message-Identifier", message_id)
        dispatch = site.fetch(client, uid, "BODY[]")
    assert original_in(dispatch) == original


def test_smtplib_submits_what_kephs_sign_made(site: Site, who, signed):
    message = signed("smtplib", who.mehmet).read_bytes()
    answer = site.submit(who.ayse, message, [who.mehmet.address])
    assert answer.code == 250
    _received(site, who.mehmet, answer.message_id, message)


@pytest.mark.parametrize("raw", [False, True], ids=["default", "no-data-fixup"])
def test_swaks_submits_what_kephs_sign_made(site: Site, who, signed, tmp_path, raw: bool):
    path = signed(f"swaks{raw}", who.mehmet)
    data, more = path, list[str]()
    if raw:  # then swaks adds not even the final dot
        data, more = tmp_path / "dotted", ["--no-data-fixup"]
        data.write_bytes(path.read_bytes().replace(b"\r\n.", b"\r\n..") + b".\r\n")
    done = _run(
        "swaks", "--server", f"localhost:{site.settings.network.submission_port}", "--tls-on-connect",
        "--tls-verify", "--tls-ca-path", site.home / "tls-ca.pem", "--auth", "PLAIN",
        "--auth-user", who.ayse.address, "--auth-password", who.ayse.password,
        "--from", who.ayse.address, "--to", who.mehmet.address, "--data", f"@{data}", *more,
    )  # fmt: skip
    (line,) = [line for line in done.stdout.splitlines() if "evidence=" in line]
    added = b"" if raw else b"\r\n"  # swaks by itself ends the data with one more line end
    _received(site, who.mehmet, Answer(250, line).message_id, path.read_bytes() + added)


def test_curl_submits_and_reads(site: Site, who, signed):
    path = signed("curl", who.fatma)
    config = site.home / "run" / "curl-ayse"
    config.write_text(f'user = "{who.ayse.address}:{who.ayse.password}"\n')
    done = _run(
        "curl", "-sv", "--cacert", site.home / "tls-ca.pem", "-K", config,
        "--url", f"smtps://localhost:{site.settings.network.submission_port}",
        "--mail-from", who.ayse.address, "--mail-rcpt", who.fatma.address, "--upload-file", path,
    )  # fmt: skip
    (line,) = [line for line in done.stderr.splitlines() if "evidence=" in line]
    message_id = Answer(250, line).message_id
    site.wait_evidence(message_id, 40)
    with site.imap(who.fatma) as client:
        uid = site.find(client, "X-REM-Message-Identifier", message_id).decode()
    config.write_text(f'user = "{who.fatma.address}:{who.fatma.password}"\n')
    base = f"imaps://localhost:{site.settings.network.imap_port}/INBOX;UID={uid}"
    fetch = ("curl", "-s", "--cacert", site.home / "tls-ca.pem", "-K", config, "--url")
    header = _run(*fetch, f"{base};SECTION=HEADER").stdout
    assert f"X-REM-Message-Identifier: {message_id}" in header
    assert site.evidence_ids(message_id, 60) == []
    whole = subprocess.run([*map(str, fetch), base], capture_output=True, timeout=60, check=True).stdout
    assert original_in(whole) == path.read_bytes()
    assert len(site.evidence_ids(message_id, 60)) == 1


def test_mbsync_mirrors_every_folder(site: Site, who, signed, tmp_path):
    path = signed("mbsync", who.mehmet)
    answer = site.submit(who.ayse, path.read_bytes(), [who.mehmet.address])
    site.wait_evidence(answer.message_id, 40)
    password = tmp_path / "password"
    password.write_text(who.mehmet.password)
    mail = tmp_path / "mail"
    mail.mkdir()
    config = tmp_path / "mbsyncrc"
    config.write_text(f"""
IMAPAccount kep
Host localhost
Port {site.settings.network.imap_port}
User {who.mehmet.address}
PassCmd "cat {password}"
SSLType IMAPS
CertificateFile {site.home}/tls-ca.pem

IMAPStore remote
Account kep

MaildirStore local
Path {mail}/
Inbox {mail}/INBOX
SubFolders Verbatim

Channel kep
Far :remote:
Near :local:
Patterns *
Create Near
Sync Pull
SyncState *
""")
    _run("mbsync", "-c", config, "kep", env={**os.environ, "HOME": str(tmp_path)})
    assert {"INBOX", "Giden", "Taslaklar", "Deliller"} <= {one.name for one in mail.iterdir()}
    stored = [
        one.read_bytes()
        for one in (mail / "INBOX").rglob("*")
        if one.is_file() and one.parent.name in ("cur", "new")
    ]
    # mbsync keeps mail with LF line ends
    needle = path.read_bytes().replace(b"\r\n", b"\n")
    assert any(needle in one.replace(b"\r\n", b"\n") for one in stored)
    assert len(site.evidence_ids(answer.message_id, 60)) == 1, "a full download is a reading"


def test_imaplib_sees_the_folders_with_their_uses(site: Site, who):
    with site.imap(who.mehmet) as client:
        kind, listed = client.list()
    assert kind == "OK"
    text = b"\n".join(line for line in listed if isinstance(line, bytes)).decode()
    for flag, name in (
        ("\\Sent", "Giden"), ("\\Drafts", "Taslaklar"), ("\\Archive", "Ar&AV8-iv"), ("\\Trash", "&AMcA9g-p"),
    ):  # fmt: skip
        (line,) = [line for line in text.splitlines() if name in line]
        assert flag in line
    assert "Deliller" in text


async def test_aioimaplib_hears_of_new_mail_while_idle(site: Site, who, signed):
    message = signed("idle", who.fatma).read_bytes()
    client = aioimaplib.IMAP4_SSL(
        host="localhost", port=site.settings.network.imap_port, ssl_context=site.tls(), timeout=30
    )
    await client.wait_hello_from_server()
    assert (await client.login(who.fatma.address, who.fatma.password)).result == "OK"
    assert (await client.select("INBOX")).result == "OK"
    idle = await client.idle_start(timeout=30)
    answer = await asyncio.to_thread(site.submit, who.ayse, message, [who.fatma.address])
    assert answer.code == 250
    pushed: list[bytes] = []
    async with asyncio.timeout(30):
        while not any(b"EXISTS" in bytes(line) for line in pushed):
            pushed += await client.wait_server_push()
    client.idle_done()
    await asyncio.wait_for(idle, 10)
    found = await client.uid_search(f'HEADER X-REM-Message-Identifier "{answer.message_id}"', charset=None)
    uid = found.lines[0].split()[-1].decode()
    fetched = await client.uid("fetch", uid, "(BODY.PEEK[])")
    dispatch = next(bytes(line) for line in fetched.lines if isinstance(line, bytearray))
    assert original_in(dispatch) == message
    await client.logout()
