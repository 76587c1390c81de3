"""SoftHSM as the token: Debian's package, a store of its own in a temporary folder, one key."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pkcs11
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pkcs11 import ObjectClass

from evidence.adapters.pkcs11_token import TokenPlace
from kephs.bench.figures import BenchError
from kephs.testpki.issued import Issued

MODULES: Final = (Path("/usr/lib/softhsm/libsofthsm2.so"), Path("/usr/lib64/pkcs11/libsofthsm2.so"))
_TOKEN: Final = "kephs-bench"  # noqa: S105  # its label
_KEY: Final = "seal"
_CONF: Final = "SOFTHSM2_CONF"
_SECONDS: Final = 30.0


def missing() -> str | None:
    """Say what is not installed."""
    if _module() is None or shutil.which("softhsm2-util") is None:
        return "SoftHSM is not installed"
    return None


@contextmanager
def token(folder: Path, issued: Issued) -> Iterator[TokenPlace]:
    """Put a key on a new token and say where it lies; forget the token on leaving.

    SoftHSM finds its store by an environment variable when the library is loaded, so there is one at a time
    in a process.

    Args:
        folder: empty, for this token alone.
        issued: the key and its certificate.

    Raises:
        BenchError: SoftHSM is not there, or refuses.
    """
    module = _module()
    if module is None:
        raise BenchError("SoftHSM is not installed")
    conf, pin_file, key = folder / "softhsm2.conf", folder / "pin", folder / "key.pem"
    (folder / "tokens").mkdir()
    conf.write_text(
        f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    pin = "73219"
    pin_file.touch(0o600)
    pin_file.write_text(f"{pin}\n")
    key.touch(0o600)
    key.write_bytes(issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    _run(conf, "--init-token", "--free", "--label", _TOKEN, "--pin", pin, "--so-pin", "98765432")
    _run(conf, "--import", str(key), "--token", _TOKEN, "--label", _KEY, "--id", "a1", "--pin", pin)
    os.putenv(_CONF, str(conf))
    try:
        yield TokenPlace(module, _TOKEN, pin_file, _KEY)
    finally:
        pkcs11.lib(str(module)).finalize()
        os.unsetenv(_CONF)


def raw_key(place: TokenPlace) -> Any:
    """Return the key as python-pkcs11 gives it, in a session of its own; somebody must be logged in."""
    session = pkcs11.lib(str(place.module)).get_token(token_label=place.token_label).open()
    return session.get_key(object_class=ObjectClass.PRIVATE_KEY, label=place.key_label)


def _module() -> Path | None:
    return next((path for path in MODULES if path.is_file()), None)


def _run(conf: Path, *arguments: str) -> None:
    environment = {_CONF: str(conf), "PATH": os.defpath}
    done = subprocess.run(  # noqa: S603  # our own arguments
        ["softhsm2-util", *arguments],  # noqa: S607  # found on the system's path
        env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode:
        raise BenchError(f"softhsm2-util: {(done.stderr or done.stdout).strip()}")
