"""The stand-alone bundle of one message (``.kepdelil``): a plain ZIP that a court can check offline.

=========================  ====================================================================
member                     content
=========================  ====================================================================
``BENIOKU.txt``            what this is and how to check it, Turkish and English
``ileti/original.eml``     what the holder signed and sent, byte for byte
``ileti/dispatch.eml``     the KEP message as the recipient gets it (where there is one)
``delil/<stem>.xml``       every evidence, ``10-SubmissionAcceptance.xml``, ``40-Delivery-1.xml``
``dogrulama/*.ocsp|*.crl`` revocation data taken at or after signing
``imza.p7s``               the holder's signature taken out of the original (information)
``kokler/*.pem``           the roots (information: a verifier brings its own trust)
``kayit/manifest.json``    every other file with size and SHA-256, and the ledger entries
``kayit/manifest.p7s``     the provider's signature, with time stamp, over the manifest
=========================  ====================================================================

The manifest binds the parts: what is dropped, swapped or added shows (`evidence.verify_bundle`).
"""

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import BinaryIO, Final

from evidence.ledger import LedgerEntry
from evidence.ports import ByteSource, BytesSource
from evidence.records import SealedEvidence, file_stem
from evidence.xml_reader import format_time
from evidence.zip_store import pieces, write_archive

FORMAT: Final = "kephs-bundle-1"
MARK: Final = FORMAT.encode()  # the archive's comment: the container itself is deterministic
README: Final = "BENIOKU.txt"
ORIGINAL: Final = "ileti/original.eml"
DISPATCH: Final = "ileti/dispatch.eml"
SENDER_SIGNATURE: Final = "imza.p7s"
MANIFEST: Final = "kayit/manifest.json"
MANIFEST_SIGNATURE: Final = "kayit/manifest.p7s"
EVIDENCE_FOLDER: Final = "delil/"
REVOCATION_FOLDER: Final = "dogrulama/"
ROOT_FOLDER: Final = "kokler/"


class BundleError(Exception):
    """These parts cannot make a bundle."""


@dataclass(frozen=True, slots=True)
class RevocationFile:
    """An OCSP response or CRL, DER; ``name`` ends in ``.ocsp`` or ``.crl``."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class BundleContents:
    """What goes into a bundle."""

    original: ByteSource
    evidences: Sequence[SealedEvidence]
    dispatch: ByteSource | None = None
    revocation: Sequence[RevocationFile] = ()
    sender_signature: bytes | None = None
    roots: Sequence[bytes] = ()  # DER
    ledger: Sequence[LedgerEntry] = ()


@dataclass(frozen=True, slots=True)
class BundlePlan:
    """A bundle waiting for the signature over its manifest; sign `digest` with `Sealer.sign_entity`."""

    members: tuple[tuple[str, ByteSource], ...]
    manifest: bytes

    @property
    def digest(self) -> bytes:
        """Return the SHA-256 of the manifest."""
        return sha256(self.manifest).digest()

    def write(self, manifest_p7s: bytes, out: BinaryIO) -> None:
        """Write the archive; large members are streamed."""
        signed = (
            (MANIFEST, BytesSource(self.manifest)),
            (MANIFEST_SIGNATURE, BytesSource(manifest_p7s)),
        )
        write_archive(out, [*self.members, *signed], comment=MARK)


def plan_bundle(contents: BundleContents, *, created_at: datetime) -> BundlePlan:
    """Lay out a bundle and its manifest.

    Args:
        contents: the parts; evidence of one message.
        created_at: the time written into the manifest, UTC.

    Raises:
        BundleError: no evidence, evidence of several messages, or two parts of one name.
    """
    about = {item.record.message.kep_message_id for item in contents.evidences}
    if len(about) != 1:
        raise BundleError("a bundle holds the evidence of one message")
    named = {(item.record.evidence_id, item.record.refers_to) for item in contents.evidences}
    if len(named) != len(contents.evidences):
        raise BundleError("one evidence twice")
    members: list[tuple[str, ByteSource]] = [
        (README, BytesSource(_readme(about).encode())),
        (ORIGINAL, contents.original),
    ]
    if contents.dispatch is not None:
        members.append((DISPATCH, contents.dispatch))
    members += _evidence_members(contents.evidences)
    members += [
        (f"{REVOCATION_FOLDER}{file.name}", BytesSource(file.content)) for file in contents.revocation
    ]
    if contents.sender_signature is not None:
        members.append((SENDER_SIGNATURE, BytesSource(contents.sender_signature)))
    members += [
        (f"{ROOT_FOLDER}{sha256(der).hexdigest()[:16]}.pem", BytesSource(to_pem(der)))
        for der in contents.roots
    ]
    members.sort(key=lambda member: member[0])
    if len({name.casefold() for name, _ in members}) != len(members):
        raise BundleError("two parts of one name")
    manifest = _manifest(members, contents, about.pop(), created_at)
    return BundlePlan(tuple(members), manifest)


def _evidence_members(evidences: Sequence[SealedEvidence]) -> Iterator[tuple[str, ByteSource]]:
    """Yield the evidence files; a provider's repeated evidence about one event gets ``.2``, ``.3`` (R-19)."""
    seen: Counter[str] = Counter()
    for item in sorted(evidences, key=lambda one: (one.record.event_time, one.record.evidence_id)):
        stem = file_stem(item.record.kind, item.record.refers_to)
        seen[stem] += 1
        again = f".{seen[stem]}" if seen[stem] > 1 else ""
        yield f"{EVIDENCE_FOLDER}{stem}{again}.xml", BytesSource(item.xml)


def digest_of(source: ByteSource) -> bytes:
    """Return the SHA-256 of a source, read in pieces."""
    hasher = sha256()
    for piece in pieces(source):
        hasher.update(piece)
    return hasher.digest()


def to_pem(der: bytes) -> bytes:
    """Return one certificate as PEM."""
    text = b64encode(der).decode("ascii")
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""]).encode()


def _manifest(
    members: Sequence[tuple[str, ByteSource]],
    contents: BundleContents,
    message_id: str,
    created_at: datetime,
) -> bytes:
    """Return the manifest: JSON with sorted keys and one fixed layout, so that it can be made again."""
    facts = {
        "format": FORMAT,
        "created_at": format_time(created_at),
        "message_id": message_id,
        "files": [
            {"name": name, "size": source.size, "sha256": digest_of(source).hex()} for name, source in members
        ],
        "ledger": [
            {
                "number": entry.number,
                "previous": entry.previous.hex(),
                "evidence_id": entry.evidence_id,
                "evidence_sha256": entry.evidence_sha256.hex(),
                "at": entry.at.isoformat(),
                "hash": entry.hash.hex(),
            }
            for entry in contents.ledger
        ],
    }
    return json.dumps(facts, sort_keys=True, indent=1, ensure_ascii=True).encode() + b"\n"


def _readme(message_ids: set[str]) -> str:
    (message_id,) = message_ids
    return f"""KEP DELİL PAKETİ / REGISTERED E-MAIL EVIDENCE BUNDLE
{message_id}

Bu paket tek bir KEP iletisinin orijinalini ve bütün delillerini taşır. Delilleri doğrulamak için
göndericiye, alıcıya veya KEPHS'ye bağlanmak gerekmez.
This archive holds the original of one registered e-mail and all its evidence. No connection to the
sender, the recipient or a provider is needed to check it.

Kök sertifikaları güvenilir bir yerden alın; kokler/ klasörü yalnız bilgi içindir.
Get the roots from a place you trust; kokler/ is information only.

Tümünü doğrulama / check everything:
  kephs verify PAKET.kepdelil --trust KOKLER

Yaygın araçlarla / with common tools (KOK.pem = root, ARA.pem = intermediates):
  openssl cms -verify -cades -purpose any -inform DER -in kayit/manifest.p7s \\
      -content kayit/manifest.json -CAfile KOK.pem -binary -out /dev/null
  sha256sum ileti/original.eml            (= kayit/manifest.json; = DigestValue of every delil/*.xml)
  xmlsec1 --verify --id-attr:Id SignedProperties --trusted-pem KOK.pem --untrusted-pem ARA.pem delil/*.xml
  openssl cms -verify -cades -purpose any -in ileti/dispatch.eml -CAfile KOK.pem -out /dev/null
  openssl cms -verify -cades -purpose any -in ileti/original.eml -CAfile KOK.pem -out /dev/null

delil/      TS 102 640-2 v2 XML, XAdES-B-T (SHA-256, RFC 3161)
dogrulama/  OCSP (RFC 6960), CRL (RFC 5280)
kayit/      dosya listesi ve kayıt zinciri / file list and ledger entries
"""
