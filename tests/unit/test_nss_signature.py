"""A signature as Thunderbird's library makes it is no CAdES signature: BER, and no signing-certificate-v2.

docs/thunderbird.md rests on this. The vectors' generator lies beside them (``tests/vectors/nss/sign.c``).
"""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from evidence.cms.signed_data import DEFAULT_RULES, MAIL_PROGRAM_RULES, CmsRules
from evidence.nes.policy import NesPolicy
from evidence.nes.verifier import prepare_signature
from evidence.ports import BytesSource
from evidence.report import Step
from tests.support.signers import ENTITY, shared_trust

VECTORS = Path(__file__).parents[1] / "vectors" / "nss"
AT = datetime(2026, 11, 22, 12, tzinfo=UTC)


def steps(name: str, rules: CmsRules, content: bytes = ENTITY) -> tuple[Step, ...]:
    policy = NesPolicy(cms=rules)
    signature = (VECTORS / name).read_bytes()
    return prepare_signature(
        signature, BytesSource(content), trust=shared_trust(), policy=policy, at=AT
    ).steps


def failing(name: str, rules: CmsRules = DEFAULT_RULES) -> list[str]:
    return [step.number for step in steps(name, rules) if step.ok is False]


@pytest.mark.parametrize(
    ("name", "step"), [("p256.p7s", "2"), ("p256-der.p7s", "3.1.3")], ids=["BER", "as DER"]
)
def test_what_thunderbirds_library_signs_is_refused_for_two_reasons(name: str, step: str):
    assert failing(name)[0] == step


@pytest.mark.parametrize("name", ["p256.p7s", "p256-der.p7s"], ids=["BER", "as DER"])
def test_where_the_provider_takes_what_mail_programs_sign_the_missing_name_is_noted(name: str):
    found = {step.number: step for step in steps(name, MAIL_PROGRAM_RULES)}
    assert found["2"].ok
    assert found["3.1.4"].ok
    assert found["3.1.3"].ok is None
    assert found["3.1.3"].code == "ess-absent"


def test_the_switch_forgives_no_changed_content():
    changed = steps("p256.p7s", MAIL_PROGRAM_RULES, ENTITY.replace(b"e", b"E", 1))
    assert next(step.number for step in changed if step.ok is False) == "3.1.2"


@pytest.mark.parametrize(
    ("rules", "step"),
    [(CmsRules(definite_frame=False), "3.1.3"), (CmsRules(certificate_bound=False), "2")],
    ids=["frame", "name"],
)
def test_each_half_of_the_switch_forgives_its_own_half_only(rules: CmsRules, step: str):
    assert failing("p256.p7s", rules)[0] == step
