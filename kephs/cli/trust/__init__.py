"""Whom the server believes."""
