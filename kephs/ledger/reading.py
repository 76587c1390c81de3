"""Getting a published ledger as a stranger does: over HTTP, or from a folder that somebody exported.

What cannot be had raises `MissingNodeError`, which an audit reports as undecided; nothing is retried.
"""

import http.client
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from evidence.ledger.merkle import MissingNodeError
from evidence.ledger.notes import MAX_NOTE
from evidence.ledger.tiles import TILE_BYTES, TileName

CHECKPOINT: Final = "checkpoint"


class LedgerAddressError(ValueError):
    """Not an address a ledger can be read from."""


class HttpLedger:
    """Reads pages below an address, one after the other on one connection; redirections are not followed.

    Args:
        url: the log's prefix, http:// or https://.
        seconds: the longest wait for the network.

    Raises:
        LedgerAddressError: another kind of address.
    """

    def __init__(self, url: str, *, seconds: float = 20.0) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
            parts = urlsplit("")
        if parts.scheme not in {"http", "https"} or host is None or parts.query or parts.fragment:
            raise LedgerAddressError(f"{url}: give an address such as https://ledger.hs91.kep.tr/")
        self._prefix = parts.path.rstrip("/")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(host, port, timeout=seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def tile(self, level: int, number: int, width: int) -> bytes | None:
        """Return a tile (`tiles.ReadTile`); a partial one that is gone is cut from the full one."""
        name = TileName(level, number, width)
        found = self.page(name.path, TILE_BYTES)
        return (
            found if found is not None or name.full else self.page(TileName(level, number).path, TILE_BYTES)
        )

    def checkpoint(self) -> bytes:
        """Return the newest checkpoint.

        Raises:
            MissingNodeError: there is none.
        """
        found = self.page(CHECKPOINT, MAX_NOTE)
        if found is None:
            raise MissingNodeError("the ledger shows no checkpoint")
        return found

    def page(self, path: str, most: int) -> bytes | None:
        """Return a page; None where there is none.

        Raises:
            MissingNodeError: the server does not answer, or with more than ``most`` octets.
        """
        try:
            self._connection.request("GET", f"{self._prefix}/{path}", headers={"Accept-Encoding": "identity"})
            response = self._connection.getresponse()
            body = response.read(most + 1)
            if len(body) > most:
                self._connection.close()
                raise MissingNodeError(f"{path}: the answer is longer than {most} octets")
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise MissingNodeError(f"{path}: no answer: {type(error).__name__}") from error
        if response.status == http.client.NOT_FOUND:
            return None
        if response.status != http.client.OK:
            raise MissingNodeError(f"{path}: the server answered {response.status}")
        return body


class FolderLedger:
    """Reads pages of a folder as `kephs ledger export` writes it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def tile(self, level: int, number: int, width: int) -> bytes | None:
        """Return a tile (`tiles.ReadTile`); a partial one that is gone is cut from the full one."""
        name = TileName(level, number, width)
        found = self._page(name.path, TILE_BYTES)
        return (
            found if found is not None or name.full else self._page(TileName(level, number).path, TILE_BYTES)
        )

    def checkpoint(self) -> bytes:
        """Return the newest checkpoint.

        Raises:
            MissingNodeError: there is none.
        """
        found = self._page(CHECKPOINT, MAX_NOTE)
        if found is None:
            raise MissingNodeError(f"{self._folder} holds no checkpoint")
        return found

    def _page(self, path: str, most: int) -> bytes | None:
        try:
            with (self._folder / path).open("rb") as file:
                body = file.read(most + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise MissingNodeError(f"{path}: {error.strerror}") from error
        if len(body) > most:
            raise MissingNodeError(f"{path}: the file is longer than {most} octets")
        return body
