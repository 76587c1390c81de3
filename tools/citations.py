"""Find the citations of law, standards and our own rules in the product's comments and docstrings.

The checked form is ``spec: RFC5321#4.5.3.1.1, KEP-AD-04; our reading``: a list whose members begin with
the id of a document in docs/specs.toml. What follows a member that names no document is prose.
"""

import io
import re
import tokenize
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGES: Final = ("kephs", "smtp_gateway", "evidence", "directory", "webmail", "storage", "config")

_MARK: Final = re.compile(r"(?<![\w.])spec:\s*")
_RULE: Final = re.compile(r"\b(KEP-[A-Z]{2}|R)-(\d{2})(?:\.\.(?:\1-)?(\d{2}))?\b")
_DECISION: Final = re.compile(r"(?:(?<=\()|(?<=\bADR )|(?<=\bspec: ))D(\d{1,2})\b")
_RFC: Final = re.compile(r"RFC ?(\d{1,5})\b(?!-)")
_CLAUSE: Final = re.compile(
    r"(?:\.md)?(?: v\d)?,?\s*(?:#|§|section |sections )?\s*"
    r"([A-Z]?-?\d[\w.\-]*(?: (?:rule|step|trap) \d+)?|\"[^\"]+\"|[A-Z]\.[\d.]+)"
)
_LOOKS_LIKE_ONE: Final = re.compile(r"[A-Z]{2,}[A-Za-z]*[ -]?\d")
_NUMBER_ALONE: Final = re.compile(r"(?:and )?[#§]?\d[\d.]*(?=$|[\s.)])")


@dataclass(frozen=True, slots=True, order=True)
class Citation:
    """One citation: the document's id, the clause in it (may be empty), and the file that cites it."""

    document: str
    clause: str
    file: str


@dataclass(frozen=True, slots=True)
class Register:
    """What docs/specs.toml lists."""

    rfcs: dict[int, str]
    rules: dict[str, frozenset[int]]
    documents: dict[str, dict[str, str]]
    patterns: tuple[tuple[str, re.Pattern[str]], ...]

    @classmethod
    def load(cls, path: Path) -> "Register":
        """Read the register."""
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        rules = {
            name: frozenset(value if isinstance(value, list) else range(1, value + 1))
            for name, value in data["rules"].items()
        }
        documents = {entry["id"]: entry for entry in data["document"]}
        longest_first = sorted(documents, key=len, reverse=True)
        patterns = tuple((name, re.compile(_spaced(name) + r"(?![A-Za-z0-9])")) for name in longest_first)
        return cls({int(n): title for n, title in data["rfc"].items()}, rules, documents, patterns)


def _spaced(name: str) -> str:
    """Return a pattern for an id in which spaces may stand anywhere."""
    return r" ?".join(re.escape(char) for char in name)


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield comments and strings of a Python file with their first lines; comment runs are joined."""
    run: list[str] = []
    start = last = 0
    source = io.StringIO(path.read_text(encoding="utf-8"))
    for token in tokenize.generate_tokens(source.readline):
        if token.type == tokenize.COMMENT:
            if run and token.start[0] != last + 1:
                yield start, "\n".join(run)
                run = []
            if not run:
                start = token.start[0]
            run.append(token.string.lstrip("#").strip())
            last = token.start[0]
        elif token.type == tokenize.STRING:
            yield token.start[0], token.string.strip("\"'")
    if run:
        yield start, "\n".join(run)


def members(text: str) -> list[str]:
    """Split a citation list at commas and semicolons outside quotes and brackets; stop where its line ends.

    A line that ends in a separator, or inside quotes or brackets, goes on in the next one.
    """
    parts, current, depth, quoted = [], "", 0, False
    for char in text:
        if char == "\n":
            if not current.strip() or depth or quoted:
                current += " "
                continue
            break
        if char == '"':
            quoted = not quoted
        elif not quoted and char == ")":
            depth -= 1
            if depth < 0:
                break
        elif not quoted and char == "(":
            depth += 1
        if char in ",;" and not depth and not quoted:
            parts.append(current.strip())
            current = ""
            continue
        current += char
    parts.append(current.strip())
    return [re.sub(r"\s+", " ", part) for part in parts if part]


class Reader:
    """Reads the citations of files and collects what is wrong with them."""

    def __init__(self, register: Register) -> None:
        self.register = register
        self.found: set[Citation] = set()
        self.errors: list[str] = []

    def read(self, path: Path, name: str) -> None:
        """Take in one file."""
        for line, text in texts(path):
            self._rules(text, name, line)
            for mark in _MARK.finditer(text):
                at = line + text.count("\n", 0, mark.start())
                self._list(members(text[mark.end() :]), name, at)

    def _rules(self, text: str, name: str, line: int) -> None:
        for match in _RULE.finditer(text):
            family, first = match[1], int(match[2])
            for number in range(first, int(match[3] or first) + 1):
                if number in self.register.rules[family] or (match[3] and number != first):
                    self._note(family, f"{family}-{number:02d}", name)
                else:
                    at = line + text.count("\n", 0, match.start())
                    self.errors.append(f"{name}:{at}: there is no rule {family}-{number:02d}")
        for match in _DECISION.finditer(text):
            if int(match[1]) in self.register.rules["D"]:
                self._note("D", f"D{match[1]}", name)

    def _list(self, parts: list[str], name: str, line: int) -> None:
        document = ""
        for index, part in enumerate(parts):
            known = self._one(part, name)
            if known:
                document = known
            elif document and _NUMBER_ALONE.match(part):
                self._note(document, part.removeprefix("and ").strip("#§ .").split()[0], name)
            elif index == 0 or _LOOKS_LIKE_ONE.match(part):
                self.errors.append(f"{name}:{line}: {part[:60]!r} names no document of docs/specs.toml")
            else:
                return  # prose: our reading
        if not parts:
            self.errors.append(f"{name}:{line}: an empty citation")

    def _one(self, part: str, name: str) -> str:
        """Note one member; return its document's id, or nothing where it names none."""
        rule = _RULE.match(part)
        if rule:
            return rule[1]  # noted, and checked, by _rules
        decision = re.match(r"D(\d{1,2})\b", part)
        if decision and int(decision[1]) in self.register.rules["D"]:
            self._note("D", f"D{decision[1]}", name)
            return "D"
        rfc = _RFC.match(part)
        if rfc:
            if int(rfc[1]) not in self.register.rfcs:
                return ""
            document = f"RFC{rfc[1]}"
            self._note(document, self._clause(part[rfc.end() :]), name)
            return document
        for document, pattern in self.register.patterns:
            match = pattern.match(part)
            if match:
                self._note(document, self._clause(part[match.end() :]), name)
                return document
        return ""

    @staticmethod
    def _clause(rest: str) -> str:
        match = _CLAUSE.match(rest)
        return match[1].strip('".') if match else ""

    def _note(self, document: str, clause: str, name: str) -> None:
        self.found.add(Citation(document, clause, name))


def read_all(root: Path = ROOT) -> Reader:
    """Read the citations of the whole product."""
    reader = Reader(Register.load(root / "docs" / "specs.toml"))
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            reader.read(path, path.relative_to(root).as_posix())
    return reader
