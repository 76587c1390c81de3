"""The IMAP edge: grammar and session without I/O, server with sockets."""
