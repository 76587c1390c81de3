"""Make the generated pages: docs/specs.md, docs/states.md and docs/settings.md."""

import importlib
import importlib.util
import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final

import citations

ROOT: Final = citations.ROOT
MADE: Final = "<!-- Made by tools/gen_docs.py: change the code, then run it again. -->\n"


def natural(text: str) -> list[tuple[int, str]]:
    """Return a sorting key in which 4.10 comes after 4.9."""
    return [(int(part or 0), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", text)]


def specs(reader: citations.Reader) -> str:
    """Return the page of citations, by document and clause, with links to the files."""
    register = reader.register
    files: dict[str, dict[str, set[str]]] = {}
    for citation in reader.found:
        files.setdefault(citation.document, {}).setdefault(citation.clause, set()).add(citation.file)
    lines = [
        "# What the code cites",
        "",
        MADE,
        "Documents are listed in [specs.toml](specs.toml). A citation reads `spec: RFC5321#4.5.3.1.1`;",
        "rule ids such as KEP-EV-40 are found without the mark too.",
    ]
    for document in sorted(files, key=natural):
        lines += ["", f"## {document}", "", _title(document, register), "", "| clause | files |", "|---|---|"]
        for clause in sorted(files[document], key=natural):
            links = ", ".join(f"[{name}](../{name})" for name in sorted(files[document][clause]))
            lines.append(f"| {clause.replace('|', '/') or '(whole)'} | {links} |")
    return "\n".join(lines) + "\n"


def _title(document: str, register: citations.Register) -> str:
    if document.startswith("RFC"):
        number = int(document[3:])
        return f"{register.rfcs[number]}. <https://www.rfc-editor.org/rfc/rfc{number}>"
    if document in register.documents:
        entry = register.documents[document]
        where = entry["where"]
        where = f"<{where}>" if where.startswith("https://") else where[0].upper() + where[1:]
        return f"{entry['title']}. {where}"
    if document == "D":
        return "Decisions of the architecture: [docs/adr](adr)."
    return f"Our numbered rules {document}-NN, from the project's design record."


def machines() -> Iterator[tuple[str, Mapping[tuple[Enum, Enum], Any]]]:
    """Yield the state machines of kephs.domain.lifecycle: every table from (state, event) pairs."""
    lifecycle = importlib.import_module("kephs.domain.lifecycle")
    for name, value in vars(lifecycle).items():
        if name.startswith("_"):
            continue
        if not name.isupper() or not isinstance(value, Mapping) or not value:
            continue
        first = next(iter(value))
        if isinstance(first, tuple) and len(first) == 2 and all(isinstance(part, Enum) for part in first):
            yield name.lower(), value


def states() -> str:
    """Return the page of state tables, each as a drawing and a table."""
    names = importlib.import_module("evidence.model.records").NAMES
    lines = ["# State machines", "", MADE]
    lines += [
        "Drawn from [kephs/domain/lifecycle.py](../kephs/domain/lifecycle.py).",
        "Any other pair raises.",
    ]
    for name, table in machines():
        rows = []
        for (state, event), step in table.items():
            evidence = getattr(step, "evidence", None)
            after = getattr(step, "state", step)
            owed = f"{evidence.value} {names[evidence].english}" if evidence is not None else ""
            rows.append((str(state.value), str(event.value), str(after.value), owed))
        lines += ["", f"## {name.capitalize()}", "", "```mermaid", "stateDiagram-v2"]
        lines += [f"    [*] --> {state}" for state in _first_states(rows)]
        lines += [f"    {a} --> {b}: {event}{f' / {owed}' if owed else ''}" for a, event, b, owed in rows]
        lines += [f"    {state} --> [*]" for state in _last_states(rows)]
        lines += ["```", "", "| state | event | next state | evidence owed |", "|---|---|---|---|"]
        lines += [f"| {a} | {event} | {b} | {owed or 'none'} |" for a, event, b, owed in rows]
    return "\n".join(lines) + "\n"


def _first_states(rows: list[tuple[str, str, str, str]]) -> list[str]:
    reached = {after for before, _, after, _ in rows if before != after}
    return list(dict.fromkeys(before for before, _, _, _ in rows if before not in reached))


def _last_states(rows: list[tuple[str, str, str, str]]) -> list[str]:
    left = {before for before, _, after, _ in rows if before != after}
    return list(dict.fromkeys(after for _, _, after, _ in rows if after not in left))


def settings() -> str | None:
    """Return the page of settings, or nothing while config/settings.py defines none."""
    if importlib.util.find_spec("config.settings") is None:
        return None
    module = importlib.import_module("config.settings")
    lines = [
        "# Settings",
        "",
        MADE,
        "An instance keeps its own values in `kephs.toml`; everything else comes from",
    ]
    lines += ["[config/defaults.toml](../config/defaults.toml). Names that are not listed here are refused."]
    for path, section, given in _sections("", module.Settings, module.defaults()):
        if not any(_model(field.annotation) is None for field in section.model_fields.values()):
            continue
        lines += ["", f"## {path or 'Top level'}", "", inspect.getdoc(section) or "", ""]
        lines += ["| setting | type | default | meaning |", "|---|---|---|---|"]
        for name, field in section.model_fields.items():
            if _model(field.annotation) is None:
                default = _cell(_default(name, field, given))
                cells = (f"`{name}`", _cell(_type(field.annotation)), default, _cell(field.description or ""))
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _sections(
    path: str, model: Any, given: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Yield a model and the models nested in it, each with its dotted path and its shipped defaults."""
    yield path, model, given
    for name, field in model.model_fields.items():
        inner = _model(field.annotation)
        if inner is not None:
            inside = given.get(name, {})
            many = inner is not field.annotation
            below = f"{path}.{name}{'[]' if many else ''}".lstrip(".")
            yield from _sections(below, inner, {} if many else inside)


def _model(annotation: Any) -> Any:
    """Return the settings model inside an annotation, if there is one."""
    if inspect.isclass(annotation) and hasattr(annotation, "model_fields"):
        return annotation
    for inner in typing.get_args(annotation):
        found = _model(inner)
        if found is not None:
            return found
    return None


_PLAIN: Final[Mapping[Any, str]] = {
    str: "text",
    Path: "path",
    int: "whole number",
    float: "number",
    bool: "`true`, `false`",
    type(None): "none",
}


def _type(annotation: Any) -> str:
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(inner[0])
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in inner)
    names = [_type(arg) for arg in inner if arg is not ...]
    if origin in (typing.Union, types.UnionType):
        return " or ".join(names)
    return f"{'list' if origin is tuple else getattr(origin, '__name__', annotation)} of {', '.join(names)}"


def _default(name: str, field: Any, given: Mapping[str, Any]) -> str:
    if name in given:
        value = given[name]
    elif field.is_required():
        return "required"
    else:
        value = field.get_default(call_default_factory=True)
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`" if value not in ("", None, (), []) else "empty"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def pages(reader: citations.Reader) -> dict[str, str]:
    """Return every generated page by its path."""
    made = {"docs/specs.md": specs(reader), "docs/states.md": states()}
    described = settings()
    if described is not None:
        made["docs/settings.md"] = described
    return made


def stale(reader: citations.Reader) -> list[str]:
    """Return the generated pages that do not match the code."""
    found = []
    for name, text in pages(reader).items():
        path = ROOT / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            found.append(name)
    return found


def main() -> int:
    """Write the pages that changed."""
    reader = citations.read_all()
    for name in stale(reader):
        path: Path = ROOT / name
        path.write_text(pages(reader)[name], encoding="utf-8")
        print(f"wrote {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
