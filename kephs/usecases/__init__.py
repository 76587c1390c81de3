"""The verbs of kephs; they await ports and know no edge."""
