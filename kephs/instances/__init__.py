"""What an instance stands on: its database, its keys, news from other processes."""
