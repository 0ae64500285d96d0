"""What the exporter does."""
