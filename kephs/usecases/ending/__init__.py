"""The end of content, of accounts and of a provider: erasure, legal hold, hand-over."""
