"""GnuTLS reads no OID arc above 64 bits: programs built on it could not open the TEST certificates."""

import shutil
import subprocess
from pathlib import Path

import pytest

from kephs.testpki.issued import to_pem
from tests.support.pki import ayse, shared_pki
from tests.support.world import DOMAIN

CERTTOOL = shutil.which("certtool") or "certtool"


@pytest.mark.tools
def test_gnutls_reads_every_kind_of_test_certificate(tmp_path: Path) -> None:
    pki = shared_pki()
    made = {
        "root": pki.root,
        "tls root": pki.tls_root,
        "transaction": pki.transactions[DOMAIN].certificate,
        "tls": pki.issue_tls(DOMAIN).certificate,
        "holder": ayse().certificate,
    }
    for name, der in made.items():
        path = tmp_path / f"{name}.pem"
        path.write_bytes(to_pem((der,)))
        done = subprocess.run(
            [CERTTOOL, "-i", "--infile", str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (name, done.stderr)
