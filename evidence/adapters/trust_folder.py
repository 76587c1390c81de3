"""A folder of trusted certificates, as ``--trust`` names it: PEM or DER files, nothing trusted by default."""

import re
from base64 import b64decode
from binascii import Error as Base64Error
from pathlib import Path
from typing import Final

from evidence.x509.certificates import CertificateError, certificate_facts
from evidence.x509.chain import TrustStore

_SUFFIXES: Final = frozenset({".pem", ".crt", ".cer", ".der"})
_PEM: Final = re.compile(
    rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----", re.ASCII
)
_SIZE_MAX: Final = 16 << 20
_INTERMEDIATES: Final = "intermediates"


class TrustFolderError(Exception):
    """The folder cannot be used; the text says which file and why."""


def read_trust(folder: Path) -> TrustStore:
    """Read the roots of a folder, and the intermediates of ``intermediates`` below it, if there are any.

    An own PEM reader, because Turkish roots exist that `cryptography` refuses to load.

    Raises:
        TrustFolderError: no such folder, or a file in it holds no readable certificate.
    """
    if not folder.is_dir():
        raise TrustFolderError(f"{folder} is no folder")
    roots = certificates_in(folder)
    below = folder / _INTERMEDIATES
    return TrustStore(roots, intermediates=certificates_in(below) if below.is_dir() else ())


def certificates_of(data: bytes) -> list[bytes]:
    """Return the certificates of one file, DER, each readable.

    Raises:
        CertificateError: there is none, or one cannot be read.
    """
    found = ders_of(data)
    for der in found:
        certificate_facts(der)
    return found


def ders_of(data: bytes) -> list[bytes]:
    """Return what one file holds as certificates, PEM or DER; nobody looked into them.

    Raises:
        CertificateError: a PEM block is not base64.
    """
    try:
        return [b64decode(match[1]) for match in _PEM.finditer(data)] or [data]
    except (Base64Error, ValueError) as error:
        raise CertificateError("not base64") from error


def certificates_in(folder: Path) -> list[bytes]:
    """Return the certificates of a folder's files, DER; those of folders below are not looked at.

    Raises:
        TrustFolderError: a file holds no readable certificate.
    """
    found: list[bytes] = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in _SUFFIXES or not path.is_file():
            continue
        try:
            found += certificates_of(_content(path))
        except (OSError, CertificateError) as error:
            raise TrustFolderError(f"{path}: {error}") from error
    return found


def _content(path: Path) -> bytes:
    if path.stat().st_size > _SIZE_MAX:
        raise CertificateError("too large")
    return path.read_bytes()
