"""The two serialisations of a record (TS 102 640-2, EN 319 522-3) and its form on the wire to the signer."""
