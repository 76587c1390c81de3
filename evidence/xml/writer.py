"""What both evidence writers share: text in canonical form, ids, digests.

The writers emit exactly what exclusive C14N would make of their own output, so that digests are taken over
the string itself (signing §3): no self-closed tags, namespaces first and on the first element that uses
them, then attributes by name, the escapes of canonical XML and no others.
"""

import re
from base64 import b64encode
from datetime import UTC, datetime
from typing import Final

DSIG_NAMESPACE: Final = "http://www.w3.org/2000/09/xmldsig#"
SHA256_URI: Final = "http://www.w3.org/2001/04/xmlenc#sha256"

_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# neither forbidden nor escaped
_TEXT_PLAIN: Final = re.compile("[\t\n\u0020-%'-;=?-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*").fullmatch
_NOT_NCNAME: Final = re.compile(r"[^A-Za-z0-9._-]")
# What an e-mail address may hold and a URI may not; percent-encoded so that anyURI stays valid.
_NOT_URI: Final = re.compile(r"[\x00-\x20\"<>\\^`{|}%\[\]\x7f]").search
_NOT_URI_ALL: Final = re.compile(r"[\x00-\x20\"<>\\^`{|}%\[\]\x7f]")
_NOT_URI_REFERENCE: Final = re.compile(r"[\x00-\x20\"<>\\^`{|}\[\]\x7f]|%(?![0-9A-Fa-f]{2})")
_DIGEST_HEAD: Final = (
    f'<ds:DigestMethod xmlns:ds="{DSIG_NAMESPACE}" Algorithm="{SHA256_URI}"></ds:DigestMethod>'
    f'<ds:DigestValue xmlns:ds="{DSIG_NAMESPACE}">'
)


class ProfileError(Exception):
    """The record has no valid form in the serialisation asked for; says what is missing or too much."""


def clean_text(text: str) -> str:
    """Return the text as evidence can carry it: characters that XML forbids become U+FFFD."""
    return _FORBIDDEN.sub("\ufffd", text)


def escape_text(text: str) -> str:
    """Escape character data as canonical XML does; characters XML forbids become U+FFFD."""
    if _TEXT_PLAIN(text):
        return text
    clean = clean_text(text)
    return clean.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#xD;")


def escape_address(address: str) -> str:
    """Escape an e-mail address where the schema wants a URI; a reader unquotes it."""
    if _NOT_URI(address):
        address = _NOT_URI_ALL.sub(_percent, address)
    return escape_text(address)


def escape_uri(uri: str) -> str:
    """Escape a URI; what may not stand in one is percent-encoded, escapes it has are kept."""
    if _NOT_URI(uri):
        uri = _NOT_URI_REFERENCE.sub(_percent, uri)
    return escape_text(uri)


def _percent(found: "re.Match[str]") -> str:
    return f"%{ord(found.group()):02X}"


def xml_id(evidence_id: str) -> str:
    """Return the root's ``Id``, an NCName: ``ev-`` and the local part of the evidence id."""
    return "ev-" + _NOT_NCNAME.sub("_", evidence_id.partition("@")[0])


def timestamp(at: datetime) -> str:
    """Write a time as evidence carries it: UTC, milliseconds, ``Z`` (KEP-EC-08)."""
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    # Half the time of isoformat, and every evidence has five of them.
    return "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ" % (  # noqa: UP031 - an f-string takes twice as long
        at.year, at.month, at.day, at.hour, at.minute, at.second, at.microsecond // 1000,
    )  # fmt: skip


def digest_elements(digest_sha256: bytes) -> str:
    """Return ds:DigestMethod and ds:DigestValue of a SHA-256 digest."""
    return f"{_DIGEST_HEAD}{b64encode(digest_sha256).decode()}</ds:DigestValue>"
