"""RFC 3161: requests, responses, tokens; every verifier has its broken twins."""

import hashlib
import subprocess
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.asn1.der import (
    SEQUENCE,
    SET,
    DerError,
    children,
    explicit,
    generalized_time,
    inside,
    integer,
    octets,
    oid,
    parse,
    seq,
    tlv,
)
from evidence.cms.signed_data import ID_TST_INFO, CmsSigner
from evidence.report import SubIndication, Verdict
from evidence.stamps.timestamps import (
    MAX_TOKEN,
    TimestampRefusedError,
    TimestampRequestError,
    TokenIssuer,
    build_request,
    check_response,
    granted,
    parse_response,
    read_request,
    read_token,
    rejection,
    verify_token,
)
from evidence.x509.chain import TrustStore
from kephs.testpki.issued import Issued, to_pem
from kephs.testpki.keys import sign_digest
from kephs.testpki.oids import TEST_TSA_POLICY
from tests.support.pki import NOW, ayse, make_pki, shared_pki

DIGEST = hashlib.sha256(b"signature value").digest()
NONCE = 2**63 + 12345


@cache
def trust() -> TrustStore:
    return TrustStore([shared_pki().root])


def token_of(tsa: Issued | None = None, *, at: datetime = NOW, request: bytes | None = None) -> bytes:
    signer = tsa or shared_pki().tsa
    issuer = TokenIssuer(signer.certificate, signer.chain, TEST_TSA_POLICY)
    draft = issuer.to_be_signed(read_request(request or build_request(DIGEST, NONCE)), at, 77)
    return issuer.assemble(draft, sign_digest(signer.key, draft.digest))


def verdict_of(token: bytes, *, imprint=DIGEST, at: datetime = NOW, store: TrustStore | None = None):
    found = verify_token(token, imprint=imprint, trust=store or trust(), at=at)
    step = found.report.failing_step
    return found.report.verdict, found.report.sub_indication, step.number if step else None


# ------------------------------------------------------------------ the way through


def test_a_request_is_answered_with_a_token_that_verifies():
    reply = shared_pki().timestamp_reply(build_request(DIGEST, NONCE), NOW)
    token = check_response(reply, digest=DIGEST, nonce=NONCE, policy=TEST_TSA_POLICY)
    found = verify_token(token.der, imprint=DIGEST, trust=trust(), at=NOW)
    assert found.passed
    assert found.gen_time == NOW
    assert found.policy == TEST_TSA_POLICY
    assert found.serial == token.info.serial
    assert found.certificate.der == shared_pki().tsa.certificate
    assert [step.number for step in found.report.steps] == [
        "1",
        "2.1",
        "2.2",
        "2.3",
        "2.4",
        "3",
        "4",
        "5",
        "6",
        "7",
        "8",
        "9",
    ]
    assert found.report.to_json()["facts"]["gen_time"] == NOW.isoformat()


def test_two_tokens_never_share_a_serial():
    replies = [shared_pki().timestamp_reply(build_request(DIGEST, NONCE), NOW) for _ in range(50)]
    assert len({read_token(parse_response(reply)).info.serial for reply in replies}) == 50


@pytest.mark.parametrize("key", ["p384", "rsa2048"])
def test_authorities_with_other_keys_stamp_too(key):
    assert verify_token(
        token_of(shared_pki().issue_tsa(key=key)), imprint=DIGEST, trust=trust(), at=NOW
    ).passed


def test_a_token_carries_whole_seconds():
    token = token_of(at=NOW + timedelta(microseconds=999_999))
    assert read_token(token).info.gen_time == NOW


def test_a_request_without_certreq_gets_a_token_without_certificates():
    body = seq(integer(1), read_request(build_request(DIGEST, NONCE)).imprint_der)
    token = read_token(parse_response(shared_pki().timestamp_reply(body, NOW)))
    assert token.signed.certificates == ()
    assert token.info.nonce is None
    assert verdict_of(token.der)[:2] == (Verdict.INDETERMINATE, SubIndication.NO_SIGNING_CERTIFICATE_FOUND)


# ------------------------------------------------------------------ broken twins


@pytest.mark.slow
@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80])
@pytest.mark.parametrize("helped", [False, True], ids=["chain from the token", "chain configured too"])
def test_any_flipped_byte_is_refused(mask, helped):
    pki = shared_pki()
    store = TrustStore([pki.root], intermediates=pki.intermediates) if helped else trust()
    token = token_of()
    assert verdict_of(token, store=store) == (Verdict.PASSED, None, None)
    passed = []
    for index in range(len(token)):
        broken = token[:index] + bytes((token[index] ^ mask,)) + token[index + 1 :]
        if verify_token(broken, imprint=DIGEST, trust=store, at=NOW).passed:
            passed.append((index, token[index]))
    assert passed == []


@given(st.integers(0, 1900), st.binary(min_size=1, max_size=8))
def test_no_damage_raises(position, junk):
    token = token_of()
    broken = token[:position] + junk + token[position + len(junk) :]
    verify_token(broken, imprint=DIGEST, trust=trust(), at=NOW)
    verify_token(token[:position], imprint=DIGEST, trust=trust(), at=NOW)
    verify_token(junk, imprint=DIGEST, trust=trust(), at=NOW)


def test_trailing_bytes_are_refused():
    assert verdict_of(token_of() + b"\0") == (Verdict.FAILED, SubIndication.FORMAT_FAILURE, "1")


def test_another_imprint_is_refused():
    other = hashlib.sha256(b"other").digest()
    assert verdict_of(token_of(), imprint=other) == (Verdict.FAILED, SubIndication.HASH_FAILURE, "3")
    assert verdict_of(token_of(), imprint=DIGEST[:20]) == (Verdict.FAILED, SubIndication.HASH_FAILURE, "3")


def test_a_signature_by_another_key_is_refused():
    tsa = shared_pki().tsa
    forged = Issued(tsa.certificate, ayse().key, tsa.chain)
    assert verdict_of(token_of(forged)) == (Verdict.FAILED, SubIndication.SIG_CRYPTO_FAILURE, "2.4")


@pytest.mark.parametrize("spoilt", [{"eku": False}, {"critical": False}], ids=["no EKU", "EKU not critical"])
def test_only_a_time_stamping_certificate_stamps(spoilt):
    wanted = (Verdict.INDETERMINATE, SubIndication.CHAIN_CONSTRAINTS_FAILURE, "4")
    assert verdict_of(token_of(shared_pki().issue_tsa(**spoilt))) == wanted


@pytest.mark.parametrize("who", ["holder", "transaction", "responder"])
def test_no_certificate_of_another_role_stamps(who):
    pki = shared_pki()
    issued = {
        "holder": ayse(),
        "transaction": pki.transactions["hs91.kep.tr"],
        "responder": pki.responders["p384"],
    }[who]
    assert verdict_of(token_of(issued)) == (
        Verdict.INDETERMINATE,
        SubIndication.CHAIN_CONSTRAINTS_FAILURE,
        "4",
    )


def test_an_authority_expired_at_its_own_time_is_refused():
    expired = shared_pki().issue_tsa(not_after=NOW - timedelta(days=1))
    assert verdict_of(token_of(expired)) == (Verdict.FAILED, SubIndication.EXPIRED, "5")
    assert (
        verdict_of(token_of(expired, at=NOW - timedelta(days=2)), at=NOW - timedelta(days=2))[0]
        is Verdict.PASSED
    )


def test_an_authority_not_yet_valid_is_refused():
    young = shared_pki().issue_tsa(not_before=NOW + timedelta(days=1))
    assert verdict_of(token_of(young)) == (Verdict.FAILED, SubIndication.NOT_YET_VALID, "5")


def test_a_stamp_outlives_its_certificate_only_with_a_newer_stamp():
    token = token_of()
    late = NOW + timedelta(days=365 * 11)
    assert verdict_of(token, at=late) == (Verdict.INDETERMINATE, SubIndication.OUT_OF_BOUNDS_NO_POE, "7")


def test_a_stamp_from_the_future_is_refused():
    token = token_of(at=NOW + timedelta(seconds=61))
    assert verdict_of(token) == (Verdict.INDETERMINATE, SubIndication.TIMESTAMP_ORDER_FAILURE, "5")
    assert verdict_of(token_of(at=NOW + timedelta(seconds=60)))[0] is Verdict.PASSED


def test_an_authority_under_no_root_of_ours_is_refused():
    other = make_pki()
    assert verdict_of(token_of(other.tsa))[2] == "8"
    assert verdict_of(token_of(other.tsa), store=TrustStore([other.root]))[0] is Verdict.PASSED
    assert verdict_of(token_of(), store=TrustStore([]))[:2] == (
        Verdict.INDETERMINATE,
        SubIndication.NO_CERTIFICATE_CHAIN_FOUND,
    )


def test_a_short_key_is_refused():
    token = token_of(shared_pki().issue_tsa(key="rsa1024"))
    assert verdict_of(token) == (Verdict.INDETERMINATE, SubIndication.CRYPTO_CONSTRAINTS_FAILURE, "6")


def test_a_token_over_sha512_passes_where_the_caller_can_compute_it():
    digest = hashlib.sha512(b"signature value").digest()
    imprint = seq(seq(oid("2.16.840.1.101.3.4.2.3")), octets(digest))
    token = token_of(request=seq(integer(1), imprint))
    assert verdict_of(token)[2] == "3"
    assert (
        verdict_of(token, imprint=lambda name: hashlib.new(name, b"signature value").digest())[0]
        is Verdict.PASSED
    )


def signed_content(content: bytes, content_type: str = ID_TST_INFO) -> bytes:
    """Sign any bytes as the TSA would sign a TSTInfo."""
    tsa = shared_pki().tsa
    signer = CmsSigner(tsa.certificate, tsa.chain, content_type=content_type)
    draft = signer.to_be_signed(hashlib.sha256(content).digest(), None)
    return signer.assemble(draft, sign_digest(tsa.key, draft.digest), content=content)


def tst_info(*tail: bytes, version: int = 1, imprint: bytes | None = None) -> bytes:
    stamped = imprint or seq(seq(oid("2.16.840.1.101.3.4.2.1")), octets(DIGEST))
    return seq(integer(version), oid("1.2.3.4"), stamped, integer(1), generalized_time(NOW), *tail)


def test_optional_fields_of_a_token_are_read():
    extension = seq(oid("1.2.3.4"), octets(b""))
    tail = (seq(integer(1)), b"\x01\x01\xff", integer(NONCE), explicit(0, seq()), explicit(1, extension))
    token = signed_content(tst_info(*tail))
    assert read_token(token).info.nonce == NONCE
    assert verdict_of(token)[0] is Verdict.PASSED


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (tst_info(), "1.2.840.113549.1.7.1"),
        (tst_info(version=2), ID_TST_INFO),
        (tst_info(imprint=seq(seq(oid("1.3.14.3.2.26")), octets(bytes(20)))), ID_TST_INFO),
        (tst_info(explicit(1, seq(oid("1.2.3.4"), b"\x01\x01\xff", octets(b"")))), ID_TST_INFO),
        (tst_info(integer(1), integer(2)), ID_TST_INFO),
        (tst_info() + b"\0", ID_TST_INFO),
    ],
    ids=["id-data", "version", "SHA-1 imprint", "critical extension", "unknown field", "trailing byte"],
)
def test_what_is_signed_well_but_no_token_is_refused(content, content_type):
    assert verdict_of(signed_content(content, content_type)) == (
        Verdict.FAILED,
        SubIndication.FORMAT_FAILURE,
        "1",
    )


def test_a_stranger_among_the_embedded_certificates_is_refused_unless_allowed():
    tsa, other = shared_pki().tsa, make_pki()
    token = token_of(Issued(tsa.certificate, tsa.key, (*tsa.chain, other.root)))
    assert verdict_of(token) == (Verdict.FAILED, SubIndication.FORMAT_FAILURE, "9")
    assert verify_token(token, imprint=DIGEST, trust=trust(), at=NOW, strangers=True).passed
    both = TrustStore([shared_pki().root, other.root])
    assert verdict_of(token, store=both)[0] is Verdict.PASSED
    friend = token_of(Issued(tsa.certificate, tsa.key, (*tsa.chain, *shared_pki().intermediates)))
    assert verdict_of(friend)[0] is Verdict.PASSED


def reframed(*, digests: bytes = b"", crls: bytes = b"") -> bytes:
    """Return a good token with other bytes where no signature covers them."""
    kind, data = children(parse(token_of(), max_size=MAX_TOKEN))
    version, listed, content, certificates, signers = children(inside(data, SEQUENCE))
    known = listed.content + digests
    members = (version.whole, tlv(SET, known), content.whole, certificates.whole, crls, signers.whole)
    return seq(kind.whole, explicit(0, seq(*members)))


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        ({}, None),
        ({"digests": seq(oid("2.16.840.1.101.3.4.2.3"))}, None),
        ({"digests": seq(oid("1.2.3.4"))}, "1"),
        ({"digests": octets(b"x")}, "1"),
        ({"digests": seq(oid("2.16.840.1.101.3.4.2.3")) * 8}, "1"),
        ({"crls": tlv(0xA1, seq(integer(1)))}, None),
        ({"crls": tlv(0xA1, explicit(1, seq(oid("1.2.3"))))}, "1"),
    ],
    ids=["same", "another hash", "unknown hash", "no identifier", "too many", "CRL", "not a CRL"],
)
def test_what_no_signature_covers_holds_only_what_can_be_read(frame, wanted):
    assert verdict_of(reframed(**frame))[2] == wanted


def test_a_report_carries_the_token_that_was_read():
    token = token_of()
    found = verify_token(token, imprint=DIGEST, trust=trust(), at=NOW)
    assert found.token == read_token(token)
    assert verify_token(b"junk", imprint=DIGEST, trust=trust(), at=NOW).token is None


# ------------------------------------------------------------------ requests and responses


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (b"", 5),
        (b"garbage", 5),
        (build_request(DIGEST, NONCE) + b"\0", 5),
        (seq(integer(2), seq(seq(oid("2.16.840.1.101.3.4.2.1")), octets(DIGEST))), 5),
        (seq(integer(1), seq(seq(oid("2.16.840.1.101.3.4.2.1")), octets(DIGEST[:20]))), 5),
        (seq(integer(1), seq(seq(oid("1.3.14.3.2.26")), octets(DIGEST[:20]))), 0),
        (seq(integer(1), seq(seq(oid("1.2.3.4")), octets(DIGEST))), 0),
        (
            seq(
                integer(1),
                seq(seq(oid("2.16.840.1.101.3.4.2.1")), octets(DIGEST)),
                explicit(0, seq(oid("1.2.3"))),
            ),
            16,
        ),
    ],
    ids=["empty", "garbage", "trailing", "version", "length", "sha1", "unknown hash", "extension"],
)
def test_requests_that_cannot_be_served_are_refused_with_the_reason(body, failure):
    with pytest.raises(TimestampRequestError) as caught:
        read_request(body)
    assert caught.value.failure == failure
    with pytest.raises(TimestampRefusedError, match="status 2"):
        parse_response(shared_pki().timestamp_reply(body, NOW))


def test_an_unknown_policy_is_refused():
    request = build_request(DIGEST, NONCE, policy="1.2.3.4")
    with pytest.raises(TimestampRefusedError, match="unacceptedPolicy"):
        parse_response(shared_pki().timestamp_reply(request, NOW))
    assert parse_response(
        shared_pki().timestamp_reply(build_request(DIGEST, NONCE, policy=TEST_TSA_POLICY), NOW)
    )


@given(st.binary(max_size=200))
def test_no_bytes_break_the_readers(data):
    for reader, error in (
        (read_request, TimestampRequestError),
        (parse_response, TimestampRefusedError),
        (read_token, DerError),
    ):
        with pytest.raises(error):
            reader(data)


def test_a_response_must_answer_this_request():
    reply = shared_pki().timestamp_reply(build_request(DIGEST, NONCE), NOW)
    with pytest.raises(TimestampRefusedError, match="nonce"):
        check_response(reply, digest=DIGEST, nonce=NONCE + 1)
    with pytest.raises(TimestampRefusedError, match="imprint"):
        check_response(reply, digest=bytes(32), nonce=NONCE)
    with pytest.raises(TimestampRefusedError, match="policy"):
        check_response(reply, digest=DIGEST, nonce=NONCE, policy="1.2.3.4")
    with pytest.raises(TimestampRefusedError, match="not a token"):
        check_response(granted(seq(oid("1.2.3"))), digest=DIGEST, nonce=NONCE)
    with pytest.raises(TimestampRefusedError, match="without a token"):
        parse_response(seq(seq(integer(0))))


@pytest.mark.parametrize(
    ("failure", "word"),
    [(0, "badAlg"), (2, "badRequest"), (5, "badDataFormat"), (15, "unacceptedPolicy"), (25, "systemFailure")],
)
def test_refusals_say_why(failure, word):
    with pytest.raises(TimestampRefusedError, match=f"status 2: {word}; because"):
        parse_response(rejection(failure, "because"))


def test_imprints_are_sha256():
    with pytest.raises(ValueError, match="SHA-256"):
        build_request(bytes(20), NONCE)


# ------------------------------------------------------------------ against openssl


@pytest.mark.tools
@pytest.mark.parametrize(
    "options", [["-cert"], ["-cert", "-no_nonce"], ["-cert", "-sha512"], ["-cert", "-sha384"]], ids=" ".join
)
def test_openssl_gets_and_accepts_our_tokens(tmp_path, options):
    now = datetime.now(UTC)
    pki = make_pki(now=now)  # openssl looks at the real clock
    (tmp_path / "data").write_bytes(b"signature value")
    (tmp_path / "root.pem").write_bytes(to_pem([pki.root]))
    query = ["openssl", "ts", "-query", "-data", "data", "-out", "q.tsq", *options]
    subprocess.run(query, cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "r.tsr").write_bytes(pki.timestamp_reply((tmp_path / "q.tsq").read_bytes(), now))
    verify = ["openssl", "ts", "-verify", "-in", "r.tsr", "-CAfile", "root.pem"]
    for how in (["-queryfile", "q.tsq"], ["-data", "data"]):
        done = subprocess.run([*verify, *how], cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert b"Verification: OK" in done.stdout


@pytest.mark.tools
def test_openssl_accepts_a_token_without_certificates_when_it_has_them(tmp_path):
    now = datetime.now(UTC)
    pki = make_pki(now=now)
    (tmp_path / "data").write_bytes(b"signature value")
    (tmp_path / "root.pem").write_bytes(to_pem([pki.root]))
    (tmp_path / "tsa.pem").write_bytes(to_pem([pki.tsa.certificate, *pki.tsa.chain]))
    subprocess.run(
        ["openssl", "ts", "-query", "-data", "data", "-out", "q.tsq"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    (tmp_path / "r.tsr").write_bytes(pki.timestamp_reply((tmp_path / "q.tsq").read_bytes(), now))
    done = subprocess.run(
        [
            "openssl",
            "ts",
            "-verify",
            "-in",
            "r.tsr",
            "-CAfile",
            "root.pem",
            "-untrusted",
            "tsa.pem",
            "-queryfile",
            "q.tsq",
        ],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.tools
def test_we_accept_tokens_that_openssl_made(tmp_path):
    pki = shared_pki()
    pki.tsa.write(tmp_path, "tsa")
    (tmp_path / "data").write_bytes(b"signature value")
    (tmp_path / "ts.cnf").write_text(
        "[tsa]\ndefault_tsa=t\n[t]\nserial=serial\nsigner_cert=tsa.pem\ncerts=tsa-chain.pem\nsigner_key=tsa.key\n"
        "signer_digest=sha256\ndefault_policy=1.2.3.4\ndigests=sha256\nordering=yes\ntsa_name=yes\nclock_precision_digits=3\n"
        "accuracy=secs:1,millisecs:500,microsecs:100\ness_cert_id_alg=sha256\ness_cert_id_chain=yes\n"
    )
    (tmp_path / "serial").write_text("0A")

    def run(*command: str) -> None:
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    run("openssl", "ts", "-query", "-data", "data", "-cert", "-out", "q.tsq", "-sha256")
    run("openssl", "ts", "-reply", "-config", "ts.cnf", "-queryfile", "q.tsq", "-out", "r.tsr")
    token = parse_response((tmp_path / "r.tsr").read_bytes())
    found = verify_token(token, imprint=DIGEST, trust=trust(), at=datetime.now(UTC))
    assert found.passed, found.report.to_json()
    assert found.serial == 0x0B
