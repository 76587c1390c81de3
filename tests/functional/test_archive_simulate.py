"""Twenty years of an archive in CI: everything sampled holds at the end, every broken twin fails."""

import asyncio
import json
from functools import cache

import pytest
from click.testing import CliRunner

from evidence.report import Verdict
from kephs.cli.archive.simulate import command
from kephs.simulation.report import SimulationReport, simulate

pytestmark = pytest.mark.slow

EVIDENCES, SAMPLES, BUNDLES = 204, 24, 6


@cache
def report() -> SimulationReport:
    return asyncio.run(simulate(20, EVIDENCES, samples=SAMPLES, bundles=BUNDLES))


def happenings() -> list[str]:
    return [words for year in report().years for words in year.happenings]


def test_after_twenty_years_all_sampled_evidence_and_bundles_hold():
    found = report().judgement
    assert found.problems == ()
    assert (found.passed, found.bundles_passed) == (found.sampled, found.bundles) == (SAMPLES, BUNDLES)
    assert report().evidences == EVIDENCES
    assert report().passed


def test_every_broken_twin_fails_for_its_own_reason():
    causes = {twin.english: (twin.verdict, twin.cause) for twin in report().judgement.twins}
    wanted = {
        "no round in the last years": (Verdict.INDETERMINATE, "OUT_OF_BOUNDS_NO_POE"),
        "never renewed": (Verdict.INDETERMINATE, "sha256 is not allowed"),
        "one round in between left out": (Verdict.FAILED, "HASH_FAILURE"),
        "the record of another evidence": (Verdict.FAILED, "HASH_FAILURE"),
        "one letter of the evidence changed": (Verdict.FAILED, "HASH_FAILURE"),
        "renewed every year, but never under SHA-512": (Verdict.INDETERMINATE, "sha256 is not allowed"),
        "stamped after the authority was revoked": (Verdict.FAILED, "was revoked before it stamped"),
    }
    for english, (verdict, cause) in wanted.items():
        assert causes[english][0] is verdict, english
        assert cause in causes[english][1], english
    assert set(causes) == {*wanted, "one bit of the record changed"}


def test_everything_that_was_to_happen_did():
    told = "\n".join(happenings())
    for words in (
        "certificate ends", "time-stamping certificate revoked", "certificate revoked, sha256",
        "transaction certificate revoked", "SHA-256 is announced to end", "hash retired, sha512",
        "every evidence in a new chain", "object store lost", "1 damaged object found",
        "generation 3 of root",
    ):  # fmt: skip
        assert words in told, words
    assert report().corrupted == 1
    assert report().restored > 150


def test_a_round_costs_one_token_whatever_it_covers():
    years = report().years
    assert report().rounds == sum(year.rounds for year in years)
    assert 20 <= report().rounds <= 26
    covered = sum(year.leaves for year in years)
    assert covered < 2.2 * EVIDENCES  # each evidence once under SHA-256, once under SHA-512


def test_no_year_passes_without_a_round_after_the_first():
    assert all(year.rounds for year in report().years[1:])


def test_the_report_shows_figures_with_their_formulas_in_both_languages():
    text = "\n".join(report().lines())
    assert "12,000,000,000" in text
    assert "kâğıt" in text.lower()
    assert "on paper" in text
    assert text.count("      = ") == len(report().measured) + len(report().paper)
    assert all(one.value > 0 for one in (*report().measured, *report().paper))
    assert text.endswith("Sonuç / result: BAŞARILI / PASSED")


def test_the_command_prints_json_and_says_by_its_status_whether_all_holds():
    done = CliRunner().invoke(command, ["--years", "2", "--evidences", "12", "--samples", "5", "--json"])
    found = json.loads(done.output)
    assert done.exit_code == 0
    assert found["passed"]
    assert len(found["years"]) == 2
    assert found["judgement"]["sampled"] == 5
