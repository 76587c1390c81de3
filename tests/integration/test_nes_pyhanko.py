"""pyHanko judges the zoo: it agrees on every case but those that docs/nes-verification.md lists with a clause."""

import re
from pathlib import Path

import pytest

from tests.support.nes_zoo import make
from tests.support.nes_zoo_cases import CASES
from tests.support.nes_zoo_pyhanko import ACCEPTS, REFUSES, opinion, why_not
from tests.support.nes_zoo_valid import VALID

DOCUMENT = Path(__file__).parents[2] / "docs" / "nes-verification.md"
JUDGED = [name for name, case in CASES.items() if why_not(case.plan, case) is None]
JUDGED_VALID = [name for name, plan in VALID.items() if why_not(plan) is None]


def rule_of(name: str) -> str:
    return name.partition("[")[0]


def listed(word: str) -> set[str]:
    """Return the cases of the document's table where pyHanko says this word and we say the other."""
    rows = re.findall(rf"^\| {word} \| (.*?) \| .+ \|$", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert len(names) == len(set(names)), "a case is listed twice"
    return set(names)


WE_REFUSE, WE_ACCEPT = listed(ACCEPTS), listed(REFUSES)


@pytest.mark.parametrize("name", JUDGED)
async def test_pyhanko_refuses_what_we_refuse_but_for_the_listed_cases(name):
    said, detail = await opinion(make(CASES[name].plan))
    assert said == (ACCEPTS if rule_of(name) in WE_REFUSE else REFUSES), detail


@pytest.mark.parametrize("name", JUDGED_VALID)
async def test_pyhanko_accepts_what_we_accept_but_for_the_listed_variants(name):
    said, detail = await opinion(make(VALID[name]))
    assert said == (REFUSES if name in WE_ACCEPT else ACCEPTS), detail


def test_the_table_names_cases_that_are_judged():
    assert set(map(rule_of, JUDGED)) >= WE_REFUSE
    assert set(JUDGED_VALID) >= WE_ACCEPT


def test_it_is_asked_about_enough_and_agrees_on_enough():
    agreed = [name for name in JUDGED if rule_of(name) not in WE_REFUSE]
    assert len(JUDGED) >= 150
    assert len(agreed) >= 80
    assert len(JUDGED_VALID) >= 40
