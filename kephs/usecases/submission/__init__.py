"""Submission: form, signature, decision, evidence 10 or 11, one transaction."""
