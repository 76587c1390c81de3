"""The archive of twenty years, and legal holds."""
