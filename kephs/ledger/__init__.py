"""The public ledger: its keys, its server, its lanes, and witnesses."""
