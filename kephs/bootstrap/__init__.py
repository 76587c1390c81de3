"""Wiring: picks the implementation behind every port. Nothing else does.

`opening` turns settings into parts, `sealing` opens key and time stamps; both are given out here. `core`
joins all to one instance and is imported by its name: the signer's process, which holds the key, loads none
of it.
"""

from kephs.bootstrap.opening import (
    inbound_wire,
    open_issuer,
    open_limits,
    open_register,
    open_register_folder,
    open_scanner,
    open_times,
    open_tls,
    open_trust,
    read_certificates,
)
from kephs.bootstrap.sealing import (
    SealCertificates,
    check_sealing,
    check_signer,
    credits_file,
    open_key,
    open_seal_policy,
    open_sealing,
    open_signer,
    open_timestamper,
    open_tsa_endpoints,
    read_seal,
    read_signer,
    transaction_policies,
)

__all__ = [
    "SealCertificates",
    "check_sealing",
    "check_signer",
    "credits_file",
    "inbound_wire",
    "open_issuer",
    "open_key",
    "open_limits",
    "open_register",
    "open_register_folder",
    "open_scanner",
    "open_seal_policy",
    "open_sealing",
    "open_signer",
    "open_times",
    "open_timestamper",
    "open_tls",
    "open_trust",
    "open_tsa_endpoints",
    "read_certificates",
    "read_seal",
    "read_signer",
    "transaction_policies",
]
