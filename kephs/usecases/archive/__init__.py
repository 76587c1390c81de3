"""Twenty years: sealing into objects, fixity, moving, rebuilding, renewing."""
