"""The mail edge over SMTP: submission by holders; relay and inbound come with the second provider."""
