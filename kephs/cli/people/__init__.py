"""Accounts, operators, and what may sign for them."""
