"""An instance made, brought up to date, and run, with the processes beside its server."""
