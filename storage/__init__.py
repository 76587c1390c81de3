"""Storage: tables, repositories, encrypted blobs, the single writer and the in-memory twins."""
