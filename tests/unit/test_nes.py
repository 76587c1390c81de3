"""The sender's qualified signature: good ones pass, and each thing that is wrong has its own verdict."""

import subprocess
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest

from evidence.asn1 import der
from evidence.asn1.der import seq
from evidence.cms.signed_data import COUNTER_SIGNATURE, CmsSigner
from evidence.mail.mime import scan
from evidence.mail.smime import EntityKind
from evidence.mail.smime_sign import canonical
from evidence.nes.verifier import NesPolicy, conclude, prepare
from evidence.ports import BytesSource
from evidence.report import SubIndication, Verdict
from evidence.x509.chain import TrustStore
from evidence.x509.revocation import RevocationStatus
from kephs.testpki.issued import to_pem
from kephs.testpki.keys import key_pem
from tests.support.pki import AYSE_TCKN, MEHMET_TCKN, NOW, ayse, make_pki, mehmet, shared_pki
from tests.support.signers import (
    BODY,
    ENTITY,
    attribute,
    detached_around,
    good_attributes,
    ocsp_answers,
    opaque_around,
    opaque_message,
    raw_sign,
    shared_trust,
    signed_data,
    signed_message,
    signer_info,
    verified,
)

FAILED, INDETERMINATE, PASSED = Verdict.FAILED, Verdict.INDETERMINATE, Verdict.PASSED
CONSTRAINTS = SubIndication.CHAIN_CONSTRAINTS_FAILURE


def outcome(message, **options):
    report = verified(message, **options)
    return report.verdict, report.sub_indication


def user(**spoiled):
    return shared_pki().issue_user("Can", AYSE_TCKN, **spoiled)


# ------------------------------------------------------------------ what passes


@pytest.mark.parametrize("issuer", ["p384", "pss"])
@pytest.mark.parametrize("key", ["p256", "p384", "p521", "rsa2048", "rsa3072"])
def test_a_qualified_signature_passes_under_each_authority(issuer, key):
    assert outcome(signed_message(user(issuer=issuer, key=key))) == (PASSED, None)


def test_rsa_pss_signatures_pass():
    assert outcome(signed_message(user(key="rsa2048"), pss=True)) == (PASSED, None)


@pytest.mark.parametrize("who", [ayse, mehmet])
def test_a_signature_without_intermediates_passes_by_configured_ones(who):
    assert outcome(signed_message(who(), chain=False)) == (PASSED, None)
    bare = TrustStore([shared_pki().root])
    assert outcome(signed_message(who(), chain=False), trust=bare) == (
        INDETERMINATE, SubIndication.NO_CERTIFICATE_CHAIN_FOUND,
    )  # fmt: skip


def test_an_opaque_signature_passes():
    report = verified(opaque_message(ayse()))
    assert report.verdict is PASSED
    assert report.report.facts["kind"] == EntityKind.OPAQUE.value


def test_the_report_names_the_signer_and_keeps_what_proves_it():
    report = verified(signed_message(ayse()))
    assert report.signer.tckn == AYSE_TCKN
    assert report.signer.common_name == "TEST Ayşe Yılmaz"
    assert report.signer.certificate_sha256 == sha256(ayse().certificate).digest()
    assert report.signing_time == NOW
    assert report.material.certificates == (ayse().certificate, ayse().chain[0], shared_pki().root)
    assert len(report.material.ocsp) == 2  # the holder's and the authority's
    assert report.material.crls == ()
    assert AYSE_TCKN not in str(report.report.to_json())
    numbers = [step.number for step in report.steps]
    assert numbers == ["1", "2", *(f"3.1.{i}" for i in range(1, 11)), "4.1", "4.2", "5.1", "5.2"]


@pytest.mark.tools
@pytest.mark.parametrize("options", ["", "-nodetach", "-keyid", "-md sha384"])
def test_what_openssl_signs_passes(options, tmp_path):
    (tmp_path / "key").write_bytes(key_pem(ayse().key))
    (tmp_path / "certificate").write_bytes(to_pem([ayse().certificate]))
    (tmp_path / "chain").write_bytes(to_pem(ayse().chain))
    (tmp_path / "entity").write_bytes(ENTITY)
    command = (
        "openssl cms -sign -cades -binary -in entity -signer certificate -inkey key -certfile chain"
        f" -from a@hs91.kep.tr -to b@hs91.kep.tr -subject x -out message {options}"
    )
    subprocess.run(command.split(), cwd=tmp_path, check=True)
    message = canonical((tmp_path / "message").read_bytes())
    any_clock = NesPolicy(signing_time_tolerance=timedelta(days=36_500))  # openssl claims the real time
    assert outcome(message, policy=any_clock) == (PASSED, None)


# ------------------------------------------------------------------ the message


def test_one_flipped_byte_of_the_content_is_a_hash_failure():
    message = signed_message(ayse())
    at = message.index(b"borcunuz")
    broken = message[:at] + b"B" + message[at + 1 :]
    assert outcome(broken) == (FAILED, SubIndication.HASH_FAILURE)


def test_no_flipped_byte_of_the_signed_part_or_of_the_signature_passes():
    message = signed_message(ayse(), chain=False)
    content = scan(BytesSource(message)).children[0].whole
    der_start = message.rindex(b"\r\n\r\n") + 4
    der_end = message.rindex(b"\r\n--")
    for index in (*range(*content), *range(der_start, der_end)):
        broken = bytearray(message)
        broken[index] ^= 0x01
        if bytes(broken[index : index + 1]).isspace() and message[index : index + 1].isspace():
            continue
        assert outcome(bytes(broken))[0] is not PASSED, index


def test_a_broken_signature_value_is_a_crypto_failure():
    signer = CmsSigner(ayse().certificate, ayse().chain)
    draft = signer.to_be_signed(sha256(ENTITY).digest(), NOW)
    other = raw_sign(ayse(), sha256(b"other").digest())
    message = detached_around(signer.assemble(draft, other))
    assert outcome(message) == (FAILED, SubIndication.SIG_CRYPTO_FAILURE)


def test_an_unsigned_message_has_no_signature():
    assert outcome(BODY) == (INDETERMINATE, SubIndication.SIGNED_DATA_NOT_FOUND)


def test_detached_with_content_inside_and_opaque_without_are_format_failures():
    signer = CmsSigner(ayse().certificate, ayse().chain)
    draft = signer.to_be_signed(sha256(ENTITY).digest(), NOW)
    value = raw_sign(ayse(), draft.digest)
    assert outcome(detached_around(signer.assemble(draft, value))) == (PASSED, None)
    for message in (
        detached_around(signer.assemble(draft, value, content=ENTITY)),
        opaque_around(signer.assemble(draft, value)),
    ):
        assert outcome(message) == (FAILED, SubIndication.FORMAT_FAILURE)


def test_zero_signers_are_a_format_failure():
    message = detached_around(signed_data([], [ayse().certificate]))
    assert outcome(message) == (FAILED, SubIndication.FORMAT_FAILURE)


def test_something_else_than_signed_data_is_a_format_failure():
    for junk in (b"junk", seq(der.oid("1.2.840.113549.1.7.3"), der.explicit(0, seq(der.NULL_DER)))):
        assert outcome(detached_around(junk)) == (FAILED, SubIndication.FORMAT_FAILURE)


# ------------------------------------------------------------------ the certificate


@pytest.mark.parametrize(
    ("spoiled", "expected"),
    [
        ({"qualified": False}, (INDETERMINATE, CONSTRAINTS)),
        ({"btk": False}, (INDETERMINATE, CONSTRAINTS)),
        ({"seal": True}, (INDETERMINATE, CONSTRAINTS)),
        ({"user_notice": False}, (INDETERMINATE, CONSTRAINTS)),
        ({"non_repudiation": False}, (INDETERMINATE, CONSTRAINTS)),
        ({"mali_muhur": True}, (INDETERMINATE, CONSTRAINTS)),
        ({"not_after": NOW - timedelta(seconds=1)}, (FAILED, SubIndication.EXPIRED)),
        ({"not_before": NOW + timedelta(seconds=1)}, (FAILED, SubIndication.NOT_YET_VALID)),
        ({"broken_signature": True}, (INDETERMINATE, SubIndication.NO_CERTIFICATE_CHAIN_FOUND)),
        ({"impostor": True}, (INDETERMINATE, SubIndication.NO_CERTIFICATE_CHAIN_FOUND)),
        ({"impostor": True, "issuer": "pss"}, (INDETERMINATE, SubIndication.NO_CERTIFICATE_CHAIN_FOUND)),
        ({"key": "rsa1024"}, (INDETERMINATE, SubIndication.CRYPTO_CONSTRAINTS_FAILURE)),
        ({"digital_signature": False}, (PASSED, None)),
    ],
)
def test_one_thing_wrong_in_the_certificate_decides(spoiled, expected):
    assert outcome(signed_message(user(**spoiled))) == expected


def test_a_seal_passes_where_the_account_may_use_one():
    assert outcome(signed_message(user(seal=True)), policy=NesPolicy(allow_seals=True)) == (PASSED, None)


def test_a_transaction_certificate_never_passes_as_a_senders():
    for domain in ("hs91.kep.tr", "hs92.kep.tr"):
        message = signed_message(shared_pki().transactions[domain])
        assert outcome(message) == (INDETERMINATE, CONSTRAINTS)
    failing = [step.number for step in verified(message).steps if step.ok is False]
    assert failing == ["3.1.8", "3.1.10"]


@pytest.mark.parametrize("name", ["tsa", "responder"])
def test_other_certificates_of_the_same_root_never_pass(name):
    pki = shared_pki()
    other = pki.tsa if name == "tsa" else pki.responders["p384"]
    assert outcome(signed_message(other)) == (INDETERMINATE, CONSTRAINTS)


def test_a_stranger_root_is_no_root():
    stranger = make_pki().issue_user("Can", AYSE_TCKN)
    assert outcome(signed_message(stranger)) == (INDETERMINATE, SubIndication.NO_CERTIFICATE_CHAIN_FOUND)


def test_without_configured_roots_nothing_passes():
    assert outcome(signed_message(ayse()), trust=TrustStore([])) == (
        INDETERMINATE, SubIndication.NO_CERTIFICATE_CHAIN_FOUND,
    )  # fmt: skip


# ------------------------------------------------------------------ claimed time


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [
        (timedelta(minutes=5), (PASSED, None)),
        (timedelta(minutes=5, seconds=1), (INDETERMINATE, SubIndication.SIG_CONSTRAINTS_FAILURE)),
        (-timedelta(days=300), (PASSED, None)),
    ],
)
def test_a_claimed_time_may_be_old_but_hardly_ahead(ahead, expected):
    assert outcome(signed_message(ayse(), at=NOW + ahead)) == expected


# ------------------------------------------------------------------ revocation


def prepared(message, trust=None):
    source = BytesSource(message)
    return prepare(source, scan(source), trust=trust or shared_trust(), at=NOW)


def test_revocation_of_holder_and_authority_is_asked_only_when_all_else_holds():
    needs = prepared(signed_message(ayse())).needs
    assert [certificate.der for certificate, _ in needs] == [ayse().certificate, ayse().chain[0]]
    assert prepared(signed_message(user(qualified=False))).needs == ()
    assert prepared(signed_message(ayse()).replace(b"borcunuz", b"Borcunuz")).needs == ()


def test_a_revoked_certificate_fails_for_certain():
    bad = user()
    shared_pki().revoke(bad.serial, NOW - timedelta(days=1))
    assert outcome(signed_message(bad)) == (FAILED, SubIndication.REVOKED)


def answered(**change):
    """Conclude with every answer changed in one way; a value of None takes the answer away."""
    found = prepared(signed_message(ayse()))
    answers = ocsp_answers(found.needs, shared_trust())
    for name, value in change.items():
        key = {"holder": ayse().certificate, "authority": ayse().chain[0]}[name]
        digest = sha256(key).digest()
        answers[digest] = replace(answers[digest], **value) if value is not None else None
    report = conclude(found, answers, NOW)
    return report.verdict, report.sub_indication


LATER = (INDETERMINATE, SubIndication.TRY_LATER)


def test_silence_unknown_and_stale_answers_mean_try_later():
    assert answered() == (PASSED, None)
    for who in ("holder", "authority"):
        assert answered(**{who: None}) == LATER
        assert answered(**{who: {"status": RevocationStatus.UNKNOWN}}) == LATER
        stale = {"this_update": NOW - timedelta(days=2), "next_update": NOW - timedelta(days=1)}
        assert answered(**{who: stale}) == LATER
    assert conclude(prepared(signed_message(ayse())), {}, NOW).sub_indication is SubIndication.TRY_LATER


def test_a_revoked_authority_is_refused_and_beats_silence():
    revoked = {"status": RevocationStatus.REVOKED, "revoked_at": NOW}
    assert answered(authority=revoked) == (INDETERMINATE, SubIndication.REVOKED_CA_NO_POE)
    assert answered(authority=revoked, holder=None) == (
        INDETERMINATE, SubIndication.REVOKED_CA_NO_POE,
    )  # fmt: skip
    assert answered(holder=revoked, authority=None) == (FAILED, SubIndication.REVOKED)


def test_a_definite_failure_is_never_turned_into_try_later():
    found = prepared(signed_message(user(btk=False)))
    assert conclude(found, {}, NOW).sub_indication is CONSTRAINTS


# ------------------------------------------------------------------ several signers


def infos(*signers, digest=None):
    return [
        signer_info(
            one,
            list(good_attributes(one, digest or sha256(ENTITY).digest()).values()),
            signature_algorithm=der.seq(der.oid("1.2.840.10045.4.3.2")),
        )
        for one in signers
    ]


def everyone(*signers):
    return [der_ for one in signers for der_ in (one.certificate, *one.chain)]


def test_parallel_signers_must_all_pass():
    good = detached_around(signed_data(infos(ayse(), mehmet()), everyone(ayse(), mehmet())))
    report = verified(good)
    assert report.verdict is PASSED
    assert [signer.tckn for signer in report.signers] == [AYSE_TCKN, MEHMET_TCKN]
    bad = user(btk=False)
    one_bad = detached_around(signed_data(infos(ayse(), bad), everyone(ayse(), bad)))
    assert outcome(one_bad) == (INDETERMINATE, CONSTRAINTS)
    other_content = infos(ayse()) + infos(mehmet(), digest=bytes(32))
    assert outcome(detached_around(signed_data(other_content, everyone(ayse(), mehmet())))) == (
        FAILED, SubIndication.HASH_FAILURE,
    )  # fmt: skip
    revoked = user()
    shared_pki().revoke(revoked.serial, NOW - timedelta(days=1))
    message = detached_around(signed_data(infos(ayse(), revoked), everyone(ayse(), revoked)))
    assert outcome(message) == (FAILED, SubIndication.REVOKED)


def countersigned(counter, *, over=None, with_type=False, unsigned=b""):
    """Return a message of ayse's whose signature value `counter` has signed."""
    attributes = list(good_attributes(ayse(), sha256(ENTITY).digest()).values())
    parent = der.children(der.parse(signer_info(ayse(), attributes), max_size=10_000))
    value = parent[-1].content
    listed = good_attributes(counter, sha256(over if over is not None else value).digest())
    if not with_type:
        del listed["type"]
    made = signer_info(counter, list(listed.values()), unsigned=unsigned)
    first = der.seq(*(node.whole for node in parent), der.tlv(0xA1, attribute(COUNTER_SIGNATURE, made)))
    return detached_around(signed_data([first], everyone(ayse(), counter)))


def test_a_good_counter_signature_passes_and_a_broken_one_fails():
    assert outcome(countersigned(mehmet())) == (PASSED, None)
    assert outcome(countersigned(mehmet(), over=b"something else")) == (FAILED, SubIndication.HASH_FAILURE)
    assert outcome(countersigned(mehmet(), with_type=True)) == (FAILED, SubIndication.FORMAT_FAILURE)
    nested = der.tlv(0xA1, attribute(COUNTER_SIGNATURE, der.NULL_DER))
    assert outcome(countersigned(mehmet(), unsigned=nested)) == (FAILED, SubIndication.FORMAT_FAILURE)
    stranger = make_pki().issue_user("Can", AYSE_TCKN)
    assert outcome(countersigned(stranger)) == (INDETERMINATE, SubIndication.NO_CERTIFICATE_CHAIN_FOUND)


def test_a_revoked_counter_signer_fails_the_signature():
    bad = user()
    shared_pki().revoke(bad.serial, NOW - timedelta(days=1))
    assert outcome(countersigned(bad))[0] is not PASSED


def test_a_counter_signer_is_not_a_sender():
    assert [one.tckn for one in verified(countersigned(mehmet())).signers] == [AYSE_TCKN]
