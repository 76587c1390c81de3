"""Tell certificates of a TEST PKI from real ones, so that production can refuse them.

The name alone proves nothing: every certificate of the TEST PKI, its roots first, carries a private
extension whose identifier stands under a UUID arc. Its encoding occurs nowhere else, so a search for
it also works on certificates that strict parsers refuse.
"""

from typing import Final

from evidence.asn1.der import oid
from kephs.testpki.oids import TEST_MARKER

MARKER_DER: Final[bytes] = oid(TEST_MARKER)


def is_test_certificate(der: bytes) -> bool:
    """Say whether a DER certificate was made by a TEST PKI of kephs."""
    return MARKER_DER in der


def is_test_root(der: bytes) -> bool:
    """Say whether a trust anchor is a TEST one; an instance made without ``--test-pki`` refuses it.

    A TEST certificate of any kind in a folder of roots is as wrong as a TEST root, so no more is asked.
    """
    return is_test_certificate(der)
