"""The journal of issued and revoked certificates: append-only lines, so that processes can share it."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography import x509

REASONS: Final[Mapping[str, x509.ReasonFlags]] = MappingProxyType(
    {flag.value: flag for flag in x509.ReasonFlags}
)


class UnknownSerialError(LookupError):
    """No certificate of the TEST PKI has this serial number."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """Since when and why a certificate is revoked."""

    at: datetime
    reason: x509.ReasonFlags


class Index:
    """Serial numbers by authority, and revocations; kept in a file or, without one, in memory.

    The server's process and a shell that revokes share the file: each line is one append, and readers
    look for new lines before every answer.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._read = 0
        self._authority: dict[int, str] = {}
        self._revoked: dict[int, Revocation] = {}
        self.version = 0
        """Grows with every line: whoever caches answers compares it."""

    def refresh(self) -> None:
        """Take in the lines that any process has added."""
        if self._path is None:
            return
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return
        if size == self._read:
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            self._apply(json.loads(line))

    def issued(self, authority: str, serial: int) -> None:
        """Note that an authority issued a certificate."""
        self._add({"issued": serial, "authority": authority})

    def revoke(self, serial: int, at: datetime, reason: x509.ReasonFlags) -> str:
        """Revoke a certificate and return its authority.

        Raises:
            UnknownSerialError: nobody issued it.
        """
        authority = self.authority_of(serial)
        self._add({"revoked": serial, "at": at.isoformat(), "reason": reason.value})
        return authority

    def authority_of(self, serial: int) -> str:
        """Return who issued a certificate.

        Raises:
            UnknownSerialError: nobody did.
        """
        self.refresh()
        try:
            return self._authority[serial]
        except KeyError:
            raise UnknownSerialError(f"{serial:x}") from None

    def is_issued(self, authority: str, serial: int) -> bool:
        """Say whether this authority issued this serial number. Call `refresh` first."""
        return self._authority.get(serial) == authority

    def revocation(self, serial: int) -> Revocation | None:
        """Return the revocation of a certificate, or None. Call `refresh` first."""
        return self._revoked.get(serial)

    def revoked_by(self, authority: str) -> Iterator[tuple[int, Revocation]]:
        """Yield what an authority has revoked, for its CRL. Call `refresh` first."""
        for serial, revocation in self._revoked.items():
            if self._authority[serial] == authority:
                yield serial, revocation

    def _add(self, entry: dict[str, object]) -> None:
        if self._path is None:
            self._apply(entry)
            return
        line = json.dumps(entry).encode() + b"\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
        self.refresh()

    def _apply(self, entry: Mapping[str, object]) -> None:
        self.version += 1
        if "issued" in entry:
            self._authority[int(str(entry["issued"]))] = str(entry["authority"])
            return
        at = datetime.fromisoformat(str(entry["at"]))
        self._revoked[int(str(entry["revoked"]))] = Revocation(at, REASONS[str(entry["reason"])])
