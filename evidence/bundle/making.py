"""The stand-alone bundle of one message (``.kepdelil``): a plain ZIP that a court can check offline.

==============================  ===============================================================
member                          content
==============================  ===============================================================
``mimetype``                    ``application/vnd.etsi.asic-e+zip``, first and stored
``BENIOKU.txt``                 how to check everything with common tools (`evidence.bundle.readme`)
``ileti/original.eml``          what the holder signed and sent, byte for byte
``ileti/imha.json``             in its place where it is destroyed: `evidence.bundle.destroyed`
``ileti/dispatch.eml``          the KEP message as the recipient gets it (where there is one)
``delil/<stem>.xml``            every evidence, ``10-SubmissionAcceptance.xml``, ``40-Delivery-1.xml``
``delil/<stem>.ers``            its evidence record (RFC 4998), where its stamp is a batch's
``delil/<stem>.yol.txt``        the record's path in hex, for the recipe in BENIOKU (information)
``dogrulama/*.ocsp|*.crl``      revocation data taken at or after signing; ``gonderici-*`` the holder's
``dogrulama/gonderici-*.cer``   certificates that the holder's path needs, as far as its signature lacks them
``dogrulama/*.tsr``             the batches' tokens as RFC 3161 responses (from the ``.ers``, for openssl)
``imza.p7s``                    the holder's signature taken out of the original
``imza.ers``                    the provider's evidence record over it, made at reception
``imza.yol.txt``                the record's path in hex (information)
``imza-rapor.json``             the provider's verdict on it at reception, as it was kept
``kokler/*.pem``                the roots (information: a verifier brings its own trust)
``kokler/parmak-izleri.txt``    their SHA-256 fingerprints (information too)
``kayit/checkpoint``            a signed statement about the whole ledger (C2SP checkpoint)
``kayit/<stem>.proof``          that this evidence is in it (`evidence.ledger.proof`)
``kayit/manifest.json``         every other file with size and SHA-256, and the ledger entries
``kayit/manifest.p7s``          the provider's signature, with time stamp, over the manifest
==============================  ===============================================================

The manifest binds the parts: what is dropped, swapped or added shows (`evidence.verify.bundle`).

In the style of ASiC-E (EN 319 162-1) and no more: the media type makes programs open it as a container, but
there is no ``META-INF``. An ASiC manifest must point to a signature over that very manifest; ours signs
``kayit/manifest.json``, which also holds sizes and ledger entries, and a second signature would cost a second
paid stamp for saying the same. A reference from ``META-INF`` to ``kayit/manifest.p7s`` would be untrue.
"""

import json
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import new as new_hash
from hashlib import sha256
from types import MappingProxyType
from typing import BinaryIO, Final

from evidence.bundle.destroyed import NAME as DESTROYED
from evidence.bundle.destroyed import DestroyedContent
from evidence.bundle.readme import ReadmeFacts, readme
from evidence.bundle.zip_store import Measure, measure, write_archive
from evidence.ledger.chain import LedgerEntry
from evidence.model.records import SealedEvidence, file_stem
from evidence.ports import ByteSource, BytesSource
from evidence.stamps.ers import ArchiveTimestamp, ErsError, read_record
from evidence.stamps.messages import granted
from evidence.x509.certificates import CertificateError, certificate_facts
from evidence.x509.revocation import RevocationSource
from evidence.xml.reader import format_time

FORMAT: Final = "kephs-bundle-2"
OLD_FORMAT: Final = "kephs-bundle-1"  # before batch stamps: no mimetype, records, proofs; still read
MARK: Final = FORMAT.encode()  # the archive's comment: the container itself is deterministic
MIMETYPE: Final = "mimetype"
MEDIA_TYPE: Final = b"application/vnd.etsi.asic-e+zip"  # spec: EN319162-1#A.1
README: Final = "BENIOKU.txt"
ORIGINAL: Final = "ileti/original.eml"
DISPATCH: Final = "ileti/dispatch.eml"
SENDER_SIGNATURE: Final = "imza.p7s"
SENDER_RECORD: Final = "imza.ers"
SENDER_REPORT: Final = "imza-rapor.json"
MANIFEST: Final = "kayit/manifest.json"
MANIFEST_SIGNATURE: Final = "kayit/manifest.p7s"
CHECKPOINT: Final = "kayit/checkpoint"
EVIDENCE_FOLDER: Final = "delil/"
LEDGER_FOLDER: Final = "kayit/"
REVOCATION_FOLDER: Final = "dogrulama/"
ROOT_FOLDER: Final = "kokler/"
FINGERPRINTS: Final = "kokler/parmak-izleri.txt"
PATH_ENDING: Final = ".yol.txt"
SENDER_PATH: Final = f"imza{PATH_ENDING}"
SENDER_PREFIX: Final = "gonderici-"
CERTIFICATE_ENDING: Final = ".cer"
_HEAD_SEARCHED: Final = 1 << 20  # where in the KEP message the original begins
_PROBE: Final = 512


class BundleError(Exception):
    """These parts cannot make a bundle."""


@dataclass(frozen=True, slots=True)
class RevocationFile:
    """An OCSP response or CRL, DER; ``name`` ends in ``.ocsp`` or ``.crl``."""

    name: str
    content: bytes


def revocation_name(certificate_sha256: bytes, source: RevocationSource) -> str:
    """Return the file name of an answer about a certificate: its fingerprint's first 16 hex digits."""
    return f"{certificate_sha256.hex()[:16]}.{source.value}"


@dataclass(frozen=True, slots=True)
class BundleContents:
    """What goes into a bundle.

    ``proofs``: files of `evidence.ledger.proof`, by evidence id. ``sender_record``: evidence record over
    ``sender_signature``. ``sender_certificates``: DER, those that its path needs and it does not bring.
    ``sender_exact``: the original's octets are those signed; common tools find the signature intact.
    """

    original: ByteSource | None  # None where it is destroyed
    evidences: Sequence[SealedEvidence]
    dispatch: ByteSource | None = None
    revocation: Sequence[RevocationFile] = ()
    sender_signature: bytes | None = None
    sender_report: bytes | None = None
    sender_record: bytes | None = None
    sender_certificates: Sequence[bytes] = ()
    sender_exact: bool = True
    roots: Sequence[bytes] = ()  # DER
    ledger: Sequence[LedgerEntry] = ()
    checkpoint: bytes | None = None
    proofs: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}))
    destroyed: DestroyedContent | None = None


@dataclass(frozen=True, slots=True)
class BundlePlan:
    """A bundle waiting for the signature over its manifest; sign `digest` with `Sealer.sign_entity`."""

    members: tuple[tuple[str, ByteSource], ...]
    manifest: bytes
    crcs: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

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
        write_archive(out, [*self.members, *signed], comment=MARK, crcs=self.crcs)


def plan_bundle(contents: BundleContents, *, created_at: datetime) -> BundlePlan:
    """Lay out a bundle and its manifest; each content is read once here.

    Args:
        contents: the parts; evidence of one message.
        created_at: the time written into the manifest, UTC.

    Raises:
        BundleError: no evidence, evidence of several messages, an unreadable evidence record, or two parts
            of one name.
    """
    about = {item.record.message.kep_message_id for item in contents.evidences}
    if len(about) != 1:
        raise BundleError("a bundle holds the evidence of one message")
    named = {(item.record.evidence_id, item.record.refers_to) for item in contents.evidences}
    if len(named) != len(contents.evidences):
        raise BundleError("one evidence twice")
    message_id = about.pop()
    members = [
        *_message_members(contents),
        *_evidence_members(contents),
        *_proof_of_time_members(contents),
        *_root_members(contents.roots),
    ]
    guide = readme(_readme_facts(contents, message_id))
    members.append((README, BytesSource(guide.encode())))
    members.sort(key=lambda member: member[0])
    members.insert(0, (MIMETYPE, BytesSource(MEDIA_TYPE)))  # first: programs look there
    if len({name.casefold() for name, _ in members}) != len(members):
        raise BundleError("two parts of one name")
    measures = {name: measure(source) for name, source in members}
    manifest = _manifest(members, measures, contents.ledger, message_id, created_at)
    return BundlePlan(tuple(members), manifest, {name: one.crc for name, one in measures.items()})


# --------------------------------------------------------------------------- the parts


def _message_members(contents: BundleContents) -> Iterator[tuple[str, ByteSource]]:
    if contents.original is not None:
        yield ORIGINAL, contents.original
    elif contents.destroyed is not None:
        yield DESTROYED, BytesSource(contents.destroyed.encode())
    else:
        raise BundleError("neither an original nor what became of it")
    if contents.dispatch is not None:
        yield DISPATCH, contents.dispatch
    for name, content in (
        (SENDER_SIGNATURE, contents.sender_signature),
        (SENDER_RECORD, contents.sender_record),
        (SENDER_REPORT, contents.sender_report),
        (CHECKPOINT, contents.checkpoint),
    ):
        if content is not None:
            yield name, BytesSource(content)
    if contents.sender_record is not None:
        if contents.sender_signature is None:
            raise BundleError("a record without the signature that it is about")
        leaf = sha256(contents.sender_signature).digest()
        yield SENDER_PATH, BytesSource(path_file(leaf, contents.sender_record))


def evidence_stems(evidences: Sequence[SealedEvidence]) -> Iterator[tuple[str, SealedEvidence]]:
    """Yield each evidence with its file name without ending.

    A provider's repeated evidence about one event gets ``.2``, ``.3`` (R-19).
    """
    seen: Counter[str] = Counter()
    for item in sorted(evidences, key=lambda one: (one.record.event_time, one.record.evidence_id)):
        stem = file_stem(item.record.kind, item.record.refers_to)
        seen[stem] += 1
        yield (f"{stem}.{seen[stem]}" if seen[stem] > 1 else stem), item


def _evidence_members(contents: BundleContents) -> Iterator[tuple[str, ByteSource]]:
    for stem, item in evidence_stems(contents.evidences):
        yield f"{EVIDENCE_FOLDER}{stem}.xml", BytesSource(item.xml)
        if item.ers is not None:
            yield f"{EVIDENCE_FOLDER}{stem}.ers", BytesSource(item.ers)
            path = path_file(sha256(item.xml).digest(), item.ers)
            yield f"{EVIDENCE_FOLDER}{stem}{PATH_ENDING}", BytesSource(path)
        proof = contents.proofs.get(item.record.evidence_id)
        if proof is not None:
            yield f"{LEDGER_FOLDER}{stem}.proof", BytesSource(proof)


def _proof_of_time_members(contents: BundleContents) -> Iterator[tuple[str, ByteSource]]:
    records = [contents.sender_record, *(item.ers for item in contents.evidences)]
    tokens = {first_token(ers) for ers in records if ers is not None}
    for token in sorted(tokens):
        yield f"{REVOCATION_FOLDER}{token_name(token)}", BytesSource(granted(token))
    for file in contents.revocation:
        yield f"{REVOCATION_FOLDER}{file.name}", BytesSource(file.content)
    for der in contents.sender_certificates:
        yield f"{REVOCATION_FOLDER}{certificate_name(der)}", BytesSource(der)


def _first_stamp(ers: bytes) -> ArchiveTimestamp:
    try:
        return read_record(ers).chains[0][0]
    except ErsError as error:
        raise BundleError(f"an evidence record cannot be read: {error}") from error


def first_token(ers: bytes) -> bytes:
    """Return the token that proves the time of an evidence record: the one it began with.

    Raises:
        BundleError: no evidence record.
    """
    return _first_stamp(ers).token


def token_name(token: bytes) -> str:
    """Return the file name of a batch's token."""
    return f"{sha256(token).hexdigest()[:16]}.tsr"


def certificate_name(der: bytes) -> str:
    """Return the file name of a certificate that the holder's path needs."""
    return f"{SENDER_PREFIX}{sha256(der).hexdigest()[:16]}{CERTIFICATE_ENDING}"


def path_file(leaf: bytes, ers: bytes) -> bytes:
    """Return what an evidence record says, as text that a shell can follow.

    The first line names the token's file; each further line holds, in hex, what is hashed together with
    the running digest, beginning with the evidence's SHA-256; both in ascending order.

    Args:
        leaf: SHA-256 of the evidence, or of the holder's signature.
        ers: its evidence record.

    Raises:
        BundleError: no evidence record, or of another digest.
    """
    stamp = _first_stamp(ers)
    lines, node = [token_name(stamp.token)], leaf
    for number, entries in enumerate(stamp.reduced or ()):
        others = list(entries)
        if number == 0:
            if leaf not in others:
                raise BundleError("an evidence record is about something else")
            others.remove(leaf)
        lines.append(" ".join(one.hex() for one in sorted(others)))
        group = sorted((node, *others))
        node = group[0] if len(group) == 1 else new_hash(stamp.digest_name, b"".join(group)).digest()
    return ("\n".join(lines) + "\n").encode()


def _root_members(roots: Sequence[bytes]) -> Iterator[tuple[str, ByteSource]]:
    for der in roots:
        yield _root_name(der), BytesSource(to_pem(der))
    if roots:
        yield FINGERPRINTS, BytesSource(fingerprints(roots))


def _root_name(der: bytes) -> str:
    return f"{ROOT_FOLDER}{sha256(der).hexdigest()[:16]}.pem"


def fingerprints(roots: Sequence[bytes]) -> bytes:
    """Return the file of the roots' SHA-256 fingerprints: one line each, sorted; information, never trust."""
    return "".join(sorted(f"{sha256(der).hexdigest()}  {_subject(der)}\n" for der in roots)).encode()


def _subject(der: bytes) -> str:
    try:
        return certificate_facts(der).subject_text.replace("\n", " ")
    except CertificateError:
        return "?"


def to_pem(der: bytes) -> bytes:
    """Return one certificate as PEM."""
    text = b64encode(der).decode("ascii")
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""]).encode()


def from_pem(content: bytes) -> bytes | None:
    """Return the certificate in a file that `to_pem` made, None for any other."""
    body = b"".join(content.splitlines()[1:-1])
    try:
        der = b64decode(body, validate=True)
    except ValueError:
        return None
    return der if to_pem(der) == content else None


def _readme_facts(contents: BundleContents, message_id: str) -> ReadmeFacts:
    endings = {file.name.rpartition(".")[2] for file in contents.revocation}
    return ReadmeFacts(
        message_id=message_id,
        dispatch=contents.dispatch is not None,
        original_at=_original_at(contents),
        sender_signed=contents.sender_signature is not None,
        sender_record=contents.sender_record is not None,
        sender_exact=contents.sender_exact,
        batch=any(item.ers is not None for item in contents.evidences),
        ocsp="ocsp" in endings,
        crl="crl" in endings,
        ledger=contents.checkpoint is not None and bool(contents.proofs),
        destroyed=contents.original is None,
    )


def _original_at(contents: BundleContents) -> int | None:
    """Return where in the KEP message the original begins, None where it is not found there."""
    if contents.dispatch is None or contents.original is None or contents.original.size == 0:
        return None
    probe = contents.original.read(0, _PROBE)
    at = contents.dispatch.read(0, _HEAD_SEARCHED).find(probe)
    end = contents.original.size
    if at < 0 or contents.dispatch.read(at + end - len(probe), len(probe)) != contents.original.read(
        end - len(probe), len(probe)
    ):
        return None
    return at


def _manifest(
    members: Sequence[tuple[str, ByteSource]],
    measures: Mapping[str, Measure],
    ledger: Sequence[LedgerEntry],
    message_id: str,
    created_at: datetime,
) -> bytes:
    """Return the manifest: JSON with sorted keys and one fixed layout, so that it can be made again."""
    facts = {
        "format": FORMAT,
        "created_at": format_time(created_at),
        "message_id": message_id,
        "files": [
            {"name": name, "size": source.size, "sha256": measures[name].sha256.hex()}
            for name, source in members
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
            for entry in ledger
        ],
    }
    return json.dumps(facts, sort_keys=True, indent=1, ensure_ascii=True).encode() + b"\n"
