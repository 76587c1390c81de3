"""The TEST public key infrastructure: authorities, holders, OCSP, CRL, TSA. Never for production."""
