"""Whom we believe, and the record of who did what."""
