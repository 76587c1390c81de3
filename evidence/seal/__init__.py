"""The provider's own signing: evidence and KEP messages sealed, seals checked."""
