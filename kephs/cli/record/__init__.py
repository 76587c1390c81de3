"""What is on record: the evidence ledger in public, and the process record."""
