"""Messages: MIME scan and writing, headers, S/MIME, KEP messages of both profiles."""
