"""What operators see: logs, metrics, and ports that count."""
