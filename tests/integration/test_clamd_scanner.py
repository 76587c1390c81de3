"""The scanner port against a real clamd with a one-line signature database, and against broken ones."""

import asyncio
import base64
import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from evidence.ports import BytesSource
from kephs.ports import ScannerUnavailableError, ScanVerdict
from smtp_gateway.scanner import ClamdAddress, ClamdScanner

# spec: EICAR test file, in two pieces so that this file is not one
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD" + rb"-ANTIVIRUS-TEST-FILE!$H+H*"
SIGNATURES = Path(__file__).parent.parent / "support" / "eicar.ndb"


@pytest.fixture(scope="module")
def clamd(tmp_path_factory) -> Iterator[ClamdAddress]:
    folder: Path = tmp_path_factory.mktemp("clamd")
    (folder / "db").mkdir()
    shutil.copy(SIGNATURES, folder / "db")
    (folder / "tmp").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "clamd.conf"
    config.write_text(
        f"Foreground yes\nUser root\nLocalSocket {folder}/sock\nTCPSocket {port}\nTCPAddr 127.0.0.1\n"
        f"DatabaseDirectory {folder}/db\nTemporaryDirectory {folder}/tmp\nStreamMaxLength 4M\nMaxThreads 2\n"
    )
    with subprocess.Popen(
        ["clamd", "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    ) as process:
        deadline = time.monotonic() + 60
        while not (folder / "sock").exists():
            assert process.poll() is None, "clamd did not start"
            assert time.monotonic() < deadline, "clamd is not ready"
            time.sleep(0.05)
        yield ClamdAddress(path=str(folder / "sock"), port=port)
        process.terminate()


@pytest.mark.tools
async def test_clamd_names_the_malware_it_finds(clamd: ClamdAddress):
    for address in (clamd, ClamdAddress(port=clamd.port)):
        verdict = await ClamdScanner(address).scan(BytesSource(EICAR))
        assert not verdict.clean
        assert "Eicar-Test-Signature" in verdict.name


@pytest.mark.tools
async def test_clean_content_of_any_size_is_clean(clamd: ClamdAddress):
    for size in (0, 1, 256 * 1024, 256 * 1024 + 1, 3_000_000):
        assert await ClamdScanner(clamd).scan(BytesSource(b"x" * size)) == ScanVerdict(clean=True)


@pytest.mark.tools
async def test_malware_in_a_mime_part_behind_a_long_one_is_found(clamd: ClamdAddress):
    head = (
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n"
        + b"long line\r\n" * 100_000
    )
    part = b"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    message = head + part + base64.encodebytes(EICAR).replace(b"\n", b"\r\n") + b"--b--\r\n"
    assert not (await ClamdScanner(clamd).scan(BytesSource(message))).clean


@pytest.mark.tools
async def test_what_clamd_does_not_take_is_no_verdict(clamd: ClamdAddress):
    with pytest.raises(ScannerUnavailableError):
        await ClamdScanner(clamd).scan(BytesSource(b"x" * 6_000_000))


@asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[ClamdAddress]:
    """A server that says something else than clamd, or (None) nothing at all."""

    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\0\0\0\0")
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
        except ConnectionError:
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            done.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield ClamdAddress(port=server.sockets[0].getsockname()[1])
        await done.wait()


@pytest.mark.parametrize(
    "answer", [b"", b"stream: OK", b"stream: lstat() failed. ERROR\0", b"gibberish\0", b"x" * 9000, None]
)
async def test_anything_but_a_verdict_means_try_again(answer):
    async with answering(answer) as address:
        with pytest.raises(ScannerUnavailableError):
            await ClamdScanner(address, scan_timeout=0.3).scan(BytesSource(b"x"))


async def test_an_absent_scanner_means_try_again(tmp_path: Path):
    with pytest.raises(ScannerUnavailableError):
        await ClamdScanner(ClamdAddress(path=str(tmp_path / "none"))).scan(BytesSource(b"x"))
