"""CMS signatures: what the emitter makes verifies everywhere; what is spoiled in one place verifies nowhere."""

import subprocess
from hashlib import new as new_hash
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from evidence.asn1 import build, der
from evidence.asn1.der import DerError
from evidence.cms.signed_data import (
    ID_TST_INFO,
    MAX_SIGNED_DATA,
    CmsRules,
    CmsSigner,
    parse_signed_data,
    verify_signer,
)
from evidence.report import SubIndication
from kephs.testpki.issued import to_pem
from tests.support.pki import AYSE_TCKN, NOW, ayse, mehmet, shared_pki
from tests.support.signers import (
    attribute,
    good_attributes,
    raw_sign,
    signed_data,
    signer_info,
)

CONTENT = b"Content-Type: text/plain\r\n\r\nMerhaba\r\n"
DIGEST = sha256(CONTENT).digest()


def emitted(issued, *, pss=False, embed=False, at=NOW, token=None):
    signer = CmsSigner(issued.certificate, issued.chain, pss=pss)
    draft = signer.to_be_signed(DIGEST, at)
    signature = raw_sign(issued, draft.digest, pss=pss)
    return signer.assemble(draft, signature, content=CONTENT if embed else None, timestamp_token=token)


def check(cms, rules=None, content=CONTENT):
    signed = parse_signed_data(cms)
    return verify_signer(
        signed,
        signed.signers[0],
        digest_of=lambda name: new_hash(name, content).digest(),
        rules=rules or CmsRules(),
    )


def outcome(cms, **options):
    """Return None for a good signature, else the sub-indication of the earliest failing step."""
    try:
        steps = check(cms, **options).steps
    except DerError:
        return SubIndication.FORMAT_FAILURE
    return next((step.sub_indication for step in steps if not step.ok), None)


@pytest.mark.parametrize("kind", ["p256", "p384", "p521", "rsa2048", "rsa3072"])
@pytest.mark.parametrize("embed", [False, True])
def test_every_allowed_key_signs_and_verifies(kind, embed):
    issued = shared_pki().issue_user("Can", AYSE_TCKN, key=kind)
    assert outcome(emitted(issued, embed=embed)) is None
    if kind.startswith("rsa"):
        assert outcome(emitted(issued, embed=embed, pss=True)) is None


@pytest.mark.tools
@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048", "pss"])
def test_openssl_accepts_the_cades_signature(kind, tmp_path):
    issued = shared_pki().issue_user("Can", AYSE_TCKN, key="rsa2048" if kind == "pss" else kind)
    (tmp_path / "s").write_bytes(emitted(issued, pss=kind == "pss"))
    (tmp_path / "c").write_bytes(CONTENT)
    (tmp_path / "r").write_bytes(to_pem([shared_pki().root]))
    command = "openssl cms -verify -cades -binary -inform DER -in s -content c -CAfile r -purpose any -out o"
    done = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"CAdES Verification successful" in done.stderr


def test_asn1crypto_reads_the_same_and_writes_the_same_bytes():
    from asn1crypto import cms as other  # noqa: PLC0415

    data = emitted(ayse(), embed=True)
    parsed = other.ContentInfo.load(data, strict=True)
    assert parsed.dump(force=True) == data


def test_the_emitter_is_deterministic():
    signer = CmsSigner(ayse().certificate, ayse().chain)
    assert signer.to_be_signed(DIGEST, NOW) == CmsSigner(ayse().certificate).to_be_signed(DIGEST, NOW)


def test_a_time_stamp_body_is_version_three_and_embeds_its_content():
    signer = CmsSigner(ayse().certificate, content_type=ID_TST_INFO)
    draft = signer.to_be_signed(DIGEST, None)
    signed = parse_signed_data(signer.assemble(draft, raw_sign(ayse(), draft.digest), content=CONTENT))
    assert signed.content_type == ID_TST_INFO
    assert signed.content == CONTENT
    assert bytes(signed.content_view) == CONTENT
    result = verify_signer(signed, signed.signers[0], digest_of=lambda _: DIGEST)
    assert result.ok
    assert result.signing_time is None


def test_a_token_stands_beside_the_signature_unsigned():
    token = emitted(mehmet())
    signed = parse_signed_data(emitted(ayse(), token=token))
    (value,) = signed.signers[0].unsigned_values("1.2.840.113549.1.9.16.2.14")
    assert value.whole == token


def test_every_flipped_byte_of_signer_and_certificate_is_refused():
    data = emitted(ayse())
    chain = ayse().chain[0]
    spared = range(data.index(chain), data.index(chain) + len(chain))  # judged by the path, not here
    for index in range(len(data)):
        if index in spared:
            continue
        broken = bytearray(data)
        broken[index] ^= 0x04
        assert outcome(bytes(broken)) is not None, index


def test_a_flipped_byte_of_the_content_is_a_hash_failure():
    assert outcome(emitted(ayse()), content=CONTENT.replace(b"M", b"m")) is SubIndication.HASH_FAILURE


def test_trailing_bytes_are_refused():
    with pytest.raises(DerError, match="trailing"):
        parse_signed_data(emitted(ayse()) + b"\0")


def test_ber_is_refused():
    data = emitted(ayse())
    with pytest.raises(DerError, match="indefinite"):
        parse_signed_data(b"\x30\x80" + data[4:] + b"\0\0")


def test_more_than_the_cap_is_refused():
    with pytest.raises(DerError, match="larger"):
        parse_signed_data(der.seq(bytes(MAX_SIGNED_DATA)))


def built(names=("type", "digest", "time", "ess"), *, extra=(), certificates=None, info=None, **spoiled):
    """Return a detached signature with chosen, replaced (`name=bytes`) and extra attributes."""
    attributes = good_attributes(ayse(), DIGEST) | spoiled
    made = signer_info(ayse(), [attributes[name] for name in names] + list(extra), **(info or {}))
    return signed_data([made], [ayse().certificate] if certificates is None else certificates)


ESS = "1.2.840.113549.1.9.16.2.47"


def ess(*entries):
    return attribute(ESS, der.seq(der.seq(*entries)))


def ess_entry(digest, *, algorithm=b"", issuer_serial=b""):
    return der.seq(algorithm, der.octets(digest), issuer_serial)


def own_hash(name="sha256"):
    return new_hash(name, ayse().certificate).digest()


def issuer_serial(serial=None, issuer=None):
    name = issuer or ayse().x509.issuer.public_bytes()
    return der.seq(der.seq(der.explicit(4, name)), der.integer(serial or ayse().serial))


SHA = {
    "sha1": der.seq(der.oid("1.3.14.3.2.26")),
    "sha256": der.seq(der.oid("2.16.840.1.101.3.4.2.1")),
    "sha384": der.seq(der.oid("2.16.840.1.101.3.4.2.2")),
}


def test_the_hand_built_signature_is_good_before_it_is_spoiled():
    assert outcome(built()) is None
    assert outcome(built(("type", "digest", "ess"))) is None  # signingTime is optional for BES


@pytest.mark.parametrize("missing", ["type", "digest", "ess"])
def test_a_missing_mandatory_attribute_is_a_format_failure(missing):
    names = [name for name in ("type", "digest", "time", "ess") if name != missing]
    assert outcome(built(names)) is SubIndication.FORMAT_FAILURE


def test_no_signed_attributes_at_all_is_a_format_failure():
    assert outcome(built(())) is SubIndication.FORMAT_FAILURE


@pytest.mark.parametrize("name", ["type", "digest", "time", "ess"])
def test_an_attribute_twice_is_a_format_failure(name):
    again = good_attributes(ayse(), DIGEST)[name]
    assert outcome(built(extra=[again])) is SubIndication.FORMAT_FAILURE


def test_two_values_in_one_attribute_are_a_format_failure():
    two = attribute("1.2.840.113549.1.9.4", der.octets(DIGEST), der.octets(bytes(32)))
    assert outcome(built(digest=two)) is SubIndication.FORMAT_FAILURE


def test_another_content_type_is_a_format_failure():
    other = attribute("1.2.840.113549.1.9.3", der.oid("1.2.840.113549.1.7.2"))
    assert outcome(built(type=other)) is SubIndication.FORMAT_FAILURE


def test_a_wrong_message_digest_is_a_hash_failure():
    wrong = attribute("1.2.840.113549.1.9.4", der.octets(bytes(32)))
    assert outcome(built(digest=wrong)) is SubIndication.HASH_FAILURE


def test_unsorted_attributes_are_refused_unless_the_switch_says_so():
    unsorted = sorted(good_attributes(ayse(), DIGEST).values(), reverse=True)
    cms = signed_data([signer_info(ayse(), unsorted, sort=False)], [ayse().certificate])
    assert outcome(cms) is SubIndication.FORMAT_FAILURE
    assert outcome(cms, rules=CmsRules(attributes_in_order=False)) is None


def ess_variant(name):
    foreign = mehmet().x509.issuer.public_bytes()
    v1 = "1.2.840.113549.1.9.16.2.12"
    return {
        "issuer and serial": lambda: ess(ess_entry(own_hash(), issuer_serial=issuer_serial())),
        "sha256 spelled out": lambda: ess(ess_entry(own_hash(), algorithm=SHA["sha256"])),
        "sha384": lambda: ess(ess_entry(own_hash("sha384"), algorithm=SHA["sha384"])),
        "other hash": lambda: ess(ess_entry(bytes(32))),
        "sha1": lambda: ess(ess_entry(own_hash("sha1"), algorithm=SHA["sha1"])),
        "other serial": lambda: ess(ess_entry(own_hash(), issuer_serial=issuer_serial(serial=7))),
        "other issuer": lambda: ess(ess_entry(own_hash(), issuer_serial=issuer_serial(issuer=foreign))),
        "empty": ess,
        "version 1": lambda: attribute(v1, der.seq(der.seq(ess_entry(own_hash("sha1"))))),
    }[name]()


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("issuer and serial", None),
        ("sha256 spelled out", None),
        ("sha384", None),
        ("other hash", SubIndication.NO_SIGNING_CERTIFICATE_FOUND),
        ("sha1", SubIndication.SIG_CONSTRAINTS_FAILURE),
        ("other serial", SubIndication.NO_SIGNING_CERTIFICATE_FOUND),
        ("other issuer", SubIndication.NO_SIGNING_CERTIFICATE_FOUND),
        ("empty", SubIndication.FORMAT_FAILURE),
        ("version 1", SubIndication.SIG_CONSTRAINTS_FAILURE),
    ],
)
def test_signing_certificate_v2_must_name_the_certificate_used(variant, expected):
    assert outcome(built(ess=ess_variant(variant))) is expected


def test_a_certificate_that_is_not_embedded_is_not_found():
    assert outcome(built(certificates=[])) is SubIndication.NO_SIGNING_CERTIFICATE_FOUND
    assert outcome(built(certificates=[mehmet().certificate])) is SubIndication.NO_SIGNING_CERTIFICATE_FOUND


def test_a_swapped_certificate_with_the_same_names_is_not_the_signer():
    twin = shared_pki().issue_user("Ayşe Yılmaz", AYSE_TCKN)
    assert outcome(built(certificates=[twin.certificate])) is SubIndication.NO_SIGNING_CERTIFICATE_FOUND


def test_a_signature_by_another_key_fails():
    foreign = {"sign": lambda data: raw_sign(mehmet(), sha256(data).digest())}
    assert outcome(built(info=foreign)) is SubIndication.SIG_CRYPTO_FAILURE


def test_attributes_are_hashed_as_received_with_the_set_tag():
    with_a0 = {"sign": lambda data: raw_sign(ayse(), sha256(b"\xa0" + data[1:]).digest())}
    assert outcome(built(info=with_a0)) is SubIndication.SIG_CRYPTO_FAILURE


OID = {
    "ecdsa-sha256": der.seq(der.oid("1.2.840.10045.4.3.2")),
    "ecdsa-sha384": der.seq(der.oid("1.2.840.10045.4.3.3")),
    "rsa-sha256": der.seq(der.oid("1.2.840.113549.1.1.11"), der.NULL_DER),
    "rsa": der.seq(der.oid("1.2.840.113549.1.1.1"), der.NULL_DER),
    "ed25519": der.seq(der.oid("1.3.101.112")),
}


def test_a_hash_that_contradicts_the_digest_algorithm_is_an_error():
    assert (
        outcome(built(info={"signature_algorithm": OID["ecdsa-sha384"]})) is SubIndication.SIG_CRYPTO_FAILURE
    )


def test_the_key_type_decides_over_a_contradicting_family_unless_switched_off():
    cms = built(info={"signature_algorithm": OID["rsa-sha256"]})
    assert outcome(cms) is None
    assert outcome(cms, rules=CmsRules(key_type_decides=False)) is SubIndication.SIG_CRYPTO_FAILURE


def test_an_unknown_signature_algorithm_is_a_crypto_constraint():
    assert (
        outcome(built(info={"signature_algorithm": OID["ed25519"]}))
        is SubIndication.CRYPTO_CONSTRAINTS_FAILURE
    )


def rsa_built(algorithm, *, pss):
    issued = shared_pki().issue_user("Can", AYSE_TCKN, key="rsa2048")
    info = signer_info(
        issued,
        list(good_attributes(issued, DIGEST).values()),
        signature_algorithm=algorithm,
        sign=lambda data: raw_sign(issued, sha256(data).digest(), pss=pss),
    )
    return signed_data([info], [issued.certificate])


def pss_parameters(digest="sha256", mask="sha256", salt=32):
    mgf = der.seq(der.oid("1.2.840.113549.1.1.8"), SHA[mask])
    fields = der.explicit(0, SHA[digest]), der.explicit(1, mgf), der.explicit(2, der.integer(salt))
    return der.seq(der.oid("1.2.840.113549.1.1.10"), der.seq(*fields))


def test_plain_rsa_encryption_takes_the_hash_of_the_digest_algorithm():
    assert outcome(rsa_built(OID["rsa"], pss=False)) is None


def test_good_pss_parameters_pass_and_each_odd_one_fails():
    assert outcome(rsa_built(pss_parameters(), pss=True)) is None
    for odd in ({"mask": "sha1"}, {"salt": 20}, {"digest": "sha384", "mask": "sha384", "salt": 48}):
        assert outcome(rsa_built(pss_parameters(**odd), pss=True)) is not None
    assert outcome(rsa_built(der.seq(der.oid("1.2.840.113549.1.1.10")), pss=True)) is not None


def test_pkcs1_and_pss_are_not_mixed_up():
    assert outcome(rsa_built(pss_parameters(), pss=False)) is SubIndication.SIG_CRYPTO_FAILURE
    assert outcome(rsa_built(OID["rsa-sha256"], pss=True)) is SubIndication.SIG_CRYPTO_FAILURE


def test_sha384_signatures_verify():
    content_digest = new_hash("sha384", CONTENT).digest()
    issued = shared_pki().issue_user("Can", AYSE_TCKN, key="p384")
    info = signer_info(
        issued,
        list(good_attributes(issued, content_digest).values()),
        digest_algorithm=SHA["sha384"],
        signature_algorithm=OID["ecdsa-sha384"],
        sign=lambda data: issued.key.sign(data, ec.ECDSA(hashes.SHA384())),
    )
    cms = signed_data([info], [issued.certificate]).replace(
        der.set_of((SHA["sha256"],)), der.set_of((SHA["sha384"],)), 1
    )
    assert outcome(cms) is None


def test_a_digest_algorithm_that_is_not_listed_outside_is_refused():
    cms = built().replace(der.set_of((SHA["sha256"],)), der.set_of((SHA["sha384"],)), 1)
    assert outcome(cms) is SubIndication.FORMAT_FAILURE


def test_more_than_eight_signers_or_64_certificates_are_refused():
    info = signer_info(ayse(), list(good_attributes(ayse(), DIGEST).values()))
    assert outcome(signed_data([info] * 8, [ayse().certificate])) is None
    with pytest.raises(DerError, match="more than 8"):
        parse_signed_data(signed_data([info] * 9, [ayse().certificate]))
    with pytest.raises(DerError, match="more than 64"):
        parse_signed_data(signed_data([info], [ayse().certificate] * 65))


def test_only_sha256_content_digests_are_signed():
    with pytest.raises(ValueError, match="SHA-256"):
        CmsSigner(ayse().certificate).to_be_signed(bytes(20), NOW)


@pytest.mark.parametrize(
    "foreign",
    [b"\x30\x32" + b"\x01" * 50, b"\x30\x00", b"\x30\x03\x02\x01\x05"],
    ids=["junk", "empty", "integer"],
)
def test_what_stands_among_the_certificates_is_a_certificate_by_its_form(foreign: bytes):
    """Openssl cannot read a SignedData with anything else: nobody outside could verify the signature."""
    whole = emitted(ayse())
    certificates = parse_signed_data(whole).certificates
    old = b"".join(certificates)
    assert whole.count(old) == 1
    holder = der.children(der.parse(whole, max_size=len(whole)))[1]
    content = der.inside(holder)
    parts = [
        build.tlv(0xA0, old + foreign) if part.tag == 0xA0 else part.whole for part in der.children(content)
    ]
    oid = der.children(der.parse(whole, max_size=len(whole)))[0].whole
    spoiled = build.tlv(0x30, oid, build.tlv(0xA0, build.tlv(0x30, *parts)))
    with pytest.raises(DerError):
        parse_signed_data(spoiled)


@pytest.mark.parametrize("size", [0, 1, 100, 400, 600, 5000])
def test_a_content_is_found_where_it_lies_whatever_its_length(size):
    signer, content = CmsSigner(ayse().certificate, ayse().chain), bytes([size % 251]) * size
    draft = signer.to_be_signed(sha256(content).digest(), NOW)
    cms = signer.assemble(draft, raw_sign(ayse(), draft.digest), content=content)
    for _ in range(2):  # the second time the begin comes from a memo
        assert parse_signed_data(cms).content == content
    assert outcome(cms, content=content) is None
