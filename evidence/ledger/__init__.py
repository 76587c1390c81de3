"""The hash chain, the public tree, checkpoints, proofs, and the audit by outsiders."""
