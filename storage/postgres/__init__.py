"""PostgreSQL as the second dialect."""
