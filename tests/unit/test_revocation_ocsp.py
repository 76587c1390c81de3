"""An OCSP response is believed from whom the issuer made a responder, on this certificate, for this time."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from evidence.asn1.der import boolean, explicit, implicit, octets, oid, parse, seq
from evidence.x509.certificates import certificate_facts
from evidence.x509.revocation import (
    FreshnessRules,
    ResponderUnknownError,
    RevocationError,
    RevocationStatus,
    check_ocsp,
    parse_ocsp,
    produced_problem,
    revoked_by,
    speaks_about,
)
from kephs.testpki import profiles
from kephs.testpki.issued import Issued
from kephs.testpki.keys import make_key
from tests.support.pki import AYSE_TCKN, NOW, ayse, make_pki, mehmet, shared_pki
from tests.support.revocation_answers import (
    GOOD,
    HOUR,
    UNKNOWN,
    extension,
    facts_of,
    response,
    revoked,
    single,
    time_of,
)
from tests.support.signers import shared_trust

NONCE = b"0123456789abcdef"
NONCE_OID = "1.3.6.1.5.5.7.48.1.2"


def check(der, *, issued=None, at=NOW, **options):
    certificate, issuer = facts_of(issued or ayse())
    return check_ocsp(der, certificate, issuer, at=at, trust=shared_trust(), **options)


def responder(*, ku=True, critical=None, not_after=None, ca="p384", nocheck=True, key="p256"):
    """Return a delegate of one's own with one thing spoiled."""
    pki = shared_pki()
    extensions = [
        (x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.OCSP_SIGNING]), False),
        *([profiles.key_usage(digital_signature=True)] if ku else [profiles.key_usage(authority=True)]),
        *([(x509.OCSPNoCheck(), False)] if nocheck else []),
        *(
            [(x509.UnrecognizedExtension(x509.ObjectIdentifier(critical), b"\x05\x00"), True)]
            if critical
            else []
        ),
    ]
    return pki.issue(
        profiles.name(common_name="TEST kephs OCSP own"), extensions, authority=pki.authorities[ca],
        key=key, not_before=NOW - timedelta(days=9), not_after=not_after,
    )  # fmt: skip


@pytest.mark.parametrize("hash_name", ["sha1", "sha256", "sha384", "sha512"])
def test_the_certificate_is_named_by_any_usual_hash(hash_name):
    found = check(response(single(ayse(), hash_name=hash_name)))
    assert found.status is RevocationStatus.GOOD


@pytest.mark.parametrize("by_name", [False, True], ids=["by-key", "by-name"])
@pytest.mark.parametrize("delegated", [False, True], ids=["issuer", "delegate"])
def test_the_responder_is_named_by_key_or_by_name(by_name, delegated):
    pki = shared_pki()
    signer = pki.responders["p384"] if delegated else pki.authorities["p384"].issued
    found = check(response(single(ayse()), by=signer, by_name=by_name))
    assert (found.responder is not None) is delegated


def test_the_issuer_needs_to_enclose_no_certificate_but_a_delegate_does():
    issuer = shared_pki().authorities["p384"].issued
    assert check(response(single(ayse()), by=issuer, enclosed=())).responder is None
    with pytest.raises(RevocationError, match="missing"):
        check(response(single(ayse()), enclosed=()))


@pytest.mark.parametrize(
    "part",
    [
        {"serial": 12345},
        {"name_of": b"another name"},
        {"key_of": b"another key"},
        {"hash_name": "md5"},
    ],
    ids=["serial", "issuer-name", "issuer-key", "unknown-hash"],
)
def test_each_part_of_the_certificate_id_must_match(part):
    with pytest.raises(RevocationError, match="another certificate"):
        check(response(single(ayse(), **part)))


def test_the_right_one_of_several_answers_is_found():
    other = shared_pki().issue_user("Can", AYSE_TCKN)
    found = check(response(single(other, revoked(NOW)), single(mehmet(), UNKNOWN), single(ayse())))
    assert found.status is RevocationStatus.GOOD
    assert check(response(single(other, revoked(NOW)), single(ayse())), issued=other).revoked_at == NOW


def test_revoked_goes_before_good_where_a_response_says_both():
    for order in ((GOOD, revoked(NOW)), (revoked(NOW), GOOD)):
        found = check(response(*(single(ayse(), status) for status in order)))
        assert found.status is RevocationStatus.REVOKED


def test_of_two_answers_the_one_whose_window_covers_the_time_counts():
    stale = single(ayse(), revoked(NOW), this=NOW - 3 * HOUR, until=NOW - 2 * HOUR)
    assert check(response(stale, single(ayse()))).status is RevocationStatus.GOOD


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda: {"ku": False}, "may not sign"),
        (lambda: {"critical": "1.2.3.4"}, "not valid"),
        (lambda: {"not_after": NOW - timedelta(days=1)}, "not valid"),
        (lambda: {"ca": "pss"}, "not issued by"),
    ],
    ids=["key-usage", "critical-extension", "expired", "other-authority"],
)
def test_a_delegate_with_one_thing_wrong_is_refused(made, why):
    with pytest.raises(RevocationError, match=why):
        check(response(single(ayse()), by=responder(**made())))


def test_the_delegate_is_good_before_it_is_spoiled():
    assert check(response(single(ayse()), by=responder())).status is RevocationStatus.GOOD


def test_a_delegate_without_nocheck_counts_when_its_issuer_vouches_for_it():
    own = responder(nocheck=False)
    der = response(single(ayse()), by=own)
    with pytest.raises(ResponderUnknownError) as caught:
        check(der)
    assert caught.value.responder == certificate_facts(own.certificate)
    assert check(der, responder_good=caught.value.responder.__eq__).status is RevocationStatus.GOOD
    with pytest.raises(ResponderUnknownError):
        check(der, responder_good=lambda _: False)


def test_nobody_is_asked_about_a_delegate_that_did_not_sign():
    own, asked = responder(nocheck=False), []
    der = response(single(ayse()), by=responder(), enclosed=(own.certificate,))
    with pytest.raises(RevocationError, match="missing"):
        check(der, responder_good=asked.append)
    assert asked == []


def test_one_key_with_certificates_of_two_authorities_counts_by_the_right_one():
    """A provider may use one responder key for all its authorities; both certificates may be enclosed."""
    right = responder()
    pki = shared_pki()
    wrong = pki.issue(
        profiles.name(common_name="TEST kephs OCSP own"),
        [(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.OCSP_SIGNING]), False), (x509.OCSPNoCheck(), False)],
        authority=pki.authorities["pss"], key=right.key,
    )  # fmt: skip
    for order in ((right, wrong), (wrong, right)):
        enclosed = tuple(one.certificate for one in order)
        assert check(response(single(ayse()), by=right, enclosed=enclosed)).responder == right.certificate


def same_key_under(authority, key):
    """Return a responder certificate for a key from another authority."""
    pki = shared_pki()
    return pki.issue(
        profiles.name(common_name="TEST kephs OCSP own"), profiles.responder_extensions(),
        authority=pki.authorities[authority], key=key,
    ).certificate  # fmt: skip


def test_that_only_the_status_is_missing_is_told_whatever_else_is_enclosed():
    """The client looks the responder up then: it must learn which one."""
    own = responder(nocheck=False)
    wrong = same_key_under("root", own.key)
    for enclosed in ((own.certificate, wrong), (wrong, own.certificate)):
        with pytest.raises(ResponderUnknownError):
            check(response(single(ayse()), by=own, enclosed=enclosed))


def test_four_certificates_of_the_responders_name_are_tried_at_most():
    own = responder()
    wrong = same_key_under("root", own.key)
    assert check(response(single(ayse()), by=own, enclosed=[wrong] * 3 + [own.certificate])) is not None
    with pytest.raises(RevocationError, match="not issued by"):
        check(response(single(ayse()), by=own, enclosed=[wrong] * 4 + [own.certificate]))


def test_a_delegate_of_an_authority_with_the_same_key_and_another_name_is_refused():
    authority, key = shared_pki().authorities["p384"].issued, make_key("p256")
    renamed = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "TEST renamed CA")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(profiles.name(common_name="TEST kephs OCSP own"))
        .issuer_name(renamed).public_key(key.public_key()).serial_number(7)
        .not_valid_before(NOW - HOUR).not_valid_after(NOW + HOUR)
    )  # fmt: skip
    for extension_, critical in profiles.responder_extensions():
        builder = builder.add_extension(extension_, critical)
    der = builder.sign(authority.key, hashes.SHA384()).public_bytes(Encoding.DER)
    with pytest.raises(RevocationError, match="not issued by"):
        check(response(single(ayse()), by=Issued(der, key, (authority.certificate,))))


def test_a_signature_by_sha_1_does_not_count():
    with pytest.raises(RevocationError, match="sha1"):
        check(response(single(ayse()), weak=True))


def test_a_response_made_in_the_future_is_refused_although_its_window_is_open():
    assert check(response(single(ayse()), at=NOW + timedelta(minutes=5))) is not None
    with pytest.raises(RevocationError, match="future"):
        check(response(single(ayse()), at=NOW + timedelta(minutes=6)))


@pytest.mark.parametrize(
    "made",
    [
        lambda: seq(parse(single(ayse()), max_size=999).content, octets(b"x")),
        lambda: single(ayse(), explicit(1, time_of(NOW), octets(b"x"))),
    ],
    ids=["single-response", "revoked-info"],
)
def test_members_that_nobody_knows_are_refused(made):
    with pytest.raises(RevocationError, match=r"unexpected|more than"):
        check(response(made()))


def test_a_certificate_nobody_needs_may_be_odd():
    enclosed = (seq(octets(b"no certificate")), shared_pki().responders["p384"].certificate)
    assert check(response(single(ayse()), enclosed=enclosed)).status is RevocationStatus.GOOD


def test_an_authority_with_the_issuers_name_and_another_key_is_not_the_issuer():
    impostor = shared_pki().impostor_of("p384").issued
    for by_name in (True, False):
        with pytest.raises(RevocationError, match=r"verify|missing|not issued|OCSPSigning"):
            check(response(single(ayse()), by=impostor, by_name=by_name))
    other = make_pki().responders["p384"]
    with pytest.raises(RevocationError, match="not issued by"):
        check(response(single(ayse()), by=other))


@pytest.mark.parametrize(
    "text",
    ["20261121090000.5Z", "20261121090000.123456Z", "20261121090000.000Z", "20261121090000.50Z"],
)
def test_fractions_of_a_second_are_read(text):
    found = check(response(single(ayse(), this=text), at=text), at=NOW + timedelta(seconds=1))
    assert found.this_update.replace(microsecond=0) == NOW


@pytest.mark.parametrize(
    "text",
    ["20261121090000.Z", "20261121090000.x0Z", "20261121090000.0", "202611210900Z", "20261121090000+0300"],
)
def test_other_forms_of_time_are_refused(text):
    with pytest.raises(RevocationError):
        check(response(single(ayse(), this=text)))


@pytest.mark.parametrize(
    ("critical", "dotted", "passes"),
    [(True, "1.2.3.4", False), (False, "1.2.3.4", True), (True, "1.3.6.1.5.5.7.48.1.9", True)],
)
def test_a_critical_extension_that_is_not_processed_refuses_the_response(critical, dotted, passes):
    odd = extension(dotted, b"\x05\x00", critical=critical)
    for der in (response(single(ayse()), extensions=odd), response(single(ayse(), extensions=odd))):
        if passes:
            assert check(der).status is RevocationStatus.GOOD
            continue
        with pytest.raises(RevocationError, match="critical"):
            check(der)


def test_an_extension_twice_refuses_the_response():
    twice = extension(NONCE_OID, octets(NONCE)) * 2
    with pytest.raises(RevocationError, match="twice"):
        check(response(single(ayse()), extensions=twice), nonce=NONCE)


@pytest.mark.parametrize(
    ("echoed", "required", "why"),
    [
        (NONCE, True, None),
        (None, False, None),
        (None, True, "without nonce"),
        (b"another nonce...", False, "another one"),
        (NONCE[:8], False, "another one"),
    ],
    ids=["echoed", "absent", "absent-but-required", "another", "shortened"],
)
def test_the_nonce_is_echoed_or_absent_where_that_is_allowed(echoed, required, why):
    inside = extension(NONCE_OID, octets(echoed)) if echoed is not None else b""
    der = response(single(ayse()), extensions=inside)
    rules = FreshnessRules(require_nonce=required)
    if why is None:
        assert check(der, nonce=NONCE, rules=rules).status is RevocationStatus.GOOD
        return
    with pytest.raises(RevocationError, match=why):
        check(der, nonce=NONCE, rules=rules)


def test_on_hold_is_revoked_and_told_to_be_no_more_than_on_hold():
    found = check(response(single(ayse(), revoked(NOW, 6))))
    assert (found.status, found.reason, found.on_hold) == (RevocationStatus.REVOKED, "certificateHold", True)
    assert not check(response(single(ayse(), revoked(NOW, 1)))).on_hold


def test_remove_from_crl_is_no_answer():
    with pytest.raises(RevocationError, match="removeFromCRL"):
        check(response(single(ayse(), revoked(NOW, 8))))


@pytest.mark.parametrize(
    "status",
    [implicit(0, b"\x00"), implicit(2, b"\x00"), implicit(3, b""), explicit(1, boolean(value=True))],
    ids=["good-with-content", "unknown-with-content", "no-such-choice", "revoked-without-time"],
)
def test_a_malformed_status_is_no_answer(status):
    with pytest.raises(RevocationError):
        check(response(single(ayse(), status)))


def test_a_response_larger_than_the_cap_is_not_parsed():
    with pytest.raises(RevocationError, match="larger"):
        parse_ocsp(bytes(1024 * 1024 + 1))


def test_more_answers_or_certificates_than_the_caps_are_refused():
    with pytest.raises(RevocationError, match="more than 64"):
        parse_ocsp(response(*[single(ayse())] * 65))
    with pytest.raises(RevocationError, match="more than 16"):
        parse_ocsp(response(single(ayse()), enclosed=[ayse().certificate] * 17))


# --------------------------------------------------------------------- of which time an answer speaks


def answer(status=GOOD, *, this=NOW, until=NOW + HOUR, cutoff=None, issued=None):
    kept = extension("1.3.6.1.5.5.7.48.1.6", time_of(cutoff)) if cutoff is not None else b""
    who = issued or ayse()
    certificate, issuer = facts_of(who)
    der = response(single(who, status, this=this, until=until, extensions=kept), at=this)
    return parse_ocsp(der).answers(certificate, issuer, trust=shared_trust(), at=NOW)[0]


@pytest.mark.parametrize(
    ("when", "speaks"),
    [
        (NOW - timedelta(days=300), True),
        (NOW, True),
        (NOW + HOUR, True),
        (NOW + HOUR + timedelta(seconds=1), False),
    ],
    ids=["said-later", "current", "last-moment", "before-the-time-asked"],
)
def test_an_answer_speaks_of_its_window_and_of_all_before(when, speaks):
    certificate, _ = facts_of(ayse())
    assert speaks_about(answer(), certificate, when) is speaks
    assert speaks_about(answer(revoked(NOW - HOUR)), certificate, when) is speaks


def test_unknown_speaks_of_no_time():
    certificate, _ = facts_of(ayse())
    assert not speaks_about(answer(UNKNOWN), certificate, NOW)


def test_good_said_after_the_certificates_end_counts_only_with_an_archive_cutoff_before_it():
    end = NOW - timedelta(days=2)
    old = shared_pki().issue_user("Can", AYSE_TCKN, not_before=NOW - timedelta(days=400), not_after=end)
    certificate, _ = facts_of(old)
    earlier = NOW - timedelta(days=30)
    assert not speaks_about(answer(issued=old), certificate, earlier)
    assert speaks_about(answer(issued=old, cutoff=end), certificate, earlier)
    assert not speaks_about(answer(issued=old, cutoff=end + HOUR), certificate, earlier)
    assert speaks_about(answer(revoked(end), issued=old), certificate, earlier)


def test_a_revocation_dated_later_leaves_the_earlier_time_untouched():
    found = answer(revoked(NOW - HOUR))
    assert revoked_by(found, NOW - HOUR)
    assert not revoked_by(found, NOW - HOUR - timedelta(seconds=1))
    assert not revoked_by(answer(), NOW)


def test_an_answer_made_before_the_signature_is_too_early_for_p4():
    assert produced_problem(answer(), NOW) is None
    assert produced_problem(answer(), NOW + timedelta(minutes=5)) is None
    assert produced_problem(answer(), NOW + timedelta(minutes=5, seconds=1)) is not None


@given(data=st.data())
def test_any_order_of_answers_gives_the_same_verdict(data):
    singles = [single(ayse()), single(mehmet(), UNKNOWN), single(ayse(), revoked(NOW - HOUR, 1))]
    found = check(response(*data.draw(st.permutations(singles))))
    assert (found.status, found.revoked_at) == (RevocationStatus.REVOKED, NOW - HOUR)


def test_the_response_type_and_version_are_the_known_ones():
    good = response(single(ayse()))
    with pytest.raises(RevocationError, match="not a basic"):
        parse_ocsp(good.replace(oid("1.3.6.1.5.5.7.48.1.1"), oid("1.3.6.1.5.5.7.48.1.3")))
