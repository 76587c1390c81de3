"""The checkout's layout: names that are ours, folders that import, modules that can be read."""

import importlib
import importlib.metadata
import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

PACKAGES = ("kephs", "smtp_gateway", "evidence", "directory", "webmail", "storage", "config")
CODE = (*PACKAGES, "tests", "tools")
LINES_MAX = 500


def modules(root: Path) -> list[Path]:
    return [path for folder in CODE for path in sorted((root / folder).rglob("*.py"))]


def documents(root: Path) -> list[Path]:
    return [*sorted(root.glob("*.md")), *sorted((root / "docs").rglob("*.md"))]


@pytest.mark.parametrize("name", PACKAGES)
def test_each_top_level_package_is_the_one_of_this_checkout(name: str, root: Path) -> None:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).resolve() == root / name / "__init__.py"


def test_no_installed_distribution_claims_a_name_of_ours() -> None:
    claims = importlib.metadata.packages_distributions()
    assert {name: claims[name] for name in PACKAGES if set(claims.get(name, ())) - {"kephs"}} == {}


def test_the_wheel_ships_exactly_the_seven_packages(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == list(PACKAGES)
    assert project["project"]["scripts"] == {"kephs": "kephs.cli.main:main"}


def test_every_folder_with_python_files_in_it_is_a_package(root: Path) -> None:
    loaded_by_path = {root / "tools", root / "storage" / "migrations"}  # as scripts; by Alembic
    folders = {p.parent for p in modules(root) if not loaded_by_path & {p.parent, p.parent.parent}}
    assert [str(one.relative_to(root)) for one in sorted(folders) if not (one / "__init__.py").exists()] == []


def test_no_module_is_too_long_to_be_read(root: Path) -> None:
    lengths = {str(path.relative_to(root)): len(path.read_bytes().splitlines()) for path in modules(root)}
    assert {name: lines for name, lines in lengths.items() if lines > LINES_MAX} == {}


def test_links_in_the_documents_lead_somewhere(root: Path) -> None:
    broken = []
    for page in documents(root):
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            name = target.partition("#")[0]
            if "://" not in target and name and not (page.parent / name).exists():
                broken.append(f"{page.relative_to(root)}: {target}")
    assert broken == []


# --- the citation checker, because lint rests on it -------------------------------------------


@pytest.fixture(scope="module")
def citations(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("citations", root / "tools" / "citations.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["citations"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("comment", "found"),
    [
        ("spec: RFC5321#4.5.3.1.1, KEP-AD-04", {("RFC5321", "4.5.3.1.1"), ("KEP-AD", "KEP-AD-04")}),
        ("(spec: signing.md 2.4 rule 1)", {("signing", "2.4 rule 1")}),
        ("spec: KEP-CL-01..03; never before the block", {("KEP-CL", f"KEP-CL-0{n}") for n in (1, 2, 3)}),
        (
            'spec: rules-in-detail "The read gate"; RFC 3463',
            {("rules-in-detail", "The read gate"), ("RFC3463", "")},
        ),
        ("spec: TS 102 640-2 v2 (names in rem-formats 1.1).", {("TS102640-2", "")}),
        ("as R-15 and D4 say", {("R", "R-15")}),
    ],
)
def test_a_citation_is_found_with_its_clause(
    comment: str, found: set[tuple[str, str]], citations: ModuleType, root: Path, tmp_path: Path
) -> None:
    reader = citations.Reader(citations.Register.load(root / "docs" / "specs.toml"))
    (tmp_path / "module.py").write_text(f"LIMIT = 64  # {comment}\n", encoding="utf-8")
    reader.read(tmp_path / "module.py", "module.py")
    assert reader.errors == []
    assert {(c.document, c.clause) for c in reader.found} == found


@pytest.mark.parametrize(
    "comment",
    [
        "spec: RFC99999#1",
        "spec: the standard",
        "spec:",
        "spec: KEP-EV-10, ISO 27001",
        "KEP-EV-09 says",
        "spec: R-77",
    ],
)
def test_a_citation_of_nothing_listed_is_an_error(
    comment: str, citations: ModuleType, root: Path, tmp_path: Path
) -> None:
    reader = citations.Reader(citations.Register.load(root / "docs" / "specs.toml"))
    (tmp_path / "module.py").write_text(f'"""{comment}"""\n', encoding="utf-8")
    reader.read(tmp_path / "module.py", "module.py")
    assert reader.errors
