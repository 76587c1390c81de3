"""Mutated sender signatures of every kind: never an exception, never PASSED where a covered byte changed.

Covered are the content, every field of the SignerInfo up to the signature value, and the signer's certificate.
What stands beside them unsigned may be changed by anyone: there only "never an exception" is promised, but for
time stamps, whose change must never give an earlier time.
"""

from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evidence.asn1 import der
from evidence.cms.signed_data import SIGNATURE_TIME_STAMP, parse_signed_data
from evidence.nes.embedded import (
    CERTIFICATE_REFS,
    CERTIFICATE_VALUES,
    REVOCATION_REFS,
    REVOCATION_VALUES,
    certificate_refs,
    certificate_values,
    revocation_refs,
    revocation_values,
)
from evidence.nes.profiles import PROFILES, read_claim
from evidence.nes.sentences import SENTENCES
from evidence.nes.signature_stamps import ARCHIVE_V3
from evidence.nes.verifier import Moment, conclude, prepare_signature
from evidence.ports import BytesSource
from evidence.report import Verdict
from tests.fuzz.test_cms_fuzz import TREES
from tests.support.nes_zoo import Plan, SignerPlan, make
from tests.support.nes_zoo_twins import TWINS, one

PLANS = {
    "bes": Plan(),
    "opaque": Plan(form="opaque"),
    "stamped": TWINS["P2"],
    "long": TWINS["P4"],
    "archived": TWINS["A"],
    "later": TWINS["later-stamped"],
    "nested": TWINS["nested"],
    "everything": Plan(signers=(*one("P4", archive="v3", counters=(SignerPlan(),)), SignerPlan(level="P3"))),
}
NAMES = st.sampled_from(sorted(PLANS))
POSITIONS = st.integers(0, 200_000)


@cache
def specimen(name):
    """Return the made signature and the answers its network gives."""
    made = make(PLANS[name])
    prepared = made.prepared_file()
    return made, made.answers(prepared)


def judged(name, cms, content=None):
    made, answers = specimen(name)
    plan = made.plan
    source = BytesSource(content if content is not None else made.shop.content)
    detached = plan.form == "detached"
    options = {"moment": Moment.LATER} if plan.later else {}
    prepared = prepare_signature(
        cms, source if detached else None, trust=made.trust, policy=made.policy, at=made.at, **options
    )
    report = conclude(prepared, answers, made.at)
    for step in report.steps:
        assert step.ok is True or step.code in SENTENCES, step
    return report


@cache
def covered(name):
    """Return the positions of covered octets of the DER."""
    cms = specimen(name)[0].shop.cms
    signed = parse_signed_data(cms, max_size=1 << 24)
    found = []
    for signer in signed.signers:
        found += range(signer.fields.body, signer.fields.end)
    if signed.content_span is not None:
        found += range(*signed.content_span)
    report = judged(name, cms)
    for signer in report.signers:
        start = cms.index(signer.certificate)
        found += range(start, start + len(signer.certificate))
    return found


@pytest.mark.parametrize("name", sorted(PLANS))
def test_every_kind_passes_before_it_is_changed(name):
    assert judged(name, specimen(name)[0].shop.cms).verdict is Verdict.PASSED


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(name=NAMES, position=POSITIONS, cut=st.integers(0, 6), junk=st.binary(max_size=6))
def test_no_damage_anywhere_makes_an_exception(name, position, cut, junk):
    cms = specimen(name)[0].shop.cms
    at = position % (len(cms) + 1)
    judged(name, cms[:at] + junk + cms[at + cut :])


@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(name=NAMES, position=POSITIONS, flip=st.integers(1, 255))
def test_no_change_of_a_covered_octet_passes(name, position, flip):
    places = covered(name)
    changed = bytearray(specimen(name)[0].shop.cms)
    changed[places[position % len(places)]] ^= flip
    assert judged(name, bytes(changed)).verdict is not Verdict.PASSED


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(name=NAMES.filter(lambda name: name != "opaque"), position=POSITIONS, flip=st.integers(1, 255))
def test_no_change_of_the_detached_content_passes(name, position, flip):
    made = specimen(name)[0]
    changed = bytearray(made.shop.content)
    changed[position % len(changed)] ^= flip
    assert judged(name, made.shop.cms, bytes(changed)).verdict is not Verdict.PASSED


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    name=st.sampled_from(["stamped", "archived", "later"]),
    kind=st.sampled_from([SIGNATURE_TIME_STAMP, ARCHIVE_V3]),
    position=POSITIONS,
    flip=st.integers(1, 255),
)
def test_no_change_of_a_time_stamp_gives_an_earlier_time(name, kind, position, flip):
    cms = specimen(name)[0].shop.cms
    best = judged(name, cms).best_time
    (signer,) = parse_signed_data(cms, max_size=1 << 24).signers
    values = signer.unsigned_values(kind) or signer.unsigned_values(SIGNATURE_TIME_STAMP)
    changed = bytearray(cms)
    changed[values[0].start + position % (values[0].end - values[0].start)] ^= flip
    report = judged(name, bytes(changed))
    assert report.best_time is None or report.best_time >= best


READERS = {
    CERTIFICATE_REFS: certificate_refs,
    REVOCATION_REFS: revocation_refs,
    CERTIFICATE_VALUES: certificate_values,
    REVOCATION_VALUES: revocation_values,
}


@settings(max_examples=300)
@given(tree=TREES)
def test_readers_of_attributes_raise_their_own_error_only(tree):
    node = der.parse(der.seq(tree), max_size=1 << 20)
    for reader in READERS.values():
        try:
            reader(node)
        except der.DerError:
            continue
    assert read_claim(node, PROFILES).row is None


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(kind=st.sampled_from(sorted([*READERS, SIGNATURE_TIME_STAMP, ARCHIVE_V3])), tree=TREES)
def test_any_value_of_an_unsigned_attribute_is_judged_without_exception(kind, tree):
    made, _ = specimen("bes")
    attribute = der.seq(der.oid(kind), der.set_of([tree]))
    report = judged("bes", with_unsigned(made.shop.cms, attribute))
    if kind in {SIGNATURE_TIME_STAMP, ARCHIVE_V3}:
        assert report.verdict is not Verdict.PASSED  # the others may be empty lists, which is no lie
    assert report.best_time is None


def with_unsigned(cms, *attributes):
    """Return a one-signer signature with these unsigned attributes."""
    kind, holder = der.children(der.parse(cms, max_size=1 << 24))
    members = der.children(der.inside(holder))
    signer = der.inside(members[-1])
    fields = der.children(signer)
    made = der.seq(*(node.whole for node in fields), der.tlv(0xA1, *attributes))
    data = der.seq(*(node.whole for node in members[:-1]), der.set_of([made]))
    return der.seq(kind.whole, der.explicit(0, data))
