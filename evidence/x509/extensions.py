"""What the extensions of a certificate say. Import these names from `evidence.x509.certificates`.

(spec: RFC5280#4.2, ETSI EN 319 412-5, signing.md 2.2)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from evidence.asn1.der import (
    BOOLEAN,
    INTEGER,
    OCTET_STRING,
    OID,
    SEQUENCE,
    Cursor,
    DerError,
    Node,
    children,
    inside,
    parse,
    to_bool,
    to_int,
    to_named_bits,
    to_oid,
    to_text,
)

MAX_CERTIFICATE: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Policy:
    """One certificate policy with the texts of its user notices and its CPS addresses."""

    oid: str
    notices: tuple[str, ...] = ()
    cps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QcStatement:
    """One qualified-certificate statement; ``info`` is the DER of statementInfo, empty where absent."""

    oid: str
    info: bytes = b""


@dataclass(frozen=True, slots=True)
class Extensions:
    """What the extensions say. Absent is None or empty."""

    key_usage: frozenset[int] | None = None
    extended_key_usage: tuple[str, ...] | None = None
    critical: tuple[str, ...] = ()
    is_ca: bool = False
    path_length: int | None = None
    policies: tuple[Policy, ...] = ()
    qc_statements: tuple[QcStatement, ...] = ()
    subject_key_id: bytes | None = None
    authority_key_id: bytes | None = None
    dns_names: tuple[str, ...] = ()
    email_names: tuple[str, ...] = ()
    ocsp_urls: tuple[str, ...] = ()
    ca_issuers_urls: tuple[str, ...] = ()
    crl_urls: tuple[str, ...] = ()
    ocsp_no_check: bool = False
    name_constraints: bool = False
    unknown_critical: tuple[str, ...] = ()


def read_extensions(listed: Node) -> Extensions:
    """Read the Extensions of a certificate, the content of its ``[3]``.

    Raises:
        DerError: malformed, or an extension twice.
    """
    facts: dict[str, object] = {}
    unknown: list[str] = []
    seen: set[str] = set()
    seen_critical: list[str] = []
    for extension in children(inside(listed, SEQUENCE), limit=64):
        cursor = Cursor(extension, limit=3)
        oid = to_oid(cursor.take(OID))
        flag = cursor.optional(BOOLEAN)
        critical = flag is not None and to_bool(flag)
        value = cursor.take(OCTET_STRING).content
        cursor.finish()
        if oid in seen:  # spec: RFC5280#4.2
            raise DerError(f"extension {oid} twice")
        seen.add(oid)
        reader = _READERS.get(oid)
        if reader is not None:
            reader(parse(value, max_size=MAX_CERTIFICATE), facts)
        elif critical:
            unknown.append(oid)
        if critical:
            seen_critical.append(oid)
    facts["critical"], facts["unknown_critical"] = tuple(seen_critical), tuple(unknown)
    return Extensions(**facts)  # type: ignore[arg-type]  # each reader sets the types of its own fields


def _key_usage(node: Node, facts: dict[str, object]) -> None:
    facts["key_usage"] = to_named_bits(node)


def _basic_constraints(node: Node, facts: dict[str, object]) -> None:
    cursor = Cursor(node, limit=2)
    flag, length = cursor.optional(BOOLEAN), cursor.optional(INTEGER)
    cursor.finish()
    facts["is_ca"] = flag is not None and to_bool(flag)
    facts["path_length"] = to_int(length) if length is not None else None


def _extended_key_usage(node: Node, facts: dict[str, object]) -> None:
    facts["extended_key_usage"] = tuple(to_oid(child) for child in children(node, limit=64, tag=SEQUENCE))


def _policies(node: Node, facts: dict[str, object]) -> None:
    found = []
    for information in children(node, limit=64, tag=SEQUENCE):
        cursor = Cursor(information, limit=2)
        oid = to_oid(cursor.take(OID))
        notices: list[str] = []
        cps: list[str] = []
        qualifiers = cursor.optional(SEQUENCE)
        for qualifier in children(qualifiers, limit=32) if qualifiers is not None else []:
            kind, value = children(qualifier, limit=2, tag=SEQUENCE)
            dotted = to_oid(kind)
            if dotted == "1.3.6.1.5.5.7.2.2":
                texts = [child for child in children(value, limit=2) if child.tag != SEQUENCE]
                notices.extend(to_text(text) for text in texts)
            elif dotted == "1.3.6.1.5.5.7.2.1":
                cps.append(to_text(value))
        found.append(Policy(oid, tuple(notices), tuple(cps)))
    facts["policies"] = tuple(found)


def _qc_statements(node: Node, facts: dict[str, object]) -> None:
    found = []
    for statement in children(node, limit=64, tag=SEQUENCE):
        cursor = Cursor(statement, limit=2)
        oid = to_oid(cursor.take(OID))
        info = cursor.rest()
        found.append(QcStatement(oid, info[0].whole if info else b""))
    facts["qc_statements"] = tuple(found)


def _subject_key_id(node: Node, facts: dict[str, object]) -> None:
    if node.tag == OCTET_STRING:
        facts["subject_key_id"] = node.content


def _authority_key_id(node: Node, facts: dict[str, object]) -> None:
    first = Cursor(node, limit=3).optional(0x80)
    facts["authority_key_id"] = first.content if first is not None else None


def _alternative_names(node: Node, facts: dict[str, object]) -> None:
    names = children(node, limit=256, tag=SEQUENCE)
    facts["email_names"] = tuple(_ascii(name) for name in names if name.tag == 0x81)
    facts["dns_names"] = tuple(_ascii(name) for name in names if name.tag == 0x82)


def _information_access(node: Node, facts: dict[str, object]) -> None:
    urls: dict[str, list[str]] = {"1.3.6.1.5.5.7.48.1": [], "1.3.6.1.5.5.7.48.2": []}
    for description in children(node, limit=32, tag=SEQUENCE):
        method, location = children(description, limit=2, tag=SEQUENCE)
        if (listed := urls.get(to_oid(method))) is not None and location.tag == 0x86:
            listed.append(_ascii(location))
    facts["ocsp_urls"], facts["ca_issuers_urls"] = (tuple(found) for found in urls.values())


def _distribution_points(node: Node, facts: dict[str, object]) -> None:
    urls: list[str] = []
    for point in children(node, limit=32, tag=SEQUENCE):
        name = Cursor(point, limit=3).optional(0xA0)
        full = inside(name) if name is not None else None
        if full is not None and full.tag == 0xA0:
            urls.extend(_ascii(entry) for entry in children(full, limit=32) if entry.tag == 0x86)
    facts["crl_urls"] = tuple(urls)


def _no_check(_node: Node, facts: dict[str, object]) -> None:
    facts["ocsp_no_check"] = True


def _name_constraints(_node: Node, facts: dict[str, object]) -> None:
    facts["name_constraints"] = True


def _ascii(node: Node) -> str:
    return node.content.decode("ascii")


_READERS: Final[Mapping[str, Callable[[Node, dict[str, object]], None]]] = MappingProxyType(
    {
        "2.5.29.15": _key_usage,
        "2.5.29.19": _basic_constraints,
        "2.5.29.37": _extended_key_usage,
        "2.5.29.32": _policies,
        "2.5.29.17": _alternative_names,
        "2.5.29.14": _subject_key_id,
        "2.5.29.35": _authority_key_id,
        "2.5.29.31": _distribution_points,
        "2.5.29.30": _name_constraints,
        "1.3.6.1.5.5.7.1.1": _information_access,
        "1.3.6.1.5.5.7.1.3": _qc_statements,
        "1.3.6.1.5.5.7.48.1.5": _no_check,
    }
)
