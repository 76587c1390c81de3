"""XAdES signatures of evidence: emission, archive form, verification."""
