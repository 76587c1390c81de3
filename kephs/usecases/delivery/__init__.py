"""Delivery here: KEP message, mailbox, reading, receipts, and evidence kept at hand."""
