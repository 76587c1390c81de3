"""The signature over the provider register: who is believed, and that no byte can be changed."""

import json
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from directory.provider_file import ProviderFileError, RegisterSignatureError
from evidence.adapters.soft_signer import SoftSigner
from evidence.cms.signed_data import CmsSigner
from kephs.register_seal import (
    read_pins,
    register_verifier,
    sign_register,
    unreadable_certificate,
)
from kephs.testpki.issued import to_pem
from kephs.testpki.keys import key_pem
from tests.support.registers import DAY, NOW, entry, issued, made, pin, signer


def check(pair: tuple[bytes, bytes], *names: str) -> str | None:
    """Return why a pair is refused."""
    try:
        register_verifier([pin(name) for name in names or ("operator",)])(*pair)
    except RegisterSignatureError as error:
        return str(error)
    return None


def test_a_pinned_signer_is_believed_and_in_a_roll_over_both_are():
    assert check(made(entry())) is None
    assert check(made(entry(), by="stranger"), "operator", "stranger") is None
    assert check(made(entry()), "operator", "stranger") is None


def test_a_foreign_signer_is_not_believed():
    assert "is not pinned" in (check(made(entry(), by="stranger")) or "")


def test_without_pins_nobody_is_believed():
    with pytest.raises(RegisterSignatureError, match="no signer of the register is pinned"):
        register_verifier([])(*made(entry()))


def test_rsa_signs_too():
    content = made(entry())[0]
    one = issued("rsa", "rsa2048")
    signature = sign_register(content, SoftSigner(one.key, one.certificate), NOW)
    register_verifier([pin("rsa", "rsa2048")])(content, signature)


def test_one_flipped_byte_anywhere_in_the_content_is_refused():
    content, signature = made(entry())
    for at in range(0, len(content), 7):
        assert check((content[:at] + bytes((content[at] ^ 1,)) + content[at + 1 :], signature))
    assert check((content + b"\n", signature))
    assert check((content[:-1], signature))


def test_one_flipped_bit_anywhere_in_the_signature_is_refused():
    content, signature = made(entry())
    for at in range(len(signature)):
        for bit in (0x01, 0x20, 0x80):
            changed = signature[:at] + bytes((signature[at] ^ bit,)) + signature[at + 1 :]
            assert check((content, changed)), (at, bit)
    assert check((content, signature + b"\0"))
    assert check((content, signature[:-1]))
    assert check((content, b""))


def test_a_signature_that_brings_its_own_content_is_refused():
    content, _ = made(entry())
    one = signer()
    cms = CmsSigner(one.certificate)
    draft = cms.to_be_signed(sha256(content).digest(), NOW)
    (value,) = one.sign_now([draft.digest])
    assert "detached" in (check((content, cms.assemble(draft, value, content=content))) or "")


def test_a_signature_without_a_time_or_outside_the_certificates_validity_is_refused():
    content, _ = made(entry())
    assert "not valid at" in (check((content, sign_register(content, signer(), NOW + 365 * 30 * DAY))) or "")
    one = signer()
    cms = CmsSigner(one.certificate)
    draft = cms.to_be_signed(sha256(content).digest(), None)
    (value,) = one.sign_now([draft.digest])
    assert "not valid at" in (check((content, cms.assemble(draft, value))) or "")


def test_a_stranger_s_certificate_beside_the_signer_s_is_refused():
    content, _ = made(entry())
    one = signer()
    cms = CmsSigner(one.certificate, [issued("stranger").certificate])
    draft = cms.to_be_signed(sha256(content).digest(), NOW)
    (value,) = one.sign_now([draft.digest])
    assert "only the signer" in (check((content, cms.assemble(draft, value))) or "")


@pytest.mark.parametrize("text", ["", "ab", "ab" * 31, "ab" * 33, "xy" * 32])
def test_a_pin_of_the_wrong_length_is_refused(text):
    with pytest.raises(ValueError, match="64 hexadecimal"):
        read_pins([text])


def test_pins_are_read_as_openssl_prints_them():
    printed = ":".join(f"{octet:02X}" for octet in pin())
    assert read_pins([printed, pin().hex()]) == {pin()}


def test_a_register_that_readers_would_refuse_is_not_made():
    with pytest.raises(ProviderFileError, match="share one transaction certificate"):
        made(
            entry(), entry("hs93.kep.tr") | {"transaction_certificates": entry()["transaction_certificates"]}
        )


def test_a_certificate_that_nobody_can_read_is_named():
    content = made(entry())[0]
    assert unreadable_certificate(content) is None
    value = json.loads(content)
    value["providers"][0]["transaction_certificates"][0]["certificate"] = "MAIwAA=="
    assert unreadable_certificate(json.dumps(value).encode()) == (
        "providers[0].transaction_certificates[0].certificate: not a readable certificate"
    )


@pytest.mark.tools
def test_openssl_agrees_with_our_signature_and_we_with_its_own(tmp_path: Path):
    content, signature = made(entry())
    one = issued("operator")
    for name, data in (
        ("providers.json", content), ("ours.p7s", signature), ("operator.pem", to_pem([one.certificate])),
        ("operator.key", key_pem(one.key)),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(data)
    verify = "cms -verify -binary -inform DER -in ours.p7s -content providers.json -certfile operator.pem -noverify"
    sign = (
        "cms -sign -binary -cades -md sha256 -outform DER -in providers.json -signer operator.pem"
        " -inkey operator.key -out theirs.p7s"
    )
    for command in (verify, sign):
        subprocess.run(["openssl", *command.split()], cwd=tmp_path, check=True, capture_output=True)
    theirs = (tmp_path / "theirs.p7s").read_bytes()
    assert check((content, theirs)) is None  # signed at the machine's time, inside its three years and twenty
