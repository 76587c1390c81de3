"""Certificates, their paths and revocation, the algorithms that count, and who may seal."""
