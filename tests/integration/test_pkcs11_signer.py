"""A key on a token: SoftHSM, driven by its own module."""

import asyncio
from contextlib import closing
from functools import cache
from hashlib import sha256

import pkcs11
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from evidence.adapters.pkcs11_signer import Pkcs11Signer
from evidence.adapters.pkcs11_token import PinRefusedError
from evidence.adapters.soft_signer import KeyMaterialError
from evidence.ports import Signer, SignerUnavailableError
from evidence.seal.sealing import Sealer
from evidence.stamps.timestamps import build_request, parse_response
from evidence.verify.evidence import verify_evidence
from evidence.x509.chain import TrustStore
from evidence.x509.role import SealPolicy
from kephs.testpki.issued import to_pem
from kephs.testpki.oids import TEST_TRANSACTION_POLICY
from tests.support.evidence_samples import AT, record
from tests.support.pki import AYSE_TCKN, NOW, shared_pki
from tests.support.softhsm import MODULE, PIN, TOKEN, empty_hsm

pytestmark = pytest.mark.tools
DIGESTS = [sha256(bytes([n])).digest() for n in range(200)]
POLICY = SealPolicy(transaction_policies=frozenset({TEST_TRANSACTION_POLICY}))
_SHA256 = Prehashed(hashes.SHA256())


class Clock:
    """Seconds that pass when a test says so."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture(scope="module")
def hsm():
    found = empty_hsm()
    found.add_token()
    found.add_token("kephs-empty")
    found.add_key(transaction(), "seal", "a1")
    found.add_key(rsa_holder(), "seal-rsa", "a2")
    found.add_key(shared_pki().transactions["hs92.kep.tr"], "other", "a3")
    found.add_key(transaction(), "twice", "b1")
    found.add_key(transaction(), "twice", "b2")
    yield found
    pkcs11.lib(str(MODULE)).finalize()


@pytest.fixture(autouse=True)
def _same_pin(hsm):
    hsm.pin_file.write_text(PIN + "\n")


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


@pytest.mark.parametrize(
    ("who", "label"), [(transaction, "seal"), (rsa_holder, "seal-rsa")], ids=["ec", "rsa"]
)
async def test_digests_are_signed_in_order(hsm, who, label):
    with closing(signer_of(hsm, who(), label)) as signer:
        port: Signer = signer
        for count in (0, 1, 40):
            signatures = await port.sign_many(DIGESTS[:count])
            assert len(signatures) == count
            for signature, digest in zip(signatures, DIGESTS, strict=False):
                verify(who(), signature, digest)
                with pytest.raises(InvalidSignature):
                    verify(who(), signature, DIGESTS[-1])
        assert (port.certificate, port.chain) == (who().certificate, who().chain)


async def test_calls_at_the_same_time_each_have_their_own_signatures(hsm):
    with closing(signer_of(hsm)) as signer:
        calls = [signer.sign_many(DIGESTS[n : n + 1 + n % 5]) for n in range(150)]
        for n, signatures in enumerate(await asyncio.gather(*calls)):
            assert len(signatures) == 1 + n % 5
            for signature, digest in zip(signatures, DIGESTS[n:], strict=False):
                verify(transaction(), signature, digest)


async def test_a_cancelled_call_loses_nobody_else(hsm):
    with closing(signer_of(hsm)) as signer:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(signer.sign_many(DIGESTS[n : n + 1])) for n in range(60)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
        for task, digest in list(zip(tasks, DIGESTS, strict=False))[1::2]:
            verify(transaction(), task.result()[0], digest)


async def test_what_it_signs_is_evidence(hsm):
    class Authority:
        async def stamp(self, digest):
            return parse_response(shared_pki().timestamp_reply(build_request(digest, 2**65 + 1), NOW))

    with closing(signer_of(hsm)) as signer:
        sealer = Sealer(signer, Authority())
        (sealed,) = await sealer.seal_many([record(event_time=NOW)])
        assert len(await sealer.sign_entity(DIGESTS[0], AT)) > 1000
    report = verify_evidence(sealed.xml, TrustStore((shared_pki().root,)), NOW, POLICY)
    assert report.passed, report


async def test_digests_of_another_length_are_refused(hsm):
    with closing(signer_of(hsm)) as signer:
        for digest in (b"", b"x" * 31, b"x" * 33):
            with pytest.raises(ValueError, match="32"):
                await signer.sign_many([DIGESTS[0], digest])


def test_a_key_can_be_named_by_its_id(hsm):
    signer_of(hsm, key_label=None, key_id=b"\xa1").close()
    signer_of(hsm, key_label="twice", key_id=b"\xb2").close()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"key_label": None}, "label or id"),
        ({"token_label": "kephs-none"}, "kephs-none"),
        ({"key_label": "none"}, "no such keys"),
        ({"token_label": "kephs-empty"}, "no such keys"),
        ({"key_label": "twice"}, "2 such keys"),
        ({"key_label": "other"}, "certificate"),
        ({"key_label": "seal-rsa"}, "certificate"),
        ({"module": MODULE.with_name("none.so")}, "no PKCS#11 module"),
        ({"module": MODULE.parent}, "no PKCS#11 module"),
    ],
    ids=["unnamed", "token", "key", "no key there", "two keys", "another's key", "RSA for EC", "module", "folder"],
)  # fmt: skip
def test_a_wrong_configuration_is_named(hsm, changes, text):
    with pytest.raises(KeyMaterialError, match=text):
        signer_of(hsm, **changes)


def test_a_library_that_is_no_module_is_refused(hsm, tmp_path):
    module = tmp_path / "module.so"
    module.write_bytes(b"no library")
    with pytest.raises(KeyMaterialError):
        signer_of(hsm, module=module)


def test_the_pins_file_is_read_strictly(hsm, tmp_path):
    path = tmp_path / "pin"
    with pytest.raises(KeyMaterialError, match="cannot be read"):
        signer_of(hsm, pin_file=path)
    path.write_text("\n")
    path.chmod(0o600)
    with pytest.raises(KeyMaterialError, match="no PIN"):
        signer_of(hsm, pin_file=path)
    path.write_text(PIN + "\r\nthe second line is nobody's business\n")
    signer_of(hsm, pin_file=path).close()
    path.chmod(0o604)
    with pytest.raises(KeyMaterialError, match="chmod"):
        signer_of(hsm, pin_file=path)


def test_a_wrong_pin_is_tried_once_by_all_processes_together(hsm, tmp_path):
    mark = tmp_path / "pin-refused"
    hsm.pin_file.write_text("00000")
    with pytest.raises(PinRefusedError, match="refuses") as caught:
        signer_of(hsm, refused_mark=mark)
    assert "00000" not in str(caught.value)
    for _ in range(3):
        with pytest.raises(PinRefusedError, match="before"):
            signer_of(hsm, refused_mark=mark)
    hsm.pin_file.write_text(PIN)
    signer_of(hsm, refused_mark=mark).close()
    assert not mark.exists()


def test_a_mark_that_cannot_be_written_changes_nothing(hsm, tmp_path):
    mark = tmp_path / "no folder" / "mark"
    signer_of(hsm, refused_mark=mark).close()
    hsm.pin_file.write_text("00000")
    with pytest.raises(PinRefusedError, match="refuses"):
        signer_of(hsm, refused_mark=mark)


# --------------------------------------------------------------------------- the token goes away


async def test_a_module_that_was_restarted_costs_nobody_a_signature(hsm):
    with closing(signer_of(hsm)) as signer:
        await signer.sign_many(DIGESTS[:1])
        pkcs11.lib(str(MODULE)).finalize()
        for signature, digest in zip(await signer.sign_many(DIGESTS[:9]), DIGESTS, strict=False):
            verify(transaction(), signature, digest)


async def test_a_session_that_was_closed_is_opened_again(hsm):
    with closing(signer_of(hsm)) as signer:
        signer._token._session.close()
        verify(transaction(), (await signer.sign_many(DIGESTS[:1]))[0], DIGESTS[0])


async def test_a_login_that_outlived_its_session_is_used(hsm):
    with closing(signer_of(hsm)) as signer, closing(signer_of(hsm)) as second:
        verify(transaction(), (await second.sign_many(DIGESTS[:1]))[0], DIGESTS[0])
        verify(transaction(), (await signer.sign_many(DIGESTS[:1]))[0], DIGESTS[0])


async def test_while_the_token_is_away_callers_wait_and_afterwards_it_signs(hsm):
    clock, away = Clock(), hsm.folder / "away"
    with closing(signer_of(hsm, timer=clock)) as signer:
        (hsm.folder / "tokens").rename(away)
        (hsm.folder / "tokens").mkdir()
        try:
            pkcs11.lib(str(MODULE)).finalize()
            with pytest.raises(SignerUnavailableError, match=TOKEN):
                await signer.sign_many(DIGESTS[:3])
            with pytest.raises(SignerUnavailableError, match="is away"):  # not asked again so soon
                await signer.sign_many(DIGESTS[:3])
            clock.now += 2
            with pytest.raises(SignerUnavailableError, match="No token"):
                await signer.sign_many(DIGESTS[:3])
        finally:
            (hsm.folder / "tokens").rmdir()
            away.rename(hsm.folder / "tokens")
        clock.now += 1
        with pytest.raises(SignerUnavailableError, match="is away"):  # the pause doubles
            await signer.sign_many(DIGESTS[:3])
        clock.now += 2
        verify(transaction(), (await signer.sign_many(DIGESTS[:1]))[0], DIGESTS[0])


async def test_a_pin_changed_on_the_token_is_tried_once_and_the_new_one_heals(hsm):
    clock = Clock()
    with closing(signer_of(hsm, timer=clock)) as signer:
        hsm.pin_file.write_text("00000")
        pkcs11.lib(str(MODULE)).finalize()
        for text in ("refuses", "before", "before"):
            with pytest.raises(SignerUnavailableError, match=text):
                await signer.sign_many(DIGESTS[:1])
            clock.now += 60
        hsm.pin_file.write_text(PIN)
        verify(transaction(), (await signer.sign_many(DIGESTS[:1]))[0], DIGESTS[0])


async def test_closing_ends_what_waits(hsm):
    signer = signer_of(hsm)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_outcome(signer.sign_many(DIGESTS))) for _ in range(20)]
        await asyncio.sleep(0)
        signer.close()
        signer.close()
    outcomes = [task.result() for task in tasks]
    assert isinstance(outcomes[-1], SignerUnavailableError)
    assert all(isinstance(one, SignerUnavailableError) or len(one) == len(DIGESTS) for one in outcomes)
    with pytest.raises(SignerUnavailableError, match="closed"):
        await signer.sign_many(DIGESTS[:1])


async def _outcome(asking):
    try:
        return await asking
    except SignerUnavailableError as error:
        return error


def test_certificates_come_from_pem_files(hsm, tmp_path):
    issued = transaction()
    certificate, chain, empty = (tmp_path / name for name in ("certificate", "chain", "empty"))
    certificate.write_bytes(to_pem((issued.certificate,)))
    chain.write_bytes(to_pem((*issued.chain, shared_pki().root)))
    empty.touch()
    with closing(Pkcs11Signer.from_pem(hsm.place(), certificate, [chain, empty])) as signer:
        assert (signer.certificate, signer.chain) == (issued.certificate, issued.chain)
    for files in ((empty, [chain]), (chain, []), (tmp_path / "none", []), (certificate, [tmp_path / "none"])):
        with pytest.raises(KeyMaterialError):
            Pkcs11Signer.from_pem(hsm.place(), *files)
