"""Header values: unfolding, encoded words, parameters and address lists, from bytes as received.

Everything here is pure and linear in its input; callers cap the input (`evidence.mail.mime.ScanLimits`).
Text that came from outside may hold any character but CR and LF, which become U+FFFD.
"""

import base64
import binascii
import codecs
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes


class AddressSyntaxError(ValueError):
    """An address field that cannot be read in exactly one way."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One address with its display name (decoded, may be empty).

    ``address`` is ``local@domain`` as written, without comments and folding; a quoted local part
    stays quoted only where it has to be. It is not checked to be a KEP address.
    """

    name: str
    address: str

    @property
    def local(self) -> str:
        """Return the part before the last ``@``."""
        return self.address.rpartition("@")[0]

    @property
    def domain(self) -> str:
        """Return the part after the last ``@``."""
        return self.address.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class Group:
    """A named group of mailboxes."""

    name: str
    members: tuple[Mailbox, ...]


# --- text -------------------------------------------------------------------------------------

_WORD: Final = re.compile(rb"=\?([!->@-~]{1,64})\?([bBqQ])\?([!->@-~ ]*)\?=")
_CONTROL: Final = str.maketrans({"\r": "\ufffd", "\n": "\ufffd"})
# Only character sets of mail; Python knows others (punycode, unicode_escape) that are slow or surprising.
_CHARSETS: Final = frozenset(
    {"utf-8", "ascii", "koi8-r", "koi8-u", "gb2312", "gbk", "gb18030", "big5", "shift_jis", "mac-roman"}
    | {"euc_jp", "euc_kr", "iso2022_jp", "iso2022_kr", "utf-16", "utf-16-be", "utf-16-le", "tis-620"}
    | {f"iso8859-{n}" for n in range(1, 17)}
    | {f"cp{n}" for n in (437, 850, 852, 857, 858, 866, 874, 932, 949, 950)}
    | {f"cp{n}" for n in range(1250, 1259)}
)


def unfold(raw: bytes) -> bytes:
    """Return a field's value on one line, without the blanks around it.

    spec: RFC5322#2.2.3
    """
    value = raw.strip(b" \t")
    return value.replace(b"\r\n", b"").strip(b" \t") if b"\r" in value else value


def raw_text(raw: bytes) -> str:
    """Return bytes as text without any decoding of words: UTF-8, or Latin-1 where it is not."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def decode_text(raw: bytes) -> str:
    """Return an unstructured field's text: unfolded, encoded words decoded, raw UTF-8 read.

    Unknown character sets are read as Latin-1, undecodable bytes become U+FFFD. Neighbouring words
    of one character set are joined before decoding, because clients cut inside characters.
    """
    # spec: RFC2047#6.2
    value = unfold(raw)
    if b"=?" not in value:
        return raw_text(value).translate(_CONTROL)
    out: list[str] = []
    pending: tuple[str, bytes] | None = None
    at = 0
    for match in _WORD.finditer(value):
        between = value[at : match.start()]
        at = match.end()
        charset = match[1].partition(b"*")[0].decode("ascii").lower()
        data = _word_bytes(match[2], match[3])
        if pending is not None and between.strip(b" \t"):
            out.append(_decoded(*pending))
            pending = None
        if pending is None:
            out.append(raw_text(between))
        elif pending[0] == charset:
            pending = (charset, pending[1] + data)
            continue
        else:
            out.append(_decoded(*pending))
        pending = (charset, data)
    if pending is not None:
        out.append(_decoded(*pending))
    out.append(raw_text(value[at:]))
    return "".join(out).translate(_CONTROL)


def _word_bytes(kind: bytes, text: bytes) -> bytes:
    if kind in b"qQ":
        return binascii.a2b_qp(text, header=True)
    text = text.rstrip(b"=")
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4))
    except binascii.Error:
        return text


def _decoded(charset: str, data: bytes) -> str:
    try:
        name = codecs.lookup(charset).name
    except (LookupError, ValueError):  # ValueError: a NUL in the name
        name = "latin-1"
    return data.decode(name if name in _CHARSETS else "latin-1", errors="replace")


# --- parameters -------------------------------------------------------------------------------

_PARAM: Final = re.compile(
    rb"[ \t]*([^\s=;()\"<>]+)[ \t]*=[ \t]*(?:\"((?:[^\"\\]|\\.)*)\"?|([^;\"]*))([^;]*)(?:;|$)", re.DOTALL
)
_OUTSIDE: Final = re.compile(rb'[^"()\\]+|"(?:[^"\\]|\\.)*"?|\\.?|[()]', re.DOTALL)
_INSIDE: Final = re.compile(rb"[^()\\]+|\\.?|[()]", re.DOTALL)
_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)

Params = tuple[tuple[str, str], ...]


def strip_comments(value: bytes) -> tuple[bytes, bool]:
    """Return a structured value with each comment (they nest) made a blank, and "all were closed".

    spec: RFC5322#3.2.2
    """
    if b"(" not in value:
        return value, True
    depth = 0
    at = 0
    kept: list[bytes] = []
    while at < len(value):
        match = (_INSIDE if depth else _OUTSIDE).match(value, at)
        if match is None:  # cannot be: the patterns cover every byte
            break
        at = match.end()
        piece = match[0]
        if piece == b"(":
            depth += 1
        elif not depth:
            kept.append(piece)
        elif piece == b")":
            depth -= 1
            kept.append(b"" if depth else b" ")
    return b"".join(kept), not depth


def structured(raw: bytes) -> tuple[str, Params, bool]:
    """Split ``value; name=value; ...`` into the lower-case value, its parameters and "was clean".

    Parameter names are lower-case, values unquoted; RFC 2231 forms stay as sent (see `parameter`).
    The flag is False where something had to be skipped.
    """
    # spec: RFC2045#5.1
    return _structured_once(raw) if len(raw) <= _CACHED_MAX else _structured(raw)


def _structured(raw: bytes) -> tuple[str, Params, bool]:
    line, clean = strip_comments(unfold(raw))
    head, semicolon, rest = line.partition(b";")
    value = raw_text(head.strip(b" \t")).lower()
    if not semicolon:
        return value, (), clean
    params: list[tuple[str, str]] = []
    at = 0
    end = len(rest)
    while at < end:
        match = _PARAM.match(rest, at)
        if match is None:
            stop = rest.find(b";", at)
            stop = end if stop < 0 else stop
            clean = clean and not rest[at:stop].strip(b" \t")
            at = stop + 1
            continue
        at = match.end()
        quoted = match[2]
        text = match[3].rstrip(b" \t") if quoted is None else _ESCAPE.sub(rb"\1", quoted)
        clean = clean and not match[4].strip(b" \t")
        params.append((raw_text(match[1].lower()), raw_text(text)))
    return value, tuple(params), clean


# the same few values come again and again; a long one is nobody's habit
_CACHED_MAX: Final = 200
_structured_once = lru_cache(maxsize=1024)(_structured)


def parameter(params: Params, name: str) -> str | None:
    """Return one parameter's decoded value: RFC 2231 first, else the plain one with encoded words.

    Continuations are joined in number order until one is missing.
    """
    # spec: RFC2231#4
    pieces: dict[str, str] = {}
    prefix = name + "*"
    plain: str | None = None
    for key, value in params:
        if key == name and plain is None:
            plain = value
        elif key.startswith(prefix):
            pieces.setdefault(key[len(prefix) :], value)
    if "" in pieces:
        return _extended([(pieces[""], True)])
    joined: list[tuple[str, bool]] = []
    for number in range(len(pieces)):
        if (extended := pieces.get(f"{number}*")) is not None:
            joined.append((extended, True))
        elif (bare := pieces.get(str(number))) is not None:
            joined.append((bare, False))
        else:
            break
    if joined:
        return _extended(joined)
    if plain is not None and "=?" in plain:  # forbidden by RFC 2047 section 5, sent by many clients
        return decode_text(plain.encode())
    return plain


def _extended(pieces: list[tuple[str, bool]]) -> str:
    charset = ""
    data: list[bytes] = []
    for number, (text, encoded) in enumerate(pieces):
        value = text
        if number == 0 and encoded and text.count("'") >= 2:
            charset, _, value = text.split("'", 2)
        data.append(unquote_to_bytes(value) if encoded else value.encode())
    if not charset:
        return raw_text(b"".join(data)).translate(_CONTROL)
    return _decoded(charset.lower(), b"".join(data)).translate(_CONTROL)


# --- addresses --------------------------------------------------------------------------------

_TOKEN: Final = re.compile(
    rb"[ \t\r\n]+|\"(?:[^\"\\]|\\.)*\"?|\[[^\[\]\\]*\]|[^ \t\r\n\"\[\]()<>@,;:\\]+|.", re.DOTALL
)
_QUOTED: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BLANKS: Final = b" \t\r\n"
_DOT_ATOM: Final = re.compile(
    r"[^\x00-\x20()<>@,;:\\\"\[\].\x7f]+(?:\.[^\x00-\x20()<>@,;:\\\"\[\].\x7f]+)*\Z"
)
_AROUND_DOT: Final = re.compile(r" ?([.@]) ?")


def address_list(raw: bytes, *, strict: bool = True) -> tuple[Mailbox | Group, ...]:
    """Parse an address field's value (From, To, Cc, ...).

    Args:
        raw: the value as received; folding, comments, groups, quoted strings, routes and raw UTF-8 are read.
        strict: raise on anything that is not an address list; without it unreadable entries become a
            `Mailbox` whose ``address`` is empty (for showing, never for deciding).

    Raises:
        AddressSyntaxError: strict, and the field is not an address list.
    """
    # spec: RFC5322#3.4
    return _AddressParser(raw, strict=strict).parse()


def addresses(raw: bytes, *, strict: bool = True) -> tuple[Mailbox, ...]:
    """Return the mailboxes of an address field with groups taken apart; see `address_list`."""
    found: list[Mailbox] = []
    for entry in address_list(raw, strict=strict):
        found.extend(entry.members if isinstance(entry, Group) else (entry,))
    return tuple(found)


class _AddressParser:
    """Cuts the value into entries at top-level commas, and each entry into name and address."""

    def __init__(self, raw: bytes, *, strict: bool) -> None:
        self._strict = strict
        self._entries: list[Mailbox | Group] = []
        self._members: list[Mailbox] | None = None  # of the open group
        self._group = ""
        value, closed = strip_comments(unfold(raw))
        if not closed:
            self._fail("a comment never ends")
        try:
            value.decode()
        except UnicodeDecodeError:
            self._fail("not UTF-8")
        self._tokens = [match[0] for match in _TOKEN.finditer(value)]
        if any(token[:1] == b'"' and not _QUOTED.fullmatch(token) for token in self._tokens[-2:]):
            self._fail("a quoted string never ends")  # it swallowed the rest, but for a last backslash

    def _fail(self, why: str) -> None:
        if self._strict:
            raise AddressSyntaxError(why)

    def parse(self) -> tuple[Mailbox | Group, ...]:
        entry: list[bytes] = []
        angle = False
        for token in self._tokens:
            angle = token == b"<" or (angle and token != b">")
            if token == b"," and not angle:
                self._close(entry)
            elif token == b":" and not angle and self._members is None:
                self._group = _phrase(entry)
                if not self._group:
                    self._fail("a group without a name")
                self._members = []
            elif token == b";" and not angle and self._members is not None:
                self._close(entry)
                self._end_group()
            else:
                entry.append(token)
                continue
            entry = []
        self._close(entry)
        if self._members is not None:
            self._fail("a group never ends")
            self._end_group()
        return tuple(self._entries)

    def _end_group(self) -> None:
        self._entries.append(Group(self._group, tuple(self._members or ())))
        self._members = None

    def _close(self, entry: list[bytes]) -> None:
        if not any(token.strip(_BLANKS) for token in entry):
            return  # spec: RFC5322#4.4 (empty list elements are read, never written)
        try:
            box = _mailbox(entry)
        except AddressSyntaxError as error:
            self._fail(str(error))
            box = _lenient_mailbox(entry)
        if self._members is None:
            self._entries.append(box)
        else:
            self._members.append(box)


def _mailbox(entry: list[bytes]) -> Mailbox:
    if b"<" not in entry:
        return Mailbox("", _addr_spec(entry))
    opening = entry.index(b"<")
    closing = len(entry) - 1
    while not entry[closing].strip(_BLANKS):
        closing -= 1
    if entry[closing] != b">" or entry.index(b">") != closing or entry.count(b"<") != 1:
        raise AddressSyntaxError("text after the address, or brackets that do not pair")
    phrase = entry[:opening]
    if any(len(token) == 1 and token in b'@>:;\\[]()"' for token in phrase):
        raise AddressSyntaxError("a special character in a display name outside quotes")
    inner = entry[opening + 1 : closing]
    if b":" in inner:  # spec: RFC5322#4.4 (a source route is read and ignored)
        route = inner[: inner.index(b":")]
        if not b"".join(route).lstrip(_BLANKS).startswith(b"@"):
            raise AddressSyntaxError("a colon inside an address")
        inner = inner[len(route) + 1 :]
    return Mailbox(_phrase(phrase), _addr_spec(inner))


def _lenient_mailbox(entry: list[bytes]) -> Mailbox:
    return Mailbox(decode_text(b"".join(entry)), "")


def _phrase(tokens: list[bytes]) -> str:
    words: list[bytes] = []
    for token in tokens:
        if token.startswith(b'"') and len(token) > 1:
            words.append(_ESCAPE.sub(rb"\1", token[1:-1]))
        else:
            words.append(token if token.strip(_BLANKS) else b" ")
    return decode_text(b"".join(words))


def _addr_spec(tokens: list[bytes]) -> str:
    # spec: RFC5322#3.4.1
    words = [token if token.strip(_BLANKS) else b" " for token in tokens]
    try:
        text = b"".join(words).decode().strip(" ")
    except UnicodeDecodeError as error:
        raise AddressSyntaxError("not UTF-8") from error
    if text.startswith('"'):
        quoted = next(token for token in words if token.startswith(b'"'))
        rest = text[len(quoted.decode()) :].lstrip(" ")
        if not _QUOTED.fullmatch(quoted) or not rest.startswith("@"):
            raise AddressSyntaxError("a quoted local part that is not one")
        content = _ESCAPE.sub(rb"\1", quoted[1:-1]).decode()
        if not content.isprintable():
            raise AddressSyntaxError("a control character in a local part")
        local = content if _DOT_ATOM.match(content) else quoted.decode()
        domain = rest[1:].strip(" ")
    else:
        local, _, domain = _AROUND_DOT.sub(r"\1", text).rpartition("@")
        if not _DOT_ATOM.match(local):
            raise AddressSyntaxError("not a local part")
    literal = domain.startswith("[") and domain.endswith("]") and " " not in domain
    if not literal and not _DOT_ATOM.match(domain):
        raise AddressSyntaxError("not a domain")
    return f"{local}@{domain}"
