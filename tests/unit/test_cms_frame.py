"""The bytes of a SignedData that no signature covers have one right value each."""

import asyncio
from hashlib import sha256

import pytest

from evidence.cms.frame import frame_problem
from evidence.cms.signed_data import SIGNATURE_TIME_STAMP, parse_signed_data, verify_signer
from tests.support.evidence_samples import AT
from tests.support.pki import shared_pki
from tests.support.sealed import LocalTimestamper, sealer

CONTENT = b"content"
DIGEST = sha256(CONTENT).digest()
P7S = asyncio.run(sealer().sign_entity(DIGEST, AT))
TOKEN = asyncio.run(LocalTimestamper().stamp(DIGEST))


def path() -> list[bytes]:
    hs91 = shared_pki().transactions["hs91.kep.tr"]
    return [hs91.certificate, *hs91.chain, shared_pki().root]


def problem(der: bytes, **options):
    options.setdefault("unsigned", (SIGNATURE_TIME_STAMP,))
    return frame_problem(der, options.pop("path", path()), **options)


def still_verifies(der: bytes) -> bool:
    signed = parse_signed_data(der)
    return verify_signer(signed, signed.signers[0], digest_of=lambda _: DIGEST).ok


def test_what_we_emit_has_no_problem():
    tsa = shared_pki().tsa
    assert problem(P7S) is None
    assert problem(TOKEN, path=[tsa.certificate, *tsa.chain, shared_pki().root], unsigned=()) is None


def test_a_changed_version_is_found_though_the_signature_holds():
    at = P7S.index(bytes.fromhex("020101310d300b06096086480165")) + 2
    changed = P7S[:at] + b"\x03" + P7S[at + 1 :]
    assert still_verifies(changed)
    assert "version" in problem(changed)


def test_a_changed_set_of_digest_algorithms_is_found():
    at = P7S.index(bytes.fromhex("310d300b0609608648016503040201")) + 14
    assert "digest algorithms" in problem(P7S[:at] + b"\x02" + P7S[at + 1 :])


def test_a_certificate_that_does_not_belong_to_the_path_is_found():
    assert "path" in problem(P7S, path=path()[:1])


def test_an_unsigned_attribute_that_is_not_expected_is_found():
    assert "unsigned" in problem(P7S, unsigned=())


@pytest.mark.parametrize("data", [b"", b"0\x00", b"x", P7S[:-1], P7S + b"\x00"])
def test_what_is_no_signed_data_is_a_problem_not_a_crash(data):
    assert problem(data) is not None
