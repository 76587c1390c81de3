"""The rules of KEP: pure, no I/O."""
