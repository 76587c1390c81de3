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

from evidence.asn1.der import DerError
from evidence.bundle.archive_object import material_name
from evidence.stamps.ers import ErsError, split_record
from evidence.stamps.messages import read_token
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
_BEFORE_LISTS: Final = b',"certificates":['
_LISTS_AND_RECORD: Final = re.compile(
    rb'(,"certificates":\[[^\]]*\],"ocsp":\[[^\]]*\],"crls":\[[^\]]*\])((?:,"record":"[A-Za-z0-9+/=]*")?\})'
)
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
        self._decoded: dict[bytes, bytes] = {}
        self._tokens: dict[bytes, tuple[bytes, ...]] = {}

    def certificates_of(self, xml: bytes, ers: bytes | None) -> frozenset[bytes]:
        """Return the certificates (DER) in an evidence's KeyInfo and in its time stamps.

        Which of them count is for verifiers to say; here they only tell whose status to ask for.
        """
        found = {self._text(text) for text in _CERTIFICATE.findall(xml)}
        tokens = [self._text(text) for text in _TOKEN.findall(xml)]
        if ers is not None:
            with suppress(ErsError):
                tokens.append(split_record(ers)[1])
        for token in tokens:
            found.update(self._inside(token))
        return frozenset(found - {b""})

    def _text(self, text: bytes) -> bytes:
        known = self._decoded.get(text)
        if known is None:
            try:
                known = b64decode(text)
            except (Base64Error, ValueError):
                known = b""
            if len(self._decoded) > 4096:
                self._decoded.clear()
            self._decoded[text] = known
        return known

    def _inside(self, token: bytes) -> tuple[bytes, ...]:
        known = self._tokens.get(token)
        if known is None:
            try:
                known = tuple(read_token(token).signed.certificates)
            except DerError:
                known = ()
            if len(self._tokens) > 4096:
                self._tokens.clear()
            self._tokens[token] = known
        return known


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
        at = stored.rfind(_BEFORE_LISTS)
        found = _LISTS_AND_RECORD.fullmatch(stored, at) if at >= 0 else None
        known = self._lists(found[1]) if found is not None and _lasting(stored[:at]) else None
        if found is None or known is None:
            return _taken_apart(stored)
        files, lists = known
        slim = b"".join((stored[:at], lists, found[2]))
        name = material_name(slim, "json")
        return files | {name: slim}, name

    def _lists(self, lists: bytes) -> tuple[dict[str, bytes], bytes] | None:
        """Return the files that lists become, and the lists that name them; None for odd ones."""
        if lists not in self._parts:
            if self._held > _HELD_MOST:
                self._parts.clear()
                self._held = 0
            self._held += 2 * len(lists)
            files, name = _taken_apart(b"{" + lists[1:] + b"}")
            slim = files.pop(name)
            self._parts[lists] = (files, b"," + slim[1:-1]) if files else None
        return self._parts[lists]


def _lasting(report: bytes) -> bool:
    """Say whether the JSON before the lists is a report alone and is written again as it was read."""
    try:
        plain = json.loads(report + b"}")
    except ValueError:
        return False
    return plain.keys() == {"report"} and _json(plain) == report + b"}"


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
