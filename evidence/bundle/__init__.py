"""The evidence bundle (`.kepdelil`): a deterministic ZIP a stranger can check."""
