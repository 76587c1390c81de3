"""The store in memory, for tests: the same contract."""
