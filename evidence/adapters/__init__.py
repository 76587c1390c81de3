"""Adapters of the evidence library: keys, time-stamp and revocation services."""
