"""The negative matrix: each case differs from a passing twin in one thing, and one step says which.

The cases are data in `tests.support.nes_zoo_cases`; how to add one stands in docs/nes-verification.md.
"""

from dataclasses import fields
from functools import cache

import pytest

from evidence.nes.sentences import sentence
from evidence.report import Step, Verdict
from tests.support.nes_zoo import Plan, make
from tests.support.nes_zoo_cases import CASES, TWINS
from tests.support.nes_zoo_spoils import SPOILS
from tests.support.nes_zoo_valid import VALID
from tests.support.nes_zoo_variants import VARIANTS


@cache
def twin_report(name: str):
    return make(TWINS[name]).judge()


def twin_name(plan: Plan) -> str:
    return next(name for name, twin in TWINS.items() if twin is plan)


def under(number: str, step: str) -> bool:
    """Say whether a step is the expected one or a part of it (a counter-signature has steps of its own)."""
    return number == step or number.startswith(f"{step}.")


@pytest.mark.parametrize("name", CASES)
def test_one_thing_wrong_is_found_by_its_step(name):
    case = CASES[name]
    twin = twin_report(twin_name(case.twin))
    assert twin.verdict is Verdict.PASSED, (twin.sub_indication, twin.report.failing_step)
    specimen = make(case.plan)
    report = specimen.judge()
    failing = report.report.failing_step
    assert failing is not None, "it passed"
    assert (failing.sub_indication, report.verdict) == (case.sub, case.verdict), failing
    assert report.sub_indication is case.sub
    assert under(failing.number, case.row.step), failing
    assert specimen.shop.spoiled is bool(case.plan.spoil)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.row.step != "1"])
def test_the_bare_signature_file_fails_by_the_same_step(name):
    specimen = make(CASES[name].plan)
    message, file = specimen.judge(), specimen.judge_file()
    assert file.verdict is message.verdict
    assert file.report.failing_step == message.report.failing_step


def test_every_finding_is_told_in_both_languages():
    general = {sentence(Step("1", "x", ok=False)), sentence(Step("1", "x", ok=None))}
    for case in CASES.values():
        failing = make(case.plan).judge().report.failing_step
        assert failing is not None, case.name
        assert failing.code, (case.name, failing)
        turkish, english = sentence(failing)
        assert (turkish, english) not in general, (case.name, failing.code)
        assert turkish != english


@pytest.mark.parametrize("name", TWINS)
def test_every_twin_passes(name):
    report = twin_report(name)
    assert report.verdict is Verdict.PASSED, report.report.failing_step


def test_a_case_differs_from_its_twin_in_one_field_of_its_plan():
    for case in CASES.values():
        different = [f.name for f in fields(Plan) if getattr(case.plan, f.name) != getattr(case.twin, f.name)]
        assert len(different) == 1, case.name
        if different == ["signers"]:
            (mine,), (other,) = case.plan.signers, case.twin.signers
            changed = [f.name for f in fields(mine) if getattr(mine, f.name) != getattr(other, f.name)]
            assert len(changed) == 1, case.name


def test_every_spoil_is_used_and_there_are_enough_cases():
    used = {case.row.spoil for case in CASES.values()} | {plan.spoil for plan in VALID.values()}
    used |= {twin.spoil for twin in TWINS.values()}
    assert used - {""} == {*SPOILS, *VARIANTS}
    assert len({case.row.rule for case in CASES.values()}) >= 80
