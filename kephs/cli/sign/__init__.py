"""Signing as a holder does: with a key file or a card."""
