"""Accounts, who acts for them, their certificates, and signing in."""
