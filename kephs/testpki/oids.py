"""Object identifiers and texts that the TEST PKI writes (signing.md 2.2)."""

from typing import Final

from evidence.x509.certificates import TEST_TRANSACTION_POLICY as TEST_TRANSACTION_POLICY  # noqa: PLC0414 - ours too

# Private arcs under UUIDs (2.25): nobody else has them, no production certificate carries them. The UUIDs
# are small on purpose: GnuTLS reads no arc above 64 bits, and with it no certificate that has one.
TEST_MARKER: Final = "2.25.2867403162085531497"
TEST_NES_POLICY: Final = "2.25.1729304817263509182"
TEST_TSA_POLICY: Final = "2.25.982736455463728192"

QC_STATEMENTS: Final = "1.3.6.1.5.5.7.1.3"
ETSI_QC_COMPLIANCE: Final = "0.4.0.1862.1.1"
BTK_QUALIFIED: Final = "2.16.792.1.61.0.1.5070.1.1"
BTK_QUALIFIED_SEAL: Final = "2.16.792.1.61.0.1.5070.2.1"
MALI_MUHUR_POLICY: Final = "2.16.792.1.2.1.1.5.7.50.1"

BTK_TEXT: Final = "Bu sertifika, 5070 sayılı Elektronik İmza Kanununa göre nitelikli elektronik sertifikadır"
"""The sentence that BTK asks for, as statement info and as user notice."""
