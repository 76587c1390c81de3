"""DER, strictly: a reader that keeps the original bytes, and builders for templates."""
