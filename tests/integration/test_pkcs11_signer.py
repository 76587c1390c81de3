"""A key on a token: SoftHSM, driven by its own module, in a process of its own."""

import asyncio
import os
import signal
from contextlib import closing, contextmanager

import pkcs11
import pytest
from cryptography.exceptions import InvalidSignature

from evidence.adapters.pkcs11_signer import Pkcs11Signer
from evidence.adapters.pkcs11_token import PinFile, PinRefusedError, TokenKey
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
from tests.support.pki import NOW, shared_pki
from tests.support.softhsm import MODULE, PIN, TOKEN
from tests.support.token_signer import (
    DIGESTS,
    Clock,
    filled_hsm,
    killed,
    outcome,
    rsa_holder,
    signer_of,
    transaction,
    verify,
)

pytestmark = pytest.mark.tools
POLICY = SealPolicy(transaction_policies=frozenset({TEST_TRANSACTION_POLICY}))


@pytest.fixture
def hsm():
    """The store, with the PIN that is right."""
    found = filled_hsm()
    found.pin_file.write_text(PIN + "\n")
    return found


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


@pytest.fixture
def key(hsm):
    """The key as the token's process has it, in this one."""
    found = TokenKey(hsm.place().key, transaction().x509, PinFile(hsm.pin_file))
    found.open()
    yield found
    found.close()
    pkcs11.lib(str(MODULE)).finalize()


def check_key(key):
    for signature, digest in zip(key.sign_many(DIGESTS[:3]), DIGESTS, strict=False):
        verify(transaction(), signature, digest)


def test_a_module_that_was_restarted_costs_nobody_a_signature(key):
    check_key(key)
    pkcs11.lib(str(MODULE)).finalize()
    check_key(key)


def test_a_session_that_was_closed_is_opened_again(key):
    key._session.close()
    check_key(key)


def test_a_login_that_outlived_its_session_is_used(hsm, key):
    second = TokenKey(hsm.place().key, transaction().x509, PinFile(hsm.pin_file))
    with closing(second):
        second.open()
        check_key(second)
        check_key(key)


def test_a_token_that_signs_something_else_is_noticed_and_left(key):
    class Liar:
        def sign(self, digest, **options):
            return honest.sign(digest[::-1], **options)

    honest, key._key = key._key, Liar()
    with pytest.raises(SignerUnavailableError, match="does not verify"):
        key.sign_many(DIGESTS[:3])
    with pytest.raises(SignerUnavailableError, match="is away"):
        key.sign_many(DIGESTS[:3])
    key.reopen()
    check_key(key)


@contextmanager
def pulled(hsm):
    """The token is out."""
    tokens, away = hsm.folder / "tokens", hsm.folder / "away"
    tokens.rename(away)
    tokens.mkdir()
    try:
        yield
    finally:
        tokens.rmdir()
        away.rename(tokens)


async def test_while_the_token_is_away_callers_wait_and_afterwards_it_signs(hsm):
    clock = Clock()
    with closing(signer_of(hsm, timer=clock)) as signer:
        first = signer.pid
        with pulled(hsm):
            with pytest.raises(SignerUnavailableError, match=TOKEN):
                await signer.sign_many(DIGESTS[:3])
            with pytest.raises(SignerUnavailableError, match="is away"):  # not asked again so soon
                await signer.sign_many(DIGESTS[:3])
            clock.now += 2
            with pytest.raises(SignerUnavailableError, match="No token"):
                await signer.sign_many(DIGESTS[:3])
        clock.now += 1
        with pytest.raises(SignerUnavailableError, match="is away"):  # the pause doubles
            await signer.sign_many(DIGESTS[:3])
        clock.now += 2
        verify(transaction(), (await signer.sign_many(DIGESTS[:1]))[0], DIGESTS[0])
        assert signer.pid == first


async def test_all_who_wait_hear_at_once_that_the_token_is_away_and_it_is_asked_once(hsm):
    with closing(signer_of(hsm)) as signer:
        with pulled(hsm):
            heard = await asyncio.gather(*[outcome(signer.sign_many(DIGESTS)) for _ in range(30)])
        assert all(isinstance(one, SignerUnavailableError) for one in heard)
        assert signer._pause == 2.0


async def test_a_pin_changed_on_the_token_is_tried_once_and_the_new_one_heals(hsm):
    clock = Clock()
    with closing(signer_of(hsm, timer=clock)) as signer:
        hsm.pin_file.write_text("00000")
        await killed(signer)
        for text in ("refuses", "before", "before"):
            clock.now += 60
            with pytest.raises(SignerUnavailableError, match=text):
                await signer.sign_many(DIGESTS[:1])
        await killed(signer)  # the next process is not told that PIN either
        clock.now += 60
        with pytest.raises(SignerUnavailableError, match="before"):
            await signer.sign_many(DIGESTS[:1])
        hsm.pin_file.write_text(PIN)
        clock.now += 60
        verify(transaction(), (await signer.sign_many(DIGESTS[:1]))[0], DIGESTS[0])


@pytest.mark.parametrize(("pin", "text"), [(PIN, None), ("00000", "before")], ids=["was right", "is new"])
async def test_a_pin_whose_process_died_of_it_is_tried_again_only_where_it_was_right_before(hsm, pin, text):
    class Deadly:
        def __init__(self, pins):
            self.pins, self.unknown = pins, pins.unknown

        def read(self, name):
            os.kill(signer.pid, signal.SIGKILL)
            return self.pins.read(name)

    clock = Clock()
    with closing(signer_of(hsm, timer=clock)) as signer:
        signer._pins = Deadly(signer._pins)
        if text is not None:
            hsm.pin_file.write_text(pin)
        await killed(signer)
        clock.now += 60
        with pytest.raises(SignerUnavailableError, match="process ended"):
            await signer.sign_many(DIGESTS[:1])
        signer._pins = signer._pins.pins
        clock.now += 60
        answer = await outcome(signer.sign_many(DIGESTS[:1]))
        if text is None:
            verify(transaction(), answer[0], DIGESTS[0])
        else:
            assert text in str(answer)


def test_an_object_moves_from_loop_to_loop(hsm):
    with closing(signer_of(hsm)) as signer:
        for digest in DIGESTS[:2]:
            (signature,) = asyncio.run(signer.sign_many([digest]))
            verify(transaction(), signature, digest)


async def test_closing_ends_what_waits(hsm):
    signer = signer_of(hsm)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(outcome(signer.sign_many(DIGESTS))) for _ in range(20)]
        await asyncio.sleep(0)
        signer.close()
        signer.close()
    outcomes = [task.result() for task in tasks]
    assert isinstance(outcomes[-1], SignerUnavailableError)
    assert all(isinstance(one, SignerUnavailableError) or len(one) == len(DIGESTS) for one in outcomes)
    with pytest.raises(SignerUnavailableError, match="closed"):
        await signer.sign_many(DIGESTS[:1])


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
