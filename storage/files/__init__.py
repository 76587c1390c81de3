"""Content in files: journal, large files, spool, survey."""
