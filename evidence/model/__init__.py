"""What evidence says: records, events, reasons and which fields each kind has. Tables, no formats."""
