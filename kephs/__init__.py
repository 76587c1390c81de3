"""kephs: the mail server of a Turkish registered e-mail provider (KEPHS)."""
