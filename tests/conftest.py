"""What every test may use: the facts beside the checkout, and how tests are sorted into marks."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
IN_CI = os.environ.get("CI") == "true"

# Two busy cores make single examples slow now and then: slowness alone is no failure. CI repeats exactly.
settings.register_profile(
    "kephs", deadline=None, derandomize=IN_CI, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("kephs")


def pytest_configure(config: pytest.Config) -> None:
    """Name the mark that this file gives out itself."""
    config.addinivalue_line("markers", "faults: kills real server processes; runs alone")


def pytest_report_header() -> str | None:
    """Say what an incomplete checkout leaves out."""
    if SHARED.is_dir() or IN_CI:
        return None
    return "no ../shared beside the checkout: tests marked `shared` are deselected"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the fault tests; deselect what needs ../shared where it is absent (in CI that fails instead)."""
    faults = ROOT / "tests" / "faults"
    for item in items:
        if faults in item.path.parents:
            item.add_marker("faults")
    if SHARED.is_dir() or IN_CI or os.environ.get("KEPHS_COLLECT_ALL"):
        return
    dropped = [item for item in items if item.get_closest_marker("shared")]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if not item.get_closest_marker("shared")]


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ../shared: schemas, vectors and the facts they come from."""
    if not SHARED.is_dir():
        pytest.fail(f"{SHARED.name} is not beside the checkout", pytrace=False)
    return SHARED
