"""Proof of time: RFC 3161 tokens, RFC 4998 evidence records, and what they need to be believed."""
