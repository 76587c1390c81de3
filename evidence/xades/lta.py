"""XAdES-B-LTA of our own evidence: everything a verifier needs inside one document, under an archive stamp.

An export for those whose tools know nothing of evidence records: nothing that was signed changes, unsigned
properties are added, by string template, canonical by construction as in `evidence.xades.signing`::

    UnsignedSignatureProperties
        xades:SignatureTimeStamp         over SignatureValue: the stored one, or made for the export
        xades141:TimeStampValidationData of that stamp's authority, what stands nowhere else; or absent
        xades:CertificateValues          the signer's path, without what KeyInfo holds: its root
        xades:RevocationValues           of the signer's path: CRLs, then OCSP responses
        xades141:ArchiveTimeStamp        over all of this

What belongs to a time-stamping authority alone must not stand in CertificateValues and RevocationValues,
and stands directly after its stamp (spec: EN319132-1#5.4.2, EN319132-1#5.4.3, EN319132-1#5.5.1.2).

The imprint of the archive time stamp is the digest of these octets, in this order, every element in
exclusive canonical form (spec: EN319132-1#5.5.2.3 steps 2 to 6, where all properties have one parent; the
same order as in TS 101 903 V1.4.2, 8.2.1):

1. what each ds:Reference of SignedInfo covers, after its transforms, in their order: the document without
   its signature, then SignedProperties (step 3)
2. SignedInfo, SignatureValue, KeyInfo (step 4)
3. the unsigned signature properties before this one, in their order (step 5)
4. each ds:Object but the one with QualifyingProperties (step 6): ours has no other

Reading makes the document again from what was read: where that equals the document, no byte stands outside
the template. `evidence.xades.lta_check` judges what is read here.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from evidence.xades.check import XadesSignature, open_signature
from evidence.xades.signing import EXCLUSIVE_C14N, XADES_NAMESPACE
from evidence.xml.canonical import XadesError
from evidence.xml.reader import XML_SIZE_MAX
from evidence.xml.writer import DSIG_NAMESPACE

XADES141_NAMESPACE: Final = "http://uri.etsi.org/01903/v1.4.1#"
VALUES_MAX: Final = 64
"""Certificates, responses or lists in one container; a path has a handful."""

_DS: Final = f' xmlns:ds="{DSIG_NAMESPACE}"'.encode()
_XADES: Final = f' xmlns:xades="{XADES_NAMESPACE}"'.encode()
_XADES141: Final = f' xmlns:xades141="{XADES141_NAMESPACE}"'.encode()

_KEY_INFO: Final = b"<ds:KeyInfo"
_KEY_INFO_END: Final = b"</ds:KeyInfo>"
_PROPERTIES: Final = b"<xades:SignedProperties"
_PROPERTIES_END: Final = b"</xades:SignedProperties>"
_STAMP: Final = b"<xades:SignatureTimeStamp"
_STAMP_END: Final = b"</xades:SignatureTimeStamp>"
_UNSIGNED_END: Final = b"</xades:UnsignedSignatureProperties>"

_STAMP_DATA: Final = b"<xades141:TimeStampValidationData" + _XADES141 + b">"
_STAMP_DATA_END: Final = b"</xades141:TimeStampValidationData>"
_ARCHIVE: Final = (
    b"<xades141:ArchiveTimeStamp" + _XADES141 + b"><ds:CanonicalizationMethod" + _DS
    + f' Algorithm="{EXCLUSIVE_C14N}"></ds:CanonicalizationMethod><xades:EncapsulatedTimeStamp>'.encode()
)  # fmt: skip
_ARCHIVE_END: Final = b"</xades:EncapsulatedTimeStamp></xades141:ArchiveTimeStamp>"

_CERTIFICATE: Final = b"xades:EncapsulatedX509Certificate"
_CRL: Final = b"xades:EncapsulatedCRLValue"
_OCSP: Final = b"xades:EncapsulatedOCSPValue"


@dataclass(frozen=True, slots=True)
class Values:
    """Certificates and revocation data of one path, DER, each once."""

    certificates: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()
    ocsps: tuple[bytes, ...] = ()

    @property
    def files(self) -> tuple[tuple[str, bytes], ...]:
        """Return the revocation data as `evidence.stamps.sealed_links` takes them: with an ending."""
        named = [(f"{number}.crl", der) for number, der in enumerate(self.crls)]
        return (*named, *((f"{number}.ocsp", der) for number, der in enumerate(self.ocsps)))


@dataclass(frozen=True, slots=True)
class ArchiveDraft:
    """An evidence with its values, before the archive stamp.

    ``signature`` is the evidence with its signature time stamp (XAdES-B-T), ``values`` are the signer's,
    ``stamp_values`` what the stamp's authority needs beyond them, ``covered`` the octets to be stamped.
    """

    signature: XadesSignature
    values: Values
    stamp_values: Values
    added: bytes  # the properties as they stand in the document, between the two stamps
    covered: bytes

    @property
    def imprint(self) -> bytes:
        """Return what the archive time stamp covers (SHA-256)."""
        return sha256(self.covered).digest()


@dataclass(frozen=True, slots=True)
class Archived:
    """An export taken apart; it is, byte for byte, what our writer makes. Nothing else is checked yet."""

    document: bytes
    draft: ArchiveDraft
    token: bytes  # the archive time stamp

    @property
    def signature(self) -> XadesSignature:
        """Return the evidence inside, with its signature time stamp."""
        return self.draft.signature

    @property
    def stamped(self) -> bytes:
        """Return the evidence inside as XAdES-B-T: one kind of what may have been stored."""
        return self.signature.document

    @property
    def unstamped(self) -> bytes:
        """Return the evidence inside as XAdES-B-B: the other kind, which an evidence record is about."""
        made = replace(self.signature, tokens=(), made_again=None).rewritten()
        return b"" if made is None else made


def with_stamp(signature: XadesSignature, token: bytes) -> XadesSignature:
    """Return an evidence of ours with this signature time stamp in it and no other.

    Raises:
        XadesError: not of our writer.
    """
    made = replace(signature, tokens=(token,), made_again=None).rewritten() if signature.own else None
    if made is None:
        raise XadesError("only what our own writer made can be written again")
    return replace(signature, document=made, tokens=(token,), made_again=None)


def to_be_archived(signature: XadesSignature, values: Values, stamp_values: Values) -> ArchiveDraft:
    """Return the draft of an export.

    Args:
        signature: an evidence of ours that holds, with one signature time stamp.
        values: the signer's.
        stamp_values: of the stamp's authority, without what stands elsewhere in the document.
    """
    document = signature.document
    cut = document.rindex(_UNSIGNED_END)
    stamp = document[document.rindex(_STAMP, 0, cut) : cut]
    stamp_data = _stamp_data(stamp_values)
    containers = (*_certificates(values, b""), *_revocation(values, b""))
    hashed = (*_certificates(values, _XADES), *_revocation(values, _XADES))
    covered = (
        signature.body,
        _hashed(_between(document, _PROPERTIES, _PROPERTIES_END), _PROPERTIES, _XADES),
        signature.signed_info,
        signature.stamped,
        _hashed(_between(document, _KEY_INFO, _KEY_INFO_END), _KEY_INFO, _DS),
        _hashed(stamp, _STAMP, _XADES),
        stamp_data,
        *hashed,
    )
    added = b"".join((stamp_data, *containers))
    return ArchiveDraft(signature, values, stamp_values, added, b"".join(covered))


def assemble(draft: ArchiveDraft, token: bytes) -> bytes:
    """Return the export.

    Args:
        draft: of `to_be_archived`.
        token: RFC 3161 token (DER ContentInfo) over ``draft.imprint``.
    """
    document = draft.signature.document
    cut = document.rindex(_UNSIGNED_END)
    archive = (_ARCHIVE, b64encode(token), _ARCHIVE_END)
    return b"".join((document[:cut], draft.added, *archive, document[cut:]))


def open_archived(xml: bytes) -> Archived | None:
    """Take an export of ours apart; None where it is not exactly one.

    Args:
        xml: untrusted bytes.
    """
    if len(xml) > XML_SIZE_MAX or _ARCHIVE not in xml:
        return None
    try:
        return _open(xml)
    except (Base64Error, XadesError, ValueError):
        return None


def _open(xml: bytes) -> Archived | None:
    at = xml.rindex(_ARCHIVE)
    after = xml.index(_UNSIGNED_END, at)
    start = xml.rindex(_STAMP_END, 0, at) + len(_STAMP_END)
    stamp_part, signer_part = b"", xml[start:at]
    if signer_part.startswith(_STAMP_DATA):
        stamp_part, _, signer_part = signer_part.partition(_STAMP_DATA_END)
    signature = open_signature(xml[:start] + xml[after:])
    if not signature.own or len(signature.tokens) != 1:
        return None
    signature.signing_certificate()  # raises; what it does not name is not worth writing again
    if signature.rewritten() != signature.document:
        return None
    token = b64decode(xml[at + len(_ARCHIVE) : xml.index(_ARCHIVE_END, at)], validate=True)
    draft = to_be_archived(signature, _read(signer_part), _read(stamp_part))
    # Whatever stands in another order or place, twice, or is no canonical base64, ends here.
    return Archived(xml, draft, token) if assemble(draft, token) == xml else None


# --------------------------------------------------------------------------- containers


def _stamp_data(values: Values) -> bytes:
    """Return TimeStampValidationData: the same string in the document and where it is hashed."""
    inner = (*_certificates(values, _XADES), *_revocation(values, _XADES))
    return b"".join((_STAMP_DATA, *inner, _STAMP_DATA_END)) if inner else b""


def _certificates(values: Values, space: bytes) -> Iterator[bytes]:
    yield from _container(b"xades:CertificateValues", space, _encapsulated(_CERTIFICATE, values.certificates))


def _revocation(values: Values, space: bytes) -> Iterator[bytes]:
    lists = _container(b"xades:CRLValues", b"", _encapsulated(_CRL, values.crls))
    responses = _container(b"xades:OCSPValues", b"", _encapsulated(_OCSP, values.ocsps))
    yield from _container(b"xades:RevocationValues", space, (*lists, *responses))


def _container(name: bytes, space: bytes, inner: Iterable[bytes]) -> Iterator[bytes]:
    """Yield an element, or nothing where it would be empty."""
    content = b"".join(inner)
    if content:
        yield b"<%b%b>%b</%b>" % (name, space, content, name)


def _encapsulated(name: bytes, ders: Iterable[bytes]) -> Iterator[bytes]:
    return (b"<%b>%b</%b>" % (name, b64encode(der), name) for der in ders)


def _between(document: bytes, start: bytes, end: bytes) -> bytes:
    """Return the last element that begins and ends so: the signature is the last thing in the document."""
    at = document.rindex(start)
    return document[at : document.index(end, at) + len(end)]


def _hashed(element: bytes, start: bytes, space: bytes) -> bytes:
    """Return an element as it is hashed: with the declaration that its ancestors make in the document."""
    return start + space + element[len(start) :]


def _read(part: bytes) -> Values:
    return Values(*(_ders(part, name) for name in (_CERTIFICATE, _CRL, _OCSP)))


def _ders(part: bytes, name: bytes) -> tuple[bytes, ...]:
    found = re.findall(rb"<%b>([A-Za-z0-9+/=]+)</%b>" % (name, name), part)
    if len(found) > VALUES_MAX:
        raise XadesError("too many values")
    return tuple(b64decode(text, validate=True) for text in found)
