"""A `Pkcs11Signer` over SoftHSM, and its process."""

import asyncio
import os
import signal
import time
from functools import cache
from hashlib import sha256
from threading import Event

import psutil
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from evidence.adapters.pkcs11_signer import Pkcs11Signer
from evidence.ports import SignerUnavailableError
from tests.support.pki import AYSE_TCKN, shared_pki
from tests.support.softhsm import empty_hsm

DIGESTS = [sha256(bytes([n])).digest() for n in range(200)]
PATIENCE = 20.0  # seconds
_SHA256 = Prehashed(hashes.SHA256())
_NEVER = Event()


class Clock:
    """Seconds that pass when a test says so."""

    now = 1000.0

    def __call__(self):
        return self.now


@cache
def filled_hsm():
    """Return this process's store with the keys of the tests, and a second token without any."""
    found = empty_hsm()
    found.add_token()
    found.add_token("kephs-empty")
    found.add_key(transaction(), "seal", "a1")
    found.add_key(rsa_holder(), "seal-rsa", "a2")
    found.add_key(shared_pki().transactions["hs92.kep.tr"], "other", "a3")
    found.add_key(transaction(), "twice", "b1")
    found.add_key(transaction(), "twice", "b2")
    return found


def transaction():
    return shared_pki().transactions["hs91.kep.tr"]


@cache
def rsa_holder():
    return shared_pki().issue_user("Ali", AYSE_TCKN, key="rsa2048")


def signer_of(hsm, issued=None, key_label="seal", **changes):
    timer = changes.pop("timer", Clock())
    issued = issued or transaction()
    return Pkcs11Signer(hsm.place(key_label, **changes), issued.certificate, issued.chain, timer=timer)


def verify(issued, signature, digest):
    public = issued.x509.public_key()
    if isinstance(public, ec.EllipticCurvePublicKey):
        public.verify(signature, digest, ec.ECDSA(_SHA256))
    else:
        public.verify(signature, digest, padding.PKCS1v15(), _SHA256)


async def outcome(asking):
    """Return what somebody is answered, or why not."""
    try:
        return await asking
    except SignerUnavailableError as error:
        return error


def gone(pid):
    """Wait until a process is no more; a zombie counts where it is another's child."""
    deadline = time.monotonic() + PATIENCE
    while psutil.pid_exists(pid):
        try:
            found = psutil.Process(pid)
            if found.status() == psutil.STATUS_ZOMBIE and found.ppid() != os.getpid():
                return
        except psutil.NoSuchProcess:
            return
        assert time.monotonic() < deadline, "it is there still"
        _NEVER.wait(0.02)


async def killed(signer):
    """Kill the token's process and let the signer see it."""
    pid = signer.pid
    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(gone, pid)
    await outcome(signer.sign_many(DIGESTS[:1]))
    assert signer.pid is None
