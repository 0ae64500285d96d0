"""The exporter's contract."""
