"""Run the whole test suite with coverage: most tests on two processes, the fault tests alone.

``CI=true``: the folder ``../shared`` and every Debian program must be there, and nothing may be skipped.
Elsewhere the tests that need an absent one are left out, named in one line. More arguments go to pytest.
"""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import provision

ROOT: Final = Path(__file__).resolve().parent.parent
SHARED: Final = ROOT.parent / "shared"
IN_CI: Final = os.environ.get("CI") == "true"
NO_TESTS: Final = 5  # pytest's exit code when nothing was collected
COUNTS: Final = re.compile(r"(\d+) (passed|failed|skipped|errors?|deselected|xfailed|xpassed|warnings?)")

# Percent of statements and branches, raised as the code grows (aim: domain 100, evidence 95, all 85).
GATES: Final[dict[str, float]] = {"kephs/domain/": 100.0, "evidence/": 95.0, "": 85.0}

FULL: Final = 100.0
WORST: Final = 10  # files named where a gate was missed


@dataclass
class Outcome:
    """What one or more pytest runs came to."""

    exit_code: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    closing: list[str] = field(default_factory=list)

    def add(self, exit_code: int, closing: str) -> None:
        """Take in one run and its closing line."""
        self.exit_code = self.exit_code or exit_code
        self.closing.append(closing)
        for number, word in COUNTS.findall(closing):
            key = word.rstrip("s") if word.startswith(("error", "warning")) else word
            self.counts[key] = self.counts.get(key, 0) + int(number)


def pytest(*arguments: str, workers: int) -> tuple[int, str]:
    """Run pytest, showing what it prints; return its exit code and closing line."""
    command = [sys.executable, "-m", "pytest", "-q", "--cov", "--cov-append", "--cov-report="]
    if workers > 1:
        command += ["-n", str(workers), "--dist", "loadfile"]
    closing = ""
    process = subprocess.Popen(
        [*command, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        if COUNTS.search(line) and " in " in line:
            closing = line.strip().strip("= ")
    return process.wait(), closing


def left_out() -> list[str]:
    """Return the marks whose tests cannot run here; name the tests in one line each."""
    marks = []
    if not SHARED.is_dir():
        marks.append(("shared", "there is no ../shared beside this checkout"))
    if provision.missing():
        marks.append(("tools", "programs are missing, see tools/provision.py --check"))
    for mark, why in marks:
        listed = subprocess.run(
            (sys.executable, "-m", "pytest", "-q", "--collect-only", "-m", mark, "-p", "no:cacheprovider"),
            cwd=ROOT,
            env=os.environ | {"KEPHS_COLLECT_ALL": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        tests = [line for line in listed.stdout.splitlines() if line.startswith("tests/") and "::" in line]
        names = " ".join(dict.fromkeys(test.partition("[")[0] for test in tests)) or "none"
        print(f"tests: left out {len(tests)} marked `{mark}` ({why}): {names}", flush=True)
    return [mark for mark, _ in marks]


def coverage() -> list[str]:
    """Print the coverage report; return the gates that were missed."""
    tool = (sys.executable, "-m", "coverage")
    subprocess.run((*tool, "report"), cwd=ROOT, check=False)
    target = ROOT / ".coverage.json"
    subprocess.run((*tool, "json", "-q", "-o", str(target)), cwd=ROOT, check=False)
    if not target.exists():
        return ["no coverage was measured"]
    files = json.loads(target.read_text(encoding="utf-8"))["files"]
    target.unlink()
    below = []
    for folder, least in GATES.items():
        inside = {name: entry for name, entry in files.items() if name.startswith(folder)}
        sums = [entry["summary"] for entry in inside.values()]
        total = sum(s["num_statements"] + s.get("num_branches", 0) for s in sums)
        hit = sum(s["covered_lines"] + s.get("covered_branches", 0) for s in sums)
        percent = 100 * hit / total if total else 0.0
        if percent < least:
            below.append(f"coverage of {folder or 'everything'} is {percent:.1f} %, the gate is {least} %")
            below += [f"  {name}: lines {_missing(entry)}" for name, entry in _worst(inside)]
    return below


def _worst(files: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the files with the most lines that no test reached."""
    lacking = [(name, entry) for name, entry in files.items() if entry["summary"]["percent_covered"] < FULL]
    return sorted(lacking, key=lambda one: -one[1]["summary"]["missing_lines"])[:WORST]


def _missing(entry: Any) -> str:
    branches = (f"{a}->{b}" for a, b in entry.get("missing_branches", ()))
    return ", ".join([*map(str, entry["missing_lines"]), *branches])[:200]


def run(arguments: list[str], excluded: list[str]) -> Outcome:
    """Run both halves of the suite."""
    outcome = Outcome()
    subprocess.run((sys.executable, "-m", "coverage", "erase"), cwd=ROOT, check=False)
    for wanted, workers in (("not faults", 2), ("faults", 1)):
        marks = " and ".join((wanted, *(f"not {mark}" for mark in excluded)))
        exit_code, closing = pytest("-m", marks, *arguments, workers=workers)
        none_written = wanted == "faults" and not list(ROOT.glob("tests/faults/test_*.py"))
        if exit_code == NO_TESTS and (arguments or none_written):
            continue  # asked for other tests only
        outcome.add(exit_code, closing or f"pytest ended with exit code {exit_code}")
    return outcome


def main() -> int:
    """Run everything; return 0 only if all of it passed."""
    began = time.monotonic()
    if IN_CI and not SHARED.is_dir():
        print("tests: CI=true and there is no ../shared beside the checkout", file=sys.stderr)
        return 1
    if IN_CI and provision.missing():
        return provision.report(provision.missing(), "")
    outcome = run(sys.argv[1:], left_out())
    faults = coverage()
    if IN_CI and (outcome.counts.get("skipped") or outcome.counts.get("xfailed")):
        faults.append("CI=true and tests were skipped or expected to fail")
    for line in outcome.closing:
        print(f"run: {line}")
    for fault in faults:
        print(f"tests: {fault}", file=sys.stderr)
    total = ", ".join(f"{number} {word}" for word, number in outcome.counts.items())
    print(f"=== {total or 'nothing ran'} in {time.monotonic() - began:.2f}s ===")
    return outcome.exit_code or int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
