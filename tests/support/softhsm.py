"""A SoftHSM of the test process: two tokens that hold keys of the TEST PKI."""

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from evidence.adapters.pkcs11_token import TokenPlace
from kephs.testpki.issued import Issued

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "73219"
TOKEN = "kephs-test"


class SoftHsm:
    """Tokens in a folder of their own; SoftHSM finds them by an environment variable, children inherit it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._labels: set[str] = set()
        (folder / "tokens").mkdir()
        conf = folder / "softhsm2.conf"
        conf.write_text(
            f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        os.environ["SOFTHSM2_CONF"] = str(conf)
        self.pin_file = folder / "pin"
        self.pin_file.write_text(PIN + "\n")
        self.pin_file.chmod(0o600)

    def has(self, label: str) -> bool:
        return label in self._labels

    def add_token(self, label: str = TOKEN) -> None:
        self._run("--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "98765432")
        self._labels.add(label)

    def add_key(self, issued: Issued, label: str, number: str, token: str = TOKEN) -> None:
        path = self.folder / "key.pem"
        path.write_bytes(issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.add_key_file(path, label, number, token)
        path.unlink()

    def add_key_file(self, path: Path, label: str, number: str, token: str = TOKEN) -> None:
        self._run("--import", str(path), "--token", token, "--label", label, "--id", number, "--pin", PIN)

    def place(self, key_label: str | None = "seal", **changes: object) -> TokenPlace:
        fields = {"module": MODULE, "token_label": TOKEN, "pin_file": self.pin_file, "key_label": key_label}
        return TokenPlace(**(fields | changes))  # type: ignore[arg-type]

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(
            ["softhsm2-util", *arguments], capture_output=True, text=True, timeout=30, check=False
        )
        if done.returncode:
            pytest.fail(f"softhsm2-util: {done.stderr or done.stdout}", pytrace=False)


@cache
def empty_hsm() -> SoftHsm:
    """Return this process's store; tokens must be there before the module is loaded."""
    return SoftHsm(Path(tempfile.mkdtemp(prefix="kephs-hsm-")))
