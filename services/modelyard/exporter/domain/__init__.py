"""What an export and a latency profile are."""
