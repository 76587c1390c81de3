"""The directory's side of files and networks."""
