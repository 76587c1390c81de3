"""What strangers are given: bundle, dossier, timeline, exports, proofs from the public ledger."""
