"""Validation material of archived evidence, collected while its issuers still answer.

For every certificate behind a seal or a stamp: the certificates of its path, and for each what its issuer
says of it now. For senders' signatures: what the verdict at reception rested on, as it was kept.
"""

import json
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from evidence.asn1.der import SEQUENCE, DerError, children, inside, parse
from evidence.bundle.archive_object import material_name
from evidence.stamps.ers import ErsError, split_record
from evidence.stamps.messages import MAX_TOKEN, read_token
from evidence.x509.certificates import (
    EKU_TIME_STAMPING,
    CertificateError,
    CertificateFacts,
    certificate_facts,
)
from evidence.x509.chain import Chain, TrustStore, build_chain
from evidence.x509.revocation import RevocationStatus
from kephs.ports import Revocation

_CERTIFICATE: Final = re.compile(rb"X509Certificate>([A-Za-z0-9+/=\s]{1,40000})</")
_TOKEN: Final = re.compile(rb"EncapsulatedTimeStamp[^>]{0,200}>([A-Za-z0-9+/=\s]{1,200000})</")
_CERTIFICATE_MARK: Final = b"X509Certificate>"
_STAMP_MARK: Final = b"EncapsulatedTimeStamp"
_CERTIFICATES: Final = 0xA0  # tag of SignedData's field (spec: RFC5652#5.1)
_KNOWN_MOST: Final = 256
"""Stretches of XML, and of tokens, that are known again: there is one for each who seals or stamps."""
_BEFORE_LISTS: Final = b',"certificates":['
_BEFORE_RECORD: Final = b',"record":"'
_QUOTES: Final = 4  # in `_BEFORE_RECORD` and behind the record
_HELD_MOST: Final = 8 << 20  # octets of lists that are known again
_LISTS: Final = (("certificates", "cer"), ("ocsp", "ocsp"), ("crls", "crl"))


class MaterialSilentError(Exception):
    """An issuer does not say whether a certificate was revoked: wait, it may answer later."""


@dataclass(slots=True)
class Material:
    """What was found."""

    files: dict[str, bytes] = field(default_factory=dict)  # by name
    missing: set[bytes] = field(default_factory=set)  # SHA-256 of certificates nobody spoke about
    authorities: set[tuple[str, ...]] = field(default_factory=set)  # paths of those who stamped, by name


class CollectMaterial:
    """Finds the paths and asks about them."""

    def __init__(self, revocation: Revocation, trust: TrustStore) -> None:
        self._revocation, self._trust = revocation, trust

    async def collect(
        self, groups: Iterable[frozenset[bytes]], now: datetime, *, patient: bool
    ) -> tuple[Material, dict[frozenset[bytes], tuple[str, ...]]]:
        """Return the material for groups of certificates, and each group's files.

        Args:
            groups: `certificates_of` each evidence.
            now: UTC.
            patient: raise where an issuer is silent; otherwise note it.

        Raises:
            MaterialSilentError: an issuer is silent.
        """
        material = Material()
        names: dict[frozenset[bytes], tuple[str, ...]] = {}
        answers: dict[bytes, str | None] = {}
        for group in groups:
            if group not in names:
                names[group] = tuple(
                    sorted(await self._group(group, now, material, answers, patient=patient))
                )
        return material, names

    async def _group(
        self, group: frozenset[bytes], now: datetime, material: Material, answers: dict[bytes, str | None],
        *, patient: bool,
    ) -> set[str]:  # fmt: skip
        known = [facts for facts in map(_facts, sorted(group)) if facts is not None]
        files: set[str] = set()
        for facts in known:
            files.add(_add(material, facts.der, "cer"))
            if facts.extensions.is_ca:
                continue
            chain = build_chain(facts, known, self._trust, min(now, facts.not_after))
            if not isinstance(chain, Chain):
                material.missing.add(facts.sha256)  # no path: nobody can be asked
                continue
            if EKU_TIME_STAMPING in (facts.extensions.extended_key_usage or ()):
                path = tuple(_add(material, one.der, "cer") for one in chain.certificates)
                material.authorities.add(path)
            for certificate, issuer in chain.links:
                files.add(_add(material, issuer.der, "cer"))
                name = await self._answer(certificate, issuer, now, material, answers)
                if name is not None:
                    files.add(name)
                elif patient:
                    raise MaterialSilentError(certificate.subject_text)
                else:
                    material.missing.add(certificate.sha256)
        return files

    async def _answer(
        self, certificate: CertificateFacts, issuer: CertificateFacts, now: datetime, material: Material,
        answers: dict[bytes, str | None],
    ) -> str | None:  # fmt: skip
        if certificate.sha256 not in answers:
            found = await self._revocation.status(certificate, issuer, now)
            usable = found is not None and found.status is not RevocationStatus.UNKNOWN
            answers[certificate.sha256] = (
                _add(material, found.der, found.source.value) if found is not None and usable else None
            )
        return answers[certificate.sha256]


class CertificateFinder:
    """Takes the certificates out of evidence; what repeats from one to the next is read once."""

    def __init__(self) -> None:
        self._listed: dict[bytes, frozenset[bytes]] = {}  # by the stretch of XML that holds them
        self._behind: dict[bytes, frozenset[bytes]] = {}  # by the field of a token that holds them
        self._last: tuple[bytes, frozenset[bytes]] = (b"", frozenset())  # a batch's evidence shares its token

    def certificates_of(self, xml: bytes, ers: bytes | None) -> frozenset[bytes]:
        """Return the certificates (DER) in an evidence's KeyInfo and in its time stamps.

        Which of them count is for verifiers to say; here they only tell whose status to ask for.
        """
        found = self._in_xml(xml)
        inner = xml.find(_STAMP_MARK)
        for text in _TOKEN.findall(xml, inner) if inner >= 0 else ():
            found |= self._in_token(_decoded(text))
        if ers is not None:
            with suppress(ErsError):
                found |= self._in_token(split_record(ers)[1])
        return found

    def _in_xml(self, xml: bytes) -> frozenset[bytes]:
        stretch = _from_first_to_last(xml)
        known = self._listed.get(stretch)
        if known is None:
            known = frozenset(map(_decoded, _CERTIFICATE.findall(stretch))) - {b""}
            _remember(self._listed, stretch, known)
        return known

    def _in_token(self, token: bytes) -> frozenset[bytes]:
        last, found = self._last
        if token != last:
            found = self._of_token(token)
            self._last = (token, found)
        return found

    def _of_token(self, token: bytes) -> frozenset[bytes]:
        """Return a token's certificates; a token is read whole where their field is a new one."""
        try:
            held = _certificates_field(token)
            known = self._behind.get(held)
            if known is None:
                known = frozenset(read_token(token).signed.certificates)
                _remember(self._behind, held, known)
        except DerError:
            return frozenset()
        return known


def _from_first_to_last(xml: bytes) -> bytes:
    """Return the stretch of XML outside of which `_CERTIFICATE` finds nothing."""
    first = xml.find(_CERTIFICATE_MARK)
    if first < 0:
        return b""
    end = xml.find(b"</", xml.rfind(_CERTIFICATE_MARK))
    return xml[first : end + 2] if end >= 0 else xml[first:]


def _certificates_field(token: bytes) -> bytes:
    """Return the member of a token's SignedData that holds its certificates; empty where there is none.

    Raises:
        DerError: no SignedData.
    """
    holder = children(parse(token, max_size=MAX_TOKEN, tag=SEQUENCE), limit=2)[-1:]
    members = children(inside(holder[0], SEQUENCE), limit=6) if holder else []
    return members[3].whole if len(members) > 3 and members[3].tag == _CERTIFICATES else b""


def _decoded(text: bytes) -> bytes:
    """Return what base64 stands for; nothing where it is none."""
    try:
        return b64decode(text)
    except (Base64Error, ValueError):
        return b""


def _remember(known: dict[bytes, frozenset[bytes]], key: bytes, found: frozenset[bytes]) -> None:
    if len(known) >= _KNOWN_MOST:
        known.clear()
    known[key] = found


class SlimMaterial:
    """Takes the kept material of senders' signatures apart, so that what many share stands once.

    Senders' messages of one hour rest on the same certificates and answers: their octets are known again and
    not taken apart anew.
    """

    def __init__(self) -> None:
        self._parts: dict[bytes, tuple[dict[str, bytes], bytes] | None] = {}  # by the lists' octets
        self._held = 0

    def slim(self, stored: bytes) -> tuple[dict[str, bytes], str]:
        """Return files by name, and the name of the one that names the others.

        Args:
            stored: as `kephs.usecases.submission.material.encode_material` made it.
        """
        parts = _parted(stored)
        known = None if parts is None else self._lists(parts[1])
        if parts is None or known is None:
            return _taken_apart(stored)
        files, lists = known
        slim = _joined(parts[0], lists, parts[2])
        name = material_name(slim, "json")
        return files | {name: slim}, name

    def _lists(self, lists: bytes) -> tuple[dict[str, bytes], bytes] | None:
        """Return the files that lists become, and the lists that name them; None for odd ones."""
        if lists not in self._parts:
            if self._held > _HELD_MOST:
                self._parts.clear()
                self._held = 0
            self._held += 2 * len(lists)
            files, name = _taken_apart(lists)
            slim = files.pop(name)
            self._parts[lists] = (files, slim) if files else None
        return self._parts[lists]


def _parted(text: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Cut material before and behind its lists, which become an object of their own; None for odd ones.

    `_joined` makes the same octets of the parts again, whatever stands before the lists: nobody reads it.
    """
    at, end = text.rfind(_BEFORE_LISTS) + 1, text.rfind(b"]") + 1
    after = text[end:]
    usual = after == b"}" or (
        after.startswith(_BEFORE_RECORD) and after.endswith(b'"}') and after.count(b'"') == _QUOTES
    )
    return (text[:at], b"{" + text[at:end] + b"}", after) if 0 < at < end and usual else None


def _joined(before: bytes, lists: bytes, after: bytes) -> bytes:
    return b"".join((before, lists[1:-1], after))


def _taken_apart(stored: bytes) -> tuple[dict[str, bytes], str]:
    """Return what `SlimMaterial.slim` does, where its reader makes the very octets again; parsed."""
    try:
        plain = json.loads(stored)
        files: dict[str, bytes] = {}
        for member, ending in _LISTS:
            ders = [b64decode(text) for text in plain[member]]
            files |= {material_name(der, ending): der for der in ders}
            plain[member] = [material_name(der, ending) for der in ders]
        slim = _json(plain)
        if whole_material(slim, files) == stored:
            name = material_name(slim, "json")
            return files | {name: slim}, name
    except (ValueError, KeyError, TypeError):
        pass  # not as it is made today: it is kept as it is
    name = material_name(stored, "json")
    return {name: stored}, name


def whole_material(slim: bytes, files: Mapping[str, bytes]) -> bytes:
    """Return what `SlimMaterial` took apart.

    Raises:
        ValueError, KeyError, TypeError: a part is missing, or it never was taken apart.
    """
    parts = _parted(slim)
    if parts is None:
        return _filled(slim, files)
    return _joined(parts[0], _filled(parts[1], files), parts[2])


def _filled(slim: bytes, files: Mapping[str, bytes]) -> bytes:
    """Return JSON with the files in place of their names."""
    plain = json.loads(slim)
    for member, _ in _LISTS:
        if not all(str(name).startswith("dogrulama/") for name in plain[member]):
            return slim  # kept as it was
        plain[member] = [b64encode(files[name]).decode() for name in plain[member]]
    return _json(plain)


def _json(plain: object) -> bytes:
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()


def _add(material: Material, content: bytes, ending: str) -> str:
    name = material_name(content, ending)
    material.files[name] = content
    return name


def _facts(der: bytes) -> CertificateFacts | None:
    try:
        return certificate_facts(der)
    except CertificateError:
        return None
