"""Certificates that somebody gives in files, PEM or DER."""

import re
from base64 import b64decode
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from evidence.x509.certificates import CertificateError, CertificateFacts, certificate_facts
from kephs.cli.output import ExitError
from kephs.cli.sign.turkish import both

_FILE_MAX: Final = 1024 * 1024
_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----")


def read_chain(files: Sequence[Path]) -> list[CertificateFacts]:
    """Read certificates from PEM or DER files; what else stands in a PEM file is left out.

    Raises:
        ExitError: a file holds no certificate that can be read.
        OSError: a file cannot be read.
    """
    found: list[CertificateFacts] = []
    for path in files:
        with path.open("rb") as file:
            data = file.read(_FILE_MAX)
        listed = [b64decode(one) for one in _PEM.findall(data)] if b"-----BEGIN" in data else [data]
        try:
            if not listed:
                raise CertificateError("no certificate in the file")
            found += [certificate_facts(der) for der in listed]
        except ValueError as error:
            cure = both("chain-file", "give the chain of your certificate in PEM or DER")
            raise ExitError("chain-file", f"{path}: {error}", cure) from None
    return found
