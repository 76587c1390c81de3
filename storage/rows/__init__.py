"""Tables and what is done with their rows."""
