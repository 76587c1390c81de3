"""The fixed names of EN 319 522-3 / 532-4 evidence that its writer and its reader share."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

ERDS_NAMESPACE: Final = "http://uri.etsi.org/19522/v1#"
EXTENSION_NAMESPACE: Final = "http://uri.etsi.org/19532/v1#"
SAML_NAMESPACE: Final = "urn:oasis:names:tc:SAML:2.0:assertion"
SAML_URI_NAMES: Final = "urn:oasis:names:tc:SAML:2.0:attrname-format:uri"
XSI_NAMESPACE: Final = "http://www.w3.org/2001/XMLSchema-instance"
LEGAL_PERSON_NAMESPACE: Final = "http://eidas.europa.eu/attributes/legalperson"
LEGAL_NAME: Final = "http://eidas.europa.eu/attributes/legalperson/LegalName"
ERDS_VERSION: Final = "EN319522v1.1.1"
EVENT_PREFIX: Final = "http://uri.etsi.org/19522/Event/"
BASELINE_POLICY: Final = "http://uri.etsi.org/19532/v1#/REMbaseline"
PART_FORMAT: Final = "urn:oid:1.3.6.1.7"
PART_TYPE: Final = "message/rfc822"


class X500Name(StrEnum):
    """Attributes of people and providers by the SAML X.500/LDAP attribute profile.

    The baseline asks for the provider's LegalName only. We add the rest of what KEP evidence says
    (KEP-EC-06, KEP-EC-09): who reads evidence needs the issuer's service address to check its role.
    """

    CN = "urn:oid:2.5.4.3"
    MAIL = "urn:oid:0.9.2342.19200300.100.1.3"
    STREET = "urn:oid:2.5.4.9"
    L = "urn:oid:2.5.4.7"
    POSTAL_CODE = "urn:oid:2.5.4.17"
    C = "urn:oid:2.5.4.6"

    @property
    def friendly(self) -> str:
        """Return the LDAP name."""
        return "postalCode" if self is X500Name.POSTAL_CODE else self.name.lower()


LOA_LOW: Final = "http://eidas.europa.eu/LoA/low"
LOA_SUBSTANTIAL: Final = "http://eidas.europa.eu/LoA/substantial"
LOA_HIGH: Final = "http://eidas.europa.eu/LoA/high"
_CLASSES: Final = "urn:oasis:names:tc:SAML:2.0:ac:classes:"
ASSURANCE: Final[Mapping[str, str]] = MappingProxyType(
    {
        f"{_CLASSES}SmartcardPKI": LOA_HIGH,
        f"{_CLASSES}MobileTwoFactorContract": LOA_SUBSTANTIAL,
        f"{_CLASSES}MobileTwoFactorUnregistered": LOA_SUBSTANTIAL,
        f"{_CLASSES}TimeSyncToken": LOA_SUBSTANTIAL,
        f"{_CLASSES}SoftwarePKI": LOA_SUBSTANTIAL,
    }
)
"""What a login method gives by itself; any other is low: a password says no more. Our reading."""
