"""Signers whose keys lie in files."""

import hashlib
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from evidence.adapters.soft_signer import KeyMaterialError, SoftSigner
from evidence.ports import Signer
from tests.support.pki import AYSE_TCKN, NOW, P12_PASSWORD, ayse, mehmet, p12_of, shared_pki

DIGESTS = [hashlib.sha256(bytes([n])).digest() for n in range(20)]


def verify(signer: SoftSigner, issued, signature: bytes, digest: bytes) -> None:
    public, prehashed = issued.x509.public_key(), Prehashed(hashes.SHA256())
    if isinstance(public, ec.EllipticCurvePublicKey):
        public.verify(signature, digest, ec.ECDSA(prehashed))
    else:
        public.verify(signature, digest, padding.PKCS1v15(), prehashed)


@pytest.mark.parametrize("key", ["p256", "p384", "rsa2048"])
async def test_digests_are_signed_in_order(key):
    issued = shared_pki().issue_user("Ali", AYSE_TCKN, key=key, not_after=NOW + timedelta(days=1))
    signer: Signer = SoftSigner(issued.key, issued.certificate, issued.chain)
    for count in (0, 1, len(DIGESTS)):
        signatures = await signer.sign_many(DIGESTS[:count])
        assert len(signatures) == count
        for signature, digest in zip(signatures, DIGESTS, strict=False):
            verify(signer, issued, signature, digest)


@pytest.mark.parametrize("who", [ayse, mehmet])
def test_pem_and_p12_give_the_same_signer(tmp_path, who):
    files = who().write(tmp_path, "holder")
    from_pem = SoftSigner.from_pem(files.certificate, files.key, [files.chain])
    from_p12 = SoftSigner.from_p12(p12_of(who(), tmp_path), P12_PASSWORD)
    for signer in (from_pem, from_p12):
        assert signer.certificate == who().certificate
        assert signer.chain == who().chain
        verify(signer, who(), signer.sign_now(DIGESTS[:1])[0], DIGESTS[0])


def test_the_chain_is_put_in_order_without_root_and_strangers():
    pki = shared_pki()
    stranger = pki.authorities["pss"].certificate
    signer = SoftSigner(ayse().key, ayse().certificate, [stranger, pki.root, *ayse().chain])
    assert signer.chain == ayse().chain


def test_an_empty_chain_file_is_no_error(tmp_path):
    files = ayse().write(tmp_path, "holder")
    files.chain.write_bytes(b"")
    assert SoftSigner.from_pem(files.certificate, files.key, [files.chain]).chain == ()


def test_a_certificate_of_another_key_is_refused():
    with pytest.raises(KeyMaterialError, match="not this key's"):
        SoftSigner(mehmet().key, ayse().certificate)


def test_a_wrong_password_is_refused_without_saying_it(tmp_path):
    with pytest.raises(KeyMaterialError) as caught:
        SoftSigner.from_p12(p12_of(ayse(), tmp_path), "not-the-password")
    assert "not-the-password" not in str(caught.value)


def test_missing_and_broken_files_are_refused(tmp_path):
    files = ayse().write(tmp_path, "holder")
    broken = tmp_path / "broken"
    broken.write_bytes(b"-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n")
    for certificate, key, chain in (
        (tmp_path / "none", files.key, files.chain),
        (broken, files.key, files.chain),
        (files.certificate, broken, files.chain),
        (files.certificate, files.key, broken),
    ):
        with pytest.raises(KeyMaterialError):
            SoftSigner.from_pem(certificate, key, [chain])
    for path in (tmp_path / "none", broken):
        with pytest.raises(KeyMaterialError):
            SoftSigner.from_p12(path, "x")


def test_keys_that_make_no_legal_signature_are_refused(tmp_path):
    files = ayse().write(tmp_path, "holder")
    pem = ed25519.Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    files.key.write_bytes(pem)
    with pytest.raises(KeyMaterialError, match="neither"):
        SoftSigner.from_pem(files.certificate, files.key)


async def test_a_digest_of_another_length_is_refused():
    with pytest.raises(ValueError, match="digest"):
        await SoftSigner(ayse().key, ayse().certificate).sign_many([b"short"])
