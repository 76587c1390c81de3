"""The sender's qualified signature: what must hold before a message is accepted."""
