"""The KEP directory: addresses, accounts, operators, providers. Knows nothing of kephs."""
