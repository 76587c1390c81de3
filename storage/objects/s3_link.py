"""The `minio` client as the archive uses it: no retries of its own, time-outs, and what its errors mean."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import ParseError

import urllib3
from minio import Minio
from minio.error import InvalidResponseError, S3Error, ServerError

from kephs.ports.objects import ObjectDamagedError, ObjectError, ObjectUnavailableError

PART: Final = 16 << 20  # larger objects go in parts of this size
PIECE: Final = 1 << 20

GONE: Final = frozenset({"NoSuchKey", "NoSuchVersion", "MethodNotAllowed", "InvalidVersionId"})
"""Codes by which a server says that a version is not there (405: it is a delete marker)."""

NO_RETENTION: Final = frozenset(
    {"NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError", "InvalidRequest"}
)
"""Codes by which a server says that a version has no retention (the last: nor the bucket a lock)."""

_LATER: Final = frozenset(
    {
        "AccessDenied", "AllAccessDisabled", "AccountProblem", "ExpiredToken", "InvalidAccessKeyId",
        "InvalidToken", "NoSuchBucket", "RequestTimeTooSkewed", "RequestTimeout", "SignatureDoesNotMatch",
        "SlowDown", "BadDigest", "IncompleteBody", "OperationAborted", "PermanentRedirect",
        "AuthorizationHeaderMalformed", "QuotaExceeded", "XMinioStorageFull",
    }
)  # fmt: skip
"""Codes about us, the way or the moment, not about the object: it is safe where it is."""


@dataclass(frozen=True, slots=True)
class S3Place:
    """A bucket, and how to get in.

    Attributes:
        endpoint: ``host`` or ``host:port``.
        bucket: made with object lock beforehand.
        region: never asked for over the network.
        access_key: of a key with the rights of docs/archive.md alone.
        secret_key: of the same.
        tls: verify the server by TLS; off in tests only.
        ca_file: PEM of the authorities to believe; None: the system's.
        seconds: longest wait for a connection or for the next octets.
        threads: calls at the same time.
    """

    endpoint: str
    bucket: str
    region: str
    access_key: str
    secret_key: str = field(repr=False)
    tls: bool = True
    ca_file: Path | None = None
    seconds: float = 30.0
    threads: int = 4

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.endpoint}/{self.bucket}"


def open_client(place: S3Place) -> tuple[Minio, urllib3.PoolManager]:
    """Return a client and its connections; nothing is sent yet.

    Raises:
        ObjectUnavailableError: the file of authorities cannot be used, or the place is none.
    """
    try:
        context = ssl.create_default_context(cafile=place.ca_file) if place.tls else None
        connections = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=place.seconds, read=place.seconds),
            retries=False,  # the caller knows when to try again
            maxsize=2 * place.threads,
            ssl_context=context,
        )
        client = Minio(
            place.endpoint,
            place.access_key,
            place.secret_key,
            secure=place.tls,
            region=place.region,
            http_client=connections,
        )
    except (OSError, ValueError) as error:
        raise ObjectUnavailableError(f"{place}: {error}") from error
    return client, connections


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Turn the client's errors into ours; ``what`` begins their text."""
    try:
        yield
    except S3Error as error:
        raise _meaning(what, error) from error
    except (urllib3.exceptions.HTTPError, ServerError, InvalidResponseError, OSError) as error:
        raise ObjectUnavailableError(f"{what}: {_brief(error)}") from error
    except (ParseError, ValueError, AttributeError, KeyError, TypeError, IndexError) as error:
        raise ObjectUnavailableError(f"{what}: an answer that is none: {_brief(error)}") from error


def pieces(
    client: Minio, bucket: str, name: str, version: str, limit: int, in_time: Callable[[], None]
) -> Iterator[bytes]:
    """Yield the octets of a version, at most one more than ``limit``.

    Args:
        client: to ask.
        bucket: where.
        name: of the object.
        version: of the object.
        limit: octets that are expected.
        in_time: raises when it has taken too long; called between pieces.
    """
    response = client.get_object(bucket, name, version_id=version)
    left = limit + 1
    try:
        if "content-length" not in response.headers:
            raise ObjectUnavailableError(f"{name}: an answer that was cut short")
        while left and (piece := response.read(min(left, PIECE))):
            in_time()
            left -= len(piece)
            yield piece
    finally:
        if not left:
            response.close()  # there is more that nobody wants
        response.release_conn()


def _meaning(what: str, error: S3Error) -> ObjectError:
    text = f"{what}: {error.code}: {error.message}"[:300]
    status = error.response.status if error.response is not None else 0
    if error.code in GONE or (status == 400 and "version" in (error.message or "").lower()):
        return ObjectDamagedError(text)
    if error.code in _LATER or status >= 500 or status in {0, 429}:
        return ObjectUnavailableError(text)
    return ObjectError(text)


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
