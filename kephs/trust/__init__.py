"""The trust list in running processes."""
