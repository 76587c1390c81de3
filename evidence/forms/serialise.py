"""One record, two serialisations: which writer, which reader (spec: rem-formats §0)."""

from evidence.forms import erds_xml, rem_xml
from evidence.forms.erds_terms import ERDS_NAMESPACE
from evidence.model.records import EvidenceRecord, Profile
from evidence.xml.reader import EvidenceFormatError, XmlElement, parse_xml
from evidence.xml.writer import ProfileError

__all__ = [
    "EvidenceFormatError",
    "ProfileError",
    "document_form",
    "hashed_form",
    "profile_of",
    "profile_of_root",
    "read",
    "read_root",
    "write",
]

_ERDS_ROOT = f"{{{ERDS_NAMESPACE}}}Evidence"


def write(record: EvidenceRecord, profile: Profile = Profile.KEP) -> bytes:
    """Write the canonical, unsigned body of an evidence, in the form that is hashed.

    `evidence.xades.signing.XadesSigner` takes it as it is. To look at a body without a signature (schema
    checks), use `document_form`.

    Raises:
        ProfileError: the record has no valid form in this serialisation.
    """
    return rem_xml.write(record) if profile is Profile.KEP else erds_xml.write(record)


def document_form(body: bytes) -> bytes:
    """Return a body of `write` as it stands in a document; see `evidence.forms.erds_xml.document_form`."""
    return erds_xml.document_form(body)


def hashed_form(body: bytes) -> bytes:
    """Return the form that is hashed of a body cut out of one of our documents; see `document_form`."""
    return erds_xml.hashed_form(body)


def profile_of(body: bytes) -> Profile:
    """Return which of our writers made a canonical body, by its first bytes."""
    return Profile.REM_BASELINE if body.startswith(erds_xml.ROOT_START) else Profile.KEP


def profile_of_root(root: XmlElement) -> Profile:
    """Return which serialisation a document is in, whoever wrote it."""
    return Profile.REM_BASELINE if root.tag == _ERDS_ROOT else Profile.KEP


def read(xml: bytes) -> EvidenceRecord:
    """Read an evidence of either serialisation, signed or not; signatures are not looked at.

    Raises:
        EvidenceFormatError: not XML within the caps, an unknown root or event, or a field without
            which an evidence says nothing (identifier, event time, sender, recipients, digest).
    """
    return read_root(parse_xml(xml))


def read_root(root: XmlElement) -> EvidenceRecord:
    """Read an evidence that is parsed already; see `read`."""
    baseline = profile_of_root(root) is Profile.REM_BASELINE
    return erds_xml.read_root(root) if baseline else rem_xml.read_root(root)
