"""Canonical bytes of parsed XML, as signatures hash them (spec: xml-exc-c14n, xml-c14n)."""

from lxml import etree

from evidence import base64_strict
from evidence.report import SubIndication
from evidence.xml.reader import XmlElement, text_of
from evidence.xml.writer import DSIG_NAMESPACE


class XadesError(Exception):
    """A signature that is not one of the shape above; carries what a report needs."""

    def __init__(self, detail: str, sub: SubIndication = SubIndication.FORMAT_FAILURE) -> None:
        super().__init__(detail)
        self.sub = sub


def canonical(element: XmlElement) -> bytes:
    """Return the exclusive canonical form of an element, without comments.

    Raises:
        XadesError: it has none.
    """
    try:
        return bytes(etree.tostring(element, method="c14n", exclusive=True, with_comments=False))
    except etree.LxmlError as error:  # relative namespace names have no canonical form
        raise XadesError("has no canonical form") from error


def inclusive_text(element: XmlElement) -> bytes:
    """Return the inclusive canonical form of an element that holds only text."""
    if len(element):
        raise XadesError("SignatureValue holds elements")
    prefix = next(p for p, uri in element.nsmap.items() if uri == DSIG_NAMESPACE and p == element.prefix)
    name = "SignatureValue" if prefix is None else f"{prefix}:SignatureValue"
    spaces = sorted(((p or "", uri) for p, uri in element.nsmap.items()), key=lambda item: item[0])
    declared = "".join(f' xmlns{":" + p if p else ""}="{_attribute(uri)}"' for p, uri in spaces)
    attributes = "".join(f' {k}="{_attribute(v)}"' for k, v in sorted(element.attrib.items()))
    text = (text_of(element) or "").replace("\r", "&#xD;")
    return f"<{name}{declared}{attributes}>{text}</{name}>".encode()


def _attribute(value: str) -> str:
    for old, new in (
        ("&", "&amp;"),
        ("<", "&lt;"),
        ('"', "&quot;"),
        ("\t", "&#x9;"),
        ("\n", "&#xA;"),
        ("\r", "&#xD;"),
    ):
        value = value.replace(old, new)
    return value


def canonical_without(root: XmlElement, signature: XmlElement) -> bytes:
    """Return the canonical document without its signature; text after the signature stays."""
    if signature.tail:
        previous = signature.getprevious()
        if previous is None:
            root.text = (root.text or "") + signature.tail
        else:
            previous.tail = (previous.tail or "") + signature.tail
    root.remove(signature)
    return canonical(root)


def base64_content(element: XmlElement) -> bytes:
    """Return what an element's base64 text holds; white space is skipped.

    Raises:
        XadesError: not base64.
    """
    if len(element):
        raise XadesError("base64 text expected")
    try:
        return base64_strict.decode("".join((text_of(element) or "").split()).encode("ascii"))
    except ValueError as error:
        raise XadesError("not base64") from error
