"""XML read without DTD or entities, written canonical, and exclusive canonicalisation."""
