"""CMS SignedData: read strictly, verify, emit by template."""
