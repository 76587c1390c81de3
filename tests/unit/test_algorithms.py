"""The algorithm table is data with dates; nothing outside it counts."""

from datetime import UTC, datetime, timedelta
from hashlib import new as new_hash

import pytest

from evidence.asn1 import der
from evidence.nes.verifier import NesPolicy
from evidence.report import SubIndication, Verdict
from evidence.x509.algorithms import (
    DEFAULT_ALGORITHMS,
    AlgorithmPolicy,
    Family,
    HashRule,
    KeyRule,
    Role,
    SignatureAlgorithm,
)
from evidence.x509.certificates import certificate_facts
from evidence.x509.chain import Chain, ChainFailure, TrustStore, build_chain
from tests.support.pki import NOW, ayse, shared_pki
from tests.support.signers import (
    ENTITY,
    detached_around,
    good_attributes,
    signed_data,
    signed_message,
    signer_info,
    verified,
)

END = datetime(2028, 1, 1, tzinfo=UTC)


def refused(role, family, bits, hash_name="sha256", policy=DEFAULT_ALGORITHMS, at=NOW):
    return policy.refusal(role, SignatureAlgorithm(family, hash_name), hash_name, bits, at) is not None


@pytest.mark.parametrize(
    ("role", "family", "least"),
    [
        (Role.SIGNER, Family.RSA, 2048),
        (Role.SIGNER, Family.RSA_PSS, 2048),
        (Role.SIGNER, Family.DSA, 3072),
        (Role.SIGNER, Family.ECDSA, 256),
        (Role.AUTHORITY, Family.RSA_PSS, 4096),
        (Role.AUTHORITY, Family.ECDSA, 256),
    ],
)
def test_the_least_sizes_of_the_communique_hold(role, family, least):
    assert not refused(role, family, least)
    assert refused(role, family, least - 1)


def test_an_authority_signs_with_pss_only():
    assert refused(Role.AUTHORITY, Family.RSA, 8192)


@pytest.mark.parametrize("name", ["sha1", "sha224", "md5"])
def test_weak_hashes_are_refused(name):
    assert refused(Role.SIGNER, Family.ECDSA, 256, name)


def test_past_its_date_a_row_warns_and_refuses_where_enforced():
    late = END + timedelta(days=1)
    assert DEFAULT_ALGORITHMS.lapsed(late)
    assert not DEFAULT_ALGORITHMS.lapsed(NOW)
    assert not refused(Role.SIGNER, Family.ECDSA, 256, at=late)
    assert refused(Role.SIGNER, Family.ECDSA, 256, policy=AlgorithmPolicy(enforce_end=True), at=late)
    assert not AlgorithmPolicy(keys=(), hashes=()).lapsed(late)


def test_the_report_carries_the_warning_after_the_date():
    at = END + timedelta(days=1)
    step = next(s for s in verified(signed_message(ayse(), at=at), at=at).steps if s.number == "3.1.5")
    assert (step.ok, step.detail) == (None, "the algorithm table is past its date")
    assert verified(signed_message(ayse(), at=at), at=at).verdict is Verdict.PASSED
    strict = NesPolicy(algorithms=AlgorithmPolicy(enforce_end=True))
    report = verified(signed_message(ayse(), at=at), at=at, policy=strict)
    assert report.sub_indication is SubIndication.CRYPTO_CONSTRAINTS_FAILURE


def test_a_configured_row_narrows_what_a_chain_may_use():
    only_pss = AlgorithmPolicy(
        keys=(KeyRule(Role.AUTHORITY, Family.RSA_PSS, 4096, None),), hashes=(HashRule("sha256", None),)
    )
    trust = TrustStore([shared_pki().root], intermediates=shared_pki().intermediates, algorithms=only_pss)
    found = build_chain(certificate_facts(ayse().certificate), (), trust, NOW)
    assert isinstance(found, ChainFailure)
    assert found.sub_indication is SubIndication.CRYPTO_CONSTRAINTS_FAILURE


def test_dated_rows_are_looked_at_each_time_where_they_are_enforced():
    policy = AlgorithmPolicy(enforce_end=True)
    trust = TrustStore([shared_pki().root], intermediates=shared_pki().intermediates, algorithms=policy)
    leaf = certificate_facts(ayse().certificate)
    assert isinstance(build_chain(leaf, (), trust, NOW), Chain)
    assert isinstance(build_chain(leaf, (), trust, END), ChainFailure)


@pytest.mark.parametrize(
    ("dotted", "name"), [("1.3.14.3.2.26", "sha1"), ("2.16.840.1.101.3.4.2.4", "sha224")]
)
def test_a_message_digest_by_a_weak_hash_is_a_crypto_constraint(dotted, name):
    algorithm = der.seq(der.oid(dotted))
    attributes = list(good_attributes(ayse(), new_hash(name, ENTITY).digest()).values())
    info = signer_info(ayse(), attributes, digest_algorithm=algorithm)
    cms = signed_data([info], [ayse().certificate], digest_algorithm=algorithm)
    steps = {step.number: step for step in verified(detached_around(cms)).steps}
    assert steps["3.1.5"].sub_indication is SubIndication.CRYPTO_CONSTRAINTS_FAILURE
